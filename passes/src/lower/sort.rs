//! Orders: what is compared is computed at every point, and positions are stored at places of the same axis.

use graver_ir::kernel::{Arg, KernelBody, Mode, Sort, Store};
use graver_ir::{Value, op};

use super::point::{Point, at as exact};
use super::region::{Region, Source};

pub(super) fn lower(region: &mut Region<'_>, value: Value, of: op::Sort) -> KernelBody {
    let (x, ty) = (region.graph().args(value.node)[0], region.graph().ty(value).clone());
    let (index, axis) = region.axes_along(&ty.shape, of.axis);
    let mut at = Point::default();
    let value = region.pull(&mut at, x, &exact(index.clone()));
    let arg = region.arg(Source::Result(0), Arg::dense(ty.dtype, ty.shape.0, Mode::Write));
    let to = Store { arg, index: exact(index), value };
    KernelBody::Sort(Sort { axes: region.axes.clone(), axis, descending: of.descending, body: at.body, to })
}
