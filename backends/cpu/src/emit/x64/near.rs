//! Lanes a few elements apart: all that lies between is read, as whole registers, and the wanted elements are picked out of these. On
//! AVX-512, whose masks leave unread what no lane wants.

use graver_ir::DType;
use iced_x86::{Code, OpKind};
use regalloc2::VReg;

use super::inst::{Mem, Src, View};
use super::table;
use super::{Emitter, Parts, Wide};
use crate::vector::{Elem, NEAR, TABLE_LANES, Val};

impl Emitter<'_> {
    /// How many elements of four bytes it is from lane to lane, where that is few enough.
    pub(super) fn near(&self, dtype: DType, stride: Val) -> Option<usize> {
        let bytes = usize::try_from(self.facts.int(stride)?).ok()?;
        let step = bytes / dtype.size();
        let fits = self.wide == Wide::V4 && dtype.size() == 4 && bytes % 4 == 0 && NEAR.contains(&step);
        fits.then_some(step)
    }

    /// Elements `step` apart, 0 outside of the mask.
    pub(super) fn load_near(&mut self, mem: Mem, elem: Elem, step: usize, mask: Option<Parts>) -> Parts {
        let wanted = self.wanted(step, mask);
        let bytes = i64::try_from(self.wide.bytes()).expect("small");
        let mut picked: Option<VReg> = None;
        for (part, wanted) in (0..).zip(wanted) {
            let loaded = self.load_masked(mem.plus(part * bytes), elem, Some(wanted));
            picked = Some(match picked {
                None => loaded,
                Some(picked) => self.pick(picked, loaded, usize::try_from(part).expect("few parts"), step),
            });
        }
        Parts::of(TABLE_LANES, &[picked.expect("there is a part")])
    }

    /// By register that is read: the mask of its elements that a lane wants.
    fn wanted(&mut self, step: usize, mask: Option<Parts>) -> Vec<VReg> {
        let places = (0..TABLE_LANES).map(|lane| 1u64 << (lane * step)).sum::<u64>();
        let part = |part: usize| i64::try_from(places >> (part * TABLE_LANES) & 0xffff).expect("sixteen bits");
        let Some(mask) = mask else {
            return (0..step).map(|number| self.mask_of_bits(part(number))).collect();
        };
        let bits = self.asm.inst(Code::VEX_Kmovw_r32_kr).def(View::R32).reg(mask.single(), View::K).end();
        let places = self.int(places.cast_signed());
        let spread = self.asm.inst(Code::VEX_Pdep_r64_r64_rm64).def(View::R64);
        let mut spread = spread.reg(bits, View::R64).reg(places, View::R64).end();
        let mut wanted = Vec::new();
        for number in 0..step {
            if number > 0 {
                let shift = self.asm.inst(Code::Shr_rm64_imm8).modify(spread, View::R64);
                spread = shift.imm8(u8::try_from(TABLE_LANES).expect("few lanes")).end();
            }
            wanted.push(self.asm.inst(Code::VEX_Kmovw_kr_r32).def(View::K).reg(spread, View::R32).end());
        }
        wanted
    }

    fn mask_of_bits(&mut self, bits: i64) -> VReg {
        let bits = self.asm.inst(Code::Mov_r32_imm32).def(View::R32).imm(OpKind::Immediate32, bits).end();
        self.asm.inst(Code::VEX_Kmovw_kr_r32).def(View::K).reg(bits, View::R32).end()
    }

    /// What lanes want of the part so far, and of this one.
    fn pick(&mut self, picked: VReg, loaded: VReg, part: usize, step: usize) -> VReg {
        let places = (0..TABLE_LANES).map(|lane| {
            let place = lane * step;
            match place / TABLE_LANES {
                here if here == part => TABLE_LANES + place % TABLE_LANES,
                // The first register lies as it was read until something was picked out of it.
                _ if part == 1 => place % TABLE_LANES,
                _ => lane,
            }
        });
        let places: Vec<u8> = places.flat_map(|place| u32::try_from(place).expect("below 32").to_le_bytes()).collect();
        let places = Src::Mem(Mem::pool(self.asm.pool.add(places), false));
        let places = self.vector1(table::MOVE, places);
        let code = Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32;
        self.asm.inst(code).modify(places, View::Zmm).reg(picked, View::Zmm).reg(loaded, View::Zmm).end()
    }
}
