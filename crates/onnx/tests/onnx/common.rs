//! Small models, built field by field, and their evaluation.

use std::collections::BTreeMap;

use graver_interp::{Precision, eval};
use graver_ir::Array;
use graver_onnx::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TensorType, TypeProto, TypeValue, ValueInfoProto,
};
use graver_onnx::{Failure, Imported, Options, import, import_for};

/// `float` in ONNX files.
pub(crate) const FLOAT: i32 = 1;
/// `int64` in ONNX files.
pub(crate) const INT64: i32 = 7;

/// A size of an input: a number, or a name.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    Is(i64),
    Named(&'static str),
    Open,
}

pub(crate) fn input(name: &str, elem_type: i32, sizes: &[Size]) -> ValueInfoProto {
    let dim = |size: &Size| Dimension {
        value: match size {
            Size::Is(size) => Some(DimensionValue::Size(*size)),
            Size::Named(name) => Some(DimensionValue::Name((*name).to_owned())),
            Size::Open => None,
        },
    };
    let shape = TensorShapeProto { dim: sizes.iter().map(dim).collect() };
    let tensor = TypeValue::Tensor(TensorType { elem_type, shape: Some(shape) });
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { value: Some(tensor) }) }
}

/// An input of floats whose sizes are numbers.
pub(crate) fn floats(name: &str, sizes: &[i64]) -> ValueInfoProto {
    input(name, FLOAT, &sizes.iter().map(|size| Size::Is(*size)).collect::<Vec<_>>())
}

pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) -> NodeProto {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    NodeProto {
        input: own(inputs),
        output: own(outputs),
        name: format!("the_{op}"),
        op_type: op.to_owned(),
        attribute,
        ..NodeProto::default()
    }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 2, i, ..AttributeProto::default() }
}

pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 7, ints: ints.to_vec(), ..AttributeProto::default() }
}

pub(crate) fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: 3, s: s.as_bytes().to_vec().into(), ..AttributeProto::default() }
}

pub(crate) fn integers(name: &str, values: &[i64]) -> TensorProto {
    let dims = vec![i64::try_from(values.len()).expect("a short list")];
    TensorProto { name: name.to_owned(), dims, data_type: INT64, int64_data: values.to_vec(), ..TensorProto::default() }
}

pub(crate) fn graph(node: Vec<NodeProto>, inputs: Vec<ValueInfoProto>, given: Vec<TensorProto>, outputs: &[&str]) -> GraphProto {
    let output = outputs.iter().map(|name| ValueInfoProto { name: (*name).to_owned(), r#type: None }).collect();
    GraphProto { node, name: "g".to_owned(), initializer: given, input: inputs, output, ..GraphProto::default() }
}

pub(crate) fn model(graph: GraphProto, version: i64) -> ModelProto {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), functions: Vec::new() }
}

pub(crate) fn options() -> Options {
    Options { name: "model.onnx".to_owned(), ..Options::default() }
}

pub(crate) fn imported(model: &ModelProto) -> Imported {
    import(model, &options()).unwrap_or_else(|failure| panic!("{failure}"))
}

pub(crate) fn failure(model: &ModelProto) -> Failure {
    import(model, &options()).expect_err("the model is wrong")
}

pub(crate) fn array(shape: &[usize], data: &[f32]) -> Array {
    Array::from_vec(shape, data.to_vec()).expect("the test's sizes agree")
}

/// The model's results over inputs.
pub(crate) fn run(model: &ModelProto, inputs: &[&Array]) -> Vec<Array> {
    let names = graver_onnx::input_names(model);
    let given: BTreeMap<String, Array> = names.into_iter().zip(inputs.iter().map(|input| (*input).clone())).collect();
    let imported = import_for(model, &options(), &given).unwrap_or_else(|failure| panic!("{failure}"));
    let (entry, _) = imported.module.entry().expect("a module has an entry");
    let left: Vec<&Array> = imported.inputs.iter().map(|origin| inputs[origin.input]).collect();
    eval(&imported.module, entry, &left, &[], Precision::Typed).unwrap_or_else(|error| panic!("{error}")).outputs
}

/// One node over inputs of floats, as `shape, data`; the first result's shape and elements.
pub(crate) fn check(
    op: &str,
    version: i64,
    attributes: Vec<AttributeProto>,
    inputs: &[(&[usize], &[f32])],
    expected: (&[usize], &[f64]),
) {
    let names: Vec<String> = (0..inputs.len()).map(|place| format!("x{place}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sizes = |shape: &[usize]| shape.iter().map(|size| i64::try_from(*size).expect("small")).collect::<Vec<_>>();
    let values = names.iter().zip(inputs).map(|(name, (shape, _))| floats(name, &sizes(shape))).collect();
    let model = model(graph(vec![node(op, &names, &["y"], attributes)], values, Vec::new(), &["y"]), version);
    let arrays: Vec<Array> = inputs.iter().map(|(shape, data)| array(shape, data)).collect();
    let outputs = run(&model, &arrays.iter().collect::<Vec<_>>());
    assert_eq!(outputs[0].shape(), expected.0, "{op}");
    let close = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-5 * y.abs().max(1.0);
    let got = outputs[0].to_f64();
    assert!(got.iter().zip(expected.1).all(close), "{op}: {got:?} is not {:?}", expected.1);
}
