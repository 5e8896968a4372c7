//! A CUDA driver and an NVRTC that need no GPU (`cuda.cpp` over `machine.h`, `nvrtc.cpp`): made once by the system's C++ compiler, found by a test's own
//! process as the real ones are, by their names.

use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use graver_cuda::Cxx;
use libloading::Library;

/// Says in a test's own process where the fake is.
const FOLDER: &str = "FAKE_CUDA";
/// Beside the fake: a driver that lacks `cuGraphInstantiateWithFlags`.
const OLD: &str = "old";
/// Beside the fake: an NVRTC of CUDA 12.
const OLD_NVRTC: &str = "nvrtc12";
const TEXTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../backends/cuda/src/text");
/// What a text for NVRTC begins with, the machine's names being the first of these.
const PRELUDE: [&str; 5] = ["device.cuh", "types.cuh", "math.cuh", "random.cuh", "reduce.cuh"];

/// The driver's functions, all of them: those that its text defines.
pub(crate) fn functions() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("cuda.cpp").lines();
    lines.filter_map(|line| line.strip_prefix("CUresult ")?.split('(').next()).filter(|name| name.starts_with("cu"))
}

/// What the driver did so far, and what of it lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) copied_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) copied_out: u64,
    pub(crate) bytes_out: u64,
    pub(crate) copied_within: u64,
    pub(crate) launches: u64,
    pub(crate) captures: u64,
    pub(crate) replays: u64,
    pub(crate) modules_loaded: u64,
    pub(crate) allocations: u64,
    /// Bytes of shared memory that launches gave.
    pub(crate) granted: u64,
    pub(crate) live: Live,
}

/// What was made and not let go of.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
    pub(crate) pinned: u64,
    pub(crate) streams: u64,
    pub(crate) graphs: u64,
    pub(crate) modules: u64,
    pub(crate) contexts: u64,
}

/// The driver of this process.
pub(crate) struct Driver {
    cuda: Library,
    nvrtc: Library,
    cache: PathBuf,
}

impl Driver {
    fn open() -> Self {
        // SAFETY: the libraries are ours; graver opens them by the same names.
        let open = |name: &str| unsafe { Library::new(name) }.expect("the child's path leads to it");
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).expect("the parent sets it");
        Self { cuda: open("libcuda.so.1"), nvrtc: open("libnvrtc.so.13"), cache }
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        // SAFETY: `cuda.cpp` declares it so.
        unsafe { self.cuda.get::<unsafe extern "C" fn(*mut Counts)>(b"fake_counts").expect("it is there")(&raw mut counts) };
        counts
    }

    /// No more than so many bytes at once from now on.
    pub(crate) fn limit(&self, bytes: u64) {
        // SAFETY: as above.
        unsafe { self.cuda.get::<unsafe extern "C" fn(u64)>(b"fake_limit").expect("it is there")(bytes) };
    }

    /// Another number of GPUs than one: two at most.
    pub(crate) fn gpus(&self, number: i32) {
        // SAFETY: as above.
        unsafe { self.cuda.get::<unsafe extern "C" fn(c_int)>(b"fake_gpus").expect("it is there")(number) };
    }

    /// What the next capture is interrupted by, once it has begun, on the thread that records.
    pub(crate) fn meanwhile(&self, work: extern "C" fn()) {
        // SAFETY: as above.
        unsafe { self.cuda.get::<unsafe extern "C" fn(extern "C" fn())>(b"fake_meanwhile").expect("it is there")(work) };
    }

    /// Another compute capability than 9.0.
    pub(crate) fn capability(&self, major: i32) {
        // SAFETY: as above.
        unsafe { self.cuda.get::<unsafe extern "C" fn(c_int)>(b"fake_capability").expect("it is there")(major) };
    }

    /// Of another CUDA than 13.0: 12040 is 12.4.
    pub(crate) fn version(&self, number: i32) {
        // SAFETY: as above.
        unsafe { self.cuda.get::<unsafe extern "C" fn(c_int)>(b"fake_version").expect("it is there")(number) };
    }

    /// How many failures were asked for and did not come to pass yet.
    pub(crate) fn failures(&self) -> u64 {
        // SAFETY: as above.
        unsafe { self.cuda.get::<unsafe extern "C" fn() -> u64>(b"fake_failures").expect("it is there")() }
    }

    /// One call of a function, after so many more, fails with a code; none any more, with 0.
    pub(crate) fn fail(&self, function: &str, after: u64, code: i32) {
        type Fail = unsafe extern "C" fn(*const c_char, u64, c_int);
        let name = CString::new(function).expect("a word");
        // SAFETY: as above.
        unsafe { self.cuda.get::<Fail>(b"fake_fail").expect("it is there")(name.as_ptr(), after, code) };
    }

    /// All calls of a function fail with a code, until [`Driver::fail`] asks for none.
    pub(crate) fn fail_always(&self, function: &str, code: i32) {
        type Fail = unsafe extern "C" fn(*const c_char, c_int);
        let name = CString::new(function).expect("a word");
        // SAFETY: as above.
        unsafe { self.cuda.get::<Fail>(b"fake_fail_always").expect("it is there")(name.as_ptr(), code) };
    }

    /// A launch, after so many more, reads where there is nothing: told when it is waited for, and of every call from then on.
    pub(crate) fn fault(&self, after: u64) {
        // SAFETY: as above.
        unsafe { self.cuda.get::<unsafe extern "C" fn(u64)>(b"fake_fault").expect("it is there")(after) };
    }

    /// The driver's own functions.
    pub(crate) const fn cuda(&self) -> &Library {
        &self.cuda
    }

    /// Calls of NVRTC so far.
    pub(crate) fn compilations(&self) -> u64 {
        // SAFETY: `nvrtc.cpp` declares it so.
        unsafe { self.nvrtc.get::<unsafe extern "C" fn() -> u64>(b"fake_compilations").expect("it is there")() }
    }

    /// A function of NVRTC's gives this code and does nothing, until it is 0.
    pub(crate) fn fail_nvrtc(&self, function: &str, code: i32) {
        type Fail = unsafe extern "C" fn(*const c_char, c_int);
        let name = CString::new(function).expect("a word");
        // SAFETY: as above.
        unsafe { self.nvrtc.get::<Fail>(b"fake_nvrtc_fail").expect("it is there")(name.as_ptr(), code) };
    }

    /// NVRTC gives no more than so many bytes of machine code.
    pub(crate) fn cut_code(&self, bytes: usize) {
        // SAFETY: as above.
        unsafe { self.nvrtc.get::<unsafe extern "C" fn(usize)>(b"fake_nvrtc_cut").expect("it is there")(bytes) };
    }

    /// Where compiled kernels are kept.
    pub(crate) fn cubins(&self) -> PathBuf {
        self.cache.join("graver/cubin")
    }
}

/// Whether the caller's test keeps compiled kernels for the next run, or begins without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    Kept,
    Fresh,
}

/// What the fake makes of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// Code at once, for tests that have many kernels and few numbers.
    Quickly,
    /// Quick code.
    Quick,
}

/// Runs a test of this name over the fake driver, in a process of its own; afterwards nothing of the driver's may be left.
pub(crate) fn with_driver(test: &str, cache: Cache, body: impl FnOnce(&Driver)) {
    in_a_process(test, cache, |driver| {
        body(driver);
        assert_eq!(driver.counts().live, Live::default(), "something was not let go of");
    });
}

/// Runs a test of this name over the fake driver, in a process of its own.
pub(crate) fn in_a_process(test: &str, cache: Cache, body: impl FnOnce(&Driver)) {
    with_environment(test, cache, &[], body);
}

/// Runs a test of this name over a fake driver that is too old.
pub(crate) fn with_old_driver(test: &str, body: impl FnOnce(&Driver)) {
    // The loader looks from left to right.
    let folder = made(Kernels::Quickly);
    let path = format!("{}:{}", folder.join(OLD).display(), folder.display());
    with_environment(test, Cache::Kept, &[("LD_LIBRARY_PATH", &path)], body);
}

/// Runs a test of this name over the fake driver, with an NVRTC of CUDA 12 beside the one of 13.
pub(crate) fn with_two_nvrtcs(test: &str, body: impl FnOnce(&Driver)) {
    let folder = made(Kernels::Quickly);
    let path = format!("{}:{}", folder.display(), folder.join(OLD_NVRTC).display());
    with_environment(test, Cache::Fresh, &[("LD_LIBRARY_PATH", &path)], body);
}

/// The same, with these variables.
pub(crate) fn with_environment(test: &str, cache: Cache, variables: &[(&str, &str)], body: impl FnOnce(&Driver)) {
    if env::var_os(FOLDER).is_some() {
        return body(&Driver::open());
    }
    let mut child = again(test);
    let folder = equip(&mut child, Kernels::Quickly);
    if cache == Cache::Fresh {
        let own = folder.join(format!("cache_{test}"));
        let _ = fs::remove_dir_all(&own);
        child.env("XDG_CACHE_HOME", own);
    }
    child.envs(variables.iter().copied());
    passes(child);
}

/// Runs a test of this name in a process of its own, which finds a file of the driver's name that is no library.
pub(crate) fn with_broken_driver(test: &str, body: impl FnOnce()) {
    if env::var_os(FOLDER).is_some() {
        return body();
    }
    let (folder, mut child) = (broken(), again(test));
    child.env(FOLDER, &folder).env("LD_LIBRARY_PATH", &folder);
    passes(child);
}

/// A folder with a file of the driver's name that is no library.
pub(crate) fn broken() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken");
    fs::create_dir_all(&folder).expect("the target's folder is writable");
    for name in ["libcuda.so", "libcuda.so.1"] {
        fs::write(folder.join(name), "what is this?").expect("the target's folder is writable");
    }
    folder
}

/// This test's process, for one test.
fn again(test: &str) -> Command {
    let mut child = Command::new(env::current_exe().expect("this test"));
    child.args(["--exact", test, "--nocapture"]);
    child
}

fn passes(mut child: Command) {
    let output = child.output().expect("this test runs again");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Lets a command find the fake driver where it would find NVIDIA's, and keep compiled kernels for the next; gives the fake's folder.
pub(crate) fn equip(command: &mut Command, kernels: Kernels) -> &'static Path {
    let folder = made(kernels);
    command
        .env(FOLDER, folder)
        .env("LD_LIBRARY_PATH", folder)
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env_remove("GRAVER_NVRTC");
    folder
}

/// The folder of the fake, which is made if it is not there yet.
fn made(kernels: Kernels) -> &'static Path {
    static QUICKLY: OnceLock<PathBuf> = OnceLock::new();
    static QUICK: OnceLock<PathBuf> = OnceLock::new();
    let (made, level) = match kernels {
        Kernels::Quickly => (&QUICKLY, "-O0"),
        Kernels::Quick => (&QUICK, "-O2"),
    };
    made.get_or_init(|| {
        let cxx = Cxx::find().expect("there is a C++ compiler");
        let command = format!("{} {} {level}", cxx.command().display(), cxx.flags().join(" "));
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/driver");
        let text = |folder: &str, name: &str| fs::read_to_string(Path::new(folder).join(name)).expect("a file of the project");
        let [device, common @ ..] = PRELUDE.map(|name| text(TEXTS, name));
        let (common, entry) = (common.concat(), text(own, "entry.h"));
        let files = [
            ("device.h", device + &common),
            ("prelude.h", text(TEXTS, "shim.h") + &common + &entry),
            ("machine.h", text(own, "machine.h")),
            ("cuda.cpp", text(own, "cuda.cpp")),
            ("nvrtc.cpp", text(own, "nvrtc.cpp")),
            ("command", command.clone()),
            ("compiler", cxx.identity()),
        ];
        let key = files.iter().fold(0u64, |key, (_, text)| {
            text.bytes().fold(key, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        });
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fake_{key:016x}"));
        if folder.exists() {
            return folder;
        }
        // Made beside, by whoever comes first: it appears whole.
        let unfinished = folder.with_extension(std::process::id().to_string());
        fs::create_dir_all(&unfinished).expect("the target's folder is writable");
        files.iter().for_each(|(name, text)| fs::write(unfinished.join(name), text).expect("the target's folder is writable"));
        let script = format!(
            "{command} -x c++-header prelude.h -o prelude.h.gch && {command} -shared cuda.cpp -o libcuda.so.1 -ldl && \
             {command} -shared nvrtc.cpp -o libnvrtc.so.13 && ln -s libcuda.so.1 libcuda.so && mkdir {OLD} && \
             {command} -DcuGraphInstantiateWithFlags=fake_nothing -shared cuda.cpp -o {OLD}/libcuda.so.1 -ldl && \
             ln -s libcuda.so.1 {OLD}/libcuda.so && mkdir {OLD_NVRTC} && \
             {command} -DFAKE_MAJOR=12 -shared nvrtc.cpp -o {OLD_NVRTC}/libnvrtc.so.12"
        );
        let output = Command::new("sh").args(["-c", &script]).current_dir(&unfinished).output().expect("there is a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if fs::rename(&unfinished, &folder).is_err() {
            fs::remove_dir_all(&unfinished).expect("it was made above");
        }
        folder
    })
}
