//! Unpacking: what an export holds is brought into the work queue, message by message, and each of them once.
//!
//! What came of which export is remembered, so that whoever was killed in the middle begins anew, and brings in the rest.
//! Never believes what stands in the file: see `parcel.rs`.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::WorkQueue;
use super::content::{Content, ContentWriter, Home};
use super::conversion::refresh_conversion_due;
use super::error::QueueError;
use super::id::MessageId;
use super::ledger::{self, Ledger};
use super::moving::{ExportId, Moved};
use super::parcel::{Letter, Parcel, ParcelError};
use super::reports::expire_again;
use super::states::State;
use crate::crash_point::{CrashPoint, reach};

/// Messages that come in by one transaction …
const STEP: usize = 50;

/// … and octets of their content that are in memory meanwhile …
const STEP_OCTETS: u64 = 1 << 20;

/// … and recipients and rows of history, for which mail that arrives waits.
const STEP_ROWS: usize = 2000;

/// After so long whoever asked is answered, and asks for the rest.
const TURN: Duration = Duration::from_secs(10);

/// How many IDs behind its own a message may get, in microseconds of its age.
const NEAR: i64 = 1000;

/// Messages of an import that is finished, forgotten at once.
const FORGOTTEN: usize = 500;

/// Why not all was brought in. What was stays so, and is not brought in again.
#[derive(Debug)]
pub enum TakeError {
    /// The database refused, or content could not be written.
    Queue(QueueError),
    /// The file can not be read, or is not what was written.
    Parcel(ParcelError),
}

impl From<QueueError> for TakeError {
    fn from(error: QueueError) -> TakeError {
        TakeError::Queue(error)
    }
}

impl From<ParcelError> for TakeError {
    fn from(error: ParcelError) -> TakeError {
        TakeError::Parcel(error)
    }
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TakeError::Queue(error) => error.fmt(f),
            TakeError::Parcel(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TakeError {}

/// Where the spool's own copy of an export is while that is imported.
#[must_use]
pub fn staged(spool: &Path, import: ExportId) -> PathBuf {
    spool.join(format!("import-{import}"))
}

/// A message that is about to come in, under this ID.
struct Incomer {
    id: MessageId,
    letter: Letter,
    content: Content,
    /// The name of its content file, for the row.
    file: Option<String>,
}

impl WorkQueue {
    /// Brings in what the spool's copy of this export holds behind so many octets, as far as that is done soon. `by` says in
    /// history who wanted it.
    ///
    /// # Errors
    /// When the file is not what was written, or the database refused.
    pub fn take_in(&self, import: ExportId, from: u64, by: &str) -> Result<Moved, TakeError> {
        // Two at once would bring in the same.
        let _alone = self.store.importing().lock();
        let begun = Instant::now();
        let path = staged(self.spool(), import);
        let file = File::open(&path).map_err(|error| QueueError::file(&path, error))?;
        let mut parcel = Parcel::open(file)?;
        let mut moved = Moved::default();
        let host: Arc<str> = parcel.head().host.as_str().into();
        if parcel.head().export != import {
            return Err(ParcelError::Wrong {
                at: 0,
                of: None,
                what: "this is another export".to_owned(),
            }
            .into());
        }
        if self.begin_import(import, &host)? {
            moved.known = usize::try_from(parcel.check()?.0).unwrap_or(usize::MAX);
            moved.is_done = true;
            return Ok(moved);
        }
        parcel.skip_to(from)?;
        let mut batch = Batch::default();
        while let Some(letter) = parcel.next_letter()? {
            if self.is_known(import, letter.id)? {
                parcel.content(|_| Ok::<(), TakeError>(()))?;
                moved.known += 1;
                continue;
            }
            let id = self.free_id(letter.id, &batch)?;
            let mut writer = self.rewritten_content_writer(id);
            parcel.content(|piece| writer.write(piece).map_err(TakeError::from))?;
            batch.add(id, letter, writer)?;
            if batch.is_enough() {
                self.bring_in(import, &host, std::mem::take(&mut batch), by, &mut moved)?;
                moved.reached = parcel.at();
                if begun.elapsed() > TURN {
                    return Ok(moved);
                }
            }
        }
        self.bring_in(import, &host, batch, by, &mut moved)?;
        self.end_import(import)?;
        moved.is_done = true;
        Ok(moved)
    }

    /// Whether this import is finished; it has begun.
    fn begin_import(&self, import: ExportId, host: &Arc<str>) -> Result<bool, QueueError> {
        let (id, host) = (import.to_string(), Arc::clone(host));
        let ended = self.store.read(|db| {
            let sql = "SELECT ended_at IS NOT NULL FROM import WHERE id = ?";
            ledger::row(db, sql, [&id], |row| row.get(0))
        })?;
        match ended {
            Some(true) => return self.end_import(import).map(|()| true),
            Some(false) => return Ok(false),
            None => {}
        }
        let begin = move |ledger: &mut Ledger<'_>| {
            let sql = "INSERT INTO import (id, host, begun_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
            ledger.run(sql, (&id, &*host, ledger.now().0)).map(drop)
        };
        self.store.write(begin).wait()?;
        Ok(false)
    }

    /// All of an import is here: that is remembered, and no more which message is which.
    fn end_import(&self, import: ExportId) -> Result<(), QueueError> {
        loop {
            let id = import.to_string();
            let forgotten = self.store.write_step(move |ledger| {
                let sql = "UPDATE import SET ended_at = ? WHERE id = ? AND ended_at IS NULL";
                ledger.run(sql, (ledger.now().0, &id))?;
                let sql = "SELECT former FROM brought_in WHERE import = ? LIMIT ?";
                let some = ledger.rows(sql, (&id, FORGOTTEN), |row| row.get::<_, i64>(0))?;
                let forget = "DELETE FROM brought_in WHERE import = ? AND former = ?";
                for former in &some {
                    ledger.run(forget, (&id, former))?;
                }
                Ok(some.len())
            })?;
            reach(CrashPoint::ImportEnded);
            if forgotten < FORGOTTEN {
                return Ok(());
            }
        }
    }

    /// Whether this message of an import is here.
    fn is_known(&self, import: ExportId, former: MessageId) -> Result<bool, QueueError> {
        self.store.read(|db| is_known(db, &import.to_string(), former))
    }

    /// The ID of a message that was called so elsewhere: the same, or, where there is such a message here, one that says the
    /// same of its age. One that has yet to be given becomes a new one.
    fn free_id(&self, former: MessageId, batch: &Batch) -> Result<MessageId, QueueError> {
        let new = self.message_id();
        let taken = "SELECT 1 FROM message WHERE id = ?1 UNION ALL SELECT 1 FROM recipient WHERE message = ?1 \
             UNION ALL SELECT 1 FROM event WHERE message = ?1 UNION ALL SELECT 1 FROM content WHERE message = ?1 LIMIT 1";
        let mut id = former;
        let near = former.0.saturating_add(NEAR).min(new.0);
        while (1..near).contains(&id.0) {
            let is_taken = self.store.read(|db| ledger::row(db, taken, [id.0], |_| Ok(())))?;
            if is_taken.is_none() && !batch.ids.contains(&id) {
                return Ok(id);
            }
            id.0 += 1;
        }
        Ok(new)
    }

    /// Brings these messages in, all or none.
    fn bring_in(
        &self,
        import: ExportId,
        host: &Arc<str>,
        batch: Batch,
        by: &str,
        moved: &mut Moved,
    ) -> Result<(), QueueError> {
        if batch.incomers.is_empty() {
            return Ok(());
        }
        let mut incomers = batch.incomers;
        let adopted: Vec<_> = incomers
            .iter_mut()
            .map(|incomer| incomer.content.adopt())
            .collect();
        for (incomer, adopted) in incomers.iter_mut().zip(&adopted) {
            incomer.file.clone_from(&adopted.name);
        }
        let recipients: u64 = incomers.iter().map(|incomer| incomer.letter.moving()).sum();
        let messages = incomers.len();
        let (host, by) = (Arc::clone(host), by.to_owned());
        let committed = self.store.write_step(move |ledger| {
            for incomer in &incomers {
                put(ledger, &import.to_string(), &host, incomer, &by)?;
            }
            reach(CrashPoint::ImportWritten);
            Ok(())
        });
        reach(CrashPoint::ImportCommitted);
        for adopted in adopted {
            adopted.settle(&committed);
        }
        committed?;
        moved.messages += messages;
        moved.recipients += usize::try_from(recipients).unwrap_or(usize::MAX);
        Ok(())
    }
}

/// Messages that come in together.
#[derive(Default)]
struct Batch {
    incomers: Vec<Incomer>,
    ids: HashSet<MessageId>,
    octets: u64,
    rows: usize,
}

impl Batch {
    fn add(&mut self, id: MessageId, letter: Letter, content: ContentWriter) -> Result<(), QueueError> {
        let content = content.finish()?;
        if let Home::Database(bytes) = &content.home {
            self.octets += bytes.len() as u64;
        }
        self.rows += letter.recipients.len() + letter.events.len();
        self.ids.insert(id);
        self.incomers.push(Incomer {
            id,
            letter,
            content,
            file: None,
        });
        Ok(())
    }

    fn is_enough(&self) -> bool {
        self.incomers.len() >= STEP || self.octets >= STEP_OCTETS || self.rows >= STEP_ROWS
    }
}

fn is_known(db: &Connection, import: &str, former: MessageId) -> Result<bool, QueueError> {
    let sql = "SELECT 1 FROM brought_in WHERE import = ? AND former = ?";
    Ok(ledger::row(db, sql, (import, former.0), |_| Ok(()))?.is_some())
}

/// The rows of a message that comes in.
fn put(
    ledger: &mut Ledger<'_>,
    import: &str,
    host: &str,
    incomer: &Incomer,
    by: &str,
) -> Result<(), QueueError> {
    let Incomer {
        id,
        letter,
        content,
        file,
    } = incomer;
    let [origin, body, utf8, utf8_header, hops] = letter.numbers;
    let [
        client,
        helo,
        protocol,
        login,
        tls,
        envid,
        ret,
        subject,
        header_from,
        header_to,
        message_id,
        date,
        attachments,
    ] = &letter.texts;
    ledger.run(
        "INSERT INTO message (id, reverse_path, origin, client, helo, protocol, size, file, eight_bit, login, tls, \
           envid, ret, body, utf8, subject, header_from, header_to, message_id, date, attachments, hops, utf8_header) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            id.0,
            letter.from,
            origin,
            client,
            helo,
            protocol,
            content.size,
            file,
            content.eight_bit,
            login,
            tls,
            envid,
            ret,
            body,
            utf8,
            subject,
            header_from,
            header_to,
            message_id,
            date,
            attachments,
            Some(hops).filter(|hops| *hops >= 0),
            utf8_header,
        ],
    )?;
    if let Home::Database(bytes) = &content.home {
        let sql = "INSERT INTO content (message, bytes) VALUES (?, ?)";
        ledger.run(sql, (id.0, bytes))?;
    }
    let place = |n: u32| letter.recipients.binary_search_by_key(&n, |person| person.n).ok();
    for (n, person) in letter.recipients.iter().enumerate() {
        let parent = person.parent.and_then(place);
        ledger.run(
            "INSERT INTO recipient (message, n, path, state, in_box, attempts, last_host, last_status, last_error, \
               last_reply, settled_at, notify, orcpt, parent, attempted_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                id.0,
                n,
                person.path,
                person.state.number(),
                person.in_box,
                person.attempts,
                person.last[0],
                person.last[1],
                person.last[2],
                person.last[3],
                person.settled,
                person.notify,
                person.original,
                parent,
                person.attempted,
            ],
        )?;
        let came = match parent {
            None => "Mail.AcceptedRecipients",
            Some(_) => "Mail.RecipientsOfAliases",
        };
        ledger.count(came, 1);
        match person.state {
            State::Expanded => ledger.count("Mail.Expanded", 1),
            _ => ledger.count("Mail.Imported", 1),
        }
    }
    let now = ledger.now();
    for event in &letter.events {
        // Where the clock was ahead they stay in their order.
        let at = if event.at < now.0 {
            event.at
        } else {
            ledger.now().0
        };
        ledger.run(
            "INSERT INTO event (message, stamp, what, n, text) VALUES (?, ?, ?, ?, ?)",
            (
                id.0,
                at,
                &event.what,
                event.n.and_then(place),
                format!("at {host}: {}", event.text),
            ),
        )?;
    }
    let story = format!("export {import} of {host}, {} there, by {by}", letter.id);
    ledger.record(*id, None, "imported", &story)?;
    let sql = "INSERT INTO brought_in (import, former, message) VALUES (?, ?, ?)";
    ledger.run(sql, (import, letter.id.0, id.0))?;
    refresh_conversion_due(ledger, *id)?;
    // It may be older than what was looked through for that.
    expire_again(ledger, *id)
}
