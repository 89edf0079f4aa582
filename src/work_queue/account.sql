-- All recipients that the database knows, by state, and by whether they came of an alias. Looks at each of them, which
-- only the account does: at an opening after a crash, and never while mail flows.
SELECT state, parent IS NOT NULL, count(*) FROM recipient GROUP BY 1, 2;
