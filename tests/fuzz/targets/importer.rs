//! ONNX models: an error or a verified module that the graph passes take, in bounded time and memory.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    graver_fuzz::importer(data);
});
