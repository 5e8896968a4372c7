//! Sums over rows: blocks of rows, one after the other, add to them in memory, of which every part of the blocks has its own; a last phase adds up the parts,
//! in order. How many parts there are follows from sizes alone, so results do not depend on threads.

use graver_ir::Dim;
use graver_ir::kernel::{Store, ValueId};

use super::super::super::Phase;
use super::super::super::cx::{At, Cx};
use super::super::number;
use super::super::pack::{Panel, Span};
use super::super::tile::{Step, bind, range};
use super::block::{BYTES, Columns, Memory};
use super::{Packed, Plan};
use crate::vector::{Binary, Elem, Load, Val};

/// Columns of a parallel point of the last phase.
const GATHERED: i64 = 64;

impl Plan<'_> {
    /// The blocks of a part: the first of them is the part's number, and there are as many between one and the next as there are parts.
    pub(super) fn part(&self, cx: &mut Cx<'_>, memory: &Memory, part: Val) {
        for packed in &self.across {
            let base = self.sums_of(cx, packed, part);
            let count = self.outer_count() * self.padded_columns() * Dim::from(self.sum_stride(packed));
            let (zero, end, nothing) = (cx.b.int(0), cx.value(&count), cx.b.number(Elem::F32, 0));
            self.fill_range(cx, base, zero, end, nothing);
        }
        let (blocks, parts, one) = (cx.value(&self.blocks()), cx.value(&self.parts), cx.b.int(1));
        let left = cx.b.sub(blocks, part);
        let left = cx.b.add(left, parts);
        let left = cx.b.sub(left, one);
        let count = cx.b.binary(Binary::Div, left, parts);
        let zero = cx.b.int(0);
        let open = cx.b.open_loop(zero, count, 1, vec![part]);
        let (begin, end) = range(cx, open.params[0], self.height, &self.attend.axes[self.attend.rows]);
        self.block(cx, memory, Some(part), begin, end);
        let next = cx.b.add(open.params[0], parts);
        cx.b.close_loop(open, vec![next]);
    }

    /// Packs what the rows `begin..end` have to be summed.
    pub(super) fn pack_across(&self, cx: &mut Cx<'_>, memory: &Memory, begin: Val, end: Val) {
        for (packed, base) in self.across.iter().zip(&memory.sides) {
            let (zero, panels) = (cx.b.int(0), cx.value(&packed.panels));
            let open = cx.b.open_loop(zero, panels, 1, Vec::new());
            let columns = packed.tiling.count(&packed.tiling.columns.axes);
            let (first, last) = range(cx, open.var, self.width, &columns);
            let base = self.offset(cx, *base, open.var, self.height * self.width);
            let place = Panel { base, own_stride: Dim::ONE, k_stride: Dim::from(self.width) };
            packed.tiling.pack(cx, &packed.tiling.columns, &place, first, last, Some(Span { begin, end }));
            cx.b.close_loop(open, Vec::new());
        }
    }

    /// What a block of columns adds: tiles whose rows are columns, and whose steps are rows.
    pub(super) fn add_across(&self, cx: &mut Cx<'_>, memory: &Memory, part: Val, columns: &Columns) {
        for (number, packed) in self.across.iter().enumerate() {
            let stride = self.sum_stride(packed);
            let matrix = memory.matrices[self.weight(&self.attend.across[number])];
            let base = self.sums_of(cx, packed, part);
            let base = self.column_of(cx, packed, base, columns.begin);
            let (zero, panels) = (cx.b.int(0), cx.value(&packed.panels));
            let open = cx.b.open_loop(zero, panels, 1, Vec::new());
            let side = self.offset(cx, memory.sides[number], open.var, self.height * self.width);
            let base = self.offset(cx, base, open.var, self.width);
            let count = cx.b.sub(columns.end, columns.begin);
            let tiles = cx.b.open_loop(zero, count, self.shape.rows, Vec::new());
            let rows = self.offset(cx, matrix, tiles.var, 1);
            let at = self.offset(cx, base, tiles.var, stride);
            let sums = self.load_tile(cx, memory, at, tiles.var, stride);
            let k_stride = self.matrix_stride();
            let step =
                Step { tiling: &packed.tiling, rows, row_stride: 1, k_stride, columns: side, width: self.width, fetch: None };
            let sums = step.all(cx, columns.count, sums);
            self.store_tile(cx, at, stride, &sums);
            cx.b.close_loop(tiles, Vec::new());
            cx.b.close_loop(open, Vec::new());
        }
    }

    /// The phase that adds up parts, and stores the results.
    pub(super) fn gather(&self, mut cx: Cx<'_>) -> Phase {
        let size = |axis: &usize| self.attend.axes[*axis].clone();
        let columns = &self.attend.axes[self.column];
        let mut digits: Vec<Dim> = self.batch.iter().chain(&self.outer).map(size).collect();
        digits.push(columns.ceil_div(&Dim::from(GATHERED)));
        cx.parallel(&digits, &mut |cx, digits| {
            let (block, own) = digits.split_last().expect("a block is the last digit");
            let (batch, outer) = own.split_at(self.batch.len());
            bind(cx, &self.batch, batch);
            bind(cx, &self.outer, outer);
            let (begin, end) = range(cx, *block, GATHERED, columns);
            let open = cx.b.open_loop(begin, end, 1, Vec::new());
            cx.at[self.column] = At::One(open.var);
            for (packed, sum) in self.across.iter().zip(&self.attend.across) {
                let zero = cx.b.int(0);
                let first = self.sums_of(cx, packed, zero);
                let first = self.column_of(cx, packed, first, open.var);
                let (one, parts) = (cx.b.int(1), cx.value(&self.parts));
                let others = cx.b.open_loop(one, parts, 1, Vec::new());
                let other = self.sums_of(cx, packed, others.var);
                let other = self.column_of(cx, packed, other, open.var);
                self.each_free(cx, sum.free, &mut |cx, place| {
                    let (to, pattern) = cx.place(first, place, None, Elem::F32.dtype());
                    let (from, _) = cx.place(other, place, None, Elem::F32.dtype());
                    let [so_far, more] =
                        [to, from].map(|ptr| cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern, mask: None }));
                    let value = cx.b.add(so_far, more);
                    cx.b.store(to, Elem::F32.dtype(), pattern, value);
                });
                cx.b.close_loop(others, Vec::new());
                self.each_free(cx, sum.free, &mut |cx, place| {
                    let (ptr, pattern) = cx.place(first, place, None, Elem::F32.dtype());
                    let value = cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern, mask: None });
                    cx.store(&Store { value: ValueId(0), ..sum.to.clone() }, &[value]);
                });
            }
            cx.at[self.column] = At::Unbound;
            cx.b.close_loop(open, Vec::new());
        });
        let free: Dim = self.attend.across.iter().map(|sum| self.attend.axes[sum.free].clone()).sum();
        let work = self.batch.iter().chain(&self.outer).map(size).product::<Dim>() * columns * free * &self.parts;
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    /// The body over the lanes of a sum's own axis; it is given the place along it.
    fn each_free(&self, cx: &mut Cx<'_>, free: usize, body: &mut dyn FnMut(&mut Cx<'_>, &Dim)) {
        let size = &self.attend.axes[free];
        let (zero, width) = (cx.b.int(0), cx.value(size));
        let place = Dim::axis(u32::try_from(free).expect("few axes"), size);
        cx.swept(free, zero, width, 1, &mut |cx| body(cx, &place));
    }

    fn outer_count(&self) -> Dim {
        self.outer.iter().map(|axis| self.attend.axes[*axis].clone()).product()
    }

    /// Columns, and those that the last tile has beyond them.
    fn padded_columns(&self) -> Dim {
        &self.attend.axes[self.column] + Dim::from(self.shape.rows)
    }

    /// Bytes of the sums of all parts.
    pub(super) fn across_bytes(&self, packed: &Packed<'_>) -> Dim {
        let batch: Dim = self.batch.iter().map(|axis| self.attend.axes[*axis].clone()).product();
        batch * &self.parts * self.part_bytes(packed)
    }

    fn part_bytes(&self, packed: &Packed<'_>) -> Dim {
        self.outer_count() * self.padded_columns() * Dim::from(self.sum_stride(packed) * BYTES)
    }

    /// The address of a part's sums, where the batch stands.
    fn sums_of(&self, cx: &mut Cx<'_>, packed: &Packed<'_>, part: Val) -> Val {
        let shared = cx.shared();
        let (offset, parts) = (cx.value(&packed.offset), cx.value(&self.parts));
        let batch = cx.value(&number(&self.attend.axes, &self.batch));
        let place = cx.b.mul(batch, parts);
        let place = cx.b.add(place, part);
        let bytes = cx.value(&self.part_bytes(packed));
        let inside = cx.b.mul(place, bytes);
        let base = cx.b.add(shared, offset);
        cx.b.add(base, inside)
    }

    /// The address of a column's sums, where the outer axes of columns stand.
    fn column_of(&self, cx: &mut Cx<'_>, packed: &Packed<'_>, sums: Val, column: Val) -> Val {
        let outer = cx.value(&(number(&self.attend.axes, &self.outer) * self.padded_columns()));
        let column = cx.b.add(outer, column);
        self.offset(cx, sums, column, self.sum_stride(packed))
    }

    /// Weights of 0 beyond a row's last column, as far as tiles of columns reach.
    pub(super) fn clear_beyond(&self, cx: &mut Cx<'_>, bases: &[Val], columns: &Columns) {
        let (rows, most) = (cx.b.int(self.shape.rows), cx.b.int(self.shape.rows - 1));
        let count = cx.b.sub(columns.end, columns.begin);
        let count = cx.b.add(count, most);
        let tiles = cx.b.binary(Binary::Div, count, rows);
        let count = cx.b.mul(tiles, rows);
        let end = cx.b.add(columns.begin, count);
        let zero = cx.b.number(Elem::F32, 0);
        for sum in &self.attend.across {
            self.fill_range(cx, bases[self.weight(sum)], columns.end, end, zero);
        }
    }
}
