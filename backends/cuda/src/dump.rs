//! A kernel's stages as text, made anew when asked for. No GPU is needed.

use std::path::PathBuf;
use std::process::Command;

use graver_ir::Error;
use graver_ir::kernel::Program;
use graver_runtime::Stage;

use crate::emit::emit;
use crate::nvrtc::{Nvrtc, folders};
use crate::text::device_prelude;

/// The first architecture that has all that kernels use.
const LEAST: u32 = 80;

/// The CUDA C++ of a kernel, `None` if there is no such kernel. It needs nothing but this crate.
#[must_use]
pub fn cuda_text(program: &Program, kernel: usize) -> Option<String> {
    program.kernels.get(kernel).map(|kernel| emit(kernel).text)
}

/// The text of a kernel at a stage for an architecture (`sm_90a`); `None` if there is no such kernel, or the stage is of another machine.
///
/// # Errors
/// NVRTC does not compile the kernel, or there is no disassembler.
pub fn text(program: &Program, kernel: usize, stage: Stage, nvrtc: &Nvrtc, architecture: &str) -> Result<Option<String>, Error> {
    let Some(text) = cuda_text(program, kernel) else { return Ok(None) };
    let compiled = || nvrtc.compile(&(device_prelude() + &text), architecture);
    match stage {
        Stage::Cuda => Ok(Some(text)),
        Stage::Ptx => Ok(Some(compiled()?.ptx)),
        Stage::Sass if is_virtual(architecture) => Err(no_machine(architecture)),
        Stage::Sass => disassemble(&compiled()?.cubin).map(Some),
        Stage::Vector | Stage::Clif | Stage::Asm => Ok(None),
    }
}

/// That NVRTC makes a stage for an architecture, whatever the kernels: what is wrong with the request is told before what is wrong with one.
///
/// ```
/// use graver_cuda::{Nvrtc, check_architecture};
/// use graver_runtime::Stage;
/// // Where there is no NVRTC, that is an error of its own.
/// if let Ok(nvrtc) = Nvrtc::find() {
///     assert!(check_architecture(Stage::Sass, &nvrtc, "sm_90a").is_ok());
///     assert!(check_architecture(Stage::Sass, &nvrtc, "compute_90").is_err());
///     assert!(check_architecture(Stage::Ptx, &nvrtc, "sm_75").is_err());
/// }
/// ```
///
/// # Errors
/// There is no such architecture, this NVRTC does not know it, or it has no machine code.
pub fn check_architecture(stage: Stage, nvrtc: &Nvrtc, architecture: &str) -> Result<(), Error> {
    nvrtc.compile(&device_prelude(), architecture)?;
    let digits: String = architecture.chars().filter(char::is_ascii_digit).collect();
    if digits.parse().is_ok_and(|number: u32| number < LEAST) {
        return Err(Error::new(format!("kernels are made for sm_{LEAST} and what came after it, not for `{architecture}`")));
    }
    if stage == Stage::Sass && is_virtual(architecture) { Err(no_machine(architecture)) } else { Ok(()) }
}

/// Whether it is one for which PTX is made, and no machine code.
fn is_virtual(architecture: &str) -> bool {
    architecture.starts_with("compute_")
}

fn no_machine(architecture: &str) -> Error {
    Error::new(format!("`{architecture}` is no machine; machine code is made for one such as sm_80 or sm_90a"))
}

fn disassemble(cubin: &[u8]) -> Result<String, Error> {
    let path = std::env::temp_dir().join(format!("graver_{}_{:?}.cubin", std::process::id(), std::thread::current().id()));
    crate::write_whole(&path, cubin).map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
    let places = folders().into_iter().map(|folder| folder.join("nvdisasm")).filter(|path| path.exists());
    let command = places.chain([PathBuf::from("nvdisasm")]).next().expect("there is one at least");
    let output = Command::new(&command).arg("--print-code").arg(&path).output();
    // A file that is left behind in the folder for such files harms nobody.
    let _ = std::fs::remove_file(&path);
    let missing = "the disassembler nvdisasm is not there; run backends/cuda/setup-nvrtc.sh, or install CUDA";
    let output = output.map_err(|error| Error::new(format!("{missing}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::new(format!("{}: {}", command.display(), String::from_utf8_lossy(&output.stderr))))
}
