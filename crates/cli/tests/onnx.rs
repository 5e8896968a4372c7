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

fn number(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 2, i, ..AttributeProto::default() }
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
    let unknown =
        "unsupported    unknown: graver: not supported: model.onnx:1:1 (StringSplit y): StringSplit: the operation in version 17";
    assert!(said.contains(unknown), "{said}");
    assert!(said.ends_with("4 pass, 1 are not supported, 0 fail\n"), "{said}");
}

#[test]
fn a_difference_is_told_and_fails() {
    let folder = Folder::new("differs");
    folder.case("sum", &sum(), &[floats(&[1, 2], &[1.0, 1.0]), floats(&[2], &[1.0, 2.0])], &floats(&[1, 2], &[2.0, 3.5]));
    let said = ends(&folder.0, &["conform", ".", "--report", "report.json"], 1);
    assert!(said.contains("fail_value     sum: output 0: element 1 is 3 instead of 3.5"), "{said}");
    assert!(said.contains("0 pass, 0 are not supported, 1 fail\n"), "{said}");
    let report = std::fs::read_to_string(folder.0.join("report.json")).expect("it is written");
    for part in [
        "\"kind\": \"\"",
        "\"name\": \"sum\"",
        "\"status\": \"fail_value\"",
        "\"msg\": \"output 0",
        "\"error\": 0.5",
        "\"sec\": ",
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }
    ends(&folder.0, &["conform", ".", "--atol", "0.6"], 0);
    // A case's own tolerance, where it is the greater one.
    std::fs::write(folder.0.join("sum/case.json"), "{\"rtol\": 1e-3, \"atol\": 0.6, \"ops\": {\"Add\": 1}}").expect("just made");
    ends(&folder.0, &["conform", ".", "--atol", "0.1"], 0);
    ends(&folder.0, &["conform", "."], 0);
}

/// What fails, and how, is told of each case alone.
#[test]
fn every_way_to_fail_has_a_name() {
    let folder = Folder::new("ways");
    let inputs = [floats(&[1, 2], &[1.0, 1.0]), floats(&[2], &[1.0, 2.0])];
    let sums = |values: [f32; 2]| floats(&[1, 2], &values);
    folder.case("a_pass", &sum(), &inputs, &sums([2.0, 3.0]));
    folder.case("b_shape", &sum(), &inputs, &floats(&[2], &[2.0, 3.0]));
    folder.case("c_dtype", &sum(), &inputs, &Array::from_vec([1, 2], vec![2i32, 3]).expect("two"));
    folder.case("d_error", &sum(), &inputs[..1], &sums([2.0, 3.0]));
    folder.case("e_missing", &sum(), &inputs, &sums([2.0, 3.0]));
    std::fs::remove_file(folder.0.join("e_missing/set_0/expect/output_0.npy")).expect("just made");
    std::fs::create_dir_all(folder.0.join("e_missing/set_0/expect/output_0")).expect("just made");
    folder.case("f_bad", &sum(), &inputs, &sums([2.0, 3.0]));
    std::fs::write(folder.0.join("f_bad/set_0/expect/output_0.npy"), "no array").expect("just made");
    folder.case("g_unexpected", &sum(), &inputs, &sums([2.0, 3.0]));
    std::fs::remove_file(folder.0.join("g_unexpected/set_0/expect/output_0.npy")).expect("just made");
    folder.case("h_infinite", &sum(), &inputs, &sums([f32::INFINITY, 3.0]));
    for jobs in ["1", "3"] {
        let said = ends(&folder.0, &["conform", ".", "-j", jobs], 1);
        let lines: Vec<&str> = said.lines().collect();
        for (line, start) in lines.iter().zip([
            "fail_shape     b_shape: output 0: [1, 2] instead of [2]",
            "fail_dtype     c_dtype: output 0: f32 instead of i32",
            "error          d_error: graver: ./d_error/set_0/input_1.npy: not found: the model's input `b`",
            "missing_output e_missing: output 0: a sequence is expected",
            "bad_output     f_bad: output 0: ./f_bad/set_0/expect/output_0.npy: npy: not a NumPy file",
            "fail_value     g_unexpected: output 0: it is there, and none is expected",
            "fail_value     h_infinite: output 0: element 0 is 2 instead of inf",
            "1 pass, 0 are not supported, 7 fail",
        ]) {
            assert!(line.starts_with(start), "{line:?} begins with {start:?}");
        }
    }
}

/// A case that takes too long is ended, and others are run all the same.
#[test]
fn a_case_that_takes_too_long_is_ended() {
    let folder = Folder::new("long");
    let inputs = [floats(&[1, 2], &[1.0, 1.0]), floats(&[2], &[1.0, 2.0])];
    folder.case("sum", &sum(), &inputs, &floats(&[1, 2], &[2.0, 3.0]));
    let said = ends(&folder.0, &["conform", ".", "--timeout", "0"], 1);
    assert!(said.contains("timeout        sum: more than 0 seconds"), "{said}");
    assert!(ends(&folder.0, &["conform", ".", "--timeout=-1"], 2).contains("--timeout -1: "));
}

/// 8-bit floats, whose codes differ and whose numbers are close; `bfloat16`, of which the last bits are rounding.
#[test]
fn codes_are_compared_as_the_numbers_that_they_are() {
    let folder = Folder::new("codes");
    let copied = |elem_type: i32| {
        let mut copied = model(vec![node("Identity", &["x"], "y")], vec![value("x", elem_type, &[2])], Vec::new());
        copied.graph.as_mut().expect("just made").output = vec![value("y", elem_type, &[2])];
        copied
    };
    let codes = |values: [u8; 2]| Array::from_vec([2], values.to_vec()).expect("two");
    let bits = |values: [u16; 2]| Array::from_vec([2], values.to_vec()).expect("two");
    // 448 and 416, 1 and 1.125; of all NaN.
    folder.case("float8e4m3fn", &copied(17), &[codes([0x7e, 0x38])], &codes([0x7d, 0x39]));
    folder.case("float8e5m2", &copied(19), &[codes([0x7d, 0x38])], &codes([0x7f, 0x38]));
    folder.case("near", &copied(16), &[bits([0x3f80, 0x7fc0])], &bits([0x3f82, 0x7fc1]));
    folder.case("not_so_near", &copied(16), &[bits([0x3f80, 0])], &bits([0x3f84, 0]));
    let said = ends(&folder.0, &["conform", "."], 1);
    assert!(said.contains("fail_value     float8e4m3fn: output 0: element 0 is 448 instead of 416"), "{said}");
    assert!(said.contains("fail_value     not_so_near: output 0: element 0 is 1 instead of 1.03125"), "{said}");
    assert!(said.contains("2 pass, 0 are not supported, 2 fail"), "{said}");
    let said = ends(&folder.0, &["conform", ".", "--rtol", "0.13"], 0);
    assert!(said.contains("4 pass"), "{said}");
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
    assert!(ends(&folder.0, &["conform", "sum"], 0).ends_with("1 pass, 0 are not supported, 0 fail\n"));
    ends(&folder.0, &["run", "sum/model.onnx", "--inputs", "sum/test_data_set_0", "--outputs", "out"], 0);
    let found = npy::read_file(folder.0.join("out/output_0.npy"), Limit::default()).expect("it was written");
    assert_eq!(found.to_f64(), [4.0, 6.0]);
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
    assert!(said.ends_with("2 pass, 0 are not supported, 0 fail\n"), "{said}");
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
    assert!(ends(&folder.0, &["conform", ".", "--names", "names"], 0).ends_with("1 pass, 0 are not supported, 0 fail\n"));
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
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 1234567\n";
    std::fs::write(folder.0.join("pointer.onnx"), pointer).expect("just made");
    let said = ends(&folder.0, &["import", "pointer.onnx"], 2);
    assert!(said.contains("pointer.onnx: is a pointer of Git LFS to 1234567 bytes") && said.contains("git lfs pull"), "{said}");
    std::fs::write(folder.0.join("bomb/set_0/input_0.npy"), pointer).expect("just made");
    let said = ends(&folder.0, &["run", "bomb/model.onnx", "--inputs", "bomb/set_0", "--outputs", "out"], 2);
    assert!(said.contains("input_0.npy: is a pointer of Git LFS"), "{said}");
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
    assert!(said.contains("in/input_1.npy: not found: the model's input `x` is read from it; 1 of 2 inputs are in in"), "{said}");
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

/// An input whose value decides about shapes is told by its file as well, if that is missing.
#[test]
fn a_missing_input_is_named() {
    let folder = Folder::new("missing");
    let inputs = vec![value("x", 1, &[1, 1, 4]), value("shape", 7, &[2])];
    let shaped = model(vec![node("Reshape", &["x", "shape"], "y")], inputs, Vec::new());
    std::fs::create_dir_all(folder.0.join("in")).expect("just made");
    std::fs::write(folder.0.join("model.onnx"), shaped.encode_to_vec()).expect("just made");
    let run = ["run", "model.onnx", "--inputs", "in", "--outputs", "out"];
    npy::write_file(folder.0.join("in/input_0.npy"), &floats(&[1, 1, 4], &[1.0; 4])).expect("just made");
    let said = ends(&folder.0, &run, 2);
    let missing = "in/input_1.npy: not found: the model's input `shape` is read from it; 1 of 2 inputs are in in";
    assert!(said.contains(missing), "{said}");
}

/// More than fits into memory beside itself: a file of zeros that takes no place on the disk is read, and its header is believed in nothing.
#[cfg(target_os = "linux")]
#[test]
fn an_input_may_be_of_any_size() {
    let folder = Folder::new("large");
    let first = vec![NodeProto { attribute: vec![number("axis", 0)], ..node("Gather", &["x", "row"], "y") }];
    let row = TensorProto { dims: Vec::new(), ..constant("row", &[3]) };
    let model = model(first, vec![value("x", 2, &[-1, 1 << 20])], vec![row]);
    std::fs::create_dir_all(folder.0.join("in")).expect("just made");
    std::fs::write(folder.0.join("model.onnx"), model.encode_to_vec()).expect("just made");
    let path = folder.0.join("in/input_0.npy");
    let rows = 3 << 10;
    let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({rows}, 1048576), }}");
    let start = [b"\x93NUMPY\x01\x00\x76\x00".as_slice(), format!("{header:<117}\n").as_bytes()].concat();
    std::fs::write(&path, &start).expect("just made");
    let run = ["run", "model.onnx", "--inputs", "in", "--outputs", "out"];
    let said = ends(&folder.0, &run, 2);
    assert!(said.contains("the header says u8[3072, 1048576], 0 bytes follow"), "{said}");
    let file = std::fs::File::options().write(true).open(&path).expect("just made");
    file.set_len(start.len() as u64 + (rows << 20)).expect("holes take no place");
    ends(&folder.0, &run, 0);
    let read = npy::read_file(folder.0.join("out/output_0.npy"), Limit::default()).expect("it is written");
    assert_eq!((read.shape(), read.to_f64().iter().all(|x| *x == 0.0)), (&[1 << 20][..], true));
}

/// Cases of ONNX's own suite, of all families of operations.
#[test]
fn a_sample_of_the_suite_agrees() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/suite");
    let cases = std::fs::read_dir(&folder).expect("kept beside the importer").flatten().filter(|entry| entry.path().is_dir());
    let count = cases.count();
    assert!(count > 40, "{count} cases");
    let said = ends(&folder, &["conform", "."], 0);
    assert!(said.ends_with(&format!("{count} pass, 0 are not supported, 0 fail\n")), "{said}");
}

/// Operations that the sample of ONNX's suite has not.
#[test]
fn small_cases_of_single_operators_agree() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/operators");
    let said = ends(&folder, &["conform", ".", "--rtol", "1e-5", "--atol", "1e-6"], 0);
    assert!(said.ends_with("9 pass, 0 are not supported, 0 fail\n"), "{said}");
}

/// Networks that torch exported, by either exporter: of images, a recurrent one, GPT-2 with a mask of padding; at sizes other than those of the export.
#[test]
fn exported_networks_agree_at_any_size() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../onnx/tests/exported");
    let said = ends(&folder, &["conform", ".", "--rtol", "1e-5", "--atol", "1e-5"], 0);
    assert!(said.ends_with("9 pass, 0 are not supported, 0 fail\n"), "{said}");
    let dumped = ends(&folder, &["dump", "gpt2/model.onnx", "--after", "raise"], 0);
    assert_eq!(dumped.matches("tag = attend}").count(), 2, "{dumped}");
}
