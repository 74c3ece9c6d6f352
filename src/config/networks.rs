//! Owns a list of networks, such as `trusted-proxies`: how it is written, what is wrong with one that is not, and whether a peer is of it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::diagnostic::{Diagnostic, Report, quoted};
use super::document::{self, Value, span};

/// Most networks of one list: it is searched from its beginning for each connection.
pub const NETWORKS_MAX: usize = 256;

/// What stands for peers that come through a Unix socket: they have no address.
const UNIX: &str = "unix";

/// Peers that are believed. Nobody is in an empty list.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Networks {
    networks: Vec<IpNet>,
    unix: bool,
}

impl Networks {
    /// Whether this peer is of one of the networks; `None` is the peer of a Unix socket.
    ///
    /// An IPv4 client of a dual-stack socket has an IPv4-mapped address (RFC 4291, section 2.5.5.2), and is the IPv4 client that it is.
    pub fn contain(&self, peer: Option<SocketAddr>) -> bool {
        let Some(peer) = peer else { return self.unix };
        let address = peer.ip().to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Reads an array of networks and addresses.
    pub(super) fn read(value: &Value<'_>, report: &mut Report) -> Networks {
        let mut networks = Networks::default();
        let Some(items) = document::array(value, report) else { return networks };
        if items.len() > NETWORKS_MAX {
            report.push(Diagnostic::error(span(value), format!("a list has at most {NETWORKS_MAX} networks")));
            return networks;
        }
        for item in items {
            let Some(text) = document::string(item, report) else { continue };
            match parse(text) {
                _ if text == UNIX => networks.unix = true,
                Ok(network) => networks.networks.push(network),
                Err(hint) => {
                    let found = Diagnostic::error(span(item), format!("{} is not a network", quoted(text)));
                    report.push(found.hint(hint));
                }
            }
        }
        networks
    }
}

/// An address, or a network whose address has no bits beyond its prefix: those would be a mistake in one or the other.
fn parse(text: &str) -> Result<IpNet, String> {
    const FORM: &str =
        "write an address or a network, such as \"10.0.0.0/8\" or \"::1\"; \"unix\" is who comes by a Unix socket";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = text.parse().map_err(|_| FORM.to_owned())?;
    if network.addr() != network.network() {
        return Err(format!("the network with that address is \"{}\"", network.trunc()));
    }
    if let IpNet::V6(v6) = network
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err("write the network of an IPv4-mapped address as an IPv4 network".to_owned());
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Networks {
        let networks = texts.iter().filter(|text| **text != UNIX).map(|text| parse(text).expect("a network")).collect();
        Networks { networks, unix: texts.contains(&UNIX) }
    }

    fn peer(address: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(address.parse().expect("an address"), 1))
    }

    #[test]
    fn a_peer_is_of_a_network_to_its_last_address_and_not_past_it() {
        let networks = of(&["10.1.0.0/16", "192.0.2.7", "2001:db8::/32"]);
        for inside in ["10.1.0.0", "10.1.255.255", "192.0.2.7", "::ffff:10.1.2.3", "2001:db8:ffff::1"] {
            assert!(networks.contain(peer(inside)), "{inside}");
        }
        for outside in ["10.0.255.255", "10.2.0.0", "192.0.2.8", "2001:db9::", "::ffff:10.2.0.0"] {
            assert!(!networks.contain(peer(outside)), "{outside}");
        }
        assert!(!networks.contain(None) && of(&["unix"]).contain(None));
        assert!(!Networks::default().contain(peer("10.1.0.0")) && Networks::default().is_empty());
    }

    #[test]
    fn every_address_of_a_family_can_be_meant() {
        assert!(of(&["0.0.0.0/0"]).contain(peer("::ffff:8.8.8.8")) && !of(&["0.0.0.0/0"]).contain(peer("::1")));
        assert!(of(&["::/0"]).contain(peer("::1")));
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_was_meant() {
        assert_eq!(parse("10.0.0.1/8").expect_err("bits"), "the network with that address is \"10.0.0.0/8\"");
        for wrong in ["", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/", "::ffff:10.0.0.0/104", "fe80::1%lo"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
