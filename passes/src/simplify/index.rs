//! Rewrites of positions.

use graver_ir::op::Iota;
use graver_ir::{Op, Scalar, Value};

use super::{Rewrite, Site};
use crate::build::Build;

pub(super) const GATHERS: &[Rewrite] = &[gather_of_all];
pub(super) const IOTAS: &[Rewrite] = &[iota_of_one];

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
