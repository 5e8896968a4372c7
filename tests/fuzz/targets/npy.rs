//! `.npy` files: an error, or an array that is written and read back as itself.

#![no_main]

use graver_data::{Limit, npy};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(array) = npy::read(data, Limit::default()) {
        let mut written = Vec::new();
        // A type that NumPy has not is not written.
        if npy::write(&mut written, &array).is_ok() {
            let again = npy::read(written.as_slice(), Limit::default()).expect("what was written can be read");
            // Bytes, not arrays: NaN is not equal to itself.
            assert_eq!((array.ty(), array.bytes()), (again.ty(), again.bytes()));
        }
    }
});
