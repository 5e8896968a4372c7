//! Damaged files: truncated models and floods of messages, each an error, never a panic. Changed ones are the fuzzers' (`tests/fuzz`).

use bytes::Bytes;
use graver_onnx::{decode, import};
use prost::Message;

use crate::common::{FLOAT, Size, graph, input, int, integers, ints, model, node, options};

/// A model with most kinds of fields.
fn seed() -> Vec<u8> {
    let nodes = vec![
        node("Shape", &["x"], &["shape"], Vec::new()),
        node("Gather", &["shape", "zero"], &["batch"], vec![int("axis", 0)]),
        node("Concat", &["batch", "rest"], &["target"], vec![int("axis", 0)]),
        node("Conv", &["x", "kernel"], &["c"], vec![ints("pads", &[1, 1]), ints("strides", &[2])]),
        node("Pad", &["c", "pads"], &["p"], Vec::new()),
        node("Reshape", &["p", "target"], &["y"], Vec::new()),
        node("Softmax", &["y"], &["z"], vec![int("axis", -1)]),
        node("TopK", &["z", "k"], &["v", "i"], Vec::new()),
        node("Slice", &["i", "zero", "k"], &["s"], Vec::new()),
        node("Tile", &["v", "twice"], &["t"], Vec::new()),
    ];
    let x = input("x", FLOAT, &[Size::Named("batch"), Size::Is(2), Size::Is(8)]);
    let mut kernel = integers("kernel", &[]);
    (kernel.dims, kernel.data_type, kernel.float_data) = (vec![3, 2, 3], FLOAT, vec![0.5; 18]);
    let given = [("zero", &[0][..]), ("rest", &[-1]), ("pads", &[0, 0, 1, 0, 0, 1]), ("k", &[2]), ("twice", &[1, 2])];
    let given = given.iter().map(|(name, values)| integers(name, values)).chain([kernel]).collect();
    model(graph(nodes, vec![x], given, &["t", "s"]), 17).encode_to_vec()
}

fn take(bytes: Vec<u8>) -> bool {
    decode(Bytes::from(bytes)).is_ok_and(|model| import(&model, &options()).is_ok())
}

#[test]
fn the_seed_is_right() {
    let model = decode(Bytes::from(seed())).unwrap_or_else(|error| panic!("{error}"));
    import(&model, &options()).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_truncated_file_never_panics() {
    let seed = seed();
    let right = (0..seed.len()).filter(|length| take(seed[..*length].to_vec())).count();
    assert_eq!(right, 0, "no prefix has all outputs");
}

#[test]
fn more_messages_than_a_model_has_are_refused_before_they_are_decoded() {
    // An empty node takes two bytes here and two hundred when it is decoded.
    let nodes: Vec<u8> = [0x0a, 0x00].repeat((1 << 21) + 1);
    let mut bytes = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
    bytes.extend(nodes);
    let error = decode(Bytes::from(bytes)).expect_err("too many");
    assert!(error.to_string().contains("more than 2097152 fields"), "{error}");
}
