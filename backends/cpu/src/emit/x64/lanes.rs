//! What has no vector instruction: lane by lane, through memory on the stack, in a loop.

use iced_x86::Code;
use regalloc2::VReg;

use super::inst::Kind;
use super::operand::{Mem, Src, VECTOR, View};
use super::table::{self, is_double, sized};
use super::{Emitter, End, Parts, Wide, alloc};
use crate::vector::{Elem, Helper};

/// Memory on the stack for a vector.
#[derive(Clone, Copy)]
pub(super) struct Room {
    offset: i64,
    elem: Elem,
}

impl Room {
    /// Where a lane is.
    pub(super) fn lane(self, lane: VReg) -> Mem {
        let scale = if is_double(self.elem) { 8 } else { 4 };
        Mem { index: Some((lane, View::R64)), scale, ..Mem::frame(self.offset) }
    }
}

impl Emitter<'_> {
    /// Memory for vectors of these elements.
    pub(super) fn rooms(&mut self, elems: &[Elem]) -> Vec<Room> {
        let mut offset = 0;
        let mut rooms = Vec::new();
        for elem in elems {
            rooms.push(Room { offset: i64::try_from(offset).expect("a small frame"), elem: *elem });
            offset += self.wide.bytes() * Self::registers(*elem, self.lanes());
        }
        self.asm.frame = self.asm.frame.max(offset);
        rooms
    }

    /// Writes every lane; truth values as words.
    pub(super) fn put(&mut self, room: Room, parts: Parts) {
        let code = self.wide.of([Code::VEX_Vmovups_ymmm256_ymm, Code::EVEX_Vmovups_zmmm512_k1z_zmm]);
        for (place, reg) in (0i64..).zip(parts.as_slice()) {
            let reg = if room.elem == Elem::Bool { self.mask_words(*reg) } else { *reg };
            let bytes = i64::try_from(self.wide.bytes()).expect("small");
            let mem = Mem::frame(room.offset + place * bytes);
            self.asm.inst(code).mem(mem).reg(reg, self.wide.view()).done();
        }
    }

    /// All lanes.
    pub(super) fn take(&mut self, room: Room) -> Parts {
        let bytes = i64::try_from(self.wide.bytes()).expect("small");
        let count = i64::try_from(Self::registers(room.elem, self.lanes())).expect("one or two");
        let mut regs = Vec::new();
        for place in 0..count {
            let words = self.vector1(table::MOVE, Src::Mem(Mem::frame(room.offset + place * bytes)));
            regs.push(if room.elem == Elem::Bool { self.words_mask(words) } else { words });
        }
        Parts::of(self.lanes(), &regs)
    }

    /// All ones where a mask holds.
    fn mask_words(&mut self, mask: VReg) -> VReg {
        match self.wide {
            Wide::V3 => mask,
            Wide::V4 => self.asm.inst(Code::EVEX_Vpmovm2d_zmm_kr).def(View::Zmm).reg(mask, View::K).end(),
        }
    }

    fn words_mask(&mut self, words: VReg) -> VReg {
        match self.wide {
            Wide::V3 => words,
            Wide::V4 => self.asm.inst(Code::EVEX_Vpmovd2m_kr_zmm).def(View::K).reg(words, View::Zmm).end(),
        }
    }

    pub(super) fn put_lane(&mut self, room: Room, lane: VReg, value: Parts) {
        let (mem, reg) = (room.lane(lane), value.single());
        match room.elem {
            Elem::F32 => {
                let code = self.wide.of([Code::VEX_Vmovss_m32_xmm, Code::EVEX_Vmovss_m32_k1_xmm]);
                self.asm.inst(code).mem(mem).reg(reg, View::Xmm).done();
            }
            Elem::F64 => {
                let code = self.wide.of([Code::VEX_Vmovsd_m64_xmm, Code::EVEX_Vmovsd_m64_k1_xmm]);
                self.asm.inst(code).mem(mem).reg(reg, View::Xmm).done();
            }
            Elem::I64 => self.asm.inst(Code::Mov_rm64_r64).mem(mem).reg(reg, View::R64).done(),
            Elem::I32 | Elem::U32 | Elem::U8 => self.asm.inst(Code::Mov_rm32_r32).mem(mem).reg(reg, View::R32).done(),
            Elem::Bool => {
                let ones = self.negated(View::R32, reg);
                self.asm.inst(Code::Mov_rm32_r32).mem(mem).reg(ones, View::R32).done();
            }
        }
    }

    pub(super) fn take_lane(&mut self, room: Room, lane: VReg) -> Parts {
        let mem = room.lane(lane);
        Parts::one(match room.elem {
            Elem::F32 | Elem::F64 => self.vector1(sized(room.elem, table::BROADCAST, table::BROADCAST_DOUBLE), Src::Mem(mem)),
            Elem::I64 => self.asm.inst(Code::Mov_r64_rm64).def(View::R64).mem(mem).end(),
            Elem::I32 | Elem::U32 | Elem::U8 => self.asm.inst(Code::Mov_r32_rm32).def(View::R32).mem(mem).end(),
            Elem::Bool => {
                let word = self.asm.inst(Code::Mov_r32_rm32).def(View::R32).mem(mem).end();
                self.and_imm(View::R32, word, 1)
            }
        })
    }

    /// The body for every lane, with a pointer that moves from lane to lane by a stride, if one is given.
    pub(super) fn lane_loop(&mut self, pointer: Option<(VReg, VReg)>, body: &mut dyn FnMut(&mut Self, VReg, Option<VReg>)) {
        let zero = self.int(0);
        let lanes = i64::try_from(self.lanes()).expect("few lanes");
        let state: Vec<Parts> = pointer.iter().map(|(pointer, _)| Parts::one(*pointer)).collect();
        self.repeat(zero, End::Known(lanes), 1, true, &state, &mut |emitter, lane, state| {
            let here = state.first().map(|parts| parts.single());
            body(emitter, lane, here);
            let next = here.zip(pointer).map(|(here, (_, stride))| {
                let mem = Mem { index: Some((stride, View::R64)), ..Mem::at(here) };
                Parts::one(emitter.address_of(mem))
            });
            next.into_iter().collect()
        });
    }

    /// A function of one lane after the other.
    pub(super) fn by_lane(
        &mut self,
        operands: &[(Parts, Elem)],
        to: Elem,
        function: &mut dyn FnMut(&mut Self, &[Parts]) -> Parts,
    ) -> Parts {
        if operands[0].0.lanes == 1 {
            let operands: Vec<Parts> = operands.iter().map(|(parts, _)| *parts).collect();
            return function(self, &operands);
        }
        self.flush();
        let elems: Vec<Elem> = operands.iter().map(|(_, elem)| *elem).chain([to]).collect();
        let rooms = self.rooms(&elems);
        let (result, inputs) = rooms.split_last().expect("a result has room");
        inputs.iter().zip(operands).for_each(|(room, (parts, _))| self.put(*room, *parts));
        self.lane_loop(None, &mut |emitter, lane, _| {
            let values: Vec<Parts> = inputs.iter().map(|room| emitter.take_lane(*room, lane)).collect();
            let value = function(emitter, &values);
            emitter.put_lane(*result, lane, value);
        });
        self.take(*result)
    }

    pub(super) fn call(&mut self, helper: Helper, elem: Elem, operands: &[Parts]) -> Parts {
        let operands: Vec<(Parts, Elem)> = operands.iter().map(|parts| (*parts, elem)).collect();
        self.by_lane(&operands, elem, &mut |emitter, lane| {
            let address = (emitter.helper)(helper) as usize;
            let address = emitter.int(i64::try_from(address).expect("addresses are below 2^63"));
            emitter.asm.calls = true;
            let first = regalloc2::PReg::new(0, VECTOR);
            let mut call = emitter.asm.build(Kind::Call).reg(address, View::R64);
            for (place, operand) in lane.iter().enumerate() {
                call = call.fixed_use(operand.single(), regalloc2::PReg::new(place, VECTOR));
            }
            let result = call.fixed_def(first).clobbers(alloc::clobbers(emitter.wide, first)).end();
            Parts::one(emitter.spread(elem, result))
        })
    }

    /// The helper is called only if some lane asks for it.
    pub(super) fn patch(&mut self, mask: Parts, value: Parts, helper: Helper, arg: Parts, elem: Elem) -> Parts {
        self.flush();
        let (rare, after) = (self.asm.label(), self.asm.label());
        if mask.lanes == 1 {
            self.test(mask.single());
        } else {
            self.test_mask(mask.single());
        }
        let usual: Vec<VReg> = value.as_slice().to_vec();
        self.asm.branch(super::Cond::NotEqual, (rare, Vec::new()), (after, usual));
        self.asm.bind(rare, Vec::new());
        let called = self.call(helper, elem, &[arg]);
        let patched = self.select(mask, elem, called, value);
        self.asm.jump(after, patched.as_slice().to_vec());
        let regs: Vec<VReg> = value.as_slice().iter().map(|_| self.asm.vreg(VECTOR)).collect();
        self.asm.bind(after, regs.clone());
        Parts::of(value.lanes, &regs)
    }
}
