//! Axes that are one run: from the end of a run of the last axis to the beginning of the next, every access is as far on as from one position to the next.
//! A weight's gradient `[out, in, 3, 3]` is 3 elements at a time along its last axis, and `9 in` along its last three.

use graver_ir::Dim;
use graver_ir::kernel::{Access, Body, Bounds, Index, InstKind, Store};

use super::super::cx::{At, Cx};
use super::Tiling;

/// Whether numbers over the axes, row-major, may stand for the last axis, the others being at 0, wherever a body reads and stores go.
pub(super) fn is_flat(cx: &Cx<'_>, sizes: &[Dim], axes: &[usize], body: &Body, stores: &[Store]) -> bool {
    let offset = |arg: usize, index: &[Index]| -> Option<Dim> {
        let strides = &cx.arg(arg).strides;
        index.iter().zip(strides).map(|(index, stride)| matches!(index, Index::At(_)).then(|| index.dim() * stride)).sum()
    };
    let reads = body.insts.iter().all(|inst| match &inst.kind {
        InstKind::Load(Access { arg, index, bounds: Bounds::Proven }) => {
            offset(*arg, index).is_some_and(|offset| goes_on(&offset, sizes, axes))
        }
        InstKind::Load(_) => false,
        InstKind::Index(dim) => goes_on(dim, sizes, axes),
        InstKind::Const(_) | InstKind::Map(..) | InstKind::Cast(_) | InstKind::Bitcast(_) | InstKind::Acc => true,
        InstKind::Reduced { .. } | InstKind::Check { .. } | InstKind::Philox { .. } => true,
    });
    reads && stores.iter().all(|store| offset(store.arg, &store.index).is_some_and(|offset| goes_on(&offset, sizes, axes)))
}

/// Whether an expression is a multiple of the number over the axes, but for what does not depend on them.
fn goes_on(dim: &Dim, sizes: &[Dim], axes: &[usize]) -> bool {
    let slope = |axis: usize| {
        let (slope, _) = dim.along(axis)?;
        slope.axes().iter().all(|var| !axes.contains(&(var.id as usize))).then_some(slope)
    };
    let (mut step, mut is_last) = (Dim::ZERO, true);
    for axis in axes.iter().rev() {
        let Some(slope) = slope(*axis) else { return false };
        if !is_last && slope != step {
            return false;
        }
        (step, is_last) = (slope * &sizes[*axis], false);
    }
    true
}

impl Tiling<'_> {
    /// The axes whose runs the result's columns are: where all columns are one run, the last alone, and the others are bound to where they begin.
    pub(super) fn result_axes(&self, cx: &mut Cx<'_>) -> &[usize] {
        let (contract, axes) = (self.contract, &self.columns.axes);
        if !is_flat(cx, &contract.axes, axes, &contract.epilogue, &contract.stores) {
            return axes;
        }
        let (outer, last) = axes.split_at(axes.len() - 1);
        let zero = cx.b.int(0);
        outer.iter().for_each(|axis| cx.at[*axis] = At::One(zero));
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_for_the_last_axis_where_the_next_run_goes_on() {
        let size = Dim::sym(&graver_ir::Symbol::new("channels"));
        let sizes = [size.clone(), Dim::from(3), Dim::from(5), Dim::from(7)];
        let at = |axis: u32| Dim::axis(axis, &sizes[axis as usize]);
        let number = at(0) * Dim::from(15) + at(1) * Dim::from(5) + at(2);
        let goes_on = |dim: &Dim, axes: &[usize]| goes_on(dim, &sizes, axes);
        assert!(goes_on(&number, &[0, 1, 2]));
        assert!(goes_on(&(&number * Dim::from(2) + at(3) * &size), &[0, 1, 2]), "far apart, and elsewhere by another axis");
        assert!(goes_on(&at(3), &[0, 1, 2]), "not at all");
        assert!(goes_on(&(at(1) * &size + at(0)), &[1, 0]), "a size that is not known");
        assert!(!goes_on(&number, &[0, 2, 1]), "another order");
        assert!(!goes_on(&(&number + at(0)), &[0, 1, 2]), "gaps");
        assert!(!goes_on(&at(2), &[0, 1, 2]), "again and again");
        assert!(!goes_on(&(at(0) * at(2)), &[0, 2]), "a product");
        assert!(!goes_on(&number.floor_div(&Dim::from(2)), &[0, 1, 2]), "a quotient");
    }
}
