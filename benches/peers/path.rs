//! A long path: a tun device whose packets come back after half a round trip, with sender and receiver exchanged.
//!
//! What goes to [`FAR_HOST`] arrives at [`HERE`] as if it came from there. So both ends are this host's own TCP, and all
//! is as on a long path: the connection costs a round trip, and a window has to open. Nothing is lost, and there is no
//! limit of bandwidth. Exchanging the two addresses leaves every checksum as it was.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use parking_lot::Mutex;

/// Our address on the device.
pub const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The host at the other end, with its port.
pub const FAR_HOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), 2525);

/// The packets on their way at most; what is more is lost, as anywhere.
const CAPACITY: usize = 16 * 1024;

/// The device number of /dev/net/tun.
const TUN: u64 = (10 << 8) | 200;

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// When the first connection since the last reset was begun, and how many there were.
    begun: Mutex<(Option<Instant>, u64)>,
}

/// The path, which works until it is dropped.
#[derive(Debug)]
pub struct LongPath {
    /// How long a packet takes to the other end and its answer back.
    pub round_trip: Duration,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl LongPath {
    /// A path of which the standard input is the device; none if it is not.
    ///
    /// # Errors
    /// The system's.
    pub fn on_standard_input(round_trip: Duration) -> io::Result<Option<LongPath>> {
        let is_tun = std::fs::metadata("/proc/self/fd/0").is_ok_and(|data| data.rdev() == TUN);
        if !is_tun {
            return Ok(None);
        }
        let device: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
        let shared = Arc::new(Shared::default());
        let line = Line {
            device: device.into(),
            half: round_trip / 2,
            queue: VecDeque::new(),
            shared: Arc::clone(&shared),
        };
        let thread = std::thread::Builder::new()
            .name("path".into())
            .spawn(move || line.run())?;
        Ok(Some(LongPath {
            round_trip,
            shared,
            thread: Some(thread),
        }))
    }

    /// When the first connection since the last call was begun, and how many there were.
    pub fn take_begun(&self) -> (Option<Instant>, u64) {
        std::mem::take(&mut *self.shared.begun.lock())
    }
}

impl Drop for LongPath {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Line {
    device: File,
    half: Duration,
    queue: VecDeque<(Instant, Vec<u8>)>,
    shared: Arc<Shared>,
}

impl Line {
    fn run(mut self) {
        let mut buffer = [0; 64 * 1024];
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            while self.queue.front().is_some_and(|(due, _)| *due <= now) {
                if let Some((_, packet)) = self.queue.pop_front() {
                    let _ = self.device.write(&packet);
                }
            }
            let pause = self.queue.front().map_or(Duration::from_millis(100), |(due, _)| {
                due.saturating_duration_since(now).min(Duration::from_millis(100))
            });
            let mut polled = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
            if ppoll(&mut polled, Some(TimeSpec::from_duration(pause)), None).unwrap_or(0) == 0 {
                continue;
            }
            while let Ok(length) = self.device.read(&mut buffer) {
                self.take(&buffer[..length]);
            }
        }
    }

    fn take(&mut self, packet: &[u8]) {
        // IPv4 only.
        if packet.len() < 40 || packet[0] >> 4 != 4 || self.queue.len() >= CAPACITY {
            return;
        }
        let now = Instant::now();
        let tcp = usize::from(packet[0] & 15) * 4;
        let begins = packet[9] == 6 && packet.get(tcp + 13).is_some_and(|flags| flags & 0x12 == 0x02);
        if begins {
            let mut begun = self.shared.begun.lock();
            *begun = (begun.0.or(Some(now)), begun.1 + 1);
        }
        let mut packet = packet.to_vec();
        for at in 12..16 {
            packet.swap(at, at + 4);
        }
        self.queue.push_back((now + self.half, packet));
    }
}
