//! Along `k`: a point is a column, or several, whose products with the few rows go over lanes. Of several axes of `k`, the last of
//! which is whole vectors, sums wait in registers over all of them.

use graver_ir::Dim;

use super::super::super::Phase;
use super::super::super::body::{Given, Nothing};
use super::super::super::cx::{At, Cx};
use super::super::plan::LINE;
use super::super::tile::{bind, epilogue, range};
use super::{Stream, vectors};
use crate::vector::{Combine, Compare, Unary, Val};

/// Vectors of `k` that have sums of their own, where a column is alone.
const ACCUMULATORS: usize = 4;
/// Elements of the large side from one that is read to one that is fetched, or more.
const AHEAD: i64 = 2048;
/// Columns whose products with several rows are summed together.
const TOGETHER: i64 = 4;
/// Vectors of `k` that are written out at most, where they are neighbours along a part of it.
const WRITTEN: i64 = 8;

impl Stream<'_> {
    /// The only phase: a point is a column, or several, which share the elements of several rows.
    pub(super) fn dots(&self, mut cx: Cx<'_>) -> Phase {
        let (last, outer) = self.many.1.split_last().expect("the large side has an axis of its own");
        let bound: Vec<usize> = self.batch.iter().chain(outer).copied().collect();
        let columns = &self.contract.axes[*last];
        let together = if self.rows == 1 { 1 } else { TOGETHER };
        let mut digits: Vec<Dim> = bound.iter().map(|axis| self.contract.axes[*axis].clone()).collect();
        digits.push(columns.ceil_div(&Dim::from(together)));
        cx.parallel(&digits, &mut |cx, digits| {
            let (block, outer) = digits.split_last().expect("a block of columns is the last digit");
            bind(cx, &bound, outer);
            if together == 1 {
                self.dots_of(cx, *last, *block, 1);
                return;
            }
            let (begin, end) = range(cx, *block, together, columns);
            let width = cx.b.int(together);
            let count = cx.b.sub(end, begin);
            let all = cx.b.compare(Compare::Eq, count, width);
            let open = cx.b.open_if(all);
            self.dots_of(cx, *last, begin, together);
            cx.b.close_if(open);
            let some = cx.b.unary(Unary::Not, all);
            let open = cx.b.open_if(some);
            let each = cx.b.open_loop(begin, end, 1, Vec::new());
            self.dots_of(cx, *last, each.var, 1);
            cx.b.close_loop(each, Vec::new());
            cx.b.close_if(open);
        });
        let work = self.work(&self.count(&self.many.1));
        Phase { func: cx.b.finish(), extent: digits.iter().product(), scratch: cx.scratch, work }
    }

    /// The products' sums over all of `k`, of which the last axis is whole vectors: a lane's wait in registers until the end.
    fn dot_of_vectors(&self, cx: &mut Cx<'_>, vectors: i64, count: usize, products: &mut Products<'_>) -> Vec<Val> {
        let (last, outer) = self.k.split_last().expect("the large side goes along an axis of k");
        // What is decoded of the same elements is decoded at once.
        let (together, outer): (Vec<usize>, Vec<usize>) =
            outer.iter().partition(|axis| self.contract.axes[**axis].as_const().is_some_and(|size| size <= TOGETHER));
        let own = if count == 1 { ACCUMULATORS } else { 1 };
        let zero = cx.b.number(self.elem, 0);
        let zero = cx.b.lanes(zero);
        let axes = Vectors { outer: &outer, together: &together, last: *last, vectors };
        let sums = self.vectors_over(cx, &axes, vec![zero; own * count], products);
        let (zero, lanes) = (cx.b.int(0), cx.b.int(i64::try_from(cx.lanes).expect("few lanes")));
        let open = cx.b.open_sweep(zero, lanes, 1);
        let mut total = |number: usize| {
            let parts: Vec<Val> = sums.iter().skip(number).step_by(count).copied().collect();
            parts.into_iter().reduce(|sum, part| cx.b.add(sum, part)).expect("there is a sum")
        };
        let totals: Vec<(Combine, Val, Option<Val>)> = (0..count).map(|number| (Combine::Sum, total(number), None)).collect();
        cx.b.close_sweep(open, totals).into_iter().map(|(sum, _)| sum).collect()
    }

    /// The sums after these axes, which come by turns.
    fn vectors_over(&self, cx: &mut Cx<'_>, axes: &Vectors<'_>, sums: Vec<Val>, products: &mut Products<'_>) -> Vec<Val> {
        let zero = cx.b.int(0);
        if let Some((axis, rest)) = axes.outer.split_first() {
            let size = cx.value(&self.contract.axes[*axis]);
            let open = cx.b.open_loop(zero, size, 1, sums);
            cx.at[*axis] = At::One(open.var);
            let next = self.vectors_over(cx, &Vectors { outer: rest, ..*axes }, open.params.clone(), products);
            cx.at[*axis] = At::Unbound;
            return cx.b.close_loop(open, next);
        }
        let unroll = (1..=WRITTEN).rev().find(|unroll| axes.vectors % unroll == 0).expect("1 divides");
        let lanes = i64::try_from(cx.lanes).expect("few lanes");
        let end = cx.b.int(axes.vectors * lanes);
        let open = (unroll < axes.vectors).then(|| cx.b.open_loop(zero, end, unroll * lanes, sums.clone()));
        let (first, mut sums) = open.as_ref().map_or((zero, sums), |open| (open.var, open.params.clone()));
        let (mut turn, mut fetched) = (0, None);
        for vector in 0..unroll {
            let line = vector * lanes * self.least_bytes(cx) / LINE;
            let offset = cx.b.int(vector * lanes);
            let at = cx.b.add(first, offset);
            self.written(cx, axes.together, &mut |cx| {
                cx.at[axes.last] = At::Lane(at);
                let products = products(cx, fetched.replace(line) != Some(line));
                cx.at[axes.last] = At::Unbound;
                let turns = sums.len() / products.len();
                let own = &mut sums[turn % turns * products.len()..];
                own.iter_mut().zip(products).for_each(|(sum, (x, y))| *sum = cx.b.fma(x, y, *sum));
                turn += 1;
            });
        }
        match open {
            Some(open) => cx.b.close_loop(open, sums),
            None => sums,
        }
    }

    /// Bytes of the smallest elements that the large side is made of.
    fn least_bytes(&self, cx: &Cx<'_>) -> i64 {
        let bytes = self.many.0.body.loads().map(|(_, access)| cx.arg(access.arg).dtype.size()).min();
        i64::try_from(bytes.unwrap_or(1)).expect("few bytes")
    }

    /// The body at every position of axes of known sizes, written out.
    fn written(&self, cx: &mut Cx<'_>, axes: &[usize], body: &mut dyn FnMut(&mut Cx<'_>)) {
        let Some((axis, rest)) = axes.split_first() else { return body(cx) };
        for position in 0..self.contract.axes[*axis].as_const().expect("a known size") {
            cx.at[*axis] = At::One(cx.b.int(position));
            self.written(cx, rest, body);
        }
        cx.at[*axis] = At::Unbound;
    }

    /// The results of so many columns, which are neighbours along an axis.
    fn dots_of(&self, cx: &mut Cx<'_>, axis: usize, first: Val, count: i64) {
        let column = |cx: &mut Cx<'_>, number: i64| {
            let number = cx.b.int(number);
            cx.at[axis] = At::One(cx.b.add(first, number));
        };
        let further = count.max(AHEAD / self.count(&self.k).nominal().max(1));
        let mut products = |cx: &mut Cx<'_>, fetches: bool| {
            let rows = self.row_elements(cx);
            let product = |cx: &mut Cx<'_>, number: i64| {
                column(cx, number);
                let element = if fetches { self.fetched(cx, axis, further) } else { Self::element(cx, self.many.0) };
                rows.iter().map(|row| (*row, element)).collect::<Vec<_>>()
            };
            (0..count).flat_map(|number| product(cx, number)).collect()
        };
        let all = usize::try_from(self.rows * count).expect("few sums");
        let last = *self.k.last().expect("the large side goes along an axis of k");
        let sums = match vectors(cx, self.contract, last).filter(|_| self.k.len() > 1) {
            Some(vectors) => self.dot_of_vectors(cx, vectors, all, &mut products),
            None => {
                let zero = cx.b.number(self.elem, 0);
                self.dot(cx, &self.k, vec![zero; all], if count == 1 { ACCUMULATORS } else { 1 }, &mut products)
            }
        };
        let mut sums = sums.into_iter();
        for number in 0..count {
            column(cx, number);
            for row in 0..self.rows {
                self.bind_row(cx, row);
                epilogue(cx, self.contract, &mut Known(sums.next().expect("a sum a column and row")));
            }
        }
        cx.at[axis] = At::Unbound;
    }

    /// The sums of these products over some axes of `k`, the last over lanes.
    fn dot(&self, cx: &mut Cx<'_>, axes: &[usize], sums: Vec<Val>, unroll: usize, products: &mut Products<'_>) -> Vec<Val> {
        let (axis, rest) = axes.split_first().expect("the large side goes along an axis of k");
        let (zero, size) = (cx.b.int(0), cx.value(&self.contract.axes[*axis]));
        if !rest.is_empty() {
            let open = cx.b.open_loop(zero, size, 1, sums);
            cx.at[*axis] = At::One(open.var);
            let next = self.dot(cx, rest, open.params.clone(), unroll, products);
            cx.at[*axis] = At::Unbound;
            return cx.b.close_loop(open, next);
        }
        let open = cx.b.open_sweep(zero, size, unroll);
        cx.at[*axis] = At::Lane(open.var);
        let products = products(cx, true).into_iter().map(|(x, y)| (Combine::Sum, cx.b.mul(x, y), None)).collect();
        cx.at[*axis] = At::Unbound;
        let products = cx.b.close_sweep(open, products);
        sums.into_iter().zip(products).map(|(sum, (product, _))| cx.b.add(sum, product)).collect()
    }
}

/// The factors of products where `k` stands, and whether what comes later is fetched.
type Products<'p> = dyn FnMut(&mut Cx<'_>, bool) -> Vec<(Val, Val)> + 'p;
/// Axes of `k` by how they are gone over: one by one, written out, and as so many vectors.
struct Vectors<'a> {
    outer: &'a [usize],
    together: &'a [usize],
    last: usize,
    vectors: i64,
}

/// A sum that is known.
struct Known(Val);

impl Given for Known {
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> Val {
        Nothing.reduced(cx, stage, slot)
    }

    fn acc(&mut self, _: &mut Cx<'_>) -> Val {
        self.0
    }
}
