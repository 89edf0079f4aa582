-- From version 1 to version 2: what a client says in MAIL and RCPT beyond the paths, and what drt has to say of it.

ALTER TABLE message ADD COLUMN login TEXT;
ALTER TABLE message ADD COLUMN tls TEXT;
ALTER TABLE message ADD COLUMN envid TEXT;
ALTER TABLE message ADD COLUMN ret TEXT;
ALTER TABLE message ADD COLUMN body INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN utf8 INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN utf8_header INTEGER NOT NULL DEFAULT 0;

ALTER TABLE recipient ADD COLUMN notify INTEGER;
ALTER TABLE recipient ADD COLUMN orcpt TEXT;
ALTER TABLE recipient ADD COLUMN parent INTEGER;
ALTER TABLE recipient ADD COLUMN report_due INTEGER;
CREATE INDEX recipient_report_due ON recipient (message) WHERE report_due IS NOT NULL;
