-- From version 2 to version 3: when a recipient was tried last, and the back-off of a next hop that does not answer.

ALTER TABLE recipient ADD COLUMN attempted_at INTEGER;

ALTER TABLE next_hop ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE next_hop ADD COLUMN down_since INTEGER;
ALTER TABLE next_hop ADD COLUMN failed_at INTEGER;
ALTER TABLE next_hop ADD COLUMN retry_at INTEGER;
ALTER TABLE next_hop ADD COLUMN last_status TEXT;
