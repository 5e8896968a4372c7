//! Elements combined with all before them: one line after the other, from one of its ends.

use graver_ir::Diag;
use graver_ir::kernel::{AxisSet, Prefix};

use super::body::{Code, Frame, Put, Scratch};
use super::expr::sizes_of;
use super::launch::Running;
use super::nest::combine_nums;
use super::points::each;
use crate::scalar::{Num, Precision, finish};

/// Runs a prefix.
pub(super) fn run(prefix: &Prefix, running: &mut Running<'_>) -> Result<(), Diag> {
    let axes = sizes_of(&prefix.axes, running.sizes)?;
    let code = Code::new(&prefix.body, running.sizes)?;
    let to = Put::new(&prefix.to, running.sizes)?;
    let dtype = prefix.body.dtype(prefix.to.value);
    let mut scratch = Scratch::default();
    let lines = AxisSet::first(axes.len()).minus(AxisSet::EMPTY.with(prefix.axis));
    each(lines, &axes, |line| {
        let mut point = line.to_vec();
        let mut combined: Option<Num> = None;
        let size = axes[prefix.axis];
        for step in 0..size {
            point[prefix.axis] = if prefix.reverse { size - 1 - step } else { step };
            code.run(&Frame::plain(&point), running, &mut scratch)?;
            let x = scratch.value(prefix.to.value);
            let all = combined.map_or(x, |before| combine_nums(prefix.kind, before, x));
            combined = Some(all);
            to.store_value(finish(dtype, Precision::Typed, all), &point, running, &mut scratch)?;
        }
        Ok(())
    })
}
