//! The operator's side of the console: asks the running MTA over control.sock.

use std::io;
use std::path::Path;

/// PLACEHOLDER, the lead replaces it: asks the MTA that runs on this spool, and gives its exit status and text.
///
/// # Errors
/// None is running there.
pub fn ask(_spool: &Path, _words: &[String], _json: bool) -> Result<(u8, String), io::Error> {
    Err(io::ErrorKind::NotFound.into())
}
