//! The text of graphs: an error, or a module that is printed and read back as itself.

#![no_main]

use graver_ir::text::{parse, print};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    if let Ok(module) = parse(source) {
        assert_eq!(parse(&print(&module)).as_ref(), Ok(&module));
    }
});
