//! Orders and prefixes, which look along lines: values are computed at every point, and results are stored at places of the same axis.

use graver_ir::kernel::{Arg, Body, KernelBody, Mode, Prefix, Sort, Store};
use graver_ir::{Value, op};

use super::point::{Point, at as exact};
use super::region::{Region, Source};

/// What is compared is the body's value, positions are stored.
pub(super) fn sort(region: &mut Region<'_>, value: Value, of: op::Sort) -> KernelBody {
    let Lines { axis, body, to } = Lines::of(region, value, of.axis);
    KernelBody::Sort(Sort { axes: region.axes.clone(), axis, descending: of.descending, body, to })
}

/// What is combined is the body's value, and stored where it is computed.
pub(super) fn prefix(region: &mut Region<'_>, value: Value, of: op::Prefix) -> KernelBody {
    let Lines { axis, body, to } = Lines::of(region, value, of.axis);
    KernelBody::Prefix(Prefix { axes: region.axes.clone(), axis, reverse: of.reverse, kind: of.kind, body, to })
}

/// The operand at every point, and the result at the same one.
struct Lines {
    axis: usize,
    body: Body,
    to: Store,
}

impl Lines {
    fn of(region: &mut Region<'_>, value: Value, along: usize) -> Self {
        let (x, ty) = (region.graph().args(value.node)[0], region.graph().ty(value).clone());
        let (index, axis) = region.axes_along(&ty.shape, along);
        let mut at = Point::default();
        let value = region.pull(&mut at, x, &exact(index.clone()));
        let arg = region.arg(Source::Result(0), Arg::dense(ty.dtype, ty.shape.0, Mode::Write));
        Self { axis, body: at.body, to: Store { arg, index: exact(index), value } }
    }
}
