//! NVIDIA's driver: its types, constants and functions as cudarc declares them, in a library that is opened when a GPU is first asked for, and
//! looked up there at once. What they return is a number here: a newer driver may have errors that nobody knows, which cudarc's enum of them
//! cannot hold, and they are told as they are.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use cudarc::driver::sys::{
    self, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUfunction, CUfunction_attribute, CUgraph, CUgraphExec, CUmodule,
    CUresult, CUstream, CUstream_flags, CUstreamCaptureMode,
};
use graver_ir::{Diag, Error};
use libloading::Library;

use crate::nvrtc::causes;

/// What the driver says of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DriverError(pub(super) c_int);

impl DriverError {
    /// Whether it is this one.
    pub(super) fn is(self, known: CUresult) -> bool {
        self.0 == known as c_int
    }

    /// The driver's words.
    pub(super) fn words(self) -> Option<String> {
        // SAFETY: the driver gives a text of its own, which stays.
        told(|to| unsafe { raw::cuGetErrorString(self.0, to) })
    }

    /// Its name in `cuda.h`.
    pub(super) fn name(self) -> Option<String> {
        // SAFETY: as above.
        told(|to| unsafe { raw::cuGetErrorName(self.0, to) })
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
const SUCCESS: c_int = CUresult::CUDA_SUCCESS as c_int;

static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

/// The type that cudarc gives a parameter, where it is another one than that it is called with.
macro_rules! declared {
    ($ty:ty) => {
        $ty
    };
    ($ty:ty as $declared:ty) => {
        $declared
    };
}

macro_rules! functions {
    ($($name:ident($($arg:ident: $ty:ty $(as $declared:ty)?),*);)*) => {
        /// The functions of the CUDA driver that are called.
        pub const DRIVER_FUNCTIONS: &[&str] = &[$(stringify!($name)),*];

        // Each is as cudarc declares it, or this does not compile.
        $(const _: unsafe fn($(declared!($ty $(as $declared)?)),*) -> CUresult = sys::$name;)*

        #[derive(Debug)]
        #[expect(non_snake_case, reason = "`cuda.h` calls them so")]
        struct Functions {
            $($name: unsafe extern "C" fn($($ty),*) -> c_int,)*
            /// Never closed.
            _library: Library,
        }

        impl Functions {
            /// All of them, or the names of those that are not there.
            fn of(library: Library) -> Result<Self, (Library, Vec<&'static str>)> {
                // SAFETY: nothing is called.
                let has = |name: &&str| unsafe { library.get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_ok();
                let missing: Vec<&str> = DRIVER_FUNCTIONS.iter().copied().filter(|name| !has(name)).collect();
                if !missing.is_empty() {
                    return Err((library, missing));
                }
                Ok(Self {
                    $(
                        // SAFETY: cudarc declares it so, for CUDA 12 and 13 alike, but for codes, which are as large.
                        $name: *unsafe { library.get(stringify!($name).as_bytes()) }.expect("it was looked up above"),
                    )*
                    _library: library,
                })
            }
        }

        /// The functions as they are.
        #[expect(non_snake_case, reason = "`cuda.h` calls them so")]
        #[expect(clippy::too_many_arguments, reason = "`cuLaunchKernel` has them")]
        mod raw {
            use super::*;

            $(
                pub(super) unsafe fn $name($($arg: $ty),*) -> Result<(), DriverError> {
                    let functions = FUNCTIONS.get().expect("a GPU was asked for");
                    // SAFETY: the caller's promise.
                    match unsafe { (functions.$name)($($arg),*) } {
                        SUCCESS => Ok(()),
                        code => Err(DriverError(code)),
                    }
                }
            )*
        }
    };
}

functions! {
    cuInit(flags: c_uint);
    cuDriverGetVersion(to: *mut c_int);
    cuGetErrorString(code: c_int as CUresult, to: *mut *const c_char);
    cuGetErrorName(code: c_int as CUresult, to: *mut *const c_char);
    cuDeviceGetCount(to: *mut c_int);
    cuDeviceGet(to: *mut CUdevice, ordinal: c_int);
    cuDeviceGetName(to: *mut c_char, length: c_int, device: CUdevice);
    cuDeviceGetAttribute(to: *mut c_int, attribute: CUdevice_attribute, device: CUdevice);
    cuDevicePrimaryCtxRetain(to: *mut CUcontext, device: CUdevice);
    cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    cuCtxSetCurrent(context: CUcontext);
    cuMemAlloc_v2(to: *mut CUdeviceptr, bytes: usize);
    cuMemFree_v2(address: CUdeviceptr);
    cuMemGetInfo_v2(left: *mut usize, whole: *mut usize);
    cuMemHostAlloc(to: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemFreeHost(pointer: *mut c_void);
    cuMemcpyDtoH_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize);
    cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoDAsync_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemsetD8Async(to: CUdeviceptr, byte: u8, bytes: usize, stream: CUstream);
    cuModuleLoadData(to: *mut CUmodule, image: *const c_void);
    cuModuleUnload(module: CUmodule);
    cuModuleGetFunction(to: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuFuncSetAttribute(function: CUfunction, attribute: CUfunction_attribute, value: c_int);
    cuLaunchKernel(
        function: CUfunction,
        gx: c_uint, gy: c_uint, gz: c_uint, tx: c_uint, ty: c_uint, tz: c_uint,
        shared: c_uint, stream: CUstream, parameters: *mut *mut c_void, extra: *mut *mut c_void
    );
    cuStreamCreate(to: *mut CUstream, flags: c_uint);
    cuStreamDestroy_v2(stream: CUstream);
    cuStreamSynchronize(stream: CUstream);
    cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode);
    cuStreamEndCapture(stream: CUstream, to: *mut CUgraph);
    cuGraphInstantiateWithFlags(to: *mut CUgraphExec, graph: CUgraph, flags: c_ulonglong);
    cuGraphLaunch(instance: CUgraphExec, stream: CUstream);
    cuGraphDestroy(graph: CUgraph);
    cuGraphExecDestroy(instance: CUgraphExec);
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
    type Tell = unsafe extern "C" fn(*mut c_int) -> c_int;
    let mut version = 0;
    // SAFETY: it is as in the table above.
    let tell = unsafe { library.get::<Tell>(b"cuDriverGetVersion") };
    // SAFETY: the pointer is a local's.
    let version = match tell.map(|tell| unsafe { tell(&raw mut version) }) {
        Ok(SUCCESS) => format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
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
    let version = given(0, |to| unsafe { raw::cuDriverGetVersion(to) })?;
    Ok((version / 1000, version % 1000 / 10))
}

/// Starts it.
pub(super) fn init() -> Result<(), DriverError> {
    // SAFETY: there are no flags.
    unsafe { raw::cuInit(0) }
}

/// How many GPUs there are.
pub(super) fn device_count() -> Result<c_int, DriverError> {
    // SAFETY: the pointer is a local's.
    given(0, |to| unsafe { raw::cuDeviceGetCount(to) })
}

/// A GPU.
pub(super) fn device(ordinal: c_int) -> Result<CUdevice, DriverError> {
    // SAFETY: the pointer is a local's.
    given(0, |to| unsafe { raw::cuDeviceGet(to, ordinal) })
}

/// A GPU's name.
pub(super) fn device_name(device: CUdevice) -> Result<String, DriverError> {
    let mut name = [0u8; 128];
    let length = c_int::try_from(name.len() - 1).expect("short");
    // SAFETY: the text has room for so many bytes, and for the zero that it ends with.
    unsafe { raw::cuDeviceGetName(name.as_mut_ptr().cast(), length, device) }?;
    Ok(CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned())
}

pub(super) fn device_attribute(device: CUdevice, attribute: CUdevice_attribute) -> Result<c_int, DriverError> {
    // SAFETY: the pointer is a local's.
    given(0, |to| unsafe { raw::cuDeviceGetAttribute(to, attribute, device) })
}

/// A GPU's primary context, to be released as often.
pub(super) fn retain(device: CUdevice) -> Result<CUcontext, DriverError> {
    // SAFETY: the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::cuDevicePrimaryCtxRetain(to, device) })
}

/// # Safety
/// It was retained, and nobody uses what is in it any more.
pub(super) unsafe fn release(device: CUdevice) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuDevicePrimaryCtxRelease_v2(device) }
}

/// # Safety
/// The context is retained.
pub(super) unsafe fn set_current(context: CUcontext) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuCtxSetCurrent(context) }
}

/// Memory of the GPU whose context is this thread's, which holds whatever it holds.
pub(super) fn allocate(bytes: usize) -> Result<CUdeviceptr, DriverError> {
    // SAFETY: the pointer is a local's.
    given(0, |to| unsafe { raw::cuMemAlloc_v2(to, bytes) })
}

/// # Safety
/// It was allocated, and nothing uses it any more.
pub(super) unsafe fn free(address: CUdeviceptr) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuMemFree_v2(address) }
}

/// Bytes that are left, and all of them.
pub(super) fn memory() -> Result<(usize, usize), DriverError> {
    let mut whole = 0;
    // SAFETY: the pointers are locals'.
    let left = given(0, |to| unsafe { raw::cuMemGetInfo_v2(to, &raw mut whole) })?;
    Ok((left, whole))
}

/// Memory of the host that the GPU copies from and to.
pub(super) fn allocate_pinned(bytes: usize) -> Result<*mut c_void, DriverError> {
    // SAFETY: the pointer is a local's; there are no flags.
    given(null_mut(), |to| unsafe { raw::cuMemHostAlloc(to, bytes, 0) })
}

/// # Safety
/// It was allocated so, and nothing uses it any more.
pub(super) unsafe fn free_pinned(pointer: *mut c_void) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuMemFreeHost(pointer) }
}

/// To the host, until it is done.
///
/// # Safety
/// There are as many bytes, and work over them was waited for.
pub(super) unsafe fn copy_out(to: &mut [u8], from: CUdeviceptr) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuMemcpyDtoH_v2(to.as_mut_ptr().cast(), from, to.len()) }
}

/// # Safety
/// There is room for as many bytes; both sides are there, and nothing else touches them, until the stream was waited for.
pub(super) unsafe fn enqueue_copy_in(to: CUdeviceptr, from: &[u8], stream: CUstream) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), stream) }
}

/// # Safety
/// There are as many bytes; both sides are there, and nothing else touches them, until the stream was waited for.
pub(super) unsafe fn enqueue_copy_out(to: &mut [u8], from: CUdeviceptr, stream: CUstream) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), stream) }
}

/// # Safety
/// Both sides have so many bytes, and are there until the stream was waited for.
pub(super) unsafe fn enqueue_copy_within(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuMemcpyDtoDAsync_v2(to, from, bytes, stream) }
}

/// # Safety
/// There are so many bytes, until the stream was waited for.
pub(super) unsafe fn enqueue_set(to: CUdeviceptr, byte: u8, bytes: usize, stream: CUstream) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuMemsetD8Async(to, byte, bytes, stream) }
}

/// # Safety
/// The image is machine code, whole.
pub(super) unsafe fn load_module(image: &[u8]) -> Result<CUmodule, DriverError> {
    // SAFETY: the caller's promise; the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::cuModuleLoadData(to, image.as_ptr().cast()) })
}

/// # Safety
/// It is loaded, and nobody uses its functions any more.
pub(super) unsafe fn unload_module(module: CUmodule) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuModuleUnload(module) }
}

/// # Safety
/// The module is loaded.
pub(super) unsafe fn function(module: CUmodule, name: &str) -> Result<CUfunction, DriverError> {
    let name = CString::new(name).expect("names are words");
    // SAFETY: the caller's promise; the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::cuModuleGetFunction(to, module, name.as_ptr()) })
}

/// Lets launches of a function give it so many bytes of shared memory.
///
/// # Safety
/// The function's module is loaded.
pub(super) unsafe fn grant(function: CUfunction, bytes: c_int) -> Result<(), DriverError> {
    const MOST_DYNAMIC: CUfunction_attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: the caller's promise.
    unsafe { raw::cuFuncSetAttribute(function, MOST_DYNAMIC, bytes) }
}

/// So many blocks of so many threads, with so many bytes of shared memory.
///
/// # Safety
/// The parameters are those that the function declares; what they lead to is there until the stream was waited for.
pub(super) unsafe fn launch(
    function: CUfunction,
    (blocks, threads, shared): (c_uint, c_uint, c_uint),
    stream: CUstream,
    parameters: &mut [*mut c_void],
) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared, stream, parameters.as_mut_ptr(), null_mut()) }
}

/// A stream that does not wait for the null stream.
pub(super) fn create_stream() -> Result<CUstream, DriverError> {
    const NON_BLOCKING: c_uint = CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint;
    // SAFETY: the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::cuStreamCreate(to, NON_BLOCKING) })
}

/// # Safety
/// It was created, and nobody uses it any more.
pub(super) unsafe fn destroy_stream(stream: CUstream) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuStreamDestroy_v2(stream) }
}

/// Until all of a stream is done.
///
/// # Safety
/// It lives.
pub(super) unsafe fn wait(stream: CUstream) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuStreamSynchronize(stream) }
}

/// Records what is put on a stream from now on. Other threads may do what they like meanwhile.
///
/// # Safety
/// It lives, and records nothing.
pub(super) unsafe fn begin_capture(stream: CUstream) -> Result<(), DriverError> {
    const THREAD_LOCAL: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    // SAFETY: the caller's promise.
    unsafe { raw::cuStreamBeginCapture_v2(stream, THREAD_LOCAL) }
}

/// What was recorded.
///
/// # Safety
/// The stream records.
pub(super) unsafe fn end_capture(stream: CUstream) -> Result<CUgraph, DriverError> {
    // SAFETY: the caller's promise; the pointer is a local's.
    given(null_mut(), |to| unsafe { raw::cuStreamEndCapture(stream, to) })
}

/// A graph that can be launched.
///
/// # Safety
/// It is one that was recorded.
pub(super) unsafe fn instantiate(graph: CUgraph) -> Result<CUgraphExec, DriverError> {
    // SAFETY: the caller's promise; the pointer is a local's, and there are no flags.
    given(null_mut(), |to| unsafe { raw::cuGraphInstantiateWithFlags(to, graph, 0) })
}

/// # Safety
/// Both live, and what was recorded may be done again.
pub(super) unsafe fn launch_graph(instance: CUgraphExec, stream: CUstream) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuGraphLaunch(instance, stream) }
}

/// # Safety
/// It was recorded, and nobody uses it any more.
pub(super) unsafe fn destroy_graph(graph: CUgraph) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuGraphDestroy(graph) }
}

/// # Safety
/// It was made, and is not running.
pub(super) unsafe fn destroy_instance(instance: CUgraphExec) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe { raw::cuGraphExecDestroy(instance) }
}
