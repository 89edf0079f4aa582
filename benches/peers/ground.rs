//! Where the measuring is done: the folder of the peers, the sink, the long path, and how long a cell takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::path::LongPath;
use crate::running::Running;
use crate::server::{Role, Server};
use crate::sink::Sink;

/// What all rows need.
#[derive(Debug)]
pub struct Ground {
    /// The folder with a chroot for each peer.
    pub home: PathBuf,
    /// Where everything is relayed to.
    pub sink: Sink,
    /// The long path, if there can be one.
    pub path: Option<LongPath>,
    /// How long a load takes.
    pub time: Duration,
    /// Whether it is the short run.
    pub quick: bool,
}

impl Ground {
    /// Starts a server afresh.
    ///
    /// # Errors
    /// Why it does not run.
    pub fn start(&self, server: &dyn Server, role: Role) -> Result<Running, String> {
        self.sink.take(0, Duration::ZERO);
        Running::start(
            server,
            role,
            &self.home.join(format!("_prints.{}", server.name())),
        )
    }
}

/// How much of one processor this process takes.
#[derive(Debug)]
pub struct ToolShare {
    began: Instant,
    before: Duration,
}

impl ToolShare {
    /// From now on.
    pub fn begin() -> ToolShare {
        ToolShare {
            began: Instant::now(),
            before: own_time(),
        }
    }

    /// Until now.
    pub fn end(&self) -> Option<f64> {
        Some((own_time() - self.before).as_secs_f64() / self.began.elapsed().as_secs_f64())
    }
}

fn own_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()) as u64))
        .sum()
}
