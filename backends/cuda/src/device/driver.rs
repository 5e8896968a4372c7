//! NVIDIA's driver: its functions as `cuda.h` declares them, in a library that is opened when a GPU is first asked for, and looked up there at
//! once. What they return is a number: a newer driver may have errors that nobody here knows, and they are told as they are.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use graver_ir::{Diag, Error};
use libloading::Library;

use crate::nvrtc::causes;

/// An address on a GPU.
pub(super) type Address = u64;
/// A GPU's number.
pub(super) type Ordinal = c_int;
/// A handle of the driver's: of a context, a stream, a module, a function, or a graph.
pub(super) type Handle = *mut c_void;

/// What the driver says of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DriverError(pub(super) c_int);

impl DriverError {
    /// No memory.
    pub(super) const OUT_OF_MEMORY: Self = Self(2);

    /// The driver's words.
    pub(super) fn words(self) -> Option<String> {
        // SAFETY: the driver gives a text of its own, which stays.
        told(|to| unsafe { raw::error_string(self.0, to) })
    }

    /// Its name in `cuda.h`.
    pub(super) fn name(self) -> Option<String> {
        // SAFETY: as above.
        told(|to| unsafe { raw::error_name(self.0, to) })
    }
}

fn told(ask: impl FnOnce(*mut *const c_char) -> Result<(), DriverError>) -> Option<String> {
    let mut text = null();
    ask(&raw mut text).ok().filter(|()| !text.is_null())?;
    // SAFETY: it is a text that ends with a zero.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// As NVIDIA's driver installs it.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

macro_rules! functions {
    ($($symbol:literal $name:ident($($arg:ident: $ty:ty),*);)*) => {
        /// The functions of the CUDA driver that are called.
        pub const DRIVER_FUNCTIONS: &[&str] = &[$($symbol),*];

        #[derive(Debug)]
        struct Functions {
            $($name: unsafe extern "system" fn($($ty),*) -> c_int,)*
            /// Never closed.
            _library: Library,
        }

        impl Functions {
            /// All of them, or the names of those that are not there.
            fn of(library: Library) -> Result<Self, (Library, Vec<&'static str>)> {
                // SAFETY: nothing is called.
                let has = |name: &&str| unsafe { library.get::<unsafe extern "system" fn()>(name.as_bytes()) }.is_ok();
                let missing: Vec<&str> = DRIVER_FUNCTIONS.iter().copied().filter(|name| !has(name)).collect();
                if !missing.is_empty() {
                    return Err((library, missing));
                }
                Ok(Self {
                    $(
                        // SAFETY: `cuda.h` declares it so, in CUDA 12 and 13 alike.
                        $name: *unsafe { library.get($symbol.as_bytes()) }.expect("it was looked up above"),
                    )*
                    _library: library,
                })
            }
        }

        /// The functions as they are.
        #[expect(clippy::too_many_arguments, reason = "`cuLaunchKernel` has them")]
        mod raw {
            use super::*;

            $(
                pub(super) unsafe fn $name($($arg: $ty),*) -> Result<(), DriverError> {
                    let functions = FUNCTIONS.get().expect("a GPU was asked for");
                    // SAFETY: the caller's promise.
                    match unsafe { (functions.$name)($($arg),*) } {
                        0 => Ok(()),
                        code => Err(DriverError(code)),
                    }
                }
            )*
        }
    };
}

functions! {
    "cuInit" init(flags: c_uint);
    "cuDriverGetVersion" driver_version(to: *mut c_int);
    "cuGetErrorString" error_string(code: c_int, to: *mut *const c_char);
    "cuGetErrorName" error_name(code: c_int, to: *mut *const c_char);
    "cuDeviceGetCount" device_count(to: *mut c_int);
    "cuDeviceGet" device(to: *mut Ordinal, ordinal: c_int);
    "cuDeviceGetName" device_name(to: *mut c_char, length: c_int, device: Ordinal);
    "cuDeviceGetAttribute" device_attribute(to: *mut c_int, attribute: c_int, device: Ordinal);
    "cuDevicePrimaryCtxRetain" retain(to: *mut Handle, device: Ordinal);
    "cuDevicePrimaryCtxRelease_v2" release(device: Ordinal);
    "cuCtxSetCurrent" set_current(context: Handle);
    "cuMemAlloc_v2" allocate(to: *mut Address, bytes: usize);
    "cuMemFree_v2" free(address: Address);
    "cuMemGetInfo_v2" memory(left: *mut usize, whole: *mut usize);
    "cuMemHostAlloc" allocate_pinned(to: *mut *mut c_void, bytes: usize, flags: c_uint);
    "cuMemFreeHost" free_pinned(pointer: *mut c_void);
    "cuMemcpyDtoH_v2" copy_out(to: *mut c_void, from: Address, bytes: usize);
    "cuMemcpyHtoDAsync_v2" enqueue_copy_in(to: Address, from: *const c_void, bytes: usize, stream: Handle);
    "cuMemcpyDtoHAsync_v2" enqueue_copy_out(to: *mut c_void, from: Address, bytes: usize, stream: Handle);
    "cuMemcpyDtoDAsync_v2" enqueue_copy_within(to: Address, from: Address, bytes: usize, stream: Handle);
    "cuMemsetD8Async" enqueue_set(to: Address, byte: u8, bytes: usize, stream: Handle);
    "cuModuleLoadData" load_module(to: *mut Handle, image: *const c_void);
    "cuModuleUnload" unload_module(module: Handle);
    "cuModuleGetFunction" function(to: *mut Handle, module: Handle, name: *const c_char);
    "cuFuncSetAttribute" set_function_attribute(function: Handle, attribute: c_int, value: c_int);
    "cuLaunchKernel" launch(
        function: Handle,
        gx: c_uint, gy: c_uint, gz: c_uint, tx: c_uint, ty: c_uint, tz: c_uint,
        shared: c_uint, stream: Handle, parameters: *mut *mut c_void, extra: *mut *mut c_void
    );
    "cuStreamCreate" create_stream(to: *mut Handle, flags: c_uint);
    "cuStreamDestroy_v2" destroy_stream(stream: Handle);
    "cuStreamSynchronize" wait(stream: Handle);
    "cuStreamBeginCapture_v2" begin_capture(stream: Handle, mode: c_int);
    "cuStreamEndCapture" end_capture(stream: Handle, to: *mut Handle);
    "cuGraphInstantiateWithFlags" instantiate(to: *mut Handle, graph: Handle, flags: u64);
    "cuGraphLaunch" launch_graph(instance: Handle, stream: Handle);
    "cuGraphDestroy" destroy_graph(graph: Handle);
    "cuGraphExecDestroy" destroy_instance(instance: Handle);
}

/// Opens the driver's library, unless it is open.
///
/// # Errors
/// There is none, or it lacks a function that will be called.
pub(super) fn open() -> Result<(), Error> {
    if FUNCTIONS.get().is_some() {
        return Ok(());
    }
    // SAFETY: opening NVIDIA's library asks nothing of its caller.
    let library = unsafe { Library::new(LIBRARY) }.map_err(|error| no_driver(&error))?;
    let functions = Functions::of(library).map_err(|(library, missing)| too_old(&library, &missing))?;
    // Of two threads that open it at once either has the same.
    let _ = FUNCTIONS.set(functions);
    Ok(())
}

/// What the user is told where there is no driver.
fn no_driver(error: &libloading::Error) -> Error {
    let path = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let path = if path.is_empty() { "LD_LIBRARY_PATH is not set".to_owned() } else { format!("LD_LIBRARY_PATH is {path}") };
    let device = if std::path::Path::new("/dev/nvidiactl").exists() { "is there" } else { "is not there" };
    Error::new(format!(
        "there is no CUDA: the driver's library cannot be loaded ({}; {path}), and the device /dev/nvidiactl {device}; \
         install NVIDIA's driver, or use another device",
        causes(error)
    ))
}

/// What the user is told where functions are missing.
fn too_old(library: &Library, missing: &[&str]) -> Diag {
    type Tell = unsafe extern "system" fn(*mut c_int) -> c_int;
    let mut version = 0;
    // SAFETY: `cuda.h` declares it so.
    let tell = unsafe { library.get::<Tell>(b"cuDriverGetVersion") };
    // SAFETY: the pointer is a local's.
    let version = match tell.map(|tell| unsafe { tell(&raw mut version) }) {
        Ok(0) => format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
        Ok(_) | Err(_) => "a version that it does not tell".to_owned(),
    };
    let missing = missing.join(", ");
    Diag::new(format!("the CUDA driver is too old: it is of {version}, and lacks {missing}")).help("update NVIDIA's driver")
}

/// What a call writes to a place that it is given.
fn given<T>(begin: T, ask: impl FnOnce(*mut T) -> Result<(), DriverError>) -> Result<T, DriverError> {
    let mut value = begin;
    ask(&raw mut value)?;
    Ok(value)
}

/// The version of CUDA that it is of: 13, 0.
pub(super) fn version() -> Result<(c_int, c_int), DriverError> {
    // SAFETY: the pointer is a local's.
    let version = given(0, |to| unsafe { raw::driver_version(to) })?;
    Ok((version / 1000, version % 1000 / 10))
}

/// Starts it.
pub(super) fn init() -> Result<(), DriverError> {
    // SAFETY: there are no flags.
    unsafe { raw::init(0) }
}

/// How many GPUs there are.
pub(super) fn device_count() -> Result<c_int, DriverError> {
    // SAFETY: the pointer is a local's.
    given(0, |to| unsafe { raw::device_count(to) })
}

/// A GPU.
pub(super) fn device(ordinal: c_int) -> Result<Ordinal, DriverError> {
    // SAFETY: the pointer is a local's.
    given(0, |to| unsafe { raw::device(to, ordinal) })
}

/// A GPU's name.
pub(super) fn device_name(device: Ordinal) -> Result<String, DriverError> {
    let mut name = [0u8; 128];
    let length = c_int::try_from(name.len() - 1).expect("short");
    // SAFETY: the text has room for so many bytes, and for the zero that it ends with.
    unsafe { raw::device_name(name.as_mut_ptr().cast(), length, device) }?;
    Ok(CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned())
}

/// What is asked of a GPU, by its number in `cuda.h`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attribute {
    Multiprocessors = 16,
    CapabilityMajor = 75,
    CapabilityMinor = 76,
    /// Bytes that a block may have where it is asked for.
    MostShared = 97,
}

pub(super) fn device_attribute(device: Ordinal, attribute: Attribute) -> Result<c_int, DriverError> {
    // SAFETY: the pointer is a local's.
    given(0, |to| unsafe { raw::device_attribute(to, attribute as c_int, device) })
}

/// A GPU's primary context, to be released as often.
pub(super) fn retain(device: Ordinal) -> Result<Handle, DriverError> {
    // SAFETY: the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::retain(to, device) })
}

/// # Safety
/// It was retained, and nobody uses what is in it any more.
pub(super) unsafe fn release(device: Ordinal) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::release(device) }
}

/// # Safety
/// The context is retained.
pub(super) unsafe fn set_current(context: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::set_current(context) }
}

/// Memory of the GPU whose context is this thread's, which holds whatever it holds.
pub(super) fn allocate(bytes: usize) -> Result<Address, DriverError> {
    // SAFETY: the pointer is a local's.
    given(0, |to| unsafe { raw::allocate(to, bytes) })
}

/// # Safety
/// It was allocated, and nothing uses it any more.
pub(super) unsafe fn free(address: Address) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::free(address) }
}

/// Bytes that are left, and all of them.
pub(super) fn memory() -> Result<(usize, usize), DriverError> {
    let mut whole = 0;
    // SAFETY: the pointers are locals'.
    let left = given(0, |to| unsafe { raw::memory(to, &raw mut whole) })?;
    Ok((left, whole))
}

/// Memory of the host that the GPU copies from and to.
pub(super) fn allocate_pinned(bytes: usize) -> Result<*mut c_void, DriverError> {
    // SAFETY: the pointer is a local's; there are no flags.
    given(null_mut(), |to| unsafe { raw::allocate_pinned(to, bytes, 0) })
}

/// # Safety
/// It was allocated so, and nothing uses it any more.
pub(super) unsafe fn free_pinned(pointer: *mut c_void) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::free_pinned(pointer) }
}

/// To the host, until it is done.
///
/// # Safety
/// There are as many bytes, and work over them was waited for.
pub(super) unsafe fn copy_out(to: &mut [u8], from: Address) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::copy_out(to.as_mut_ptr().cast(), from, to.len()) }
}

/// # Safety
/// There is room for as many bytes; both sides are there, and nothing else touches them, until the stream was waited for.
pub(super) unsafe fn enqueue_copy_in(to: Address, from: &[u8], stream: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::enqueue_copy_in(to, from.as_ptr().cast(), from.len(), stream) }
}

/// # Safety
/// There are as many bytes; both sides are there, and nothing else touches them, until the stream was waited for.
pub(super) unsafe fn enqueue_copy_out(to: &mut [u8], from: Address, stream: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::enqueue_copy_out(to.as_mut_ptr().cast(), from, to.len(), stream) }
}

/// # Safety
/// Both sides have so many bytes, and are there until the stream was waited for.
pub(super) unsafe fn enqueue_copy_within(to: Address, from: Address, bytes: usize, stream: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::enqueue_copy_within(to, from, bytes, stream) }
}

/// # Safety
/// There are so many bytes, until the stream was waited for.
pub(super) unsafe fn enqueue_set(to: Address, byte: u8, bytes: usize, stream: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::enqueue_set(to, byte, bytes, stream) }
}

/// # Safety
/// The image is machine code, whole.
pub(super) unsafe fn load_module(image: &[u8]) -> Result<Handle, DriverError> {
    // SAFETY: the caller's promise; the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::load_module(to, image.as_ptr().cast()) })
}

/// # Safety
/// It is loaded, and nobody uses its functions any more.
pub(super) unsafe fn unload_module(module: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::unload_module(module) }
}

/// # Safety
/// The module is loaded.
pub(super) unsafe fn function(module: Handle, name: &str) -> Result<Handle, DriverError> {
    let name = CString::new(name).expect("names are words");
    // SAFETY: the caller's promise; the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::function(to, module, name.as_ptr()) })
}

/// Lets launches of a function give it so many bytes of shared memory.
///
/// # Safety
/// The function's module is loaded.
pub(super) unsafe fn grant(function: Handle, bytes: c_int) -> Result<(), DriverError> {
    /// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
    const MOST_DYNAMIC: c_int = 8;
    // SAFETY: the caller's promise.
    unsafe { raw::set_function_attribute(function, MOST_DYNAMIC, bytes) }
}

/// So many blocks of so many threads, with so many bytes of shared memory.
///
/// # Safety
/// The parameters are those that the function declares; what they lead to is there until the stream was waited for.
pub(super) unsafe fn launch(
    function: Handle,
    (blocks, threads, shared): (c_uint, c_uint, c_uint),
    stream: Handle,
    parameters: &mut [*mut c_void],
) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::launch(function, blocks, 1, 1, threads, 1, 1, shared, stream, parameters.as_mut_ptr(), null_mut()) }
}

/// A stream that does not wait for the null stream.
pub(super) fn create_stream() -> Result<Handle, DriverError> {
    /// `CU_STREAM_NON_BLOCKING`.
    const NON_BLOCKING: c_uint = 1;
    // SAFETY: the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::create_stream(to, NON_BLOCKING) })
}

/// # Safety
/// It was created, and nobody uses it any more.
pub(super) unsafe fn destroy_stream(stream: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::destroy_stream(stream) }
}

/// Until all of a stream is done.
///
/// # Safety
/// It lives.
pub(super) unsafe fn wait(stream: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::wait(stream) }
}

/// Records what is put on a stream from now on. Other threads may do what they like meanwhile.
///
/// # Safety
/// It lives, and records nothing.
pub(super) unsafe fn begin_capture(stream: Handle) -> Result<(), DriverError> {
    /// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`.
    const THREAD_LOCAL: c_int = 1;
    // SAFETY: the caller's promise.
    unsafe { raw::begin_capture(stream, THREAD_LOCAL) }
}

/// What was recorded.
///
/// # Safety
/// The stream records.
pub(super) unsafe fn end_capture(stream: Handle) -> Result<Handle, DriverError> {
    // SAFETY: the caller's promise; the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::end_capture(stream, to) })
}

/// A graph that can be launched.
///
/// # Safety
/// It is one that was recorded.
pub(super) unsafe fn instantiate(graph: Handle) -> Result<Handle, DriverError> {
    // SAFETY: the caller's promise; the pointer is a local's, and there are no flags.
    given(null_mut(), |to| unsafe { raw::instantiate(to, graph, 0) })
}

/// # Safety
/// Both live, and what was recorded may be done again.
pub(super) unsafe fn launch_graph(instance: Handle, stream: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::launch_graph(instance, stream) }
}

/// # Safety
/// It was recorded, and nobody uses it any more.
pub(super) unsafe fn destroy_graph(graph: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::destroy_graph(graph) }
}

/// # Safety
/// It was made, and is not running.
pub(super) unsafe fn destroy_instance(instance: Handle) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::destroy_instance(instance) }
}
