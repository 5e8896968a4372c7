//! Safetensors files: an error, or arrays that are written and read back as themselves.

#![no_main]

use graver_runtime::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(read) = Checkpoint::from_bytes(data) {
        let written = read.to_bytes().expect("what was read can be written");
        // Bytes, not arrays: NaN is not equal to itself.
        let again = Checkpoint::from_bytes(&written).expect("what was written can be read");
        assert_eq!(again.to_bytes().expect("it was written before"), written);
    }
});
