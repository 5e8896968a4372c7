//! Loops over axes: nested, flattened into one range of parallel points, and over lanes.

use graver_ir::Dim;

use super::cx::{At, Cx};
use crate::vector::{ALONE_LANES, Binary, Compare, Elem, Op, Val};

/// Points of the axis over lanes that one parallel point covers, where that axis is split.
pub(super) const BLOCK: i64 = 4096;
/// The same where no other axis is parallel.
pub(super) const GRAIN: i64 = 1024;
/// The same where another axis is contiguous for some access: a cache holds a line for each point until its other elements,
/// which are those of the next parallel points, were visited too.
pub(super) const NARROW: i64 = 32;

impl Cx<'_> {
    /// The body at every position of the axes, the first outermost; `lane`, if any, innermost and over lanes.
    pub(super) fn nested(
        &mut self,
        sizes: &[Dim],
        axes: &[usize],
        lane: Option<usize>,
        unroll: usize,
        body: &mut dyn FnMut(&mut Self),
    ) {
        let zero = self.b.int(0);
        if let Some((axis, rest)) = axes.split_first() {
            let end = self.value(&sizes[*axis]);
            let open = self.b.open_loop(zero, end, 1, Vec::new());
            self.at[*axis] = At::One(open.var);
            self.nested(sizes, rest, lane, unroll, body);
            self.at[*axis] = At::Unbound;
            self.b.close_loop(open, Vec::new());
        } else if let Some(axis) = lane {
            let end = self.value(&sizes[axis]);
            self.swept(axis, zero, end, unroll, body);
        } else {
            body(self);
        }
    }

    /// The body over the lanes of an axis, from `begin` to `end`.
    pub(super) fn swept(&mut self, axis: usize, begin: Val, end: Val, unroll: usize, body: &mut dyn FnMut(&mut Self)) {
        let open = self.b.open_sweep(begin, end, unroll);
        self.at[axis] = At::Lane(open.var);
        let known = self.b.as_int(begin).zip(self.b.as_int(end));
        let points = known.and_then(|(begin, end)| usize::try_from(end - begin).ok());
        let is_one = |points| points == self.lanes || points < self.lanes && self.lanes > ALONE_LANES;
        self.first = points.is_some_and(is_one).then_some(begin);
        body(self);
        self.first = None;
        self.at[axis] = At::Unbound;
        self.b.close_sweep(open, Vec::new());
    }

    /// The body at every parallel point of this call's range; `digits` are the sizes that a point is made of, row-major.
    pub(super) fn parallel(&mut self, digits: &[Dim], body: &mut dyn FnMut(&mut Self, &[Val])) {
        self.parallel_by(1, digits, &mut |cx, points| body(cx, &points[0]));
    }

    /// The same, at so many neighbouring points at once, and at those that are left one by one.
    pub(super) fn parallel_by(&mut self, count: usize, digits: &[Dim], body: &mut dyn FnMut(&mut Self, &[Vec<Val>])) {
        let (begin, end) = (self.b.op(Op::Begin), self.b.op(Op::End));
        let sizes: Vec<Val> = digits.iter().map(|digit| self.value(digit)).collect();
        if count == 1 {
            return self.points(begin, end, 1, &sizes, body);
        }
        let step = self.b.int(i64::try_from(count).expect("few points"));
        let number = self.b.sub(end, begin);
        let groups = self.b.binary(Binary::Div, number, step);
        let grouped = self.b.mul(groups, step);
        let rest = self.b.add(begin, grouped);
        self.points(begin, rest, count, &sizes, body);
        self.points(rest, end, 1, &sizes, body);
    }

    /// The body at these points, so many neighbours at once.
    fn points(&mut self, begin: Val, end: Val, count: usize, sizes: &[Val], body: &mut dyn FnMut(&mut Self, &[Vec<Val>])) {
        let step = i64::try_from(count).expect("few points");
        if let [_] = sizes {
            let open = self.b.open_loop(begin, end, step, Vec::new());
            let mut points = Vec::new();
            for number in 0..step {
                let number = self.b.int(number);
                points.push(vec![self.b.add(open.var, number)]);
            }
            body(self, &points);
            self.b.close_loop(open, Vec::new());
            return;
        }
        let first = self.digits(begin, sizes);
        let open = self.b.open_loop(begin, end, step, first);
        let mut points = vec![open.params.clone()];
        for number in 1..count {
            points.push(self.next_digits(&points[number - 1], sizes));
        }
        body(self, &points);
        let next = self.next_digits(&points[count - 1], sizes);
        self.b.close_loop(open, next);
    }

    /// The digits of a number; the first takes what is left.
    pub(super) fn digits(&mut self, number: Val, sizes: &[Val]) -> Vec<Val> {
        let (mut digits, mut rest) = (Vec::new(), number);
        for size in sizes.iter().skip(1).rev() {
            let quotient = self.b.binary(Binary::Div, rest, *size);
            let product = self.b.mul(quotient, *size);
            digits.push(self.b.sub(rest, product));
            rest = quotient;
        }
        if !sizes.is_empty() {
            digits.push(rest);
        }
        digits.reverse();
        digits
    }

    /// The digits of the next number, without a division.
    pub(super) fn next_digits(&mut self, digits: &[Val], sizes: &[Val]) -> Vec<Val> {
        let (mut next, mut carry) = (Vec::new(), self.b.int(1));
        let zero = self.b.int(0);
        for (place, (digit, size)) in digits.iter().zip(sizes).enumerate().rev() {
            let sum = self.b.add(*digit, carry);
            if place == 0 {
                next.push(sum);
                break;
            }
            let wraps = self.b.compare(Compare::Ge, sum, *size);
            next.push(self.b.select(wraps, zero, sum));
            carry = self.b.cast(wraps, Elem::I64);
        }
        next.reverse();
        next
    }
}

/// The axes at these positions.
pub(super) fn bind(cx: &mut Cx<'_>, axes: &[usize], digits: &[Val]) {
    for (axis, digit) in axes.iter().zip(digits) {
        cx.at[*axis] = At::One(*digit);
    }
}
