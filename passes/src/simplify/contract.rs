//! Rewrites of contractions: transposes go into the lists of axes.

use graver_ir::op::{Conv, DotAxes, Perm};
use graver_ir::{Op, Value};

use super::{Rewrite, Site};
use crate::build::Build;

pub(super) const DOTS: &[Rewrite] = &[dot_of_permuted_left, dot_of_permuted_right];
pub(super) const CONVS: &[Rewrite] = &[conv_of_permuted];

/// The permutation and what it permutes, where the value is a permutation.
pub(super) fn permuted(b: &Build<'_>, value: Value) -> Option<(Perm, Value)> {
    let Op::Permute(perm) = b.graph.op(value.node) else { return None };
    Some((perm.clone(), b.graph.args(value.node)[0]))
}

/// The axes of what was permuted.
fn before(perm: &Perm, axes: &[usize]) -> Vec<usize> {
    axes.iter().map(|axis| perm.axes()[*axis]).collect()
}

/// Whether the axes that are neither batch nor contracted keep their order.
fn keeps_free_order(perm: &Perm, batch: &[usize], contract: &[usize]) -> bool {
    let free = (0..perm.axes().len()).filter(|axis| !batch.contains(axis) && !contract.contains(axis));
    free.map(|axis| perm.axes()[axis]).is_sorted()
}

/// `dot(permute x, y) = dot(x, y)` with the axes of `x` renamed, where its free axes keep their order. Exact: the same sums.
fn dot_of_permuted_left(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Dot(axes) = &site.op else { return None };
    let (perm, x) = permuted(b, site.args[0])?;
    keeps_free_order(&perm, &axes.lhs_batch, &axes.lhs_contract).then_some(())?;
    let renamed =
        DotAxes { lhs_batch: before(&perm, &axes.lhs_batch), lhs_contract: before(&perm, &axes.lhs_contract), ..axes.clone() };
    b.add(Op::Dot(renamed), &[x, site.args[1]]).ok()
}

/// `dot(x, permute y) = dot(x, y)` with the axes of `y` renamed, where its free axes keep their order. Exact: the same sums.
fn dot_of_permuted_right(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Dot(axes) = &site.op else { return None };
    let (perm, y) = permuted(b, site.args[1])?;
    keeps_free_order(&perm, &axes.rhs_batch, &axes.rhs_contract).then_some(())?;
    let renamed =
        DotAxes { rhs_batch: before(&perm, &axes.rhs_batch), rhs_contract: before(&perm, &axes.rhs_contract), ..axes.clone() };
    b.add(Op::Dot(renamed), &[site.args[0], y]).ok()
}

/// `permute(dot(x, y)) = dot(y, x)`, where the permutation exchanges the free axes of both. Exact: products commute.
pub(super) fn permuted_dot(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let (Op::Permute(perm), dot) = (&site.op, site.args[0]) else { return None };
    let Op::Dot(axes) = b.graph.op(dot.node).clone() else { return None };
    let args = b.graph.args(dot.node);
    let [left, right] = [args[0], args[1]].map(|arg| b.ty(arg).rank() - axes.lhs_batch.len() - axes.lhs_contract.len());
    let batch = axes.lhs_batch.len();
    let exchanged = (0..batch).chain(batch + left..batch + left + right).chain(batch..batch + left);
    (site.owns(b.graph, 0) && left + right > 0 && perm.axes().iter().copied().eq(exchanged)).then_some(())?;
    let swapped = DotAxes {
        lhs_batch: axes.rhs_batch,
        rhs_batch: axes.lhs_batch,
        lhs_contract: axes.rhs_contract,
        rhs_contract: axes.lhs_contract,
    };
    b.add(Op::Dot(swapped), &[args[1], args[0]]).ok()
}

/// `conv(permute x, permute w) = conv(x, w)` with the axes renamed. Exact: the same sums.
fn conv_of_permuted(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Conv(conv) = &site.op else { return None };
    if let Some((perm, x)) = permuted(b, site.args[0]) {
        let renamed = Conv { input: before(&perm, &conv.input), ..conv.clone() };
        return b.add(Op::Conv(renamed), &[x, site.args[1]]).ok();
    }
    let (perm, kernel) = permuted(b, site.args[1])?;
    let renamed = Conv { kernel: before(&perm, &conv.kernel), ..conv.clone() };
    b.add(Op::Conv(renamed), &[site.args[0], kernel]).ok()
}

/// `permute(conv(x, w)) = conv(x, w)` with the result's axes renamed. Exact: the same sums.
pub(super) fn permuted_conv(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let (Op::Permute(perm), result) = (&site.op, site.args[0]) else { return None };
    let Op::Conv(conv) = b.graph.op(result.node).clone() else { return None };
    site.owns(b.graph, 0).then_some(())?;
    let renamed = Conv { output: before(&perm.inverse(), &conv.output), ..conv };
    let args = b.graph.args(result.node);
    b.add(Op::Conv(renamed), &args).ok()
}
