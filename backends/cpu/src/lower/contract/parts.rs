//! Few sums that are long, as those of a weight's gradient are: parallel points are parts of `k`, whose sums a nest adds up in order, and makes results of.
//!
//! Everything is read once, where blocks of rows would each read all of the columns, and what is packed never leaves a second-level cache. How many parts there
//! are follows from sizes alone, and results do not depend on threads.

use graver_ir::Dim;
use graver_ir::kernel::{
    Access, Arg, AxisSet, Body, Bounds, Combine, Contract, Index, InstKind, Kernel, Mode, Nest, Reduction, Stage, Store,
};
use graver_ir::op::ReduceKind;

use super::super::cx::{At, Cx};
use super::super::{Lowered, Phase, nest};
use super::Tiling;
use super::pack::{Panel, Span};
use super::plan::{POINTS, Plan, first_row, with_batch};
use super::tile::{Block, Column, bind, range};
use crate::vector::{Binary, Val};

/// Sums at most that parts of `k` each have all of: with what is packed they fit a second-level cache, more or less.
const FEW: i64 = 160_000;
/// Steps of `k` that a part has at least.
const LONG: i64 = 1024;

/// Sums, and what is made of them.
pub(super) struct Parts {
    /// The kernel with one more argument, the sums: the memory that all threads share begins with them.
    kernel: Kernel,
    /// What makes the sums.
    sums: Contract,
    /// What makes the results.
    results: Nest,
    /// The axis of parts.
    part: usize,
    bytes: Dim,
}

impl Parts {
    /// `None` where sums are many, or as many as a caller says, or short, or what is packed is kept.
    pub(super) fn new(cx: &Cx<'_>, tiling: &Tiling<'_>, lasting: &[bool]) -> Option<Self> {
        let contract = tiling.contract;
        let counts = [&tiling.batch, &tiling.rows.axes, &tiling.columns.axes].map(|axes| tiling.count(axes).as_const());
        let sums = counts.into_iter().try_fold(1, |all: i64, count| Some(all.saturating_mul(count?)))?;
        let steps = tiling.k.iter().map(|axis| contract.axes[*axis].nominal()).fold(1, i64::saturating_mul);
        let fits =
            sums <= FEW && steps >= POINTS * LONG && !tiling.columns.is_kept(lasting) && contract.axes.len() < AxisSet::MAX;
        let own = || tiling.batch.iter().chain(&tiling.rows.axes).chain(&tiling.columns.axes).copied().collect::<Vec<usize>>();
        fits.then(|| Self::of(cx, contract, &own()))
    }

    /// For a contraction that is worth it; `own` are the axes of its sums, along the last of which they are neighbours.
    pub(super) fn of(cx: &Cx<'_>, contract: &Contract, own: &[usize]) -> Self {
        let mut axes = contract.axes.clone();
        let part = axes.len();
        axes.push(Dim::from(POINTS));
        let order: Vec<usize> = std::iter::once(part).chain(own.iter().copied()).collect();
        let place = |axis: &usize| Dim::axis(u32::try_from(*axis).expect("few axes"), &axes[*axis]);
        let index: Vec<Index> = order.iter().map(place).map(Index::At).collect();
        let shape: Vec<Dim> = order.iter().map(|axis| axes[*axis].clone()).collect();
        let bytes = (shape.iter().product::<Dim>() * Dim::from(contract.acc.size())).round_up(64);
        let arg = cx.kernel.args.len();
        let mut kernel = cx.kernel.clone();
        kernel.args.push(Arg::dense(contract.acc, shape, Mode::Write));
        let mut epilogue = Body::default();
        let value = epilogue.push(InstKind::Acc, contract.acc);
        let sums = Contract {
            axes,
            batch: contract.batch.with(part),
            epilogue,
            stores: vec![Store { arg, index: index.clone(), value }],
            ..contract.clone()
        };
        let sum = InstKind::Load(Access { arg, index, bounds: Bounds::Proven });
        let results = Nest { axes: sums.axes.clone(), stages: stages(contract, sum, part) };
        Self { kernel, sums, results, part, bytes }
    }

    pub(super) fn lower(&self, cx: &Cx<'_>, tiling: &Tiling<'_>) -> Lowered {
        self.lower_by(cx, |cx, sums, part| {
            let (rows, columns) = (tiling.rows.clone(), tiling.columns.clone());
            let tiling =
                Tiling { contract: sums, rows, columns, batch: sums.batch.iter().collect(), k: tiling.k.clone(), ..*tiling };
            Plan::of_parts(&cx, &tiling).parts(cx, &tiling, part)
        })
    }

    /// The phases of the sums, which the caller makes of the contraction to parts and its axis of them, and of the results.
    pub(super) fn lower_by(&self, cx: &Cx<'_>, sums: impl FnOnce(Cx<'_>, &Contract, usize) -> Phase) -> Lowered {
        let shared = (cx.kernel.args.len(), self.bytes.clone());
        let cx = Cx { shared, ..Cx::new(&self.kernel, cx.symbols, cx.how) };
        let results = nest::lower(cx.again("results"), &self.results);
        let sums = sums(cx, &self.sums, self.part);
        let phases = std::iter::once(sums).chain(results.phases).collect();
        Lowered::new(phases, &self.bytes + results.shared)
    }
}

/// The sums of parts, and the epilogue with what they add up to.
fn stages(contract: &Contract, sum: InstKind, part: usize) -> Vec<Stage> {
    let kept = contract.batch.union(contract.m).union(contract.n);
    let mut body = Body::default();
    let value = body.push(sum, contract.acc);
    let reductions = vec![Reduction { combine: Combine::Reduce(ReduceKind::Sum), value, dtype: contract.acc }];
    let mut epilogue = contract.epilogue.clone();
    for inst in &mut epilogue.insts {
        if matches!(inst.kind, InstKind::Acc) {
            inst.kind = InstKind::Reduced { stage: 0, slot: 0 };
        }
    }
    vec![
        Stage { over: kept.with(part), keep: kept, body, reductions, stores: Vec::new() },
        Stage { over: kept, keep: kept, body: epilogue, reductions: Vec::new(), stores: contract.stores.clone() },
    ]
}

impl Plan {
    /// The phase of the sums of parts: a part of `k` a point.
    fn parts(&self, mut cx: Cx<'_>, tiling: &Tiling<'_>, part: usize) -> Phase {
        let digits = with_batch(tiling, []);
        let tile = Dim::from(tiling.shape.rows * self.width * tiling.bytes());
        let (rows, spill) = (self.packed_rows(&mut cx, tiling), cx.take_scratch(&tile));
        let sums = cx.take_scratch(&(&self.blocks * &self.block * &self.group * &tile));
        let columns = cx.take_scratch(&(&self.column_panels * Dim::from(self.chunk * self.width * tiling.columns.bytes())));
        cx.parallel(&digits, &mut |cx, digits| {
            bind(cx, &tiling.batch, digits);
            let At::One(number) = cx.at[part] else { unreachable!("the part is one of the digits") };
            let chunks = self.k.ceil_div(&Dim::from(self.chunk)).ceil_div(&tiling.size(part));
            let length = cx.value(&(chunks * Dim::from(self.chunk)));
            let begin = cx.b.mul(number, length);
            let (end, k) = (cx.b.add(begin, length), cx.value(&self.k));
            let end = cx.b.binary(Binary::Min, end, k);
            let all = Span { begin, end: cx.b.binary(Binary::Max, begin, end) };
            let memory = Memory { rows, spill, sums, columns };
            tiling.with_tiles(cx, |cx| self.chunks_of(cx, tiling, &memory, all));
        });
        let products = tiling.count(&tiling.rows.axes) * &self.columns * &self.k;
        let packed = &self.k * (&self.columns + tiling.count(&tiling.rows.axes)) * Dim::from(2);
        let work = tiling.work(&products) + packed;
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    /// Every chunk of a part, and at least one.
    fn chunks_of(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, memory: &Memory, all: Span) {
        let one = cx.b.int(1);
        let last = cx.b.add(all.begin, one);
        let last = cx.b.binary(Binary::Max, last, all.end);
        let open = cx.b.open_loop(all.begin, last, self.chunk, Vec::new());
        let chunk = cx.b.int(self.chunk);
        let end = cx.b.add(open.var, chunk);
        let span = Span { begin: open.var, end: cx.b.binary(Binary::Min, end, all.end) };
        self.pack_chunk(cx, tiling, memory, span);
        let (zero, blocks) = (cx.b.int(0), cx.value(&self.blocks));
        let block = cx.b.open_loop(zero, blocks, 1, Vec::new());
        self.block_of(cx, tiling, memory, block.var, (span, all));
        cx.b.close_loop(block, Vec::new());
        cx.b.close_loop(open, Vec::new());
    }

    /// The address of a packed panel's chunk.
    fn chunk_at(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, memory: &Memory, panel: Val) -> Val {
        let bytes = cx.b.int(self.chunk * self.width * tiling.columns.bytes());
        let offset = cx.b.mul(panel, bytes);
        cx.b.add(memory.columns, offset)
    }

    /// Packs a chunk of all columns.
    fn pack_chunk(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, memory: &Memory, span: Span) {
        let (zero, panels) = (cx.b.int(0), cx.value(&self.column_panels));
        let open = cx.b.open_loop(zero, panels, 1, Vec::new());
        let (begin, end) = range(cx, open.var, self.width, &self.columns);
        let base = self.chunk_at(cx, tiling, memory, open.var);
        let place = Panel { base, own_stride: Dim::ONE, k_stride: Dim::from(self.width) };
        tiling.pack(cx, &tiling.columns, &place, begin, end, Some(span));
        cx.b.close_loop(open, Vec::new());
    }

    /// A block of rows against all columns, over a chunk.
    fn block_of(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, memory: &Memory, number: Val, (span, all): (Span, Span)) {
        let rows = &self.block * Dim::from(tiling.shape.rows);
        let (height, count) = (cx.value(&rows), cx.value(&self.rows));
        let begin = cx.b.mul(number, height);
        let end = cx.b.add(begin, height);
        let end = cx.b.binary(Binary::Min, end, count);
        let bytes = cx.value(&(rows * &self.group * Dim::from(self.width * tiling.bytes())));
        let before = cx.b.mul(number, bytes);
        let sums = Some(cx.b.add(memory.sums, before));
        let block = Block { rows: memory.rows, spill: memory.spill, sums, begin, end };
        self.pack_rows(cx, tiling, &block, Some(span));
        let first = first_row(cx, tiling, &block);
        let (zero, panels) = (cx.b.int(0), cx.value(&self.column_panels));
        let open = cx.b.open_loop(zero, panels, 1, Vec::new());
        let packed = self.chunk_at(cx, tiling, memory, open.var);
        let column = Column { panel: open.var, place: open.var, packed, span, all, next: None };
        self.row_panels(cx, tiling, &block, &column, first);
        cx.b.close_loop(open, Vec::new());
    }
}

/// The scratch memory of a part.
struct Memory {
    /// A chunk of a block's rows, and of all columns.
    rows: Val,
    columns: Val,
    /// The sums of a tile, and of all.
    spill: Val,
    sums: Val,
}
