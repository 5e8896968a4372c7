//! The text of kernel programs: an error, or a program that is printed and read back as itself.

#![no_main]

use graver_ir::kernel::text::{parse, print};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    if let Ok(program) = parse(source) {
        assert_eq!(parse(&print(&program)).as_ref(), Ok(&program));
    }
});
