//! What is combined with all before it: computed at every point, and stored at the same one.

use graver_ir::kernel::{Arg, KernelBody, Mode, Prefix, Store};
use graver_ir::{Value, op};

use super::point::{Point, at as exact};
use super::region::{Region, Source};

pub(super) fn lower(region: &mut Region<'_>, value: Value, of: op::Prefix) -> KernelBody {
    let (x, ty) = (region.graph().args(value.node)[0], region.graph().ty(value).clone());
    let (index, axis) = region.axes_along(&ty.shape, of.axis);
    let mut at = Point::default();
    let value = region.pull(&mut at, x, &exact(index.clone()));
    let arg = region.arg(Source::Result(0), Arg::dense(ty.dtype, ty.shape.0, Mode::Write));
    let to = Store { arg, index: exact(index), value };
    KernelBody::Prefix(Prefix { axes: region.axes.clone(), axis, reverse: of.reverse, kind: of.kind, body: at.body, to })
}
