//! Integers, which are computed as such, and lists that hold them.

use graver_ir::{Array, DType};
use graver_onnx::proto::{AttributeProto, TensorProto};

use crate::common::{Size, array, failure, floats, graph, input, model, node, run};

const U8: i32 = 2;
const I8: i32 = 3;
const I32: i32 = 6;
const I64: i32 = 7;

/// `x^y` of vectors of these types.
fn powers(types: (i32, i32), x: &Array, y: &Array) -> Vec<f64> {
    let sizes =
        |array: &Array| array.shape().iter().map(|size| Size::Is(i64::try_from(*size).expect("small"))).collect::<Vec<_>>();
    let inputs = vec![input("x", types.0, &sizes(x)), input("y", types.1, &sizes(y))];
    let model = model(graph(vec![node("Pow", &["x", "y"], &["z"], Vec::new())], inputs, Vec::new(), &["z"]), 15);
    let z = run(&model, &[x, y]).remove(0);
    assert_eq!(z.dtype(), x.dtype());
    z.to_f64()
}

fn of(dtype: DType, values: &[i64]) -> Array {
    Array::from_vec([values.len()], values.to_vec()).expect("a vector").cast(dtype)
}

/// As NumPy has it, which refuses exponents below zero.
#[test]
fn powers_of_integers_are_exact_and_wrap() {
    let large = 3_037_000_499i64;
    let x = Array::from_vec([4], vec![large, 3, -3, 7]).expect("four");
    let y = Array::from_vec([4], vec![2i64, 39, 39, 64]).expect("four");
    let inputs = vec![input("x", I64, &[Size::Is(4)]), input("y", I64, &[Size::Is(4)])];
    let model = model(graph(vec![node("Pow", &["x", "y"], &["z"], Vec::new())], inputs, Vec::new(), &["z"]), 15);
    let expected = [large * large, 3i64.pow(39), -(3i64.pow(39)), 7i64.wrapping_pow(64)];
    assert_eq!(run(&model, &[&x, &y])[0].as_slice::<i64>(), Some(expected.as_slice()));

    let (x, y) = ([2, 3, 2, 0, 0, 5, 46341], [31, 21, 32, 0, 7, 1 << 32, 2]);
    let wrapped = |(x, y): (&i64, &i64)| {
        let mut z = 1i32;
        (0..y.min(&64).to_owned()).for_each(|_| z = z.wrapping_mul(i32::try_from(*x).expect("small")));
        f64::from(z)
    };
    let mut expected: Vec<f64> = x.iter().zip(&y).map(wrapped).collect();
    expected[5] = 1.0;
    assert_eq!(powers((I32, I64), &of(DType::I32, &x), &of(DType::I64, &y)), expected);

    // Bits of the exponent beyond those of the base: odd numbers come round to 1, even ones have become 0.
    assert_eq!(
        powers((U8, I32), &of(DType::U8, &[3, 2, 6, 255, 16]), &of(DType::I32, &[256, 256, 512, 257, 2])),
        [1.0, 0.0, 0.0, 255.0, 0.0]
    );
    // The exponent is narrower.
    assert_eq!(powers((I32, I8), &of(DType::I32, &[10, -2, 1]), &of(DType::I8, &[9, 31, 127])), [1e9, -2147483648.0, 1.0]);
}

/// The reciprocal, cut to an integer.
#[test]
fn exponents_below_zero_leave_one_and_minus_one() {
    let (x, y) = ([1, -1, -1, 2, -5, 0], [-3, -2, -3, -1, -2, -1]);
    assert_eq!(powers((I32, I64), &of(DType::I32, &x), &of(DType::I64, &y)), [1.0, 1.0, -1.0, 0.0, 0.0, 0.0]);
    assert_eq!(powers((U8, I64), &of(DType::U8, &[1, 3]), &of(DType::I64, &[-3, -3])), [1.0, 0.0]);
}

#[test]
fn a_known_exponent_is_products() {
    for (power, expected) in [
        (0, vec![1, 1]),
        (1, vec![3, -7]),
        (2, vec![9, 49]),
        (5, vec![243, -16807]),
        (40, vec![3i64.wrapping_pow(40), 7i64.wrapping_pow(40)]),
    ] {
        let given = TensorProto { name: "p".to_owned(), data_type: I64, int64_data: vec![power], ..TensorProto::default() };
        let graph =
            graph(vec![node("Pow", &["x", "p"], &["z"], Vec::new())], vec![input("x", I64, &[Size::Is(2)])], vec![given], &["z"]);
        let x = Array::from_vec([2], vec![3i64, -7]).expect("two");
        assert_eq!(run(&model(graph, 15), &[&x])[0].as_slice::<i64>(), Some(expected.as_slice()), "to the power of {power}");
    }
}

/// What is multiplied by zero there is not read, as in BLAS: neither NaN nor infinities come through.
#[test]
fn gemm_without_beta_does_not_read_its_last_operand() {
    let float = |name: &str, f: f32| AttributeProto { name: name.to_owned(), r#type: 1, f, ..AttributeProto::default() };
    let gemm = |beta: f32| {
        let nodes = vec![node("Gemm", &["a", "b", "c"], &["y"], vec![float("beta", beta)])];
        let inputs = vec![floats("a", &[1, 2]), floats("b", &[2, 2]), floats("c", &[2])];
        let arrays =
            [array(&[1, 2], &[1.0, 2.0]), array(&[2, 2], &[1.0, 0.0, 0.0, 1.0]), array(&[2], &[f32::NAN, f32::INFINITY])];
        run(&model(graph(nodes, inputs, Vec::new(), &["y"]), 13), &arrays.each_ref()).remove(0).to_f64()
    };
    assert_eq!(gemm(0.0), [1.0, 2.0]);
    let found = gemm(0.5);
    assert!(found[0].is_nan() && found[1] == f64::INFINITY, "{found:?}");
}

/// Narrow elements are written in lists of wider ones.
#[test]
fn a_list_holds_nothing_that_its_type_has_not() {
    let of = |data_type: i32, values: &[i32]| {
        let dims = vec![i64::try_from(values.len()).expect("short")];
        let given = TensorProto { name: "w".to_owned(), dims, data_type, int32_data: values.to_vec(), ..TensorProto::default() };
        model(graph(vec![node("Identity", &["w"], &["y"], Vec::new())], Vec::new(), vec![given], &["y"]), 21)
    };
    assert_eq!(run(&of(U8, &[0, 255]), &[])[0].to_f64(), [0.0, 255.0]);
    assert_eq!(run(&of(I8, &[-128, 127]), &[])[0].to_f64(), [-128.0, 127.0]);
    assert_eq!(run(&of(10, &[0x3c00, 0xfc00]), &[])[0].to_f64(), [1.0, f64::NEG_INFINITY]);
    for (data_type, values, said) in [
        (U8, [0, 256], "`int32_data` holds 256 at 1: elements of u8 there are 0 to 255"),
        (U8, [-1, 0], "`int32_data` holds -1 at 0: elements of u8 there are 0 to 255"),
        (I8, [128, 0], "`int32_data` holds 128 at 0: elements of i8 there are -128 to 127"),
        (10, [0, 65536], "`int32_data` holds 65536 at 1: elements of f16 there are 0 to 65535"),
        (16, [-1, 0], "`int32_data` holds -1 at 0: elements of bf16 there are 0 to 65535"),
        (17, [256, 0], "`int32_data` holds 256 at 0: elements of float8e4m3fn there are -128 to 255"),
    ] {
        let found = failure(&of(data_type, &values)).to_string();
        assert!(found.contains(said), "{found}");
    }
    let given =
        TensorProto { name: "w".to_owned(), dims: vec![1], data_type: 12, uint64_data: vec![1 << 32], ..TensorProto::default() };
    let wide = model(graph(vec![node("Identity", &["w"], &["y"], Vec::new())], Vec::new(), vec![given], &["y"]), 21);
    assert!(failure(&wide).to_string().contains("`uint64_data` holds what is no uint32"), "{}", failure(&wide));
}
