-- The work queue as everybody may see it; smtpmta-queue(5) documents these views. Names and columns stay from
-- version to version, new columns come last. An upgrade makes them anew.
--
-- Who looks for a message by its number, the column message, finds it by the tables' keys; id is text made of it, and
-- looking for that is looking through all.
--
-- Moments are local time, YYYY-MM-DD HH:MM:SS.

DROP VIEW IF EXISTS inbound_work_queue;
CREATE VIEW inbound_work_queue AS
SELECT printf('%016X', m.id) AS id, r.n AS n, s.name AS state,
       m.reverse_path AS sender, r.path AS recipient, m.size AS size,
       m.client AS client, m.helo AS helo, m.protocol AS protocol,
       datetime(m.id / 1000000, 'unixepoch', 'localtime') AS arrived,
       datetime(nullif(m.inbound_due, 0) / 1000000, 'unixepoch', 'localtime') AS next_attempt,
       r.last_error AS last_error, m.subject AS subject, m.header_from AS header_from,
       m.header_to AS header_to, m.message_id AS message_id, m.date AS date, m.attachments AS attachments,
       m.hops AS hops, m.file AS file, m.login AS login, m.tls AS tls,
       CASE r.notify WHEN 0 THEN 'NEVER' ELSE nullif(rtrim(
           iif(r.notify & 1, 'SUCCESS,', '') || iif(r.notify & 2, 'FAILURE,', '')
           || iif(r.notify & 4, 'DELAY,', ''), ','), '') END AS notify, m.id AS message, r.pin AS via
FROM message m
JOIN recipient r ON r.message = m.id AND (r.state = 1 OR r.state = 5 AND r.hop IS NULL) AND r.in_box = 0
JOIN state s ON s.number = r.state
WHERE m.left_at IS NULL;

DROP VIEW IF EXISTS smtp_box;
CREATE VIEW smtp_box AS
SELECT printf('%016X', m.id) AS id, r.n AS n, s.name AS state,
       m.reverse_path AS sender, r.path AS recipient, m.size AS size, m.client AS client,
       CASE m.origin WHEN 1 THEN 'session' WHEN 2 THEN 'local' ELSE 'report' END AS origin,
       datetime(m.id / 1000000, 'unixepoch', 'localtime') AS arrived,
       datetime(nullif(m.box_due, 0) / 1000000, 'unixepoch', 'localtime') AS next_attempt,
       r.last_error AS last_error, m.subject AS subject, m.header_from AS header_from,
       m.header_to AS header_to, m.message_id AS message_id, m.date AS date, m.attachments AS attachments,
       m.hops AS hops, m.file AS file, m.login AS login, m.tls AS tls,
       CASE r.notify WHEN 0 THEN 'NEVER' ELSE nullif(rtrim(
           iif(r.notify & 1, 'SUCCESS,', '') || iif(r.notify & 2, 'FAILURE,', '')
           || iif(r.notify & 4, 'DELAY,', ''), ','), '') END AS notify, m.id AS message, r.pin AS via
FROM message m
JOIN recipient r ON r.message = m.id AND (r.state = 1 OR r.state = 5 AND r.hop IS NULL) AND r.in_box = 1
JOIN state s ON s.number = r.state
WHERE m.left_at IS NULL;

DROP VIEW IF EXISTS outbound_work_queue;
CREATE VIEW outbound_work_queue AS
SELECT printf('%016X', m.id) AS id, r.n AS n, s.name AS state,
       m.reverse_path AS sender, r.path AS recipient, m.size AS size,
       h.name AS next_hop, r.list AS list, l.handler AS handler,
       datetime(m.id / 1000000, 'unixepoch', 'localtime') AS arrived,
       r.attempts AS attempts,
       datetime(nullif(max(r.next_attempt, iif(r.state = 2 AND r.list IS NULL, ifnull(h.retry_at, 0), 0)), 0)
           / 1000000, 'unixepoch', 'localtime') AS next_attempt,
       r.last_host AS last_host,
       iif(r.state = 2 AND h.failures > 0, h.last_status, r.last_status) AS last_status,
       iif(r.state = 2 AND h.failures > 0, h.last_error, r.last_error) AS last_error,
       m.subject AS subject, m.header_from AS header_from, m.header_to AS header_to,
       m.message_id AS message_id, m.date AS date, m.attachments AS attachments, m.hops AS hops, m.file AS file,
       m.login AS login, m.tls AS tls,
       CASE r.notify WHEN 0 THEN 'NEVER' ELSE nullif(rtrim(
           iif(r.notify & 1, 'SUCCESS,', '') || iif(r.notify & 2, 'FAILURE,', '')
           || iif(r.notify & 4, 'DELAY,', ''), ','), '') END AS notify,
       datetime(r.attempted_at / 1000000, 'unixepoch', 'localtime') AS last_attempt, m.id AS message,
       r.pin AS via
FROM message m
JOIN recipient r ON r.message = m.id
    AND (r.state BETWEEN 2 AND 4 OR r.state = 5 AND r.hop IS NOT NULL OR r.report_due IS NOT NULL)
JOIN state s ON s.number = r.state
LEFT JOIN next_hop h ON h.id = r.hop
LEFT JOIN domain_list l ON l.id = r.list
WHERE m.left_at IS NULL;

DROP VIEW IF EXISTS domain_lists;
CREATE VIEW domain_lists AS
SELECT l.id AS list, h.name AS next_hop,
       CASE WHEN l.handler IS NULL THEN 'waiting' ELSE 'assigned' END AS state,
       'oseshlr' || l.handler AS handler, l.messages AS messages, l.recipients AS recipients,
       (SELECT count(*) FROM recipient r WHERE r.list = l.id) AS unsettled,
       datetime(l.made_at / 1000000, 'unixepoch', 'localtime') AS made
FROM domain_list l JOIN next_hop h ON h.id = l.hop;

DROP VIEW IF EXISTS next_hops;
CREATE VIEW next_hops AS
SELECT h.name AS next_hop,
       h.waiting AS pending,
       (SELECT count(*) FROM domain_list l WHERE l.hop = h.id) AS lists,
       datetime(nullif(h.due, 0) / 1000000, 'unixepoch', 'localtime') AS next_attempt,
       h.last_error AS last_error,
       datetime(h.error_at / 1000000, 'unixepoch', 'localtime') AS last_error_at,
       datetime(h.used_at / 1000000, 'unixepoch', 'localtime') AS last_used,
       h.failures AS failures,
       datetime(h.down_since / 1000000, 'unixepoch', 'localtime') AS down_since,
       datetime(h.retry_at / 1000000, 'unixepoch', 'localtime') AS next_probe
FROM next_hop h;

DROP VIEW IF EXISTS dead_mail;
CREATE VIEW dead_mail AS
SELECT printf('%016X', m.id) AS id, r.n AS n, s.name AS state,
       m.reverse_path AS sender, r.path AS recipient, m.size AS size, r.last_host AS last_host,
       r.last_status AS last_status, r.last_error AS reason,
       datetime(m.id / 1000000, 'unixepoch', 'localtime') AS arrived,
       datetime(r.settled_at / 1000000, 'unixepoch', 'localtime') AS died,
       m.subject AS subject, m.header_from AS header_from, m.message_id AS message_id, m.file AS file, m.id AS message
FROM recipient r
JOIN message m ON m.id = r.message
JOIN state s ON s.number = r.state
WHERE r.state = 6;

DROP VIEW IF EXISTS history;
CREATE VIEW history AS
SELECT printf('%016X', e.message) AS id,
       datetime(e.stamp / 1000000, 'unixepoch', 'localtime') AS at, e.stamp AS stamp,
       e.what AS event, r.path AS recipient, e.text AS text, e.message AS message
FROM event e
LEFT JOIN recipient r ON r.message = e.message AND r.n = e.n;
