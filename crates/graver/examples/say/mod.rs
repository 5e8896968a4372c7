//! Lines of output, as programs write that others may stop reading.

use std::io::{ErrorKind, Write};

/// Prints a line. Where nobody reads any more, as behind `| head`, the program ends quietly.
pub(crate) fn say(line: &str) {
    match writeln!(std::io::stdout().lock(), "{line}") {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            eprintln!("standard output: {error}");
            std::process::exit(1);
        }
    }
}
