//! Damaged files of weights: each an error or weights that can be read, never a panic.

use std::collections::BTreeMap;

use graver_hub::Weights;
use graver_ir::{Array, DType};
use graver_runtime::Checkpoint;

/// As many as half a second takes.
const TRIES: usize = 1000;

#[test]
fn a_damaged_file_is_an_error_or_weights() {
    let folder = std::env::temp_dir().join(format!("graver-hub-weights-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let floats = Array::from_vec([2, 3], vec![0.5f32; 6]).expect("as many elements");
    let arrays = BTreeMap::from([("halves".to_owned(), floats.cast(DType::BF16)), ("floats".to_owned(), floats)]);
    let bytes = Checkpoint { arrays, ..Checkpoint::default() }.to_bytes().expect("small");
    // Knuth (1998), "The art of computer programming", volume 2: a linear congruential generator.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let mut wrong = 0;
    for _ in 0..TRIES {
        let mut mutant = bytes.clone();
        for _ in 0..=random(4) {
            let at = random(mutant.len());
            match random(3) {
                0 => mutant.truncate(at.max(1)),
                1 => mutant[at] = u8::try_from(random(256)).expect("a byte"),
                _ => mutant.insert(at, b'0' + u8::try_from(random(10)).expect("a digit")),
            }
        }
        // A new file each time: one that is mapped must not change.
        let path = folder.join("model.safetensors");
        drop(std::fs::remove_file(&path));
        std::fs::write(&path, mutant).expect("it is writable");
        let Ok(weights) = Weights::open(&folder) else {
            wrong += 1;
            continue;
        };
        let names: Vec<String> = weights.names().map(str::to_owned).collect();
        assert!(weights.count() <= bytes.len() * 2);
        for name in names {
            for wanted in [DType::F32, DType::BF16, DType::I64] {
                drop(weights.array(&name, wanted));
            }
        }
    }
    std::fs::remove_dir_all(&folder).expect("it was made here");
    assert!((1..TRIES).contains(&wrong), "{wrong} of {TRIES} are refused");
}
