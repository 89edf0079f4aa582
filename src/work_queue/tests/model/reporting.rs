//! What drt and housekeeping do, each by what the memory expects to be due.

use super::*;

impl Machine {
    pub(super) fn expire(&mut self) {
        let expected = self.memory.expire(self.moment().certain.minus(EXPIRE), LEASE);
        assert_eq!(self.world.expire(EXPIRE), expected, "given up for their age");
    }

    /// The report of drt about message `about`.
    pub(super) fn written(&mut self, about: MessageId, news: News) -> Notice {
        let id = self.world.queue.message_id();
        let content = Content::from_bytes(b"a report".to_vec());
        let report = Arrival::new(id, Origin::Report, ReversePath(None), [mailbox(SENDER)], content);
        if self.memory.report(about, &news) {
            self.memory.put(id, true, true, &[(SENDER, None)]);
        }
        self.note((about, &news, id));
        let telling = Telling::Report(Box::new(report));
        Notice { about, news, telling }
    }

    pub(super) fn tell_delays(&mut self) {
        let cutoff = self.now().minus(LATE);
        let expected = self.memory.late(cutoff);
        let mut told = Vec::new();
        loop {
            let (late, reached, more) = self.world.queue.delayed(cutoff).unwrap();
            told.extend(late.iter().map(|due| due.id));
            let asked = late.into_iter().filter(|due| {
                let mut wants = due
                    .recipients
                    .iter()
                    .map(|r| r.notify.is_none_or(|notify| notify.delay));
                wants.any(|wants| wants)
            });
            let asked: Vec<_> = asked.map(|due| due.id).collect();
            let notices = asked.into_iter().map(|id| self.written(id, News::Late)).collect();
            self.world.queue.report(notices, Some(reached)).unwrap();
            if !more {
                break;
            }
        }
        assert_eq!(told, expected, "whose senders hear that they are late");
    }

    /// As drt reports, of failures or of good ends; now and then twice.
    pub(super) fn report(&mut self, of_failures: bool, dice: &mut Dice) {
        let due = match of_failures {
            true => self.world.queue.awaiting_report(1000).unwrap(),
            false => self.world.queue.awaiting_success_report(1000).unwrap(),
        };
        let numbers = |due: &Due| (due.id, due.recipients.iter().map(|r| r.n).collect::<Vec<_>>());
        let found: Vec<_> = due.iter().map(numbers).collect();
        assert_eq!(found, self.memory.to_report(of_failures), "what drt has to tell");
        let most = dice.below(4);
        for _ in 0..=usize::from(dice.one_in(4)) {
            let mut notices = Vec::new();
            for due in due.iter().take(most) {
                let (reached, failed): (Vec<_>, Vec<_>) =
                    due.recipients.iter().partition(|r| r.success.is_some());
                let (told, untold): (Vec<_>, Vec<_>) = failed
                    .into_iter()
                    .partition(|r| r.notify.is_none_or(|notify| notify.failure));
                let ends = |failed: Vec<&Concerned>, reached: Vec<&Concerned>| News::Ends {
                    failed: failed.iter().map(|r| r.n).collect(),
                    reached: reached.iter().map(|r| r.n).collect(),
                };
                if !untold.is_empty() {
                    let news = ends(untold, Vec::new());
                    self.memory.report(due.id, &news);
                    notices.push(Notice {
                        about: due.id,
                        news,
                        telling: Telling::Unwanted,
                    });
                }
                if !told.is_empty() || !reached.is_empty() {
                    notices.push(self.written(due.id, ends(told, reached)));
                }
            }
            self.world.queue.report(notices, None).unwrap();
        }
    }

    pub(super) fn forget(&mut self) {
        let left = self.audit.left_before(self.moment().certain.minus(DAY));
        for id in &left {
            let message = self.memory.messages.remove(id).expect("it was there");
            assert!(
                !message.is_in_the_queue(),
                "{id} is forgotten while it is in the queue"
            );
        }
        assert_eq!(self.world.queue.forget(DAY).unwrap().messages, left.len());
        // A next hop for which nothing waits may be forgotten, too, and what was known of it.
        let hops: HashSet<String> = self.audit.hops().into_iter().map(|(_, name)| name).collect();
        self.memory.hops.retain(|name, _| hops.contains(name));
    }

    pub(super) fn sweep(&mut self) {
        let needed = self.audit.files();
        // Nothing is on its way in, however late its name says that it was begun: the clock may have been set back since.
        let swept = self.world.queue.sweep(MessageId(i64::MAX)).unwrap();
        assert_eq!(swept.kept, needed.len());
        let folder = fs::read_dir(self.world.folder.path().join("content")).unwrap();
        let mut there: Vec<_> = folder
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort_unstable();
        assert_eq!(there, needed, "the content files");
    }
}
