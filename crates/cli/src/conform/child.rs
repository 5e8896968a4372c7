//! One set, run by `graver run` in a process of its own.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Ending, Status};
use crate::Machine;
use crate::failure::Failure;

/// The longest message that is kept of a process, from its end.
const MESSAGE: usize = 400;
/// How long to sleep between two looks at a process, at most.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// Starts processes.
pub(super) struct Runner {
    command: PathBuf,
    machine: Vec<OsString>,
    limit: Duration,
    folders: AtomicUsize,
}

/// A folder for what a process writes, which goes with this.
pub(super) struct Written {
    pub(super) path: PathBuf,
}

impl Drop for Written {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

impl Runner {
    /// For this machine, and a limit in seconds.
    pub(super) fn new(machine: &Machine, limit: f64) -> Result<Self, Failure> {
        let command = std::env::current_exe().map_err(|error| Failure::Input(format!("this program's own file: {error}")))?;
        let limit = Duration::try_from_secs_f64(limit).map_err(|error| Failure::Input(format!("--timeout {limit}: {error}")))?;
        Ok(Self { command, machine: machine.args(), limit, folders: AtomicUsize::new(0) })
    }

    /// Runs a model over the inputs of a set.
    pub(super) fn run(&self, model: &Path, set: &Path) -> Result<Written, Ending> {
        let number = self.folders.fetch_add(1, Ordering::Relaxed);
        let own = Written { path: std::env::temp_dir().join(format!("graver-conform-{}-{number}", std::process::id())) };
        let failed = |error: std::io::Error| Ending::new(Status::Error, format!("{}: {error}", own.path.display()));
        let outputs = own.path.join("outputs");
        std::fs::create_dir_all(&outputs).map_err(failed)?;
        let said = own.path.join("said");
        let file = File::create(&said).map_err(failed)?;
        let mut command = Command::new(&self.command);
        command.arg("run").arg(model).arg("--inputs").arg(set).arg("--outputs").arg(&outputs).args(&self.machine);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let status = ended(command.spawn().map_err(failed)?, self.limit).map_err(failed)?;
        let Some(status) = status else {
            return Err(Ending::new(Status::Timeout, format!("more than {} seconds", self.limit.as_secs_f64())));
        };
        let outcome = outcome(status);
        if outcome == Status::Pass { Ok(own) } else { Err(Ending::new(outcome, message(status, &said))) }
    }
}

/// Waits for a process; after the limit it is ended, and has no status.
fn ended(mut child: Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let (begun, mut sleep) = (Instant::now(), Duration::from_millis(1));
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(sleep);
        sleep = (sleep * 2).min(LONGEST_SLEEP);
    }
}

/// What an exit code means: 101 is a panic's, and a shell's of a signal are 128 and more.
fn outcome(status: ExitStatus) -> Status {
    match status.code() {
        Some(0) => Status::Pass,
        Some(3) => Status::Unsupported,
        Some(101 | 128..) | None => Status::Crash,
        Some(_) => Status::Error,
    }
}

/// The end of what a process said, or what ended it.
fn message(status: ExitStatus, said: &Path) -> String {
    let said = String::from_utf8_lossy(&std::fs::read(said).unwrap_or_default()).trim().to_owned();
    let first = said.char_indices().rev().nth(MESSAGE - 1).map_or(0, |(place, _)| place);
    if status.code().is_some() { said[first..].to_owned() } else { format!("{status} {}", &said[first..]).trim_end().to_owned() }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_signal_and_a_panic_are_crashes() {
        let codes = [
            (0, Status::Pass),
            (1, Status::Error),
            (2, Status::Error),
            (3, Status::Unsupported),
            (101, Status::Crash),
            (139, Status::Crash),
        ];
        for (code, status) in codes {
            assert_eq!(outcome(ExitStatus::from_raw(code << 8)), status, "{code}");
        }
        let killed = ExitStatus::from_raw(11);
        assert_eq!(outcome(killed), Status::Crash);
        assert!(message(killed, Path::new("/nowhere")).contains("11"));
    }

    #[test]
    fn the_end_of_what_was_said_is_kept() {
        let said = std::env::temp_dir().join(format!("graver-conform-said-{}", std::process::id()));
        std::fs::write(&said, format!("{}\u{e9}{}\n", "x".repeat(9), "y".repeat(MESSAGE - 1))).expect("a temporary file");
        assert_eq!(message(ExitStatus::from_raw(2 << 8), &said), format!("\u{e9}{}", "y".repeat(MESSAGE - 1)));
        std::fs::remove_file(said).expect("just written");
    }
}
