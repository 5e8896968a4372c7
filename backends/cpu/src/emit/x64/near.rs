//! Lanes a few elements apart: all that lies between is read, as whole registers, and the wanted elements are picked out of these. What
//! lies between what is wanted is there to be read. Under a mask, on AVX-512, masks leave unread what no lane wants.
//!
//! And lanes of two values in turn, as whole registers.

use graver_ir::DType;
use iced_x86::Code;
use regalloc2::VReg;

use super::operand::{Mem, Src, View};
use super::table::{self, is_double};
use super::{Emitter, Parts, Wide};
use crate::vector::{Elem, NEAR, Store, TABLE_LANES, Val};

impl Emitter<'_> {
    /// How many elements of four bytes it is from lane to lane, where that is few enough.
    pub(super) fn near(&self, dtype: DType, stride: Val, is_masked: bool) -> Option<usize> {
        let bytes = usize::try_from(self.facts.int(stride)?).ok()?;
        let step = bytes / dtype.size();
        let fits = match self.wide {
            Wide::V4 => NEAR.contains(&step),
            Wide::V3 => step == 2 && !is_masked,
        };
        (fits && dtype.size() == 4 && bytes % 4 == 0).then_some(step)
    }

    /// Elements `step` apart, 0 outside of the mask.
    pub(super) fn load_near(&mut self, mem: Mem, elem: Elem, step: usize, mask: Option<Parts>) -> Parts {
        if self.wide == Wide::V3 {
            return self.every_second(mem);
        }
        let begins = begins(step, mask.is_some());
        let wanted = mask.map_or_else(|| vec![None; step], |mask| self.wanted(step, mask));
        let mut picked: Option<VReg> = None;
        for (part, wanted) in wanted.into_iter().enumerate() {
            let offset = 4 * i64::try_from(begins[part]).expect("few elements");
            let loaded = self.load_masked(mem.plus(offset), elem, wanted);
            picked = Some(match picked {
                None => loaded,
                Some(picked) => self.pick(picked, loaded, (part, begins[part]), step),
            });
        }
        Parts::of(TABLE_LANES, &[picked.expect("there is a part")])
    }

    /// By register that is read: the mask of its elements that a lane wants.
    fn wanted(&mut self, step: usize, mask: Parts) -> Vec<Option<VReg>> {
        let places = (0..TABLE_LANES).map(|lane| 1u64 << (lane * step)).sum::<u64>();
        let bits = self.asm.inst(Code::VEX_Kmovw_r32_kr).def(View::R32).reg(mask.single(), View::K).end();
        let mut spread = self.spread_bits(bits, places);
        let mut wanted = Vec::new();
        for number in 0..step {
            if number > 0 {
                spread = self.shift_bits(spread, TABLE_LANES);
            }
            wanted.push(Some(self.asm.inst(Code::VEX_Kmovw_kr_r32).def(View::K).reg(spread, View::R32).end()));
        }
        wanted
    }

    /// The low bits at these places, one after the other.
    fn spread_bits(&mut self, bits: VReg, places: u64) -> VReg {
        let places = self.int(places.cast_signed());
        let spread = self.asm.inst(Code::VEX_Pdep_r64_r64_rm64).def(View::R64);
        spread.reg(bits, View::R64).reg(places, View::R64).end()
    }

    fn shift_bits(&mut self, bits: VReg, by: usize) -> VReg {
        let shift = self.asm.inst(Code::Shr_rm64_imm8).modify(bits, View::R64);
        shift.imm8(u8::try_from(by).expect("few lanes")).end()
    }

    /// What lanes want of the parts so far, and of this one, which begins at an element.
    fn pick(&mut self, picked: VReg, loaded: VReg, (part, begin): (usize, usize), step: usize) -> VReg {
        let places = (0..TABLE_LANES).map(|lane| {
            let place = lane * step;
            match place / TABLE_LANES {
                here if here == part => TABLE_LANES + place - begin,
                // The first register lies as it was read until something was picked out of it.
                _ if part == 1 => place % TABLE_LANES,
                _ => lane,
            }
        });
        let places: Vec<usize> = places.collect();
        self.of_both(picked, loaded, &places)
    }

    /// The words of two registers at these places, the second's from [`TABLE_LANES`] on; on AVX-512.
    fn of_both(&mut self, x: VReg, y: VReg, places: &[usize]) -> VReg {
        let places = places.iter().flat_map(|place| u32::try_from(*place).expect("below 32").to_le_bytes()).collect();
        let places = Src::Mem(Mem::pool(self.asm.pool.add(places), false));
        let places = self.vector1(table::MOVE, places);
        let code = Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32;
        self.asm.inst(code).modify(places, View::Zmm).reg(x, View::Zmm).reg(y, View::Zmm).end()
    }

    /// Every second word of two registers' worth, for AVX2.
    fn every_second(&mut self, mem: Mem) -> Parts {
        let low = self.load_masked(mem, Elem::F32, None);
        // Seven words on, where the last lane's is the last.
        let shuffle = self.asm.inst(Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8).def(View::Ymm);
        let words = shuffle.reg(low, View::Ymm).mem(mem.plus(28)).imm8(0xd8).end();
        let words = self.asm.inst(Code::VEX_Vpermq_ymm_ymmm256_imm8).def(View::Ymm).reg(words, View::Ymm).imm8(0xd8).end();
        Parts::of(self.lanes(), &[words])
    }

    // ---- in turn

    /// Stores the lanes of two values in turn.
    pub(super) fn store_in_turn(&mut self, mem: Mem, store: &Store, [x, y]: [Parts; 2]) {
        let (elem, lanes) = (Elem::of(store.dtype), self.lanes());
        let parts = x.as_slice().iter().zip(y.as_slice());
        let regs: Vec<VReg> = parts.flat_map(|(x, y)| self.in_turn(elem, *x, *y)).collect();
        let masks = self.active.map(|active| self.masks_in_turn(elem, active.words));
        let bytes = 2 * lanes * store.dtype.size() / regs.len();
        for (number, reg) in regs.into_iter().enumerate() {
            let mem = mem.plus(i64::try_from(number * bytes).expect("few bytes"));
            let mask = masks.as_ref().map(|masks| masks[number]);
            if is_double(elem) {
                self.store_masked(mem, elem, reg, mask);
            } else if self.is_passed(store) {
                self.store_past(mem, reg);
            } else {
                let mask = mask.map(|mask| Parts::of(lanes, &[mask]));
                self.store_contiguous(mem, store.dtype, Parts::of(lanes, &[reg]), mask);
            }
        }
    }

    /// The elements of two registers in turn, in two.
    fn in_turn(&mut self, elem: Elem, x: VReg, y: VReg) -> [VReg; 2] {
        let double = is_double(elem);
        match self.wide {
            Wide::V4 => {
                let words = if double { 2 } else { 1 };
                let place = |half: usize, word: usize| {
                    let element = half * TABLE_LANES / words / 2 + word / words / 2;
                    element * words + word % words + TABLE_LANES * (word / words % 2)
                };
                [0, 1].map(|half| {
                    let places: Vec<usize> = (0..TABLE_LANES).map(|word| place(half, word)).collect();
                    self.of_both(x, y, &places)
                })
            }
            Wide::V3 => {
                let codes = if double {
                    [Code::VEX_Vunpcklpd_ymm_ymm_ymmm256, Code::VEX_Vunpckhpd_ymm_ymm_ymmm256]
                } else {
                    [Code::VEX_Vunpcklps_ymm_ymm_ymmm256, Code::VEX_Vunpckhps_ymm_ymm_ymmm256]
                };
                let [low, high] = codes.map(|code| self.asm.inst(code).def(View::Ymm).reg(x, View::Ymm).reg(y, View::Ymm).end());
                [0x20, 0x31].map(|halves| {
                    let both = self.asm.inst(Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8).def(View::Ymm);
                    both.reg(low, View::Ymm).src(Src::Reg(high), View::Ymm).imm8(halves).end()
                })
            }
        }
    }

    /// The masks of the registers that [`Emitter::in_turn`] gives of a value's.
    fn masks_in_turn(&mut self, elem: Elem, mask: VReg) -> Vec<VReg> {
        if self.wide == Wide::V3 {
            let masks = if is_double(elem) { self.halves(mask).to_vec() } else { vec![mask] };
            return masks.into_iter().flat_map(|mask| self.in_turn(elem, mask, mask)).collect();
        }
        let (count, lanes) = if is_double(elem) { (4, TABLE_LANES / 2) } else { (2, TABLE_LANES) };
        let bits = self.asm.inst(Code::VEX_Kmovw_r32_kr).def(View::R32).reg(mask, View::K).end();
        let evens = self.spread_bits(bits, 0x5555_5555);
        let doubled = self.asm.inst(Code::Add_r64_rm64).modify(evens, View::R64).reg(evens, View::R64).end();
        let mut all = self.asm.inst(Code::Or_r64_rm64).modify(doubled, View::R64).reg(evens, View::R64).end();
        let mut masks = Vec::new();
        for number in 0..count {
            if number > 0 {
                all = self.shift_bits(all, lanes);
            }
            masks.push(self.asm.inst(Code::VEX_Kmovw_kr_r32).def(View::K).reg(all, View::R32).end());
        }
        masks
    }
}

/// Where the registers begin of which elements so many apart are picked. Without masks nothing behind the last one is read: the last
/// register ends with it.
fn begins(step: usize, is_masked: bool) -> Vec<usize> {
    let last = (TABLE_LANES - 1) * step + 1 - TABLE_LANES;
    let begin = |part: usize| if is_masked { part * TABLE_LANES } else { (part * TABLE_LANES).min(last) };
    (0..step).map(begin).collect()
}
