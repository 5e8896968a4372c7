//! Reductions and windows.

use graver_ir::op::{ArgReduce, Extreme, Reduce, ReduceKind, Window, WindowAxis, WindowPut};
use graver_ir::{Dim, Op, Shape};

use crate::{array, check, check_error};

const NAN: f32 = f32::NAN;

fn reduce(kind: ReduceKind, axes: &[usize]) -> Op {
    Op::Reduce(Reduce { kind, axes: axes.to_vec() })
}

fn arg(kind: Extreme, axis: usize) -> Op {
    Op::ArgReduce(ArgReduce { kind, axis })
}

fn axis(size: i64, stride: i64, dilation: i64, low: i64, high: i64) -> WindowAxis {
    WindowAxis { size, stride, dilation, low: Dim::from(low), high: Dim::from(high) }
}

#[test]
fn reduce_combines_along_axes() {
    let x = array(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    check(&reduce(ReduceKind::Sum, &[0]), &[&x], &array(&[3], &[5f32, 7.0, 9.0]));
    check(&reduce(ReduceKind::Sum, &[1]), &[&x], &array(&[2], &[6f32, 15.0]));
    check(&reduce(ReduceKind::Prod, &[0, 1]), &[&x], &array(&[], &[720f32]));
    check(&reduce(ReduceKind::Max, &[1]), &[&x], &array(&[2], &[3f32, 6.0]));
    check(&reduce(ReduceKind::Min, &[0]), &[&x], &array(&[3], &[1f32, 2.0, 3.0]));
    check(&reduce(ReduceKind::Sum, &[]), &[&x], &x);
}

#[test]
fn reduce_nan_bool_wrap_and_nothing() {
    let x = array(&[2, 2], &[1f32, NAN, NAN, 4.0]);
    check(&reduce(ReduceKind::Max, &[1]), &[&x], &array(&[2], &[NAN, NAN]));
    check(&reduce(ReduceKind::Min, &[1]), &[&x], &array(&[2], &[NAN, NAN]));
    let holds = array(&[2, 2], &[true, false, true, true]);
    check(&reduce(ReduceKind::Max, &[1]), &[&holds], &array(&[2], &[true, true]));
    check(&reduce(ReduceKind::Min, &[1]), &[&holds], &array(&[2], &[false, true]));
    check(&reduce(ReduceKind::Sum, &[0]), &[&array(&[3], &[200u8, 50, 10])], &array(&[], &[4u8]));
    check(&reduce(ReduceKind::Prod, &[0]), &[&array(&[2], &[i32::MAX, 2])], &array(&[], &[-2i32]));
    let none = array::<i32>(&[2, 0], &[]);
    check(&reduce(ReduceKind::Sum, &[1]), &[&none], &array(&[2], &[0i32, 0]));
    check(&reduce(ReduceKind::Max, &[1]), &[&none], &array(&[2], &[i32::MIN; 2]));
    check(&reduce(ReduceKind::Min, &[1]), &[&none], &array(&[2], &[i32::MAX; 2]));
    check(&reduce(ReduceKind::Max, &[0]), &[&array::<f32>(&[0], &[])], &array(&[], &[f32::NEG_INFINITY]));
    check(&reduce(ReduceKind::Prod, &[0]), &[&none], &array::<i32>(&[0], &[]));
}

#[test]
fn sums_round_once() {
    let x = array(&[3], &[16_777_216f32, 1.0, 1.0]);
    check(&reduce(ReduceKind::Sum, &[0]), &[&x], &array(&[], &[16_777_218f32]));
}

#[test]
fn arg_reduce_takes_the_first_and_nan_wins() {
    let x = array(&[3, 3], &[1f32, 3.0, 3.0, NAN, 9.0, NAN, -1.0, -2.0, -2.0]);
    check(&arg(Extreme::Max, 1), &[&x], &array(&[3], &[1i64, 0, 0]));
    check(&arg(Extreme::Min, 1), &[&x], &array(&[3], &[0i64, 0, 1]));
    check(&arg(Extreme::Max, 0), &[&x], &array(&[3], &[1i64, 1, 1]));
    check(&arg(Extreme::Max, 0), &[&array(&[2, 2], &[1u8, 2, 1, 3])], &array(&[2], &[0i64, 1]));
    check(&arg(Extreme::Max, 1), &[&array::<f32>(&[0, 3], &[])], &array::<i64>(&[0], &[]));
    check_error(
        &arg(Extreme::Max, 1),
        &[&array::<f32>(&[2, 0], &[])],
        "arg_reduce: axis 1 of f32[2, 0] is empty: there is no extreme",
    );
}

#[test]
fn windows_slide() {
    let x = array(&[5], &[1i32, 2, 3, 4, 5]);
    let over = |kind, axis| Op::Window(Window { kind, axes: vec![axis] });
    check(&over(ReduceKind::Sum, axis(2, 1, 1, 0, 0)), &[&x], &array(&[4], &[3i32, 5, 7, 9]));
    check(&over(ReduceKind::Sum, axis(2, 2, 1, 0, 0)), &[&x], &array(&[2], &[3i32, 7]));
    check(&over(ReduceKind::Sum, axis(2, 2, 2, 1, 1)), &[&x], &array(&[3], &[2i32, 6, 4]));
    check(&over(ReduceKind::Max, axis(3, 1, 1, 1, 1)), &[&x], &array(&[5], &[2i32, 3, 4, 5, 5]));
    check(&over(ReduceKind::Min, axis(3, 1, 1, 1, 1)), &[&x], &array(&[5], &[1i32, 1, 2, 3, 4]));
    check(&over(ReduceKind::Prod, axis(2, 1, 1, 1, 0)), &[&x], &array(&[5], &[1i32, 2, 6, 12, 20]));
    check(&over(ReduceKind::Sum, axis(6, 2, 1, 0, 0)), &[&x], &array::<i32>(&[0], &[]));
    let square = array(&[3, 3], &[1i32, 2, 3, 4, 5, 6, 7, 8, 9]);
    let both = Window { kind: ReduceKind::Sum, axes: vec![axis(2, 1, 1, 0, 0); 2] };
    check(&Op::Window(both), &[&square], &array(&[2, 2], &[12i32, 16, 24, 28]));
}

#[test]
fn window_places_are_found_taken_and_put_back() {
    let axes = vec![axis(2, 2, 1, 1, 1), axis(2, 1, 1, 0, 0)];
    let x = array(&[2, 3], &[1f32, 1.0, NAN, 5.0, 7.0, 7.0]);
    let find = Op::WindowArg(Window { kind: ReduceKind::Max, axes: axes.clone() });
    // Windows of two rows, of which one is padding: above the first row, below the second.
    let places = array(&[2, 2], &[2i32, 3, 1, 0]);
    check(&find, &[&x], &places);
    check(&Op::WindowTake(axes.clone()), &[&x, &places], &array(&[2, 2], &[1f32, NAN, 7.0, 7.0]));
    let put = Op::WindowPut(WindowPut { axes, shape: Shape::new([2, 3]) });
    let y = array(&[2, 2], &[10f32, 20.0, 30.0, 40.0]);
    check(&put, &[&y, &places], &array(&[2, 3], &[10f32, 0.0, 20.0, 0.0, 70.0, 0.0]));
}

#[test]
fn places_in_padding_hold_nothing() {
    let axes = vec![axis(1, 1, 1, 1, 1)];
    let x = array(&[1], &[5f32]);
    let find = Op::WindowArg(Window { kind: ReduceKind::Min, axes: axes.clone() });
    let places = array(&[3], &[-1i32, 0, -1]);
    check(&find, &[&x], &places);
    check(&Op::WindowTake(axes.clone()), &[&x, &places], &array(&[3], &[0f32, 5.0, 0.0]));
    let put = Op::WindowPut(WindowPut { axes: axes.clone(), shape: Shape::new([1]) });
    check(&put, &[&array(&[3], &[1f32, 2.0, 3.0]), &places], &array(&[1], &[2f32]));
    check(&Op::WindowTake(axes), &[&x, &array(&[3], &[0i32, 7, 0])], &array(&[3], &[0f32; 3]));
}
