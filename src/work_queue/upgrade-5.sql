-- From version 4 to version 5: where an operator leads a recipient by hand.

ALTER TABLE recipient ADD COLUMN pin TEXT;
