//! The text of graphs: an error, or a module that is printed and read back as itself.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    graver_fuzz::text(data);
});
