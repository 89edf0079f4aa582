//! SMTPMTA, the add-in task: starts, stops and watches the others; housekeeping.
