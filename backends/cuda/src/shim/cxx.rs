//! The C++ compiler of kernels that run on the CPU.

use std::ffi::{OsStr, OsString};
use std::process::Command;

use graver_ir::Error;

/// The flags of every compilation. Products and sums are fused only where the text says so.
const FLAGS: &[&str] = &["-std=c++17", "-fPIC", "-w", "-ffp-contract=off", "-fno-strict-aliasing"];

/// A C++ compiler: `$CXX`, or else `c++`.
///
/// ```
/// let cxx = graver_cuda::Cxx::find()?;
/// assert!(cxx.flags().contains(&"-ffp-contract=off"));
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cxx {
    command: OsString,
    pub(super) version: String,
    flags: Vec<&'static str>,
}

impl Cxx {
    /// The compiler of this machine.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> Result<Self, Error> {
        let command = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let output = Command::new(&command).arg("--version").output();
        let Some(output) = output.ok().filter(|output| output.status.success()) else {
            let name = command.display();
            return Err(Error::new(format!("there is no C++ compiler `{name}`: install g++ or clang, or set CXX to one")));
        };
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut flags = FLAGS.to_vec();
        // Else every fused multiplication is a call.
        if has_fma() {
            flags.push("-mfma");
        }
        Ok(Self { command, version, flags })
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> &OsStr {
        &self.command
    }

    /// The flags of every kernel but for how much is made of the code.
    #[must_use]
    pub fn flags(&self) -> &[&'static str] {
        &self.flags
    }

    /// All that a compilation's result follows from besides its text: the command, what it says of its version, and the flags.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("{} {}\n{}", self.command.display(), self.flags.join(" "), self.version)
    }
}

fn has_fma() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}
