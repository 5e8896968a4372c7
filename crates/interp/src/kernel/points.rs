//! Points of some axes of a kernel.

use graver_ir::Diag;
use graver_ir::kernel::AxisSet;

use super::expr::UNVISITED;

/// Visits every point of the axes in `over`, in row-major order by ascending axis.
pub(super) fn each(over: AxisSet, axes: &[i64], mut visit: impl FnMut(&[i64]) -> Result<(), Diag>) -> Result<(), Diag> {
    let start = vec![UNVISITED; axes.len()];
    each_from(&start, over, axes, &mut visit)
}

/// As [`each`], with the other axes where `start` has them.
pub(super) fn each_from(
    start: &[i64],
    over: AxisSet,
    axes: &[i64],
    visit: &mut dyn FnMut(&[i64]) -> Result<(), Diag>,
) -> Result<(), Diag> {
    let visited: Vec<usize> = over.iter().filter(|axis| *axis < axes.len()).collect();
    let mut point = start.to_vec();
    visited.iter().for_each(|axis| point[*axis] = 0);
    for _ in 0..count(over, axes) {
        visit(&point)?;
        for axis in visited.iter().rev() {
            point[*axis] += 1;
            if point[*axis] < axes[*axis] {
                break;
            }
            point[*axis] = 0;
        }
    }
    Ok(())
}

/// The number of points of these axes.
pub(super) fn count(over: AxisSet, axes: &[i64]) -> usize {
    let sizes = over.iter().filter_map(|axis| axes.get(axis)).map(|size| usize::try_from(*size).unwrap_or(0));
    sizes.product()
}

/// The row-major position of a point among these axes.
pub(super) fn position(of: AxisSet, axes: &[i64], point: &[i64]) -> Result<usize, Diag> {
    let mut position = 0;
    for axis in of.iter() {
        if point[axis] == UNVISITED {
            return Err(Diag::new(format!("axis {axis} is kept by a reduction, but not visited here")));
        }
        position = position * axes[axis] + point[axis];
    }
    Ok(usize::try_from(position).expect("a point lies inside of its axes"))
}
