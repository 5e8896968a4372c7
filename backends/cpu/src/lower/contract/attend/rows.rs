//! What happens row by row: weights of the columns that count, and results.

use graver_ir::kernel::{InstKind, Store, ValueId};
use graver_ir::{Dim, ScalarFn};

use super::super::super::body::{Given, Nothing};
use super::super::super::cx::{At, Cx};
use super::super::super::reduce::ACCUMULATORS;
use super::Plan;
use super::block::{BYTES, Columns, Memory};
use super::keep::Keep;
use crate::expand;
use crate::vector::{Binary, Combine, Compare, Elem, Load, Pattern, Val, Width};

/// A row of a block of columns.
struct Row {
    /// Its number in the block.
    number: Val,
    /// Where column 0 would be, in every matrix.
    bases: Vec<Val>,
    /// The columns of the block.
    begin: Val,
    end: Val,
    /// Those that count.
    first: Val,
    last: Val,
}

/// The products of a row, where the columns stand.
struct Products<'a> {
    plan: &'a Plan<'a>,
    row: &'a Row,
}

impl Given for Products<'_> {
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, _: usize) -> Val {
        self.plan.load(cx, self.row, stage)
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        Nothing.acc(cx)
    }
}

impl Plan<'_> {
    /// Nothing is summed yet.
    pub(super) fn begin_rows(&self, cx: &mut Cx<'_>, memory: &Memory) {
        let nothing = cx.b.number(Elem::F32, 0);
        for (packed, base) in self.sums.iter().zip(&memory.sums) {
            self.fill(cx, *base, self.height * self.sum_stride(packed), nothing);
        }
        if self.attend.softmax.is_some() {
            let least = cx.b.f32(f32::NEG_INFINITY);
            self.fill(cx, memory.most, self.height, least);
            self.fill(cx, memory.all, self.height, nothing);
        }
    }

    /// A number in so many elements.
    fn fill(&self, cx: &mut Cx<'_>, base: Val, elements: i64, value: Val) {
        let (zero, end) = (cx.b.int(0), cx.b.int(elements));
        self.fill_range(cx, base, zero, end, value);
    }

    pub(super) fn fill_range(&self, cx: &mut Cx<'_>, base: Val, begin: Val, end: Val, value: Val) {
        let open = cx.b.open_sweep(begin, end, 1);
        let ptr = self.offset(cx, base, open.var, 1);
        cx.b.store(ptr, Elem::F32.dtype(), Pattern::Contiguous, value);
        cx.b.close_sweep(open, Vec::new());
    }

    /// Products become weights, in every row.
    ///
    /// A softmax goes over the rows once for their greatest scores and once for shares, and between them makes all rows' factors at once: what follows
    /// from one row's scores step by step is done for one row while others' are.
    pub(super) fn weights(&self, cx: &mut Cx<'_>, memory: &Memory, columns: &Columns) {
        if self.attend.softmax.is_some() {
            self.each_row(cx, memory, columns, &mut |cx, row| self.greatest(cx, memory, row));
            self.factors(cx, memory, columns);
        }
        self.each_row(cx, memory, columns, &mut |cx, row| {
            if self.attend.softmax.is_some() {
                self.shares(cx, memory, row);
            } else {
                self.plain(cx, row);
            }
            if !self.keep.is_empty() {
                self.clear(cx, row);
            }
            if !self.across.is_empty() {
                self.clear_beyond(cx, &row.bases, columns);
            }
        });
    }

    fn each_row(&self, cx: &mut Cx<'_>, memory: &Memory, columns: &Columns, body: &mut dyn FnMut(&mut Cx<'_>, &Row)) {
        let zero = cx.b.int(0);
        let open = cx.b.open_loop(zero, columns.count, 1, Vec::new());
        cx.at[self.attend.rows] = At::One(cx.b.add(columns.first, open.var));
        let (begin, end) = (columns.begin, columns.end);
        let (first, last) = Keep::of_row(&self.keep, cx, (begin, end));
        let bytes = cx.b.int(BYTES);
        let before = cx.b.mul(begin, bytes);
        let base = |cx: &mut Cx<'_>, matrix: &Val| {
            let row = self.offset(cx, *matrix, open.var, self.matrix_stride());
            cx.b.sub(row, before)
        };
        let bases = memory.matrices.iter().map(|matrix| base(cx, matrix)).collect();
        body(cx, &Row { number: open.var, bases, begin, end, first, last });
        cx.at[self.attend.rows] = At::Unbound;
        cx.b.close_loop(open, Vec::new());
    }

    /// A weight of 0 where a column does not count.
    fn clear(&self, cx: &mut Cx<'_>, row: &Row) {
        let zero = cx.b.number(Elem::F32, 0);
        for base in &row.bases[..self.weights.len()] {
            self.fill_range(cx, *base, row.begin, row.first, zero);
            self.fill_range(cx, *base, row.last, row.end, zero);
        }
    }

    fn plain(&self, cx: &mut Cx<'_>, row: &Row) {
        self.swept(cx, row, None, &mut |cx| {
            let values = cx.body(&self.attend.weights, &mut Products { plan: self, row });
            for (number, weight) in self.weights.iter().enumerate() {
                self.store(cx, row, number, values[weight.index()]);
            }
            values[0]
        });
    }

    /// The greatest score of this block; NaN may be passed over, since its share is NaN whatever is taken off.
    fn greatest(&self, cx: &mut Cx<'_>, memory: &Memory, row: &Row) {
        let score = self.attend.softmax.as_ref().expect("shares are a softmax's").score;
        // It lies there already.
        let is_product = matches!(self.attend.weights.insts[score.index()].kind, InstKind::Reduced { stage: 0, .. });
        let most = self.swept(cx, row, Some(Combine::MaxFast), &mut |cx| {
            let value = cx.body(&self.attend.weights, &mut Products { plan: self, row })[score.index()];
            if !is_product {
                self.store(cx, row, 0, value);
            }
            value
        });
        self.store_row(cx, memory.shift, row.number, most.expect("a maximum was asked for"));
    }

    /// From the greatest scores so far and of this block: what is taken off scores, and what that makes of the sums so far, every row in a lane.
    fn factors(&self, cx: &mut Cx<'_>, memory: &Memory, columns: &Columns) {
        let zero = cx.b.int(0);
        let open = cx.b.open_sweep(zero, columns.count, 1);
        let [most, all, factor, shift] =
            [memory.most, memory.all, memory.factor, memory.shift].map(|base| self.offset(cx, base, open.var, 1));
        let load = |cx: &mut Cx<'_>, ptr: Val| {
            cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern: Pattern::Contiguous, mask: None })
        };
        let store = |cx: &mut Cx<'_>, ptr: Val, value: Val| cx.b.store(ptr, Elem::F32.dtype(), Pattern::Contiguous, value);
        let (before, here, sum) = (load(cx, most), load(cx, shift), load(cx, all));
        let greatest = cx.b.binary(Binary::MaxFast, before, here);
        let off = self.shift(cx, greatest);
        let change = cx.b.sub(before, off);
        let change = expand::map(&mut cx.b, ScalarFn::Exp, &[change]);
        let sum = cx.b.mul(sum, change);
        for (ptr, value) in [(most, greatest), (all, sum), (factor, change), (shift, off)] {
            store(cx, ptr, value);
        }
        cx.b.close_sweep(open, Vec::new());
    }

    /// Scores become `exp(score - shift)`, and are added up.
    fn shares(&self, cx: &mut Cx<'_>, memory: &Memory, row: &Row) {
        let shift = self.load_row(cx, memory.shift, row.number);
        let sum = self.swept(cx, row, Some(Combine::Sum), &mut |cx| {
            let score = self.load(cx, row, 0);
            let below = cx.b.sub(score, shift);
            let share = expand::map(&mut cx.b, ScalarFn::Exp, &[below]);
            self.store(cx, row, 0, share);
            share
        });
        let all = self.load_row(cx, memory.all, row.number);
        let all = cx.b.add(all, sum.expect("a sum was asked for"));
        self.store_row(cx, memory.all, row.number, all);
    }

    /// What is taken off scores: the greatest, but 0 as long as all are minus infinity, whose shares are then 0 and not NaN.
    fn shift(&self, cx: &mut Cx<'_>, most: Val) -> Val {
        let (least, zero) = (cx.b.f32(f32::NEG_INFINITY), cx.b.number(Elem::F32, 0));
        let none = cx.b.compare(Compare::Eq, most, least);
        cx.b.select(none, zero, most)
    }

    /// The body over the columns that count; what it gives is combined, if that is asked for.
    fn swept(
        &self,
        cx: &mut Cx<'_>,
        row: &Row,
        combine: Option<Combine>,
        body: &mut dyn FnMut(&mut Cx<'_>) -> Val,
    ) -> Option<Val> {
        let unroll = if combine.is_some() { ACCUMULATORS } else { 1 };
        let open = cx.b.open_sweep(row.first, row.last, unroll);
        cx.at[self.column] = At::Lane(open.var);
        let value = body(cx);
        cx.at[self.column] = At::Unbound;
        let folds = combine.into_iter().map(|combine| (combine, value, None)).collect();
        cx.b.close_sweep(open, folds).first().map(|(result, _)| *result)
    }

    /// Where the columns of a row stand, in a matrix.
    fn place(&self, cx: &mut Cx<'_>, row: &Row, matrix: usize) -> (Val, Pattern) {
        let column = u32::try_from(self.column).expect("few axes");
        let axis = Dim::axis(column, &self.attend.axes[self.column]);
        cx.place(row.bases[matrix], &axis, None, Elem::F32.dtype())
    }

    fn load(&self, cx: &mut Cx<'_>, row: &Row, matrix: usize) -> Val {
        let (ptr, pattern) = self.place(cx, row, matrix);
        let loaded = cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern, mask: None });
        cx.b.with_width(loaded, Width::Lanes)
    }

    fn store(&self, cx: &mut Cx<'_>, row: &Row, matrix: usize, value: Val) {
        let (ptr, pattern) = self.place(cx, row, matrix);
        cx.b.store(ptr, Elem::F32.dtype(), pattern, value);
    }

    /// Whether there is no column, counting or not.
    fn is_empty(&self, cx: &mut Cx<'_>) -> Val {
        let columns = self.attend.columns.iter().map(|axis| self.attend.axes[axis].clone()).product::<Dim>();
        let (columns, zero) = (cx.value(&columns), cx.b.int(0));
        cx.b.compare(Compare::Eq, columns, zero)
    }

    /// The results of the rows `begin..end`.
    pub(super) fn end_rows(&self, cx: &mut Cx<'_>, memory: &Memory, begin: Val, end: Val) {
        let open = cx.b.open_loop(begin, end, 1, Vec::new());
        cx.at[self.attend.rows] = At::One(open.var);
        let row = cx.b.sub(open.var, begin);
        let empty = self.is_empty(cx);
        for (number, (packed, sum)) in self.sums.iter().zip(&self.attend.sums).enumerate() {
            let base = self.offset(cx, memory.sums[number], row, self.sum_stride(packed));
            let all = self.attend.softmax.is_some().then(|| self.load_row(cx, memory.all, row));
            let (zero, width) = (cx.b.int(0), cx.value(&self.attend.axes[sum.free]));
            cx.swept(sum.free, zero, width, 1, &mut |cx| {
                let free = u32::try_from(sum.free).expect("few axes");
                let axis = Dim::axis(free, &self.attend.axes[sum.free]);
                let (ptr, pattern) = cx.place(base, &axis, None, Elem::F32.dtype());
                let value = cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern, mask: None });
                let share = all.map_or(value, |all| cx.b.binary(Binary::Div, value, all));
                let value = cx.b.select(empty, value, share);
                cx.store(&Store { value: ValueId(0), ..sum.to.clone() }, &[value]);
            });
        }
        if let Some(to) = self.attend.softmax.as_ref().and_then(|softmax| softmax.log_sum.as_ref()) {
            let (most, all) = (self.load_row(cx, memory.most, row), self.load_row(cx, memory.all, row));
            let log = expand::map(&mut cx.b, ScalarFn::Log, &[all]);
            let value = cx.b.add(most, log);
            // As primitives have it: where no score is more than minus infinity, shares are 0 / 0. The sum of nothing is 0.
            let (least, nan) = (cx.b.f32(f32::NEG_INFINITY), cx.b.f32(f32::NAN));
            let none = cx.b.compare(Compare::Eq, most, least);
            let unseen = cx.b.select(empty, value, nan);
            let value = cx.b.select(none, unseen, value);
            cx.store(&Store { value: ValueId(0), ..to.clone() }, &[value]);
        }
        cx.at[self.attend.rows] = At::Unbound;
        cx.b.close_loop(open, Vec::new());
    }
}
