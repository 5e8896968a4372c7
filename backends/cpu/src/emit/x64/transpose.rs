//! Squares of 4-byte elements transposed in registers: sixteen vectors, by pairs of elements, of pairs, and twice of quarters.

use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::operand::{Cond, Mem, View};
use super::{Emitter, Wide};
use crate::vector::{TABLE_LANES, Transpose};

/// Pairs of the lower and of the upper elements of quarters.
const WORDS: [Code; 2] = [Code::EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32, Code::EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32];
/// The same of doubles.
const DOUBLES: [Code; 2] = [Code::EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64, Code::EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64];
/// Even quarters of both operands, and odd ones.
const QUARTERS: [u8; 2] = [0x88, 0xdd];

impl Emitter<'_> {
    pub(super) fn transpose(&mut self, square: &Transpose) {
        assert_eq!(self.wide, Wide::V4, "squares are transposed where vectors have sixteen lanes");
        let [from, from_stride, to, to_stride] =
            [square.from, square.from_stride, square.to, square.to_stride].map(|x| self.one(x));
        let [rows, columns] = [square.rows, square.columns].map(|x| self.one(x));
        self.flush();
        let mut lines = Vec::new();
        self.along(from, from_stride, [rows, columns], &mut |emitter, mem, mask| {
            let load = emitter.asm.inst(Code::EVEX_Vmovups_zmm_k1z_zmmm512).def(View::Zmm).mem(mem);
            lines.push(load.mask(Some(mask), true).end());
        });
        let mut lines = self.transposed(&lines).into_iter();
        self.along(to, to_stride, [columns, rows], &mut |emitter, mem, mask| {
            let line = lines.next().expect("as many lines as lanes");
            let store = emitter.asm.inst(Code::EVEX_Vmovups_zmmm512_k1z_zmm).mem(mem).reg(line, View::Zmm);
            store.mask(Some(mask), false).done();
        });
    }

    /// Every line: where it begins, and the mask of its elements, none where there is no such line.
    fn along(&mut self, first: VReg, stride: VReg, [lines, elements]: [VReg; 2], each: &mut dyn FnMut(&mut Self, Mem, VReg)) {
        let zero = self.int(0);
        let all = self.asm.inst(Code::Mov_r32_imm32).def(View::R32).imm(OpKind::Immediate32, 0xffff).end();
        let mut ptr = first;
        let mut bits =
            self.asm.inst(Code::VEX_Bzhi_r32_rm32_r32).def(View::R32).reg(all, View::R32).reg(elements, View::R32).end();
        for line in 0..i32::try_from(TABLE_LANES).expect("few lanes") {
            self.compare_imm(View::R64, lines, line);
            bits = self.move_if(Cond::Greater, View::R32, bits, zero);
            let mask = self.asm.inst(Code::VEX_Kmovw_kr_r32).def(View::K).reg(bits, View::R32).end();
            each(self, Mem::at(ptr), mask);
            let next = Mem { index: Some((stride, View::R64)), ..Mem::at(ptr) };
            ptr = self.asm.inst(Code::Lea_r64_m).def(View::R64).mem(next).end();
        }
    }

    fn transposed(&mut self, lines: &[VReg]) -> Vec<VReg> {
        let pairs: Vec<VReg> = lines.chunks(2).flat_map(|pair| WORDS.map(|code| self.woven(code, pair[0], pair[1]))).collect();
        // Of each four lines, by column of a quarter.
        let mut fours = Vec::new();
        for four in pairs.chunks(4) {
            for half in [0, 1] {
                fours.extend(DOUBLES.map(|code| self.woven(code, four[half], four[half + 2])));
            }
        }
        let mut halves = Vec::new();
        for eight in fours.chunks(8) {
            for quarters in QUARTERS {
                halves.extend((0..4).map(|column| self.quarters(eight[column], eight[column + 4], quarters)).collect::<Vec<_>>());
            }
        }
        // Quarters 0, 2, 1 and 3 of columns.
        let mut columns = vec![Vec::new(); 4];
        for (first, odd) in [(0, 0), (4, 1)] {
            for (upper, quarters) in QUARTERS.into_iter().enumerate() {
                columns[2 * upper + odd] =
                    (first..first + 4).map(|column| self.quarters(halves[column], halves[column + 8], quarters)).collect();
            }
        }
        columns.concat()
    }

    fn woven(&mut self, code: Code, x: VReg, y: VReg) -> VReg {
        self.asm.inst(code).def(View::Zmm).reg(x, View::Zmm).reg(y, View::Zmm).end()
    }

    fn quarters(&mut self, x: VReg, y: VReg, which: u8) -> VReg {
        let code = Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
        self.asm.inst(code).def(View::Zmm).reg(x, View::Zmm).reg(y, View::Zmm).imm8(which).end()
    }
}
