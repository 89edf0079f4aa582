//! A caller: a connection on its way from the controller to a handler, and its seat among the sessions of the
//! same client.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
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
    /// A seat for another session of `client`, if it has fewer than `most`.
    #[must_use]
    pub fn take(&self, client: IpAddr, most: usize) -> Option<Seat> {
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
}
