//! Every operation against values computed by hand.

mod contract;
mod control;
mod index;
mod map;
mod movement;
mod random;
mod reduce;
mod unsigned;

use graver_interp::eval_op;
use graver_ir::{Array, Element, Op, Sizes};

/// An array; panics if the sizes and the number of elements disagree.
pub(crate) fn array<E: Element>(shape: &[usize], elements: &[E]) -> Array {
    Array::from_vec(shape, elements.to_vec()).expect("a test's array has as many elements as its sizes say")
}

/// Checks that an operation gives exactly this array, of this type and these sizes.
#[track_caller]
pub(crate) fn check(op: &Op, args: &[&Array], expected: &Array) {
    let found = eval_op(op, args, &Sizes::new()).unwrap_or_else(|diag| panic!("{diag}"));
    assert_eq!(found, std::slice::from_ref(expected));
}

/// Checks that an operation is refused with this message.
#[track_caller]
pub(crate) fn check_error(op: &Op, args: &[&Array], expected: &str) {
    let found = eval_op(op, args, &Sizes::new()).expect_err("the operation is refused");
    assert_eq!(found.to_string(), expected);
}
