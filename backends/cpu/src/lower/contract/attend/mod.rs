//! Attention: blocks of rows against blocks of columns, with what is between products and sums in a second-level cache.
//!
//! What columns have is packed once, as for contractions. A parallel point is a block of rows: for every block of columns that counts, the
//! products of both are tiles that go to scratch memory, weights are made of them row by row, and tiles add to the rows' sums. A
//! softmax carries the greatest score and the sum of every row along, and scales what was summed before (Milakov and Gimelshein,
//! 2018, "Online normalizer calculation for softmax"; Dao et al., 2022, "FlashAttention"). Blocks depend on sizes alone, so results do
//! not depend on threads. Where there are sums over rows, a parallel point is a part of the blocks of rows, see `across`.

mod across;
mod block;
mod keep;
mod rows;

use graver_ir::Dim;
use graver_ir::kernel::{Attend, AxisSet, Body, Contract, Side, Sum, ValueId};

use self::keep::Keep;
use super::super::cx::Cx;
use super::super::{Lowered, Phase, nest};
use super::pack::Panel;
use super::plan::POINTS;
use super::sides::{Operand, slope};
use super::tile::{bind, range};
use super::{Shape, Tiling};
use crate::vector::{Elem, Val};

/// Rows of a block, about.
const ROWS: i64 = 48;
/// Columns of a block, about.
const COLUMNS: i64 = 256;
/// Elements from the end of a row to the next: rows do not fall on the same sets of a cache.
const APART: i64 = 16;

pub(in crate::lower) fn lower(cx: Cx<'_>, attend: &Attend) -> Lowered {
    let contracts = contracts(attend);
    match Plan::new(&cx, attend, &contracts) {
        Some(plan) => plan.lower(cx),
        None => nest::lower(cx, &attend.as_nest()),
    }
}

/// The products, then the sums, as contractions of a row block and the columns; then sums over rows, of columns and a row block.
fn contracts(attend: &Attend) -> Vec<Contract> {
    let column = column(attend);
    let outer = attend.batch.union(attend.columns.minus(AxisSet::EMPTY.with(column)));
    let one = |axis: usize| AxisSet::EMPTY.with(axis);
    let contract = |a: &Side, b: &Side, (m, n): (usize, usize), k: usize| Contract {
        axes: attend.axes.clone(),
        batch: outer,
        m: one(m),
        n: one(n),
        k: one(k),
        a: a.clone(),
        b: b.clone(),
        acc: attend.acc,
        epilogue: Body::default(),
        stores: Vec::new(),
    };
    let rows = attend.rows;
    let products = attend.products.iter().map(|product| contract(&product.rows, &product.columns, (rows, column), product.k));
    let sums = attend.sums.iter().map(|sum| contract(&sum.side, &sum.side, (rows, sum.free), column));
    let across = attend.across.iter().map(|sum| contract(&sum.side, &sum.side, (column, sum.free), rows));
    products.chain(sums).chain(across).collect()
}

/// The axis of columns along which neighbours are neighbours.
fn column(attend: &Attend) -> usize {
    attend.columns.iter().last().expect("K29: columns have an axis")
}

/// A contraction whose columns are packed.
struct Packed<'a> {
    tiling: Tiling<'a>,
    /// The axes that tell one packing from another.
    outer: Vec<usize>,
    panels: Dim,
    /// Bytes of a panel.
    panel: Dim,
    /// Where it begins in the memory that all threads share.
    offset: Dim,
}

/// How an attention is run.
struct Plan<'a> {
    attend: &'a Attend,
    /// Those of which a row's products are.
    products: Vec<Packed<'a>>,
    /// Those of which its sums are.
    sums: Vec<Packed<'a>>,
    /// Those of which sums over rows are: packed block by block; in the shared memory are the sums.
    across: Vec<Packed<'a>>,
    /// The values that sums are weighed by, each once: each has a matrix.
    weights: Vec<ValueId>,
    /// Parallel points of a batch, where there are sums over rows.
    parts: Dim,
    batch: Vec<usize>,
    column: usize,
    /// The other axes of columns.
    outer: Vec<usize>,
    shape: Shape,
    /// Columns of a tile.
    width: i64,
    /// Rows and columns of a block.
    height: i64,
    breadth: i64,
    keep: Vec<Keep>,
    shared: Dim,
}

impl<'a> Plan<'a> {
    /// `None` where a width is no number, an axis is of one step, or what counts is not a range of columns.
    fn new(cx: &Cx<'_>, attend: &'a Attend, contracts: &'a [Contract]) -> Option<Self> {
        let size = |axis: usize| &attend.axes[axis];
        let frees: Vec<i64> = attend.all_sums().map(|(sum, _)| size(sum.free).as_const()).collect::<Option<_>>()?;
        let known = attend.products.iter().all(|product| size(product.k).as_const().is_some_and(|k| k > 1));
        let known = known && !size(attend.rows).is(1) && !size(column(attend)).is(1) && frees.iter().all(|free| *free > 1);
        let keep = attend.keep.iter().map(|keep| Keep::of(keep, attend)).collect::<Option<_>>()?;
        let widest = frees.iter().copied().max().filter(|_| known)?;
        let elem = Some(Elem::of(attend.acc)).filter(|elem| *elem == Elem::F32)?;
        let shape = Shape::best(cx.lanes, false, size(attend.rows), &Dim::from(widest));
        let width = shape.vectors * i64::try_from(cx.lanes).expect("few lanes");
        let mut packed: Vec<Packed<'a>> =
            contracts.iter().map(|contract| Packed::new(cx, contract, (elem, shape), width)).collect();
        let mut sums = packed.split_off(attend.products.len());
        let across = sums.split_off(attend.sums.len());
        let mut weights: Vec<ValueId> = Vec::new();
        for (sum, _) in attend.all_sums() {
            if !weights.contains(&sum.to.value) {
                weights.push(sum.to.value);
            }
        }
        let column = column(attend);
        let plan = Self {
            attend,
            products: packed,
            sums,
            across,
            weights,
            parts: Dim::ONE,
            batch: attend.batch.iter().collect(),
            column,
            outer: attend.columns.iter().filter(|axis| *axis != column).collect(),
            shape,
            width,
            height: (ROWS / shape.rows).max(1) * shape.rows,
            breadth: (COLUMNS / width).max(1) * width,
            keep,
            shared: Dim::ZERO,
        };
        Some(plan.placed())
    }

    /// With places for everything in the memory that all threads share.
    fn placed(mut self) -> Self {
        let batch: Dim = self.batch.iter().map(|axis| self.attend.axes[*axis].clone()).product();
        let points = Dim::from(POINTS).ceil_div(&batch.max_with(&Dim::ONE));
        self.parts = points.min_with(&self.blocks()).max_with(&Dim::ONE);
        let across = self.across.iter().map(|packed| self.across_bytes(packed));
        let bytes: Vec<Dim> = self.products.iter().chain(&self.sums).map(Packed::bytes).chain(across).collect();
        for (bytes, packed) in bytes.into_iter().zip(self.products.iter_mut().chain(&mut self.sums).chain(&mut self.across)) {
            packed.offset = self.shared.clone();
            self.shared = (&self.shared + bytes).round_up(64);
        }
        self
    }

    fn lower(&self, cx: Cx<'_>) -> Lowered {
        let packs = self.products.iter().chain(&self.sums).enumerate();
        let mut phases: Vec<Phase> =
            packs.map(|(number, packed)| packed.pack(cx.again(&format!("pack{number}")), self.width)).collect();
        let gather = (!self.across.is_empty()).then(|| self.gather(cx.again("gather")));
        phases.push(self.rows(cx));
        phases.extend(gather);
        Lowered::new(phases, self.shared.clone())
    }

    /// How many blocks of rows there are.
    fn blocks(&self) -> Dim {
        self.attend.axes[self.attend.rows].ceil_div(&Dim::from(self.height))
    }

    /// The matrix of a sum's weights.
    fn weight(&self, sum: &Sum) -> usize {
        self.weights.iter().position(|weight| *weight == sum.to.value).expect("every sum has its weight among them")
    }

    /// The phase of the blocks of rows.
    fn rows(&self, mut cx: Cx<'_>) -> Phase {
        let attend = self.attend;
        let rows = &attend.axes[attend.rows];
        let blocks = self.blocks();
        let mut digits: Vec<Dim> = self.batch.iter().map(|axis| attend.axes[*axis].clone()).collect();
        digits.push(if self.across.is_empty() { blocks.clone() } else { self.parts.clone() });
        let memory = self.memory(&mut cx);
        cx.parallel(&digits, &mut |cx, digits| {
            let (block, batch) = digits.split_last().expect("a block is the last digit");
            bind(cx, &self.batch, batch);
            if !self.across.is_empty() {
                self.part(cx, &memory, *block);
                return;
            }
            let block = if self.keep.is_empty() { *block } else { from_both_ends(cx, *block, &blocks) };
            let (begin, end) = range(cx, block, self.height, rows);
            self.block(cx, &memory, None, begin, end);
        });
        let matrix: Dim = attend.matrix().iter().map(|axis| attend.axes[axis].clone()).product();
        let inner = attend.products.iter().map(|product| product.k).chain(attend.all_sums().map(|(sum, _)| sum.free));
        let inner: Dim = inner.map(|axis| attend.axes[axis].clone()).sum();
        let work = matrix * (inner.floor_div(&Dim::from(8)) + Dim::ONE);
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }
}

/// The blocks in an order in which halves of all are as much work: the first, the last, the second, ...
fn from_both_ends(cx: &mut Cx<'_>, block: Val, blocks: &Dim) -> Val {
    let (one, last) = (cx.b.int(1), cx.value(&(blocks - Dim::ONE)));
    let half = cx.b.shift(crate::vector::Shift::Logical, block, 1);
    let odd = cx.b.and(block, one);
    let odd = cx.b.compare(crate::vector::Compare::Eq, odd, one);
    let from_end = cx.b.sub(last, half);
    cx.b.select(odd, from_end, half)
}

impl<'a> Packed<'a> {
    fn new(cx: &Cx<'_>, contract: &'a Contract, (elem, shape): (Elem, Shape), width: i64) -> Self {
        let of = |set: AxisSet| set.iter().collect::<Vec<usize>>();
        let operand = |side: &'a Side, axes: AxisSet| {
            let own = axes.iter().next().expect("a side has an axis of its own");
            let along = |(_, access): (_, &graver_ir::kernel::Access)| slope(cx, access.arg, &access.index, own);
            let along_own = side.body.loads().next().and_then(along).is_some_and(|slope| slope.is(1));
            Operand::new(side, of(axes), along_own, elem)
        };
        let used = contract.b.body.axes().into_iter().fold(AxisSet::EMPTY, AxisSet::union);
        let outer = of(used.intersection(contract.batch));
        let tiling = Tiling {
            contract,
            rows: operand(&contract.a, contract.m),
            columns: operand(&contract.b, contract.n),
            batch: of(contract.batch),
            k: of(contract.k),
            elem,
            words: None,
            shape,
        };
        let panels = tiling.count(&tiling.columns.axes).ceil_div(&Dim::from(width));
        let panel = tiling.count(&tiling.k) * Dim::from(width * tiling.bytes());
        Self { tiling, outer, panels, panel, offset: Dim::ZERO }
    }

    /// Bytes of all panels.
    fn bytes(&self) -> Dim {
        self.tiling.count(&self.outer) * &self.panels * &self.panel
    }

    /// The phase that packs the columns, a panel a point.
    fn pack(&self, mut cx: Cx<'_>, width: i64) -> Phase {
        let tiling = &self.tiling;
        let columns = tiling.count(&tiling.columns.axes);
        let mut digits: Vec<Dim> = self.outer.iter().map(|axis| tiling.size(*axis)).collect();
        digits.push(self.panels.clone());
        cx.parallel(&digits, &mut |cx, digits| {
            let (panel, outer) = digits.split_last().expect("a panel is the last digit");
            bind(cx, &self.outer, outer);
            let (begin, end) = range(cx, *panel, width, &columns);
            let base = self.at(cx, *panel);
            let place = Panel { base, own_stride: Dim::ONE, k_stride: Dim::from(width) };
            tiling.pack(cx, &tiling.columns, &place, begin, end, None);
        });
        let work = tiling.count(&self.outer) * columns * tiling.count(&tiling.k) * Dim::from(2);
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    /// The address of a panel where the outer axes stand.
    fn at(&self, cx: &mut Cx<'_>, panel: Val) -> Val {
        let shared = cx.shared();
        let (offset, panels) = (cx.value(&self.offset), cx.value(&self.panels));
        let number = cx.value(&self.tiling.number(&self.outer));
        let number = cx.b.mul(number, panels);
        let number = cx.b.add(number, panel);
        let bytes = cx.value(&self.panel);
        let inside = cx.b.mul(number, bytes);
        let base = cx.b.add(shared, offset);
        cx.b.add(base, inside)
    }
}
