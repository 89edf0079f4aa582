//! Housekeeping: once a day, and when the operator asks for it. Forgets mail that left long ago, and sweeps
//! up files that belong to nobody.

use std::time::Duration;

use chrono::{Days, Local, NaiveTime};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::config::Config;
use crate::work_queue::WorkQueue;
use crate::work_queue::id::MessageId;

/// Sees to the housekeeping in a thread of its own, one at a time.
pub(super) struct Housekeeper {
    queue: WorkQueue,
    /// Content files older than this have no session that still writes them.
    started: MessageId,
    at: Option<u32>,
    /// Says that it is through.
    pub(super) done: Receiver<()>,
    tell: Sender<()>,
    busy: std::sync::Arc<parking_lot::Mutex<()>>,
}

impl Housekeeper {
    /// A housekeeper, who begins by sweeping up what the last run left behind.
    pub(super) fn new(queue: WorkQueue, config: &Config) -> Housekeeper {
        let (tell, done) = bounded(1);
        let started = queue.message_id();
        let keeper = Housekeeper {
            queue,
            started,
            at: config.housekeeping,
            done,
            tell,
            busy: Default::default(),
        };
        keeper.begin(config);
        keeper
    }

    /// How long until the next housekeeping; a long time if there is none.
    pub(super) fn until_next(&self) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        let Some(minutes) = self.at else { return DAY };
        let now = Local::now().naive_local();
        let at = NaiveTime::from_num_seconds_from_midnight_opt(minutes * 60, 0).unwrap_or_default();
        let today = now.date().and_time(at);
        let next = if today > now {
            today
        } else {
            today.checked_add_days(Days::new(1)).unwrap_or(today)
        };
        (next - now).to_std().unwrap_or(DAY)
    }

    /// Begins, unless it is at it already.
    pub(super) fn begin(&self, config: &Config) {
        let (queue, keep, started) = (self.queue.clone(), config.keep_history, self.started);
        let (tell, busy) = (self.tell.clone(), std::sync::Arc::clone(&self.busy));
        let work = move || {
            let Some(_busy) = busy.try_lock() else { return };
            match queue.forget(keep) {
                Ok(0) => {}
                Ok(forgotten) => log::info!("housekeeping: {forgotten} messages forgotten"),
                Err(error) => log::error!("housekeeping: {error}"),
            }
            match queue.sweep(started) {
                Ok(swept) if swept.removed > 0 => {
                    log::info!(
                        "housekeeping: {} content files that belonged to nobody removed",
                        swept.removed
                    );
                }
                Ok(_) => {}
                Err(error) => log::error!("housekeeping: {error}"),
            }
            let _ = tell.try_send(());
        };
        if let Err(error) = std::thread::Builder::new()
            .name("housekeeping".to_owned())
            .spawn(work)
        {
            log::error!("housekeeping could not begin: {error}");
        }
    }
}
