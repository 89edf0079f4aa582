-- All recipients that the database knows: the state of each, and whether it came of an alias. Only the account walks
-- through them, at an opening after a crash, and never while mail flows.
SELECT state, parent IS NOT NULL FROM recipient;
