//! `.npy` files: an error, or an array that is written and read back as itself.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    graver_fuzz::npy(data);
});
