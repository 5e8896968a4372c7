//! A pretrained model's safetensors file: an error, or weights that can all be read.

#![no_main]

use graver_hub::Weights;
use graver_ir::DType;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let folder = std::env::temp_dir().join(format!("graver-fuzz-weights-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    std::fs::write(folder.join("model.safetensors"), data).expect("just made");
    if let Ok(weights) = Weights::open(&folder) {
        let names: Vec<String> = weights.names().map(str::to_owned).collect();
        for name in names {
            for wanted in [DType::F32, DType::BF16, DType::I64] {
                drop(weights.array(&name, wanted));
            }
        }
    }
});
