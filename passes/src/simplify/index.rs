//! Rewrites of positions.

use graver_ir::op::{Iota, SliceAxis};
use graver_ir::{Dim, Op, Scalar, Value};

use super::{Rewrite, Site};
use crate::build::Build;
use crate::lower::index::known_size;

pub(super) const GATHERS: &[Rewrite] = &[gather_of_all];
pub(super) const IOTAS: &[Rewrite] = &[iota_of_one];

pub(super) const DYNAMIC_SLICES: &[Rewrite] = &[slice_at_a_known_start];

/// `gather(x, 0..n) = x` along an axis of `n` elements.
fn gather_of_all(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Gather(axes) = &site.op else { return None };
    let Op::Iota(iota) = b.graph.op(site.args[1].node) else { return None };
    let all = *iota.shape == b.ty(site.args[0]).shape[axes.axis..=axes.axis];
    (all && axes.batch == 0).then_some(site.args[0])
}

/// `iota = 0` along an axis of one element.
fn iota_of_one(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::Iota(Iota { dtype, shape, axis }) = &site.op else { return None };
    shape[*axis].is(1).then(|| b.full(shape, Scalar::zero(*dtype)))
}

/// A dynamic slice whose starts are sizes that are known to be inside is a slice.
fn slice_at_a_known_start(b: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    let Op::DynamicSlice(slice) = &site.op else { return None };
    let whole = |size: &Dim| SliceAxis { start: Dim::ZERO, size: size.clone(), step: 1 };
    let mut ranges: Vec<SliceAxis> = b.ty(site.args[0]).shape.iter().map(whole).collect();
    for ((axis, size), start) in slice.axes.iter().zip(&slice.sizes).zip(&site.args[1..]) {
        let (start, range) = (known_size(b.graph, *start)?, &mut ranges[*axis]);
        if !start.is_nonneg() || !(&range.size - size - &start).is_nonneg() {
            return None;
        }
        *range = SliceAxis { start, size: size.clone(), step: 1 };
    }
    b.add(Op::Slice(ranges), &site.args[..1]).ok()
}
