//! Looks at the database after each verb: every move of a recipient is a legal one, the rows are those that the memory
//! holds, and what is kept so that nobody has to count agrees with a count.
//!
//! Reads with a connection of its own, as anybody may.

use rusqlite::Connection;

use super::*;

/// Writes down each move of each recipient, also those that a later statement of the same transaction undoes.
const WATCH: &str = "
    CREATE TABLE moved (step INTEGER PRIMARY KEY, message INTEGER, n INTEGER, was INTEGER, is_now INTEGER);
    CREATE TRIGGER watch_births AFTER INSERT ON recipient BEGIN
        INSERT INTO moved (message, n, was, is_now) VALUES (new.message, new.n, NULL, new.state);
    END;
    CREATE TRIGGER watch_moves AFTER UPDATE OF state ON recipient BEGIN
        INSERT INTO moved (message, n, was, is_now) VALUES (new.message, new.n, old.state, new.state);
    END;
    CREATE TRIGGER watch_ends AFTER DELETE ON recipient BEGIN
        INSERT INTO moved (message, n, was, is_now) VALUES (old.message, old.n, old.state, NULL);
    END;";

/// What must never be, and a query that finds it.
const NEVER: [(&str, &str); 8] = [
    (
        "a next hop that counts wrongly, or is due at the wrong time",
        "SELECT h.name || ': waiting ' || h.waiting || ', oldest ' || ifnull(h.oldest, '-') || ', due ' \
           || ifnull(h.due, '-') \
         FROM next_hop h LEFT JOIN (SELECT hop, count(*) AS waiting, min(message) AS oldest, \
           min(next_attempt) AS first FROM recipient WHERE state = 2 AND list IS NULL GROUP BY hop) w ON w.hop = h.id \
         WHERE h.waiting <> ifnull(w.waiting, 0) OR w.waiting > 0 AND ifnull(h.oldest > w.oldest, 1) \
           OR h.due IS NOT max(w.first, ifnull(h.retry_at, 0))",
    ),
    (
        "a recipient that waits for a next hop that is none",
        "SELECT r.message || ' ' || r.n FROM recipient r LEFT JOIN next_hop h ON h.id = r.hop \
         WHERE r.state IN (2, 3) AND h.id IS NULL",
    ),
    (
        "a recipient that is locked without a handler, or on the wrong list",
        "SELECT r.message || ' ' || r.n FROM recipient r LEFT JOIN domain_list l ON l.id = r.list \
         WHERE r.state = 3 AND r.list IS NULL OR r.list IS NOT NULL AND (l.id IS NULL OR l.hop <> r.hop \
           OR r.state NOT IN (2, 3) OR (r.state = 3) <> (l.handler IS NOT NULL))",
    ),
    (
        "a message that waits for conversion, and nobody will look when it is due",
        "SELECT m.id FROM message m WHERE m.inbound_due IS NOT \
           (SELECT min(next_attempt) FROM recipient WHERE message = m.id AND state = 1 AND in_box = 0) \
         OR m.box_due IS NOT \
           (SELECT min(next_attempt) FROM recipient WHERE message = m.id AND state = 1 AND in_box = 1)",
    ),
    (
        "a message that has left too early, or too late",
        "SELECT m.id FROM message m WHERE (m.left_at IS NULL) <> EXISTS \
           (SELECT 1 FROM recipient WHERE message = m.id AND (state < 10 OR report_due IS NOT NULL))",
    ),
    (
        "content without a message in the queue, or one that may be brought back; or the other way round",
        "SELECT m.id FROM message m LEFT JOIN content c ON c.message = m.id \
         WHERE (c.message IS NOT NULL) <> (m.file IS NULL AND (m.left_at IS NULL \
           OR EXISTS (SELECT 1 FROM recipient WHERE message = m.id AND state = 14))) \
         UNION ALL SELECT message FROM content WHERE message NOT IN (SELECT id FROM message)",
    ),
    (
        "what is put aside for an export, and is neither held nor dead; or that for an export of which nobody knows",
        "SELECT p.message || ' ' || p.n FROM put_aside p LEFT JOIN recipient r ON r.message = p.message AND r.n = p.n \
           LEFT JOIN export e ON e.id = p.export AND e.ended_at IS NULL \
         WHERE r.state IS NULL OR r.state NOT IN (5, 6) OR r.list IS NOT NULL OR e.id IS NULL",
    ),
    (
        "an end without its moment, or a report that is due without a good end",
        "SELECT message || ' ' || n FROM recipient WHERE state >= 10 AND settled_at IS NULL \
         OR report_due IS NOT NULL AND state NOT IN (10, 11, 12)",
    ),
];

/// What history tells of a recipient that stands so, just once, and of no other. Who was given up, and then removed or
/// exported, may have been brought back.
const HISTORY: &str = "
    WITH told (what, states) AS (VALUES ('delivered', '[10]'), ('transmitted', '[11]'), ('expanded', '[12]'),
        ('failed', '[13]'), ('given up', '[4, 13]'), ('dead', '[6]'))
    SELECT r.message || ' ' || r.n || ' in state ' || r.state || ' is told ' || count(e.stamp) || ' times to be ' || t.what
    FROM recipient r JOIN told t LEFT JOIN event e ON e.message = r.message AND e.n = r.n AND e.what = t.what
    WHERE t.what NOT IN ('given up', 'dead') OR NOT EXISTS
        (SELECT 1 FROM event x WHERE x.message = r.message AND x.n = r.n AND x.what IN ('removed', 'exported'))
    GROUP BY r.message, r.n, t.what
    HAVING count(e.stamp) <> r.state IN (SELECT value FROM json_each(t.states))";

/// The one who looks.
pub(super) struct Audit {
    pub(super) db: Connection,
    /// The last move that was seen.
    seen: i64,
}

impl Audit {
    /// Watches the database in `folder`, from its beginning on or after a crash.
    pub(super) fn open(folder: &std::path::Path, before: Option<&Audit>) -> Audit {
        let db = Connection::open(folder.join("queue.db")).unwrap();
        db.set_prepared_statement_cache_capacity(64);
        if before.is_none() {
            db.execute_batch(WATCH).unwrap();
        }
        let seen = before.map_or(0, |before| before.seen);
        Audit { db, seen }
    }

    fn rows<T>(&self, sql: &str, read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        let mut statement = self.db.prepare_cached(sql).unwrap();
        let rows = statement.query_map([], read).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// What a query finds, in words.
    fn texts(&self, sql: &str) -> Vec<String> {
        self.rows(sql, |row| row.get::<_, rusqlite::types::Value>(0))
            .into_iter()
            .map(|value| format!("{value:?}"))
            .collect()
    }

    /// After each verb.
    pub(super) fn look(&mut self, memory: &Memory) {
        self.look_at_moves();
        let found = self.members().into_iter();
        let found: Vec<_> = found
            .map(|(place, member)| (place, member.in_essence()))
            .collect();
        let expected = memory
            .all()
            .map(|(id, n, member)| ((id, n), member.clone().in_essence()));
        let expected: Vec<_> = expected.collect();
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "the database, and what it should hold");
        }
        assert_eq!(
            found.len(),
            expected.len(),
            "recipients that vanished, or came of nothing"
        );
        for (never, sql) in NEVER {
            let wrong = self.texts(sql);
            assert!(wrong.is_empty(), "{never}: {wrong:?}");
        }
        let lists = self.rows("SELECT id, handler FROM domain_list ORDER BY id", |row| {
            Ok((ListId(row.get(0)?), row.get::<_, Option<usize>>(1)?))
        });
        let expected: Vec<_> = memory
            .lists
            .iter()
            .map(|(id, list)| (*id, list.handler))
            .collect();
        assert_eq!(lists, expected, "the domain lists");
    }

    fn look_at_moves(&mut self) {
        let state = |number: Option<u8>| {
            number.map(|number| {
                *State::ALL
                    .iter()
                    .find(|state| state.number() == number)
                    .expect("a state")
            })
        };
        let sql = format!(
            "SELECT step, message, n, was, is_now FROM moved WHERE step > {}",
            self.seen
        );
        let moves = self.rows(&sql, |row| {
            let (was, is_now) = (state(row.get(3)?), state(row.get(4)?));
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, u32>(2)?,
                was,
                is_now,
            ))
        });
        for (step, message, n, was, is_now) in moves {
            self.seen = step;
            let is_legal = match (was, is_now) {
                // What only passes through has made its first moves as it came.
                (None, Some(first)) => matches!(first, State::PendingConversion | State::PendingXmit),
                (Some(was), Some(is_now)) => was.may_become(is_now),
                (Some(last), None) => last.is_end(),
                (None, None) => false,
            };
            assert!(
                is_legal,
                "recipient {n} of {message} went from {was:?} to {is_now:?}"
            );
        }
    }

    /// All recipients that there are.
    pub(super) fn members(&self) -> Vec<((MessageId, u32), Member)> {
        let sql = "SELECT r.message, r.n, r.path, r.state, r.in_box, h.name, r.list, r.next_attempt, r.attempts, \
                     r.notify, r.parent, r.report_due, r.pin, p.export, p.state \
                   FROM recipient r LEFT JOIN next_hop h ON h.id = r.hop \
                     LEFT JOIN put_aside p ON p.message = r.message AND p.n = r.n ORDER BY r.message, r.n";
        let state = |number: u8| {
            let found = State::ALL.iter().find(|state| state.number() == number);
            *found.expect("a state")
        };
        self.rows(sql, |row| {
            let export: Option<String> = row.get(13)?;
            let was: Option<u8> = row.get(14)?;
            let member = Member {
                path: row.get(2)?,
                state: state(row.get(3)?),
                aside: export
                    .zip(was)
                    .map(|(export, was)| (export.parse().expect("an export"), state(was))),
                in_box: row.get(4)?,
                hop: row.get(5)?,
                list: row.get::<_, Option<i64>>(6)?.map(ListId),
                next: Stamp(row.get(7)?),
                attempts: row.get(8)?,
                notify: row.get(9)?,
                parent: row.get(10)?,
                to_tell: row.get(11)?,
                pin: row
                    .get::<_, Option<String>>(12)?
                    .map(|name| NextHop::from_name(&name)),
            };
            Ok(((MessageId(row.get(0)?), row.get(1)?), member))
        })
    }

    /// The names and numbers of the next hops that there are.
    pub(super) fn hops(&self) -> Vec<(HopId, String)> {
        self.rows("SELECT id, name FROM next_hop ORDER BY id", |row| {
            Ok((HopId(row.get(0)?), row.get(1)?))
        })
    }

    /// The content files of what is in the queue, or may be brought back.
    pub(super) fn files(&self) -> Vec<String> {
        self.rows(
            "SELECT file FROM message m WHERE file IS NOT NULL AND (left_at IS NULL \
               OR EXISTS (SELECT 1 FROM recipient WHERE message = m.id AND state = 14)) ORDER BY file",
            |row| row.get(0),
        )
    }

    /// The messages that left before `cutoff`.
    pub(super) fn left_before(&self, cutoff: Stamp) -> Vec<MessageId> {
        self.rows(
            &format!("SELECT id FROM message WHERE left_at < {} ORDER BY id", cutoff.0),
            |row| row.get(0).map(MessageId),
        )
    }

    /// What takes longer: history, content, and what people are shown.
    pub(super) fn look_closely(&self, queue: &WorkQueue, memory: &Memory) {
        let wrong = self.texts(HISTORY);
        assert!(wrong.is_empty(), "history: {wrong:?}");
        for (id, _) in memory
            .messages
            .iter()
            .filter(|(_, message)| message.keeps_content())
        {
            let mut content = Vec::new();
            queue.content(*id).unwrap().read_to_end(&mut content).unwrap();
            let size: Vec<usize> = self
                .rows(&format!("SELECT size FROM message WHERE id = {}", id.0), |row| {
                    row.get(0)
                });
            assert_eq!(size, [content.len()], "octets of {id}");
        }
        let shown = queue.listing(&Choice::default(), 10_000).unwrap();
        let rows = shown.rows.iter();
        let rows: Vec<_> = rows
            .map(|row| (row.id, row.n, row.state.known().unwrap()))
            .collect();
        let in_queue = memory.all().filter(|(.., member)| member.is_in_the_queue());
        let in_queue: Vec<_> = in_queue.map(|(id, n, member)| (id, n, member.state)).collect();
        assert_eq!((&rows, shown.more), (&in_queue, 0), "what `queue list` shows");
        let counted = queue.listing(&Choice::default(), 0).unwrap();
        assert!(!counted.is_exact || counted.more == in_queue.len(), "{counted:?}");
        let to_go = memory
            .all()
            .filter(|(.., m)| matches!(m.state, State::PendingXmit | State::LockedForXmit));
        let (shown, _) = queue.queue_rows(1000).unwrap();
        let shown: u64 = shown.iter().map(|row| row.recipients).sum();
        assert_eq!(shown, to_go.count() as u64, "what `show queue` shows");
    }
}
