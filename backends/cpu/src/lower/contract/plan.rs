//! Sizes of panels, blocks and chunks, and the two phases: packing the columns, and the tiles over them.
//!
//! A parallel point of the tiles is a block of rows with a group of column panels. It goes over `k` in chunks that caches hold:
//! the chunk of the block's rows is packed, then every tile of the block takes the chunk's products. Sums wait in memory
//! between chunks, and are added to in the same order as if there were one.

use graver_ir::Dim;

use super::super::cx::Cx;
use super::super::{Lowered, Phase, Prepared};
use super::Tiling;
use super::pack::{Panel, Span};
use super::tile::{Block, Column, bind, range};
use super::words::Words;
use crate::vector::{Binary, Compare, Val};

/// Steps of the tiles in a chunk at most. Of a panel of columns, a chunk is a tenth of a usual second-level cache.
const CHUNK: i64 = 512;
/// The same of tiles of AMX: a panel of columns stays in a first-level cache, and what tiles read of rows comes from a second-level one.
const TILES_CHUNK: i64 = 256;
/// Elements of a chunk of a block's rows: a good part of a second-level cache.
const BLOCK_ELEMENTS: i64 = 48_000;
/// Row panels of a block at most.
const BLOCK_PANELS: i64 = 24;
/// Column panels of a group at most: what waits between chunks stays in a second-level cache.
const GROUP_PANELS: i64 = 32;
/// Column panels of a group at least, where rows are shared out too: rows are packed for each group anew.
pub(super) const LEAST_PANELS: i64 = 3;
/// Parallel points that there should be at least where their number decides in which order sums are made, which is the same for any number of threads.
pub(super) const POINTS: i64 = 8;
/// Bytes of a cache line.
pub(super) const LINE: i64 = 64;
/// Steps of `k` that are written out.
pub(super) const UNROLL: i64 = 4;

pub(super) fn lower(cx: Cx<'_>, tiling: &Tiling<'_>) -> Lowered {
    let plan = Plan::new(&cx, tiling);
    let pack = cx.again("pack");
    let pack = plan.pack_columns(pack, tiling);
    let tiles = plan.tiles(cx, tiling);
    let mut args: Vec<usize> = tiling.columns.side.body.loads().map(|(_, access)| access.arg).collect();
    args.sort_unstable();
    args.dedup();
    let fixed = pack.func.dims().is_empty() && pack.extent.as_const().is_some() && plan.shared.as_const().is_some();
    Lowered { phases: vec![pack, tiles], shared: plan.shared, prepared: Some(Prepared { args, fixed }), passing: None }
}

/// Sizes of everything.
pub(super) struct Plan {
    batch: Dim,
    pub(super) rows: Dim,
    pub(super) columns: Dim,
    pub(super) k: Dim,
    /// Columns of a tile.
    pub(super) width: i64,
    pub(super) column_panels: Dim,
    /// Rows of tiles, the highest first.
    pub(super) heights: Vec<i64>,
    /// Elements of `k` in a chunk.
    pub(super) chunk: i64,
    /// Rows of a block at most.
    most_rows: i64,
    /// Row panels of a block.
    pub(super) block: Dim,
    pub(super) blocks: Dim,
    /// Column panels of a group.
    pub(super) group: Dim,
    groups: Dim,
    /// Bytes of the packed columns.
    shared: Dim,
}

impl Plan {
    pub(super) fn new(cx: &Cx<'_>, tiling: &Tiling<'_>) -> Self {
        let (rows, columns) = (tiling.count(&tiling.rows.axes), tiling.count(&tiling.columns.axes));
        let (batch, k) = (tiling.count(&tiling.batch), tiling.count(&tiling.k));
        let width = tiling.width(cx);
        let column_panels = columns.ceil_div(&Dim::from(width));
        let (height, heights) = (tiling.shape.rows, tiling.heights(&rows));
        let row_panels = rows.ceil_div(&Dim::from(height));
        let chunk = tiling.chunk(&k);
        let fits = (BLOCK_ELEMENTS / (chunk / tiling.depth() * height)).clamp(1, BLOCK_PANELS);
        // What a thread takes is one block and one group, if caches hold that: what is packed for a block is packed for each group anew, and each block reads the
        // columns anew. Columns are shared out first, then rows: what is packed for a block of rows is of use for few columns only.
        let points = Dim::from(cx.how.threads);
        let largest = row_panels.ceil_div(&Dim::from(fits));
        let shared_out = (&column_panels * &largest).floor_div(&points).max_with(&least(&row_panels, cx.how.threads));
        let group = evenly(&column_panels, &shared_out.min_with(&Dim::from(GROUP_PANELS)), cx.how.threads).max_with(&Dim::ONE);
        let groups = column_panels.ceil_div(&group);
        let shared_out = (&row_panels * &groups).ceil_div(&points);
        let block = evenly(&row_panels, &shared_out.min_with(&Dim::from(fits)), cx.how.threads).max_with(&Dim::ONE);
        let blocks = row_panels.ceil_div(&block);
        let shared = &batch * &column_panels * k.round_up(tiling.multiple()) * Dim::from(width * tiling.columns.bytes());
        Self {
            batch,
            rows,
            columns,
            k,
            width,
            column_panels,
            heights,
            chunk,
            most_rows: fits * height,
            block,
            blocks,
            group,
            groups,
            shared,
        }
    }

    /// For parts of `k`, each of which has all rows and columns.
    pub(super) fn of_parts(cx: &Cx<'_>, tiling: &Tiling<'_>) -> Self {
        let plan = Self::new(cx, tiling);
        let row_panels = plan.rows.ceil_div(&Dim::from(tiling.shape.rows));
        let block = evenly(&row_panels, &Dim::from(plan.most_rows / tiling.shape.rows), 1).max_with(&Dim::ONE);
        let blocks = row_panels.ceil_div(&block);
        Self { group: plan.column_panels.clone(), groups: Dim::ONE, block, blocks, ..plan }
    }

    /// Whether all of `k` is one chunk.
    pub(super) fn is_whole(&self) -> bool {
        self.k.as_const().is_some_and(|k| k <= self.chunk)
    }

    /// The phase that packs the columns' side, a panel a point.
    fn pack_columns(&self, mut cx: Cx<'_>, tiling: &Tiling<'_>) -> Phase {
        let digits = with_batch(tiling, [&self.column_panels]);
        cx.parallel(&digits, &mut |cx, digits| {
            let (panel, batch) = digits.split_last().expect("a panel is the last digit");
            bind(cx, &tiling.batch, batch);
            let (begin, end) = range(cx, *panel, self.width, &self.columns);
            let base = self.packed_columns(cx, tiling, *panel);
            let place = Panel { base, own_stride: Dim::ONE, k_stride: Dim::from(self.width) };
            tiling.pack(cx, &tiling.columns, &place, begin, end, None);
        });
        let work = &self.batch * &self.columns * &self.k * Dim::from(tiling.columns.side.body.insts.len() + 2);
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    /// The address of a packed column panel of the batch where it stands.
    fn packed_columns(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, panel: Val) -> Val {
        let shared = cx.shared();
        let panels = cx.value(&self.column_panels);
        let batch = cx.value(&tiling.number(&tiling.batch));
        let number = cx.b.mul(batch, panels);
        let number = cx.b.add(number, panel);
        let bytes = cx.value(&(self.k.round_up(tiling.multiple()) * Dim::from(self.width * tiling.columns.bytes())));
        let offset = cx.b.mul(number, bytes);
        cx.b.add(shared, offset)
    }

    /// The phase of the tiles, a group of columns with a block of rows a point.
    fn tiles(&self, mut cx: Cx<'_>, tiling: &Tiling<'_>) -> Phase {
        // Groups first: a thread works on the columns that it has packed itself.
        let digits = with_batch(tiling, [&self.groups, &self.blocks]);
        let tile = Dim::from(tiling.shape.rows * self.width * tiling.bytes());
        let rows = self.packed_rows(&mut cx, tiling);
        let spill = cx.take_scratch(&tile);
        let sums = (!self.is_whole()).then(|| cx.take_scratch(&(&self.block * &self.group * &tile)));
        cx.parallel(&digits, &mut |cx, digits| {
            let [batch @ .., group, block] = digits else { unreachable!("a group and a block are the last digits") };
            bind(cx, &tiling.batch, batch);
            let height = cx.value(&(&self.block * Dim::from(tiling.shape.rows)));
            let begin = cx.b.mul(*block, height);
            let end = cx.b.add(begin, height);
            let count = cx.value(&self.rows);
            let end = cx.b.binary(Binary::Min, end, count);
            tiling.with_tiles(cx, |cx| self.chunks(cx, tiling, *group, &Block { rows, spill, sums, begin, end }));
        });
        let products = &self.batch * &self.rows * &self.columns * &self.k;
        let packed = &self.batch * &self.rows * &self.k * Dim::from(tiling.rows.side.body.insts.len());
        // Columns come from memory.
        let read = (&self.batch * &self.columns * &self.k).floor_div(&Dim::from(2));
        let work = tiling.work(&products) + packed + read;
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    /// Every chunk of `k`, and at least one.
    fn chunks(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, group: Val, block: &Block) {
        let zero = cx.b.int(0);
        if self.is_whole() {
            let k = cx.value(&self.k);
            self.pack_rows(cx, tiling, block, None);
            let all = Span { begin: zero, end: k };
            self.tiles_of(cx, tiling, group, block, (all, all));
            return;
        }
        let (k, most) = (cx.value(&self.k.max_with(&Dim::ONE)), cx.value(&self.k));
        let open = cx.b.open_loop(zero, k, self.chunk, Vec::new());
        let chunk = cx.b.int(self.chunk);
        let end = cx.b.add(open.var, chunk);
        let end = cx.b.binary(Binary::Min, end, most);
        let span = Span { begin: open.var, end };
        self.pack_rows(cx, tiling, block, Some(span));
        self.tiles_of(cx, tiling, group, block, (span, Span { begin: zero, end: most }));
        cx.b.close_loop(open, Vec::new());
    }

    /// Every tile of a block and a group: for each column panel, whose chunk stays in the first caches, every row panel.
    fn tiles_of(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, group: Val, block: &Block, (span, all): (Span, Span)) {
        let first_row = first_row(cx, tiling, block);
        let (panels, most) = (cx.value(&self.group), cx.value(&self.column_panels));
        let first = cx.b.mul(group, panels);
        let last = cx.b.add(first, panels);
        let last = cx.b.binary(Binary::Min, last, most);
        let open = cx.b.open_loop(first, last, 1, Vec::new());
        let columns = self.packed_columns(cx, tiling, open.var);
        let bytes = cx.b.int(self.width * tiling.columns.bytes());
        let offset = cx.b.mul(span.begin, bytes);
        let columns = cx.b.add(columns, offset);
        let place = cx.b.sub(open.var, first);
        // After the last panel, the first one's next chunk.
        let one = cx.b.int(1);
        let after = cx.b.add(open.var, one);
        let is_last = cx.b.compare(Compare::Ge, after, last);
        let (panel, step) = (cx.b.select(is_last, first, after), cx.b.select(is_last, span.end, span.begin));
        let next = self.packed_columns(cx, tiling, panel);
        let offset = cx.b.mul(step, bytes);
        let next = Some(cx.b.add(next, offset));
        let column = Column { panel: open.var, place, packed: columns, span, all, next };
        self.row_panels(cx, tiling, block, &column, first_row);
        cx.b.close_loop(open, Vec::new());
    }

    /// Memory for a chunk of a block's rows.
    pub(super) fn packed_rows(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>) -> Val {
        let (own, k) = self.row_strides(tiling);
        let elements = if tiling.rows_are_neighbours() { k * self.chunk / tiling.depth() } else { own * self.most_rows };
        cx.take_scratch(&Dim::from(elements * tiling.bytes()))
    }

    /// Elements, or words of them, from a packed row to the next, and from one step to the next: the lesser is 1, along which rows are read.
    ///
    /// The other is an odd number of cache lines, so that the elements of a tile do not fall on the same lines' sets.
    pub(super) fn row_strides(&self, tiling: &Tiling<'_>) -> (i64, i64) {
        let line = LINE / tiling.bytes();
        let apart = |elements: i64| (((elements + line - 1) / line) | 1) * line;
        if tiling.rows_are_neighbours() { (1, apart(self.most_rows)) } else { (apart(self.chunk / tiling.depth()), 1) }
    }

    /// Packs a block's rows; where there is no span, for every `k`.
    pub(super) fn pack_rows(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block, span: Option<Span>) {
        let (own_stride, k_stride) = self.row_strides(tiling);
        let place = Panel { base: block.rows, own_stride: Dim::from(own_stride), k_stride: Dim::from(k_stride) };
        tiling.pack(cx, &tiling.rows, &place, block.begin, block.end, span);
    }
}

/// The size of parts of nearly the same size, at most so much, and a multiple of the number of threads of them where one is not enough: every thread has as much work.
pub(super) fn evenly(count: &Dim, most: &Dim, threads: usize) -> Dim {
    let (parts, threads) = (count.ceil_div(&most.max_with(&Dim::ONE)).max_with(&Dim::ONE), Dim::from(threads));
    // One, if it is one.
    let even = parts.ceil_div(&threads) * &threads;
    let is_more = (&parts - Dim::ONE).min_with(&Dim::ONE);
    count.ceil_div(&((even - Dim::ONE) * is_more + Dim::ONE))
}

/// Column panels of a group at least: one where rows are too few to be shared out.
fn least(row_panels: &Dim, threads: usize) -> Dim {
    let are_shared_out = row_panels.floor_div(&Dim::from(threads)).min_with(&Dim::ONE);
    are_shared_out * Dim::from(LEAST_PANELS - 1) + Dim::ONE
}

/// Where the axes of a block's first row stand, and their sizes.
pub(super) fn first_row(cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block) -> (Vec<Val>, Vec<Val>) {
    let sizes: Vec<Val> = tiling.rows.axes.iter().map(|axis| cx.value(&tiling.size(*axis))).collect();
    (cx.digits(block.begin, &sizes), sizes)
}

impl Tiling<'_> {
    /// The length of chunks: all alike, nearly, where the number of elements is known.
    fn chunk(&self, k: &Dim) -> i64 {
        let (most, multiple) = match self.words {
            Some(Words::Tiles(_)) => (TILES_CHUNK * self.depth(), self.multiple()),
            Some(Words::Vectors(_)) | None => (CHUNK * self.depth(), UNROLL * self.depth()),
        };
        let alike = |k: i64| {
            let chunks = (k + most - 1) / most;
            let steps = (k + chunks - 1) / chunks;
            (steps + multiple - 1) / multiple * multiple
        };
        k.as_const().map_or(most, |k| alike(k.max(1)))
    }
}

pub(super) fn with_batch<const N: usize>(tiling: &Tiling<'_>, last: [&Dim; N]) -> Vec<Dim> {
    tiling.batch.iter().map(|axis| tiling.size(*axis)).chain(last.map(Clone::clone)).collect()
}
