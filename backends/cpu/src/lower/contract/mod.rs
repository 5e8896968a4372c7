//! Contractions: packed panels and register tiles, or a loop nest where tiles are not worth it.
//!
//! One side gives the rows of the result's tiles, one the columns, which go over lanes: the side that holds the axis along
//! which the result is contiguous. The columns' side is packed once, `[panel][k][column]`; the rows' side block by block,
//! by each thread, just before use. Packing evaluates the sides' bodies, so windows and transposed operands are packed like
//! any other, and the tiles see only panels. The order of `k` is fixed, so results do not depend on blocks or threads.

pub(super) mod attend;
mod pack;
mod plan;
mod sides;
mod tile;

use graver_ir::kernel::{AxisSet, Contract, InstKind};
use graver_ir::{DType, Dim};

use self::sides::{Operand, Sides};
use super::cx::Cx;
use super::{Lowered, nest};
use crate::vector::Elem;

/// Shapes of tiles in rows and vectors of columns, by the lanes of a vector, the best first: sums, a row of vectors and a
/// broadcast fit the registers, of which machines with 16 lanes have 32, others 16.
const SHAPES: [(usize, &[Shape]); 3] = [
    (4, &[Shape::new(5, 2)]),
    (8, &[Shape::new(6, 2), Shape::new(4, 3), Shape::new(12, 1)]),
    (16, &[Shape::new(8, 3), Shape::new(6, 4), Shape::new(14, 2), Shape::new(4, 6), Shape::new(28, 1)]),
];
/// Below so many products a nest is as good.
const SMALL: i64 = 2048;

pub(super) fn lower(cx: Cx<'_>, contract: &Contract, lasting: &[bool]) -> Lowered {
    match Tiling::new(&cx, contract, lasting) {
        Some(tiling) => plan::lower(cx, &tiling),
        None => nest::lower(cx, &contract.as_nest()),
    }
}

/// The sums of a tile: rows, and vectors of columns.
#[derive(Clone, Copy, Debug)]
struct Shape {
    rows: i64,
    vectors: i64,
}

impl Shape {
    const fn new(rows: i64, vectors: i64) -> Self {
        Self { rows, vectors }
    }

    /// The best shape of those whose tiles cover the result with little beyond it, which is computed for nothing.
    fn best(lanes: usize, doubles: bool, rows: &Dim, columns: &Dim) -> Self {
        let (_, shapes) = SHAPES.iter().find(|(known, _)| *known == lanes).expect("a level has 4, 8 or 16 lanes");
        let lanes = i64::try_from(lanes).expect("few lanes");
        let covered = |size: &Dim, part: i64| size.as_const().map_or(1, |size| (size.max(1) + part - 1) / part * part);
        // A vector of doubles takes two registers.
        let of_elem = |shape: &Self| Self { vectors: if doubles { shape.vectors / 2 } else { shape.vectors }, ..*shape };
        let shapes = || shapes.iter().map(of_elem).filter(|shape| shape.vectors > 0);
        let cost = |shape: &Self| covered(rows, shape.rows).saturating_mul(covered(columns, shape.vectors * lanes));
        let least = shapes().map(|shape| cost(&shape)).min().expect("some shape holds doubles");
        shapes().find(|shape| cost(shape) <= least.saturating_add(least / 25)).expect("the least is little")
    }
}

/// Who is what in the tiles.
struct Tiling<'a> {
    contract: &'a Contract,
    /// The side whose elements are broadcast.
    rows: Operand<'a>,
    /// The side whose elements go over lanes.
    columns: Operand<'a>,
    batch: Vec<usize>,
    /// The order of summation: the innermost last.
    k: Vec<usize>,
    elem: Elem,
    shape: Shape,
}

impl<'a> Tiling<'a> {
    fn new(cx: &Cx<'_>, contract: &'a Contract, lasting: &[bool]) -> Option<Self> {
        let elem = match contract.acc {
            DType::F32 => Elem::F32,
            DType::F64 => Elem::F64,
            DType::F16 | DType::BF16 | DType::Bool => return None,
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U32 | DType::U16 | DType::U8 => return None,
        };
        let axes = &contract.axes;
        let size_of = |of: &[usize]| -> Dim { of.iter().map(|axis| axes[*axis].clone()).product() };
        let short = |set: AxisSet| size_of(&set.iter().collect::<Vec<_>>()).as_const().is_some_and(|size| size <= 1);
        let all: Dim = axes.iter().product();
        if short(contract.m) || short(contract.n) || short(contract.k) || all.as_const().is_some_and(|all| all < SMALL) {
            return None;
        }
        if has_checks(contract) {
            return None;
        }
        let Sides { rows, columns, k } = Sides::best(cx, contract, lasting);
        let shape = Shape::best(cx.lanes, elem == Elem::F64, &size_of(&rows.axes), &size_of(&columns.axes));
        Some(Self { contract, rows, columns, batch: contract.batch.iter().collect(), k, elem, shape })
    }

    fn size(&self, axis: usize) -> Dim {
        self.contract.axes[axis].clone()
    }

    fn count(&self, axes: &[usize]) -> Dim {
        axes.iter().map(|axis| self.size(*axis)).product()
    }

    /// The columns of a tile.
    fn width(&self, cx: &Cx<'_>) -> i64 {
        self.shape.vectors * i64::try_from(cx.lanes).expect("few lanes")
    }

    /// Vectors of columns in a tile.
    fn vectors(&self) -> usize {
        usize::try_from(self.shape.vectors).expect("few vectors")
    }

    /// The row-major number of a point over some axes.
    fn number(&self, axes: &[usize]) -> Dim {
        let (mut number, mut count) = (Dim::ZERO, Dim::ONE);
        for axis in axes.iter().rev() {
            let size = self.size(*axis);
            number = number + Dim::axis(u32::try_from(*axis).expect("few axes"), &size) * &count;
            count = count * size;
        }
        number
    }

    fn bytes(&self) -> i64 {
        i64::try_from(self.elem.dtype().size()).expect("few bytes")
    }
}

/// Checks report in the order of points, which tiles do not keep.
fn has_checks(contract: &Contract) -> bool {
    let bodies = [&contract.a.body, &contract.b.body, &contract.epilogue];
    bodies.iter().any(|body| body.insts.iter().any(|inst| matches!(inst.kind, InstKind::Check { .. })))
}
