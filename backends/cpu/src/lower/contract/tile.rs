//! Tiles: sums in registers over packed panels, and the epilogue while they are hot.

use graver_ir::kernel::{Body, Contract};
use graver_ir::{DType, Dim};

use super::super::body::{Given, Nothing};
use super::super::cx::{At, Cx};
pub(super) use super::super::loops::bind;
use super::super::memo::has_slow;
use super::fetch::{Fetch, Turn};
use super::pack::{Run, Span};
use super::plan::{Plan, UNROLL};
use super::words::Words;
use super::{Operand, Tiling};
use crate::vector::{Binary, Compare, Load, Pattern, Unary, Val, Width};

/// Epilogues up to this many instructions, none of them a function that is many, are also written out for whole tiles, straight from
/// registers.
const SMALL_EPILOGUE: usize = 10;

impl Plan {
    /// Every tile of a block and a panel of columns; `first` are the digits of the block's first row, and their sizes.
    pub(super) fn row_panels(
        &self,
        cx: &mut Cx<'_>,
        tiling: &Tiling<'_>,
        block: &Block,
        column: &Column,
        (first, sizes): (Vec<Val>, Vec<Val>),
    ) {
        let (column_begin, column_end) = range(cx, column.panel, self.width, &self.columns);
        each_tile(cx, &self.heights, (block.begin, block.end), first, &mut |cx, height, row, digits| {
            let place = Place { height, row, digits: digits.to_vec(), sizes: sizes.clone() };
            self.tile(cx, tiling, block, column, place, (column_begin, column_end));
            (0..height).fold(digits.to_vec(), |digits, _| cx.next_digits(&digits, &sizes))
        });
    }

    /// A tile: its sums, and the epilogue after the last chunk.
    fn tile(
        &self,
        cx: &mut Cx<'_>,
        tiling: &Tiling<'_>,
        block: &Block,
        column: &Column,
        place: Place,
        (column_begin, column_end): (Val, Val),
    ) {
        let waiting = block.sums.map(|sums| self.waiting(cx, tiling, sums, block, column, place.row));
        let sums = match tiling.words {
            Some(Words::Tiles(dot)) => {
                let to = waiting.unwrap_or(block.spill);
                self.sums_of_tiles(cx, tiling, dot, (block, &place), column, (to, waiting.is_some()));
                Sums::Stored(to)
            }
            Some(Words::Vectors(_)) | None => Sums::Held(self.sums(cx, tiling, block, &place, column, waiting)),
        };
        let tile = Tile { place, column_begin, column_end, sums };
        let Some(waiting) = waiting else {
            self.finish(cx, tiling, block, &tile);
            return;
        };
        let last = cx.b.compare(Compare::Ge, column.span.end, column.all.end);
        if let Sums::Held(sums) = &tile.sums {
            let more = cx.b.unary(Unary::Not, last);
            // Before the epilogue, which has the registers to itself then: sums that live through it are spilled in the loop over `k`.
            let open = cx.b.open_if(more);
            store_sums(cx, tiling, waiting, sums);
            cx.b.close_if(open);
        }
        let open = cx.b.open_if(last);
        self.finish(cx, tiling, block, &tile);
        cx.b.close_if(open);
    }

    /// Where the sums of a tile are between chunks.
    fn waiting(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, sums: Val, block: &Block, column: &Column, row: Val) -> Val {
        let (row_bytes, rows) = (cx.b.int(self.width * tiling.bytes()), cx.value(&(&self.block * Dim::from(tiling.shape.rows))));
        let panel = cx.b.mul(column.place, rows);
        let row = cx.b.sub(row, block.begin);
        let number = cx.b.add(panel, row);
        let offset = cx.b.mul(number, row_bytes);
        cx.b.add(sums, offset)
    }

    /// The sums of a tile after this chunk, row by row.
    fn sums(
        &self,
        cx: &mut Cx<'_>,
        tiling: &Tiling<'_>,
        block: &Block,
        at: &Place,
        column: &Column,
        waiting: Option<Val>,
    ) -> Vec<Val> {
        let (row_stride, k_stride) = self.row_strides(tiling);
        let stride = cx.b.int(row_stride * tiling.bytes());
        let place = cx.b.sub(at.row, block.begin);
        let offset = cx.b.mul(place, stride);
        let rows = cx.b.add(block.rows, offset);
        let zero = cx.b.number(tiling.elem, 0);
        let zero = cx.b.lanes(zero);
        let count = usize::try_from(at.height).expect("few rows") * tiling.vectors();
        let begin = match waiting {
            None => vec![zero; count],
            Some(waiting) => {
                let first = cx.b.compare(Compare::Eq, column.span.begin, column.all.begin);
                let first = cx.b.lanes(first);
                let at = |cx: &mut Cx<'_>, sum: usize| {
                    let (ptr, dtype) = (sum_place(cx, tiling, waiting, sum), tiling.elem.dtype());
                    let sum = cx.b.load_now(Load { ptr, dtype, pattern: Pattern::Contiguous, mask: None });
                    cx.b.select(first, zero, sum)
                };
                (0..count).map(|sum| at(cx, sum)).collect()
            }
        };
        let elements = cx.b.sub(column.span.end, column.span.begin);
        let steps = tiling.steps(cx, elements);
        let fetch = column.next.map(|next| self.fetch(cx, tiling, block, at, (next, steps)));
        let step = Step { tiling, rows, row_stride, k_stride, columns: column.packed, width: self.width, fetch };
        step.all(cx, steps, begin)
    }

    fn fetch(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block, at: &Place, (next, steps): (Val, Val)) -> Fetch {
        let turn = Turn {
            before: cx.b.sub(at.row, block.begin),
            height: at.height,
            rows: cx.b.sub(block.end, block.begin),
            usual: (&self.block * Dim::from(tiling.shape.rows)).nominal(),
        };
        Fetch::share(cx, next, (steps, self.width * tiling.columns.bytes() * tiling.depth()), &turn)
    }

    /// The epilogue of a tile.
    fn finish(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block, tile: &Tile) {
        let (height, width) = (cx.b.int(tile.place.height), cx.b.int(self.width));
        let row_end = cx.b.add(tile.place.row, height);
        let row_end = cx.b.binary(Binary::Min, row_end, block.end);
        let axes = tiling.result_axes(cx);
        let ([axis], true) = (axes, is_small(&tiling.contract.epilogue)) else {
            self.finish_part(cx, tiling, block, tile, (row_end, axes));
            return;
        };
        let (rows, columns) = (cx.b.sub(row_end, tile.place.row), cx.b.sub(tile.column_end, tile.column_begin));
        let (all_rows, all_columns) = (cx.b.compare(Compare::Eq, rows, height), cx.b.compare(Compare::Eq, columns, width));
        let whole = cx.b.and(all_rows, all_columns);
        let open = cx.b.open_if(whole);
        finish_whole(cx, tiling, tile, *axis);
        cx.b.close_if(open);
        let part = cx.b.unary(Unary::Not, whole);
        let open = cx.b.open_if(part);
        self.finish_part(cx, tiling, block, tile, (row_end, axes));
        cx.b.close_if(open);
    }

    /// From memory, as much as there is of the tile, run by run of some axes.
    fn finish_part(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, block: &Block, tile: &Tile, (row_end, axes): (Val, &[usize])) {
        let sums = match &tile.sums {
            Sums::Held(sums) => {
                store_sums(cx, tiling, block.spill, sums);
                block.spill
            }
            Sums::Stored(at) => *at,
        };
        let open = cx.b.open_loop(tile.place.row, row_end, 1, tile.place.digits.clone());
        let digits = open.params.clone();
        bind(cx, &tiling.rows.axes, &digits);
        let row_bytes = cx.b.int(self.width * tiling.bytes());
        let place = cx.b.sub(open.var, tile.place.row);
        let place = cx.b.mul(place, row_bytes);
        let row = cx.b.add(sums, place);
        tiling.runs(cx, axes, tile.column_begin, tile.column_end, &mut |cx, run| {
            cx.swept(run.axis, run.begin, run.end, 1, &mut |cx| {
                epilogue(cx, tiling.contract, &mut Spilled { tiling, row, run, column_begin: tile.column_begin });
            });
        });
        let next = cx.next_digits(&digits, &tile.place.sizes);
        cx.b.close_loop(open, next);
    }
}

/// What is made of a tile: of its height, its first row, and the state that comes to it the state that goes on.
type EachTile<'t> = dyn FnMut(&mut Cx<'_>, i64, Val, &[Val]) -> Vec<Val> + 't;

/// Every tile over the rows `begin..end`, by height and first row, the highest first: lower ones take what rows are left, where they can take
/// all. State goes from tile to tile.
pub(super) fn each_tile(cx: &mut Cx<'_>, heights: &[i64], (begin, end): (Val, Val), state: Vec<Val>, tile: &mut EachTile<'_>) {
    let mut next: Vec<Val> = [begin].into_iter().chain(state).collect();
    for (number, height) in heights.iter().enumerate() {
        let left = cx.b.int(heights.get(number + 1).copied().unwrap_or(0));
        let last = cx.b.sub(end, left);
        let open = cx.b.open_loop(next[0], last, *height, next);
        let (row, state) = open.params.split_first().expect("the row is the first that is carried");
        let (row, state) = (*row, tile(cx, *height, *row, state));
        let step = cx.b.int(*height);
        let after = cx.b.add(row, step);
        next = cx.b.close_loop(open, [after].into_iter().chain(state).collect());
    }
}

/// The epilogue of a whole tile whose columns are one run of an axis, from registers, every vector written out.
fn finish_whole(cx: &mut Cx<'_>, tiling: &Tiling<'_>, tile: &Tile, axis: usize) {
    let mut digits = tile.place.digits.clone();
    let vectors = tiling.vectors();
    for row in 0..usize::try_from(tile.place.height).expect("few rows") {
        bind(cx, &tiling.rows.axes, &digits);
        for vector in 0..vectors {
            let offset = cx.b.int(i64::try_from(vector * cx.lanes).expect("few lanes"));
            cx.at[axis] = At::Lane(cx.b.add(tile.column_begin, offset));
            let number = row * vectors + vector;
            let sum = match &tile.sums {
                Sums::Held(sums) => sums[number],
                Sums::Stored(at) => {
                    let (ptr, dtype) = (sum_place(cx, tiling, *at, number), tiling.elem.dtype());
                    cx.b.load_now(Load { ptr, dtype, pattern: Pattern::Contiguous, mask: None })
                }
            };
            epilogue(cx, tiling.contract, &mut Sum(sum));
        }
        digits = cx.next_digits(&digits, &tile.place.sizes);
    }
    cx.at[axis] = At::Unbound;
}

fn is_small(epilogue: &Body) -> bool {
    epilogue.insts.len() <= SMALL_EPILOGUE && !has_slow(epilogue)
}

/// The place of a sum among those of its tile.
fn sum_place(cx: &mut Cx<'_>, tiling: &Tiling<'_>, tile: Val, sum: usize) -> Val {
    let bytes = cx.b.int(i64::try_from(sum * cx.lanes).expect("few lanes") * tiling.bytes());
    cx.b.add(tile, bytes)
}

fn store_sums(cx: &mut Cx<'_>, tiling: &Tiling<'_>, tile: Val, sums: &[Val]) {
    for (place, sum) in sums.iter().enumerate() {
        let ptr = sum_place(cx, tiling, tile, place);
        cx.b.store(ptr, tiling.elem.dtype(), Pattern::Contiguous, *sum);
    }
}

/// A block of rows: where it is packed, and its range.
pub(super) struct Block {
    pub(super) rows: Val,
    /// Memory for the sums of a tile.
    pub(super) spill: Val,
    /// Memory for the sums of all tiles, where they wait between chunks.
    pub(super) sums: Option<Val>,
    pub(super) begin: Val,
    pub(super) end: Val,
}

/// A panel of columns.
pub(super) struct Column {
    /// Its number.
    pub(super) panel: Val,
    /// Its number in the group.
    pub(super) place: Val,
    /// Where the chunk is packed.
    pub(super) packed: Val,
    /// The chunk.
    pub(super) span: Span,
    /// All that is summed.
    pub(super) all: Span,
    /// Where the chunk is packed that comes after this one, if one does.
    pub(super) next: Option<Val>,
}

/// Where a tile's rows are.
pub(super) struct Place {
    /// How many it has, some of which may be beyond the block.
    pub(super) height: i64,
    /// The first.
    pub(super) row: Val,
    /// The positions of its axes.
    digits: Vec<Val>,
    sizes: Vec<Val>,
}

/// A tile whose sums are known.
struct Tile {
    place: Place,
    column_begin: Val,
    column_end: Val,
    sums: Sums,
}

/// Where the sums of a tile are, row by row.
enum Sums {
    /// In registers.
    Held(Vec<Val>),
    /// In memory.
    Stored(Val),
}

/// Steps of `k`, of an element or a word: that of `(row, k)` lies at `rows + (row * row_stride + k * k_stride)` elements, and `columns` at `k * width`.
pub(super) struct Step<'a> {
    pub(super) tiling: &'a Tiling<'a>,
    pub(super) rows: Val,
    pub(super) row_stride: i64,
    pub(super) k_stride: i64,
    pub(super) columns: Val,
    pub(super) width: i64,
    /// What is fetched meanwhile.
    pub(super) fetch: Option<Fetch>,
}

impl Step<'_> {
    /// So many steps, several at a time as long as there are.
    pub(super) fn all(&self, cx: &mut Cx<'_>, steps: Val, sums: Vec<Val>) -> Vec<Val> {
        let from = cx.b.int(0);
        let whole = if let Some(steps) = cx.b.as_int(steps) {
            cx.b.int(steps / UNROLL * UNROLL)
        } else {
            let mask = cx.b.int(-UNROLL);
            cx.b.and(steps, mask)
        };
        let sums = self.repeat(cx, from, whole, UNROLL, sums);
        self.repeat(cx, whole, steps, 1, sums)
    }

    /// Steps `from..to`, `count` at a time.
    fn repeat(&self, cx: &mut Cx<'_>, from: Val, to: Val, count: i64, sums: Vec<Val>) -> Vec<Val> {
        let open = cx.b.open_loop(from, to, count, sums);
        let (k, mut sums) = (open.var, open.params.clone());
        let (bytes, packed) = (self.tiling.bytes(), self.tiling.columns.bytes() * self.tiling.depth());
        let (row_bytes, column_bytes) = (cx.b.int(self.k_stride * bytes), cx.b.int(self.width * packed));
        let (row_offset, column_offset) = (cx.b.mul(k, row_bytes), cx.b.mul(k, column_bytes));
        let (rows, columns) = (cx.b.add(self.rows, row_offset), cx.b.add(self.columns, column_offset));
        if let Some(fetch) = self.fetch.as_ref().filter(|_| count == UNROLL) {
            fetch.at(cx, k);
        }
        for step in 0..count {
            self.one(cx, rows, columns, step, &mut sums);
        }
        cx.b.close_loop(open, sums)
    }

    fn one(&self, cx: &mut Cx<'_>, rows: Val, columns: Val, step: i64, sums: &mut [Val]) {
        let Tiling { elem, words, columns: Operand { packed: (_, packed), .. }, .. } = *self.tiling;
        let pairs = match words {
            Some(Words::Vectors(pairs)) => Some(pairs),
            Some(Words::Tiles(_)) => unreachable!("tiles have steps of their own"),
            None => None,
        };
        // Words go as floats, whose loads an instruction does that multiplies.
        let (row_type, column_type) = if pairs.is_some() { (DType::F32, DType::F32) } else { (elem.dtype(), packed) };
        let (bytes, column_bytes) = (self.tiling.bytes(), self.tiling.columns.bytes() * self.tiling.depth());
        let mut vectors = Vec::new();
        for vector in 0..self.tiling.vectors() {
            let place = step * self.width + i64::try_from(vector * cx.lanes).expect("few lanes");
            let offset = cx.b.int(place * column_bytes);
            let ptr = cx.b.add(columns, offset);
            let vector = cx.b.load_now(Load { ptr, dtype: column_type, pattern: Pattern::Contiguous, mask: None });
            vectors.push(if pairs.is_some() { vector } else { cx.b.cast(vector, elem) });
        }
        for (row, sums) in (0..).zip(sums.chunks_mut(self.tiling.vectors())) {
            let offset = cx.b.int((row * self.row_stride + step * self.k_stride) * bytes);
            let ptr = cx.b.add(rows, offset);
            let element = cx.b.load_now(Load { ptr, dtype: row_type, pattern: Pattern::One, mask: None });
            let element = cx.b.lanes(element);
            for (sum, vector) in sums.iter_mut().zip(&vectors) {
                *sum = match pairs {
                    None => cx.b.fma(element, *vector, *sum),
                    Some(pairs) => cx.b.dot(pairs, element, *vector, *sum),
                };
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
pub(super) struct Spilled<'a> {
    pub(super) tiling: &'a Tiling<'a>,
    pub(super) row: Val,
    pub(super) run: Run,
    pub(super) column_begin: Val,
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

/// The epilogue where the axes stand, with its stores.
pub(super) fn epilogue(cx: &mut Cx<'_>, contract: &Contract, given: &mut dyn Given) {
    let values = cx.body(&contract.epilogue, given);
    for store in &contract.stores {
        cx.store(store, &values);
    }
}

/// `panel * width .. min((panel + 1) * width, count)`
pub(super) fn range(cx: &mut Cx<'_>, panel: Val, width: i64, count: &Dim) -> (Val, Val) {
    let (width, count) = (cx.b.int(width), cx.value(count));
    let begin = cx.b.mul(panel, width);
    let end = cx.b.add(begin, width);
    (begin, cx.b.binary(Binary::Min, end, count))
}
