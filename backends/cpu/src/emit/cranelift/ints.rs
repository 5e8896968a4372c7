//! Arithmetic of integers that is not one instruction on any register.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, InstructionData, Value, types};

use super::{Emitter, register};
use crate::vector::{Binary, Elem};

impl Emitter<'_, '_> {
    /// A product; of an index by a power of two as a shift, which addresses absorb.
    pub(super) fn times(&mut self, elem: Elem, x: Value, y: Value) -> Value {
        if elem == Elem::I64 && self.b.func.dfg.value_type(x) == types::I64 {
            for (factor, other) in [(x, y), (y, x)] {
                if let Some(power) = self.known_int(factor).filter(|known| known.count_ones() == 1 && *known > 0) {
                    return self.b.ins().ishl_imm_u(other, i64::from(power.trailing_zeros()));
                }
            }
        }
        self.b.ins().imul(x, y)
    }

    fn known_int(&self, value: Value) -> Option<i64> {
        let inst = self.b.func.dfg.value_def(value).inst()?;
        let InstructionData::UnaryImm { imm, .. } = self.b.func.dfg.insts[inst] else { return None };
        Some(imm.bits())
    }

    /// What is done on one lane of integers.
    pub(super) fn lane(&mut self, op: Binary, elem: Elem, x: Value, y: Value) -> Value {
        let signed = matches!(elem, Elem::I64 | Elem::I32);
        match op {
            Binary::Div | Binary::Rem => self.divide(op, signed, x, y),
            Binary::MulHigh => {
                let (x, y) = (self.b.ins().uextend(types::I64, x), self.b.ins().uextend(types::I64, y));
                let product = self.b.ins().imul(x, y);
                let high = self.b.ins().ushr_imm_u(product, 32);
                self.b.ins().ireduce(types::I32, high)
            }
            Binary::Shl | Binary::Shr => {
                let width: i64 = match elem {
                    Elem::F64 | Elem::I64 => 64,
                    Elem::F32 | Elem::I32 | Elem::U32 => 32,
                    Elem::U8 | Elem::Bool => 8,
                };
                let below = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, y, width);
                let zero = self.b.ins().iconst(register(elem, 1), 0);
                if op == Binary::Shl {
                    let shifted = self.b.ins().ishl(x, y);
                    let shifted = self.wrap(elem, shifted);
                    return self.b.ins().select(below, shifted, zero);
                }
                if !signed {
                    let shifted = self.b.ins().ushr(x, y);
                    return self.b.ins().select(below, shifted, zero);
                }
                let most = self.b.ins().iconst(register(elem, 1), width - 1);
                let amount = self.b.ins().select(below, y, most);
                self.b.ins().sshr(x, amount)
            }
            Binary::Add
            | Binary::Sub
            | Binary::Mul
            | Binary::Min
            | Binary::Max
            | Binary::MinFast
            | Binary::MaxFast
            | Binary::And
            | Binary::Or
            | Binary::Xor
            | Binary::Scale => unreachable!("done on whole registers"),
        }
    }

    /// 0 where the divisor is; the least by -1 wraps: neither reaches the machine's division.
    fn divide(&mut self, op: Binary, signed: bool, x: Value, y: Value) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        if signed && op == Binary::Div && self.known_int(y).is_some_and(|known| known > 0) {
            return self.b.ins().sdiv(x, y);
        }
        let zero = self.b.ins().iconst(ty, 0);
        let one = self.b.ins().iconst(ty, 1);
        let by_zero = self.b.ins().icmp(IntCC::Equal, y, zero);
        let mut unsafe_divisor = by_zero;
        let mut minus = None;
        if signed {
            let by_minus = self.b.ins().icmp_imm_s(IntCC::Equal, y, -1);
            unsafe_divisor = self.b.ins().bor(by_zero, by_minus);
            minus = Some(by_minus);
        }
        let divisor = self.b.ins().select(unsafe_divisor, one, y);
        let (quotient, negated) = match (op, signed) {
            (Binary::Div, true) => (self.b.ins().sdiv(x, divisor), self.b.ins().ineg(x)),
            (Binary::Div, false) => (self.b.ins().udiv(x, divisor), zero),
            (_, true) => (self.b.ins().srem(x, divisor), zero),
            (_, false) => (self.b.ins().urem(x, divisor), zero),
        };
        let quotient = minus.map_or(quotient, |minus| self.b.ins().select(minus, negated, quotient));
        self.b.ins().select(by_zero, zero, quotient)
    }
}
