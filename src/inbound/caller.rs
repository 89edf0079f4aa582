//! A caller: a connection on its way from the controller to a handler, and its seat among the sessions of the
//! same client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

use super::front::Front;

/// A connection on its way to a handler.
#[derive(Debug)]
pub struct Caller {
    /// The connection.
    pub stream: TcpStream,
    /// The client.
    pub client: SocketAddr,
    /// What it called.
    pub front: Front,
    /// Its place among the sessions of the same client; given back when this is dropped.
    pub seat: Seat,
}

/// How many sessions each client has.
#[derive(Clone, Debug, Default)]
pub struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One session of a client. Dropped, it is counted no more.
#[derive(Debug)]
pub struct Seat {
    seats: Seats,
    client: IpAddr,
}

impl Seats {
    /// A seat for another session of `client`, if it has fewer than `most`. With IPv6 a client is a network of 64 bits:
    /// every host has as many addresses as it likes.
    #[must_use]
    pub fn take(&self, client: IpAddr, most: usize) -> Option<Seat> {
        let client = match client {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        };
        let mut seats = self.0.lock();
        let taken = seats.entry(client).or_default();
        if *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Seat {
            seats: self.clone(),
            client,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.0.lock();
        if let Some(taken) = seats.get_mut(&self.client) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_only_so_many_seats_and_gets_them_back() {
        let seats = Seats::default();
        let client = IpAddr::from([192, 0, 2, 1]);
        let first = seats.take(client, 2).unwrap();
        let _second = seats.take(client, 2).unwrap();
        assert!(seats.take(client, 2).is_none());
        assert!(seats.take(IpAddr::from([192, 0, 2, 2]), 2).is_some());
        drop(first);
        assert!(seats.take(client, 2).is_some());
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let seats = Seats::default();
        let of = |text: &str| text.parse().unwrap();
        let first = seats.take(of("2001:db8::1"), 1);
        assert!(first.is_some());
        assert!(seats.take(of("2001:db8::ffff:2"), 1).is_none());
        assert!(seats.take(of("2001:db8:0:1::1"), 1).is_some());
        drop(first);
        assert!(seats.take(of("2001:db8::2"), 1).is_some());
    }
}
