//! Convolutions of 3x3 windows by fewer products: patches of the image are transformed, multiplied by transformed weights, and
//! transformed to several results at once (`transform.rs`), where the caller allows it: rounding is not that of a sum of products.
//!
//! Transformed weights are what is packed, once where they last. A parallel point is a block of patches with a group of columns:
//! what patches become stays in a second-level cache, and so do the sums of a panel of columns, one tile of registers after the
//! other, until they are transformed to results. Blocks depend on sizes alone, and results not on blocks.

mod find;
mod gradient;
mod patch;
mod transform;

use graver_ir::Dim;
use graver_ir::kernel::Contract;

use self::find::Convolution;
pub(super) use self::gradient::Gradient;
use self::patch::{Channels, Patches};
use self::transform::both_ways;
use super::super::body::Nothing;
use super::super::cx::{At, Cx};
use super::super::{Lowered, Phase, Prepared};
use super::fetch::{Fetch, Turn};
use super::plan::{LEAST_PANELS, evenly};
use super::sides::Operand;
use super::tile::{Spilled, Step, bind, each_tile, epilogue, range};
use super::{Shape, Tiling};
use crate::vector::{Binary, Elem, Load, Pattern, Val};

/// Elements of what the patches of a block become, and of their sums in a panel: two thirds of a usual second-level cache.
const BLOCK_ELEMENTS: i64 = 176_000;
/// Row panels of a block at most.
const BLOCK_PANELS: i64 = 8;
/// Channels at most, so that a block is never much more than that.
const MOST_CHANNELS: i64 = 2048;
/// Bytes of an element.
const BYTES: i64 = 4;
/// Elements of a cache line.
const LINE: i64 = 16;

/// A convolution, and how it is run.
pub(super) struct Winograd<'a> {
    patches: Patches<'a>,
    /// The products of a transformed element: patches are rows, channels are summed over.
    tiling: Tiling<'a>,
    channels: i64,
    /// How many patches there are, and columns.
    count: Dim,
    columns: Dim,
    /// Columns of a tile, and how many panels of so many there are.
    width: i64,
    panels: Dim,
    /// Patches of a block at most.
    most: i64,
    /// Patches of a block.
    block: Dim,
    blocks: Dim,
    /// Column panels of a group.
    group: Dim,
    groups: Dim,
}

impl<'a> Winograd<'a> {
    /// `None` where this is no such convolution, or transforms do not pay.
    pub(super) fn new(cx: &Cx<'_>, contract: &'a Contract, elem: Elem, lasting: &[bool]) -> Option<Self> {
        let convolution = Convolution::find(cx, contract).filter(|_| elem == Elem::F32)?;
        let count = |axes: &[usize]| -> Dim { axes.iter().map(|axis| contract.axes[*axis].clone()).product() };
        let channels = count(&convolution.channels).as_const().filter(|count| (1..=MOST_CHANNELS).contains(count))?;
        let kept = convolution.by.body.loads().all(|(_, access)| lasting[access.arg]);
        let transform = convolution.cheapest(cx, contract, kept)?;
        let patches = Patches::new(contract, convolution, transform);
        let Convolution { image, by, others, outputs, channels: k, .. } = &patches.convolution;
        let (rows, columns) = (patches.count(), count(outputs));
        let shape = Shape::best(cx.lanes, false, &rows, &columns);
        let operand = |side, axes: &[usize]| Operand::new(side, axes.to_vec(), false, elem);
        let tiling = Tiling {
            contract,
            rows: operand(image, others),
            columns: operand(by, outputs),
            batch: Vec::new(),
            k: k.clone(),
            elem,
            words: None,
            shape,
        };
        let width = tiling.width(cx);
        let panels = columns.ceil_div(&Dim::from(width));
        let each = transform.elements() * (row_stride(channels) + width);
        let fits = (BLOCK_ELEMENTS / (each * shape.rows)).clamp(1, BLOCK_PANELS);
        let row_panels = rows.ceil_div(&Dim::from(shape.rows));
        // Columns are shared out first, then rows, as for other contractions.
        let points = Dim::from(cx.how.threads);
        let largest = row_panels.ceil_div(&Dim::from(fits));
        let shared_out = (&panels * &largest).floor_div(&points).max_with(&Dim::from(LEAST_PANELS));
        let group = evenly(&panels, &shared_out, cx.how.threads).max_with(&Dim::ONE);
        let groups = panels.ceil_div(&group);
        let shared_out = (&row_panels * &groups).ceil_div(&points);
        // Weights are read anew for each block.
        let shared_out = shared_out.max_with(&Dim::from(LEAST_PANELS));
        let block = evenly(&row_panels, &shared_out.min_with(&Dim::from(fits)), cx.how.threads).max_with(&Dim::ONE);
        let blocks = row_panels.ceil_div(&block);
        let (most, block) = (fits * shape.rows, block * Dim::from(shape.rows));
        Some(Self { patches, tiling, channels, count: rows, columns, width, panels, most, block, blocks, group, groups })
    }

    pub(super) fn lower(&self, cx: Cx<'_>) -> Lowered {
        let weights = self.weights(cx.again("weights"));
        let results = self.results(cx);
        let mut args: Vec<usize> = self.patches.convolution.by.body.loads().map(|(_, access)| access.arg).collect();
        args.sort_unstable();
        args.dedup();
        let shared = &self.panels * Dim::from(self.panel_bytes());
        let fixed = weights.func.dims().is_empty() && weights.extent.as_const().is_some() && shared.as_const().is_some();
        Lowered { phases: vec![weights, results], shared, prepared: Some(Prepared { args, fixed }), passing: None }
    }

    /// Elements of a transformed patch, of one channel.
    fn elements(&self) -> i64 {
        self.patches.transform.elements()
    }

    /// Bytes of the transformed weights of a panel: `[element][channel][column]`.
    fn panel_bytes(&self) -> i64 {
        self.elements() * self.element_bytes()
    }

    /// The same of one element.
    fn element_bytes(&self) -> i64 {
        self.channels * self.width * BYTES
    }

    // ---- weights

    /// The phase that transforms the weights, a panel and a channel a point.
    fn weights(&self, mut cx: Cx<'_>) -> Phase {
        let sizes = self.tiling.k.iter().map(|axis| self.tiling.size(*axis));
        let digits: Vec<Dim> = [self.panels.clone()].into_iter().chain(sizes).collect();
        cx.parallel(&digits, &mut |cx, digits| {
            let [panel, channels @ ..] = digits else { unreachable!("a panel is the first digit") };
            bind(cx, &self.tiling.k, channels);
            let (begin, end) = range(cx, *panel, self.width, &self.columns);
            let base = self.packed(cx, *panel);
            let channel = cx.value(&(self.tiling.number(&self.tiling.k) * Dim::from(self.width * BYTES)));
            let base = cx.b.add(base, channel);
            self.windows(cx, &Channels { begin, end, base, apart: self.channels * self.width });
        });
        let extent: Dim = digits.iter().product();
        let each = i64::try_from(self.patches.convolution.by.body.insts.len() + 2).expect("few instructions") * self.elements();
        let work = &self.columns * Dim::from(self.channels * each);
        Phase { func: cx.b.finish(), extent, scratch: cx.scratch, work }
    }

    /// The windows of some columns, at a channel.
    fn windows(&self, cx: &mut Cx<'_>, to: &Channels) {
        let Convolution { by, slides, outputs, .. } = &self.patches.convolution;
        to.each(cx, &self.tiling, outputs, &mut |cx, lanes| {
            let transformed = both_ways(cx, self.patches.transform.weights, &mut |cx, row, column| {
                for (slide, place) in slides.iter().zip([row, column]) {
                    let tap = cx.b.int(slide.at(place));
                    cx.at[slide.tap] = At::One(tap);
                }
                cx.body(&by.body, &mut Nothing)[by.value.index()]
            });
            slides.iter().for_each(|slide| cx.at[slide.tap] = At::Unbound);
            to.store(cx, lanes, &transformed);
        });
    }

    /// The address of a panel's transformed weights.
    fn packed(&self, cx: &mut Cx<'_>, panel: Val) -> Val {
        let shared = cx.shared();
        let bytes = cx.b.int(self.panel_bytes());
        let offset = cx.b.mul(panel, bytes);
        cx.b.add(shared, offset)
    }

    // ---- results

    /// The phase of the results, a group of columns with a block of patches a point.
    fn results(&self, mut cx: Cx<'_>) -> Phase {
        let memory = self.memory(&mut cx);
        let digits = [self.groups.clone(), self.blocks.clone()];
        cx.parallel(&digits, &mut |cx, digits| {
            let [group, block] = digits else { unreachable!("there are two digits") };
            let (height, count) = (cx.value(&self.block), cx.value(&self.count));
            let begin = cx.b.mul(*block, height);
            let end = cx.b.add(begin, height);
            let end = cx.b.binary(Binary::Min, end, count);
            self.rows(cx, &memory, begin, end);
            let (panels, most) = (cx.value(&self.group), cx.value(&self.panels));
            let first = cx.b.mul(*group, panels);
            let last = cx.b.add(first, panels);
            let last = cx.b.binary(Binary::Min, last, most);
            let open = cx.b.open_loop(first, last, 1, Vec::new());
            self.products(cx, &memory, open.var, (begin, end));
            self.outputs(cx, &memory, open.var, (begin, end));
            cx.b.close_loop(open, Vec::new());
        });
        let products = &self.count * &self.columns * Dim::from(self.elements() * self.channels);
        // A vector unit does some sixteen operations while a body does one.
        let work = products.floor_div(&Dim::from(8));
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    fn memory(&self, cx: &mut Cx<'_>) -> Memory {
        let outputs = self.patches.transform.outputs();
        let mut take = |elements: i64| cx.take_scratch(&Dim::from(elements * BYTES));
        Memory {
            patches: take(self.elements() * self.most * self.row_stride()),
            sums: take(self.elements() * self.most * self.width),
            outputs: take(outputs * outputs * self.width),
        }
    }

    /// Transforms every patch `begin..end`.
    fn rows(&self, cx: &mut Cx<'_>, memory: &Memory, begin: Val, end: Val) {
        let (zero, channels) = (cx.b.int(0), cx.b.int(self.channels));
        self.patches.each(cx, begin, end, &mut |cx, place, corner| {
            let base = offset(cx, memory.patches, place, self.row_stride());
            let to = Channels { begin: zero, end: channels, base, apart: self.most * self.row_stride() };
            self.patches.image(cx, &self.tiling, corner, &to);
        });
    }

    /// Elements from a transformed patch to the next.
    const fn row_stride(&self) -> i64 {
        row_stride(self.channels)
    }

    /// Tiles of every element's products with a panel of columns, to memory: `[element][patch][column]`.
    fn products(&self, cx: &mut Cx<'_>, memory: &Memory, panel: Val, (begin, end): (Val, Val)) {
        let weights = self.packed(cx, panel);
        let (zero, elements) = (cx.b.int(0), cx.b.int(self.elements()));
        let open = cx.b.open_loop(zero, elements, 1, Vec::new());
        let rows = offset(cx, memory.patches, open.var, self.most * self.row_stride());
        let columns = offset(cx, weights, open.var, self.channels * self.width);
        let sums = offset(cx, memory.sums, open.var, self.most * self.width);
        let count = cx.b.sub(end, begin);
        each_tile(cx, &self.tiling.heights(&self.count), (zero, count), Vec::new(), &mut |cx, height, row, _| {
            let (rows, to) = (offset(cx, rows, row, self.row_stride()), offset(cx, sums, row, self.width));
            let turn = Turn { before: row, height, rows: count, usual: self.block.nominal() };
            self.tile(cx, (rows, columns, to), &turn);
            Vec::new()
        });
        cx.b.close_loop(open, Vec::new());
    }

    fn tile(&self, cx: &mut Cx<'_>, (rows, columns, to): (Val, Val, Val), turn: &Turn) {
        let (steps, zero) = (cx.b.int(self.channels), cx.b.number(Elem::F32, 0));
        // Those of the next element, or of the next panel.
        let next = cx.b.int(self.element_bytes());
        let next = cx.b.add(columns, next);
        let fetch = Some(Fetch::share(cx, next, (steps, self.width * BYTES), turn));
        let step =
            Step { tiling: &self.tiling, rows, row_stride: self.row_stride(), k_stride: 1, columns, width: self.width, fetch };
        let zero = cx.b.lanes(zero);
        let sums = usize::try_from(turn.height).expect("few rows") * self.tiling.vectors();
        let sums = step.all(cx, steps, vec![zero; sums]);
        for (place, sum) in sums.into_iter().enumerate() {
            let bytes = cx.b.int(i64::try_from(place * cx.lanes).expect("few lanes") * BYTES);
            let ptr = cx.b.add(to, bytes);
            cx.b.store(ptr, Elem::F32.dtype(), Pattern::Contiguous, sum);
        }
    }

    /// The results of every patch in a panel of columns.
    fn outputs(&self, cx: &mut Cx<'_>, memory: &Memory, panel: Val, (begin, end): (Val, Val)) {
        let columns = range(cx, panel, self.width, &self.columns);
        let slides = &self.patches.convolution.slides;
        self.patches.each(cx, begin, end, &mut |cx, place, corner| {
            let sums = offset(cx, memory.sums, place, self.width);
            self.back(cx, sums, memory.outputs);
            let zero = cx.b.int(0);
            let [height, width] = [0, 1].map(|axis| self.patches.results(cx, axis, corner));
            let row = cx.b.open_loop(zero, height, 1, Vec::new());
            cx.at[slides[0].own] = At::One(cx.b.add(corner[0], row.var));
            let row_base = offset(cx, memory.outputs, row.var, self.patches.transform.outputs() * self.width);
            let column = cx.b.open_loop(zero, width, 1, Vec::new());
            cx.at[slides[1].own] = At::One(cx.b.add(corner[1], column.var));
            let base = offset(cx, row_base, column.var, self.width);
            self.finish(cx, base, columns);
            cx.b.close_loop(column, Vec::new());
            cx.b.close_loop(row, Vec::new());
            slides.iter().for_each(|slide| cx.at[slide.own] = At::Unbound);
        });
    }

    /// The epilogue at a position, over a panel's columns.
    fn finish(&self, cx: &mut Cx<'_>, row: Val, (column_begin, column_end): (Val, Val)) {
        let tiling = &self.tiling;
        tiling.runs(cx, &tiling.columns.axes, column_begin, column_end, &mut |cx, run| {
            cx.swept(run.axis, run.begin, run.end, 1, &mut |cx| {
                epilogue(cx, tiling.contract, &mut Spilled { tiling, row, run, column_begin });
            });
        });
    }

    /// From the sums of a patch to its results, for all columns of a panel: `[row][column of the image][column]`.
    fn back(&self, cx: &mut Cx<'_>, sums: Val, to: Val) {
        let (zero, width, bytes) = (cx.b.int(0), cx.b.int(self.width), cx.b.int(BYTES));
        let open = cx.b.open_sweep(zero, width, 1);
        let place = cx.b.mul(open.var, bytes);
        let (sums, to) = (cx.b.add(sums, place), cx.b.add(to, place));
        let results = both_ways(cx, self.patches.transform.results, &mut |cx, row, column| {
            let element = row * self.patches.transform.patch() + column;
            let offset = cx.b.int(element * self.most * self.width * BYTES);
            let ptr = cx.b.add(sums, offset);
            cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern: Pattern::Contiguous, mask: None })
        });
        for (number, result) in (0..).zip(results) {
            let offset = cx.b.int(number * self.width * BYTES);
            let ptr = cx.b.add(to, offset);
            cx.b.store(ptr, Elem::F32.dtype(), Pattern::Contiguous, result);
        }
        cx.b.close_sweep(open, Vec::new());
    }
}

/// The scratch memory of a block.
struct Memory {
    /// Transformed patches: `[element][patch][channel]`.
    patches: Val,
    /// Sums of products with a panel: `[element][patch][column]`.
    sums: Val,
    /// The results of a patch.
    outputs: Val,
}

/// Elements of a row of channels, with what follows: an odd number of cache lines, so that rows of a tile fall on different sets.
const fn row_stride(channels: i64) -> i64 {
    (((channels + LINE - 1) / LINE) | 1) * LINE
}

/// The address of the place of this number, each of so many elements.
fn offset(cx: &mut Cx<'_>, base: Val, number: Val, elements: i64) -> Val {
    let bytes = cx.b.int(elements * BYTES);
    let offset = cx.b.mul(number, bytes);
    cx.b.add(base, offset)
}
