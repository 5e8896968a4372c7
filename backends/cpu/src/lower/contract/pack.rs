//! Packing: a side's elements, evaluated once and laid out as the tiles read them.

use graver_ir::{DType, Dim};

use super::super::body::Nothing;
use super::super::cx::{At, Cx};
use super::sides::Across;
use super::{Operand, Tiling};
use crate::vector::{Binary, Elem, Op, Shift, TABLE_LANES, Transpose, Val};

/// How many steps of `k`, or rows or columns, further on elements are fetched while those here are packed.
const STEPS_AHEAD: i64 = 8;
const OWN_AHEAD: i64 = 4;

/// Where packed elements go: element `(own, k)` of a panel that starts at `own = first` lies at
/// `base + (own - first) * own_stride + k * k_stride` elements; of words, `k` counts them, and so do strides.
#[derive(Clone)]
pub(super) struct Panel {
    pub(super) base: Val,
    pub(super) own_stride: Dim,
    pub(super) k_stride: Dim,
}

/// A range of `k`.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) begin: Val,
    pub(super) end: Val,
}

impl Tiling<'_> {
    /// Packs the rows or columns `begin..end` of an operand, for every `k`, or for those of a span, whose first lies where the
    /// panel begins.
    pub(super) fn pack(&self, cx: &mut Cx<'_>, operand: &Operand<'_>, panel: &Panel, begin: Val, end: Val, span: Option<Span>) {
        let mut panel = panel.clone();
        if let Some(span) = span {
            let bytes = cx.value(&(&panel.k_stride * Dim::from(operand.bytes())));
            let before = cx.b.mul(span.begin, bytes);
            panel.base = cx.b.sub(panel.base, before);
        }
        if self.words.is_some() && cx.lanes == TABLE_LANES && operand.along_own != panel.own_stride.is(1) {
            self.pack_turned(cx, operand, &panel, (begin, end), span);
            return;
        }
        if self.words.is_some() {
            let last = span.map_or_else(|| cx.value(&self.count(&self.k)), |span| span.end);
            self.clear(cx, &panel, (begin, end), last);
        }
        if operand.along_own {
            self.pack_along_own(cx, operand, &panel, begin, end, span);
            return;
        }
        let k = *self.k.last().expect("tiles sum over some axis");
        let across = operand.across(cx, k).filter(|_| span.is_none() && panel.own_stride.is(1));
        match across {
            Some(across) => self.pack_transposed(cx, operand, &panel, (begin, end), &across),
            None => self.pack_along_k(cx, operand, &panel, (begin, end), span),
        }
    }

    /// Squares of as many rows or columns as there are lanes, read along the innermost `k` and stored along the other axis.
    fn pack_transposed(&self, cx: &mut Cx<'_>, operand: &Operand<'_>, panel: &Panel, (begin, end): (Val, Val), across: &Across) {
        let (lane, serial) = self.k.split_last().expect("tiles sum over some axis");
        let own = *operand.axes.last().expect("an operand has axes");
        let lanes = i64::try_from(TABLE_LANES).expect("few lanes");
        let dtype = operand.packed.1;
        let bytes = Dim::from(operand.bytes());
        let (from_stride, to_stride) = (cx.value(&(&across.stride * &bytes)), cx.value(&(&panel.k_stride * &bytes)));
        let (zero, size, most) = (cx.b.int(0), cx.value(&self.size(*lane)), cx.b.int(lanes));
        let k_offset = self.number(&self.k) * &panel.k_stride;
        let left = |cx: &mut Cx<'_>, at: Val, end: Val| {
            let left = cx.b.sub(end, at);
            cx.b.binary(Binary::Min, left, most)
        };
        let open = cx.b.open_loop(begin, end, lanes, Vec::new());
        cx.at[own] = At::One(open.var);
        let rows = left(cx, open.var, end);
        let own_bytes = cx.b.int(operand.bytes());
        let place = cx.b.sub(open.var, begin);
        let place = cx.b.mul(place, own_bytes);
        let base = cx.b.add(panel.base, place);
        cx.nested(&self.contract.axes, serial, None, 1, &mut |cx| {
            let square = cx.b.open_loop(zero, size, lanes, Vec::new());
            cx.at[*lane] = At::One(square.var);
            let columns = left(cx, square.var, size);
            let source = cx.b.op(Op::Arg(across.arg));
            let (from, _) = cx.place(source, &across.offset, None, dtype);
            let (to, _) = cx.place(base, &k_offset, None, dtype);
            cx.b.transpose(Transpose { from, from_stride, to, to_stride, rows, columns });
            cx.at[*lane] = At::Unbound;
            cx.b.close_loop(square, Vec::new());
        });
        cx.at[own] = At::Unbound;
        cx.b.close_loop(open, Vec::new());
    }

    /// Own axes over lanes, run by run; `k` outside.
    fn pack_along_own(&self, cx: &mut Cx<'_>, operand: &Operand<'_>, panel: &Panel, begin: Val, end: Val, span: Option<Span>) {
        self.runs(cx, &operand.axes, begin, end, &mut |cx, run| {
            let lane = run.axis;
            let k_offset = self.number(&self.k) * &panel.k_stride;
            let own_offset = Dim::axis(u32::try_from(lane).expect("few axes"), &self.size(lane)) * &panel.own_stride;
            let bytes = cx.value(&(&panel.own_stride * Dim::from(self.depth() * operand.bytes())));
            let shift = cx.b.sub(run.first, begin);
            let shift = cx.b.mul(shift, bytes);
            let base = cx.b.add(panel.base, shift);
            self.each_k(cx, span, &mut |cx| {
                cx.ahead = self.k.last().map(|k| (*k, STEPS_AHEAD));
                cx.swept(lane, run.begin, run.end, 1, &mut |cx| match self.words {
                    None => self.element(cx, operand, base, &(&k_offset + &own_offset)),
                    Some(_) => self.element_of_word(cx, operand, base, panel, &own_offset),
                });
                cx.ahead = None;
            });
        });
    }

    /// One row or column after the other; the innermost `k` over lanes.
    fn pack_along_k(&self, cx: &mut Cx<'_>, operand: &Operand<'_>, panel: &Panel, (begin, end): (Val, Val), span: Option<Span>) {
        let sizes: Vec<Val> = operand.axes.iter().map(|axis| cx.value(&self.size(*axis))).collect();
        let first = cx.digits(begin, &sizes);
        let open = cx.b.open_loop(begin, end, 1, first);
        for (axis, digit) in operand.axes.iter().zip(&open.params) {
            cx.at[*axis] = At::One(*digit);
        }
        let bytes = cx.value(&(&panel.own_stride * Dim::from(self.depth() * operand.bytes())));
        let place = cx.b.sub(open.var, begin);
        let place = cx.b.mul(place, bytes);
        let base = cx.b.add(panel.base, place);
        let k_offset = self.place_of_k(&panel.k_stride);
        cx.ahead = operand.axes.last().map(|own| (*own, OWN_AHEAD));
        match span {
            None => {
                let (lane, serial) = self.k.split_last().expect("tiles sum over some axis");
                cx.nested(&self.contract.axes, serial, Some(*lane), 2, &mut |cx| self.element(cx, operand, base, &k_offset));
            }
            Some(span) => self.runs(cx, &self.k, span.begin, span.end, &mut |cx, run| {
                cx.swept(run.axis, run.begin, run.end, 2, &mut |cx| self.element(cx, operand, base, &k_offset));
            }),
        }
        cx.ahead = None;
        let next = cx.next_digits(&open.params.clone(), &sizes);
        for axis in &operand.axes {
            cx.at[*axis] = At::Unbound;
        }
        cx.b.close_loop(open, next);
    }

    /// The body at every `k`, or at those of a span.
    fn each_k(&self, cx: &mut Cx<'_>, span: Option<Span>, body: &mut dyn FnMut(&mut Cx<'_>)) {
        let Some(span) = span else {
            cx.nested(&self.contract.axes, &self.k, None, 1, body);
            return;
        };
        self.runs(cx, &self.k, span.begin, span.end, &mut |cx, run| {
            let open = cx.b.open_loop(run.begin, run.end, 1, Vec::new());
            cx.at[run.axis] = At::One(open.var);
            body(cx);
            cx.at[run.axis] = At::Unbound;
            cx.b.close_loop(open, Vec::new());
        });
    }

    /// Evaluates an element where the axes stand, and stores it.
    fn element(&self, cx: &mut Cx<'_>, operand: &Operand<'_>, base: Val, offset: &Dim) {
        let values = cx.body(&operand.side.body, &mut Nothing);
        let (value, dtype) = operand.packed;
        let value = values[value.index()];
        let (ptr, pattern) = cx.place(base, offset, None, dtype);
        if dtype == DType::BF16 {
            // It is one already.
            let half = upper_half(cx, value);
            cx.b.store(ptr, DType::U16, pattern, half);
        } else {
            cx.b.store(ptr, dtype, pattern, value);
        }
    }

    /// Calls the body for every run of numbers in `begin..end` over which only the last of the axes changes. The other axes
    /// are bound; `run.begin..run.end` are the positions of the last, and `run.first` is the number of its position 0.
    pub(super) fn runs(&self, cx: &mut Cx<'_>, axes: &[usize], begin: Val, end: Val, body: &mut dyn FnMut(&mut Cx<'_>, Run)) {
        let (axis, outer) = axes.split_last().expect("an operand has axes");
        if outer.is_empty() {
            let first = cx.b.int(0);
            body(cx, Run { axis: *axis, first, begin, end });
            return;
        }
        let length = cx.value(&self.size(*axis));
        let (zero, one) = (cx.b.int(0), cx.b.int(1));
        let first_run = cx.b.binary(Binary::Div, begin, length);
        let last = cx.b.sub(end, one);
        let last_run = cx.b.binary(Binary::Div, last, length);
        let end_run = cx.b.add(last_run, one);
        let sizes: Vec<Val> = outer.iter().map(|axis| cx.value(&self.size(*axis))).collect();
        let digits = cx.digits(first_run, &sizes);
        let open = cx.b.open_loop(first_run, end_run, 1, digits);
        for (axis, digit) in outer.iter().zip(&open.params) {
            cx.at[*axis] = At::One(*digit);
        }
        let first = cx.b.mul(open.var, length);
        let (run_begin, run_end) = (cx.b.sub(begin, first), cx.b.sub(end, first));
        let run_begin = cx.b.binary(Binary::Max, run_begin, zero);
        let run_end = cx.b.binary(Binary::Min, run_end, length);
        body(cx, Run { axis: *axis, first, begin: run_begin, end: run_end });
        let next = cx.next_digits(&open.params.clone(), &sizes);
        for axis in outer {
            cx.at[*axis] = At::Unbound;
        }
        cx.b.close_loop(open, next);
    }
}

/// The bits of a `bf16`, from those of the `f32` that it is.
pub(super) fn upper_half(cx: &mut Cx<'_>, value: Val) -> Val {
    let bits = cx.b.bitcast(value, Elem::U32);
    cx.b.shift(Shift::Logical, bits, 16)
}

/// Neighbours along one axis.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) axis: usize,
    pub(super) first: Val,
    pub(super) begin: Val,
    pub(super) end: Val,
}
