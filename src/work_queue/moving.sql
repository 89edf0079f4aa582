-- What moves to another spool, and what came from one: `smtpmta queue export` and `import`.
--
-- Made at the opening of a database that lacks them. No other table changes, and an earlier version of the MTA does not
-- miss them: so they are no new schema.

CREATE TABLE IF NOT EXISTS export (
    id        TEXT PRIMARY KEY, -- 32 hexadecimal digits, drawn at random
    file      TEXT NOT NULL,    -- where it goes
    begun_at  INTEGER NOT NULL,
    sealed_at INTEGER,          -- from then on nothing is put aside for it
    ending_at INTEGER,          -- its file is on the disk, and what is in it ends here
    ended_at  INTEGER           -- all of that has ended
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS export_unfinished ON export (file) WHERE ended_at IS NULL;

CREATE TABLE IF NOT EXISTS put_aside ( -- recipients that an export has for itself: nobody else touches them
    message INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    export  TEXT NOT NULL,
    state   INTEGER NOT NULL,   -- in which it was before
    PRIMARY KEY (message, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS put_aside_export ON put_aside (export, message, n);

CREATE TABLE IF NOT EXISTS import (
    id       TEXT PRIMARY KEY,  -- that of the export
    host     TEXT NOT NULL,     -- where that was made
    begun_at INTEGER NOT NULL,
    ended_at INTEGER            -- all of it is here; NULL: what is, stands in brought_in
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS brought_in (
    import  TEXT NOT NULL,
    former  INTEGER NOT NULL,   -- the message, where it came from
    message INTEGER NOT NULL,   -- and here
    PRIMARY KEY (import, former)
) STRICT, WITHOUT ROWID;
