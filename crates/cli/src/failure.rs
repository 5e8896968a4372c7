//! How the command fails: what is said, and the exit code.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use graver_ir::{Diag, Error};

/// Why the command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Bad usage or bad input: exit code 2.
    Input(String),
    /// A valid program that is not supported: exit code 3.
    Unsupported(String),
    /// A check found something: exit code 1.
    Found(String),
    /// Whoever read our output went away: nothing is wrong.
    OutputClosed,
}

impl Failure {
    /// Something is wrong with a file.
    pub(crate) fn file(path: &Path, what: impl Display) -> Self {
        Self::Input(format!("{}: {what}", path.display()))
    }

    /// Something is wrong with the program that a file holds.
    pub(crate) fn program(path: &Path, error: Error) -> Self {
        error.in_file(&path.display().to_string()).into()
    }

    /// A program that cannot be compiled.
    pub(crate) fn unsupported(error: &Error) -> Self {
        Self::Unsupported(error.to_string())
    }

    /// What is said.
    pub(crate) fn message(self) -> String {
        match self {
            Self::Input(message) | Self::Unsupported(message) | Self::Found(message) => message,
            Self::OutputClosed => "the output is closed".to_owned(),
        }
    }

    /// Prints the failure and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (message, code) = match self {
            Self::Input(message) => (message, 2),
            Self::Unsupported(message) => (format!("not supported: {message}"), 3),
            Self::Found(message) => (message, 1),
            Self::OutputClosed => return ExitCode::SUCCESS,
        };
        eprintln!("graver: {message}");
        ExitCode::from(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Input(error.to_string())
    }
}

impl From<Diag> for Failure {
    fn from(diag: Diag) -> Self {
        Self::Input(diag.to_string())
    }
}

/// Writes to standard output; a closed pipe is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        Err(error) => Err(Failure::Input(format!("standard output: {error}"))),
    }
}
