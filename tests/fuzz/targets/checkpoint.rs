//! Safetensors files: an error, or arrays that are written and read back as themselves.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    graver_fuzz::checkpoint(data);
});
