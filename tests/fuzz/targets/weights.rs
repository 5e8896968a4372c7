//! A pretrained model's safetensors file: an error, or weights that can all be read.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    graver_fuzz::weights(data);
});
