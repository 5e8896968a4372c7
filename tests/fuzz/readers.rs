//! What every fuzzer does with its bytes. Each says whether they were taken; what must hold of them is asserted.

use bytes::Bytes;
use graver_data::{Limit, npy};
use graver_hub::Weights;
use graver_ir::{DType, Target, kernel, text as gir};
use graver_onnx::{Options, decode, import};
use graver_passes::{Cx, Silent, pipeline, runner};
use graver_runtime::Checkpoint;

/// ONNX models: an error or a verified module that the graph passes take, in bounded time and memory.
pub fn importer(data: &[u8]) -> bool {
    let Ok(model) = decode(Bytes::copy_from_slice(data)) else { return false };
    let options = Options { name: "fuzzed.onnx".to_owned(), ..Options::default() };
    let Ok(imported) = import(&model, &options) else { return false };
    let mut module = imported.module;
    let mut cx = Cx { target: &Target::generic(), remarks: Vec::new() };
    // The runner verifies after every pass; a program that cannot be is an error, not a panic.
    runner::run(&mut module, pipeline::GRAPH, &mut cx, &mut Silent, None).is_ok()
}

/// The text of graphs: an error, or a module that is printed and read back as itself.
pub fn text(data: &[u8]) -> bool {
    let module = std::str::from_utf8(data).ok().and_then(|source| gir::parse(source).ok());
    module.is_some_and(|module| {
        assert_eq!(gir::parse(&gir::print(&module)).as_ref(), Ok(&module));
        true
    })
}

/// The text of kernel programs: an error, or a program that is printed and read back as itself.
pub fn program(data: &[u8]) -> bool {
    let program = std::str::from_utf8(data).ok().and_then(|source| kernel::text::parse(source).ok());
    program.is_some_and(|program| {
        assert_eq!(kernel::text::parse(&kernel::text::print(&program)).as_ref(), Ok(&program));
        true
    })
}

/// Safetensors files: an error, or arrays that are written and read back as themselves.
pub fn checkpoint(data: &[u8]) -> bool {
    Checkpoint::from_bytes(data).is_ok_and(|read| {
        let written = read.to_bytes().expect("what was read can be written");
        // Bytes, not arrays: NaN is not equal to itself.
        let again = Checkpoint::from_bytes(&written).expect("what was written can be read");
        assert_eq!(again.to_bytes().expect("it was written before"), written);
        true
    })
}

/// A pretrained model's safetensors file: an error, or weights that can all be read.
pub fn weights(data: &[u8]) -> bool {
    let folder = std::env::temp_dir().join(format!("graver-fuzz-weights-{}", std::process::id()));
    let path = folder.join("model.safetensors");
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    // A new file each time: one that is mapped must not change.
    drop(std::fs::remove_file(&path));
    std::fs::write(&path, data).expect("just made");
    Weights::open(&folder).is_ok_and(|weights| {
        let names: Vec<String> = weights.names().map(str::to_owned).collect();
        for name in names {
            for wanted in [DType::F32, DType::BF16, DType::I64] {
                drop(weights.array(&name, wanted));
            }
        }
        true
    })
}

/// `.npy` files: an error, or an array that is written and read back as itself.
pub fn npy(data: &[u8]) -> bool {
    npy::read(data, Limit::default()).is_ok_and(|array| {
        let mut written = Vec::new();
        // A type that NumPy has not is not written.
        if npy::write(&mut written, &array).is_ok() {
            let again = npy::read(written.as_slice(), Limit::default()).expect("what was written can be read");
            // Bytes, not arrays: NaN is not equal to itself.
            assert_eq!((array.ty(), array.bytes()), (again.ty(), again.bytes()));
        }
        true
    })
}
