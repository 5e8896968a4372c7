//! Softmax along the last axis.

use graver_ir::op::ReduceKind;
use graver_ir::{ScalarFn, Value};

use super::Found;
use super::body::Body;
use super::pattern::Pattern;

pub(super) fn softmax(p: &mut Pattern<'_>, last: Value) -> Option<Found> {
    shares(p, last).map(|x| Found::Call(Body::Softmax, vec![x]))
}

/// `x` of `exp(x - max x) / sum exp(x - max x)`.
pub(super) fn shares(p: &mut Pattern<'_>, last: Value) -> Option<Value> {
    let shape = p.shape(last);
    p.attempt(|p| {
        let (exp, sum) = p.two(last, ScalarFn::Div)?;
        let sum = p.row(sum, shape)?;
        (p.reduced(sum, ReduceKind::Sum)? == exp).then_some(())?;
        let shifted = p.one(exp, ScalarFn::Exp)?;
        let (x, top) = p.two(shifted, ScalarFn::Sub)?;
        let top = p.row(top, shape)?;
        (p.reduced(top, ReduceKind::Max)? == x).then_some(x)
    })
}
