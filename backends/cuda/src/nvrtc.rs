//! NVRTC: CUDA C++ to machine code of a GPU, in this process, without a GPU or a driver. The library is looked for when it is
//! first needed; that it is not there is an ordinary error.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::Arc;

use graver_ir::Error;
use libloading::Library;

use crate::text::device_prelude;

/// Where the library may be, besides where the system looks.
const FOLDER_VARIABLE: &str = "GRAVER_NVRTC";
/// Its names, newest first.
const NAMES: &[&str] = &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
/// Brings one of a major version of CUDA: of the oldest whose machine code is made, and of the newest.
const SETUP: &str = "backends/cuda/setup-nvrtc.sh";
const OLDEST: i32 = 12;
const NEWEST: i32 = 13;
/// Options of every compilation. Products and sums are fused only where the text says so; what of the prelude a kernel does not call (177) is
/// nobody's business.
const OPTIONS: &[&str] = &["--std=c++17", "--fmad=false", "--ptxas-options=-v", "--diag-suppress=177"];

/// More of them, between spaces: `--generate-line-info` for a profiler or for compute-sanitizer.
const OPTIONS_VARIABLE: &str = "GRAVER_NVRTC_OPTIONS";

type Handle = *mut c_void;
type Create =
    unsafe extern "C" fn(*mut Handle, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char) -> c_int;
type Compile = unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
type Get = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Handle) -> c_int;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;

/// The compiler.
#[derive(Clone, Debug)]
pub struct Nvrtc {
    functions: Arc<Functions>,
    /// Of every compilation, besides the architecture.
    options: Arc<[String]>,
}

#[derive(Debug)]
struct Functions {
    create: Create,
    compile: Compile,
    log_size: Size,
    log: Get,
    cubin_size: Size,
    cubin: Get,
    ptx_size: Size,
    ptx: Get,
    destroy: Destroy,
    version: Version,
    /// Closed after the functions are gone.
    _libraries: Vec<Library>,
}

/// What a compilation gives.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Machine code; nothing of a virtual architecture.
    pub cubin: Vec<u8>,
    /// NVIDIA's portable assembly.
    pub ptx: String,
    /// What the assembler says of each function.
    pub log: String,
}

/// Whether all of some machine code is there, which the driver does not ask: an ELF file ends with one of its tables, of sections or of
/// what is loaded, or later.
#[must_use]
pub fn is_whole(cubin: &[u8]) -> bool {
    let number = |at: usize, bytes: usize| {
        let mut digits = cubin.get(at..at + bytes)?.iter().rev();
        digits.try_fold(0usize, |number, byte| number.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    // Where a table is, the size of an entry, and how many there are, in a 64-bit header: `e_phoff` and `e_shoff`, and what belongs to each.
    let is_there = |offset: usize, size: usize, count: usize| {
        let (offset, entries) = (number(offset, 8)?, number(size, 2)? * number(count, 2)?);
        offset.checked_add(entries).filter(|end| *end <= cubin.len())
    };
    cubin.starts_with(b"\x7fELF") && is_there(0x20, 0x36, 0x38).is_some() && is_there(0x28, 0x3a, 0x3c).is_some()
}

impl Nvrtc {
    /// The library, from the folder that `GRAVER_NVRTC` names, from where `backends/cuda/setup-nvrtc.sh` puts it, or from where
    /// the system looks.
    ///
    /// # Errors
    /// It is in none of these places: which were tried.
    pub fn find() -> Result<Self, Error> {
        Self::find_in(folders(), None)
    }

    /// The first whose machine code a driver of this version of CUDA loads: one of its major version, or of an older one.
    pub(crate) fn find_for(driver: (i32, i32)) -> Result<Self, Error> {
        Self::find_in(folders(), Some(driver))
    }

    /// From some folders, or from where the system looks.
    fn find_in(folders: Vec<PathBuf>, driver: Option<(i32, i32)>) -> Result<Self, Error> {
        let (mut tried, mut newer) = (Vec::new(), None);
        for folder in folders.into_iter().map(Some).chain([None]) {
            for name in NAMES {
                let path = folder.as_ref().map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
                let why = match Self::open(folder.as_ref(), name).map(|found| (found.version(), found)) {
                    Ok((version, _)) if driver.is_some_and(|(major, _)| version.0 > major) => {
                        newer.get_or_insert(version);
                        format!("it is of CUDA {}.{}", version.0, version.1)
                    }
                    Ok((_, found)) => return Ok(found),
                    Err(error) => causes(&error),
                };
                tried.push(format!("{}: {why}", path.display()));
            }
        }
        Err(missing(driver, newer, &tried))
    }

    fn open(folder: Option<&PathBuf>, name: &str) -> Result<Self, libloading::Error> {
        let mut libraries = Vec::new();
        if let Some(folder) = folder {
            // The library asks for its builtins by name, which are found if they are loaded already.
            let builtins = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
            for path in builtins.filter(|path| path.to_string_lossy().contains("libnvrtc-builtins.so")) {
                // SAFETY: NVIDIA's library has no initialiser that asks anything of its caller.
                libraries.push(unsafe { Library::new(path) }?);
            }
        }
        let path = folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
        // SAFETY: as above.
        let library = unsafe { Library::new(path) }?;
        // SAFETY: these are the declarations of `nvrtc.h`, alike in CUDA 12 and 13.
        unsafe {
            Ok(Self {
                options: options(),
                functions: Arc::new(Functions {
                    create: *library.get(b"nvrtcCreateProgram")?,
                    compile: *library.get(b"nvrtcCompileProgram")?,
                    log_size: *library.get(b"nvrtcGetProgramLogSize")?,
                    log: *library.get(b"nvrtcGetProgramLog")?,
                    cubin_size: *library.get(b"nvrtcGetCUBINSize")?,
                    cubin: *library.get(b"nvrtcGetCUBIN")?,
                    ptx_size: *library.get(b"nvrtcGetPTXSize")?,
                    ptx: *library.get(b"nvrtcGetPTX")?,
                    destroy: *library.get(b"nvrtcDestroyProgram")?,
                    version: *library.get(b"nvrtcVersion")?,
                    _libraries: {
                        libraries.push(library);
                        libraries
                    },
                }),
            })
        }
    }

    /// Its version: 13, 0.
    #[must_use]
    pub fn version(&self) -> (i32, i32) {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the function writes two numbers.
        unsafe { (self.functions.version)(&raw mut major, &raw mut minor) };
        (major, minor)
    }

    /// What it is told of every compilation, besides the architecture.
    pub(crate) fn options(&self) -> &[String] {
        &self.options
    }

    /// Compiles kernels that were written in the names of `text/device.cuh`, which is put before them, for an architecture (`sm_90a`).
    ///
    /// # Errors
    /// They do not compile, or there is no such architecture: the compiler's words.
    pub fn compile_kernels(&self, kernels: &str, architecture: &str) -> Result<Compiled, Error> {
        self.compile(&(device_prelude() + kernels), architecture)
    }

    /// Compiles a text for an architecture (`sm_90a`).
    pub(crate) fn compile(&self, text: &str, architecture: &str) -> Result<Compiled, Error> {
        let text = CString::new(text).map_err(|_| Error::new("a kernel's text holds a zero byte"))?;
        let functions = self.functions.as_ref();
        let mut handle: Handle = std::ptr::null_mut();
        // SAFETY: the text outlives the program, which is destroyed below; there are no headers.
        let code = unsafe {
            let (none, name) = (std::ptr::null(), c"kernels.cu".as_ptr());
            (functions.create)(&raw mut handle, text.as_ptr(), name, 0, none, none)
        };
        if code != 0 {
            return Err(Error::new(format!("NVRTC cannot start: error {code}")));
        }
        let mut program = Program { handle, functions, options: &self.options, version: self.version() };
        program.compile(architecture)
    }
}

/// A program of the library's.
struct Program<'a> {
    handle: Handle,
    functions: &'a Functions,
    options: &'a [String],
    version: (i32, i32),
}

impl Program<'_> {
    fn compile(&mut self, architecture: &str) -> Result<Compiled, Error> {
        let option = format!("--gpu-architecture={architecture}");
        let options = self.options.iter().map(String::as_str).chain([option.as_str()]);
        let options: Result<Vec<CString>, _> = options.map(CString::new).collect();
        let options = options.map_err(|_| Error::new(format!("the architecture {architecture:?} holds a zero byte")))?;
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let count = c_int::try_from(pointers.len()).expect("few options");
        // SAFETY: the handle is live, and so are the options.
        let code = unsafe { (self.functions.compile)(self.handle, count, pointers.as_ptr()) };
        let log = self.text("the log", self.functions.log_size, self.functions.log);
        if code != 0 {
            let (major, minor) = self.version;
            let log = log.unwrap_or_else(|error| error.to_string());
            let log = log.trim_end();
            return Err(Error::new(format!(
                "NVRTC {major}.{minor} does not compile kernels for `{architecture}` (such as sm_80, sm_90a): error {code}\n{log}"
            )));
        }
        let ptx = self.text("PTX", self.functions.ptx_size, self.functions.ptx)?;
        Ok(Compiled { cubin: self.bytes("machine code", self.functions.cubin_size, self.functions.cubin)?, ptx, log: log? })
    }

    /// Nothing where there is none: machine code of a virtual architecture.
    fn bytes(&self, what: &str, size: Size, get: Get) -> Result<Vec<u8>, Error> {
        let (major, minor) = self.version;
        let gave = |code: c_int| match code {
            0 => Ok(()),
            code => Err(Error::new(format!("NVRTC {major}.{minor} does not give {what} of what it compiled: error {code}"))),
        };
        let mut bytes = 0;
        // SAFETY: the handle is live, and the pointer a local's.
        gave(unsafe { size(self.handle, &raw mut bytes) })?;
        let mut buffer = vec![0u8; bytes];
        if bytes > 0 {
            // SAFETY: the handle is live, and the function writes as many bytes as the other has said.
            gave(unsafe { get(self.handle, buffer.as_mut_ptr().cast()) })?;
        }
        Ok(buffer)
    }

    fn text(&self, what: &str, size: Size, get: Get) -> Result<String, Error> {
        let bytes = self.bytes(what, size, get)?;
        Ok(CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default())
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is live, and not used again.
        unsafe { (self.functions.destroy)(&raw mut self.handle) };
    }
}

/// What the user is told where there is none for the driver, or none at all.
fn missing(driver: Option<(i32, i32)>, newer: Option<(i32, i32)>, tried: &[String]) -> Error {
    let absent = |setup: &str| {
        let help = format!("install CUDA, or run {setup}, or set {FOLDER_VARIABLE} to its folder");
        ("NVRTC, which compiles kernels for GPUs, is not there".to_owned(), help)
    };
    let (what, help) = match (driver, newer) {
        (Some((of, least)), _) if of < OLDEST => (
            format!("the CUDA driver is of CUDA {of}.{least}, and kernels are made for one of CUDA {OLDEST} at least"),
            "update NVIDIA's driver".to_owned(),
        ),
        (Some((of, least)), Some((major, minor))) => (
            format!(
                "the CUDA driver is of CUDA {of}.{least}, and NVRTC, which compiles kernels, of CUDA {major}.{minor}: a driver does not \
                 load machine code of a newer major version"
            ),
            format!(
                "run {SETUP} {of}, or set {FOLDER_VARIABLE} to the folder of an NVRTC of CUDA {of}, or update NVIDIA's driver to one of \
                 CUDA {major}"
            ),
        ),
        // A newer driver loads what the newest makes.
        (Some((of, _)), None) => absent(&format!("{SETUP} {}", of.min(NEWEST))),
        (None, _) => absent(SETUP),
    };
    Error::new(format!("{what}; {help}. Tried:\n  {}", tried.join("\n  ")))
}

/// An error and what it comes of.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let rest = std::iter::successors(error.source(), |error| error.source());
    rest.fold(error.to_string(), |all, cause| format!("{all}: {cause}"))
}

/// The project's own, and those that the environment adds.
fn options() -> Arc<[String]> {
    let more = std::env::var_os(OPTIONS_VARIABLE).unwrap_or_default();
    OPTIONS.iter().copied().chain(more.to_string_lossy().split_whitespace()).map(str::to_owned).collect()
}

/// Folders that are looked into before the system's.
pub(crate) fn folders() -> Vec<PathBuf> {
    let given = std::env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
    given.into_iter().chain(cache().map(|cache| cache.join("nvrtc"))).collect()
}

/// Where this project keeps what it can make again. Of folders that are not absolute nobody knows where they are.
pub(crate) fn cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
    cache.map(|cache| cache.join("graver"))
}

#[cfg(test)]
mod tests {
    use super::{NAMES, Nvrtc};

    #[test]
    fn what_was_tried_and_why_it_failed_is_told() {
        let folder = std::env::temp_dir().join(format!("graver_nvrtc_{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the system's folder is writable");
        std::fs::write(folder.join(NAMES[0]), "not a library").expect("it can be written");
        let found = Nvrtc::find_in(vec![folder.clone()], None);
        std::fs::remove_dir_all(&folder).expect("it was made above");
        // A machine with CUDA finds it where the system looks.
        let Err(error) = found else { return };
        let said = error.to_string();
        for name in NAMES {
            let line = said.lines().find(|line| line.contains(&format!("{}: ", folder.join(name).display())));
            assert!(line.is_some_and(|line| line.len() > 30 + folder.join(name).as_os_str().len()), "{said}");
        }
    }

    #[test]
    fn an_architecture_that_there_is_not_is_named() {
        let Ok(nvrtc) = Nvrtc::find() else { return };
        for architecture in ["sm_12", "sm_90a\0", "", "--fmad=true"] {
            let said = nvrtc.compile("", architecture).expect_err("there is none").to_string();
            assert!(said.contains("sm_80") || said.contains("zero byte"), "{said}");
        }
    }
}
