//! Truth values of a lane each: mask registers on AVX-512, all ones or zeros in 32-bit lanes on AVX2. And halves of registers.

use iced_x86::Code;
use regalloc2::VReg;

use super::operand::{Cond, View};
use super::table;
use super::{Emitter, Parts, Wide};
use crate::vector::{Binary, Compare, Elem};

impl Emitter<'_> {
    /// A mask of 4-byte lanes from the masks of a comparison's registers; of one element, a truth value.
    pub(super) fn mask_of(&mut self, lanes: usize, masks: &[VReg]) -> Parts {
        if lanes == 1 {
            let code = self.wide.of([Code::VEX_Vmovd_rm32_xmm, Code::VEX_Kmovw_r32_kr]);
            let view = if self.wide == Wide::V3 { View::Xmm } else { View::K };
            let bits = self.asm.inst(code).def(View::R32).reg(masks[0], view).end();
            return Parts::one(self.and_imm(View::R32, bits, 1));
        }
        let [low, high] = match masks {
            [single] => return Parts::of(lanes, &[*single]),
            [low, high] => [*low, *high],
            _ => unreachable!("a value has one or two registers"),
        };
        let mask = match self.wide {
            Wide::V4 => self.asm.inst(Code::VEX_Kunpckbw_kr_kr_kr).def(View::K).reg(high, View::K).reg(low, View::K).end(),
            Wide::V3 => self.even_words(low, high),
        };
        Parts::of(lanes, &[mask])
    }

    /// The lower words of the doubles of two registers, for AVX2.
    pub(super) fn even_words(&mut self, low: VReg, high: VReg) -> VReg {
        let shuffle = self.asm.inst(Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8).def(View::Ymm);
        let words = shuffle.reg(low, View::Ymm).reg(high, View::Ymm).imm8(0x88).end();
        self.asm.inst(Code::VEX_Vpermq_ymm_ymmm256_imm8).def(View::Ymm).reg(words, View::Ymm).imm8(0xd8).end()
    }

    /// A mask of 4-byte lanes as those of the lower and the upper doubles.
    pub(super) fn halves(&mut self, mask: VReg) -> [VReg; 2] {
        match self.wide {
            Wide::V4 => {
                let shift = self.asm.inst(Code::VEX_Kshiftrw_kr_kr_imm8).def(View::K).reg(mask, View::K);
                [mask, shift.imm8(8).end()]
            }
            Wide::V3 => {
                let upper = self.upper_half(mask);
                [mask, upper].map(|half| self.asm.inst(Code::VEX_Vpmovsxdq_ymm_xmmm128).def(View::Ymm).reg(half, View::Xmm).end())
            }
        }
    }

    pub(super) fn constant_mask(&mut self, truth: bool) -> VReg {
        let code = match (self.wide, truth) {
            (Wide::V4, true) => Code::VEX_Kxnorw_kr_kr_kr,
            (Wide::V4, false) => Code::VEX_Kxorw_kr_kr_kr,
            (Wide::V3, true) => Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256,
            (Wide::V3, false) => Code::VEX_Vpxor_ymm_ymm_ymmm256,
        };
        self.asm.inst(code).def_alike(self.wide.mask_view(), 3).end()
    }

    /// A truth value in every lane.
    pub(super) fn splat_bool(&mut self, x: VReg) -> VReg {
        let ones = self.negated(View::R32, x);
        match self.wide {
            Wide::V4 => self.asm.inst(Code::VEX_Kmovw_kr_r32).def(View::K).reg(ones, View::R32).end(),
            Wide::V3 => self.splat_general(Elem::U32, ones),
        }
    }

    fn mask_op(&mut self, codes: table::Codes, x: VReg, y: VReg) -> VReg {
        let view = self.wide.mask_view();
        self.asm.inst(self.wide.of(codes)).def(view).reg(x, view).reg(y, view).end()
    }

    pub(super) fn mask_binary(&mut self, op: Binary, x: Parts, y: Parts) -> Parts {
        let codes = match op {
            Binary::And | Binary::Mul | Binary::Min | Binary::MinFast => {
                [Code::VEX_Vpand_ymm_ymm_ymmm256, Code::VEX_Kandw_kr_kr_kr]
            }
            Binary::Or | Binary::Add | Binary::Max | Binary::MaxFast => [Code::VEX_Vpor_ymm_ymm_ymmm256, Code::VEX_Korw_kr_kr_kr],
            Binary::Xor | Binary::Sub => [Code::VEX_Vpxor_ymm_ymm_ymmm256, Code::VEX_Kxorw_kr_kr_kr],
            Binary::Div | Binary::Rem | Binary::Shl | Binary::Shr | Binary::MulHigh | Binary::Scale => {
                unreachable!("V2: {op:?} is not of truth values")
            }
        };
        Parts::of(x.lanes, &[self.mask_op(codes, x.single(), y.single())])
    }

    /// Where `x` does not hold and `y` does.
    pub(super) fn mask_and_not(&mut self, x: Parts, y: Parts) -> Parts {
        let codes = [Code::VEX_Vpandn_ymm_ymm_ymmm256, Code::VEX_Kandnw_kr_kr_kr];
        Parts::of(x.lanes, &[self.mask_op(codes, x.single(), y.single())])
    }

    pub(super) fn mask_not(&mut self, x: Parts) -> Parts {
        if self.wide == Wide::V4 {
            let inverted = self.asm.inst(Code::VEX_Knotw_kr_kr).def(View::K).reg(x.single(), View::K).end();
            return Parts::of(x.lanes, &[inverted]);
        }
        let all = self.constant_mask(true);
        self.mask_binary(Binary::Xor, x, Parts::of(x.lanes, &[all]))
    }

    /// False is below true.
    pub(super) fn mask_compare(&mut self, compare: Compare, x: Parts, y: Parts) -> Parts {
        match compare {
            Compare::Ne => self.mask_binary(Binary::Xor, x, y),
            Compare::Lt => self.mask_and_not(x, y),
            Compare::Gt => self.mask_and_not(y, x),
            Compare::Eq => {
                let differ = self.mask_binary(Binary::Xor, x, y);
                self.mask_not(differ)
            }
            Compare::Le => {
                let above = self.mask_and_not(y, x);
                self.mask_not(above)
            }
            Compare::Ge => {
                let below = self.mask_and_not(x, y);
                self.mask_not(below)
            }
        }
    }

    /// Sets the flags; gives the condition of them that tells that a truth value holds in every lane that exists.
    pub(super) fn test_all(&mut self, ok: Parts) -> Cond {
        if ok.lanes == 1 {
            self.test(ok.single());
            return Cond::NotEqual;
        }
        let failed = match self.active {
            Some(active) => self.mask_and_not(ok, Parts::of(ok.lanes, &[active.words])),
            None => self.mask_not(ok),
        };
        self.test_mask(failed.single());
        Cond::Equal
    }

    /// The flags of a mask: equal if it holds nowhere.
    pub(super) fn test_mask(&mut self, mask: VReg) {
        match self.wide {
            Wide::V4 => self.asm.inst(Code::VEX_Kortestw_kr_kr).reg(mask, View::K).reg(mask, View::K).done(),
            Wide::V3 => {
                let bits = self.asm.inst(Code::VEX_Vmovmskps_r32_ymm).def(View::R32).reg(mask, View::Ymm).end();
                self.test(bits);
            }
        }
    }

    // ---- halves of registers

    pub(super) fn upper_half(&mut self, x: VReg) -> VReg {
        let code = self.wide.of([Code::VEX_Vextracti128_xmmm128_ymm_imm8, Code::EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8]);
        self.asm.inst(code).def(self.wide.half()).reg(x, self.wide.view()).imm8(1).end()
    }

    pub(super) fn join_halves(&mut self, low: VReg, high: VReg) -> VReg {
        let code = self.wide.of([Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8, Code::EVEX_Vinsertf64x4_zmm_k1z_zmm_ymmm256_imm8]);
        let (view, half) = (self.wide.view(), self.wide.half());
        self.asm.inst(code).def(view).reg(low, view).reg(high, half).imm8(1).end()
    }
}
