//! The gradient of 3x3 windows by fewer products: a window's sum over all positions is one over patches of the image, each multiplied by the cotangent of the
//! results that it gives, both transformed (`transform.rs`).
//!
//! A parallel point is a block of rows with a group of column panels, one of which are channels of the image, the other those of the cotangent, and, where there are
//! few such points, a part of the patches. It goes over its patches in chunks: both are transformed for what is the point's, so that what they become stays in a
//! second-level cache, as do the sums of products. After the last, sums are transformed to the taps of windows. Blocks, chunks and parts depend on sizes alone.

use graver_ir::Dim;
use graver_ir::kernel::Contract;

use super::super::super::cx::{At, Cx};
use super::super::super::{Lowered, Phase};
use super::super::flat::is_flat;
use super::super::pack::Run;
use super::super::parts::Parts;
use super::super::plan::{POINTS, UNROLL};
use super::super::sides::Operand;
use super::super::tile::{Spilled, Step, bind, each_tile, epilogue, range};
use super::super::{Shape, Tiling};
use super::find::{Convolution, is_stored_along};
use super::patch::{Channels, Patches};
use super::transform::{TAPS, both_ways};
use super::{BYTES, offset};
use crate::vector::{Binary, Compare, Elem, Load, Pattern, Val};

/// Elements of the sums of a point at most, more or less.
const SUMS: i64 = 128_000;
/// Elements of what a chunk of patches and cotangents become.
const CHUNK: i64 = 128_000;
/// Patches of a chunk.
const PATCHES: [i64; 2] = [16, 256];
/// Column panels of a group at most.
const GROUP: i64 = 2;

/// A derivative, and how it is run.
pub(in super::super) struct Gradient<'a> {
    patches: Patches<'a>,
    tiling: Tiling<'a>,
    /// Whether columns are channels of the image, rather than of the cotangent.
    is_image_columns: bool,
    sizes: Sizes,
}

#[derive(Clone, Copy)]
struct Sizes {
    rows: i64,
    columns: i64,
    /// Columns of a tile, panels of so many, and panels of a group.
    width: i64,
    panels: i64,
    group: i64,
    /// Rows of a block.
    block: i64,
    /// Patches of a chunk.
    chunk: i64,
    /// Elements of a transformed patch.
    elements: i64,
}

impl Sizes {
    fn new(shape: Shape, width: i64, (rows, columns): (i64, i64), elements: i64) -> Self {
        let share = |count: i64, most: i64| ceil_div(count, ceil_div(count, most));
        let (panels, row_panels) = (ceil_div(columns, width), ceil_div(rows, shape.rows));
        let group = share(panels, GROUP);
        let fits = (SUMS / (elements * group * width * shape.rows)).max(1);
        let block = share(row_panels, fits) * shape.rows;
        let chunk = CHUNK / (elements * (block + group * width));
        let chunk = chunk.clamp(PATCHES[0], PATCHES[1]) / UNROLL * UNROLL;
        Self { rows, columns, width, panels, group, block, chunk, elements }
    }

    const fn groups(&self) -> i64 {
        ceil_div(self.panels, self.group)
    }

    const fn blocks(&self) -> i64 {
        ceil_div(self.rows, self.block)
    }

    /// Elements from the transformed rows of a patch to those of the next: an odd number of cache lines.
    const fn row_stride(&self) -> i64 {
        super::row_stride(self.block)
    }
}

const fn ceil_div(count: i64, part: i64) -> i64 {
    (count + part - 1) / part
}

impl<'a> Gradient<'a> {
    /// `None` where this is no such derivative, or transforms do not pay.
    pub(in super::super) fn new(cx: &Cx<'_>, contract: &'a Contract, elem: Elem) -> Option<Self> {
        let convolution = Convolution::find_gradient(cx, contract).filter(|_| elem == Elem::F32)?;
        let count = |axes: &[usize]| axes.iter().map(|axis| contract.axes[*axis].as_const()).product::<Option<i64>>();
        let (channels, outputs) = (count(&convolution.channels)?, count(&convolution.outputs)?);
        let transform = convolution.cheapest(cx, contract, false)?;
        let patches = Patches::new(contract, convolution, transform);
        let Convolution { image, by, channels: of_image, outputs: of_cotangent, .. } = &patches.convolution;
        let output = *of_cotangent.last().expect("a cotangent has outputs");
        // The side along which results are neighbours, if one is; the image if windows are.
        let is_along = is_stored_along(cx, contract, output);
        let image = (Operand::new(image, of_image.clone(), true, elem), channels);
        let cotangent = (Operand::new(by, of_cotangent.clone(), true, elem), outputs);
        let ((rows, row_count), (columns, column_count)) = if is_along { (image, cotangent) } else { (cotangent, image) };
        let shape = Shape::best(cx.lanes, false, &Dim::from(row_count), &Dim::from(column_count));
        let tiling = Tiling { contract, rows, columns, batch: Vec::new(), k: Vec::new(), elem, words: None, shape };
        let sizes = Sizes::new(shape, tiling.width(cx), (row_count, column_count), transform.elements());
        Some(Self { patches, tiling, is_image_columns: !is_along, sizes })
    }

    pub(in super::super) fn lower(&self, cx: Cx<'_>) -> Lowered {
        let points = self.sizes.groups() * self.sizes.blocks();
        if points >= POINTS || self.patches.count().nominal() < POINTS * self.sizes.chunk {
            return Lowered::new(vec![self.sums(cx.again("windows"), None)], Dim::ZERO);
        }
        let taps = self.patches.convolution.slides.map(|slide| slide.tap);
        let Tiling { rows, columns, .. } = &self.tiling;
        let own: Vec<usize> = rows.axes.iter().chain(&columns.axes).chain(&taps).copied().collect();
        Parts::of(&cx, self.tiling.contract, &own)
            .lower_by(&cx, |cx, sums, part| self.of(sums).sums(cx.again("windows"), Some(part)))
    }

    /// The same of another contraction, of the same sides.
    fn of<'b>(&'b self, contract: &'b Contract) -> Gradient<'b> {
        let Tiling { rows, columns, elem, shape, .. } = &self.tiling;
        let (batch, k) = (Vec::new(), Vec::new());
        let tiling =
            Tiling { contract, rows: rows.clone(), columns: columns.clone(), batch, k, elem: *elem, words: None, shape: *shape };
        Gradient { patches: self.patches.clone(), tiling, is_image_columns: self.is_image_columns, sizes: self.sizes }
    }

    /// The phase of the sums and of what comes after them, of which `part` is the axis of parts.
    fn sums(&self, mut cx: Cx<'_>, part: Option<usize>) -> Phase {
        let (sizes, memory) = (&self.sizes, self.memory(&mut cx));
        let parts = part.map(|part| self.tiling.size(part));
        let digits: Vec<Dim> = parts.iter().cloned().chain([sizes.groups(), sizes.blocks()].map(Dim::from)).collect();
        cx.parallel(&digits, &mut |cx, digits| {
            let [number @ .., group, block] = digits else { unreachable!("a group and a block are the last digits") };
            let all = match part.zip(number.first()) {
                None => (cx.b.int(0), cx.value(&self.patches.count())),
                Some((part, number)) => {
                    cx.at[part] = At::One(*number);
                    self.part(cx, part, *number)
                }
            };
            let height = cx.b.int(sizes.block);
            let begin = cx.b.mul(*block, height);
            let (end, rows) = (cx.b.add(begin, height), cx.b.int(sizes.rows));
            let end = cx.b.binary(Binary::Min, end, rows);
            let point = Point { group: *group, rows: (begin, end), memory: &memory };
            self.chunks(cx, &point, all);
            self.each_panel(cx, &point, &mut |cx, panel| self.results(cx, &point, panel));
        });
        let products = self.patches.count() * Dim::from(sizes.rows * sizes.columns * sizes.elements);
        // A vector unit does some sixteen operations while a body does one.
        let work = products.floor_div(&Dim::from(8));
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    /// The patches of a part: as many chunks as others, as long as there are.
    fn part(&self, cx: &mut Cx<'_>, part: usize, number: Val) -> (Val, Val) {
        let chunk = Dim::from(self.sizes.chunk);
        let chunks = self.patches.count().ceil_div(&chunk).ceil_div(&self.tiling.size(part));
        let (length, count) = (cx.value(&(chunks * chunk)), cx.value(&self.patches.count()));
        let begin = cx.b.mul(number, length);
        let end = cx.b.add(begin, length);
        let end = cx.b.binary(Binary::Min, end, count);
        (begin, cx.b.binary(Binary::Max, begin, end))
    }

    fn memory(&self, cx: &mut Cx<'_>) -> Memory {
        let Sizes { width, group, block, chunk, elements, .. } = self.sizes;
        let (stride, taps) = (self.sizes.row_stride(), TAPS * TAPS);
        let mut take = |elements: i64| cx.take_scratch(&Dim::from(elements * BYTES));
        Memory {
            rows: take(elements * chunk * stride),
            columns: take(group * elements * chunk * width),
            sums: take(group * elements * block * width),
            taps: take(taps * width),
        }
    }

    /// The body for every column panel of a group: its number, and the columns of it.
    fn each_panel(&self, cx: &mut Cx<'_>, point: &Point<'_>, body: &mut dyn FnMut(&mut Cx<'_>, &Panel)) {
        let (group, panels) = (cx.b.int(self.sizes.group), cx.b.int(self.sizes.panels));
        let first = cx.b.mul(point.group, group);
        let last = cx.b.add(first, group);
        let last = cx.b.binary(Binary::Min, last, panels);
        let open = cx.b.open_loop(first, last, 1, Vec::new());
        let place = cx.b.sub(open.var, first);
        let columns = range(cx, open.var, self.sizes.width, &Dim::from(self.sizes.columns));
        body(cx, &Panel { place, columns });
        cx.b.close_loop(open, Vec::new());
    }

    /// Every chunk of some patches, and at least one.
    fn chunks(&self, cx: &mut Cx<'_>, point: &Point<'_>, (begin, end): (Val, Val)) {
        let one = cx.b.int(1);
        let last = cx.b.add(begin, one);
        let last = cx.b.binary(Binary::Max, last, end);
        let open = cx.b.open_loop(begin, last, self.sizes.chunk, Vec::new());
        let chunk = cx.b.int(self.sizes.chunk);
        let to = cx.b.add(open.var, chunk);
        let to = cx.b.binary(Binary::Min, to, end);
        self.transformed(cx, point, (open.var, to));
        let is_first = cx.b.compare(Compare::Eq, open.var, begin);
        let steps = cx.b.sub(to, open.var);
        self.each_panel(cx, point, &mut |cx, panel| self.products(cx, point, panel, (steps, is_first)));
        cx.b.close_loop(open, Vec::new());
    }

    /// Transforms a chunk of patches and cotangents, as far as they are the point's.
    fn transformed(&self, cx: &mut Cx<'_>, point: &Point<'_>, (begin, end): (Val, Val)) {
        let Sizes { width, chunk, elements, .. } = self.sizes;
        let (memory, stride) = (point.memory, self.sizes.row_stride());
        self.patches.each(cx, begin, end, &mut |cx, place, corner| {
            let base = offset(cx, memory.rows, place, stride);
            let (begin, end) = point.rows;
            self.operand(cx, corner, &Channels { begin, end, base, apart: chunk * stride }, !self.is_image_columns);
            self.each_panel(cx, point, &mut |cx, panel| {
                let base = offset(cx, memory.columns, panel.place, elements * chunk * width);
                let base = offset(cx, base, place, width);
                let (begin, end) = panel.columns;
                self.operand(cx, corner, &Channels { begin, end, base, apart: chunk * width }, self.is_image_columns);
            });
        });
    }

    fn operand(&self, cx: &mut Cx<'_>, corner: [Val; 2], to: &Channels, is_image: bool) {
        if is_image {
            self.patches.image(cx, &self.tiling, corner, to);
        } else {
            self.patches.cotangent(cx, &self.tiling, corner, to);
        }
    }

    /// Tiles of every element's products with a panel of columns, added to what the chunks before gave: `[panel][element][row][column]`.
    fn products(&self, cx: &mut Cx<'_>, point: &Point<'_>, panel: &Panel, (steps, is_first): (Val, Val)) {
        let Sizes { width, block, chunk, elements, .. } = self.sizes;
        let stride = self.sizes.row_stride();
        let columns = offset(cx, point.memory.columns, panel.place, elements * chunk * width);
        let sums = offset(cx, point.memory.sums, panel.place, elements * block * width);
        let (zero, count) = (cx.b.int(0), cx.b.int(elements));
        let open = cx.b.open_loop(zero, count, 1, Vec::new());
        let rows = offset(cx, point.memory.rows, open.var, chunk * stride);
        let columns = offset(cx, columns, open.var, chunk * width);
        let sums = offset(cx, sums, open.var, block * width);
        let count = cx.b.sub(point.rows.1, point.rows.0);
        let heights = self.tiling.heights(&Dim::from(self.sizes.rows));
        each_tile(cx, &heights, (zero, count), Vec::new(), &mut |cx, height, row, _| {
            let (rows, to) = (offset(cx, rows, row, 1), offset(cx, sums, row, width));
            let step = Step { tiling: &self.tiling, rows, row_stride: 1, k_stride: stride, columns, width, fetch: None };
            self.tile(cx, &step, (steps, is_first), (to, height));
            Vec::new()
        });
        cx.b.close_loop(open, Vec::new());
    }

    fn tile(&self, cx: &mut Cx<'_>, step: &Step<'_>, (steps, is_first): (Val, Val), (to, height): (Val, i64)) {
        let count = usize::try_from(height).expect("few rows") * self.tiling.vectors();
        let zero = cx.b.number(Elem::F32, 0);
        let (zero, is_first) = (cx.b.lanes(zero), cx.b.lanes(is_first));
        let place = |cx: &mut Cx<'_>, sum: usize| {
            let bytes = cx.b.int(i64::try_from(sum * cx.lanes).expect("few lanes") * BYTES);
            cx.b.add(to, bytes)
        };
        let before = (0..count).map(|sum| {
            let ptr = place(cx, sum);
            let before = cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern: Pattern::Contiguous, mask: None });
            cx.b.select(is_first, zero, before)
        });
        let before = before.collect();
        for (sum, value) in step.all(cx, steps, before).into_iter().enumerate() {
            let ptr = place(cx, sum);
            cx.b.store(ptr, Elem::F32.dtype(), Pattern::Contiguous, value);
        }
    }

    /// The results of every row in a panel of columns.
    fn results(&self, cx: &mut Cx<'_>, point: &Point<'_>, panel: &Panel) {
        let Sizes { width, block, elements, .. } = self.sizes;
        let sums = offset(cx, point.memory.sums, panel.place, elements * block * width);
        let axes = &self.tiling.rows.axes;
        let counts: Vec<Val> = axes.iter().map(|axis| cx.value(&self.tiling.size(*axis))).collect();
        let (begin, end) = point.rows;
        let first = cx.digits(begin, &counts);
        let open = cx.b.open_loop(begin, end, 1, first);
        let digits = open.params.clone();
        bind(cx, axes, &digits);
        let place = cx.b.sub(open.var, begin);
        let sums = offset(cx, sums, place, width);
        let (contract, runs) = (self.tiling.contract, self.windows());
        let is_flat = self.is_image_columns && is_flat(cx, &contract.axes, &runs, &contract.epilogue, &contract.stores);
        // From one tap to the next, and from one column to the next.
        let strides = if is_flat { (1, TAPS * TAPS) } else { (width, 1) };
        self.taps(cx, sums, point.memory.taps, strides);
        if is_flat {
            self.finish_flat(cx, point, panel)
        } else {
            self.finish(cx, point, panel)
        }
        let next = cx.next_digits(&digits, &counts);
        axes.iter().for_each(|axis| cx.at[*axis] = At::Unbound);
        cx.b.close_loop(open, next);
    }

    /// The axes of columns with those of a window.
    fn windows(&self) -> Vec<usize> {
        let taps = self.patches.convolution.slides.map(|slide| slide.tap);
        self.tiling.columns.axes.iter().chain(&taps).copied().collect()
    }

    /// From sums to the taps of windows, for all columns of a panel.
    fn taps(&self, cx: &mut Cx<'_>, sums: Val, to: Val, (by_tap, by_column): (i64, i64)) {
        let (zero, width) = (cx.b.int(0), cx.b.int(self.sizes.width));
        let transform = self.patches.transform;
        let open = cx.b.open_sweep(zero, width, 1);
        let (from, to) = (offset(cx, sums, open.var, 1), offset(cx, to, open.var, by_column));
        let taps = both_ways(cx, transform.taps, &mut |cx, row, column| {
            let element = row * transform.patch() + column;
            let before = cx.b.int(element * self.sizes.block * self.sizes.width * BYTES);
            let ptr = cx.b.add(from, before);
            cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern: Pattern::Contiguous, mask: None })
        });
        let [y, x] = &self.patches.convolution.slides;
        for (number, tap) in (0..).zip(taps) {
            let number = y.at(number / TAPS) * TAPS + x.at(number % TAPS);
            let before = cx.b.int(number * by_tap * BYTES);
            let ptr = cx.b.add(to, before);
            let stride = cx.b.int(by_column * BYTES);
            let pattern = if by_column == 1 { Pattern::Contiguous } else { Pattern::Strided(stride) };
            cx.b.store(ptr, Elem::F32.dtype(), pattern, tap);
        }
        cx.b.close_sweep(open, Vec::new());
    }

    /// The epilogue of a row, tap by tap.
    fn finish(&self, cx: &mut Cx<'_>, point: &Point<'_>, panel: &Panel) {
        let (tiling, width) = (&self.tiling, self.sizes.width);
        let [y, x] = self.patches.convolution.slides.map(|slide| slide.tap);
        let (zero, taps) = (cx.b.int(0), cx.b.int(TAPS));
        let row = cx.b.open_loop(zero, taps, 1, Vec::new());
        cx.at[y] = At::One(row.var);
        let line = offset(cx, point.memory.taps, row.var, TAPS * width);
        let column = cx.b.open_loop(zero, taps, 1, Vec::new());
        cx.at[x] = At::One(column.var);
        let base = offset(cx, line, column.var, width);
        let (column_begin, column_end) = panel.columns;
        tiling.runs(cx, &tiling.columns.axes, column_begin, column_end, &mut |cx, run| {
            cx.swept(run.axis, run.begin, run.end, 1, &mut |cx| {
                epilogue(cx, tiling.contract, &mut Spilled { tiling, row: base, run, column_begin });
            });
        });
        cx.b.close_loop(column, Vec::new());
        cx.b.close_loop(row, Vec::new());
        (cx.at[y], cx.at[x]) = (At::Unbound, At::Unbound);
    }

    /// The epilogue of a row where windows of columns are one run: its numbers stand for the last axis, the others are at 0.
    fn finish_flat(&self, cx: &mut Cx<'_>, point: &Point<'_>, panel: &Panel) {
        let (runs, taps) = (self.windows(), cx.b.int(TAPS * TAPS));
        let (axis, outer) = runs.split_last().expect("there are two taps");
        let zero = cx.b.int(0);
        outer.iter().for_each(|axis| cx.at[*axis] = At::One(zero));
        let (begin, end) = (cx.b.mul(panel.columns.0, taps), cx.b.mul(panel.columns.1, taps));
        let run = Run { axis: *axis, first: zero, begin, end };
        cx.swept(*axis, begin, end, 1, &mut |cx| {
            let mut sums = Spilled { tiling: &self.tiling, row: point.memory.taps, run, column_begin: begin };
            epilogue(cx, self.tiling.contract, &mut sums);
        });
        outer.iter().for_each(|axis| cx.at[*axis] = At::Unbound);
    }
}

/// What a parallel point works on.
struct Point<'a> {
    group: Val,
    rows: (Val, Val),
    memory: &'a Memory,
}

/// A panel of columns: its number in the group, and which they are.
struct Panel {
    place: Val,
    columns: (Val, Val),
}

/// The scratch memory of a point.
struct Memory {
    /// Transformed rows: `[element][patch][row]`.
    rows: Val,
    /// Transformed columns: `[panel][element][patch][column]`.
    columns: Val,
    /// Sums of products: `[panel][element][row][column]`.
    sums: Val,
    /// The taps of a row's windows.
    taps: Val,
}
