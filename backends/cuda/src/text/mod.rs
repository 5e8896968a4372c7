//! The texts around kernels: the machine's names, and what is made of them.

/// The machine's names for NVRTC.
const DEVICE: &str = include_str!("device.cuh");
/// The same names for a C++ compiler.
const SHIM: &str = include_str!("shim.h");
/// What kernels use, in those names.
const COMMON: [&str; 4] =
    [include_str!("types.cuh"), include_str!("math.cuh"), include_str!("random.cuh"), include_str!("reduce.cuh")];

/// What stands before kernels for NVRTC. No header is included: none has to be there.
pub(crate) fn device_prelude() -> String {
    DEVICE.to_owned() + &COMMON.concat()
}

/// What stands before kernels for a C++ compiler.
pub(crate) fn shim_prelude() -> String {
    SHIM.to_owned() + &COMMON.concat()
}
