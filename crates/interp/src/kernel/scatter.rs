//! Stores at run-time positions, in row-major order of the points.

use graver_ir::Diag;
use graver_ir::kernel::{AxisSet, Scatter};

use super::body::{Code, Frame, Put, Scratch};
use super::expr::sizes_of;
use super::launch::Running;
use super::points::each;

/// Runs a scatter. Every combination is rounded to the argument's type, as memory has it.
pub(super) fn run(scatter: &Scatter, running: &mut Running<'_>) -> Result<(), Diag> {
    let axes = sizes_of(&scatter.axes, running.sizes)?;
    let code = Code::new(&scatter.body, running.sizes)?;
    let to = Put::new(&scatter.to, running.sizes)?;
    let mut scratch = Scratch::default();
    each(AxisSet::first(axes.len()), &axes, |point| {
        code.run(&Frame::plain(point), running, &mut scratch)?;
        let holds = scatter.when.is_none_or(|when| scratch.value(when).int() != 0);
        if holds { to.combine(scatter.kind, point, running, &mut scratch) } else { Ok(()) }
    })
}
