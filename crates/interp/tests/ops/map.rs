//! Maps and casts.

use graver_ir::{DType, Op, ScalarFn, bf16};

use crate::{array, check, check_error};

#[test]
fn maps_element_by_element() {
    let (x, y) = (array(&[2, 2], &[1.0f32, -2.0, 3.0, f32::NAN]), array(&[2, 2], &[4.0f32, 5.0, -6.0, 7.0]));
    check(&Op::Map(ScalarFn::Add), &[&x, &y], &array(&[2, 2], &[5.0f32, 3.0, -3.0, f32::NAN]));
    check(&Op::Map(ScalarFn::Relu), &[&x], &array(&[2, 2], &[1.0f32, 0.0, 3.0, f32::NAN]));
    check(&Op::Map(ScalarFn::Lt), &[&x, &y], &array(&[2, 2], &[true, true, false, false]));
    check(&Op::Map(ScalarFn::IsNan), &[&x], &array(&[2, 2], &[false, false, false, true]));
    let condition = array(&[2, 2], &[true, false, true, false]);
    check(&Op::Map(ScalarFn::Select), &[&condition, &x, &y], &array(&[2, 2], &[1.0f32, 5.0, 3.0, 7.0]));
    check(&Op::Map(ScalarFn::Select), &[&condition, &condition, &condition], &condition);
}

#[test]
fn integers_wrap() {
    let (x, y) = (array(&[2], &[200u8, 3]), array(&[2], &[100u8, 5]));
    check(&Op::Map(ScalarFn::Add), &[&x, &y], &array(&[2], &[44u8, 8]));
    check(&Op::Map(ScalarFn::Sub), &[&y, &x], &array(&[2], &[156u8, 2]));
}

#[test]
fn narrow_floats_round_after_every_operation() {
    let one = bf16::from_f32(1.0);
    let x = array(&[1], &[bf16::from_f32(256.0)]);
    check(&Op::Map(ScalarFn::Add), &[&x, &array(&[1], &[one])], &x);
}

#[test]
fn integer_division_by_zero_is_an_error() {
    let (x, y) = (array(&[2], &[7i32, -7]), array(&[2], &[2i32, 2]));
    check(&Op::Map(ScalarFn::Div), &[&x, &y], &array(&[2], &[3i32, -3]));
    check(&Op::Map(ScalarFn::Rem), &[&x, &y], &array(&[2], &[1i32, -1]));
    let zero = array(&[2], &[1i32, 0]);
    check_error(&Op::Map(ScalarFn::Div), &[&x, &zero], "div: an element of the divisor i32[2] is zero");
    check_error(&Op::Map(ScalarFn::Rem), &[&x, &zero], "rem: an element of the divisor i32[2] is zero");
    let floats = array(&[1], &[1f64]);
    check(&Op::Map(ScalarFn::Div), &[&floats, &array(&[1], &[0f64])], &array(&[1], &[f64::INFINITY]));
}

#[test]
fn casts() {
    let x = array(&[4], &[-1.5f32, 300.0, f32::NAN, 0.0]);
    check(&Op::Cast(DType::U8), &[&x], &array(&[4], &[0u8, 255, 0, 0]));
    check(&Op::Cast(DType::I32), &[&x], &array(&[4], &[-1i32, 300, 0, 0]));
    check(&Op::Cast(DType::Bool), &[&x], &array(&[4], &[true, true, true, false]));
    check(&Op::Cast(DType::U8), &[&array(&[2], &[257i64, -1])], &array(&[2], &[1u8, 255]));
    check(&Op::Cast(DType::F32), &[&array(&[2], &[true, false])], &array(&[2], &[1f32, 0.0]));
    check(&Op::Bitcast(DType::I32), &[&array(&[2], &[1f32, -0.0])], &array(&[2], &[0x3F80_0000i32, i32::MIN]));
    check(&Op::Bitcast(DType::F64), &[&array(&[2], &[0i64, 1])], &array(&[2], &[0f64, 5e-324]));
    check(&Op::Bitcast(DType::I16), &[&array(&[1], &[0xFFFFu16])], &array(&[1], &[-1i16]));
    check_error(
        &Op::Bitcast(DType::I32),
        &[&array(&[1], &[1f64])],
        "bitcast: the bits of f64[1] as i32; f64 has 8 bytes and i32 4",
    );
    check_error(&Op::Bitcast(DType::Bool), &[&array(&[1], &[2u8])], "bitcast: the bits of u8[1] as bool; compare it with 0");
    check_error(
        &Op::Bitcast(DType::BF16),
        &[&array(&[1], &[2i16])],
        "bitcast: the bits of i16[1] as bf16; 16-bit floats are computed in wider ones",
    );
}

#[test]
fn empty_and_mismatched_operands() {
    let empty = array::<f32>(&[0, 3], &[]);
    check(&Op::Map(ScalarFn::Exp), &[&empty], &empty);
    let row = array(&[3], &[0f32; 3]);
    check_error(&Op::Map(ScalarFn::Add), &[&empty, &row], "add: shapes differ: f32[0, 3] and f32[3]; broadcast one of them");
}
