//! How many connections each address has, when that is limited.
//!
//! Owns the counts and nothing else: knows no connection, no socket and no clock. `clients` drives it. There are never more entries than
//! connections that are counted, and those are limited themselves.

use std::collections::HashMap;
use std::net::IpAddr;

/// What is counted as one address: an IPv4 address, or the /64 of an IPv6 address, for that is what one host is given (RFC 4291, section 2.5.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Neighbourhood {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Neighbourhood {
    pub fn of(address: IpAddr) -> Neighbourhood {
        // A client of a socket for both families has its IPv4 address in an IPv6 one.
        match address.to_canonical() {
            IpAddr::V4(address) => Neighbourhood::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Neighbourhood::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    counts: HashMap<Neighbourhood, usize>,
    /// 0 is no limit: nothing is counted then.
    most: usize,
}

impl Neighbours {
    pub fn new(most: usize) -> Neighbours {
        Neighbours { counts: HashMap::new(), most }
    }

    /// Another manifest serves. Connections that were not counted so far stay uncounted.
    pub fn renew(&mut self, most: usize) {
        self.most = most;
    }

    pub fn is_full(&self, neighbourhood: Neighbourhood) -> bool {
        self.most > 0 && self.counts.get(&neighbourhood).is_some_and(|count| *count >= self.most)
    }

    /// Counts a connection. What comes back is to be given to `uncount` when it ends; nothing where nothing is counted.
    pub fn count(&mut self, neighbourhood: Neighbourhood) -> Option<Neighbourhood> {
        if self.most == 0 {
            return None;
        }
        *self.counts.entry(neighbourhood).or_default() += 1;
        Some(neighbourhood)
    }

    pub fn uncount(&mut self, neighbourhood: Neighbourhood) {
        if let Some(count) = self.counts.get_mut(&neighbourhood) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(&neighbourhood);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Neighbourhood {
        Neighbourhood::of(address.parse().expect("an address"))
    }

    #[test]
    fn an_address_may_have_as_many_connections_as_the_limit_and_not_one_more() {
        let mut neighbours = Neighbours::new(2);
        let host = of("192.0.2.1");
        neighbours.count(host);
        assert!(!neighbours.is_full(host));
        neighbours.count(host);
        assert!(neighbours.is_full(host));
        assert!(!neighbours.is_full(of("192.0.2.2")));
        neighbours.uncount(host);
        assert!(!neighbours.is_full(host));
    }

    #[test]
    fn nothing_is_kept_of_an_address_without_connections() {
        let mut neighbours = Neighbours::new(1);
        let host = neighbours.count(of("192.0.2.1")).expect("it is counted");
        neighbours.uncount(host);
        assert!(neighbours.counts.is_empty());
    }

    #[test]
    fn nothing_is_counted_without_a_limit() {
        let mut neighbours = Neighbours::new(0);
        assert_eq!(neighbours.count(of("192.0.2.1")), None);
        assert!(neighbours.counts.is_empty() && !neighbours.is_full(of("192.0.2.1")));
    }

    #[test]
    fn hosts_of_one_ipv6_network_count_together_and_an_embedded_ipv4_address_as_itself() {
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
