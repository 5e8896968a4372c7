//! The order of `u64`, half of whose values `i64` holds as negative numbers.

use graver_ir::op::{ArgReduce, Extreme, GatherAxes, Reduce, ReduceKind, Scatter, ScatterKind, Sort, Window, WindowAxis};
use graver_ir::{DType, Op, ScalarFn};

use crate::{array, check};

const HALF: u64 = 1 << 63;
const ALL: u64 = u64::MAX;

#[test]
fn what_is_greater_does_not_depend_on_a_sign() {
    let x = array(&[4], &[1, HALF, ALL, 0]);
    let reduce = |kind| Op::Reduce(Reduce { kind, axes: vec![0] });
    check(&reduce(ReduceKind::Max), &[&x], &array(&[], &[ALL]));
    check(&reduce(ReduceKind::Min), &[&x], &array(&[], &[0u64]));
    check(&reduce(ReduceKind::Sum), &[&x], &array(&[], &[HALF]));
    let nothing = array::<u64>(&[0], &[]);
    check(&reduce(ReduceKind::Max), &[&nothing], &array(&[], &[0u64]));
    check(&reduce(ReduceKind::Min), &[&nothing], &array(&[], &[ALL]));
    let arg = |kind| Op::ArgReduce(ArgReduce { kind, axis: 0 });
    check(&arg(Extreme::Max), &[&x], &array(&[], &[2i64]));
    check(&arg(Extreme::Min), &[&x], &array(&[], &[3i64]));
    check(&Op::Sort(Sort { axis: 0, descending: true }), &[&x], &array(&[4], &[2i64, 1, 0, 3]));
    let pairs = |kind| Window { kind, axes: vec![WindowAxis { size: 2, stride: 2, ..WindowAxis::IDENTITY }] };
    check(&Op::Window(pairs(ReduceKind::Max)), &[&x], &array(&[2], &[HALF, ALL]));
    check(&Op::WindowArg(pairs(ReduceKind::Min)), &[&x], &array(&[2], &[0i32, 1]));
    check(&Op::Map(ScalarFn::Lt), &[&array(&[2], &[1, ALL]), &array(&[2], &[HALF, 1])], &array(&[2], &[true, false]));
}

/// Positions of the same type are no elements.
#[test]
fn a_scatter_compares_its_elements_alone() {
    let (x, at, update) = (array(&[3], &[HALF, 5, 7]), array(&[2], &[2u64, 0]), array(&[2], &[ALL, 1]));
    let scatter = |kind| Op::Scatter(Scatter { kind, at: GatherAxes { axis: 0, batch: 0 } });
    check(&scatter(ScatterKind::Max), &[&x, &at, &update], &array(&[3], &[HALF, 5, ALL]));
    check(&scatter(ScatterKind::Min), &[&x, &at, &update], &array(&[3], &[1, 5, 7u64]));
}

#[test]
fn numbers_beyond_i64_are_floats_rounded_once() {
    // Halfway between two floats but for its last bit.
    let x = array(&[3], &[HALF + (1 << 39) + 1, ALL, 3]);
    check(&Op::Cast(DType::F32), &[&x], &array(&[3], &[2f32.powi(63) + 2f32.powi(40), 2f32.powi(64), 3.0]));
    let y = array(&[4], &[2f64.powi(63), 1e30, -1.0, f64::NAN]);
    check(&Op::Cast(DType::U64), &[&y], &array(&[4], &[HALF, ALL, 0, 0]));
}
