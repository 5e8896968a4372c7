//! Checks attention: K29, and its bodies.

use super::body::{self, Scope};
use super::kernel::{missing, side, within, wrong_store};
use crate::dtype::DType;
use crate::kernel::{Attend, AxisSet, Bounds, Combine, Mode, Reduction, Store, ValueId};
use crate::op::ReduceKind;
use crate::verify::Findings;

pub(super) fn check(scope: &Scope<'_>, attend: &Attend, found: &mut Findings) {
    let own = attend
        .products
        .iter()
        .map(|product| product.k)
        .chain(attend.sums.iter().chain(&attend.across).map(|sum| sum.free))
        .chain([attend.rows]);
    let own: Vec<usize> = own.collect();
    if own.iter().any(|axis| *axis >= AxisSet::MAX) {
        scope.require(found, false, "K29: an axis that there is not");
        return;
    }
    let set: AxisSet = own.iter().copied().collect();
    let all = attend.batch.union(attend.columns).union(set);
    let once = attend.batch.len() + attend.columns.len() + own.len() == all.len();
    scope.require(found, once && all == scope.over && !attend.columns.is_empty(), "K29: an axis has no role, or two");
    let float = matches!(attend.acc, DType::F32 | DType::F64);
    scope.require(found, float, format!("K29: computes in {}", attend.acc));
    let checks = attend.bodies().any(crate::kernel::Body::has_checks);
    scope.require(found, !checks, "K29: a body is evaluated at points that do not count, and may report nothing");
    sides(scope, attend, found);
    weights(scope, attend, found);
}

fn sides(scope: &Scope<'_>, attend: &Attend, found: &mut Findings) {
    let (rows, columns) = (attend.row(), attend.column());
    for (number, product) in attend.products.iter().enumerate() {
        let at = |part: &str, over: AxisSet| within(scope, &format!("product {number}, {part}"), over.with(product.k), None);
        side(&at("rows", rows), &product.rows, attend.acc, found);
        side(&at("columns", columns), &product.columns, attend.acc, found);
    }
    for (name, sums, over) in [("sum", &attend.sums, columns), ("sum across", &attend.across, rows)] {
        for (number, sum) in sums.iter().enumerate() {
            let at = within(scope, &format!("{name} {number}"), over.with(sum.free), None);
            side(&at, &sum.side, attend.acc, found);
        }
    }
}

fn weights(scope: &Scope<'_>, attend: &Attend, found: &mut Findings) {
    let sum = [Reduction { combine: Combine::Reduce(ReduceKind::Sum), value: ValueId(0), dtype: attend.acc }];
    let reduced = attend.products.iter().map(|_| (attend.matrix(), &sum[..])).collect();
    let at = Scope { reduced, ..within(scope, "weights", attend.matrix(), None) };
    body::check(&at, &attend.weights, found);
    for keep in &attend.keep {
        let wrong = at.wrong_dim(keep);
        at.note(found, wrong);
    }
    let typed = |value: ValueId| attend.weights.insts.get(value.index()).is_none_or(|inst| inst.dtype == attend.acc);
    if let Some(softmax) = &attend.softmax {
        let score = missing(&attend.weights, softmax.score);
        at.require(found, score.is_none(), format!("K1: the score is {}", score.unwrap_or_default()));
        let shares = attend.sums.iter().all(|sum| sum.to.value == softmax.score);
        let log_sum = softmax.log_sum.as_ref().is_none_or(|store| store.value == softmax.score);
        at.require(found, shares && log_sum, "K29: a softmax has one score");
        at.require(found, attend.across.is_empty(), "K29: shares are summed over columns alone");
        if let Some(to) = &softmax.log_sum {
            result(&at, attend, attend.row(), to, found);
        }
    }
    for (sum, own) in attend.all_sums() {
        at.require(found, typed(sum.to.value), "K29: a weight is of another type than the sum");
        result(&at, attend, own.with(sum.free), &sum.to, found);
    }
}

fn result(scope: &Scope<'_>, attend: &Attend, over: AxisSet, to: &Store, found: &mut Findings) {
    let at = within(scope, "result", over, None);
    let wrong = wrong_store(&at, &attend.weights, to, &[Mode::Write], Bounds::Proven);
    at.note(found, wrong);
}
