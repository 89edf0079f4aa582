//! The tasks: their names and states, the doorbell, the handler table.
