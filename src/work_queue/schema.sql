-- The work queue: which messages there are, and how they stand. smtpmta-queue(5) documents the views at
-- the end, which are for everybody; the tables are the MTA's own and may change with its version.
--
-- Moments are microseconds since 1970. A message's id is the microsecond in which it arrived, made unique.

CREATE TABLE message (
    id           INTEGER PRIMARY KEY,
    inbound_due  INTEGER,          -- waits for imsgcnv, not before this moment; NULL: it does not
    box_due      INTEGER,          -- waits for omsgcnv, not before this moment; NULL: it does not
    reverse_path TEXT NOT NULL,    -- '' is the null path
    origin       INTEGER NOT NULL, -- 1 a session, 2 a local submission, 3 a report of our own
    client       TEXT NOT NULL,    -- who brought it: address of the client, or name of the user
    helo         TEXT NOT NULL,
    protocol     TEXT NOT NULL,    -- SMTP, ESMTP, local
    size         INTEGER NOT NULL, -- octets of the content
    file         TEXT,             -- its content is content/<file> below the spool; NULL: in table content
    eight_bit    INTEGER NOT NULL, -- 1 if the content has octets above 127
    subject      TEXT,             -- from here on: what conversion read in the content
    header_from  TEXT,
    header_to    TEXT,
    message_id   TEXT,
    date         TEXT,
    attachments  TEXT,             -- names, one a line
    hops         INTEGER,          -- Received lines
    left_at      INTEGER           -- when its last recipient was settled; NULL: it is in the queue
) STRICT;
CREATE INDEX message_inbound ON message (inbound_due, id) WHERE inbound_due IS NOT NULL;
CREATE INDEX message_box ON message (box_due, id) WHERE box_due IS NOT NULL;
CREATE INDEX message_left ON message (left_at) WHERE left_at IS NOT NULL;

CREATE TABLE content (
    message INTEGER PRIMARY KEY,
    bytes   BLOB NOT NULL
) STRICT;

CREATE TABLE recipient (
    message      INTEGER NOT NULL,
    n            INTEGER NOT NULL, -- 0, 1, 2 … in the order of RCPT
    path         TEXT NOT NULL,
    state        INTEGER NOT NULL, -- table state
    in_box       INTEGER NOT NULL, -- while WQ_PENDING_CONVERSION: 0 inbound work queue, 1 SMTP.BOX
    hop          INTEGER,          -- table next_hop
    list         INTEGER,          -- table domain_list
    next_attempt INTEGER NOT NULL DEFAULT 0,
    attempts     INTEGER NOT NULL DEFAULT 0,
    last_host    TEXT,             -- where it was tried last
    last_status  TEXT,             -- and how that ended: RFC 3463 status
    last_error   TEXT,             -- and in words
    last_reply   TEXT,             -- and in the host's own, where it was a reply that ended it
    settled_at   INTEGER,
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient (hop, next_attempt) WHERE state = 2 AND list IS NULL;
CREATE INDEX recipient_list ON recipient (list) WHERE list IS NOT NULL;
CREATE INDEX recipient_report ON recipient (message) WHERE state = 4;
CREATE INDEX recipient_aside ON recipient (state) WHERE state IN (5, 6);

CREATE TABLE next_hop (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- never given again: old recipients may name it
    name       TEXT NOT NULL UNIQUE,
    due        INTEGER,            -- the earliest next_attempt of its recipients that are pending and on no list
    used_at    INTEGER NOT NULL,
    last_error TEXT,
    error_at   INTEGER
) STRICT;
CREATE INDEX next_hop_due ON next_hop (due, used_at) WHERE due IS NOT NULL;

CREATE TABLE domain_list (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    hop        INTEGER NOT NULL,
    messages   INTEGER NOT NULL,   -- when it was made; it is never added to
    recipients INTEGER NOT NULL,
    handler    INTEGER,            -- oseshlr<handler> has it; NULL: it waits for one
    made_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE event (
    message INTEGER NOT NULL,
    stamp   INTEGER NOT NULL,      -- when; unique
    what    TEXT NOT NULL,         -- accepted, converted, routed, listed …: one word
    n       INTEGER,               -- the recipient; NULL: the message as a whole
    text    TEXT NOT NULL,
    PRIMARY KEY (message, stamp)
) STRICT, WITHOUT ROWID;

CREATE TABLE statistic (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE marker (
    name  TEXT PRIMARY KEY,        -- how far a task that walks through all messages, or the clock, has come
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE state (
    number INTEGER PRIMARY KEY,
    name   TEXT NOT NULL
) STRICT;
INSERT INTO state (number, name) VALUES
    (1, 'WQ_PENDING_CONVERSION'),
    (2, 'WQ_PENDING_XMIT'),
    (3, 'WQ_MSG_LOCKED_FOR_XMIT'),
    (4, 'WQ_PENDING_REPORT'),
    (5, 'WQ_HELD'),
    (6, 'WQ_DEAD'),
    (10, 'WQ_DELIVERED'),
    (11, 'WQ_TRANSMITTED'),
    (12, 'WQ_EXPANDED'),
    (13, 'WQ_FAILED'),
    (14, 'WQ_REMOVED');

-- The views. Moments are local time, YYYY-MM-DD HH:MM:SS.

CREATE VIEW inbound_work_queue AS
SELECT printf('%016X', m.id) AS id, r.n AS n, s.name AS state,
       m.reverse_path AS sender, r.path AS recipient, m.size AS size,
       m.client AS client, m.helo AS helo, m.protocol AS protocol,
       datetime(m.id / 1000000, 'unixepoch', 'localtime') AS arrived,
       datetime(nullif(m.inbound_due, 0) / 1000000, 'unixepoch', 'localtime') AS next_attempt,
       r.last_error AS last_error, m.subject AS subject, m.header_from AS header_from,
       m.header_to AS header_to, m.message_id AS message_id, m.date AS date, m.attachments AS attachments,
       m.hops AS hops, m.file AS file
FROM message m
JOIN recipient r ON r.message = m.id AND (r.state = 1 OR r.state = 5 AND r.hop IS NULL) AND r.in_box = 0
JOIN state s ON s.number = r.state
WHERE m.left_at IS NULL;

CREATE VIEW smtp_box AS
SELECT printf('%016X', m.id) AS id, r.n AS n, s.name AS state,
       m.reverse_path AS sender, r.path AS recipient, m.size AS size, m.client AS client,
       CASE m.origin WHEN 1 THEN 'session' WHEN 2 THEN 'local' ELSE 'report' END AS origin,
       datetime(m.id / 1000000, 'unixepoch', 'localtime') AS arrived,
       datetime(nullif(m.box_due, 0) / 1000000, 'unixepoch', 'localtime') AS next_attempt,
       r.last_error AS last_error, m.subject AS subject, m.header_from AS header_from,
       m.header_to AS header_to, m.message_id AS message_id, m.date AS date, m.attachments AS attachments,
       m.hops AS hops, m.file AS file
FROM message m
JOIN recipient r ON r.message = m.id AND (r.state = 1 OR r.state = 5 AND r.hop IS NULL) AND r.in_box = 1
JOIN state s ON s.number = r.state
WHERE m.left_at IS NULL;

CREATE VIEW outbound_work_queue AS
SELECT printf('%016X', m.id) AS id, r.n AS n, s.name AS state,
       m.reverse_path AS sender, r.path AS recipient, m.size AS size,
       h.name AS next_hop, r.list AS list, l.handler AS handler,
       datetime(m.id / 1000000, 'unixepoch', 'localtime') AS arrived,
       r.attempts AS attempts,
       datetime(nullif(r.next_attempt, 0) / 1000000, 'unixepoch', 'localtime') AS next_attempt,
       r.last_host AS last_host, r.last_status AS last_status, r.last_error AS last_error,
       m.subject AS subject, m.header_from AS header_from, m.header_to AS header_to,
       m.message_id AS message_id, m.date AS date, m.attachments AS attachments, m.hops AS hops, m.file AS file
FROM message m
JOIN recipient r ON r.message = m.id AND (r.state BETWEEN 2 AND 4 OR r.state = 5 AND r.hop IS NOT NULL)
JOIN state s ON s.number = r.state
LEFT JOIN next_hop h ON h.id = r.hop
LEFT JOIN domain_list l ON l.id = r.list
WHERE m.left_at IS NULL;

CREATE VIEW domain_lists AS
SELECT l.id AS list, h.name AS next_hop,
       CASE WHEN l.handler IS NULL THEN 'waiting' ELSE 'assigned' END AS state,
       'oseshlr' || l.handler AS handler, l.messages AS messages, l.recipients AS recipients,
       (SELECT count(*) FROM recipient r WHERE r.list = l.id) AS unsettled,
       datetime(l.made_at / 1000000, 'unixepoch', 'localtime') AS made
FROM domain_list l JOIN next_hop h ON h.id = l.hop;

CREATE VIEW next_hops AS
SELECT h.name AS next_hop,
       (SELECT count(*) FROM recipient r WHERE r.hop = h.id AND r.state = 2 AND r.list IS NULL) AS pending,
       (SELECT count(*) FROM domain_list l WHERE l.hop = h.id) AS lists,
       datetime(nullif(h.due, 0) / 1000000, 'unixepoch', 'localtime') AS next_attempt,
       h.last_error AS last_error,
       datetime(h.error_at / 1000000, 'unixepoch', 'localtime') AS last_error_at,
       datetime(h.used_at / 1000000, 'unixepoch', 'localtime') AS last_used
FROM next_hop h;

CREATE VIEW dead_mail AS
SELECT printf('%016X', m.id) AS id, r.n AS n, s.name AS state,
       m.reverse_path AS sender, r.path AS recipient, m.size AS size, r.last_host AS last_host,
       r.last_status AS last_status, r.last_error AS reason,
       datetime(m.id / 1000000, 'unixepoch', 'localtime') AS arrived,
       datetime(r.settled_at / 1000000, 'unixepoch', 'localtime') AS died,
       m.subject AS subject, m.header_from AS header_from, m.message_id AS message_id, m.file AS file
FROM recipient r
JOIN message m ON m.id = r.message
JOIN state s ON s.number = r.state
WHERE r.state = 6;

CREATE VIEW history AS
SELECT printf('%016X', e.message) AS id,
       datetime(e.stamp / 1000000, 'unixepoch', 'localtime') AS at, e.stamp AS stamp,
       e.what AS event, r.path AS recipient, e.text AS text
FROM event e
LEFT JOIN recipient r ON r.message = e.message AND r.n = e.n;
