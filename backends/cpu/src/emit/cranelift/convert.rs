//! Conversions: between element types, of masks between register sizes, and of 16-bit floats.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};

use graver_ir::DType;

use super::{Emitter, Parts, register};
use crate::vector::{Binary, Compare, Elem};

impl Emitter<'_, '_> {
    pub(super) fn cast(&mut self, x: Parts, from: Elem, to: Elem) -> Parts {
        match (from, to) {
            (_, Elem::Bool) => {
                let zero = self.constant_in(from, x.lanes, 0);
                let zero = Parts { values: [zero; 2], ..x };
                self.compare(Compare::Ne, from, x, zero)
            }
            (Elem::I32, Elem::U32) | (Elem::U32, Elem::I32) | (Elem::U8, Elem::I32 | Elem::U32) => x,
            (Elem::I32 | Elem::U32, Elem::U8) => {
                let mask = self.constant_in(Elem::U8, x.lanes, 0xff);
                let mask = Parts { values: [mask; 2], ..x };
                self.binary(Binary::And, Elem::U32, x, mask)
            }
            _ if x.lanes > 1 => self.cast_vector(x, from, to),
            _ => Parts::one(self.cast_one(x.single(), from, to)),
        }
    }

    /// Conversions that are a few vector instructions; the others go lane by lane.
    fn cast_vector(&mut self, x: Parts, from: Elem, to: Elem) -> Parts {
        let single = x.single();
        match (from, to) {
            (Elem::F32, Elem::I32) => Parts::vector(self.b.ins().fcvt_to_sint_sat(types::I32X4, single)),
            (Elem::F32, Elem::U32) => Parts::vector(self.b.ins().fcvt_to_uint_sat(types::I32X4, single)),
            (Elem::I32 | Elem::U8, Elem::F32) => Parts::vector(self.b.ins().fcvt_from_sint(types::F32X4, single)),
            (Elem::U32, Elem::F32) => Parts::vector(self.b.ins().fcvt_from_uint(types::F32X4, single)),
            (Elem::F32, Elem::F64) => {
                let low = self.b.ins().fvpromote_low(single);
                let high = self.high_half(single);
                Parts::pair(low, self.b.ins().fvpromote_low(high))
            }
            (Elem::F64, Elem::F32) => {
                let (low, high) = (self.b.ins().fvdemote(x.values[0]), self.b.ins().fvdemote(x.values[1]));
                Parts::vector(self.join_low(low, high, Elem::F32))
            }
            (Elem::I32 | Elem::U8, Elem::F64) => {
                let (low, high) = (self.b.ins().swiden_low(single), self.high_half(single));
                let high = self.b.ins().swiden_low(high);
                let low = self.b.ins().fcvt_from_sint(types::F64X2, low);
                Parts::pair(low, self.b.ins().fcvt_from_sint(types::F64X2, high))
            }
            (Elem::I32, Elem::I64) => {
                let low = self.b.ins().swiden_low(single);
                Parts::pair(low, self.b.ins().swiden_high(single))
            }
            (Elem::U32 | Elem::U8, Elem::I64) => {
                let low = self.b.ins().uwiden_low(single);
                Parts::pair(low, self.b.ins().uwiden_high(single))
            }
            (Elem::I64, Elem::I32 | Elem::U32) => Parts::vector(self.even_words(x)),
            (Elem::Bool, _) => {
                let one = self.constant_in(Elem::I32, x.lanes, 1);
                let number = self.b.ins().band(single, one);
                self.cast(Parts::vector(number), Elem::I32, to)
            }
            _ => self.by_lane(&[(x, from)], to, &mut |emitter, part| emitter.cast_one(part[0], from, to)),
        }
    }

    fn cast_one(&mut self, x: Value, from: Elem, to: Elem) -> Value {
        let signed = matches!(from, Elem::I64 | Elem::I32);
        match (from, to) {
            _ if from == to => x,
            (Elem::F32, Elem::F64) => self.b.ins().fpromote(types::F64, x),
            (Elem::F64, Elem::F32) => self.b.ins().fdemote(types::F32, x),
            (Elem::F32 | Elem::F64, Elem::I64 | Elem::I32) => self.b.ins().fcvt_to_sint_sat(register(to, 1), x),
            (Elem::F32 | Elem::F64, Elem::U32) => self.b.ins().fcvt_to_uint_sat(types::I32, x),
            (Elem::F32 | Elem::F64, Elem::U8) => {
                let wide = self.b.ins().fcvt_to_uint_sat(types::I32, x);
                let most = self.b.ins().iconst(types::I32, 255);
                self.b.ins().umin(wide, most)
            }
            (_, Elem::F32 | Elem::F64) => {
                let wide = self.widened(x, from);
                self.b.ins().fcvt_from_sint(register(to, 1), wide)
            }
            (_, Elem::I64) => self.widened(x, from),
            (Elem::I64, Elem::I32 | Elem::U32) => self.b.ins().ireduce(types::I32, x),
            (Elem::I64, Elem::U8) => {
                let low = self.b.ins().ireduce(types::I32, x);
                self.b.ins().band_imm_u(low, 0xff)
            }
            (Elem::Bool, _) => self.b.ins().uextend(types::I32, x),
            (_, Elem::Bool) if from.is_float() => {
                let zero = self.constant(from, 0);
                self.b.ins().fcmp(FloatCC::NotEqual, x, zero)
            }
            (_, Elem::Bool) => self.b.ins().icmp_imm_s(IntCC::NotEqual, x, 0),
            (_, _) => {
                assert!(!signed || to != Elem::U8, "i32 to u8 is a mask");
                x
            }
        }
    }

    /// An integer of one lane in 64 bits.
    fn widened(&mut self, x: Value, from: Elem) -> Value {
        match from {
            Elem::I64 => x,
            Elem::I32 => self.b.ins().sextend(types::I64, x),
            Elem::U32 | Elem::U8 | Elem::Bool => self.b.ins().uextend(types::I64, x),
            Elem::F64 | Elem::F32 => unreachable!("an integer"),
        }
    }

    /// The upper two 32-bit lanes as the lower two.
    fn high_half(&mut self, x: Value) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let bytes = self.bits(x, types::I8X16);
        let swapped = self.shuffle(bytes, bytes, [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);
        self.bits(swapped, ty)
    }

    /// The lower two 32-bit lanes of each.
    fn join_low(&mut self, low: Value, high: Value, elem: Elem) -> Value {
        let (low, high) = (self.bits(low, types::I8X16), self.bits(high, types::I8X16));
        let joined = self.shuffle(low, high, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
        self.bits(joined, register(elem, super::LANES))
    }

    /// The low words of four 64-bit lanes.
    fn even_words(&mut self, x: Parts) -> Value {
        let (low, high) = (self.bits(x.values[0], types::I8X16), self.bits(x.values[1], types::I8X16));
        let joined = self.shuffle(low, high, [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27]);
        self.bits(joined, types::I32X4)
    }

    /// The high words of the products of four words.
    pub(super) fn mul_high(&mut self, x: Value, y: Value) -> Value {
        let (x_low, y_low) = (self.b.ins().uwiden_low(x), self.b.ins().uwiden_low(y));
        let (x_high, y_high) = (self.b.ins().uwiden_high(x), self.b.ins().uwiden_high(y));
        let (low, high) = (self.b.ins().imul(x_low, y_low), self.b.ins().imul(x_high, y_high));
        let (low, high) = (self.bits(low, types::I8X16), self.bits(high, types::I8X16));
        let joined = self.shuffle(low, high, [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31]);
        self.bits(joined, types::I32X4)
    }

    /// An `f32` rounded to a 16-bit float.
    pub(super) fn rounded(&mut self, x: Value, dtype: DType) -> Value {
        match dtype {
            DType::F16 => {
                let bits = self.rounded_f16(x);
                self.widened_f16(bits)
            }
            DType::BF16 => {
                let bits = self.rounded_bf16(x);
                self.widened_bf16(bits)
            }
            DType::F64 | DType::F32 | DType::Bool => x,
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => x,
        }
    }

    pub(super) fn shuffle(&mut self, x: Value, y: Value, bytes: [u8; 16]) -> Value {
        let mask = self.b.func.dfg.immediates.push(bytes.to_vec().into());
        self.b.ins().shuffle(x, y, mask)
    }

    /// A mask of two registers of 64-bit lanes as one of 32-bit lanes.
    pub(super) fn narrow_mask(&mut self, mask: Parts) -> Parts {
        Parts::vector(self.even_words(mask))
    }

    /// A mask of 32-bit lanes as two registers of 64-bit lanes.
    pub(super) fn widen_mask(&mut self, mask: Parts) -> Parts {
        let low = self.b.ins().swiden_low(mask.single());
        Parts::pair(low, self.b.ins().swiden_high(mask.single()))
    }

    // ---- 16-bit floats, in 32-bit integer lanes

    /// `f32` of the bits of a bfloat16.
    pub(super) fn widened_bf16(&mut self, bits: Value) -> Value {
        let shifted = self.shifted_left(bits, 16);
        self.as_float(shifted)
    }

    /// `f32` of the bits of a binary16. No operand is a denormal `f32`, which arithmetic may take for 0 ([`crate::Denormals`]).
    pub(super) fn widened_f16(&mut self, bits: Value) -> Value {
        let magnitude = self.masked(bits, 0x7fff);
        let sign = self.masked(bits, 0x8000);
        let sign = self.shifted_left(sign, 16);
        let shifted = self.shifted_left(magnitude, 13);
        // Normal: rebias the exponent.
        let rebias = self.word(bits, 112 << 23);
        let normal = self.b.ins().iadd(shifted, rebias);
        // Denormal: behind the exponent of 2^-14, the mantissa is too large by 2^-14.
        let least_normal = self.word(bits, 113 << 23);
        let beyond = self.b.ins().bor(shifted, least_normal);
        let [beyond, least_normal] = [beyond, least_normal].map(|word| self.as_float(word));
        let denormal = self.b.ins().fsub(beyond, least_normal);
        let denormal = self.as_int(denormal);
        let infinite = self.word(bits, 0x7f80_0000);
        let special = self.b.ins().bor(shifted, infinite);
        let (limit, least) = (self.word(bits, 0x7c00), self.word(bits, 0x0400));
        let is_special = self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, magnitude, limit);
        let is_denormal = self.b.ins().icmp(IntCC::UnsignedLessThan, magnitude, least);
        let finite = self.choose(is_denormal, denormal, normal);
        let chosen = self.choose(is_special, special, finite);
        let signed = self.b.ins().bor(chosen, sign);
        self.as_float(signed)
    }

    /// The bits of the nearest bfloat16, ties to even.
    pub(super) fn rounded_bf16(&mut self, float: Value) -> Value {
        let bits = self.as_int(float);
        let high = self.shifted_right(bits, 16);
        let odd = self.masked(high, 1);
        let half = self.word(bits, 0x7fff);
        let bias = self.b.ins().iadd(odd, half);
        let rounded = self.b.ins().iadd(bits, bias);
        let rounded = self.shifted_right(rounded, 16);
        let quiet = self.word(bits, 0x40);
        let nan = self.b.ins().bor(high, quiet);
        let is_nan = self.is_nan(bits);
        self.choose(is_nan, nan, rounded)
    }

    /// The bits of the nearest binary16, ties to even; too large is infinite.
    pub(super) fn rounded_f16(&mut self, float: Value) -> Value {
        let bits = self.as_int(float);
        let magnitude = self.masked(bits, 0x7fff_ffff);
        let sign = self.shifted_right(bits, 16);
        let sign = self.masked(sign, 0x8000);
        // Normal: rebias the exponent and round the 13 bits that go.
        let low = self.shifted_right(magnitude, 13);
        let odd = self.masked(low, 1);
        let rebias = self.word(bits, 0xc800_0fff);
        let biased = self.b.ins().iadd(magnitude, rebias);
        let biased = self.b.ins().iadd(biased, odd);
        let normal = self.shifted_right(biased, 13);
        // Denormal: adding 0.5 leaves the rounded mantissa in the low bits.
        let half = self.constant_in(Elem::F32, self.width_of(bits), u64::from(0.5f32.to_bits()));
        let absolute = self.as_float(magnitude);
        let sum = self.b.ins().fadd(absolute, half);
        let sum = self.as_int(sum);
        let half = self.as_int(half);
        let denormal = self.b.ins().isub(sum, half);
        let least_normal = self.word(bits, 0x3880_0000);
        let is_denormal = self.b.ins().icmp(IntCC::UnsignedLessThan, magnitude, least_normal);
        let finite = self.choose(is_denormal, denormal, normal);
        let (limit, infinity) = (self.word(bits, 0x4780_0000), self.word(bits, 0x7c00));
        let is_large = self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, magnitude, limit);
        let number = self.choose(is_large, infinity, finite);
        let nan = self.word(bits, 0x7e00);
        let is_nan = self.is_nan(bits);
        let result = self.choose(is_nan, nan, number);
        self.b.ins().bor(result, sign)
    }

    /// `x * 2^y` by two powers, whose exponents are halves of `y`.
    pub(super) fn scaled(&mut self, x: Value, y: Value) -> Value {
        // Adding 1.5 * 2^23 leaves the whole number in the low bits.
        let magic = self.constant_in(Elem::F32, self.width_of(y), u64::from(12_582_912f32.to_bits()));
        let shifted = self.b.ins().fadd(y, magic);
        let (bits, magic) = (self.as_int(shifted), self.as_int(magic));
        let whole = self.b.ins().isub(bits, magic);
        let one = self.b.ins().iconst(types::I32, 1);
        let first = self.b.ins().sshr(whole, one);
        let second = self.b.ins().isub(whole, first);
        let bias = self.word(whole, 127);
        [first, second].into_iter().fold(x, |x, exponent| {
            let field = self.b.ins().iadd(exponent, bias);
            let power = self.shifted_left(field, 23);
            let power = self.as_float(power);
            self.b.ins().fmul(x, power)
        })
    }

    /// Whether the bits of an `f32` are a NaN.
    fn is_nan(&mut self, bits: Value) -> Value {
        let magnitude = self.masked(bits, 0x7fff_ffff);
        let infinity = self.word(bits, 0x7f80_0000);
        self.b.ins().icmp(IntCC::UnsignedGreaterThan, magnitude, infinity)
    }

    fn width_of(&self, value: Value) -> usize {
        if self.b.func.dfg.value_type(value).is_vector() { super::LANES } else { 1 }
    }

    fn word(&mut self, like: Value, word: u32) -> Value {
        self.constant_in(Elem::U32, self.width_of(like), u64::from(word))
    }

    fn masked(&mut self, bits: Value, mask: u32) -> Value {
        let mask = self.word(bits, mask);
        self.b.ins().band(bits, mask)
    }

    fn shifted_left(&mut self, bits: Value, amount: i64) -> Value {
        let amount = self.b.ins().iconst(types::I32, amount);
        self.b.ins().ishl(bits, amount)
    }

    fn shifted_right(&mut self, bits: Value, amount: i64) -> Value {
        let amount = self.b.ins().iconst(types::I32, amount);
        self.b.ins().ushr(bits, amount)
    }

    fn choose(&mut self, mask: Value, x: Value, y: Value) -> Value {
        if self.width_of(x) == 1 { self.b.ins().select(mask, x, y) } else { self.b.ins().bitselect(mask, x, y) }
    }

    fn as_float(&mut self, bits: Value) -> Value {
        let ty = register(Elem::F32, self.width_of(bits));
        self.bits(bits, ty)
    }

    fn as_int(&mut self, float: Value) -> Value {
        let ty = register(Elem::I32, self.width_of(float));
        self.bits(float, ty)
    }
}
