//! Sparse tensors: as constants and as initializers they are dense, and what is wrong with one is told.

use graver_onnx::Failure;
use graver_onnx::proto::{AttributeProto, GraphProto, SparseTensorProto, TensorProto};

use crate::common::{FLOAT, array, failure, floats, graph, integers, model, node, run};

/// Floats at places of a shape; the positions' own sizes say how they are meant.
fn sparse(values: &[f32], positions: TensorProto, sizes: &[i64]) -> SparseTensorProto {
    let count = i64::try_from(values.len()).expect("few");
    let values = TensorProto {
        name: "w".to_owned(),
        dims: vec![count],
        data_type: FLOAT,
        float_data: values.to_vec(),
        ..TensorProto::default()
    };
    SparseTensorProto { values: Some(values), indices: Some(positions), dims: sizes.to_vec() }
}

/// Positions with an index for each axis.
fn indices(rows: &[[i64; 2]]) -> TensorProto {
    TensorProto { dims: vec![i64::try_from(rows.len()).expect("few"), 2], ..integers("at", &rows.concat()) }
}

fn constant(sparse: SparseTensorProto) -> GraphProto {
    let value =
        AttributeProto { name: "sparse_value".to_owned(), r#type: 11, sparse_tensor: Some(sparse), ..AttributeProto::default() };
    graph(vec![node("Constant", &[], &["y"], vec![value])], Vec::new(), Vec::new(), &["y"])
}

#[test]
fn what_is_not_said_is_zero() {
    for positions in [integers("at", &[1, 5]), indices(&[[0, 1], [1, 2]])] {
        let y = &run(&model(constant(sparse(&[2.0, 3.0], positions.clone(), &[2, 3])), 17), &[])[0];
        assert_eq!((y.shape(), y.to_f64()), ([2, 3].as_slice(), vec![0.0, 2.0, 0.0, 0.0, 0.0, 3.0]));
        let sum = node("Add", &["x", "w"], &["y"], Vec::new());
        let mut added = graph(vec![sum], vec![floats("x", &[2, 3])], Vec::new(), &["y"]);
        added.sparse_initializer = vec![sparse(&[2.0, 3.0], positions, &[2, 3])];
        let y = &run(&model(added, 17), &[&array(&[2, 3], &[1.0; 6])])[0];
        assert_eq!(y.to_f64(), [1.0, 3.0, 1.0, 1.0, 1.0, 4.0]);
    }
    let none = &run(&model(constant(sparse(&[], integers("at", &[]), &[2])), 17), &[])[0];
    assert_eq!(none.to_f64(), [0.0, 0.0]);
}

#[test]
fn positions_are_inside_in_order_and_as_many_as_values() {
    let refused = |sparse: SparseTensorProto, said: &str| {
        let failure = failure(&model(constant(sparse), 17));
        assert!(matches!(failure, Failure::Invalid(_)) && failure.to_string().contains(said), "{failure}");
    };
    let two = |positions: TensorProto| sparse(&[2.0, 3.0], positions, &[2, 3]);
    let outside = "outside of [2, 3], or not in order";
    refused(two(integers("at", &[1, 6])), outside);
    refused(two(integers("at", &[-1, 2])), outside);
    refused(two(integers("at", &[5, 1])), outside);
    refused(two(integers("at", &[1, 1])), outside);
    refused(two(indices(&[[0, 3], [1, 0]])), outside);
    refused(two(integers("at", &[1])), "positions i64[1] of 2 values of a tensor of shape [2, 3]");
    refused(sparse(&[2.0], integers("at", &[0]), &[-1]), "a sparse tensor of shape [-1]");
    refused(sparse(&[2.0], integers("at", &[0]), &[1 << 40, 1 << 40]), "a sparse tensor of shape");
    refused(sparse(&[2.0], integers("at", &[0]), &[1 << 60]), "2^48");
    refused(SparseTensorProto { indices: None, ..two(integers("at", &[0, 1])) }, "without positions");
}
