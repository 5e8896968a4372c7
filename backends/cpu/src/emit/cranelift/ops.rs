//! Arithmetic, comparisons and selections.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};

use super::{BITS, Emitter, LANES, Parts, register};
use crate::vector::{Binary, Compare, Edge, Elem, Helper, Op, Pairs, Shift, Ty, Unary, Val};

impl Emitter<'_, '_> {
    pub(super) fn operation(&mut self, op: &Op, ty: Ty) -> Parts {
        match op {
            Op::Const(known) => Parts::one(self.constant(known.elem, known.bits)),
            Op::Arg(arg) => self.table(0, *arg),
            Op::Dim(dim) => self.table(1, *dim),
            Op::Begin => Parts::one(self.params[2]),
            Op::End => Parts::one(self.params[3]),
            Op::Scratch => Parts::one(self.params[4]),
            Op::Splat(x) => self.splat(*x, ty.elem),
            Op::Iota => self.iota(),
            Op::Unary(op, x) => {
                let x = self.get(*x);
                self.each(&[x], &mut |emitter, part| emitter.unary(*op, ty.elem, part[0]))
            }
            Op::Binary(op, x, y) => {
                let (x, y) = (self.get(*x), self.get(*y));
                self.binary(*op, ty.elem, x, y)
            }
            Op::Shift(shift, x, amount) => {
                let x = self.get(*x);
                self.each(&[x], &mut |emitter, part| emitter.shift(*shift, ty.elem, part[0], *amount))
            }
            Op::Fma(x, y, z) => {
                let parts = [self.get(*x), self.get(*y), self.get(*z)];
                self.each(&parts, &mut |emitter, part| emitter.fused(ty.elem, part))
            }
            Op::Dot(Pairs::I16, x, y, z) => {
                let parts = [self.get(*x), self.get(*y), self.get(*z)];
                self.each(&parts, &mut |emitter, part| emitter.dot(part))
            }
            Op::Dot(Pairs::I16Fused | Pairs::Bf16, ..) => unreachable!("of extensions that are asked for by name"),
            Op::Compare(compare, x, y) => {
                let elem = self.func.ty(*x).elem;
                let (x, y) = (self.get(*x), self.get(*y));
                self.compare(*compare, elem, x, y)
            }
            Op::Select(mask, x, y) => {
                let (mask, x, y) = (self.get(*mask), self.get(*x), self.get(*y));
                self.select(mask, x, y)
            }
            Op::Cast(x, to) => {
                let from = self.func.ty(*x).elem;
                let x = self.get(*x);
                self.cast(x, from, *to)
            }
            Op::Bitcast(x, to) => {
                let x = self.get(*x);
                let to = register(*to, x.lanes);
                self.each(&[x], &mut |emitter, part| emitter.bits(part[0], to))
            }
            Op::Round(x, dtype) => {
                let x = self.get(*x);
                self.each(&[x], &mut |emitter, part| emitter.rounded(part[0], *dtype))
            }
            Op::Slide(x, fill, by) => self.slide(*x, *fill, *by),
            Op::Edge(x, edge) => self.edge(*x, *edge),
            Op::LookUp(..) => unreachable!("tables are for vectors that hold half of one"),
            Op::Load(load) => self.load(load),
            Op::Call(helper, args) => {
                let parts: Vec<Parts> = args.iter().map(|arg| self.get(*arg)).collect();
                self.call(*helper, ty.elem, &parts)
            }
            Op::Patch { mask, value, helper, arg } => self.patch(*mask, *value, *helper, *arg, ty.elem),
        }
    }

    /// A word of a table that the function was given.
    fn table(&mut self, param: usize, index: usize) -> Parts {
        let offset = i32::try_from(index * 8).expect("a kernel has few arguments");
        Parts::one(self.b.ins().load(types::I64, MemFlagsData::trusted(), self.params[param], offset))
    }

    pub(super) fn constant(&mut self, elem: Elem, bits: u64) -> Value {
        match elem {
            Elem::F64 => self.b.ins().f64const(f64::from_bits(bits)),
            #[expect(clippy::cast_possible_truncation, reason = "the bits of a 32-bit float")]
            Elem::F32 => self.b.ins().f32const(f32::from_bits(bits as u32)),
            Elem::I64 => self.int(bits.cast_signed()),
            Elem::I32 | Elem::U32 | Elem::U8 => self.b.ins().iconst(types::I32, bits.cast_signed()),
            Elem::Bool => self.b.ins().iconst(types::I8, bits.cast_signed()),
        }
    }

    /// A constant in every lane of `lanes`.
    pub(super) fn constant_in(&mut self, elem: Elem, lanes: usize, bits: u64) -> Value {
        if lanes == 1 {
            return self.constant(elem, bits);
        }
        let bytes: Vec<u8> = match elem {
            Elem::F64 | Elem::I64 => bits.to_le_bytes().repeat(2),
            Elem::F32 | Elem::I32 | Elem::U32 | Elem::U8 => bits.to_le_bytes()[..4].repeat(4),
            Elem::Bool => vec![if bits == 0 { 0 } else { 0xff }; 16],
        };
        let handle = self.b.func.dfg.constants.insert(bytes.into());
        self.b.ins().vconst(register(elem, lanes), handle)
    }

    fn splat(&mut self, x: Val, elem: Elem) -> Parts {
        if self.lanes == 1 {
            return self.get(x);
        }
        if let Some((elem, bits)) = self.consts.get(&x).copied() {
            let value = self.constant_in(elem, LANES, bits);
            return Parts { lanes: LANES, count: super::registers(elem, LANES), values: [value; 2] };
        }
        let mut value = self.one(x);
        if elem == Elem::Bool {
            let wide = self.b.ins().uextend(types::I32, value);
            value = self.b.ins().ineg(wide);
        }
        let value = self.b.ins().splat(register(elem, LANES), value);
        Parts { lanes: LANES, count: super::registers(elem, LANES), values: [value; 2] }
    }

    fn iota(&mut self) -> Parts {
        if self.lanes == 1 {
            return Parts::one(self.int(0));
        }
        let pair = |emitter: &mut Self, low: u64| {
            let bytes: Vec<u8> = [low, low + 1].into_iter().flat_map(u64::to_le_bytes).collect();
            let handle = emitter.b.func.dfg.constants.insert(bytes.into());
            emitter.b.ins().vconst(types::I64X2, handle)
        };
        let low = pair(self, 0);
        Parts::pair(low, pair(self, 2))
    }

    /// The function of the registers in turn.
    pub(super) fn each(&mut self, operands: &[Parts], function: &mut dyn FnMut(&mut Self, &[Value]) -> Value) -> Parts {
        let mut results = Vec::new();
        for register in 0..operands[0].count {
            let part: Vec<Value> = operands.iter().map(|parts| parts.values[register]).collect();
            results.push(function(self, &part));
        }
        Parts::of(operands[0].lanes, &results)
    }

    /// The function of one lane after the other.
    pub(super) fn by_lane(
        &mut self,
        operands: &[(Parts, Elem)],
        to: Elem,
        function: &mut dyn FnMut(&mut Self, &[Value]) -> Value,
    ) -> Parts {
        let lanes = operands[0].0.lanes;
        let mut results = Vec::new();
        for lane in 0..lanes {
            let part: Vec<Value> = operands.iter().map(|(parts, elem)| self.extract(*parts, *elem, lane)).collect();
            results.push(function(self, &part));
        }
        if lanes == 1 { Parts::one(results[0]) } else { self.gathered(to, &results) }
    }

    /// One lane of a value, as a value of one lane.
    pub(super) fn extract(&mut self, parts: Parts, elem: Elem, lane: usize) -> Value {
        if parts.lanes == 1 {
            return parts.single();
        }
        let per = LANES / parts.count;
        let index = u8::try_from(lane % per).expect("few lanes");
        let value = self.b.ins().extractlane(parts.values[lane / per], index);
        if elem != Elem::Bool {
            return value;
        }
        let bit = self.b.ins().band_imm_s(value, 1);
        self.b.ins().ireduce(types::I8, bit)
    }

    /// The lanes of `x` moved up by `by`, or down; the others are those of `fill`.
    fn slide(&mut self, x: Val, fill: Val, by: i8) -> Parts {
        let elem = self.func.ty(x).elem;
        let (x, fill) = (self.get(x), self.get(fill));
        let source = |lane: usize| lane.checked_add_signed(-isize::from(by)).filter(|lane| *lane < LANES);
        let lanes: Vec<Value> = (0..LANES)
            .map(|lane| match source(lane) {
                Some(lane) => self.extract(x, elem, lane),
                None => self.extract(fill, elem, lane),
            })
            .collect();
        self.gathered(elem, &lanes)
    }

    /// The element of an outermost lane.
    fn edge(&mut self, x: Val, edge: Edge) -> Parts {
        let elem = self.func.ty(x).elem;
        let x = self.get(x);
        let lane = match edge {
            Edge::First => 0,
            Edge::Last => LANES - 1,
        };
        Parts::one(self.extract(x, elem, lane))
    }

    /// A vector of these lanes.
    pub(super) fn gathered(&mut self, elem: Elem, lanes: &[Value]) -> Parts {
        let ty = register(elem, LANES);
        let per = LANES / super::registers(elem, LANES);
        let mut registers = Vec::new();
        for chunk in lanes.chunks(per) {
            let mut vector = None;
            for (lane, value) in (0u8..).zip(chunk) {
                let value = if elem == Elem::Bool {
                    let wide = self.b.ins().uextend(types::I32, *value);
                    self.b.ins().ineg(wide)
                } else {
                    *value
                };
                vector = Some(match vector {
                    None => self.b.ins().scalar_to_vector(ty, value),
                    Some(vector) => self.b.ins().insertlane(vector, value, lane),
                });
            }
            registers.push(vector.expect("a vector has lanes"));
        }
        Parts::of(LANES, &registers)
    }

    /// The same bits in a register of another type.
    pub(super) fn bits(&mut self, value: Value, ty: Type) -> Value {
        if self.b.func.dfg.value_type(value) == ty { value } else { self.b.ins().bitcast(ty, BITS, value) }
    }

    fn unary(&mut self, op: Unary, elem: Elem, x: Value) -> Value {
        let float = elem.is_float();
        match op {
            Unary::Neg if float => self.b.ins().fneg(x),
            Unary::Neg => {
                let negated = self.b.ins().ineg(x);
                self.wrap(elem, negated)
            }
            Unary::Abs if float => self.b.ins().fabs(x),
            Unary::Abs if matches!(elem, Elem::I64 | Elem::I32) => self.b.ins().iabs(x),
            Unary::Abs => x,
            Unary::Sqrt => self.b.ins().sqrt(x),
            Unary::Floor => self.b.ins().floor(x),
            Unary::Ceil => self.b.ins().ceil(x),
            Unary::Trunc => self.b.ins().trunc(x),
            Unary::Nearest => self.b.ins().nearest(x),
            Unary::Not => {
                let inverted = self.b.ins().bnot(x);
                if elem == Elem::Bool && self.b.func.dfg.value_type(x) == types::I8 {
                    return self.b.ins().band_imm_s(inverted, 1);
                }
                self.wrap(elem, inverted)
            }
        }
    }

    /// The low eight bits of a `u8`, which is held in 32.
    pub(super) fn wrap(&mut self, elem: Elem, x: Value) -> Value {
        if elem != Elem::U8 {
            return x;
        }
        let lanes = if self.b.func.dfg.value_type(x) == types::I32 { 1 } else { LANES };
        let mask = self.constant_in(Elem::U8, lanes, 0xff);
        self.b.ins().band(x, mask)
    }

    fn shift(&mut self, shift: Shift, elem: Elem, x: Value, amount: u8) -> Value {
        let amount = self.b.ins().iconst(types::I32, i64::from(amount));
        match shift {
            Shift::Left => {
                let shifted = self.b.ins().ishl(x, amount);
                self.wrap(elem, shifted)
            }
            Shift::Logical => self.b.ins().ushr(x, amount),
            Shift::Arithmetic => self.b.ins().sshr(x, amount),
        }
    }

    /// Sums of two products a lane, and of what is third.
    fn dot(&mut self, part: &[Value]) -> Value {
        let [x, y] = [part[0], part[1]].map(|words| self.bits(words, types::I16X8));
        let low = [x, y].map(|halves| self.b.ins().swiden_low(halves));
        let high = [x, y].map(|halves| self.b.ins().swiden_high(halves));
        let [low, high] = [low, high].map(|[x, y]| self.b.ins().imul(x, y));
        let products = self.b.ins().iadd_pairwise(low, high);
        self.b.ins().iadd(products, part[2])
    }

    fn fused(&mut self, elem: Elem, part: &[Value]) -> Value {
        if elem.is_float() && self.environment.fma {
            return self.b.ins().fma(part[0], part[1], part[2]);
        }
        let product = self.straight(Binary::Mul, elem, part[0], part[1]);
        self.straight(Binary::Add, elem, product, part[2])
    }

    pub(super) fn binary(&mut self, op: Binary, elem: Elem, x: Parts, y: Parts) -> Parts {
        match op {
            Binary::Add | Binary::Sub | Binary::Mul | Binary::And | Binary::Or | Binary::Xor => {
                self.each(&[x, y], &mut |emitter, part| emitter.straight(op, elem, part[0], part[1]))
            }
            Binary::Div if elem.is_float() => self.each(&[x, y], &mut |emitter, part| emitter.b.ins().fdiv(part[0], part[1])),
            Binary::Scale => self.each(&[x, y], &mut |emitter, part| emitter.scaled(part[0], part[1])),
            Binary::MulHigh if x.lanes > 1 => Parts::vector(self.mul_high(x.single(), y.single())),
            Binary::Div | Binary::Rem | Binary::Shl | Binary::Shr | Binary::MulHigh => {
                self.by_lane(&[(x, elem), (y, elem)], elem, &mut |emitter, part| emitter.lane(op, elem, part[0], part[1]))
            }
            Binary::MinFast => self.extreme(Compare::Lt, elem, x, y),
            Binary::MaxFast => self.extreme(Compare::Gt, elem, x, y),
            Binary::Min => self.nan_extreme(Compare::Lt, elem, x, y),
            Binary::Max => self.nan_extreme(Compare::Gt, elem, x, y),
        }
    }

    /// What is one instruction on any register.
    fn straight(&mut self, op: Binary, elem: Elem, x: Value, y: Value) -> Value {
        let float = elem.is_float();
        let result = match op {
            Binary::Add if float => self.b.ins().fadd(x, y),
            Binary::Sub if float => self.b.ins().fsub(x, y),
            Binary::Mul if float => self.b.ins().fmul(x, y),
            Binary::Add => self.b.ins().iadd(x, y),
            Binary::Sub => self.b.ins().isub(x, y),
            Binary::Mul => self.times(elem, x, y),
            Binary::And => self.b.ins().band(x, y),
            Binary::Or => self.b.ins().bor(x, y),
            Binary::Xor => self.b.ins().bxor(x, y),
            Binary::Div
            | Binary::Rem
            | Binary::Min
            | Binary::Max
            | Binary::MinFast
            | Binary::MaxFast
            | Binary::Shl
            | Binary::Shr
            | Binary::MulHigh
            | Binary::Scale => unreachable!("not one instruction"),
        };
        self.wrap(elem, result)
    }

    /// `x` where the comparison holds, else `y`: `minps` and `maxps`.
    fn extreme(&mut self, compare: Compare, elem: Elem, x: Parts, y: Parts) -> Parts {
        if elem == Elem::Bool {
            let op = if compare == Compare::Lt { Binary::And } else { Binary::Or };
            return self.binary(op, elem, x, y);
        }
        if elem.is_float() && x.lanes > 1 {
            let cc = if compare == Compare::Lt { FloatCC::LessThan } else { FloatCC::GreaterThan };
            return self.each(&[x, y], &mut |emitter, part| {
                let ty = emitter.b.func.dfg.value_type(part[0]);
                let mask = emitter.b.ins().fcmp(cc, part[0], part[1]);
                let mask = emitter.bits(mask, ty);
                emitter.b.ins().bitselect(mask, part[0], part[1])
            });
        }
        let mask = self.compare(compare, elem, x, y);
        self.select(mask, x, y)
    }

    fn nan_extreme(&mut self, compare: Compare, elem: Elem, x: Parts, y: Parts) -> Parts {
        let extreme = self.extreme(compare, elem, x, y);
        if !elem.is_float() {
            return extreme;
        }
        // Where `y` is NaN, the comparison fails and gives it; where `x` is, it must be given here.
        let nan = self.compare(Compare::Ne, elem, x, x);
        self.select(nan, x, extreme)
    }

    pub(super) fn compare(&mut self, compare: Compare, elem: Elem, x: Parts, y: Parts) -> Parts {
        let mask = self.each(&[x, y], &mut |emitter, part| {
            if elem.is_float() {
                emitter.b.ins().fcmp(float_condition(compare), part[0], part[1])
            } else {
                emitter.b.ins().icmp(int_condition(compare, elem), part[0], part[1])
            }
        });
        if mask.count == 2 { self.narrow_mask(mask) } else { mask }
    }

    pub(super) fn select(&mut self, mask: Parts, x: Parts, y: Parts) -> Parts {
        if x.lanes == 1 {
            return Parts::one(self.b.ins().select(mask.single(), x.single(), y.single()));
        }
        let mask = if x.count == 2 { self.widen_mask(mask) } else { mask };
        self.each(&[mask, x, y], &mut |emitter, part| {
            let ty = emitter.b.func.dfg.value_type(part[1]);
            let mask = emitter.bits(part[0], ty);
            emitter.b.ins().bitselect(mask, part[1], part[2])
        })
    }

    pub(super) fn call(&mut self, helper: Helper, elem: Elem, operands: &[Parts]) -> Parts {
        let function = (self.environment.helper)(helper, self.b.func);
        let operands: Vec<(Parts, Elem)> = operands.iter().map(|parts| (*parts, elem)).collect();
        self.by_lane(&operands, elem, &mut |emitter, part| {
            let call = emitter.b.ins().call(function, part);
            emitter.b.inst_results(call)[0]
        })
    }

    /// The helper is called only if some lane asks for it.
    fn patch(&mut self, mask: Val, value: Val, helper: Helper, arg: Val, elem: Elem) -> Parts {
        let (mask, value, arg) = (self.get(mask), self.get(value), self.get(arg));
        let any = if mask.lanes == 1 { mask.single() } else { self.b.ins().vany_true(mask.single()) };
        let (rare, after) = (self.b.create_block(), self.b.create_block());
        let (_, results) = self.block_params(after, &[value]);
        let zero = self.int(0);
        let pass = |parts: Parts| super::args(&[zero].into_iter().chain(parts.as_slice().iter().copied()).collect::<Vec<_>>());
        let usual = pass(value);
        self.b.ins().brif(any, rare, &[], after, &usual);
        self.b.switch_to_block(rare);
        let called = self.call(helper, elem, &[arg]);
        let patched = self.select(mask, called, value);
        let patched = pass(patched);
        self.b.ins().jump(after, &patched);
        self.b.switch_to_block(after);
        results[0]
    }
}

fn float_condition(compare: Compare) -> FloatCC {
    match compare {
        Compare::Eq => FloatCC::Equal,
        Compare::Ne => FloatCC::NotEqual,
        Compare::Lt => FloatCC::LessThan,
        Compare::Le => FloatCC::LessThanOrEqual,
        Compare::Gt => FloatCC::GreaterThan,
        Compare::Ge => FloatCC::GreaterThanOrEqual,
    }
}

/// Truth values compare as unsigned: 1 or all ones is above 0.
fn int_condition(compare: Compare, elem: Elem) -> IntCC {
    let signed = matches!(elem, Elem::I64 | Elem::I32);
    match compare {
        Compare::Eq => IntCC::Equal,
        Compare::Ne => IntCC::NotEqual,
        Compare::Lt if signed => IntCC::SignedLessThan,
        Compare::Le if signed => IntCC::SignedLessThanOrEqual,
        Compare::Gt if signed => IntCC::SignedGreaterThan,
        Compare::Ge if signed => IntCC::SignedGreaterThanOrEqual,
        Compare::Lt => IntCC::UnsignedLessThan,
        Compare::Le => IntCC::UnsignedLessThanOrEqual,
        Compare::Gt => IntCC::UnsignedGreaterThan,
        Compare::Ge => IntCC::UnsignedGreaterThanOrEqual,
    }
}
