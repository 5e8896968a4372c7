//! Lanes that go to other lanes of a vector.

use iced_x86::Code;
use regalloc2::VReg;

use super::operand::{Src, View};
use super::table::{is_double, sized};
use super::{Emitter, Parts, Wide};
use crate::vector::{Edge, Elem, Val};

/// Two neighbours of a vector, the lower lanes' first, and how many bytes of the lower one are left out.
struct Joint {
    low: VReg,
    high: VReg,
    cut: usize,
}

impl Emitter<'_> {
    /// The lanes of `x` moved up by `by`, or down; the others are those of `fill`.
    pub(super) fn slide(&mut self, x: Val, fill: Val, by: i8) -> Parts {
        let elem = self.func.ty(x).elem;
        let (x, fill) = (self.get(x), self.get(fill));
        let (bytes, size) = (self.wide.bytes(), if is_double(elem) { 8 } else { 4 });
        let distance = usize::from(by.unsigned_abs()) * size;
        let (whole, rest) = (distance / bytes, distance % bytes);
        // Registers of `x` from its first on, with `fill` on both sides.
        let beside = whole + 1;
        let row: Vec<VReg> = std::iter::repeat_n(fill.regs[0], beside)
            .chain(x.as_slice().iter().copied())
            .chain(std::iter::repeat_n(fill.regs[0], beside))
            .collect();
        let joint = |place: usize| {
            let own = place + beside;
            if by > 0 {
                Joint { low: row[own - whole - 1], high: row[own - whole], cut: bytes - rest }
            } else {
                Joint { low: row[own + whole], high: row[own + whole + 1], cut: rest }
            }
        };
        let regs: Vec<VReg> = (0..x.count).map(|place| self.joined(elem, &joint(place))).collect();
        Parts::of(x.lanes, &regs)
    }

    /// A vector's worth of two neighbours.
    fn joined(&mut self, elem: Elem, joint: &Joint) -> VReg {
        let Joint { low, high, cut } = *joint;
        if cut == 0 {
            return low;
        }
        if cut == self.wide.bytes() {
            return high;
        }
        let amount = |bytes: usize| u8::try_from(bytes).expect("a vector has few bytes");
        match self.wide {
            Wide::V4 => {
                let words = [Code::EVEX_Valignd_zmm_k1z_zmm_zmmm512b32_imm8; 2];
                let code = sized(elem, words, [Code::EVEX_Valignq_zmm_k1z_zmm_zmmm512b64_imm8; 2])[1];
                let size = if is_double(elem) { 8 } else { 4 };
                self.asm.inst(code).def(View::Zmm).reg(high, View::Zmm).reg(low, View::Zmm).imm8(amount(cut / size)).end()
            }
            Wide::V3 => {
                // The halves between: the upper of the lower one and the lower of the upper one.
                let middle = self.asm.inst(Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8).def(View::Ymm);
                let middle = middle.reg(low, View::Ymm).src(Src::Reg(high), View::Ymm).imm8(0x21).end();
                let (low, high, cut) = if cut < 16 { (low, middle, cut) } else { (middle, high, cut - 16) };
                if cut == 0 {
                    return low;
                }
                let code = Code::VEX_Vpalignr_ymm_ymm_ymmm256_imm8;
                self.asm.inst(code).def(View::Ymm).reg(high, View::Ymm).src(Src::Reg(low), View::Ymm).imm8(amount(cut)).end()
            }
        }
    }

    /// The element of an outermost lane.
    pub(super) fn edge(&mut self, x: Val, edge: Edge) -> Parts {
        let elem = self.func.ty(x).elem;
        let x = self.get(x);
        let last = x.regs[x.count - 1];
        let lowest = match edge {
            Edge::First => x.single(),
            Edge::Last => {
                let cut = self.wide.bytes() - if is_double(elem) { 8 } else { 4 };
                self.joined(elem, &Joint { low: last, high: last, cut })
            }
        };
        self.lowest(elem, Parts::one(lowest))
    }
}
