//! Contractions: packed panels and register tiles, or a loop nest where tiles are not worth it.
//!
//! One side gives the rows of the result's tiles, one the columns, which go over lanes: the side that holds the axis along
//! which the result is contiguous. The columns' side is packed once, `[panel][k][column]`; the rows' side block by block,
//! by each thread, just before use. Packing evaluates the sides' bodies, so windows and transposed operands are packed like
//! any other, and the tiles see only panels. The order of `k` is fixed, so results do not depend on blocks or threads.

mod amx;
pub(super) mod attend;
mod fetch;
mod flat;
mod pack;
mod parts;
mod plan;
mod sides;
mod stream;
mod tile;
mod winograd;
mod words;

use graver_ir::kernel::{AxisSet, Contract, InstKind};
use graver_ir::{DType, Dim};

use self::parts::Parts;
use self::sides::{Operand, Sides};
use self::stream::Stream;
use self::winograd::{Gradient, Winograd};
use self::words::{LINES, Words};
use super::cx::Cx;
use super::{Lowered, Phase, nest};
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
    if let Some(stream) = elem_of(contract).and_then(|elem| Stream::new(&cx, contract, elem)) {
        return stream.lower(cx);
    }
    if let Some(winograd) = elem_of(contract).and_then(|elem| Winograd::new(&cx, contract, elem, lasting)) {
        return winograd.lower(cx);
    }
    if let Some(gradient) = elem_of(contract).and_then(|elem| Gradient::new(&cx, contract, elem)) {
        return gradient.lower(cx);
    }
    let Some(elem) = elem_of(contract).filter(|_| pays(contract)) else { return nest::lower(cx, &contract.as_nest()) };
    let sides = Sides::best(&cx, contract, elem, lasting);
    let tiling = Tiling::new(&cx, contract, elem, sides);
    if let Some(parts) = Parts::new(&cx, &tiling, lasting) {
        return parts.lower(&cx, &tiling);
    }
    match Stream::of_one(&cx, contract, elem, lasting) {
        Some((stream, rows)) => of_one_row_or_more(stream.lower(cx.again("row")), plan::lower(cx, &tiling), &rows),
        None => plan::lower(cx, &tiling),
    }
}

/// What sums are made of; `None` where neither tiles nor streams are made for it, or a check reports in the order of points.
fn elem_of(contract: &Contract) -> Option<Elem> {
    match contract.acc {
        DType::F32 => Some(Elem::F32),
        DType::F64 => Some(Elem::F64),
        DType::I32 => Some(Elem::I32),
        DType::F16 | DType::BF16 | DType::Bool => None,
        DType::I64 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => None,
    }
    .filter(|_| !has_checks(contract))
}

/// Whether tiles are worth it: there are rows, columns and sums, and many products.
fn pays(contract: &Contract) -> bool {
    let size_of = |set: AxisSet| -> Dim { set.iter().map(|axis| contract.axes[axis].clone()).product() };
    let is_short = |set: AxisSet| size_of(set).as_const().is_some_and(|size| size <= 1);
    let all: Dim = contract.axes.iter().product();
    ![contract.m, contract.n, contract.k].into_iter().any(is_short) && all.as_const().is_none_or(|all| all >= SMALL)
}

/// The phases of both, of which those of one have points.
fn of_one_row_or_more(one: Lowered, more: Lowered, rows: &Dim) -> Lowered {
    let is_more = rows.floor_div(&Dim::from(2)).min_with(&Dim::ONE);
    let is_one = rows.min_with(&Dim::ONE) - &is_more;
    let when = |is: &Dim, phases: Vec<Phase>| -> Vec<Phase> {
        phases.into_iter().map(|phase| Phase { extent: phase.extent * is, ..phase }).collect()
    };
    let shared = one.shared * &is_one + more.shared * &is_more;
    let phases = when(&is_one, one.phases).into_iter().chain(when(&is_more, more.phases)).collect();
    Lowered::new(phases, shared)
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
        let most_rows = rows.as_const().unwrap_or(i64::MAX).max(1);
        // A vector of doubles takes two registers.
        let of_elem = |shape: &Self| Self {
            vectors: if doubles { shape.vectors / 2 } else { shape.vectors },
            rows: shape.rows.min(most_rows),
        };
        let shapes = || shapes.iter().map(of_elem).filter(|shape| shape.vectors > 0);
        // Columns are shared out in pairs of panels, where there are more than one.
        let shared = |width: i64| {
            covered(columns, width).max(if columns.as_const().is_some_and(|size| size > width) {
                covered(columns, 2 * width)
            } else {
                0
            })
        };
        let cost = |shape: &Self| covered(rows, shape.rows).saturating_mul(shared(shape.vectors * lanes));
        let least = shapes().map(|shape| cost(&shape)).min().expect("some shape holds doubles");
        shapes().find(|shape| cost(shape) <= least.saturating_add(least / 25)).expect("the least is little")
    }

    /// Two tiles of AMX by two, or one by two where rows are few.
    fn of_tiles(rows: &Dim) -> Self {
        Self::new(if rows.as_const().is_some_and(|rows| rows <= LINES) { LINES } else { 2 * LINES }, 2)
    }

    /// Rows of tiles, whole ones first, then those of lower tiles for what rows are left: few rows are work for few.
    fn heights(self, rows: &Dim) -> Vec<i64> {
        let whole = self.rows;
        let lower = match rows.as_const() {
            Some(rows) => vec![rows % whole],
            None => vec![whole / 2, 1],
        };
        // A tile that is nearly whole costs as much as a whole one.
        let pays = |height: &i64| *height > 0 && *height < whole * 3 / 4;
        [whole].into_iter().chain(lower.into_iter().filter(pays)).collect()
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
    /// By what words are multiplied, if elements are packed in them.
    words: Option<Words>,
    shape: Shape,
}

impl<'a> Tiling<'a> {
    fn new(cx: &Cx<'_>, contract: &'a Contract, elem: Elem, Sides { rows, columns, k }: Sides<'a>) -> Self {
        let count = |operand: &Operand<'_>| operand.axes.iter().map(|axis| contract.axes[*axis].clone()).product::<Dim>();
        let words = Words::of(cx, elem, rows.side, columns.side);
        let shape = match words {
            Some(Words::Tiles(_)) => Shape::of_tiles(&count(&rows)),
            Some(Words::Vectors(_)) | None => Shape::best(cx.lanes, elem == Elem::F64, &count(&rows), &count(&columns)),
        };
        let [rows, columns] = [rows, columns].map(|operand| match words {
            Some(words) => words.packed(operand),
            None => operand,
        });
        Self { contract, rows, columns, batch: contract.batch.iter().collect(), k, elem, words, shape }
    }

    /// Whether rows are packed next to each other, rather than `k`; lines of tiles of AMX are words of one row.
    fn rows_are_neighbours(&self) -> bool {
        self.rows.along_own && !matches!(self.words, Some(Words::Tiles(_)))
    }

    /// Rows of tiles, the highest first.
    fn heights(&self, rows: &Dim) -> Vec<i64> {
        if !matches!(self.words, Some(Words::Tiles(_))) {
            return self.shape.heights(rows);
        }
        let whole = self.shape.rows;
        let is_low = rows.as_const().is_none_or(|rows| (1..=LINES).contains(&(rows % whole)));
        if is_low && whole > LINES { vec![whole, LINES] } else { vec![whole] }
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
        number(&self.contract.axes, axes)
    }

    fn bytes(&self) -> i64 {
        i64::try_from(self.elem.dtype().size()).expect("few bytes")
    }
}

/// The row-major number of a point over some axes.
pub(super) fn number(sizes: &[Dim], axes: &[usize]) -> Dim {
    let (mut number, mut count) = (Dim::ZERO, Dim::ONE);
    for axis in axes.iter().rev() {
        let size = &sizes[*axis];
        number = number + Dim::axis(u32::try_from(*axis).expect("few axes"), size) * &count;
        count = count * size;
    }
    number
}

/// Checks report in the order of points, which tiles do not keep.
fn has_checks(contract: &Contract) -> bool {
    let bodies = [&contract.a.body, &contract.b.body, &contract.epilogue];
    bodies.iter().any(|body| body.insts.iter().any(|inst| matches!(inst.kind, InstKind::Check { .. })))
}
