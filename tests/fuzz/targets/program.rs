//! The text of kernel programs: an error, or a program that is printed and read back as itself.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    graver_fuzz::program(data);
});
