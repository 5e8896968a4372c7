//! Models of one node each, with operands and attributes by chance: each an error or a module, never a panic.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use graver_ir::{Array, DType};
use graver_onnx::proto::{AttributeProto, ModelProto, TensorProto};
use graver_onnx::{import, import_for};

use crate::common::{Size, graph, input, model, node, options};

/// As many as a second takes.
const MODELS: usize = 6000;

/// Every operation, from the page that a test holds.
const PAGE: &str = include_str!("../../../../docs/onnx-ops.md");

const INTS: [&str; 48] = [
    "align_corners",
    "allowzero",
    "axis",
    "batch_axis",
    "batch_dims",
    "block_size",
    "blocksize",
    "ceil_mode",
    "count_include_pad",
    "dtype",
    "end",
    "exclude_outside",
    "exclusive",
    "group",
    "hidden_size",
    "ignore_index",
    "interleaved",
    "inverse",
    "is_causal",
    "k",
    "keepdims",
    "kv_num_heads",
    "layout",
    "left_window_size",
    "linear_before_reset",
    "max_skip_count",
    "noop_with_empty_axes",
    "num_groups",
    "num_heads",
    "num_outputs",
    "offset_group",
    "onesided",
    "output_dtype",
    "output_height",
    "output_width",
    "p",
    "q_num_heads",
    "right_window_size",
    "rotary_embedding_dim",
    "sampling_ratio",
    "select_last_index",
    "size",
    "start",
    "storage_order",
    "time_axis",
    "to",
    "training_mode",
    "transA",
];
const LISTS: [&str; 15] = [
    "axes",
    "dilations",
    "kernel_shape",
    "ngram_counts",
    "ngram_indexes",
    "output_padding",
    "output_shape",
    "pads",
    "perm",
    "pool_int64s",
    "shape",
    "split",
    "strides",
    "value_ints",
    "value_int",
];
const FLOATS: [&str; 8] = ["alpha", "beta", "clip", "epsilon", "scale", "softcap", "spatial_scale", "value_float"];
const TEXTS: [(&str, &[&str]); 7] = [
    ("auto_pad", &["SAME_UPPER", "SAME_LOWER", "VALID"]),
    ("coordinate_transformation_mode", &["align_corners", "asymmetric", "tf_crop_and_resize"]),
    ("direction", &["bidirectional", "reverse"]),
    ("equation", &["ij,jk->ik", "...i,i->...", "ii->i", "i,j"]),
    ("mode", &["reflect", "edge", "wrap", "linear", "cubic", "CRD", "circular"]),
    ("padding_mode", &["border", "reflection"]),
    ("reduction", &["add", "max", "none", "sum"]),
];
const ODD: [i64; 12] = [0, 1, -1, 2, 3, -2, 7, 1 << 31, 1 << 62, i64::MIN, i64::MAX, 1_000_000];

/// Marsaglia (2003), "Xorshift RNGs".
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).expect("a size")).expect("below the limit")
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn number(&mut self) -> i64 {
        if self.one_in(6) { self.of(&ODD) } else { i64::try_from(self.below(5)).expect("small") - 1 }
    }

    fn numbers(&mut self, most: usize) -> Vec<i64> {
        (0..self.below(most)).map(|_| self.number()).collect()
    }
}

fn attributes(chance: &mut Chance) -> Vec<AttributeProto> {
    let mut all = Vec::new();
    let mut add = |name: &str, attribute: AttributeProto| all.push(AttributeProto { name: name.to_owned(), ..attribute });
    for name in INTS {
        if chance.one_in(5) {
            add(name, AttributeProto { r#type: 2, i: chance.number(), ..AttributeProto::default() });
        }
    }
    for name in LISTS {
        if chance.one_in(4) {
            add(name, AttributeProto { r#type: 7, ints: chance.numbers(7), ..AttributeProto::default() });
        }
    }
    for name in FLOATS {
        if chance.one_in(5) {
            let f = chance.of(&[0.0, 1.0, -1.0, 0.5, f32::NAN, f32::INFINITY]);
            add(name, AttributeProto { r#type: 1, f, ..AttributeProto::default() });
        }
    }
    for (name, texts) in TEXTS {
        if chance.one_in(3) {
            let s = chance.of(texts).as_bytes().to_vec().into();
            add(name, AttributeProto { r#type: 3, s, ..AttributeProto::default() });
        }
    }
    all
}

/// A tensor of few elements, and of the usual rank and type more often than of others.
fn tensor(chance: &mut Chance, name: &str, usual: (usize, DType)) -> (TensorProto, Array) {
    let rank = if chance.one_in(3) { chance.below(5) } else { usual.0 };
    let others = [DType::I64, DType::F32, DType::I32, DType::Bool, DType::U8, DType::F16, DType::F64];
    let dtype = if chance.one_in(3) { chance.of(&others) } else { usual.1 };
    let shape: Vec<i64> = (0..rank).map(|_| chance.of(&[0, 1, 2, 2, 3, 3, 4])).collect();
    let numbers: Vec<i64> = (0..shape.iter().product()).map(|_| chance.number()).collect();
    let sizes: Vec<usize> = shape.iter().map(|size| usize::try_from(*size).expect("small")).collect();
    let array = Array::from_vec(sizes, numbers).expect("sizes agree").cast(dtype);
    let types =
        [(DType::F32, 1), (DType::U8, 2), (DType::I32, 6), (DType::I64, 7), (DType::Bool, 9), (DType::F16, 10), (DType::F64, 11)];
    let data_type = types.iter().find(|(known, _)| *known == dtype).expect("one of them").1;
    let raw_data = array.bytes().to_vec().into();
    (TensorProto { name: name.to_owned(), dims: shape, data_type, raw_data, ..TensorProto::default() }, array)
}

fn some(chance: &mut Chance, op: &str) -> (ModelProto, BTreeMap<String, Array>) {
    let usual = (chance.below(5), chance.of(&[DType::F32, DType::F32, DType::F32, DType::I64]));
    let (mut names, mut given, mut inputs, mut arrays) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
    for place in 0..=chance.below(8) {
        let name = if chance.one_in(10) { String::new() } else { format!("x{place}") };
        if !name.is_empty() {
            let (tensor, array) = tensor(chance, &name, usual);
            if chance.one_in(2) {
                let size = |size: &i64| chance.of(&[Size::Is(*size), Size::Is(*size), Size::Open, Size::Named("n")]);
                inputs.push(input(&name, tensor.data_type, &tensor.dims.iter().map(size).collect::<Vec<_>>()));
                arrays.insert(name.clone(), array);
            } else {
                given.push(tensor);
            }
        }
        names.push(name);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let outputs = ["y", "y1", "y2", "y3"];
    let outputs = &outputs[..=chance.below(4)];
    let one = node(op, &names, outputs, attributes(chance));
    let version = chance.of(&[28, 24, 21, 18, 17, 13, 11, 9, 7, 6, 1]);
    (model(graph(vec![one], inputs, given, &["y"]), version), arrays)
}

#[test]
fn a_node_by_chance_never_panics() {
    let ops: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(op, _)| op).collect();
    assert!(ops.len() > 150, "{} operations", ops.len());
    let (mut chance, mut right) = (Chance(0x9e37_79b9_7f4a_7c15), 0);
    for _ in 0..MODELS {
        let op = chance.of(&ops);
        let (model, arrays) = some(&mut chance, op);
        let both = || import(&model, &options()).is_ok() | import_for(&model, &options(), &arrays).is_ok();
        match catch_unwind(AssertUnwindSafe(both)) {
            Ok(is_right) => right += usize::from(is_right),
            Err(_) => panic!("a panic over {:?}", model.graph),
        }
    }
    assert!(right > MODELS / 50, "{right} of {MODELS} models are right");
}
