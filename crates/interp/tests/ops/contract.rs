//! Dot products and convolutions.

use graver_ir::op::{Conv, ConvAxis, DotAxes};
use graver_ir::{Dim, Op, bf16};

use crate::{array, check, check_error};

fn dot(lhs_batch: &[usize], rhs_batch: &[usize], lhs_contract: &[usize], rhs_contract: &[usize]) -> Op {
    Op::Dot(DotAxes {
        lhs_batch: lhs_batch.to_vec(),
        rhs_batch: rhs_batch.to_vec(),
        lhs_contract: lhs_contract.to_vec(),
        rhs_contract: rhs_contract.to_vec(),
    })
}

const PLAIN: ConvAxis = ConvAxis { stride: 1, low: Dim::ZERO, high: Dim::ZERO, kernel_dilation: 1, input_dilation: 1 };

fn padded(low: i64, high: i64) -> ConvAxis {
    ConvAxis { low: Dim::from(low), high: Dim::from(high), ..PLAIN }
}

/// One spatial axis; axes in the order batch, feature, spatial.
fn conv(axis: ConvAxis) -> Conv {
    Conv { input: vec![0, 1, 2], kernel: vec![0, 1, 2], output: vec![0, 1, 2], axes: vec![axis], groups: 1, batch_groups: 1 }
}

#[test]
fn dot_multiplies_matrices() {
    let x = array(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let y = array(&[3, 2], &[1f32, 0.0, 0.0, 1.0, 2.0, 2.0]);
    check(&dot(&[], &[], &[1], &[0]), &[&x, &y], &array(&[2, 2], &[7f32, 8.0, 16.0, 17.0]));
    check(&dot(&[], &[], &[0], &[1]), &[&x, &y], &array(&[3, 3], &[1f32, 4.0, 10.0, 2.0, 5.0, 14.0, 3.0, 6.0, 18.0]));
    check(&dot(&[], &[], &[0, 1], &[1, 0]), &[&x, &y], &array(&[], &[1f32 + 6.0 + 5.0 + 12.0]));
    let (u, v) = (array(&[2], &[1f32, 2.0]), array(&[3], &[3f32, 4.0, 5.0]));
    check(&dot(&[], &[], &[], &[]), &[&u, &v], &array(&[2, 3], &[3f32, 4.0, 5.0, 6.0, 8.0, 10.0]));
}

#[test]
fn dot_over_batches() {
    // The batch is axis 1 on the left and axis 0 on the right.
    let x = array(&[2, 2], &[1i32, 2, 3, 4]);
    let y = array(&[2, 2], &[5i32, 6, 7, 8]);
    check(&dot(&[1], &[0], &[0], &[1]), &[&x, &y], &array(&[2], &[5 + 18, 14 + 32]));
    check(&dot(&[1, 0], &[0, 1], &[], &[]), &[&x, &y], &array(&[2, 2], &[5i32, 18, 14, 32]));
}

#[test]
fn dot_of_nothing_nan_and_narrow_types() {
    let (x, y) = (array::<f32>(&[2, 0], &[]), array::<f32>(&[0, 2], &[]));
    check(&dot(&[], &[], &[1], &[0]), &[&x, &y], &array(&[2, 2], &[0f32; 4]));
    check(&dot(&[], &[], &[0], &[1]), &[&x, &y], &array::<f32>(&[0, 0], &[]));
    let (zero, nan) = (array(&[1], &[0f32]), array(&[1], &[f32::NAN]));
    check(&dot(&[], &[], &[0], &[0]), &[&zero, &nan], &array(&[], &[f32::NAN]));
    check(&dot(&[], &[], &[0], &[0]), &[&array(&[2], &[100u8, 3]), &array(&[2], &[3u8, 4])], &array(&[], &[56u8]));
    let ones = array(&[300], &[bf16::ONE; 300]);
    check(&dot(&[], &[], &[0], &[0]), &[&ones, &ones], &array(&[], &[bf16::from_f32(300.0)]));
}

#[test]
fn conv_slides_the_kernel() {
    let x = array(&[1, 1, 5], &[1i32, 2, 3, 4, 5]);
    let k = array(&[1, 1, 2], &[1i32, 10]);
    let run = |axis, expected: &[i32]| check(&Op::Conv(conv(axis)), &[&x, &k], &array(&[1, 1, expected.len()], expected));
    run(PLAIN, &[21, 32, 43, 54]);
    run(padded(1, 1), &[10, 21, 32, 43, 54, 5]);
    run(padded(-1, 0), &[32, 43, 54]);
    run(padded(-1, -2), &[32]);
    run(padded(-3, -1), &[]);
    let refused = "conv: spatial axis 0: 5 elements with padding -3, -2 are fewer than the kernel's 2";
    check_error(&Op::Conv(conv(padded(-3, -2))), &[&x, &k], refused);
    run(padded(-2, 3), &[43, 54, 5, 0, 0]);
    run(ConvAxis { stride: 2, ..PLAIN }, &[21, 43]);
    run(ConvAxis { kernel_dilation: 3, ..PLAIN }, &[41, 52]);
    run(ConvAxis { stride: 3, ..padded(2, 0) }, &[0, 32]);
    // 1 0 2 0 3 0 4 0 5
    run(ConvAxis { input_dilation: 2, ..PLAIN }, &[1, 20, 2, 30, 3, 40, 4, 50]);
    run(ConvAxis { input_dilation: 2, stride: 2, ..padded(1, 0) }, &[10, 20, 30, 40, 50]);
    run(ConvAxis { input_dilation: 2, kernel_dilation: 2, stride: 3, ..padded(-1, -1) }, &[0, 43]);
}

#[test]
fn conv_sums_over_features_in_two_dimensions() {
    let x = array(&[1, 2, 2, 2], &[1i32, 2, 3, 4, 5, 6, 7, 8]);
    let k = array(&[2, 2, 1, 2], &[1i32, 0, 0, 1, 1, 1, -1, -1]);
    let plane = Conv {
        input: vec![0, 1, 2, 3],
        kernel: vec![0, 1, 2, 3],
        output: vec![0, 1, 2, 3],
        axes: vec![PLAIN; 2],
        groups: 1,
        batch_groups: 1,
    };
    check(&Op::Conv(plane), &[&x, &k], &array(&[1, 2, 2, 1], &[7i32, 11, -8, -8]));
}

#[test]
fn conv_reads_and_writes_any_order_of_axes() {
    // Operand: spatial, batch, feature. Kernel: spatial, input feature, output feature. Result: batch, spatial, feature.
    let any = Conv { input: vec![1, 2, 0], kernel: vec![2, 1, 0], output: vec![0, 2, 1], ..conv(PLAIN) };
    let x = array(&[2, 2, 1], &[1i32, 2, 3, 4]);
    let k = array(&[1, 1, 3], &[1i32, 10, 100]);
    check(&Op::Conv(any), &[&x, &k], &array(&[2, 2, 3], &[1i32, 10, 100, 3, 30, 300, 2, 20, 200, 4, 40, 400]));
}

#[test]
fn conv_in_groups_of_features() {
    let x = array(&[1, 4, 1], &[1i32, 2, 3, 4]);
    let k = array(&[2, 2, 1], &[1i32, 10, 100, 1000]);
    let grouped = Conv { groups: 2, ..conv(PLAIN) };
    check(&Op::Conv(grouped), &[&x, &k], &array(&[1, 2, 1], &[21i32, 4300]));
    let depthwise = Conv { groups: 2, ..conv(PLAIN) };
    let (x, k) = (array(&[1, 2, 1], &[1i32, 2]), array(&[4, 1, 1], &[1i32, 2, 3, 4]));
    check(&Op::Conv(depthwise), &[&x, &k], &array(&[1, 4, 1], &[1i32, 2, 6, 8]));
}

#[test]
fn conv_in_groups_of_the_batch() {
    // Rows 0, 1 are seen by features 0, 1; rows 2, 3 by features 2, 3.
    let x = array(&[4, 1, 1], &[1i32, 2, 3, 4]);
    let k = array(&[4, 1, 1], &[1i32, 10, 100, 1000]);
    let grouped = Conv { batch_groups: 2, ..conv(PLAIN) };
    check(&Op::Conv(grouped), &[&x, &k], &array(&[2, 4, 1], &[1i32, 10, 300, 3000, 2, 20, 400, 4000]));
}

#[test]
fn conv_of_nothing() {
    let k = array(&[1, 1, 2], &[1f32, 2.0]);
    check(&Op::Conv(conv(PLAIN)), &[&array::<f32>(&[0, 1, 3], &[]), &k], &array::<f32>(&[0, 1, 2], &[]));
    let no_features = array::<f32>(&[1, 0, 3], &[]);
    check(&Op::Conv(conv(PLAIN)), &[&no_features, &array::<f32>(&[1, 0, 2], &[])], &array(&[1, 1, 2], &[0f32; 2]));
}
