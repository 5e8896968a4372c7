//! Operations by their operands: what is of one integer, of floats, of vectors of integers, and of truth values.

use iced_x86::Code;
use regalloc2::VReg;

use super::floats::Operand;
use super::operand::{Mem, Src, View};
use super::table::{self, sized};
use super::{Emitter, Parts, Wide};
use crate::vector::{Binary, Compare, Elem, Op, Pairs, Shift, Ty, Unary, Val, Width};

impl Emitter<'_> {
    pub(super) fn operation(&mut self, op: &Op, ty: Ty) -> Parts {
        match op {
            Op::Const(known) => self.constant(known.elem, known.bits, 1),
            Op::Arg(arg) => self.entry_of_table(0, *arg),
            Op::Dim(dim) => self.entry_of_table(1, *dim),
            Op::Begin => Parts::one(self.params[2]),
            Op::End => Parts::one(self.params[3]),
            Op::Scratch => Parts::one(self.params[4]),
            Op::Splat(x) => self.splat(*x, ty.elem),
            Op::Iota => self.iota(),
            Op::Unary(op, x) => {
                let x = self.get(*x);
                self.unary(*op, ty.elem, x)
            }
            Op::Binary(op, x, y) => self.binary_of(*op, ty.elem, *x, *y),
            Op::Shift(shift, x, amount) => {
                let x = self.get(*x);
                self.shift(*shift, ty.elem, x, *amount)
            }
            Op::Fma(x, y, z) => self.fma([*x, *y, *z], ty.elem),
            Op::Dot(pairs, x, y, z) => self.dot(*pairs, [*x, *y, *z]),
            Op::Compare(compare, x, y) => {
                let elem = self.func.ty(*x).elem;
                let x = self.get(*x);
                let y = self.operand_of(*y);
                self.compare(*compare, elem, x, y)
            }
            Op::Select(mask, x, y) => {
                let (mask, x, y) = (self.get(*mask), self.get(*x), self.get(*y));
                self.select(mask, ty.elem, x, y)
            }
            Op::Cast(x, to) => {
                let from = self.func.ty(*x).elem;
                let x = self.get(*x);
                self.cast(x, from, *to)
            }
            Op::Bitcast(x, to) => {
                let from = self.func.ty(*x).elem;
                let x = self.get(*x);
                self.bitcast(x, from, *to)
            }
            Op::Round(x, dtype) => {
                let x = self.get(*x);
                self.each(x, &mut |emitter, x| emitter.rounded(x, *dtype))
            }
            Op::Slide(x, fill, by) => self.slide(*x, *fill, *by),
            Op::Edge(x, edge) => self.edge(*x, *edge),
            Op::LookUp(place, table) => self.look_up(*place, table),
            Op::Load(load) => self.load(load),
            Op::Call(helper, args) => {
                let args: Vec<Parts> = args.iter().map(|arg| self.get(*arg)).collect();
                self.call(*helper, ty.elem, &args)
            }
            Op::Patch { mask, value, helper, arg } => {
                let (mask, value, arg) = (self.get(*mask), self.get(*value), self.get(*arg));
                self.patch(mask, value, *helper, arg, ty.elem)
            }
        }
    }

    /// A word of a table that the function was given.
    fn entry_of_table(&mut self, param: usize, index: usize) -> Parts {
        let offset = i64::try_from(index * 8).expect("a kernel has few arguments");
        let mem = Mem::at(self.params[param]).plus(offset);
        Parts::one(self.asm.inst(Code::Mov_r64_rm64).def(View::R64).mem(mem).end())
    }

    fn splat(&mut self, x: Val, elem: Elem) -> Parts {
        let x = self.get(x).single();
        let reg = match elem {
            Elem::F64 | Elem::F32 => x,
            Elem::Bool => self.splat_bool(x),
            Elem::I64 | Elem::I32 | Elem::U32 | Elem::U8 => self.splat_general(elem, x),
        };
        let lanes = self.lanes();
        Parts { lanes, count: Self::registers(elem, lanes), regs: [reg; 2] }
    }

    pub(super) fn iota(&mut self) -> Parts {
        let lanes = self.lanes();
        let half = i64::try_from(lanes / 2).expect("few lanes");
        let regs = [0, half].map(|first| {
            let source = self.constant_vector(&(first..first + half).collect::<Vec<_>>());
            self.vector1(table::MOVE, source)
        });
        Parts::of(lanes, &regs)
    }

    /// Operands in memory come last where their order does not matter.
    fn binary_of(&mut self, op: Binary, elem: Elem, x: Val, y: Val) -> Parts {
        let commutes = matches!(op, Binary::Add | Binary::Mul | Binary::And | Binary::Or | Binary::Xor);
        let swap = commutes && self.is_memory(x) && !self.is_memory(y);
        let (x, y) = if swap { (y, x) } else { (x, y) };
        let known = self.facts.constant(y).filter(|_| self.func.ty(y).width == Width::One);
        let known = known.filter(|known| known.elem == Elem::I64).map(|known| known.bits.cast_signed());
        let x = self.get(x);
        if let Some(result) = known.and_then(|known| self.binary_imm(op, x.single(), known)) {
            return Parts::one(result);
        }
        let y = self.operand_of(y);
        self.binary_known(op, elem, x, y, known)
    }

    fn fma(&mut self, operands: [Val; 3], elem: Elem) -> Parts {
        if !elem.is_float() {
            let [x, y, z] = operands.map(|operand| self.get(operand));
            let product = self.binary(Binary::Mul, elem, x, Operand::from(y));
            return self.binary(Binary::Add, elem, product, Operand::from(z));
        }
        let dies = operands.map(|operand| self.facts.dies(operand));
        let operands = operands.map(|operand| self.operand_of(operand));
        let count = operands[0].count;
        let regs: Vec<VReg> =
            (0..count).map(|place| self.fused(elem, operands.map(|operand| operand.sources[place]), dies)).collect();
        Parts::of(operands[0].lanes, &regs)
    }

    /// Sums of two products a lane; the words of one operand may be read by the instruction.
    fn dot(&mut self, pairs: Pairs, [x, y, z]: [Val; 3]) -> Parts {
        let (x, y) = if self.is_memory(x) { (y, x) } else { (x, y) };
        let (x, y) = (self.operand_of(x), self.operand_of(y));
        let (x, y) = (self.in_register(Elem::F32, x.sources[0]), y.sources[0]);
        let (sum, view) = (self.get(z), self.wide.view());
        let fused = match pairs {
            Pairs::I16 => {
                // It reads whole vectors only.
                let y = Src::Reg(self.in_register(Elem::F32, y));
                let products = self.vector2(table::DOT_WORDS, x, y);
                let sums = self.asm.inst(self.wide.of(table::ADD)).update(sum.single(), view).reg(products, view).end();
                return Parts::of(sum.lanes, &[sums]);
            }
            Pairs::I16Fused => Code::EVEX_Vpdpwssd_zmm_k1z_zmm_zmmm512b32,
            Pairs::Bf16 => Code::EVEX_Vdpbf16ps_zmm_k1z_zmm_zmmm512b32,
        };
        assert_eq!(self.wide, Wide::V4, "of extensions of AVX-512");
        Parts::of(sum.lanes, &[self.asm.inst(fused).modify(sum.single(), view).reg(x, view).src(y, view).end()])
    }

    pub(super) fn unary(&mut self, op: Unary, elem: Elem, x: Parts) -> Parts {
        if elem.is_float() {
            return self.each(x, &mut |emitter, x| emitter.unary_float(op, elem, x));
        }
        if x.lanes == 1 {
            return Parts::one(self.unary_int(op, elem, x.single()));
        }
        if elem == Elem::Bool {
            return if op == Unary::Not { self.mask_not(x) } else { x };
        }
        match op {
            Unary::Neg => {
                let zero = self.constant(elem, 0, x.lanes);
                self.binary(Binary::Sub, elem, zero, Operand::from(x))
            }
            Unary::Not => {
                let ones = if elem == Elem::U8 { 0xff } else { u64::MAX };
                let ones = self.constant_source(elem, ones);
                self.each(x, &mut |emitter, x| emitter.vector2(sized(elem, table::XOR, table::XOR_DOUBLE), x, ones))
            }
            Unary::Abs if elem == Elem::I32 => self.each(x, &mut |emitter, x| emitter.vector1(table::ABS, Src::Reg(x))),
            Unary::Abs if elem == Elem::I64 => {
                let zero = self.constant(elem, 0, x.lanes);
                let negated = self.binary(Binary::Sub, elem, zero, Operand::from(x));
                let below = self.compare(Compare::Lt, elem, x, Operand::from(zero));
                self.select(below, elem, negated, x)
            }
            Unary::Abs | Unary::Sqrt | Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::Nearest => x,
        }
    }

    pub(super) fn shift(&mut self, shift: Shift, elem: Elem, x: Parts, amount: u8) -> Parts {
        if x.lanes == 1 {
            return Parts::one(self.shift_int(shift, elem, x.single(), amount));
        }
        if shift == Shift::Arithmetic && elem == Elem::I64 && self.wide == Wide::V3 {
            return self.each(x, &mut |emitter, x| emitter.shift_signed(x, amount));
        }
        let codes = table::shift(shift, elem);
        let shifted = self.each(x, &mut |emitter, x| emitter.vector_imm(codes, x, amount));
        if shift == Shift::Left { self.wrapped_lanes(elem, shifted) } else { shifted }
    }

    /// An arithmetic shift of doubles for AVX2: the sign is moved by a logical one, and subtracted back.
    fn shift_signed(&mut self, x: VReg, amount: u8) -> VReg {
        let shifted = self.vector_imm(table::shift(Shift::Logical, Elem::I64), x, amount);
        let sign = self.constant_source(Elem::I64, 1 << (63 - amount));
        let flipped = self.vector2(table::XOR_DOUBLE, shifted, sign);
        self.vector2(table::SUB_DOUBLE, flipped, sign)
    }

    fn wrapped_lanes(&mut self, elem: Elem, x: Parts) -> Parts {
        if elem != Elem::U8 {
            return x;
        }
        let low = self.constant_source(Elem::U8, 0xff);
        self.each(x, &mut |emitter, x| emitter.vector2(table::AND, x, low))
    }

    pub(super) fn binary(&mut self, op: Binary, elem: Elem, x: Parts, y: Operand) -> Parts {
        self.binary_known(op, elem, x, y, None)
    }

    fn binary_known(&mut self, op: Binary, elem: Elem, x: Parts, y: Operand, known: Option<i64>) -> Parts {
        if elem.is_float() {
            return self.binary_float(op, elem, x, y);
        }
        if x.lanes == 1 {
            let y = self.in_registers(elem, y).single();
            return Parts::one(self.binary_int(op, elem, x.single(), y, known));
        }
        if elem == Elem::Bool {
            let y = self.in_registers(elem, y);
            return self.mask_binary(op, x, y);
        }
        match (table::int(op, elem), self.wide) {
            (Some((_, code)), Wide::V4) | (Some((Some(code), _)), Wide::V3) => {
                let result = self.each2(x, y, &mut |emitter, x, y| emitter.vector2([code; 2], x, y));
                let grows = matches!(op, Binary::Add | Binary::Sub | Binary::Mul | Binary::Shl);
                if grows { self.wrapped_lanes(elem, result) } else { result }
            }
            (Some((None, _)) | None, _) => {
                let y = self.in_registers(elem, y);
                self.binary_composed(op, elem, x, y)
            }
        }
    }

    /// What takes several instructions.
    fn binary_composed(&mut self, op: Binary, elem: Elem, x: Parts, y: Parts) -> Parts {
        let pairs = x.as_slice().iter().copied().zip(y.as_slice().iter().copied());
        match op {
            Binary::MulHigh => {
                let regs: Vec<VReg> = pairs.map(|(x, y)| self.mul_high(x, y)).collect();
                Parts::of(x.lanes, &regs)
            }
            Binary::Mul => {
                let regs: Vec<VReg> = pairs.map(|(x, y)| self.mul_doubles(x, y)).collect();
                Parts::of(x.lanes, &regs)
            }
            Binary::Min | Binary::MinFast | Binary::Max | Binary::MaxFast => {
                let least = matches!(op, Binary::Min | Binary::MinFast);
                let first = self.compare(if least { Compare::Lt } else { Compare::Gt }, elem, x, Operand::from(y));
                self.select(first, elem, x, y)
            }
            Binary::Div
            | Binary::Rem
            | Binary::Shl
            | Binary::Shr
            | Binary::Add
            | Binary::Sub
            | Binary::And
            | Binary::Or
            | Binary::Xor
            | Binary::Scale => self.by_lane(&[(x, elem), (y, elem)], elem, &mut |emitter, lane| {
                Parts::one(emitter.binary_int(op, elem, lane[0].single(), lane[1].single(), None))
            }),
        }
    }

    /// The high words of the products of words: of the even ones, and of the odd ones.
    fn mul_high(&mut self, x: VReg, y: VReg) -> VReg {
        let right = table::shift(Shift::Logical, Elem::I64);
        let even = self.vector2(table::MUL_WIDE, x, Src::Reg(y));
        let even = self.vector_imm(right, even, 32);
        let (x, y) = (self.vector_imm(right, x, 32), self.vector_imm(right, y, 32));
        let odd = self.vector2(table::MUL_WIDE, x, Src::Reg(y));
        let high = self.constant_source(Elem::I64, 0xffff_ffff_0000_0000);
        let odd = self.vector2(table::AND_DOUBLE, odd, high);
        self.vector2(table::OR_DOUBLE, even, Src::Reg(odd))
    }

    /// Products of doubles for AVX2, from products of words.
    fn mul_doubles(&mut self, x: VReg, y: VReg) -> VReg {
        let right = table::shift(Shift::Logical, Elem::I64);
        let low = self.vector2(table::MUL_WIDE, x, Src::Reg(y));
        let (x_high, y_high) = (self.vector_imm(right, x, 32), self.vector_imm(right, y, 32));
        let first = self.vector2(table::MUL_WIDE, x_high, Src::Reg(y));
        let second = self.vector2(table::MUL_WIDE, x, Src::Reg(y_high));
        let cross = self.vector2(table::ADD_DOUBLE, first, Src::Reg(second));
        let cross = self.vector_imm(table::shift(Shift::Left, Elem::I64), cross, 32);
        self.vector2(table::ADD_DOUBLE, low, Src::Reg(cross))
    }

    // ---- comparisons and choices

    pub(super) fn compare(&mut self, compare: Compare, elem: Elem, x: Parts, y: Operand) -> Parts {
        if elem.is_float() {
            return self.compare_float(compare, elem, x, y);
        }
        if x.lanes == 1 {
            let y = self.in_registers(elem, y).single();
            return Parts::one(self.compare_int(compare, elem, x.single(), y));
        }
        if elem == Elem::Bool {
            let y = self.in_registers(elem, y);
            return self.mask_compare(compare, x, y);
        }
        match self.wide {
            Wide::V4 => {
                let code = table::compare_ints(elem);
                let imm = match compare {
                    Compare::Eq => 0,
                    Compare::Ne => 4,
                    Compare::Lt => 1,
                    Compare::Le => 2,
                    Compare::Gt => 6,
                    Compare::Ge => 5,
                };
                let pairs = x.as_slice().iter().zip(y.sources);
                let masks: Vec<VReg> = pairs
                    .map(|(x, y)| self.asm.inst(code).def(View::K).reg(*x, View::Zmm).src(y, View::Zmm).imm8(imm).end())
                    .collect();
                self.mask_of(x.lanes, &masks)
            }
            Wide::V3 => {
                let y = self.in_registers(elem, y);
                self.compare_old(compare, elem, x, y)
            }
        }
    }

    /// AVX2 knows equal and above, signed.
    fn compare_old(&mut self, compare: Compare, elem: Elem, x: Parts, y: Parts) -> Parts {
        let equal = sized(elem, [Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256; 2], [Code::VEX_Vpcmpeqq_ymm_ymm_ymmm256; 2]);
        let above = sized(elem, [Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256; 2], [Code::VEX_Vpcmpgtq_ymm_ymm_ymmm256; 2]);
        let (x, y) = if elem == Elem::U32 {
            let sign = self.constant_source(elem, 1 << 31);
            let flip = |emitter: &mut Self, z: Parts| emitter.each(z, &mut |emitter, z| emitter.vector2(table::XOR, z, sign));
            (flip(self, x), flip(self, y))
        } else {
            (x, y)
        };
        let (codes, x, y, inverted) = match compare {
            Compare::Eq => (equal, x, y, false),
            Compare::Ne => (equal, x, y, true),
            Compare::Gt => (above, x, y, false),
            Compare::Le => (above, x, y, true),
            Compare::Lt => (above, y, x, false),
            Compare::Ge => (above, y, x, true),
        };
        let masks = self.each2(x, Operand::from(y), &mut |emitter, x, y| emitter.vector2(codes, x, y));
        let mask = self.mask_of(x.lanes, masks.as_slice());
        if inverted { self.mask_not(mask) } else { mask }
    }

    pub(super) fn select(&mut self, mask: Parts, elem: Elem, x: Parts, y: Parts) -> Parts {
        if elem.is_float() {
            return self.blend(mask, elem, x, y);
        }
        if x.lanes == 1 {
            return Parts::one(self.select_int(mask.single(), elem, x.single(), y.single()));
        }
        if elem != Elem::Bool {
            return self.blend(mask, elem, x, y);
        }
        let chosen = self.mask_binary(Binary::And, mask, x);
        let other = self.mask_and_not(mask, y);
        self.mask_binary(Binary::Or, chosen, other)
    }

    fn bitcast(&mut self, x: Parts, from: Elem, to: Elem) -> Parts {
        if x.lanes > 1 || from.is_float() == to.is_float() {
            return x;
        }
        let reg = x.single();
        Parts::one(if from.is_float() { self.general_of(from, reg) } else { self.splat_general(to, reg) })
    }
}
