-- From version 3 to version 4: how much waits for a next hop, and since when, without counting; the messages in the
-- queue in the order of their arrival.

DROP INDEX recipient_due;
CREATE INDEX recipient_due ON recipient (hop, next_attempt, message, n, list) WHERE state = 2 AND list IS NULL;

ALTER TABLE next_hop ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE next_hop ADD COLUMN oldest INTEGER;
UPDATE next_hop SET waiting = w.waiting, oldest = w.oldest FROM (
    SELECT hop, count(*) AS waiting, min(message) AS oldest FROM recipient
    WHERE state = 2 AND list IS NULL GROUP BY hop) w
WHERE next_hop.id = w.hop;

CREATE INDEX message_file ON message (id) WHERE file IS NOT NULL AND left_at IS NULL;
