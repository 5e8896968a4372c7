//! Addresses and sums of indices, added up by the machine's addressing.

use iced_x86::Code;
use regalloc2::VReg;

use super::Emitter;
use super::facts::Address;
use super::operand::{Base, Mem, View};
use crate::vector::Val;

impl Emitter<'_> {
    /// Where a pointer points, as an operand.
    pub(super) fn place(&mut self, ptr: Val) -> Mem {
        let address = self.facts.address(ptr, self.region);
        self.operand(address)
    }

    fn operand(&mut self, address: Address) -> Mem {
        let mut disp = address.disp;
        let base = address.base.map(|base| self.part(base, 1, &mut disp));
        let index = address.index.map(|(index, scale)| (self.part(index, scale, &mut disp), scale));
        let (base, index) = match (base, index) {
            // Without a base, an unscaled index is one.
            (None, Some((index, 1))) => (Some(index), None),
            other => other,
        };
        Mem {
            base: base.map_or(Base::None, Base::Reg),
            index: index.map(|(index, _)| (index, View::R64)),
            scale: index.map_or(1, |(_, scale)| scale),
            disp,
            broadcast: false,
        }
    }

    /// A part's register; how far the variable of an unrolled sweep is ahead of it goes into the displacement.
    fn part(&mut self, value: Val, scale: u8, disp: &mut i64) -> VReg {
        match self.swept {
            Some((var, reg, behind)) if var == value => {
                *disp += behind * i64::from(scale);
                reg
            }
            Some(_) | None => self.one(value),
        }
    }

    /// A sum of indices in a register.
    pub(super) fn sum(&mut self, value: Val) -> VReg {
        let address = self.facts.sum(value);
        let mem = self.operand(address);
        match (mem.base, mem.index) {
            (Base::Reg(base), None) => self.add_imm(base, mem.disp),
            _ => self.address_of(mem),
        }
    }

    /// An address in a register.
    pub(super) fn address_of(&mut self, mem: Mem) -> VReg {
        match mem {
            Mem { base: Base::Reg(base), index: None, disp: 0, .. } => base,
            _ => self.asm.inst(Code::Lea_r64_m).def(View::R64).mem(mem).end(),
        }
    }
}
