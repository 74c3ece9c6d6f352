//! What the components of one `Hello` are granted together: a worker serves all of them.
//!
//! Owns the union of the grants. What one component may use of it is for the host side of WASI to say.

use std::path::{Path, PathBuf};

use rusmd_proto::{ComponentSpec, Network as Grant};

/// Where an HTTP request goes when a host is granted without a port.
const HTTP_PORTS: [u16; 2] = [80, 443];

/// Where names are looked up.
const DNS_PORT: u16 = 53;

/// A directory of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory {
    pub path: PathBuf,
    pub writable: bool,
}

/// Outgoing network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Network {
    Denied,
    /// TCP to these ports; UDP as well, which is for looking up names.
    Ports(Vec<u16>),
    Any,
}

impl Network {
    pub fn is_granted(&self) -> bool {
        match self {
            Network::Denied => false,
            Network::Ports(_) | Network::Any => true,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Needs {
    /// No one twice, none beneath another that allows as much, and parents before what is beneath them.
    pub directories: Vec<Directory>,
    pub network: Network,
}

/// The path by which a granted directory is known in this program and in the jail: without links, and from the root.
pub fn directory(host: &str) -> PathBuf {
    let path = Path::new(host);
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

impl Needs {
    pub fn of(components: &[ComponentSpec<'_>]) -> Needs {
        let granted = components.iter().flat_map(|component| &component.preopens);
        let directories =
            granted.map(|preopen| Directory { path: directory(preopen.host), writable: preopen.writable }).collect();
        let networks = components.iter().map(|component| network(&component.network));
        Needs { directories: reduce(directories), network: networks.fold(Network::Denied, join) }
    }

    /// Whether guests can wait for something that takes a thread: files, and names to be looked up.
    pub fn threads(&self) -> bool {
        !self.directories.is_empty() || self.network.is_granted()
    }

    pub fn writes(&self) -> bool {
        self.directories.iter().any(|directory| directory.writable)
    }
}

fn reduce(mut directories: Vec<Directory>) -> Vec<Directory> {
    // Of equal paths the writable one first.
    directories.sort_by(|a, b| a.path.cmp(&b.path).then(b.writable.cmp(&a.writable)));
    let mut kept: Vec<Directory> = Vec::new();
    for directory in directories {
        let covers =
            |above: &Directory| directory.path.starts_with(&above.path) && above.writable >= directory.writable;
        if !kept.iter().any(covers) {
            kept.push(directory);
        }
    }
    kept
}

fn network(grant: &Grant<'_>) -> Network {
    match grant {
        Grant::Denied => Network::Denied,
        Grant::Any => Network::Any,
        Grant::Hosts(hosts) => {
            let mut ports = vec![DNS_PORT];
            for host in hosts {
                match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map(|(_, port)| port.parse()) {
                    Some(Ok(port)) => ports.push(port),
                    // One that is no number is never reached.
                    Some(Err(_)) => {}
                    None => ports.extend(HTTP_PORTS),
                }
            }
            ports.sort_unstable();
            ports.dedup();
            Network::Ports(ports)
        }
    }
}

fn join(a: Network, b: Network) -> Network {
    match (a, b) {
        (Network::Any, _) | (_, Network::Any) => Network::Any,
        (Network::Denied, other) | (other, Network::Denied) => other,
        (Network::Ports(mut ports), Network::Ports(more)) => {
            ports.extend(more);
            ports.sort_unstable();
            ports.dedup();
            Network::Ports(ports)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusmd_proto::Preopen;

    fn component<'a>(preopens: Vec<(&'a str, bool)>, network: Grant<'a>) -> ComponentSpec<'a> {
        let preopens =
            preopens.into_iter().map(|(host, writable)| Preopen { host, guest: "/data", writable }).collect();
        ComponentSpec { name: "test", artifact: "", memory_bytes_max: 0, env: Vec::new(), preopens, network }
    }

    #[test]
    fn directories_beneath_others_are_kept_only_where_they_allow_more() {
        let preopens = vec![
            ("/x/a/b", false),
            ("/x/a", false),
            ("/x/a/c", true),
            ("/x/a/c/d", false),
            ("/x/ab", false),
            ("/x/a", false),
        ];
        let needs = Needs::of(&[component(preopens, Grant::Denied)]);
        let paths: Vec<_> = needs.directories.iter().map(|kept| (kept.path.to_str(), kept.writable)).collect();
        assert_eq!(paths, [(Some("/x/a"), false), (Some("/x/a/c"), true), (Some("/x/ab"), false)]);
        assert!(needs.threads() && needs.writes());
    }

    #[test]
    fn a_path_is_known_without_links_and_from_the_root() {
        assert_eq!(directory("/usr/../usr/./nowhere-at-all/.."), Path::new("/usr/../usr/nowhere-at-all/.."));
        assert!(directory(".").is_absolute());
        assert_eq!(directory("/proc/self/.."), Path::new("/proc"));
    }

    #[test]
    fn ports_are_those_of_the_granted_hosts_and_of_names() {
        let hosts = |hosts: &[&'static str]| component(Vec::new(), Grant::Hosts(hosts.to_vec()));
        let network = |components: &[ComponentSpec<'_>]| Needs::of(components).network;
        assert_eq!(network(&[hosts(&["a:8080", "[::1]:90"])]), Network::Ports(vec![53, 90, 8080]));
        assert_eq!(network(&[hosts(&["a"]), hosts(&["[::1]"])]), Network::Ports(vec![53, 80, 443]));
        assert_eq!(network(&[hosts(&["a"]), component(Vec::new(), Grant::Any)]), Network::Any);
        assert_eq!(network(&[component(Vec::new(), Grant::Denied)]), Network::Denied);
        assert!(!Needs::of(&[component(Vec::new(), Grant::Denied)]).threads());
    }
}
