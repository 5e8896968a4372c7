//! A kernel's stages as text, made anew when asked for. No GPU is needed.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use graver_ir::Error;
use graver_ir::kernel::Program;
use graver_runtime::Stage;

use crate::emit::emit;
use crate::nvrtc::{Nvrtc, folders};
use crate::text::device_prelude;

/// The first architecture that has all that kernels use.
const LEAST: u32 = 80;
/// Names of a file that are tried.
const MOST_TAKEN: u32 = 10_000;

/// The CUDA C++ of a kernel, `None` if there is no such kernel. It needs nothing but this crate.
#[must_use]
pub fn cuda_text(program: &Program, kernel: usize) -> Option<String> {
    program.kernels.get(kernel).map(|kernel| emit(kernel).text)
}

/// The CUDA C++ of all kernels, whole: after the names that they use, each text once, behind the kernels that have it. No header is needed: NVRTC
/// takes it as it is.
#[must_use]
pub fn cuda_unit(program: &Program) -> String {
    let mut texts: Vec<(String, String)> = Vec::new();
    for (number, kernel) in program.kernels.iter().enumerate() {
        let (text, name) = (emit(kernel).text, format!("// kernel {number} {}\n", kernel.name));
        match texts.iter_mut().find(|(_, known)| *known == text) {
            Some((names, _)) => *names += &name,
            None => texts.push((name, text)),
        }
    }
    let kernels: String = texts.into_iter().map(|(names, text)| format!("\n{names}{text}")).collect();
    device_prelude() + &kernels
}

/// The text of a kernel at a stage for an architecture (`sm_90a`); `None` if there is no such kernel, or the stage is of another machine.
///
/// # Errors
/// NVRTC does not compile the kernel, or there is no disassembler.
pub fn text(program: &Program, kernel: usize, stage: Stage, nvrtc: &Nvrtc, architecture: &str) -> Result<Option<String>, Error> {
    let Some(text) = cuda_text(program, kernel) else { return Ok(None) };
    let compiled = || nvrtc.compile_kernels(&text, architecture);
    match stage {
        Stage::Cuda => Ok(Some(text)),
        Stage::Ptx => Ok(Some(compiled()?.ptx)),
        Stage::Sass if is_virtual(architecture) => Err(no_machine(architecture)),
        Stage::Sass => disassemble(&compiled()?.cubin).map(Some),
        Stage::Vector | Stage::Clif | Stage::Asm => Ok(None),
    }
}

/// That an architecture's name is one that a stage can be made for, as far as that is known without NVRTC.
///
/// ```
/// use graver_cuda::check_architecture_name;
/// use graver_runtime::Stage;
/// assert!(check_architecture_name(Stage::Sass, "sm_90a").is_ok());
/// assert!(check_architecture_name(Stage::Ptx, "compute_90").is_ok());
/// for (stage, wrong) in [(Stage::Sass, "compute_90"), (Stage::Ptx, "sm_75"), (Stage::Ptx, "hopper")] {
///     assert!(check_architecture_name(stage, wrong).is_err());
/// }
/// ```
///
/// # Errors
/// It is no architecture's name, is older than what kernels need, or has no machine code: what is wrong, and names that are right.
pub fn check_architecture_name(stage: Stage, architecture: &str) -> Result<(), Error> {
    let name = architecture.strip_prefix("sm_").or_else(|| architecture.strip_prefix("compute_"));
    let digits = name.map(|name| name.strip_suffix(['a', 'f']).unwrap_or(name));
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse::<u32>().ok()) {
        None => Err(Error::new(format!("`{architecture}` is no architecture; there are such as sm_80, sm_90a and compute_90"))),
        Some(number) if number < LEAST => {
            Err(Error::new(format!("kernels are made for sm_{LEAST} and what came after it, not for `{architecture}`")))
        }
        Some(_) if stage == Stage::Sass && is_virtual(architecture) => Err(no_machine(architecture)),
        Some(_) => Ok(()),
    }
}

/// That NVRTC makes a stage for an architecture, whatever the kernels: what is wrong with the request is told before what is wrong with one.
///
/// # Errors
/// As [`check_architecture_name`], or this NVRTC does not know it: its words.
pub fn check_architecture(stage: Stage, nvrtc: &Nvrtc, architecture: &str) -> Result<(), Error> {
    check_architecture_name(stage, architecture)?;
    nvrtc.compile(&device_prelude(), architecture).map(drop)
}

/// Whether it is one for which PTX is made, and no machine code.
fn is_virtual(architecture: &str) -> bool {
    architecture.starts_with("compute_")
}

fn no_machine(architecture: &str) -> Error {
    Error::new(format!("`{architecture}` is no machine; machine code is made for one such as sm_80 or sm_90a"))
}

fn disassemble(cubin: &[u8]) -> Result<String, Error> {
    let path = own_file(&std::env::temp_dir(), cubin)?;
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

/// A new file in a folder that may be everybody's: what another has put there, a link among it, is neither followed nor written over.
fn own_file(folder: &Path, bytes: &[u8]) -> Result<PathBuf, Error> {
    for number in 0.. {
        let path = folder.join(format!("graver_{}_{number}.cubin", std::process::id()));
        match File::create_new(&path).and_then(|mut file| file.write_all(bytes)) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < MOST_TAKEN => {}
            Err(error) => return Err(Error::new(format!("{}: {error}", path.display()))),
        }
    }
    unreachable!("the last name is an error")
}

#[cfg(test)]
mod tests {
    use graver_ir::kernel::text;

    use super::{cuda_unit, own_file};
    use crate::nvrtc::Nvrtc;
    use crate::text::device_prelude;

    #[test]
    fn a_unit_is_whole_and_has_every_text_once() {
        let kernel = |number: usize, size: usize| {
            format!(
                "kernel k{number} \"double\" (\n  read p0: f32[{size}],\n  write p1: f32[8],\n) nest [8] {{\n  stage over [0] keep [0] {{\n    \
                 %0: f32 = load p0[a0]\n    %1: f32 = add(%0, %0)\n    store p1[a0] = %1\n  }}\n}}\n\n"
            )
        };
        let program = format!("program 1\n\n{}{}", kernel(0, 8), kernel(1, 9));
        let program = text::parse(&program).unwrap_or_else(|error| panic!("{error}"));
        let unit = cuda_unit(&program);
        let kernels = unit.strip_prefix(&device_prelude()).expect("it begins with what the kernels use");
        assert!(kernels.starts_with("\n// kernel 0 double\n// kernel 1 double\nGR_KERNEL("), "{kernels}");
        assert_eq!(kernels.matches("GR_KERNEL(").count(), 1, "{kernels}");
        let Ok(nvrtc) = Nvrtc::find() else { return };
        let compiled = nvrtc.compile(&unit, "sm_90a").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(compiled.ptx.matches(".visible .entry").count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn a_file_or_a_link_of_another_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("graver_own_file_{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the system's folder is writable");
        let first = own_file(&folder, b"one").expect("it can be written");
        let theirs = folder.join("theirs");
        std::fs::remove_file(&first).expect("it was written");
        std::os::unix::fs::symlink(&theirs, &first).expect("it can be linked");
        let second = own_file(&folder, b"two").expect("it can be written");
        assert!(second != first && !theirs.exists());
        assert_eq!(std::fs::read(&second).expect("it was written"), b"two");
        std::fs::remove_dir_all(&folder).expect("it was made above");
    }
}
