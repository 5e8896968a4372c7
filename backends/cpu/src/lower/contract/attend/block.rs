//! A block of rows against every block of columns: products, weights, sums.

use graver_ir::Dim;

use super::super::super::cx::{At, Cx};
use super::super::pack::Panel;
use super::super::tile::Step;
use super::keep::Keep;
use super::{APART, Packed, Plan};
use crate::vector::{Binary, Compare, Elem, Load, Pattern, Val};

/// Bytes of what is computed.
pub(super) const BYTES: i64 = 4;

/// Scratch memory of a block.
pub(super) struct Memory {
    /// The packed rows of every product.
    rows: Vec<Val>,
    /// What is packed of the rows to be summed over them.
    pub(super) sides: Vec<Val>,
    /// Products, and then weights, of a block of columns.
    pub(super) matrices: Vec<Val>,
    /// The sums so far.
    pub(super) sums: Vec<Val>,
    /// By row, in a softmax: the greatest score so far, the sum of shares, and by how much this block scales what was summed before.
    pub(super) most: Val,
    pub(super) all: Val,
    pub(super) factor: Val,
    /// What is taken off scores.
    pub(super) shift: Val,
}

/// From the first row of a tile, and the columns that count there.
type Tile<'a> = dyn FnMut(&mut Cx<'_>, Val, (Val, Val)) + 'a;

/// A block of columns, and how many rows are against it.
pub(super) struct Columns {
    pub(super) begin: Val,
    pub(super) end: Val,
    /// The first row, and how many.
    pub(super) first: Val,
    pub(super) count: Val,
}

impl Plan<'_> {
    /// Elements from one row of a matrix to the next: more than tiles of columns reach beyond a row.
    pub(super) fn matrix_stride(&self) -> i64 {
        self.breadth + (self.shape.rows + APART - 1) / APART * APART
    }

    fn k_of(packed: &Packed<'_>) -> i64 {
        packed.tiling.count(&packed.tiling.k).as_const().expect("a plan is for known widths")
    }

    /// Elements of a row of sums.
    pub(super) fn sum_stride(&self, packed: &Packed<'_>) -> i64 {
        packed.panels.as_const().expect("a plan is for known widths") * self.width
    }

    pub(super) fn memory(&self, cx: &mut Cx<'_>) -> Memory {
        let mut take = |elements: i64| cx.take_scratch(&Dim::from(elements * BYTES));
        let rows = self.products.iter().map(|packed| take(self.height * (Self::k_of(packed) + APART))).collect();
        let matrices = self.products.len().max(self.weights.len());
        Memory {
            rows,
            sides: self.across.iter().map(|packed| take(self.height * self.sum_stride(packed))).collect(),
            matrices: (0..matrices).map(|_| take(self.height * self.matrix_stride())).collect(),
            sums: self.sums.iter().map(|packed| take(self.height * self.sum_stride(packed))).collect(),
            most: take(self.height),
            all: take(self.height),
            factor: take(self.height),
            shift: take(self.height),
        }
    }

    /// Everything of the rows `begin..end`, of a part if there are sums over rows.
    pub(super) fn block(&self, cx: &mut Cx<'_>, memory: &Memory, part: Option<Val>, begin: Val, end: Val) {
        let count = cx.b.sub(end, begin);
        for (packed, base) in self.products.iter().zip(&memory.rows) {
            let place = Panel { base: *base, own_stride: Dim::from(Self::k_of(packed) + APART), k_stride: Dim::ONE };
            packed.tiling.pack(cx, &packed.tiling.rows, &place, begin, end, None);
        }
        self.pack_across(cx, memory, begin, end);
        self.begin_rows(cx, memory);
        let (zero, all) = (cx.b.int(0), cx.value(&self.attend.axes[self.column]));
        let (from, to) = Keep::of_block(&self.keep, cx, (begin, end), (zero, all));
        cx.at[self.attend.rows] = At::Unbound;
        // Panels are packed from the first column on.
        let width = cx.b.int(self.width);
        let panel = cx.b.binary(Binary::Div, from, width);
        let from = cx.b.mul(panel, width);
        cx.nested(&self.attend.axes, &self.outer, None, 1, &mut |cx| {
            let open = cx.b.open_loop(from, to, self.breadth, Vec::new());
            let breadth = cx.b.int(self.breadth);
            let last = cx.b.add(open.var, breadth);
            let last = cx.b.binary(Binary::Min, last, to);
            let columns = Columns { begin: open.var, end: last, first: begin, count };
            self.products(cx, memory, &columns);
            self.weights(cx, memory, &columns);
            self.sums(cx, memory, &columns);
            if let Some(part) = part {
                self.add_across(cx, memory, part, &columns);
            }
            cx.b.close_loop(open, Vec::new());
        });
        self.end_rows(cx, memory, begin, end);
    }

    /// Tiles of every product, to memory.
    fn products(&self, cx: &mut Cx<'_>, memory: &Memory, columns: &Columns) {
        for (number, packed) in self.products.iter().enumerate() {
            let open = cx.b.open_loop(columns.begin, columns.end, self.width, Vec::new());
            let width = cx.b.int(self.width);
            let panel = cx.b.binary(Binary::Div, open.var, width);
            let panel = packed.at(cx, panel);
            let place = cx.b.sub(open.var, columns.begin);
            let last = cx.b.add(open.var, width);
            self.each_tile(cx, columns, &mut |cx, row, counting| {
                let begins = cx.b.compare(Compare::Lt, open.var, counting.1);
                let ends = cx.b.compare(Compare::Lt, counting.0, last);
                let counts = cx.b.and(begins, ends);
                let open = cx.b.open_if(counts);
                let row_stride = Self::k_of(packed) + APART;
                let rows = self.offset(cx, memory.rows[number], row, row_stride);
                let step = Step {
                    tiling: &packed.tiling,
                    rows,
                    row_stride,
                    k_stride: 1,
                    columns: panel,
                    width: self.width,
                    fetch: None,
                };
                let (steps, zero) = (cx.b.int(Self::k_of(packed)), cx.b.number(Elem::F32, 0));
                let zero = cx.b.lanes(zero);
                let sums = step.all(cx, steps, vec![zero; self.tile_vectors()]);
                let to = self.offset(cx, memory.matrices[number], row, self.matrix_stride());
                let to = self.offset(cx, to, place, 1);
                self.store_tile(cx, to, self.matrix_stride(), &sums);
                cx.b.close_if(open);
            });
            cx.b.close_loop(open, Vec::new());
        }
    }

    /// Tiles of every sum, added to what is in memory.
    fn sums(&self, cx: &mut Cx<'_>, memory: &Memory, columns: &Columns) {
        for (number, packed) in self.sums.iter().enumerate() {
            let stride = self.sum_stride(packed);
            let zero = cx.b.int(0);
            let panels = cx.value(&packed.panels);
            let open = cx.b.open_loop(zero, panels, 1, Vec::new());
            let panel = packed.at(cx, open.var);
            let bytes = cx.b.int(self.width * BYTES);
            let before = cx.b.mul(columns.begin, bytes);
            let panel = cx.b.add(panel, before);
            let place = cx.b.mul(open.var, bytes);
            self.each_tile(cx, columns, &mut |cx, row, (first, last)| {
                let before = cx.b.sub(first, columns.begin);
                let matrix = memory.matrices[self.weight(&self.attend.sums[number])];
                let rows = self.offset(cx, matrix, row, self.matrix_stride());
                let rows = self.offset(cx, rows, before, 1);
                let columns = self.offset(cx, panel, before, self.width);
                let at = self.offset(cx, memory.sums[number], row, stride);
                let at = cx.b.add(at, place);
                let sums = self.load_tile(cx, memory, at, row, stride);
                let row_stride = self.matrix_stride();
                let step =
                    Step { tiling: &packed.tiling, rows, row_stride, k_stride: 1, columns, width: self.width, fetch: None };
                let steps = cx.b.sub(last, first);
                let sums = step.all(cx, steps, sums);
                self.store_tile(cx, at, stride, &sums);
            });
            cx.b.close_loop(open, Vec::new());
        }
    }

    /// The body for the first row of every tile, counted from the block's, and the columns that count in some row of it.
    fn each_tile(&self, cx: &mut Cx<'_>, columns: &Columns, body: &mut Tile<'_>) {
        let zero = cx.b.int(0);
        let open = cx.b.open_loop(zero, columns.count, self.shape.rows, Vec::new());
        let counting = self.counting(cx, columns, open.var);
        body(cx, open.var, counting);
        cx.b.close_loop(open, Vec::new());
    }

    fn counting(&self, cx: &mut Cx<'_>, columns: &Columns, row: Val) -> (Val, Val) {
        let range = (columns.begin, columns.end);
        if self.keep.is_empty() {
            return range;
        }
        let height = cx.b.int(self.shape.rows);
        let end = cx.b.add(row, height);
        let end = cx.b.binary(Binary::Min, end, columns.count);
        let rows = [row, end].map(|row| cx.b.add(columns.first, row));
        let (first, last) = Keep::of_block(&self.keep, cx, (rows[0], rows[1]), range);
        cx.at[self.attend.rows] = At::Unbound;
        let first = cx.b.binary(Binary::Min, first, columns.end);
        (first, cx.b.binary(Binary::Max, last, first))
    }

    fn tile_vectors(&self) -> usize {
        usize::try_from(self.shape.rows * self.shape.vectors).expect("few vectors")
    }

    /// The address of a row, `stride` elements long.
    pub(super) fn offset(&self, cx: &mut Cx<'_>, base: Val, row: Val, stride: i64) -> Val {
        let bytes = cx.b.int(stride * BYTES);
        let offset = cx.b.mul(row, bytes);
        cx.b.add(base, offset)
    }

    /// The vectors of a tile, row by row: the row's number in the tile, and the address.
    fn tile(&self, cx: &mut Cx<'_>, at: Val, stride: i64) -> Vec<(i64, Val)> {
        let lanes = i64::try_from(cx.lanes).expect("few lanes");
        let places = (0..self.shape.rows).flat_map(|row| (0..self.shape.vectors).map(move |vector| (row, vector)));
        let address = |(row, vector): (i64, i64)| {
            let offset = cx.b.int((row * stride + vector * lanes) * BYTES);
            (row, cx.b.add(at, offset))
        };
        places.map(address).collect()
    }

    pub(super) fn store_tile(&self, cx: &mut Cx<'_>, at: Val, stride: i64, sums: &[Val]) {
        for ((_, ptr), sum) in self.tile(cx, at, stride).into_iter().zip(sums) {
            cx.b.store(ptr, Elem::F32.dtype(), Pattern::Contiguous, *sum);
        }
    }

    /// The sums of a tile so far, scaled in a softmax.
    pub(super) fn load_tile(&self, cx: &mut Cx<'_>, memory: &Memory, at: Val, first: Val, stride: i64) -> Vec<Val> {
        let mut sums = Vec::new();
        for (row, ptr) in self.tile(cx, at, stride) {
            let sum = cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern: Pattern::Contiguous, mask: None });
            let sum = if self.attend.softmax.is_some() {
                let row = cx.b.int(row);
                let row = cx.b.add(first, row);
                let factor = self.load_row(cx, memory.factor, row);
                cx.b.mul(sum, factor)
            } else {
                sum
            };
            sums.push(sum);
        }
        sums
    }

    /// An element a row.
    pub(super) fn load_row(&self, cx: &mut Cx<'_>, base: Val, row: Val) -> Val {
        let ptr = self.offset(cx, base, row, 1);
        cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern: Pattern::One, mask: None })
    }

    pub(super) fn store_row(&self, cx: &mut Cx<'_>, base: Val, row: Val, value: Val) {
        let ptr = self.offset(cx, base, row, 1);
        cx.b.store(ptr, Elem::F32.dtype(), Pattern::One, value);
    }
}
