//! Sweeps: an unrolled loop, a loop of one vector, and the tail under a mask; and the trees of their reductions.

use std::collections::BTreeMap;

use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::floats::Operand;
use super::operand::{Cond, Src, View};
use super::table::{is_double, sized};
use super::{Active, Emitter, End, Parts, Wide};
use crate::vector::{Binary, Block, Combine, Compare, Elem, Fold, Op, Stmt, Sweep, Val, Width};

/// Constants that a sweep keeps in registers.
const fn held_constants(wide: Wide) -> usize {
    match wide {
        Wide::V3 => 5,
        Wide::V4 => 14,
    }
}

/// Halves of tables that a sweep keeps in registers.
const MOST_TABLES: usize = 14;

/// How often constants are used, by bits and whether they have eight bytes.
type Counts = BTreeMap<(u64, bool), (usize, Elem)>;

impl Emitter<'_> {
    pub(super) fn sweep(&mut self, sweep: &Sweep) {
        assert!(self.active.is_none(), "V3: a sweep holds no sweep");
        let mut var = self.one(sweep.begin);
        self.flush();
        let outside = self.region.replace(sweep.var);
        let (held, tables) = (self.held.clone(), self.tables.clone());
        self.hold_tables(&sweep.body);
        self.hold_constants(&sweep.body);
        let lanes = self.lanes();
        let (begin, end) = (self.facts.int(sweep.begin), self.facts.int(sweep.end));
        let points = begin.zip(end).map(|(begin, end)| usize::try_from(end - begin).unwrap_or(0));
        let mut state = self.identities(&sweep.reductions);
        let mut left = points;
        if sweep.unroll > 1 && left.is_none_or(|left| left >= sweep.unroll * lanes) {
            (var, state) = self.unrolled(sweep, var, left, &state);
            left = left.map(|left| left % (sweep.unroll * lanes));
        }
        if left.is_none_or(|left| left >= lanes) {
            (var, state) = self.stepped(sweep, var, left, 1, &state);
            left = left.map(|left| left % lanes);
        }
        if left.is_none_or(|left| left > 0) {
            state = self.tail(sweep, var, left, &state);
        }
        (self.held, self.tables) = (held, tables);
        self.region = outside;
        let results = self.across_lanes(&sweep.reductions, state);
        self.give(&sweep.reductions, &results);
    }

    /// Tables of the body stay in registers, as many as leave some for what is computed.
    fn hold_tables(&mut self, block: &Block) {
        for stmt in block {
            match stmt {
                Stmt::Let(value, Op::LookUp(_, table)) if self.facts.is_used(*value) => {
                    if self.tables.len() < MOST_TABLES {
                        self.hold_table(table);
                    }
                }
                Stmt::Let(..) | Stmt::Store(_) | Stmt::Trap { .. } | Stmt::Prefetch(_) | Stmt::Transpose(_) | Stmt::Tile(_) => {}
                Stmt::If { then, .. } => self.hold_tables(then),
                Stmt::Loop(inner) => self.hold_tables(&inner.body),
                Stmt::Sweep(_) => unreachable!("V3: a sweep holds no sweep"),
            }
        }
    }

    /// The constants that the body uses most stay in registers.
    fn hold_constants(&mut self, body: &Block) {
        let mut counts = Counts::new();
        self.count_constants(body, &mut counts);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(key, (count, _))| (std::cmp::Reverse(*count), *key));
        let free = held_constants(self.wide).saturating_sub(self.held.len() + self.tables.len() / 2);
        for ((bits, _), (_, elem)) in counts.into_iter().take(free) {
            self.hold(elem, bits);
        }
    }

    fn count_constants(&self, block: &Block, counts: &mut Counts) {
        for stmt in block {
            match stmt {
                Stmt::Let(value, op) => {
                    if self.facts.is_used(*value) && !matches!(op, Op::Splat(_)) {
                        op.operands().into_iter().for_each(|operand| self.count_constant(operand, counts));
                    }
                }
                Stmt::Store(store) => {
                    [store.value].into_iter().chain(store.between).for_each(|value| self.count_constant(value, counts));
                }
                Stmt::Trap { .. } | Stmt::Prefetch(_) | Stmt::Transpose(_) | Stmt::Tile(_) => {}
                Stmt::If { then, .. } => self.count_constants(then, counts),
                Stmt::Loop(inner) => self.count_constants(&inner.body, counts),
                Stmt::Sweep(_) => unreachable!("V3: a sweep holds no sweep"),
            }
        }
    }

    fn count_constant(&self, value: Val, counts: &mut Counts) {
        let vector = self.func.ty(value).width == Width::Lanes;
        let known = self.facts.constant(value).filter(|known| vector || known.elem.is_float());
        if let Some(known) = known.filter(|known| known.elem != Elem::Bool) {
            counts.entry((known.bits, is_double(known.elem))).or_insert((0, known.elem)).0 += 1;
        }
    }

    /// Every reduction's identity; a position beside the value where there is one.
    fn identities(&mut self, folds: &[Fold]) -> Vec<Parts> {
        let lanes = self.lanes();
        let mut parts = Vec::new();
        for fold in folds {
            let elem = self.func.ty(fold.value).elem;
            parts.push(self.constant(elem, fold.combine.identity(elem), lanes));
            if fold.position.is_some() {
                parts.push(self.constant(Elem::I64, 0, lanes));
            }
        }
        parts
    }

    /// `unroll` vectors at once, each with accumulators of its own; gives the sum of those.
    fn unrolled(&mut self, sweep: &Sweep, begin: VReg, left: Option<usize>, one: &[Parts]) -> (VReg, Vec<Parts>) {
        let many: Vec<Parts> = (0..sweep.unroll).flat_map(|_| one.iter().copied()).collect();
        let (var, mut state) = self.stepped(sweep, begin, left, sweep.unroll, &many);
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

    /// A loop over `count` vectors a step, of which `left` points are left before.
    fn stepped(&mut self, sweep: &Sweep, begin: VReg, left: Option<usize>, count: usize, state: &[Parts]) -> (VReg, Vec<Parts>) {
        let lanes = self.lanes();
        let step = i64::try_from(count * lanes).expect("few lanes");
        if left.is_some_and(|left| left / (count * lanes) == 1) {
            let state = self.visits(sweep, begin, count, state);
            return (self.add_imm(begin, step), state);
        }
        let limit = match self.facts.int(sweep.end) {
            Some(end) => End::Known(end + 1 - step),
            None => {
                let end = self.one(sweep.end);
                End::Reg(self.add_imm(end, 1 - step))
            }
        };
        self.repeat(begin, limit, step, left.is_some(), state, &mut |emitter, var, state| {
            emitter.visits(sweep, var, count, state)
        })
    }

    fn visits(&mut self, sweep: &Sweep, var: VReg, count: usize, state: &[Parts]) -> Vec<Parts> {
        let per = state.len() / count;
        let mut next = Vec::new();
        for vector in 0..count {
            let offset = i64::try_from(vector * self.lanes()).expect("few lanes");
            next.extend(self.visit(sweep, var, offset, &state[vector * per..(vector + 1) * per]));
        }
        next
    }

    /// The points after the last whole vector, if there are any.
    fn tail(&mut self, sweep: &Sweep, var: VReg, left: Option<usize>, state: &[Parts]) -> Vec<Parts> {
        if let Some(left) = left {
            let count = i64::try_from(left).expect("few lanes");
            let count = self.int(count);
            return self.masked(sweep, var, count, state);
        }
        let (some, after) = (self.asm.label(), self.asm.label());
        let flat = |state: &[Parts]| -> Vec<VReg> { state.iter().flat_map(|parts| parts.as_slice().iter().copied()).collect() };
        let end = self.one(sweep.end);
        self.flush();
        let whole = flat(state);
        self.compare_regs(View::R64, var, end);
        self.asm.branch(Cond::Less, (some, Vec::new()), (after, whole));
        self.asm.bind(some, Vec::new());
        let count = self.asm.inst(Code::Sub_r64_rm64).modify(end, View::R64).reg(var, View::R64).end();
        let next = self.masked(sweep, var, count, state);
        self.flush();
        self.asm.jump(after, flat(&next));
        let results: Vec<Parts> = state.iter().map(|parts| self.fresh(*parts)).collect();
        self.asm.bind(after, flat(&results));
        results
    }

    /// The body under the mask of the first `count` lanes.
    fn masked(&mut self, sweep: &Sweep, var: VReg, count: VReg, state: &[Parts]) -> Vec<Parts> {
        let words = self.first_lanes(count);
        self.active = Some(Active { words, halves: self.halves(words) });
        let next = self.visit(sweep, var, 0, state);
        self.active = None;
        let lanes = self.lanes();
        let mask = Parts::of(lanes, &[words]);
        let elems = fold_elems(&sweep.reductions, |value| self.func.ty(value).elem);
        let triples = elems.into_iter().zip(next).zip(state.to_vec());
        triples.map(|((elem, next), before)| self.select(mask, elem, next, before)).collect()
    }

    fn first_lanes(&mut self, count: VReg) -> VReg {
        match self.wide {
            Wide::V4 => {
                let ones = self.asm.inst(Code::Mov_r32_imm32).def(View::R32).imm(OpKind::Immediate32, 0xffff).end();
                let bits = self.asm.inst(Code::VEX_Bzhi_r32_rm32_r32).def(View::R32);
                let bits = bits.reg(ones, View::R32).reg(count, View::R32).end();
                self.asm.inst(Code::VEX_Kmovw_kr_r32).def(View::K).reg(bits, View::R32).end()
            }
            Wide::V3 => {
                let count = self.splat_general(Elem::U32, count);
                let numbers: Vec<i64> = (0..4).map(|pair: i64| (2 * pair) | ((2 * pair + 1) << 32)).collect();
                let numbers = self.constant_vector(&numbers);
                self.vector2([Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256; 2], count, numbers)
            }
        }
    }

    /// The body at `var + offset`, combined into the accumulators.
    fn visit(&mut self, sweep: &Sweep, var: VReg, offset: i64, state: &[Parts]) -> Vec<Parts> {
        self.swept = Some((sweep.var, var, offset));
        self.values[sweep.var.index()] = None;
        self.block(&sweep.body);
        let mut points = Vec::new();
        for fold in &sweep.reductions {
            points.push(self.get(fold.value));
            if let Some(position) = fold.position {
                points.push(self.get(position));
            }
        }
        self.flush();
        self.swept = None;
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
        self.binary(op, elem, x, Operand::from(y))
    }

    /// The better of two values and its position: NaN first, then the extreme, then the lower position.
    fn combine_arg(&mut self, combine: Combine, elem: Elem, x: [Parts; 2], y: [Parts; 2]) -> [Parts; 2] {
        let compare = if combine == Combine::ArgMax { Compare::Gt } else { Compare::Lt };
        let mut better = self.compare(compare, elem, y[0], Operand::from(x[0]));
        let mut equal = self.compare(Compare::Eq, elem, y[0], Operand::from(x[0]));
        if elem.is_float() {
            let x_nan = self.compare(Compare::Ne, elem, x[0], Operand::from(x[0]));
            let y_nan = self.compare(Compare::Ne, elem, y[0], Operand::from(y[0]));
            let both = self.mask_binary(Binary::And, x_nan, y_nan);
            let only = self.mask_and_not(x_nan, y_nan);
            better = self.mask_binary(Binary::Or, better, only);
            equal = self.mask_binary(Binary::Or, equal, both);
        }
        let earlier = self.compare(Compare::Lt, Elem::I64, y[1], Operand::from(x[1]));
        let tie = self.mask_binary(Binary::And, equal, earlier);
        let take = self.mask_binary(Binary::Or, better, tie);
        [self.select(take, elem, y[0], x[0]), self.select(take, Elem::I64, y[1], x[1])]
    }

    /// The lanes of every accumulator combined, halves first; each result as one element.
    fn across_lanes(&mut self, folds: &[Fold], mut state: Vec<Parts>) -> Vec<Parts> {
        let elems = fold_elems(folds, |value| self.func.ty(value).elem);
        let mut distance = self.lanes() / 2;
        while distance > 0 {
            let pairs: Vec<(Elem, Parts)> = elems.iter().copied().zip(state.iter().copied()).collect();
            let moved: Vec<Parts> = pairs.into_iter().map(|(elem, parts)| self.rotated(elem, parts, distance)).collect();
            state = self.combine_all(folds, &state, &moved);
            distance /= 2;
        }
        elems.into_iter().zip(state).map(|(elem, parts)| self.lowest(elem, parts)).collect()
    }

    /// The lowest lane as one element.
    pub(super) fn lowest(&mut self, elem: Elem, parts: Parts) -> Parts {
        let reg = parts.single();
        match elem {
            Elem::F64 | Elem::F32 => Parts::one(self.spread(elem, reg)),
            Elem::I64 | Elem::I32 | Elem::U32 | Elem::U8 => Parts::one(self.general_of(elem, reg)),
            Elem::Bool => self.mask_of(1, &[reg]),
        }
    }

    /// Every lane moved down by `distance`, a power of two; lanes above the first `distance` do not matter.
    fn rotated(&mut self, elem: Elem, x: Parts, distance: usize) -> Parts {
        if x.count == 2 && distance == x.lanes / 2 {
            return Parts::of(x.lanes, &[x.regs[1], x.regs[0]]);
        }
        let amount = u8::try_from(distance).expect("few lanes");
        self.each(x, &mut |emitter, x| match emitter.wide {
            Wide::V4 if elem == Elem::Bool => {
                emitter.asm.inst(Code::VEX_Kshiftrw_kr_kr_imm8).def(View::K).reg(x, View::K).imm8(amount).end()
            }
            Wide::V4 => {
                let words = [Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8; 2];
                let code = sized(elem, words, [Code::EVEX_Valignq_zmm_k1z_zmm_zmmm512b64_imm8; 2])[1];
                emitter.asm.inst(code).def(View::Zmm).reg(x, View::Zmm).reg(x, View::Zmm).imm8(amount).end()
            }
            Wide::V3 => {
                let words = if is_double(elem) { 2 * amount } else { amount };
                if words == 4 {
                    let swap = emitter.asm.inst(Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8).def(View::Ymm);
                    return swap.reg(x, View::Ymm).src(Src::Reg(x), View::Ymm).imm8(1).end();
                }
                let order = if words == 2 { 0x4e } else { 0xb1 };
                emitter.vector_imm([Code::VEX_Vpshufd_ymm_ymmm256_imm8; 2], x, order)
            }
        })
    }

    fn give(&mut self, folds: &[Fold], results: &[Parts]) {
        let mut results = results.iter();
        let mut next = || *results.next().expect("a result a fold");
        for fold in folds {
            self.values[fold.result.index()] = Some(next());
            if let Some(position) = fold.result_position {
                self.values[position.index()] = Some(next());
            }
        }
    }
}

/// The elements of accumulators, positions among them.
fn fold_elems(folds: &[Fold], elem: impl Fn(Val) -> Elem) -> Vec<Elem> {
    let of = |fold: &Fold| [Some(elem(fold.value)), fold.position.map(|_| Elem::I64)];
    folds.iter().flat_map(of).flatten().collect()
}
