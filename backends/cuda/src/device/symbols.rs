//! The driver's functions by name. The bindings look each up when it is first called, and panic where there is none: all are looked up
//! when a GPU is asked for.

use std::ffi::c_int;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys;
use graver_ir::Diag;

/// The functions of the CUDA driver that are called.
pub const DRIVER_FUNCTIONS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorString",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemcpyDtoH_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
];

/// That the driver, whose library is there, has all of them.
pub(super) fn check() -> Result<(), Diag> {
    // SAFETY: opening NVIDIA's library asks nothing of its caller, and it is there.
    let library = unsafe { sys::culib() };
    // SAFETY: nothing is called.
    let has = |name: &str| unsafe { library.get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_ok();
    let missing: Vec<&str> = DRIVER_FUNCTIONS.iter().copied().filter(|name| !has(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let version = Some(()).filter(|()| has("cuDriverGetVersion")).and_then(|()| version().ok());
    let version = version
        .map_or_else(|| "a version that it does not tell".to_owned(), |(major, minor)| format!("CUDA {major}.{minor}"));
    let missing = missing.join(", ");
    Err(Diag::new(format!("the CUDA driver is too old: it is of {version}, and lacks {missing}")).help("update NVIDIA's driver"))
}

/// The version of CUDA that the driver is of: 13, 0. The function is there.
pub(super) fn version() -> Result<(c_int, c_int), DriverError> {
    let mut version: c_int = 0;
    // SAFETY: the pointer is a local's.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok((version / 1000, version % 1000 / 10))
}
