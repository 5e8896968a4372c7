//! Sweeps: an unrolled loop, a loop of one vector, and the tail one lane at a time; and the trees of their reductions.

use cranelift_codegen::ir::{InstBuilder, Value};

use super::{Emitter, LANES, Parts};
use crate::vector::{Binary, Combine, Compare, Elem, Fold, Sweep};

impl Emitter<'_, '_> {
    pub(super) fn sweep(&mut self, sweep: &Sweep) {
        assert_eq!(self.lanes, LANES, "V3: no sweep in a sweep");
        let (mut var, end) = (self.one(sweep.begin), self.one(sweep.end));
        let mut accumulators = self.identities(&sweep.reductions, LANES);
        let (begin_known, end_known) = (self.known(sweep.begin), self.known(sweep.end));
        let points = begin_known.zip(end_known).map(|(begin, end)| usize::try_from(end - begin).unwrap_or(0));
        if sweep.unroll > 1 && points.is_none_or(|points| points >= sweep.unroll * LANES) {
            (var, accumulators) = self.unrolled(sweep, var, end);
        }
        if points.is_none_or(|points| points % (sweep.unroll.max(1) * LANES) >= LANES || (sweep.unroll <= 1 && points >= LANES)) {
            (var, accumulators) = self.stepped(sweep, var, end, 1, &accumulators);
        }
        let mut results = self.across_lanes(&sweep.reductions, &accumulators);
        if points.is_none_or(|points| points % LANES > 0) {
            results = self.tail(sweep, var, end, &results);
        }
        self.bind(&sweep.reductions, &results);
    }

    fn known(&self, value: crate::vector::Val) -> Option<i64> {
        self.consts.get(&value).map(|(_, bits)| bits.cast_signed())
    }

    /// Every reduction's identity; a position beside the value where there is one.
    fn identities(&mut self, folds: &[Fold], lanes: usize) -> Vec<Parts> {
        let mut parts = Vec::new();
        for fold in folds {
            let elem = self.func.ty(fold.value).elem;
            let value = self.constant_in(elem, lanes, fold.combine.identity(elem));
            parts.push(Parts { lanes, count: super::registers(elem, lanes), values: [value; 2] });
            if fold.position.is_some() {
                let zero = self.constant_in(Elem::I64, lanes, 0);
                parts.push(Parts { lanes, count: super::registers(Elem::I64, lanes), values: [zero; 2] });
            }
        }
        parts
    }

    /// `unroll` vectors at once, each with accumulators of its own; gives the sum of those.
    fn unrolled(&mut self, sweep: &Sweep, begin: Value, end: Value) -> (Value, Vec<Parts>) {
        let one = self.identities(&sweep.reductions, LANES);
        let many: Vec<Parts> = (0..sweep.unroll).flat_map(|_| one.iter().copied()).collect();
        let (var, mut state) = self.stepped(sweep, begin, end, sweep.unroll, &many);
        let per = one.len();
        while state.len() > per {
            let half = (state.len() / per).div_ceil(2) * per;
            let upper = state.split_off(half);
            let (low, same) = state.split_at(upper.len());
            let combined = self.combine_all(&sweep.reductions, low, &upper);
            state = combined.into_iter().chain(same.iter().copied()).collect();
        }
        (var, state)
    }

    /// A loop over `count` vectors a step.
    fn stepped(&mut self, sweep: &Sweep, begin: Value, end: Value, count: usize, state: &[Parts]) -> (Value, Vec<Parts>) {
        let step = i64::try_from(count * LANES).expect("few lanes");
        let limit = self.b.ins().iadd_imm_s(end, 1 - step);
        let per = state.len() / count;
        self.repeat(begin, limit, step, state, &mut |emitter, var, state| {
            let mut next = Vec::new();
            for vector in 0..count {
                let offset = i64::try_from(vector * LANES).expect("few lanes");
                let var = if offset == 0 { var } else { emitter.b.ins().iadd_imm_s(var, offset) };
                next.extend(emitter.visit(sweep, var, &state[vector * per..(vector + 1) * per]));
            }
            next
        })
    }

    fn tail(&mut self, sweep: &Sweep, begin: Value, end: Value, state: &[Parts]) -> Vec<Parts> {
        self.lanes = 1;
        let (_, state) = self.repeat(begin, end, 1, state, &mut |emitter, var, state| emitter.visit(sweep, var, state));
        self.lanes = LANES;
        state
    }

    /// The body at `var`, combined into the accumulators.
    fn visit(&mut self, sweep: &Sweep, var: Value, state: &[Parts]) -> Vec<Parts> {
        self.values.insert(sweep.var, Parts::one(var));
        self.block(&sweep.body);
        let mut points = Vec::new();
        for fold in &sweep.reductions {
            points.push(self.get(fold.value));
            if let Some(position) = fold.position {
                points.push(self.get(position));
            }
        }
        self.combine_all(&sweep.reductions, state, &points)
    }

    /// `x` with `y`, reduction by reduction, as many times as there are sets.
    fn combine_all(&mut self, folds: &[Fold], x: &[Parts], y: &[Parts]) -> Vec<Parts> {
        let (mut results, mut place) = (Vec::new(), 0);
        while place < x.len() {
            for fold in folds {
                let elem = self.func.ty(fold.value).elem;
                if fold.position.is_some() {
                    results.extend(self.combine_arg(fold.combine, elem, [x[place], x[place + 1]], [y[place], y[place + 1]]));
                    place += 2;
                } else {
                    results.push(self.combine(fold.combine, elem, x[place], y[place]));
                    place += 1;
                }
            }
        }
        results
    }

    fn combine(&mut self, combine: Combine, elem: Elem, x: Parts, y: Parts) -> Parts {
        let op = match (combine, elem) {
            (Combine::Sum, Elem::Bool) => Binary::Or,
            (Combine::Prod, Elem::Bool) => Binary::And,
            (Combine::Sum, _) => Binary::Add,
            (Combine::Prod, _) => Binary::Mul,
            (Combine::Max | Combine::ArgMax, _) => Binary::Max,
            (Combine::MaxFast, _) => Binary::MaxFast,
            (Combine::Min | Combine::ArgMin, _) => Binary::Min,
        };
        self.binary(op, elem, x, y)
    }

    /// The better of two values and its position: NaN first, then the extreme, then the lower position.
    fn combine_arg(&mut self, combine: Combine, elem: Elem, x: [Parts; 2], y: [Parts; 2]) -> [Parts; 2] {
        let compare = if combine == Combine::ArgMax { Compare::Gt } else { Compare::Lt };
        let better = self.compare(compare, elem, y[0], x[0]);
        let equal = self.compare(Compare::Eq, elem, y[0], x[0]);
        let (better, equal) = if elem.is_float() {
            let (x_nan, y_nan) = (self.compare(Compare::Ne, elem, x[0], x[0]), self.compare(Compare::Ne, elem, y[0], y[0]));
            let both = self.binary(Binary::And, Elem::Bool, x_nan, y_nan);
            let x_number = self.compare(Compare::Eq, elem, x[0], x[0]);
            let only = self.binary(Binary::And, Elem::Bool, y_nan, x_number);
            (self.binary(Binary::Or, Elem::Bool, better, only), self.binary(Binary::Or, Elem::Bool, equal, both))
        } else {
            (better, equal)
        };
        let earlier = self.compare(Compare::Lt, Elem::I64, y[1], x[1]);
        let tie = self.binary(Binary::And, Elem::Bool, equal, earlier);
        let take = self.binary(Binary::Or, Elem::Bool, better, tie);
        [self.select(take, y[0], x[0]), self.select(take, y[1], x[1])]
    }

    /// The lanes of every accumulator combined, halves first.
    fn across_lanes(&mut self, folds: &[Fold], state: &[Parts]) -> Vec<Parts> {
        let mut lanes: Vec<Vec<Parts>> = Vec::new();
        for lane in 0..LANES {
            let mut place = 0;
            let mut set = Vec::new();
            for fold in folds {
                let elem = self.func.ty(fold.value).elem;
                set.push(Parts::one(self.extract(state[place], elem, lane)));
                place += 1;
                if fold.position.is_some() {
                    set.push(Parts::one(self.extract(state[place], Elem::I64, lane)));
                    place += 1;
                }
            }
            lanes.push(set);
        }
        while lanes.len() > 1 {
            let upper = lanes.split_off(lanes.len() / 2);
            lanes = lanes.iter().zip(&upper).map(|(x, y)| self.combine_all(folds, x, y)).collect();
        }
        lanes.pop().expect("a vector has lanes")
    }

    fn bind(&mut self, folds: &[Fold], results: &[Parts]) {
        let mut results = results.iter();
        let mut next = || *results.next().expect("a result a fold");
        for fold in folds {
            self.values.insert(fold.result, next());
            if let Some(position) = fold.result_position {
                self.values.insert(position, next());
            }
        }
    }
}
