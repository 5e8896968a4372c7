//! Conversions between element types, and of 16-bit floats.

use graver_ir::DType;
use iced_x86::Code;
use regalloc2::VReg;

use super::floats::Operand;
use super::operand::{Src, View};
use super::table::{self, is_double, sized};
use super::{Emitter, Parts, Wide};
use crate::vector::{Binary, Compare, Elem, Shift, Unary};

/// `2^31`, `2^32` and `2^63`.
const POWER_31: f64 = 2_147_483_648.0;
const POWER_32: f64 = 4_294_967_296.0;
const POWER_63: f64 = 9_223_372_036_854_775_808.0;

impl Emitter<'_> {
    pub(super) fn cast(&mut self, x: Parts, from: Elem, to: Elem) -> Parts {
        match (from.is_float(), to.is_float()) {
            _ if from == to => x,
            _ if to == Elem::Bool => {
                let zero = self.constant(from, 0, x.lanes);
                self.compare(Compare::Ne, from, x, Operand::from(zero))
            }
            (false, false) if x.lanes == 1 => Parts::one(self.cast_int(x.single(), from, to)),
            (_, _) if from == Elem::Bool && x.lanes > 1 => {
                let ones = self.mask_ones(x.single());
                self.cast(Parts::of(x.lanes, &[ones]), Elem::I32, to)
            }
            (false, false) => self.between_ints(x, from, to),
            (true, true) => self.between_floats(x, to),
            (false, true) => self.float_of_ints(x, from, to),
            (true, false) => self.ints_of_float(x, from, to),
        }
    }

    // ---- integers

    fn between_ints(&mut self, x: Parts, from: Elem, to: Elem) -> Parts {
        match (from, to) {
            (Elem::I64, _) => {
                let words = match self.wide {
                    Wide::V3 => self.even_words(x.regs[0], x.regs[1]),
                    Wide::V4 => {
                        let [low, high] = x.regs.map(|doubles| {
                            let narrow = self.asm.inst(Code::EVEX_Vpmovqd_ymmm256_k1z_zmm).def(View::Ymm);
                            narrow.reg(doubles, View::Zmm).end()
                        });
                        self.join_halves(low, high)
                    }
                };
                self.cast(Parts::of(x.lanes, &[words]), Elem::U32, to)
            }
            (_, Elem::I64) => {
                let codes = if from == Elem::I32 {
                    [Code::VEX_Vpmovsxdq_ymm_xmmm128, Code::EVEX_Vpmovsxdq_zmm_k1z_ymmm256]
                } else {
                    [Code::VEX_Vpmovzxdq_ymm_xmmm128, Code::EVEX_Vpmovzxdq_zmm_k1z_ymmm256]
                };
                self.doubled(codes, x)
            }
            (_, Elem::U8) => {
                let low = self.constant_source(Elem::U8, 0xff);
                self.each(x, &mut |emitter, x| emitter.vector2(table::AND, x, low))
            }
            (_, _) => x,
        }
    }

    /// Two registers from the halves of one; of one element, one.
    fn doubled(&mut self, codes: table::Codes, x: Parts) -> Parts {
        let (code, view, half) = (self.wide.of(codes), self.wide.view(), self.wide.half());
        let low = self.asm.inst(code).def(view).reg(x.single(), half).end();
        if x.lanes == 1 {
            return Parts::one(low);
        }
        let upper = self.upper_half(x.single());
        let high = self.asm.inst(code).def(view).reg(upper, half).end();
        Parts::of(x.lanes, &[low, high])
    }

    /// One register from two; of one element, from one, in every lane.
    fn halved(&mut self, codes: table::Codes, x: Parts) -> Parts {
        let (code, view, half) = (self.wide.of(codes), self.wide.view(), self.wide.half());
        let regs: Vec<VReg> = x.as_slice().iter().map(|reg| self.asm.inst(code).def(half).reg(*reg, view).end()).collect();
        match regs.as_slice() {
            [low, high] => Parts::of(x.lanes, &[self.join_halves(*low, *high)]),
            [single] => Parts::one(self.spread(Elem::F32, *single)),
            _ => unreachable!("a value has one or two registers"),
        }
    }

    // ---- floats

    fn between_floats(&mut self, x: Parts, to: Elem) -> Parts {
        if to == Elem::F64 {
            return self.doubled([Code::VEX_Vcvtps2pd_ymm_xmmm128, Code::EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae], x);
        }
        self.halved([Code::VEX_Vcvtpd2ps_xmm_ymmm256, Code::EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er], x)
    }

    fn float_of_ints(&mut self, x: Parts, from: Elem, to: Elem) -> Parts {
        if x.lanes == 1 {
            let wide = self.widened(from, x.single());
            return Parts::one(self.float_of_int(wide, to));
        }
        match (from, to, self.wide) {
            (Elem::I64, Elem::F64, Wide::V4) => {
                self.each(x, &mut |emitter, x| emitter.vector1([Code::EVEX_Vcvtqq2pd_zmm_k1z_zmmm512b64_er; 2], Src::Reg(x)))
            }
            (Elem::I64, _, Wide::V4) => self.halved([Code::EVEX_Vcvtqq2ps_ymm_k1z_zmmm512b64_er; 2], x),
            (Elem::I64, _, Wide::V3) => {
                self.by_lane(&[(x, from)], to, &mut |emitter, lane| Parts::one(emitter.float_of_int(lane[0].single(), to)))
            }
            (Elem::U32, Elem::F32, Wide::V4) => {
                self.each(x, &mut |emitter, x| emitter.vector1([Code::EVEX_Vcvtudq2ps_zmm_k1z_zmmm512b32_er; 2], Src::Reg(x)))
            }
            (Elem::U32, Elem::F32, Wide::V3) => self.each(x, &mut |emitter, x| emitter.float_of_u32(x)),
            (Elem::U32, _, Wide::V4) => self.doubled([Code::EVEX_Vcvtudq2pd_zmm_k1z_ymmm256b32_er; 2], x),
            (Elem::U32, _, Wide::V3) => {
                // Moved down to signed integers, and the floats back.
                let sign = self.constant_source(Elem::U32, 1 << 31);
                let flipped = self.each(x, &mut |emitter, x| emitter.vector2(table::XOR, x, sign));
                let moved = self.float_of_ints(flipped, Elem::I32, to);
                let power = self.constant(Elem::F64, POWER_31.to_bits(), x.lanes);
                self.binary(Binary::Add, Elem::F64, moved, Operand::from(power))
            }
            (_, Elem::F32, _) => self.each(x, &mut |emitter, x| {
                emitter.vector1([Code::VEX_Vcvtdq2ps_ymm_ymmm256, Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er], Src::Reg(x))
            }),
            (_, _, _) => self.doubled([Code::VEX_Vcvtdq2pd_ymm_xmmm128, Code::EVEX_Vcvtdq2pd_zmm_k1z_ymmm256b32_er], x),
        }
    }

    /// A 64-bit integer as a float in every lane.
    fn float_of_int(&mut self, x: VReg, to: Elem) -> VReg {
        let codes = sized(
            to,
            [Code::VEX_Vcvtsi2ss_xmm_xmm_rm64, Code::EVEX_Vcvtsi2ss_xmm_xmm_rm64_er],
            [Code::VEX_Vcvtsi2sd_xmm_xmm_rm64, Code::EVEX_Vcvtsi2sd_xmm_xmm_rm64_er],
        );
        let float = self.asm.inst(self.wide.of(codes)).def_alike(View::Xmm, 2).reg(x, View::R64).end();
        self.spread(to, float)
    }

    /// For AVX2: both halves of the bits are exact, and their sum is rounded once.
    fn float_of_u32(&mut self, x: VReg) -> VReg {
        let signed = [Code::VEX_Vcvtdq2ps_ymm_ymmm256; 2];
        let high = self.vector_imm(table::shift(Shift::Logical, Elem::U32), x, 16);
        let low = self.constant_source(Elem::U32, 0xffff);
        let low = self.vector2(table::AND, x, low);
        let (high, low) = (self.vector1(signed, Src::Reg(high)), self.vector1(signed, Src::Reg(low)));
        let scale = self.constant_reg(Elem::F32, u64::from(65_536f32.to_bits()));
        self.fused(Elem::F32, [Src::Reg(high), Src::Reg(scale), Src::Reg(low)], [true, false, true])
    }

    /// Truncated and saturated; NaN gives 0.
    fn ints_of_float(&mut self, x: Parts, from: Elem, to: Elem) -> Parts {
        if to == Elem::I64 {
            return self.int_64(x, from);
        }
        // Of one element as of a vector, whose lowest lane is then taken.
        let words = match (to, self.wide) {
            (Elem::U32, Wide::V4) => {
                let limited = self.limited(x, from, 0.0, f64::INFINITY);
                // What is too large becomes the greatest.
                self.truncated(limited, from, true)
            }
            (Elem::U32, Wide::V3) => self.unsigned_old(x, from),
            (Elem::U8, _) => {
                let limited = self.limited(x, from, 0.0, 255.0);
                self.truncated(limited, from, false)
            }
            (_, _) => self.signed_words(x, from),
        };
        if x.lanes > 1 { words } else { Parts::one(self.general_of(Elem::U32, words.single())) }
    }

    /// `x` within limits; NaN gives the lower one.
    fn limited(&mut self, x: Parts, elem: Elem, low: f64, high: f64) -> Parts {
        let (low_value, high_value) = (self.float(elem, low), self.float(elem, high));
        let x = self.binary_float(Binary::MaxFast, elem, x, low_value);
        if high.is_finite() { self.binary_float(Binary::MinFast, elem, x, high_value) } else { x }
    }

    fn float(&mut self, elem: Elem, value: f64) -> Operand {
        #[expect(clippy::cast_possible_truncation, reason = "powers of two and small numbers")]
        let bits = if is_double(elem) { value.to_bits() } else { u64::from((value as f32).to_bits()) };
        let source = self.constant_source(elem, bits);
        Operand { lanes: 0, count: 2, sources: [source; 2] }
    }

    /// Truncated to words, signed or not; what does not fit gives `0x8000_0000`, or all ones where it is unsigned.
    fn truncated(&mut self, x: Parts, from: Elem, unsigned: bool) -> Parts {
        let signed = [Code::VEX_Vcvttps2dq_ymm_ymmm256, Code::EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae];
        let codes = match (is_double(from), unsigned) {
            (false, false) => signed,
            (false, true) => [Code::EVEX_Vcvttps2udq_zmm_k1z_zmmm512b32_sae; 2],
            (true, false) => [Code::VEX_Vcvttpd2dq_xmm_ymmm256, Code::EVEX_Vcvttpd2dq_ymm_k1z_zmmm512b64_sae],
            (true, true) => [Code::EVEX_Vcvttpd2udq_ymm_k1z_zmmm512b64_sae; 2],
        };
        if is_double(from) { self.halved(codes, x) } else { self.each(x, &mut |emitter, x| emitter.vector1(codes, Src::Reg(x))) }
    }

    fn signed_words(&mut self, x: Parts, from: Elem) -> Parts {
        // Where `x` is NaN, the word is made 0; where it is too large, `0x8000_0000` is flipped.
        let number = self.compare_lanes(Compare::Eq, from, x, None);
        let large = self.compare_lanes(Compare::Ge, from, x, Some(POWER_31));
        let words = self.truncated(x, from, false);
        let zero = self.constant_reg(Elem::I32, 0);
        let most = self.constant_reg(Elem::I32, 0x7fff_ffff);
        let word = self.blend_regs(Elem::I32, large, most, words.single());
        Parts::of(x.lanes, &[self.blend_regs(Elem::I32, number, word, zero)])
    }

    /// A comparison with a number, or with itself, as a mask of words even of one element.
    fn compare_lanes(&mut self, compare: Compare, elem: Elem, x: Parts, with: Option<f64>) -> VReg {
        let lanes = self.lanes();
        let as_vector = Parts { lanes, ..x };
        let y = with.map_or(Operand::from(as_vector), |with| self.float(elem, with));
        if x.count == 1 && is_double(elem) {
            // One element's mask of doubles is as good as one of words in the lowest lane.
            let pair = Parts { lanes, count: 2, regs: x.regs };
            let y = with.map_or(Operand::from(pair), |_| y);
            return self.compare_float(compare, elem, pair, y).single();
        }
        self.compare_float(compare, elem, as_vector, y).single()
    }

    /// For AVX2: what is beyond signed words is converted less `2^31`.
    fn unsigned_old(&mut self, x: Parts, from: Elem) -> Parts {
        let limited = self.limited(x, from, 0.0, f64::INFINITY);
        let power = self.float(from, POWER_31);
        let floor = self.each(limited, &mut |emitter, x| emitter.unary_float(Unary::Trunc, from, x));
        let above = self.binary_float(Binary::Sub, from, floor, power);
        let low = self.truncated(floor, from, false);
        let high = self.truncated(above, from, false);
        let sign = self.constant_reg(Elem::U32, 1 << 31);
        let high = self.vector2(table::XOR, high.single(), Src::Reg(sign));
        let large = self.compare_lanes(Compare::Ge, from, limited, Some(POWER_31));
        let huge = self.compare_lanes(Compare::Ge, from, limited, Some(POWER_32));
        let most = self.constant_reg(Elem::U32, 0xffff_ffff);
        let word = self.blend_regs(Elem::U32, large, high, low.single());
        Parts::of(x.lanes, &[self.blend_regs(Elem::U32, huge, most, word)])
    }

    fn int_64(&mut self, x: Parts, from: Elem) -> Parts {
        if x.lanes == 1 {
            return Parts::one(self.int_64_one(x.single(), from));
        }
        if self.wide == Wide::V3 {
            return self
                .by_lane(&[(x, from)], Elem::I64, &mut |emitter, lane| Parts::one(emitter.int_64_one(lane[0].single(), from)));
        }
        let wide = if from == Elem::F32 { self.between_floats(x, Elem::F64) } else { x };
        let convert = [Code::EVEX_Vcvttpd2qq_zmm_k1z_zmmm512b64_sae; 2];
        let words = self.each(wide, &mut |emitter, x| emitter.vector1(convert, Src::Reg(x)));
        let zero = self.constant(Elem::I64, 0, x.lanes);
        let most = self.constant(Elem::I64, i64::MAX.cast_unsigned(), x.lanes);
        let power = self.float(Elem::F64, POWER_63);
        let large = self.compare_float(Compare::Ge, Elem::F64, wide, power);
        let number = self.compare_float(Compare::Eq, Elem::F64, wide, Operand::from(wide));
        let result = self.blend(large, Elem::I64, most, words);
        self.blend(number, Elem::I64, result, zero)
    }

    fn int_64_one(&mut self, x: VReg, from: Elem) -> VReg {
        let codes = sized(
            from,
            [Code::VEX_Vcvttss2si_r64_xmmm32, Code::EVEX_Vcvttss2si_r64_xmmm32_sae],
            [Code::VEX_Vcvttsd2si_r64_xmmm64, Code::EVEX_Vcvttsd2si_r64_xmmm64_sae],
        );
        let word = self.asm.inst(self.wide.of(codes)).def(View::R64).reg(x, View::Xmm).end();
        let power = self.float(from, POWER_63);
        let x = Parts::one(x);
        let large = self.compare_float(Compare::Ge, from, x, power).single();
        let number = self.compare_float(Compare::Eq, from, x, Operand::from(x)).single();
        let (most, zero) = (self.int(i64::MAX), self.int(0));
        let word = self.select_int(large, Elem::I64, most, word);
        self.select_int(number, Elem::I64, word, zero)
    }

    // ---- 16-bit floats

    /// The lower half's 16-bit floats.
    pub(super) fn widen_f16(&mut self, x: Src) -> VReg {
        let code = self.wide.of([Code::VEX_Vcvtph2ps_ymm_xmmm128, Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae]);
        self.asm.inst(code).def(self.wide.view()).src(x, self.wide.half()).end()
    }

    /// The bits of the nearest 16-bit floats, ties to even, in the lower half.
    pub(super) fn narrow_f16(&mut self, x: VReg) -> VReg {
        let code = self.wide.of([Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8, Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae]);
        self.asm.inst(code).def(self.wide.half()).reg(x, self.wide.view()).imm8(0).end()
    }

    /// The bits of the nearest bfloat16, ties to even, a word each.
    pub(super) fn bits_bf16(&mut self, x: VReg) -> VReg {
        let right = table::shift(Shift::Logical, Elem::U32);
        let high = self.vector_imm(right, x, 16);
        let one = self.constant_source(Elem::U32, 1);
        let odd = self.vector2(table::AND, high, one);
        let half = self.constant_source(Elem::U32, 0x7fff);
        let bias = self.vector2(table::ADD, odd, half);
        let rounded = self.vector2(table::ADD, x, Src::Reg(bias));
        let rounded = self.vector_imm(right, rounded, 16);
        let quiet = self.constant_source(Elem::U32, 0x40);
        let nan = self.vector2(table::OR, high, quiet);
        let number = self.compare_lanes(Compare::Eq, Elem::F32, Parts::one(x), None);
        self.blend_regs(Elem::U32, number, rounded, nan)
    }

    /// An `f32` rounded to a 16-bit float.
    pub(super) fn rounded(&mut self, x: VReg, dtype: DType) -> VReg {
        match dtype {
            DType::F16 => {
                let bits = self.narrow_f16(x);
                self.widen_f16(Src::Reg(bits))
            }
            DType::BF16 => {
                let bits = self.bits_bf16(x);
                self.vector_imm(table::shift(Shift::Left, Elem::U32), bits, 16)
            }
            DType::F64 | DType::F32 | DType::Bool => x,
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => x,
        }
    }
}
