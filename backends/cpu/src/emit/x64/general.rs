//! Integers, addresses and truth values of one element, in general registers.

use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::inst::Kind;
use super::operand::{Cond, View};
use super::{Emitter, End, alloc};
use crate::vector::{Binary, Compare, Elem, Shift, Unary};

/// How an element's general register is named.
pub(super) const fn view(elem: Elem) -> View {
    match elem {
        Elem::I64 | Elem::F64 => View::R64,
        Elem::I32 | Elem::U32 | Elem::U8 | Elem::Bool | Elem::F32 => View::R32,
    }
}

const fn is_signed(elem: Elem) -> bool {
    matches!(elem, Elem::I64 | Elem::I32)
}

/// The instruction on 64 bits or on 32.
const fn sized(view: View, codes: [Code; 2]) -> Code {
    match view {
        View::R64 => codes[0],
        View::R32 | View::R16 | View::R8 | View::Xmm | View::Ymm | View::Zmm | View::K => codes[1],
    }
}

impl Emitter<'_> {
    /// An integer in a register.
    pub(super) fn int(&mut self, value: i64) -> VReg {
        let (code, kind, view) = if u32::try_from(value).is_ok() {
            (Code::Mov_r32_imm32, OpKind::Immediate32, View::R32)
        } else if i32::try_from(value).is_ok() {
            (Code::Mov_rm64_imm32, OpKind::Immediate32to64, View::R64)
        } else {
            (Code::Mov_r64_imm64, OpKind::Immediate64, View::R64)
        };
        self.asm.inst(code).def(view).imm(kind, value).end()
    }

    /// `op register, register`, the first of which is destroyed.
    fn two(&mut self, code: Code, view: View, x: VReg, y: VReg) -> VReg {
        self.asm.inst(code).modify(x, view).reg(y, view).end()
    }

    fn with_imm(&mut self, codes: [Code; 2], view: View, x: VReg, value: i32) -> VReg {
        let kind = if view == View::R64 { OpKind::Immediate32to64 } else { OpKind::Immediate32 };
        self.asm.inst(sized(view, codes)).modify(x, view).imm(kind, i64::from(value)).end()
    }

    fn shifted(&mut self, codes: [Code; 2], view: View, x: VReg, amount: u8) -> VReg {
        self.asm.inst(sized(view, codes)).modify(x, view).imm8(amount).end()
    }

    pub(super) fn add_imm(&mut self, x: VReg, value: i64) -> VReg {
        match i32::try_from(value) {
            Ok(value) => self.with_imm([Code::Add_rm64_imm32, Code::Add_rm32_imm32], View::R64, x, value),
            Err(_) => {
                let value = self.int(value);
                self.two(Code::Add_r64_rm64, View::R64, x, value)
            }
        }
    }

    pub(super) fn and_imm(&mut self, view: View, x: VReg, value: i32) -> VReg {
        self.with_imm([Code::And_rm64_imm32, Code::And_rm32_imm32], view, x, value)
    }

    /// The flags of a 32-bit register: equal if it is 0.
    pub(super) fn test(&mut self, x: VReg) {
        self.asm.inst(Code::Test_rm32_r32).reg(x, View::R32).reg(x, View::R32).done();
    }

    pub(super) fn test_wide(&mut self, x: VReg) {
        self.asm.inst(Code::Test_rm64_r64).reg(x, View::R64).reg(x, View::R64).done();
    }

    pub(super) fn compare_regs(&mut self, view: View, x: VReg, y: VReg) {
        let code = sized(view, [Code::Cmp_r64_rm64, Code::Cmp_r32_rm32]);
        self.asm.inst(code).reg(x, view).reg(y, view).done();
    }

    pub(super) fn compare_imm(&mut self, view: View, x: VReg, value: i32) {
        let kind = if view == View::R64 { OpKind::Immediate32to64 } else { OpKind::Immediate32 };
        let code = sized(view, [Code::Cmp_rm64_imm32, Code::Cmp_rm32_imm32]);
        self.asm.inst(code).reg(x, view).imm(kind, i64::from(value)).done();
    }

    /// The flags of a counter against where its loop ends.
    pub(super) fn compare_end(&mut self, var: VReg, end: End) {
        let known = match end {
            End::Value(value) => self.facts.int(value),
            End::Known(known) => Some(known),
            End::Reg(_) => None,
        };
        match (known.map(i32::try_from), end) {
            (Some(Ok(known)), _) => self.compare_imm(View::R64, var, known),
            (Some(Err(_)), End::Known(known)) => {
                let known = self.int(known);
                self.compare_regs(View::R64, var, known);
            }
            (_, End::Reg(end)) => self.compare_regs(View::R64, var, end),
            (_, End::Value(end)) => {
                let end = self.one(end);
                self.compare_regs(View::R64, var, end);
            }
            (None, End::Known(_)) => unreachable!("a known end is known"),
        }
    }

    /// 1 where the condition of the flags holds, else 0.
    pub(super) fn flag(&mut self, cond: Cond) -> VReg {
        let byte = self.asm.inst(set_code(cond)).def(View::R8).end();
        self.asm.inst(Code::Movzx_r32_rm8).def(View::R32).reg(byte, View::R8).end()
    }

    /// `x` where the condition of the flags holds, else `y`.
    pub(super) fn move_if(&mut self, cond: Cond, view: View, x: VReg, y: VReg) -> VReg {
        self.asm.inst(move_code(cond, view)).modify(y, view).reg(x, view).end()
    }

    // ---- operations

    pub(super) fn unary_int(&mut self, op: Unary, elem: Elem, x: VReg) -> VReg {
        let view = view(elem);
        match op {
            Unary::Neg => {
                let negated = self.negated(view, x);
                self.wrapped(elem, negated)
            }
            Unary::Abs if is_signed(elem) => {
                let negated = self.negated(view, x);
                let zero = self.int(0);
                self.compare_regs(view, x, zero);
                self.move_if(Cond::Less, view, negated, x)
            }
            Unary::Not if elem == Elem::Bool => self.with_imm([Code::Xor_rm64_imm32, Code::Xor_rm32_imm32], View::R32, x, 1),
            Unary::Not => {
                let inverted = self.asm.inst(sized(view, [Code::Not_rm64, Code::Not_rm32])).modify(x, view).end();
                self.wrapped(elem, inverted)
            }
            Unary::Abs | Unary::Sqrt | Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::Nearest => x,
        }
    }

    pub(super) fn negated(&mut self, view: View, x: VReg) -> VReg {
        self.asm.inst(sized(view, [Code::Neg_rm64, Code::Neg_rm32])).modify(x, view).end()
    }

    /// The low eight bits of a `u8`.
    fn wrapped(&mut self, elem: Elem, x: VReg) -> VReg {
        if elem == Elem::U8 { self.and_imm(View::R32, x, 0xff) } else { x }
    }

    pub(super) fn shift_int(&mut self, shift: Shift, elem: Elem, x: VReg, amount: u8) -> VReg {
        let view = view(elem);
        match shift {
            Shift::Left => {
                let shifted = self.shifted([Code::Shl_rm64_imm8, Code::Shl_rm32_imm8], view, x, amount);
                self.wrapped(elem, shifted)
            }
            Shift::Logical => self.shifted([Code::Shr_rm64_imm8, Code::Shr_rm32_imm8], view, x, amount),
            Shift::Arithmetic => self.shifted([Code::Sar_rm64_imm8, Code::Sar_rm32_imm8], view, x, amount),
        }
    }

    /// `known` is the second operand's value where it is a constant.
    pub(super) fn binary_int(&mut self, op: Binary, elem: Elem, x: VReg, y: VReg, known: Option<i64>) -> VReg {
        let view = view(elem);
        let two = |emitter: &mut Self, codes: [Code; 2]| {
            let result = emitter.two(sized(view, codes), view, x, y);
            emitter.wrapped(elem, result)
        };
        match op {
            Binary::Add => two(self, [Code::Add_r64_rm64, Code::Add_r32_rm32]),
            Binary::Sub => two(self, [Code::Sub_r64_rm64, Code::Sub_r32_rm32]),
            Binary::And => two(self, [Code::And_r64_rm64, Code::And_r32_rm32]),
            Binary::Or => two(self, [Code::Or_r64_rm64, Code::Or_r32_rm32]),
            Binary::Xor => two(self, [Code::Xor_r64_rm64, Code::Xor_r32_rm32]),
            Binary::Mul => two(self, [Code::Imul_r64_rm64, Code::Imul_r32_rm32]),
            Binary::Min | Binary::MinFast => self.extreme_int(Compare::Lt, elem, x, y),
            Binary::Max | Binary::MaxFast => self.extreme_int(Compare::Gt, elem, x, y),
            Binary::MulHigh => {
                let (x, y) = (self.widened(elem, x), self.widened(elem, y));
                let product = self.two(Code::Imul_r64_rm64, View::R64, x, y);
                self.shifted([Code::Shr_rm64_imm8, Code::Shr_rm32_imm8], View::R64, product, 32)
            }
            Binary::Shl | Binary::Shr => self.shift_by(op, elem, x, y),
            Binary::Div | Binary::Rem => self.divide(op, elem, x, y, known),
            Binary::Scale => unreachable!("V2: integers are not scaled"),
        }
    }

    /// An index and a constant, where an instruction holds the constant. A product by a power of two is a shift.
    pub(super) fn binary_imm(&mut self, op: Binary, x: VReg, known: i64) -> Option<VReg> {
        if op == Binary::Mul && known > 0 && known.count_ones() == 1 {
            let amount = u8::try_from(known.trailing_zeros()).expect("below 64");
            return Some(self.shift_int(Shift::Left, Elem::I64, x, amount));
        }
        let value = i32::try_from(known).ok().filter(|value| *value > i32::MIN)?;
        match op {
            Binary::Mul => {
                let product = self.asm.inst(Code::Imul_r64_rm64_imm32).def(View::R64).reg(x, View::R64);
                Some(product.imm(OpKind::Immediate32to64, known).end())
            }
            Binary::Add => Some(self.add_imm(x, known)),
            Binary::Sub => Some(self.add_imm(x, -known)),
            Binary::And => Some(self.and_imm(View::R64, x, value)),
            Binary::Div
            | Binary::Rem
            | Binary::Min
            | Binary::Max
            | Binary::MinFast
            | Binary::MaxFast
            | Binary::Or
            | Binary::Xor
            | Binary::Shl
            | Binary::Shr
            | Binary::MulHigh
            | Binary::Scale => None,
        }
    }

    fn extreme_int(&mut self, compare: Compare, elem: Elem, x: VReg, y: VReg) -> VReg {
        self.compare_regs(view(elem), x, y);
        self.move_if(condition(compare, elem), view(elem), x, y)
    }

    /// 0, or the sign's fill, where the amount is not below the width.
    fn shift_by(&mut self, op: Binary, elem: Elem, x: VReg, y: VReg) -> VReg {
        let view = view(elem);
        let width = match elem {
            Elem::F64 | Elem::I64 => 64,
            Elem::F32 | Elem::I32 | Elem::U32 => 32,
            Elem::U8 | Elem::Bool => 8,
        };
        if op == Binary::Shr && is_signed(elem) {
            let most = self.int(i64::from(width - 1));
            self.compare_imm(view, y, width);
            let amount = self.move_if(Cond::Below, view, y, most);
            let code = sized(view, [Code::VEX_Sarx_r64_rm64_r64, Code::VEX_Sarx_r32_rm32_r32]);
            return self.asm.inst(code).def(view).reg(x, view).reg(amount, view).end();
        }
        let codes = if op == Binary::Shl {
            [Code::VEX_Shlx_r64_rm64_r64, Code::VEX_Shlx_r32_rm32_r32]
        } else {
            [Code::VEX_Shrx_r64_rm64_r64, Code::VEX_Shrx_r32_rm32_r32]
        };
        let shifted = self.asm.inst(sized(view, codes)).def(view).reg(x, view).reg(y, view).end();
        let shifted = self.wrapped(elem, shifted);
        let zero = self.int(0);
        self.compare_imm(view, y, width);
        self.move_if(Cond::Below, view, shifted, zero)
    }

    /// 0 where the divisor is; the least by -1 wraps: neither reaches the machine's division.
    fn divide(&mut self, op: Binary, elem: Elem, x: VReg, y: VReg, known: Option<i64>) -> VReg {
        let (view, signed) = (view(elem), is_signed(elem));
        if known.is_some_and(|known| known > 0) {
            return self.divided(op, elem, x, y);
        }
        let (zero, one) = (self.int(0), self.int(1));
        self.compare_imm(view, y, 0);
        let divisor = self.move_if(Cond::Equal, view, one, y);
        if !signed {
            let result = self.divided(op, elem, x, divisor);
            self.compare_imm(view, y, 0);
            return self.move_if(Cond::Equal, view, zero, result);
        }
        self.compare_imm(view, y, -1);
        let divisor = self.move_if(Cond::Equal, view, one, divisor);
        let result = self.divided(op, elem, x, divisor);
        let by_minus = if op == Binary::Div { self.negated(view, x) } else { zero };
        self.compare_imm(view, y, -1);
        let result = self.move_if(Cond::Equal, view, by_minus, result);
        self.compare_imm(view, y, 0);
        self.move_if(Cond::Equal, view, zero, result)
    }

    fn divided(&mut self, op: Binary, elem: Elem, x: VReg, y: VReg) -> VReg {
        let kind = Kind::Divide { wide: view(elem) == View::R64, signed: is_signed(elem) };
        let (result, other) = if op == Binary::Div { (alloc::RAX, alloc::RDX) } else { (alloc::RDX, alloc::RAX) };
        let clobbers = regalloc2::PRegSet::empty().with(other);
        self.asm.build(kind).fixed_use(x, alloc::RAX).late_use(y).fixed_def(result).clobbers(clobbers).end()
    }

    pub(super) fn compare_int(&mut self, compare: Compare, elem: Elem, x: VReg, y: VReg) -> VReg {
        self.compare_regs(view(elem), x, y);
        self.flag(condition(compare, elem))
    }

    /// `x` where `mask` is 1, else `y`.
    pub(super) fn select_int(&mut self, mask: VReg, elem: Elem, x: VReg, y: VReg) -> VReg {
        self.test(mask);
        self.move_if(Cond::NotEqual, view(elem), x, y)
    }

    /// An integer in 64 bits.
    pub(super) fn widened(&mut self, elem: Elem, x: VReg) -> VReg {
        match elem {
            Elem::I32 => self.asm.inst(Code::Movsxd_r64_rm32).def(View::R64).reg(x, View::R32).end(),
            // Instructions on 32 bits clear the others, but moves between registers keep them.
            Elem::U32 | Elem::U8 | Elem::Bool => self.asm.inst(Code::Mov_r32_rm32).def(View::R32).reg(x, View::R32).end(),
            Elem::I64 | Elem::F64 | Elem::F32 => x,
        }
    }

    /// Between integers.
    pub(super) fn cast_int(&mut self, x: VReg, from: Elem, to: Elem) -> VReg {
        match (from, to) {
            (_, Elem::Bool) => {
                self.compare_imm(view(from), x, 0);
                self.flag(Cond::NotEqual)
            }
            (_, Elem::I64) => self.widened(from, x),
            (Elem::Bool, _) => x,
            (_, Elem::U8) => self.and_imm(View::R32, x, 0xff),
            (_, _) => x,
        }
    }
}

/// Truth values compare as unsigned: 1 is above 0.
fn condition(compare: Compare, elem: Elem) -> Cond {
    let signed = is_signed(elem);
    match compare {
        Compare::Eq => Cond::Equal,
        Compare::Ne => Cond::NotEqual,
        Compare::Lt if signed => Cond::Less,
        Compare::Le if signed => Cond::LessEqual,
        Compare::Gt if signed => Cond::Greater,
        Compare::Ge if signed => Cond::GreaterEqual,
        Compare::Lt => Cond::Below,
        Compare::Le => Cond::BelowEqual,
        Compare::Gt => Cond::Above,
        Compare::Ge => Cond::AboveEqual,
    }
}

fn set_code(cond: Cond) -> Code {
    match cond {
        Cond::Equal => Code::Sete_rm8,
        Cond::NotEqual => Code::Setne_rm8,
        Cond::Less => Code::Setl_rm8,
        Cond::LessEqual => Code::Setle_rm8,
        Cond::Greater => Code::Setg_rm8,
        Cond::GreaterEqual => Code::Setge_rm8,
        Cond::Below => Code::Setb_rm8,
        Cond::BelowEqual => Code::Setbe_rm8,
        Cond::Above => Code::Seta_rm8,
        Cond::AboveEqual => Code::Setae_rm8,
    }
}

fn move_code(cond: Cond, view: View) -> Code {
    let codes = match cond {
        Cond::Equal => [Code::Cmove_r64_rm64, Code::Cmove_r32_rm32],
        Cond::NotEqual => [Code::Cmovne_r64_rm64, Code::Cmovne_r32_rm32],
        Cond::Less => [Code::Cmovl_r64_rm64, Code::Cmovl_r32_rm32],
        Cond::LessEqual => [Code::Cmovle_r64_rm64, Code::Cmovle_r32_rm32],
        Cond::Greater => [Code::Cmovg_r64_rm64, Code::Cmovg_r32_rm32],
        Cond::GreaterEqual => [Code::Cmovge_r64_rm64, Code::Cmovge_r32_rm32],
        Cond::Below => [Code::Cmovb_r64_rm64, Code::Cmovb_r32_rm32],
        Cond::BelowEqual => [Code::Cmovbe_r64_rm64, Code::Cmovbe_r32_rm32],
        Cond::Above => [Code::Cmova_r64_rm64, Code::Cmova_r32_rm32],
        Cond::AboveEqual => [Code::Cmovae_r64_rm64, Code::Cmovae_r32_rm32],
    };
    sized(view, codes)
}
