//! Kernels to shared libraries: many in one invocation of the compiler, cached by their text and their compiler.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use graver_ir::Error;
use graver_ir::kernel::Mode;
use libloading::Library;

use super::Cxx;
use crate::emit::{Emitted, Grid, Phase, hash, stored};
use crate::text::shim_prelude;

/// Kernels in one library.
const BATCH: usize = 40;
/// How much is made of the code.
const LEVEL: &str = "-O1";

/// In which order blocks run, and a block's threads between barriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The first first.
    #[default]
    Ascending,
    /// The last first.
    Descending,
}

/// What a kernel runs over.
pub(super) struct Run<'a> {
    pub(super) pointers: &'a [*mut u8],
    /// In bytes, one a pointer.
    pub(super) lengths: &'a [usize],
    pub(super) sizes: &'a [i64],
    /// One a phase.
    pub(super) grids: &'a [Grid],
    /// The number of the launch in its entry.
    pub(super) launch: u32,
    pub(super) order: Order,
}

/// What kernels leave besides results.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// All ones where nothing failed.
    pub(super) status: u64,
    /// Bytes read of arguments that are only read.
    pub(super) read: u64,
}

impl Told {
    pub(super) const NOTHING: Self = Self { status: u64::MAX, read: 0 };
}

/// `gr_launch` of `text/shim.h`.
#[repr(C)]
struct RawLaunch {
    pointers: *const *mut c_void,
    lengths: *const i64,
    sizes: *const i64,
    status: *mut u64,
    blocks: i64,
    threads: u32,
    launch: u32,
    barriers: u32,
    order: u32,
    dynamic: u32,
    read: *mut u64,
    message: *mut c_char,
}

/// Runs the phase of this number.
type Function = unsafe extern "C" fn(*const RawLaunch, u32);

/// A C++ compiler and what it has compiled.
#[derive(Debug)]
pub(super) struct Compiler {
    cxx: Cxx,
    folder: PathBuf,
    kernels: Mutex<Kernels>,
}

#[derive(Debug, Default)]
struct Kernels {
    /// Texts by name, which are to be compiled.
    pending: BTreeMap<String, String>,
    loaded: BTreeMap<String, Function>,
    /// Never closed before the functions are gone.
    libraries: Vec<Library>,
}

impl Compiler {
    pub(super) fn new(cxx: Cxx, folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|error| file_error(folder, &error))?;
        Ok(Self { cxx, folder: folder.to_owned(), kernels: Mutex::default() })
    }

    fn kernels(&self) -> MutexGuard<'_, Kernels> {
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a kernel compiled before the next run.
    pub(super) fn ask(&self, kernel: &Emitted) {
        let mut kernels = self.kernels();
        if !kernels.loaded.contains_key(&kernel.name) && !kernels.pending.contains_key(&kernel.name) {
            kernels.pending.insert(kernel.name.clone(), kernel.text.clone() + &entry(kernel));
        }
    }

    /// Runs a kernel; gives what the shim found wrong.
    ///
    /// # Safety
    /// Every pointer is to memory of its length, which nothing else uses meanwhile, of the types that the kernel declares.
    pub(super) unsafe fn run(&self, kernel: &Emitted, run: &Run<'_>, told: &mut Told) -> Result<Option<String>, Error> {
        let lengths: Vec<i64> = run.lengths.iter().map(|length| i64::try_from(*length).unwrap_or(i64::MAX)).collect();
        let mut message: [c_char; 256] = [0; 256];
        let function = self.function(&kernel.name)?;
        for (number, (phase, grid)) in (0..).zip(kernel.phases.iter().zip(run.grids)) {
            let launch = RawLaunch {
                pointers: run.pointers.as_ptr().cast(),
                lengths: lengths.as_ptr(),
                sizes: run.sizes.as_ptr(),
                status: &raw mut told.status,
                blocks: i64::try_from(grid.blocks).unwrap_or(i64::MAX),
                threads: phase.threads,
                launch: run.launch,
                barriers: u32::from(phase.barriers),
                order: u32::from(run.order == Order::Descending),
                dynamic: u32::try_from(grid.dynamic).expect("a block's memory"),
                read: &raw mut told.read,
                message: message.as_mut_ptr(),
            };
            // SAFETY: the caller's promise; the message has the room that the shim counts on and ends with a zero.
            unsafe { function(&raw const launch, number) };
        }
        // SAFETY: as above.
        let message = unsafe { CStr::from_ptr(message.as_ptr()) };
        Ok((!message.is_empty()).then(|| message.to_string_lossy().into_owned()))
    }

    fn function(&self, name: &str) -> Result<Function, Error> {
        let mut kernels = self.kernels();
        if !kernels.loaded.contains_key(name) {
            self.compile_pending(&mut kernels)?;
        }
        kernels.loaded.get(name).copied().ok_or_else(|| Error::new(format!("kernel {name} was never asked for")))
    }

    fn compile_pending(&self, kernels: &mut Kernels) -> Result<(), Error> {
        let header = self.header()?;
        self.load_known(kernels, &header)?;
        let pending: Vec<(String, String)> = std::mem::take(&mut kernels.pending).into_iter().collect();
        let batches: Vec<&[(String, String)]> = pending.chunks(BATCH).collect();
        let next = Mutex::new(batches.iter());
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(batches.len());
        let failures: Mutex<Vec<Error>> = Mutex::default();
        let paths: Mutex<Vec<PathBuf>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let batch = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(batch) = batch else { return };
                        match self.library(&header, batch) {
                            Ok(path) => paths.lock().unwrap_or_else(PoisonError::into_inner).push(path),
                            Err(error) => failures.lock().unwrap_or_else(PoisonError::into_inner).push(error),
                        }
                    }
                });
            }
        });
        if let Some(error) = failures.into_inner().unwrap_or_else(PoisonError::into_inner).pop() {
            return Err(error);
        }
        let names: Vec<&str> = pending.iter().map(|(name, _)| name.as_str()).collect();
        paths.into_inner().unwrap_or_else(PoisonError::into_inner).iter().try_for_each(|path| load(kernels, path, &names))
    }

    /// Loads the pending kernels that an earlier run compiled: beside every library is the list of its kernels.
    fn load_known(&self, kernels: &mut Kernels, header: &Path) -> Result<(), Error> {
        let stem = file_stem(header);
        let mut lists: Vec<PathBuf> =
            fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|file| file.path()).collect();
        lists.retain(|path| path.extension().is_some_and(|end| end == "list") && file_stem(path).starts_with(&stem));
        lists.sort();
        for list in lists {
            let text = fs::read_to_string(&list).unwrap_or_default();
            let names: Vec<&str> = text.lines().filter(|name| kernels.pending.contains_key(*name)).collect();
            if !names.is_empty() {
                load(kernels, &list.with_extension("so"), &names)?;
                names.iter().for_each(|name| drop(kernels.pending.remove(*name)));
            }
        }
        Ok(())
    }

    /// Compiles kernels into a program that runs each once over small numbers, a block's threads being threads of the system, under the
    /// thread sanitizer; gives the program.
    #[cfg(test)]
    pub(super) fn racing(&self, kernels: &[Racing<'_>]) -> Result<PathBuf, Error> {
        let texts = kernels.iter().map(|racing| racing.kernel.text.clone() + &entry(racing.kernel));
        let text = shim_prelude() + &texts.collect::<String>() + &racing_main(kernels);
        let base = self.named("race", &text);
        let (source, program) = (base.with_extension("cpp"), base);
        if !program.exists() {
            write(&source, &text)?;
            self.compile(&["-g", "-DGR_RACE", "-fsanitize=thread", "-pthread"], &source, &program)?;
        }
        Ok(program)
    }

    /// The prelude, compiled ahead.
    fn header(&self) -> Result<PathBuf, Error> {
        let (text, path) = (shim_prelude(), self.header_path());
        let compiled = path.with_extension("h.gch");
        if !compiled.exists() {
            write(&path, &text)?;
            self.compile(&["-x", "c++-header"], &path, &compiled)?;
        }
        Ok(path)
    }

    /// Where the prelude is, by whose name everything begins that is compiled after it.
    pub(super) fn header_path(&self) -> PathBuf {
        self.named("prelude", &shim_prelude()).with_extension("h")
    }

    /// A file's name for what this compiler makes of a text.
    fn named(&self, what: &str, text: &str) -> PathBuf {
        self.folder.join(format!("{what}_{:016x}", hash(&format!("{text}\n{LEVEL} {}", self.cxx.identity()))))
    }

    /// The library of some kernels.
    fn library(&self, header: &Path, batch: &[(String, String)]) -> Result<PathBuf, Error> {
        let text: String = batch.iter().map(|(_, text)| text.as_str()).collect();
        let base = self.folder.join(format!("{}_{:016x}", file_stem(header), hash(&text)));
        let (source, library) = (base.with_extension("cpp"), base.with_extension("so"));
        if !library.exists() {
            write(&source, &text)?;
            let header = header.to_string_lossy();
            self.compile(&["-shared", "-include", &header], &source, &library)?;
            let names: String = batch.iter().map(|(name, _)| format!("{name}\n")).collect();
            write(&base.with_extension("list"), &names)?;
        }
        Ok(library)
    }

    /// Compiles one file; the result appears whole or not at all.
    fn compile(&self, how: &[&str], source: &Path, result: &Path) -> Result<(), Error> {
        let unfinished = crate::unfinished(result);
        let mut command = Command::new(self.cxx.command());
        command.args(self.cxx.flags()).arg(LEVEL).args(how).arg(source).arg("-o").arg(&unfinished);
        let output = command.output().map_err(|error| file_error(source, &error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let first: Vec<&str> = said.lines().take(40).collect();
            return Err(Error::new(format!("{} does not compile:\n{}", source.display(), first.join("\n"))));
        }
        fs::rename(&unfinished, result).map_err(|error| file_error(result, &error))
    }
}

/// Loads some kernels of a library.
fn load(kernels: &mut Kernels, path: &Path, names: &[&str]) -> Result<(), Error> {
    // SAFETY: the library is of our own text, and has no initialisers but the C++ library's.
    let library = unsafe { Library::new(path) }.map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
    for name in names {
        // SAFETY: `entry` declares the function so.
        if let Ok(function) = unsafe { library.get::<Function>(format!("run_{name}").as_bytes()) } {
            kernels.loaded.insert((*name).to_owned(), *function);
        }
    }
    kernels.libraries.push(library);
    Ok(())
}

fn file_stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The function by which a kernel is run.
fn entry(kernel: &Emitted) -> String {
    let argument = |(position, (dtype, mode)): (usize, &(graver_ir::DType, Mode))| {
        let constant = if *mode == Mode::Read { "const " } else { "" };
        format!("gr_argument<{constant}{}>(l, {position})", stored(*dtype))
    };
    let args = kernel.args.iter().enumerate().map(argument);
    let sizes = (0..kernel.symbols.len()).map(|position| format!("l->sizes[{position}]"));
    let fixed = [format!("gr_argument<u8>(l, {})", kernel.args.len()), "l->status".to_owned(), "l->launch".to_owned()];
    let all: Vec<String> = args.chain(sizes).chain(fixed).collect();
    let (name, all) = (&kernel.name, all.join(", "));
    let case = |(number, phase): (usize, &Phase)| {
        format!("    if (phase == {number}) gr_run(launch, [](const gr_launch* l) {{ {}({all}); }});\n", phase.name)
    };
    let cases: String = kernel.phases.iter().enumerate().map(case).collect();
    format!("extern \"C\" void run_{name}(const gr_launch* launch, u32 phase) {{\n{cases}}}\n\n")
}

/// Bytes of shared memory that a kernel under the sanitizer is given besides its own.
#[cfg(test)]
const RACING_SHARED: usize = 64 << 10;

/// A kernel that is to be watched.
#[cfg(test)]
pub(super) struct Racing<'a> {
    pub(super) kernel: &'a Emitted,
    /// Of each argument.
    pub(super) elements: Vec<usize>,
    /// Of its symbols.
    pub(super) sizes: Vec<i64>,
}

/// Small numbers that differ, as every type has them: over zeros what is only written where elements differ, as by a sort, never is.
#[cfg(test)]
const FILL: &str = "
template <class T>
static void fill(void* to, i64 count) {
    for (i64 i = 0; i < count; i++) ((T*)to)[i] = gr_put<T>((i32)(i * 7 % 11));
}
";

/// Runs kernels in as many blocks as there is work for on a small machine. An argument has 8 bytes an element, and what is read small
/// numbers.
#[cfg(test)]
fn racing_main(kernels: &[Racing<'_>]) -> String {
    use std::fmt::Write;
    let mut main = FILL.to_owned() + "int main() {\n    u64 status = ~0ull, read = 0;\n    char message[256] = {};\n";
    for Racing { kernel, elements, sizes } in kernels {
        main += "    {\n    std::vector<void*> pointers;\n    std::vector<i64> lengths;\n";
        let sizes: String = sizes.iter().map(|size| format!("{size}, ")).collect();
        writeln!(main, "    const i64 sizes[] = {{{sizes}0}};").expect("a string");
        // A check that fails would end all kernels after it.
        main += "    status = ~0ull;\n";
        for count in elements.iter().copied().chain([1 << 16]) {
            writeln!(main, "    pointers.push_back(calloc({count}, 8));\n    lengths.push_back({count} * 8);").expect("a string");
        }
        for (at, (count, (dtype, mode))) in elements.iter().zip(&kernel.args).enumerate() {
            if *mode != Mode::Write {
                writeln!(main, "    fill<{}>(pointers[{at}], {count});", stored(*dtype)).expect("a string");
            }
        }
        for (number, phase) in kernel.phases.iter().enumerate() {
            let (name, threads) = (&kernel.name, phase.threads);
            let dynamic = phase.granted(super::MOST_SHARED).min(RACING_SHARED);
            write!(
                main,
                "    gr_launch launch{number} = {{pointers.data(), lengths.data(), sizes, &status, 2, {threads}, 0, 1, 0, {dynamic}, &read, message}};\n    \
                 run_{name}(&launch{number}, {number});\n"
            )
            .expect("a string");
        }
        main += "    }\n";
    }
    main += "    fputs(message, stderr);\n    return message[0] ? 1 : 0;\n}\n";
    main
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    crate::write_whole(path, text.as_bytes()).map_err(|error| file_error(path, &error))
}

fn file_error(path: &Path, error: &std::io::Error) -> Error {
    Error::new(format!("{}: {error}", path.display()))
}
