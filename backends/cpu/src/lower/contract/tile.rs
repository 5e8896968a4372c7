//! Tiles: sums in registers over packed panels, and the epilogue while they are hot.

use graver_ir::Dim;

use super::super::body::{Given, Nothing};
use super::super::cx::{At, Cx};
use super::super::{Lowered, Phase, Prepared};
use super::Tiling;
use super::pack::{Panel, Run};
use crate::vector::{Binary, Compare, Load, Op, Pattern, Val, Width};

/// Elements of the rows' side that a thread packs at once: a good part of its second-level cache.
const BLOCK_ELEMENTS: i64 = 40_000;
/// Row panels of a block at most.
const BLOCK_PANELS: i64 = 24;
/// Blocks that there should be at least, for threads to share.
const BLOCKS: i64 = 8;
/// Steps of `k` that are written out.
const UNROLL: i64 = 4;
/// Elements between packed rows beyond `k`, so that rows do not fall on the same cache lines' sets.
const ROW_PADDING: i64 = 16;
/// Epilogues up to this many instructions are also written out for whole tiles, straight from registers.
const SMALL_EPILOGUE: usize = 10;

pub(super) fn lower(cx: Cx<'_>, tiling: &Tiling<'_>) -> Lowered {
    let plan = Plan::new(&cx, tiling);
    let pack = cx.again("pack");
    let pack = plan.pack_columns(pack, tiling);
    let tiles = plan.tiles(cx, tiling);
    let mut args: Vec<usize> = tiling.columns.side.body.loads().map(|(_, access)| access.arg).collect();
    args.sort_unstable();
    args.dedup();
    let fixed = !pack.func.uses_dims() && pack.extent.as_const().is_some() && plan.shared.as_const().is_some();
    Lowered { phases: vec![pack, tiles], shared: plan.shared, prepared: Some(Prepared { args, fixed }) }
}

/// Sizes of panels and blocks.
struct Plan {
    batch: Dim,
    rows: Dim,
    columns: Dim,
    k: Dim,
    /// Columns of a tile.
    width: i64,
    column_panels: Dim,
    /// Row panels of a block.
    block: Dim,
    blocks: Dim,
    /// Bytes of the packed columns.
    shared: Dim,
}

impl Plan {
    fn new(cx: &Cx<'_>, tiling: &Tiling<'_>) -> Self {
        let (rows, columns) = (tiling.count(&tiling.rows.axes), tiling.count(&tiling.columns.axes));
        let (batch, k) = (tiling.count(&tiling.batch), tiling.count(&tiling.k));
        let width = tiling.width(cx);
        let column_panels = columns.ceil_div(&Dim::from(width));
        let height = tiling.shape.rows;
        let row_panels = rows.ceil_div(&Dim::from(height));
        let fits = Dim::from(BLOCK_ELEMENTS).floor_div(&(&k * Dim::from(height) + Dim::ONE));
        let shared_out = row_panels.ceil_div(&Dim::from(BLOCKS));
        let block = fits.min_with(&Dim::from(BLOCK_PANELS)).min_with(&shared_out).max_with(&Dim::ONE);
        let blocks = row_panels.ceil_div(&block);
        let shared = &batch * &column_panels * &k * Dim::from(width * tiling.bytes());
        Self { batch, rows, columns, k, width, column_panels, block, blocks, shared }
    }

    /// The phase that packs the columns' side, a panel a point.
    fn pack_columns(&self, mut cx: Cx<'_>, tiling: &Tiling<'_>) -> Phase {
        let digits = self.with_batch(tiling, &self.column_panels);
        cx.parallel(&digits, &mut |cx, digits| {
            let (panel, batch) = digits.split_last().expect("a panel is the last digit");
            bind(cx, &tiling.batch, batch);
            let (begin, end) = range(cx, *panel, self.width, &self.columns);
            let base = self.packed_columns(cx, tiling, *panel);
            let place = Panel { base, own_stride: Dim::ONE, k_stride: Dim::from(self.width) };
            tiling.pack(cx, &tiling.columns, &place, begin, end);
        });
        let work = &self.batch * &self.columns * &self.k * Dim::from(tiling.columns.side.body.insts.len() + 2);
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    /// The address of a packed column panel of the batch where it stands.
    fn packed_columns(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, panel: Val) -> Val {
        let shared = cx.b.op(Op::Arg(cx.kernel.args.len()));
        let panels = cx.value(&self.column_panels);
        let batch = cx.value(&tiling.number(&tiling.batch));
        let number = cx.b.mul(batch, panels);
        let number = cx.b.add(number, panel);
        let bytes = cx.value(&(&self.k * Dim::from(self.width * tiling.bytes())));
        let offset = cx.b.mul(number, bytes);
        cx.b.add(shared, offset)
    }

    fn with_batch(&self, tiling: &Tiling<'_>, last: &Dim) -> Vec<Dim> {
        tiling.batch.iter().map(|axis| tiling.size(*axis)).chain([last.clone()]).collect()
    }

    /// The phase of the tiles, a block of rows a point.
    fn tiles(&self, mut cx: Cx<'_>, tiling: &Tiling<'_>) -> Phase {
        let digits = self.with_batch(tiling, &self.blocks);
        let rows = self.packed_rows(&mut cx, tiling);
        let spill = cx.take_scratch(&Dim::from(tiling.shape.rows * self.width * tiling.bytes()));
        cx.parallel(&digits, &mut |cx, digits| {
            let (block, batch) = digits.split_last().expect("a block is the last digit");
            bind(cx, &tiling.batch, batch);
            let height = cx.value(&(&self.block * Dim::from(tiling.shape.rows)));
            let begin = cx.b.mul(*block, height);
            let end = cx.b.add(begin, height);
            let count = cx.value(&self.rows);
            let end = cx.b.binary(Binary::Min, end, count);
            let block = Block { rows, spill, begin, end };
            self.pack_rows(cx, tiling, &block);
            self.block(cx, tiling, &block);
        });
        let products = &self.batch * &self.rows * &self.columns * &self.k;
        // A vector unit does some sixteen operations while a body does one.
        let work = products.floor_div(&Dim::from(8)) + &self.rows * &self.k * Dim::from(tiling.rows.side.body.insts.len());
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    /// Memory for a block of packed rows.
    fn packed_rows(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>) -> Val {
        cx.take_scratch(&(&self.block * self.row_stride(tiling) * Dim::from(tiling.shape.rows * tiling.bytes())))
    }

    /// Elements from a packed row to the next, by which a panel is as many times longer as it has rows.
    ///
    /// Rows that are read along `k` are packed one after the other, others as columns are: `[panel][k][row]`.
    fn row_stride(&self, tiling: &Tiling<'_>) -> Dim {
        if tiling.rows.along_own { self.k.clone() } else { &self.k + Dim::from(ROW_PADDING) }
    }

    fn pack_rows(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block) {
        if !tiling.rows.along_own {
            let place = Panel { base: block.rows, own_stride: self.row_stride(tiling), k_stride: Dim::ONE };
            tiling.pack(cx, &tiling.rows, &place, block.begin, block.end);
            return;
        }
        let (height, bytes) = (cx.b.int(tiling.shape.rows), cx.value(&(&self.k * Dim::from(tiling.bytes()))));
        let open = cx.b.open_loop(block.begin, block.end, tiling.shape.rows, Vec::new());
        let end = cx.b.add(open.var, height);
        let end = cx.b.binary(Binary::Min, end, block.end);
        let row = cx.b.sub(open.var, block.begin);
        let offset = cx.b.mul(row, bytes);
        let base = cx.b.add(block.rows, offset);
        let place = Panel { base, own_stride: Dim::ONE, k_stride: Dim::from(tiling.shape.rows) };
        tiling.pack(cx, &tiling.rows, &place, open.var, end);
        cx.b.close_loop(open, Vec::new());
    }

    /// Every tile of a block: for each column panel, which stays in the first-level cache, every row panel.
    fn block(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block) {
        let sizes: Vec<Val> = tiling.rows.axes.iter().map(|axis| cx.value(&tiling.size(*axis))).collect();
        let first_row = cx.digits(block.begin, &sizes);
        let (zero, panels) = (cx.b.int(0), cx.value(&self.column_panels));
        let over_columns = cx.b.open_loop(zero, panels, 1, Vec::new());
        let (column_begin, column_end) = range(cx, over_columns.var, self.width, &self.columns);
        let columns = self.packed_columns(cx, tiling, over_columns.var);
        let over_rows = cx.b.open_loop(block.begin, block.end, tiling.shape.rows, first_row);
        let sums = self.sums(cx, tiling, block, over_rows.var, columns);
        let tile = Tile { row: over_rows.var, digits: over_rows.params.clone(), sizes, column_begin, column_end, sums };
        let next = self.finish(cx, tiling, block, &tile);
        cx.b.close_loop(over_rows, next);
        cx.b.close_loop(over_columns, Vec::new());
    }

    /// The sums of a tile, row by row.
    fn sums(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block, row: Val, columns: Val) -> Vec<Val> {
        let stride = cx.value(&(self.row_stride(tiling) * Dim::from(tiling.bytes())));
        let place = cx.b.sub(row, block.begin);
        let first = cx.b.mul(place, stride);
        let mut row_ptr = cx.b.add(block.rows, first);
        let mut rows = vec![row_ptr];
        if !tiling.rows.along_own {
            for _ in 1..tiling.shape.rows {
                row_ptr = cx.b.add(row_ptr, stride);
                rows.push(row_ptr);
            }
        }
        let zero = cx.b.number(tiling.elem, 0);
        let zero = cx.b.lanes(zero);
        let count = usize::try_from(tiling.shape.rows).expect("few rows") * tiling.vectors();
        let step = Step { tiling, rows: &rows, columns, width: self.width };
        let (from, k) = (cx.b.int(0), cx.value(&self.k));
        let whole = cx.value(&(self.k.floor_div(&Dim::from(UNROLL)) * Dim::from(UNROLL)));
        let sums = step.repeat(cx, from, whole, UNROLL, vec![zero; count]);
        step.repeat(cx, whole, k, 1, sums)
    }

    /// The epilogue of a tile; gives the digits of the row after it.
    fn finish(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block, tile: &Tile) -> Vec<Val> {
        let (height, width) = (cx.b.int(tiling.shape.rows), cx.b.int(self.width));
        let row_end = cx.b.add(tile.row, height);
        let row_end = cx.b.binary(Binary::Min, row_end, block.end);
        if tiling.contract.epilogue.insts.len() > SMALL_EPILOGUE || tiling.columns.axes.len() > 1 {
            return self.finish_part(cx, tiling, block, tile, row_end);
        }
        let (rows, columns) = (cx.b.sub(row_end, tile.row), cx.b.sub(tile.column_end, tile.column_begin));
        let (all_rows, all_columns) = (cx.b.compare(Compare::Eq, rows, height), cx.b.compare(Compare::Eq, columns, width));
        let whole = cx.b.and(all_rows, all_columns);
        let open = cx.b.open_if(whole);
        self.finish_whole(cx, tiling, tile);
        cx.b.close_if(open);
        let part = cx.b.unary(crate::vector::Unary::Not, whole);
        let open = cx.b.open_if(part);
        self.finish_part(cx, tiling, block, tile, row_end);
        cx.b.close_if(open);
        let mut digits = tile.digits.clone();
        for _ in 0..tiling.shape.rows {
            digits = cx.next_digits(&digits, &tile.sizes);
        }
        digits
    }

    /// From registers, every vector written out.
    fn finish_whole(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, tile: &Tile) {
        let axis = tiling.columns.axes[0];
        let mut digits = tile.digits.clone();
        for row in tile.sums.chunks(tiling.vectors()) {
            bind(cx, &tiling.rows.axes, &digits);
            for (vector, sum) in row.iter().enumerate() {
                let offset = cx.b.int(i64::try_from(vector * cx.lanes).expect("few lanes"));
                cx.at[axis] = At::Lane(cx.b.add(tile.column_begin, offset));
                epilogue(cx, tiling, &mut Sum(*sum));
            }
            digits = cx.next_digits(&digits, &tile.sizes);
        }
        cx.at[axis] = At::Unbound;
    }

    /// From memory, as much as there is of the tile.
    fn finish_part(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block, tile: &Tile, row_end: Val) -> Vec<Val> {
        let dtype = tiling.elem.dtype();
        for (place, sum) in tile.sums.iter().enumerate() {
            let bytes = i64::try_from(place * cx.lanes).expect("few lanes") * tiling.bytes();
            let bytes = cx.b.int(bytes);
            let ptr = cx.b.add(block.spill, bytes);
            cx.b.store(ptr, dtype, Pattern::Contiguous, *sum);
        }
        let open = cx.b.open_loop(tile.row, row_end, 1, tile.digits.clone());
        let digits = open.params.clone();
        bind(cx, &tiling.rows.axes, &digits);
        let row_bytes = cx.b.int(self.width * tiling.bytes());
        let place = cx.b.sub(open.var, tile.row);
        let place = cx.b.mul(place, row_bytes);
        let row = cx.b.add(block.spill, place);
        tiling.runs(cx, &tiling.columns.axes, tile.column_begin, tile.column_end, &mut |cx, run| {
            cx.swept(run.axis, run.begin, run.end, 1, &mut |cx| {
                epilogue(cx, tiling, &mut Spilled { tiling, row, run, column_begin: tile.column_begin });
            });
        });
        let next = cx.next_digits(&digits, &tile.sizes);
        cx.b.close_loop(open, next)
    }
}

/// A block of rows: where it is packed, and its range.
struct Block {
    rows: Val,
    /// Memory for the sums of a tile.
    spill: Val,
    begin: Val,
    end: Val,
}

/// A tile whose sums are known.
struct Tile {
    row: Val,
    /// The positions of the row's axes.
    digits: Vec<Val>,
    sizes: Vec<Val>,
    column_begin: Val,
    column_end: Val,
    sums: Vec<Val>,
}

/// One step of `k`.
struct Step<'a> {
    tiling: &'a Tiling<'a>,
    /// The address of every row of the panel; of the first alone where neighbours in the panel are neighbours in memory.
    rows: &'a [Val],
    columns: Val,
    width: i64,
}

impl Step<'_> {
    /// Steps `from..to`, `count` at a time.
    fn repeat(&self, cx: &mut Cx<'_>, from: Val, to: Val, count: i64, sums: Vec<Val>) -> Vec<Val> {
        let open = cx.b.open_loop(from, to, count, sums);
        let (k, mut sums) = (open.var, open.params.clone());
        let (row_bytes, column_bytes) = (cx.b.int(self.row_step()), cx.b.int(self.width * self.tiling.bytes()));
        let (row_offset, column_offset) = (cx.b.mul(k, row_bytes), cx.b.mul(k, column_bytes));
        let columns = cx.b.add(self.columns, column_offset);
        let rows: Vec<Val> = self.rows.iter().map(|row| cx.b.add(*row, row_offset)).collect();
        for step in 0..count {
            self.one(cx, &rows, columns, step, &mut sums);
        }
        cx.b.close_loop(open, sums)
    }

    /// Bytes from a row's element to that of the next `k`.
    fn row_step(&self) -> i64 {
        if self.tiling.rows.along_own { self.tiling.shape.rows * self.tiling.bytes() } else { self.tiling.bytes() }
    }

    fn one(&self, cx: &mut Cx<'_>, rows: &[Val], columns: Val, step: i64, sums: &mut [Val]) {
        let (dtype, bytes) = (self.tiling.elem.dtype(), self.tiling.bytes());
        let mut vectors = Vec::new();
        for vector in 0..self.tiling.vectors() {
            let place = step * self.width + i64::try_from(vector * cx.lanes).expect("few lanes");
            let offset = cx.b.int(place * bytes);
            let ptr = cx.b.add(columns, offset);
            vectors.push(cx.b.load_now(Load { ptr, dtype, pattern: Pattern::Contiguous, mask: None }));
        }
        for (row, sums) in sums.chunks_mut(self.tiling.vectors()).enumerate() {
            let (base, place) = if self.tiling.rows.along_own { (rows[0], row) } else { (rows[row], 0) };
            let offset = cx.b.int(step * self.row_step() + i64::try_from(place).expect("few rows") * bytes);
            let ptr = cx.b.add(base, offset);
            let element = cx.b.load_now(Load { ptr, dtype, pattern: Pattern::One, mask: None });
            let element = cx.b.lanes(element);
            for (sum, vector) in sums.iter_mut().zip(&vectors) {
                *sum = cx.b.fma(element, *vector, *sum);
            }
        }
    }
}

/// A sum in a register.
struct Sum(Val);

impl Given for Sum {
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> Val {
        Nothing.reduced(cx, stage, slot)
    }

    fn acc(&mut self, _: &mut Cx<'_>) -> Val {
        self.0
    }
}

/// Sums in memory, a row of a tile.
struct Spilled<'a> {
    tiling: &'a Tiling<'a>,
    row: Val,
    run: Run,
    column_begin: Val,
}

impl Given for Spilled<'_> {
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> Val {
        Nothing.reduced(cx, stage, slot)
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        let shift = cx.b.sub(self.run.first, self.column_begin);
        let bytes = cx.b.int(self.tiling.bytes());
        let shift = cx.b.mul(shift, bytes);
        let base = cx.b.add(self.row, shift);
        let axis = Dim::axis(u32::try_from(self.run.axis).expect("few axes"), &self.tiling.size(self.run.axis));
        let dtype = self.tiling.elem.dtype();
        let (ptr, pattern) = cx.place(base, &axis, None, dtype);
        let loaded = cx.b.load_now(Load { ptr, dtype, pattern, mask: None });
        cx.b.with_width(loaded, Width::Lanes)
    }
}

fn epilogue(cx: &mut Cx<'_>, tiling: &Tiling<'_>, given: &mut dyn Given) {
    let values = cx.body(&tiling.contract.epilogue, given);
    for store in &tiling.contract.stores {
        cx.store(store, &values);
    }
}

fn bind(cx: &mut Cx<'_>, axes: &[usize], digits: &[Val]) {
    for (axis, digit) in axes.iter().zip(digits) {
        cx.at[*axis] = At::One(*digit);
    }
}

/// `panel * width .. min((panel + 1) * width, count)`
fn range(cx: &mut Cx<'_>, panel: Val, width: i64, count: &Dim) -> (Val, Val) {
    let (width, count) = (cx.b.int(width), cx.value(count));
    let begin = cx.b.mul(panel, width);
    let end = cx.b.add(begin, width);
    (begin, cx.b.binary(Binary::Min, end, count))
}
