-- The work queue: which messages there are, and how they stand. These tables are the MTA's own and may change
-- with its version; the views in views.sql are for everybody.
--
-- A released schema is never changed here alone: upgrade-N.sql makes the one before it the same. New columns come
-- last, where ALTER TABLE puts them.
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
    left_at      INTEGER,          -- when its last recipient was settled; NULL: it is in the queue
    login        TEXT,             -- who had logged in; NULL: nobody
    tls          TEXT,             -- version and cipher of the connection; NULL: it was plain
    envid        TEXT,             -- the sender's own name for the envelope, in xtext (RFC 3461 4.4)
    ret          TEXT,             -- FULL, HDRS: what a failure report brings back (RFC 3461 4.3); NULL: not said
    body         INTEGER NOT NULL DEFAULT 0, -- BODY: 0 not said, 1 7BIT, 2 8BITMIME, 3 BINARYMIME
    utf8         INTEGER NOT NULL DEFAULT 0, -- 1 if SMTPUTF8 was given (RFC 6531)
    utf8_header  INTEGER NOT NULL DEFAULT 0  -- 1 if conversion found octets above 127 in the header
) STRICT;
CREATE INDEX message_inbound ON message (inbound_due, id) WHERE inbound_due IS NOT NULL;
CREATE INDEX message_box ON message (box_due, id) WHERE box_due IS NOT NULL;
CREATE INDEX message_left ON message (left_at) WHERE left_at IS NOT NULL;
-- With the keys of table content: all that is in the queue, in the order of its arrival.
CREATE INDEX message_file ON message (id) WHERE file IS NOT NULL AND left_at IS NULL;

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
    notify       INTEGER,          -- NOTIFY: 1 success, 2 failure, 4 delay; 0 never; NULL: not said (RFC 3461 4.1)
    orcpt        TEXT,             -- the recipient as the sender first wrote it, type;xtext (RFC 3461 4.2)
    parent       INTEGER,          -- expanded from this n, which the client named; NULL: named by the client itself
    report_due   INTEGER,          -- drt has yet to tell of its good end: 1 delivered, 2 relayed, 3 expanded
    attempted_at INTEGER,          -- when it was tried last; NULL: never
    pin          TEXT,             -- the next hop where an operator leads it by hand; NULL: nowhere
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;
-- With all that it says of itself, so that who counts or looks for the first needs no row of the table.
CREATE INDEX recipient_due ON recipient (hop, next_attempt, message, n, list) WHERE state = 2 AND list IS NULL;
CREATE INDEX recipient_list ON recipient (list) WHERE list IS NOT NULL;
CREATE INDEX recipient_report ON recipient (message) WHERE state = 4;
CREATE INDEX recipient_report_due ON recipient (message) WHERE report_due IS NOT NULL;
CREATE INDEX recipient_aside ON recipient (state) WHERE state IN (5, 6);

CREATE TABLE next_hop (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- never given again: old recipients may name it
    name       TEXT NOT NULL UNIQUE,
    due        INTEGER,            -- the earliest next_attempt of its recipients that are pending and on no list,
                                   -- and never before retry_at
    used_at    INTEGER NOT NULL,
    last_error TEXT,
    error_at   INTEGER,
    failures   INTEGER NOT NULL DEFAULT 0, -- in a row; above 0 it backs off as a whole
    down_since INTEGER,            -- when the first of them was
    failed_at  INTEGER,            -- when the last one was; a list made before it does not count again
    retry_at   INTEGER,            -- when the next probe may go; NULL: it does not back off
    last_status TEXT,              -- of last_error: RFC 3463 status
    waiting    INTEGER NOT NULL DEFAULT 0, -- its recipients that are pending and on no list
    oldest     INTEGER             -- none of these is of an older message; the message itself may have gone
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
