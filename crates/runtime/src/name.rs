//! What users call devices.

use std::fmt;
use std::str::FromStr;

use graver_ir::{Diag, Error};

/// A device by its name: `cpu`, `cuda`, `cuda:1`, `interp`. Whether it is there, nobody was asked.
///
/// ```
/// use graver_runtime::DeviceName;
/// assert_eq!("cuda:1".parse::<DeviceName>()?, DeviceName::Cuda(1));
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// `cpu`: compiled for this CPU.
    Cpu,
    /// `cuda:1`: compiled for the GPU of this number; `cuda` is the first, number 0.
    Cuda(usize),
    /// `interp`: the interpreter of kernels.
    Interp,
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(0)),
            "interp" => return Ok(Self::Interp),
            _ => {}
        }
        let Some(number) = name.strip_prefix("cuda:") else {
            let known = "a device is cpu, cuda, cuda: and a GPU's number, as in cuda:1, or interp";
            return Err(Diag::new(format!("there is no device `{name}`")).help(known).into());
        };
        // A sign is no part of a number here.
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse().ok().filter(|_| digits).map(Self::Cuda);
        let help = "cuda: is followed by a GPU's number, as in cuda:1; the first is cuda:0, or cuda";
        number.ok_or_else(|| Diag::new(format!("`{name}` names no GPU")).help(help).into())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Interp => f.write_str("interp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceName::{self, Cpu, Cuda, Interp};

    #[test]
    fn names_are_read_and_told() {
        for (name, device) in [("cpu", Cpu), ("cuda", Cuda(0)), ("cuda:1", Cuda(1)), ("cuda:12", Cuda(12)), ("interp", Interp)] {
            assert_eq!(name.parse::<DeviceName>().map_err(|error| error.to_string()), Ok(device));
            assert_eq!(device.to_string(), name);
        }
        assert_eq!("cuda:0".parse::<DeviceName>().map_err(|error| error.to_string()), Ok(Cuda(0)));
    }

    #[test]
    fn what_names_no_device_is_told_with_what_would() {
        for name in ["cuda:x", "cuda:", "cuda:-1", "cuda:+1", "cuda:1:2", "cuda: 1", "cuda:99999999999999999999999"] {
            let error = name.parse::<DeviceName>().expect_err("it names none").to_string();
            assert!(
                error.starts_with(&format!("`{name}` names no GPU; cuda: is followed by a GPU's number, as in cuda:1")),
                "{error}"
            );
        }
        for name in ["gpu", "", "CPU", "cuda1", "cpu:0"] {
            let error = name.parse::<DeviceName>().expect_err("there is none").to_string();
            assert!(error.starts_with(&format!("there is no device `{name}`; a device is cpu, cuda, cuda: and")), "{error}");
        }
    }
}
