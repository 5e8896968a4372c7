//! Elements in order: one line after the other, by the order that the language defines.

use graver_ir::Diag;
use graver_ir::kernel::{AxisSet, Sort};

use super::body::{Code, Frame, Put, Scratch};
use super::expr::sizes_of;
use super::launch::Running;
use super::points::each;
use crate::scalar::{Num, compare};

/// Runs a sort.
pub(super) fn run(sort: &Sort, running: &mut Running<'_>) -> Result<(), Diag> {
    let axes = sizes_of(&sort.axes, running.sizes)?;
    let code = Code::new(&sort.body, running.sizes)?;
    let to = Put::new(&sort.to, running.sizes)?;
    let mut scratch = Scratch::default();
    let lines = AxisSet::first(axes.len()).minus(AxisSet::EMPTY.with(sort.axis));
    each(lines, &axes, |line| {
        let mut point = line.to_vec();
        let mut keys: Vec<(Num, i64)> = Vec::new();
        for position in 0..axes[sort.axis] {
            point[sort.axis] = position;
            code.run(&Frame::plain(&point), running, &mut scratch)?;
            keys.push((scratch.value(sort.to.value), position));
        }
        keys.sort_by(|(x, _), (y, _)| compare(*x, *y, sort.descending));
        for (place, (_, position)) in (0i64..).zip(keys) {
            point[sort.axis] = place;
            to.store_value(Num::Int(position), &point, running, &mut scratch)?;
        }
        Ok(())
    })
}
