//! Movement.

use graver_interp::eval_op;
use graver_ir::op::{Broadcast, PadAxis, Perm, SliceAxis};
use graver_ir::{Dim, Op, Shape, Sizes, Symbol};

use crate::{array, check, check_error};

fn slice(ranges: &[(i64, i64, i64)]) -> Op {
    Op::Slice(
        ranges
            .iter()
            .map(|(start, size, step)| SliceAxis { start: Dim::from(*start), size: Dim::from(*size), step: *step })
            .collect(),
    )
}

fn pad(amounts: &[(i64, i64, i64)]) -> Op {
    let axis =
        |(low, high, interior): &(i64, i64, i64)| PadAxis { low: (*low).into(), high: (*high).into(), interior: *interior };
    Op::Pad(amounts.iter().map(axis).collect())
}

#[test]
fn reshape_keeps_the_order() {
    let x = array(&[2, 3], &[1i32, 2, 3, 4, 5, 6]);
    check(&Op::Reshape(Shape::new([3, 2])), &[&x], &array(&[3, 2], &[1i32, 2, 3, 4, 5, 6]));
    check(&Op::Reshape(Shape::new([6])), &[&x], &array(&[6], &[1i32, 2, 3, 4, 5, 6]));
}

#[test]
fn permute_moves_axes() {
    let x = array(&[1, 2, 3], &[1i32, 2, 3, 4, 5, 6]);
    let perm = Perm::new(vec![2, 0, 1]).expect("a permutation");
    check(&Op::Permute(perm), &[&x], &array(&[3, 1, 2], &[1i32, 4, 2, 5, 3, 6]));
}

#[test]
fn broadcast_repeats() {
    let x = array(&[2], &[1i32, 2]);
    let to = |shape: [usize; 2], axes: Vec<usize>| Op::Broadcast(Broadcast { shape: Shape::new(shape), axes });
    check(&to([2, 3], vec![0]), &[&x], &array(&[2, 3], &[1i32, 1, 1, 2, 2, 2]));
    check(&to([3, 2], vec![1]), &[&x], &array(&[3, 2], &[1i32, 2, 1, 2, 1, 2]));
    check(&to([2, 2], vec![]), &[&array(&[], &[7i32])], &array(&[2, 2], &[7i32; 4]));
    check(&to([0, 2], vec![1]), &[&x], &array::<i32>(&[0, 2], &[]));
}

#[test]
fn broadcast_to_a_symbolic_size() {
    let n = Dim::sym(&Symbol::new("n"));
    let op = Op::Broadcast(Broadcast { shape: Shape(vec![n]), axes: vec![] });
    let x = array(&[], &[7i32]);
    let found = eval_op(&op, &[&x], &Sizes::from([("n".to_owned(), 3)])).expect("the size is known");
    assert_eq!(found, [array(&[3], &[7i32; 3])]);
    check_error(&op, &[&x], "broadcast: the size `n` has no value");
}

#[test]
fn slice_takes_strided_ranges() {
    let x = array(&[2, 5], &[0i32, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    check(&slice(&[(1, 1, 1), (0, 3, 2)]), &[&x], &array(&[1, 3], &[5i32, 7, 9]));
    check(&slice(&[(0, 2, 1), (4, 1, 3)]), &[&x], &array(&[2, 1], &[4i32, 9]));
    check(&slice(&[(0, 2, 1), (5, 0, 1)]), &[&x], &array::<i32>(&[2, 0], &[]));
    check_error(&slice(&[(0, 2, 1), (3, 3, 1)]), &[&x], "slice: axis 1 of i32[2, 5]: 3 elements from 3 by 1 do not lie inside");
}

#[test]
fn pad_surrounds_and_spreads() {
    let (x, value) = (array(&[3], &[1i32, 2, 3]), array(&[], &[9i32]));
    check(&pad(&[(1, 2, 0)]), &[&x, &value], &array(&[6], &[9i32, 1, 2, 3, 9, 9]));
    check(&pad(&[(0, 0, 1)]), &[&x, &value], &array(&[5], &[1i32, 9, 2, 9, 3]));
    check(&pad(&[(1, 0, 2)]), &[&array(&[1], &[5i32]), &value], &array(&[2], &[9i32, 5]));
    check(&pad(&[(1, 1, 3)]), &[&array::<i32>(&[0], &[]), &value], &array(&[2], &[9i32, 9]));
    let square = array(&[2, 2], &[1i32, 2, 3, 4]);
    check(&pad(&[(0, 1, 0), (1, 0, 0)]), &[&square, &value], &array(&[3, 3], &[9i32, 1, 2, 9, 3, 4, 9, 9, 9]));
}

#[test]
fn concat_joins() {
    let (x, y) = (array(&[2, 1], &[1i32, 2]), array(&[2, 2], &[3i32, 4, 5, 6]));
    check(&Op::Concat(1), &[&x, &y, &x], &array(&[2, 4], &[1i32, 3, 4, 1, 2, 5, 6, 2]));
    check(&Op::Concat(0), &[&x, &x], &array(&[4, 1], &[1i32, 2, 1, 2]));
    check(&Op::Concat(1), &[&array::<i32>(&[2, 0], &[]), &x], &x);
}

#[test]
fn reverse_flips() {
    let x = array(&[2, 3], &[1i32, 2, 3, 4, 5, 6]);
    check(&Op::Reverse(vec![1]), &[&x], &array(&[2, 3], &[3i32, 2, 1, 6, 5, 4]));
    check(&Op::Reverse(vec![0, 1]), &[&x], &array(&[2, 3], &[6i32, 5, 4, 3, 2, 1]));
    let empty = array::<i32>(&[0, 3], &[]);
    check(&Op::Reverse(vec![0, 1]), &[&empty], &empty);
}
