//! Ourselves among the hosts that DNS names (RFC 5321 5.1): by our name, and by our addresses where we listen.
//!
//! A local domain is no host, and does not count: its address may well be that of a web server elsewhere. Nor
//! does an address of this machine on a port where somebody else listens. Never asks DNS.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;

use super::choice::is_same_host;

/// What we are known by.
#[derive(Debug)]
pub(super) struct Ourselves<'o> {
    hostname: &'o str,
    listeners: &'o [SocketAddr],
    /// The addresses of this machine, as far as anybody had to know them.
    interfaces: OnceCell<Vec<IpAddr>>,
}

impl<'o> Ourselves<'o> {
    /// Known by this name, and listening there. An unspecified address is every address of its family, and
    /// `[::]` every address of this machine.
    pub(super) fn new(hostname: &'o str, listeners: &'o [SocketAddr]) -> Ourselves<'o> {
        Ourselves {
            hostname,
            listeners,
            interfaces: OnceCell::new(),
        }
    }

    /// Whether a host of this name is ourselves.
    pub(super) fn is_named(&self, host: &str) -> bool {
        is_same_host(host, self.hostname)
    }

    /// Whether who connects there meets ourselves.
    pub(super) fn listens_at(&self, address: SocketAddr) -> bool {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        let mut here = self.listeners.iter().filter(|listener| listener.port() == port);
        here.any(|listener| match listener.ip().to_canonical() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.is_ipv4() && self.is_on_this_machine(ip),
            // Linux takes calls over IPv4 there, too.
            any if any.is_unspecified() => self.is_on_this_machine(ip),
            one => one == ip,
        })
    }

    fn is_on_this_machine(&self, ip: IpAddr) -> bool {
        let interfaces = || self.interfaces.get_or_init(interface_addresses);
        ip.is_loopback() || ip.is_unspecified() || interfaces().contains(&ip)
    }
}

/// The addresses of this machine, as they are now; none if the system does not tell.
fn interface_addresses() -> Vec<IpAddr> {
    let addresses = getifaddrs().into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(listeners: &[&str], addresses: &[&str]) -> Vec<bool> {
        let listeners: Vec<SocketAddr> = listeners.iter().map(|text| text.parse().unwrap()).collect();
        let interfaces = ["192.0.2.7", "2001:db8::7"].map(|text| text.parse().unwrap());
        let ourselves = Ourselves {
            interfaces: OnceCell::from(interfaces.to_vec()),
            ..Ourselves::new("us.test", &listeners)
        };
        let at = |text: &&str| ourselves.listens_at(text.parse().unwrap());
        addresses.iter().map(at).collect()
    }

    #[test]
    fn an_address_where_we_listen_is_ours_on_that_port_alone() {
        let asked = [
            "192.0.2.7:25",
            "192.0.2.7:26",
            "192.0.2.8:25",
            "[::ffff:192.0.2.7]:25",
        ];
        assert_eq!(listening(&["192.0.2.7:25"], &asked), [true, false, false, true]);
        assert_eq!(listening(&[], &asked), [false; 4]);
    }

    #[test]
    fn who_listens_on_every_address_is_met_at_each_of_them() {
        let asked = [
            "192.0.2.7:25",
            "127.0.0.3:25",
            "0.0.0.0:25",
            "[2001:db8::7]:25",
            "[::1]:25",
            "192.0.2.8:25",
            "192.0.2.7:26",
        ];
        assert_eq!(
            listening(&["0.0.0.0:25"], &asked),
            [true, true, true, false, false, false, false]
        );
        assert_eq!(
            listening(&["192.0.2.9:25", "[::]:25"], &asked),
            [true, true, true, true, true, false, false]
        );
    }

    #[test]
    fn the_addresses_of_this_machine_are_known() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(interface_addresses().contains(&loopback));
    }

    #[test]
    fn our_name_is_known_in_any_dress() {
        assert!(Ourselves::new("us.test", &[]).is_named("US.test."));
        assert!(!Ourselves::new("us.test", &[]).is_named("test"));
    }
}
