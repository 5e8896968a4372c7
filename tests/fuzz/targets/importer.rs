//! ONNX models: an error or a verified module that the graph passes take, in bounded time and memory.

#![no_main]

use bytes::Bytes;
use graver_ir::Target;
use graver_onnx::{Options, decode, import};
use graver_passes::{Cx, Silent, pipeline, runner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(model) = decode(Bytes::copy_from_slice(data)) else { return };
    let options = Options { name: "fuzzed.onnx".to_owned(), ..Options::default() };
    let Ok(imported) = import(&model, &options) else { return };
    let mut module = imported.module;
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    // The runner verifies after every pass; a program that cannot be is an error, not a panic.
    drop(runner::run(&mut module, pipeline::GRAPH, &mut cx, &mut Silent, None));
});
