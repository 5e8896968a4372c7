//! ONNX models at the command: run, imported, and held against what is expected of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use graver_data::{Limit, npy};
use graver_ir::Array;
use graver_onnx::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, Of, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorType, TypeProto, TypeValue, ValueInfoProto,
};
use prost::Message;

/// A folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("graver-cli-onnx-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    /// A case: a model, one set of inputs, and what is expected.
    fn case(&self, name: &str, model: &ModelProto, inputs: &[Array], expected: &Array) {
        let set = self.0.join(name).join("set_0");
        std::fs::create_dir_all(set.join("expect")).expect("just made");
        std::fs::write(self.0.join(name).join("model.onnx"), model.encode_to_vec()).expect("just made");
        for (place, input) in inputs.iter().enumerate() {
            npy::write_file(set.join(format!("input_{place}.npy")), input).expect("just made");
        }
        npy::write_file(set.join("expect/output_0.npy"), expected).expect("just made");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Runs the command, which must end with this code; gives all that it said.
fn ends(folder: &Path, args: &[&str], code: i32) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_graver")).args(args).current_dir(folder).output().expect("the command starts");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert_eq!(output.status.code(), Some(code), "graver {args:?}\n{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn floats(shape: &[usize], data: &[f32]) -> Array {
    Array::from_vec(shape, data.to_vec()).expect("the test's sizes agree")
}

fn value(name: &str, elem_type: i32, sizes: &[i64]) -> ValueInfoProto {
    let dim = |size: &i64| Dimension { value: (*size >= 0).then_some(DimensionValue::Size(*size)) };
    let shape = TensorShapeProto { dim: sizes.iter().map(dim).collect() };
    let tensor = TypeValue::Tensor(TensorType { elem_type, shape: Some(shape) });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { value: Some(tensor) }) }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: op.to_owned(),
        ..NodeProto::default()
    }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 7, ints: ints.to_vec(), ..AttributeProto::default() }
}

fn constant(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![i64::try_from(values.len()).expect("a short list")];
    TensorProto { name: name.to_owned(), dims, data_type: 7, int64_data: values.to_vec(), ..TensorProto::default() }
}

/// A model whose result is `y`.
fn model(node: Vec<NodeProto>, input: Vec<ValueInfoProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let output = vec![ValueInfoProto { name: "y".to_owned(), r#type: None }];
    let graph = GraphProto { node, input, initializer, output, ..GraphProto::default() };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), functions: Vec::new() }
}

/// The sum of two inputs, rows of any number.
fn sum() -> ModelProto {
    model(vec![node("Add", &["a", "b"], "y")], vec![value("a", 1, &[-1, 2]), value("b", 1, &[2])], Vec::new())
}

#[test]
fn a_folder_of_models_gives_what_is_expected() {
    let folder = Folder::new("conform");
    let x = floats(&[1, 1, 4], &[1.0, -2.0, 3.0, -4.0]);
    folder.case(
        "sum",
        &sum(),
        &[floats(&[3, 2], &[1.0; 6]), floats(&[2], &[1.0, 2.0])],
        &floats(&[3, 2], &[2.0, 3.0, 2.0, 3.0, 2.0, 3.0]),
    );
    let pool =
        NodeProto { attribute: vec![ints("kernel_shape", &[2]), ints("strides", &[2])], ..node("AveragePool", &["r"], "y") };
    let pooled = model(vec![node("Relu", &["x"], "r"), pool], vec![value("x", 1, &[1, 1, 4])], Vec::new());
    folder.case("deeper/pool", &pooled, std::slice::from_ref(&x), &floats(&[1, 1, 2], &[0.5, 1.5]));
    let softmax = model(vec![node("Softmax", &["x"], "y")], vec![value("x", 1, &[1, 2])], Vec::new());
    folder.case("deeper/softmax", &softmax, &[floats(&[1, 2], &[0.0, 3f32.ln()])], &floats(&[1, 2], &[0.25, 0.75]));
    // The shape is an input: the model is specialised to its value.
    let shaped =
        model(vec![node("Reshape", &["x", "shape"], "y")], vec![value("x", 1, &[1, 1, 4]), value("shape", 7, &[2])], Vec::new());
    let shape = Array::from_vec([2], vec![2i64, -1]).expect("sizes agree");
    folder.case("reshape", &shaped, &[x.clone(), shape], &floats(&[2, 2], &[1.0, -2.0, 3.0, -4.0]));
    let unknown = model(vec![node("StringSplit", &["x"], "y")], vec![value("x", 1, &[1, 1, 4])], Vec::new());
    folder.case("unknown", &unknown, &[x], &floats(&[1], &[0.0]));
    let said = ends(&folder.0, &["conform", "."], 0);
    assert!(
        said.contains("not supported  unknown: model.onnx:1:1 (StringSplit y): StringSplit: the operation in version 17"),
        "{said}"
    );
    assert!(said.ends_with("4 agree, 1 are not supported, 0 differ\n"), "{said}");
}

#[test]
fn a_difference_is_told_and_fails() {
    let folder = Folder::new("differs");
    folder.case("sum", &sum(), &[floats(&[1, 2], &[1.0, 1.0]), floats(&[2], &[1.0, 2.0])], &floats(&[1, 2], &[2.0, 3.5]));
    let said = ends(&folder.0, &["conform", "."], 2);
    assert!(said.contains("differs        sum: output 0: element 1 is 3 instead of 3.5"), "{said}");
    ends(&folder.0, &["conform", ".", "--atol", "0.6"], 0);
}

#[test]
fn the_layout_of_the_suite_of_onnx_is_read_too() {
    let folder = Folder::new("suite");
    let set = folder.0.join("sum/test_data_set_0");
    std::fs::create_dir_all(&set).expect("just made");
    std::fs::write(folder.0.join("sum/model.onnx"), sum().encode_to_vec()).expect("just made");
    let tensors =
        [("input_0", vec![1, 2], vec![1.0, 2.0]), ("input_1", vec![2], vec![3.0, 4.0]), ("output_0", vec![1, 2], vec![4.0, 6.0])];
    for (name, dims, float_data) in tensors {
        let tensor = TensorProto { dims, data_type: 1, float_data, ..TensorProto::default() };
        std::fs::write(set.join(format!("{name}.pb")), tensor.encode_to_vec()).expect("just made");
    }
    assert!(ends(&folder.0, &["conform", "sum"], 0).ends_with("1 agree, 0 are not supported, 0 differ\n"));
}

#[test]
fn an_imported_model_runs_as_the_model_does() {
    let folder = Folder::new("import");
    folder.case("sum", &sum(), &[floats(&[1, 2], &[1.0, 1.0]), floats(&[2], &[1.0, 2.0])], &floats(&[1, 2], &[2.0, 3.0]));
    ends(&folder.0, &["import", "sum/model.onnx", "-o", "sum.gir"], 0);
    for program in ["sum.gir", "sum/model.onnx"] {
        ends(&folder.0, &["run", program, "--inputs", "sum/set_0", "--outputs", "out"], 0);
        let found = npy::read_file(folder.0.join("out/output_0.npy"), graver_data::Limit::default()).expect("it was written");
        assert_eq!(found.to_f64(), [2.0, 3.0]);
    }
}

/// Small networks that `torch.onnx` wrote, for all sizes, with what `torch` computes for sizes other than those of the export: BERT by the
/// older exporter, which writes out layer norm, GELU and attention, and LLaMA by the newer, whose heads of keys are repeated.
#[test]
fn exported_networks_agree_and_their_attention_is_a_kernel() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let said = ends(&models, &["conform", ".", "--atol", "1e-5"], 0);
    assert!(said.ends_with("2 agree, 0 are not supported, 0 differ\n"), "{said}");
    let counts = |model: &str, tags: [&str; 4]| {
        let dumped = ends(&models, &["dump", model, "--after", "raise"], 0);
        tags.map(|tag| dumped.matches(&format!("tag = {tag}}}")).count())
    };
    let tags = ["attend", "gelu", "layer_norm", "rms_norm"];
    assert_eq!(counts("bert/model.onnx", tags), [1, 1, 3, 0]);
    assert_eq!(counts("llama/model.onnx", tags), [1, 0, 0, 3]);
    for model in ["bert/model.onnx", "llama/model.onnx"] {
        let kernels = ends(&models, &["dump", model, "--stage", "kernels"], 0);
        assert!(kernels.contains("attend"), "{model} has no kernel of attention");
    }
}

#[test]
fn only_the_cases_that_are_named_run() {
    let folder = Folder::new("names");
    let inputs = [floats(&[1, 2], &[1.0, 1.0]), floats(&[2], &[1.0, 2.0])];
    folder.case("one", &sum(), &inputs, &floats(&[1, 2], &[2.0, 3.0]));
    folder.case("other", &sum(), &inputs, &floats(&[1, 2], &[2.0, 4.0]));
    std::fs::write(folder.0.join("names"), "one\n").expect("just made");
    assert!(ends(&folder.0, &["conform", ".", "--names", "names"], 0).ends_with("1 agree, 0 are not supported, 0 differ\n"));
    std::fs::write(folder.0.join("names"), "one\nnone\n").expect("just made");
    assert!(ends(&folder.0, &["conform", ".", "--names", "names"], 2).contains("the case `none` is not there"));
}

#[test]
fn a_bomb_is_refused_before_memory_is_taken() {
    let folder = Folder::new("bomb");
    let bomb = model(vec![node("Expand", &["x", "shape"], "y")], vec![value("x", 1, &[1])], vec![constant("shape", &[1 << 39])]);
    folder.case("bomb", &bomb, &[floats(&[1], &[1.0])], &floats(&[1], &[0.0]));
    let said = ends(&folder.0, &["run", "bomb/model.onnx", "--inputs", "bomb/set_0", "--outputs", "out"], 2);
    assert!(said.contains("bytes for intermediate values and results"), "{said}");
    std::fs::write(folder.0.join("bad.onnx"), [0xff; 64]).expect("just made");
    let said = ends(&folder.0, &["import", "bad.onnx"], 2);
    assert!(said.contains("not an ONNX model"), "{said}");
}

#[test]
fn sequences_are_folders() {
    let folder = Folder::new("sequences");
    let mut s = value("s", 1, &[-1]);
    s.r#type = Some(TypeProto { value: Some(TypeValue::Sequence(Of { elem_type: s.r#type.map(Box::new) })) });
    let model = model(vec![node("SequenceInsert", &["s", "x"], "y")], vec![s, value("x", 1, &[2])], Vec::new());
    std::fs::write(folder.0.join("model.onnx"), model.encode_to_vec()).expect("just made");
    std::fs::create_dir_all(folder.0.join("in/input_0")).expect("just made");
    let run = ["run", "model.onnx", "--inputs", "in", "--outputs", "out"];
    let said = ends(&folder.0, &run, 2);
    assert!(said.contains("input_1.npy"), "{said}");
    let (one, two) = (floats(&[1], &[1.0]), floats(&[2], &[2.0, 3.0]));
    npy::write_file(folder.0.join("in/input_0/0.npy"), &one).expect("just made");
    npy::write_file(folder.0.join("in/input_1.npy"), &two).expect("just made");
    ends(&folder.0, &run, 0);
    let read = |name: &str| npy::read_file(folder.0.join("out/output_0").join(name), Limit::default());
    assert_eq!((read("0.npy").expect("the first"), read("1.npy").expect("the second")), (one, two));
    assert!(read("2.npy").is_err());
    let rename = |from: &str, to: &str| std::fs::rename(folder.0.join(from), folder.0.join(to)).expect("just made");
    rename("in/input_0/0.npy", "in/input_0/1.npy");
    let said = ends(&folder.0, &run, 2);
    assert!(said.contains("0.npy: not found; the sequence has 1 files, numbered from 0"), "{said}");
    rename("in/input_0", "in/input_2.npy");
    let said = ends(&folder.0, &run, 2);
    assert!(said.contains("input_2.npy: one input too many: the model takes 2"), "{said}");
    rename("in/input_2.npy", "elsewhere");
    let said = ends(&folder.0, &run, 3);
    assert!(
        said.contains("graver: not supported: the input `s`: a sequence whose length is not given; `graver run` takes a folder"),
        "{said}"
    );
}

/// Files are counted as the model's inputs are, those with defaults among them.
#[test]
fn a_default_is_taken_where_no_file_is() {
    let folder = Folder::new("defaults");
    let inputs = vec![value("w", 7, &[2]), value("x", 7, &[2])];
    let model = model(vec![node("Sub", &["x", "w"], "y")], inputs, vec![constant("w", &[1, 2])]);
    let two = |values: [i64; 2]| Array::from_vec([2], values.to_vec()).expect("sizes agree");
    std::fs::create_dir_all(folder.0.join("in")).expect("just made");
    std::fs::write(folder.0.join("model.onnx"), model.encode_to_vec()).expect("just made");
    let run = || {
        ends(&folder.0, &["run", "model.onnx", "--inputs", "in", "--outputs", "out"], 0);
        npy::read_file(folder.0.join("out/output_0.npy"), Limit::default()).expect("it is written")
    };
    npy::write_file(folder.0.join("in/input_1.npy"), &two([5, 5])).expect("just made");
    assert_eq!(run(), two([4, 3]));
    npy::write_file(folder.0.join("in/input_0.npy"), &two([2, 0])).expect("just made");
    assert_eq!(run(), two([3, 5]));
    // What is there is no default, even if it cannot be read.
    std::fs::write(folder.0.join("in/input_0.npy"), "no array").expect("just made");
    ends(&folder.0, &["run", "model.onnx", "--inputs", "in", "--outputs", "out"], 2);
}

/// Cases of ONNX's own suite, of all families of operations.
#[test]
fn a_sample_of_the_suite_agrees() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/suite");
    let cases = std::fs::read_dir(&folder).expect("kept beside the importer").flatten().filter(|entry| entry.path().is_dir());
    let count = cases.count();
    assert!(count > 40, "{count} cases");
    let said = ends(&folder, &["conform", "."], 0);
    assert!(said.ends_with(&format!("{count} agree, 0 are not supported, 0 differ\n")), "{said}");
}

/// Networks of images that torch exported, at sizes other than those of the export.
#[test]
fn exported_networks_agree_at_any_size() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/exported");
    let said = ends(&folder, &["conform", ".", "--rtol", "1e-5", "--atol", "1e-5"], 0);
    assert!(said.ends_with("5 agree, 0 are not supported, 0 differ\n"), "{said}");
}
