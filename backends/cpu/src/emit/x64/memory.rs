//! Loads and stores: every pattern, every stored type, under the masks of loads and of tails.

use graver_ir::DType;
use iced_x86::Code;
use regalloc2::VReg;

use super::operand::{Cond, Mem, Src, View};
use super::table::{self, sized};
use super::{Emitter, Parts, Wide};
use crate::vector::{Binary, Caches, Elem, Load, Pattern, Shift, Store, Val};

impl Emitter<'_> {
    pub(super) fn load(&mut self, load: &Load) -> Parts {
        let (elem, mem) = (Elem::of(load.dtype), self.place(load.ptr));
        let mask = load.mask.map(|mask| self.get(mask));
        match load.pattern {
            Pattern::One => match mask {
                None => Parts::one(self.load_one(mem, load.dtype)),
                Some(mask) => {
                    let mem = self.or_scratch(mask.single(), mem);
                    let loaded = Parts::one(self.load_one(mem, load.dtype));
                    let zero = self.constant(elem, 0, 1);
                    self.select(mask, elem, loaded, zero)
                }
            },
            Pattern::Contiguous => {
                let mask = self.within(mask);
                self.load_contiguous(mem, load.dtype, mask)
            }
            Pattern::Strided(stride) => {
                let mask = self.within(mask);
                match self.near(load.dtype, stride, mask.is_some()) {
                    Some(step) => self.load_near(mem, elem, step, mask),
                    None => self.load_apart(mem, load.dtype, load.pattern, mask),
                }
            }
            Pattern::Scattered(_) => {
                let mask = self.within(mask);
                self.load_apart(mem, load.dtype, load.pattern, mask)
            }
        }
    }

    /// To the second-level cache: the first has no room to spare.
    pub(super) fn prefetch(&mut self, ptr: Val) {
        let mem = self.place(ptr);
        self.asm.inst(Code::Prefetcht1_m8).mem(mem).done();
    }

    /// A mask, and the lanes that exist.
    fn within(&mut self, mask: Option<Parts>) -> Option<Parts> {
        let lanes = self.lanes();
        let active = self.active.map(|active| Parts::of(lanes, &[active.words]));
        match (mask, active) {
            (Some(mask), Some(active)) => Some(self.mask_binary(Binary::And, mask, active)),
            (mask, active) => mask.or(active),
        }
    }

    /// The masks of both registers of doubles.
    fn double_masks(&mut self, mask: Parts) -> [VReg; 2] {
        match self.active {
            Some(active) if active.words == mask.single() => active.halves,
            Some(_) | None => self.halves(mask.single()),
        }
    }

    /// The address where a truth value holds, else that of memory that may be read and written.
    fn or_scratch(&mut self, inside: VReg, mem: Mem) -> Mem {
        let ptr = self.asm.inst(Code::Lea_r64_m).def(View::R64).mem(mem).end();
        let scratch = self.params[4];
        self.test(inside);
        Mem::at(self.move_if(Cond::NotEqual, View::R64, ptr, scratch))
    }

    // ---- one element

    /// An element, converted from its stored type.
    pub(super) fn load_one(&mut self, mem: Mem, dtype: DType) -> VReg {
        match dtype {
            DType::F64 => self.vector1(table::BROADCAST_DOUBLE, Src::Mem(mem)),
            DType::F32 => self.vector1(table::BROADCAST, Src::Mem(mem)),
            DType::I64 | DType::U64 => self.asm.inst(Code::Mov_r64_rm64).def(View::R64).mem(mem).end(),
            DType::I32 | DType::U32 => self.asm.inst(Code::Mov_r32_rm32).def(View::R32).mem(mem).end(),
            DType::U8 | DType::Bool => self.asm.inst(Code::Movzx_r32_rm8).def(View::R32).mem(mem).end(),
            DType::I8 => self.asm.inst(Code::Movsx_r32_rm8).def(View::R32).mem(mem).end(),
            DType::I16 => self.asm.inst(Code::Movsx_r32_rm16).def(View::R32).mem(mem).end(),
            DType::U16 => self.asm.inst(Code::Movzx_r32_rm16).def(View::R32).mem(mem).end(),
            DType::F16 | DType::BF16 => {
                let bits = self.asm.inst(Code::Movzx_r32_rm16).def(View::R32).mem(mem).end();
                if dtype == DType::BF16 {
                    let bits = self.shift_int(Shift::Left, Elem::U32, bits, 16);
                    return self.splat_general(Elem::F32, bits);
                }
                let bits = self.splat_general(Elem::U32, bits);
                let float = self.widen_f16(Src::Reg(bits));
                // Every second half was 0.
                self.spread(Elem::F32, float)
            }
        }
    }

    fn store_one(&mut self, mem: Mem, dtype: DType, value: VReg) {
        match dtype {
            DType::F64 => {
                let code = self.wide.of([Code::VEX_Vmovsd_m64_xmm, Code::EVEX_Vmovsd_m64_k1_xmm]);
                self.asm.inst(code).mem(mem).reg(value, View::Xmm).done();
            }
            DType::F32 => {
                let code = self.wide.of([Code::VEX_Vmovss_m32_xmm, Code::EVEX_Vmovss_m32_k1_xmm]);
                self.asm.inst(code).mem(mem).reg(value, View::Xmm).done();
            }
            DType::I64 | DType::U64 => self.asm.inst(Code::Mov_rm64_r64).mem(mem).reg(value, View::R64).done(),
            DType::I32 | DType::U32 => self.asm.inst(Code::Mov_rm32_r32).mem(mem).reg(value, View::R32).done(),
            DType::I8 | DType::U8 | DType::Bool => self.asm.inst(Code::Mov_rm8_r8).mem(mem).reg(value, View::R8).done(),
            DType::I16 | DType::U16 => self.asm.inst(Code::Mov_rm16_r16).mem(mem).reg(value, View::R16).done(),
            DType::F16 | DType::BF16 => {
                let words = if dtype == DType::F16 { self.narrow_f16(value) } else { self.bits_bf16(value) };
                let bits = self.general_of(Elem::U32, words);
                self.asm.inst(Code::Mov_rm16_r16).mem(mem).reg(bits, View::R16).done();
            }
        }
    }

    // ---- neighbours

    fn load_contiguous(&mut self, mem: Mem, dtype: DType, mask: Option<Parts>) -> Parts {
        let lanes = self.lanes();
        let bytes = i64::try_from(self.wide.bytes()).expect("small");
        match (dtype, mask) {
            (DType::F64 | DType::I64 | DType::U64, mask) => {
                let masks = mask.map(|mask| self.double_masks(mask));
                let low = self.load_masked(mem, Elem::of(dtype), masks.map(|masks| masks[0]));
                let high = self.load_masked(mem.plus(bytes), Elem::of(dtype), masks.map(|masks| masks[1]));
                Parts::of(lanes, &[low, high])
            }
            (DType::F32 | DType::I32 | DType::U32, mask) => {
                let mask = mask.map(|mask| mask.single());
                Parts::of(lanes, &[self.load_masked(mem, Elem::of(dtype), mask)])
            }
            (_, Some(mask)) if self.wide == Wide::V3 => {
                let stride = self.int(i64::try_from(dtype.size()).expect("small"));
                self.load_lanes(mem, dtype, Steps::Stride(stride), Some(mask))
            }
            (DType::I8 | DType::U8 | DType::Bool | DType::I16 | DType::U16 | DType::F16 | DType::BF16, mask) => {
                let mask = mask.map(|mask| mask.single());
                Parts::of(lanes, &[self.load_narrow(mem, dtype, mask)])
            }
        }
    }

    /// A whole register, 0 outside of the mask.
    pub(super) fn load_masked(&mut self, mem: Mem, elem: Elem, mask: Option<VReg>) -> VReg {
        let view = self.wide.view();
        match (self.wide, mask) {
            (_, None) => self.vector1(table::MOVE, Src::Mem(mem)),
            (Wide::V4, Some(mask)) => {
                let code = sized(elem, [Code::EVEX_Vmovups_zmm_k1z_zmmm512; 2], [Code::EVEX_Vmovupd_zmm_k1z_zmmm512; 2])[1];
                self.asm.inst(code).def(view).mem(mem).mask(Some(mask), true).end()
            }
            (Wide::V3, Some(mask)) => {
                let code = sized(elem, [Code::VEX_Vmaskmovps_ymm_ymm_m256; 2], [Code::VEX_Vmaskmovpd_ymm_ymm_m256; 2])[0];
                self.asm.inst(code).def(view).reg(mask, view).mem(mem).end()
            }
        }
    }

    /// Elements of one or two bytes as words, or as a mask.
    fn load_narrow(&mut self, mem: Mem, dtype: DType, mask: Option<VReg>) -> VReg {
        let bytes = [Code::VEX_Vpmovzxbd_ymm_xmmm64, Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128];
        let halves = [Code::VEX_Vpmovzxwd_ymm_xmmm128, Code::EVEX_Vpmovzxwd_zmm_k1z_ymmm256];
        let floats = [Code::VEX_Vcvtph2ps_ymm_xmmm128, Code::EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae];
        let signed_bytes = [Code::VEX_Vpmovsxbd_ymm_xmmm64, Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128];
        let signed_halves = [Code::VEX_Vpmovsxwd_ymm_xmmm128, Code::EVEX_Vpmovsxwd_zmm_k1z_ymmm256];
        let codes = match dtype {
            DType::F16 => floats,
            DType::BF16 | DType::U16 => halves,
            DType::I16 => signed_halves,
            DType::I8 => signed_bytes,
            DType::F64 | DType::F32 | DType::I64 | DType::I32 | DType::U64 | DType::U32 | DType::U8 | DType::Bool => bytes,
        };
        let words = self.asm.inst(self.wide.of(codes)).def(self.wide.view()).mem(mem).mask(mask, true).end();
        match dtype {
            DType::BF16 => self.vector_imm(table::shift(Shift::Left, Elem::U32), words, 16),
            DType::Bool => {
                let zero = self.constant_source(Elem::U32, 0);
                let lanes = self.lanes();
                let words = Parts::of(lanes, &[words]);
                let zero = super::floats::Operand { lanes, count: 1, sources: [zero; 2] };
                self.compare(crate::vector::Compare::Ne, Elem::U32, words, zero).single()
            }
            DType::F64 | DType::F32 | DType::F16 => words,
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => words,
        }
    }

    pub(super) fn store(&mut self, store: &Store) {
        let (value, between) = (self.get(store.value), store.between.map(|between| self.get(between)));
        let mem = self.place(store.ptr);
        self.flush();
        if let Some(between) = between {
            return self.store_in_turn(mem, store, [value, between]);
        }
        match store.pattern {
            Pattern::One => self.store_one(mem, store.dtype, value.single()),
            Pattern::Contiguous if self.is_passed(store) => self.store_past(mem, value.single()),
            Pattern::Contiguous => {
                let mask = self.within(None);
                self.store_contiguous(mem, store.dtype, value, mask);
            }
            Pattern::Strided(_) | Pattern::Scattered(_) => {
                let mask = self.within(None);
                self.store_apart(mem, store.dtype, store.pattern, value, mask);
            }
        }
    }

    /// Whether whole vectors of it go past the caches.
    pub(super) fn is_passed(&self, store: &Store) -> bool {
        store.caches == Caches::Passed && self.active.is_none() && store.dtype.size() == 4
    }

    pub(super) fn store_past(&mut self, mem: Mem, value: VReg) {
        self.passes = true;
        let code = self.wide.of([Code::VEX_Vmovntps_m256_ymm, Code::EVEX_Vmovntps_m512_zmm]);
        self.asm.inst(code).mem(mem).reg(value, self.wide.view()).done();
    }

    pub(super) fn store_contiguous(&mut self, mem: Mem, dtype: DType, value: Parts, mask: Option<Parts>) {
        let bytes = i64::try_from(self.wide.bytes()).expect("small");
        match (dtype, mask) {
            (DType::F64 | DType::I64 | DType::U64, mask) => {
                let masks = mask.map(|mask| self.double_masks(mask));
                self.store_masked(mem, Elem::of(dtype), value.regs[0], masks.map(|masks| masks[0]));
                self.store_masked(mem.plus(bytes), Elem::of(dtype), value.regs[1], masks.map(|masks| masks[1]));
            }
            (DType::F32 | DType::I32 | DType::U32, mask) => {
                self.store_masked(mem, Elem::of(dtype), value.single(), mask.map(|mask| mask.single()));
            }
            (_, Some(mask)) if self.wide == Wide::V3 => {
                let stride = self.int(i64::try_from(dtype.size()).expect("small"));
                self.store_lanes(mem, dtype, Steps::Stride(stride), value, Some(mask));
            }
            (DType::I8 | DType::U8 | DType::Bool | DType::I16 | DType::U16 | DType::F16 | DType::BF16, mask) => {
                self.store_narrow(mem, dtype, value.single(), mask.map(|mask| mask.single()));
            }
        }
    }

    pub(super) fn store_masked(&mut self, mem: Mem, elem: Elem, value: VReg, mask: Option<VReg>) {
        let view = self.wide.view();
        match (self.wide, mask) {
            (Wide::V4, mask) => {
                let words = Code::EVEX_Vmovups_zmmm512_k1z_zmm;
                let code = sized(elem, [words; 2], [Code::EVEX_Vmovupd_zmmm512_k1z_zmm; 2])[1];
                self.asm.inst(code).mem(mem).reg(value, view).mask(mask, false).done();
            }
            (Wide::V3, None) => self.asm.inst(Code::VEX_Vmovups_ymmm256_ymm).mem(mem).reg(value, view).done(),
            (Wide::V3, Some(mask)) => {
                let code = sized(elem, [Code::VEX_Vmaskmovps_m256_ymm_ymm; 2], [Code::VEX_Vmaskmovpd_m256_ymm_ymm; 2])[0];
                self.asm.inst(code).mem(mem).reg(mask, view).reg(value, view).done();
            }
        }
    }

    /// Elements of one or two bytes.
    fn store_narrow(&mut self, mem: Mem, dtype: DType, value: VReg, mask: Option<VReg>) {
        let words = match dtype {
            DType::Bool => self.mask_ones(value),
            DType::BF16 => self.bits_bf16(value),
            // Packed with saturation there: the low bits alone are small enough.
            DType::I8 if self.wide == Wide::V3 => self.low_bits(value, 0xff),
            DType::I16 | DType::U16 if self.wide == Wide::V3 => self.low_bits(value, 0xffff),
            DType::F64 | DType::F32 | DType::F16 => value,
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => value,
        };
        match (dtype, self.wide) {
            (DType::F16, wide) => {
                let code = wide.of([Code::VEX_Vcvtps2ph_xmmm128_ymm_imm8, Code::EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae]);
                self.asm.inst(code).mem(mem).reg(words, wide.view()).imm8(0).mask(mask, false).done();
            }
            (DType::BF16 | DType::I16 | DType::U16, Wide::V4) => {
                self.asm.inst(Code::EVEX_Vpmovdw_ymmm256_k1z_zmm).mem(mem).reg(words, View::Zmm).mask(mask, false).done();
            }
            (_, Wide::V4) => {
                self.asm.inst(Code::EVEX_Vpmovdb_xmmm128_k1z_zmm).mem(mem).reg(words, View::Zmm).mask(mask, false).done();
            }
            (_, Wide::V3) => self.store_packed(mem, dtype, words),
        }
    }

    fn low_bits(&mut self, words: VReg, mask: u64) -> VReg {
        let mask = self.constant_source(Elem::U32, mask);
        self.vector2(table::AND, words, mask)
    }

    /// Words, which are small enough, packed to halves or bytes, for AVX2.
    fn store_packed(&mut self, mem: Mem, dtype: DType, words: VReg) {
        let upper = self.upper_half(words);
        let pack = self.asm.inst(Code::VEX_Vpackusdw_xmm_xmm_xmmm128).def(View::Xmm);
        let halves = pack.reg(words, View::Xmm).reg(upper, View::Xmm).end();
        if dtype.size() == 2 {
            self.asm.inst(Code::VEX_Vmovdqu_xmmm128_xmm).mem(mem).reg(halves, View::Xmm).done();
            return;
        }
        let pack = self.asm.inst(Code::VEX_Vpackuswb_xmm_xmm_xmmm128).def(View::Xmm);
        let bytes = pack.reg(halves, View::Xmm).reg(halves, View::Xmm).end();
        self.asm.inst(Code::VEX_Vmovq_xmmm64_xmm).mem(mem).reg(bytes, View::Xmm).done();
    }

    // ---- lanes apart from each other

    fn load_apart(&mut self, mem: Mem, dtype: DType, pattern: Pattern, mask: Option<Parts>) -> Parts {
        if dtype.size() < 4 {
            let steps = self.steps(pattern);
            return self.load_lanes(mem, dtype, steps, mask);
        }
        let offsets = self.offsets(pattern);
        let mem = Mem::at(self.address_of(mem));
        let double = table::is_double(Elem::of(dtype));
        let masks = self.gather_masks(mask, double);
        let zero = self.constant_reg(Elem::F32, 0);
        let (words, doubles) = (
            [Code::VEX_Vgatherqps_xmm_vm64y_xmm, Code::EVEX_Vgatherqps_ymm_k1_vm64z],
            [Code::VEX_Vgatherqpd_ymm_vm64y_ymm, Code::EVEX_Vgatherqpd_zmm_k1_vm64z],
        );
        let code = self.wide.of(if double { doubles } else { words });
        let (wide, vector) = (self.wide, self.wide.view());
        let view = if double { vector } else { self.wide.half() };
        let regs: Vec<VReg> = offsets
            .regs
            .into_iter()
            .zip(masks)
            .map(|(offsets, mask)| {
                let mem = Mem { index: Some((offsets, vector)), ..mem };
                let gather = self.asm.inst(code).modify(zero, view).mem(mem);
                match wide {
                    Wide::V3 => gather.modify(mask, view).end(),
                    Wide::V4 => gather.mask_consumed(mask).end(),
                }
            })
            .collect();
        let lanes = self.lanes();
        if double { Parts::of(lanes, &regs) } else { Parts::of(lanes, &[self.join_halves(regs[0], regs[1])]) }
    }

    fn store_apart(&mut self, mem: Mem, dtype: DType, pattern: Pattern, value: Parts, mask: Option<Parts>) {
        if self.wide == Wide::V3 || dtype.size() < 4 {
            let steps = self.steps(pattern);
            return self.store_lanes(mem, dtype, steps, value, mask);
        }
        let offsets = self.offsets(pattern);
        let mem = Mem::at(self.address_of(mem));
        let double = table::is_double(Elem::of(dtype));
        let masks = self.gather_masks(mask, double);
        let code = if double { Code::EVEX_Vscatterqpd_vm64z_k1_zmm } else { Code::EVEX_Vscatterqps_vm64z_k1_ymm };
        let (view, parts) =
            if double { (View::Zmm, value.regs) } else { (View::Ymm, [value.single(), self.upper_half(value.single())]) };
        for ((offsets, mask), part) in offsets.regs.into_iter().zip(masks).zip(parts) {
            let mem = Mem { index: Some((offsets, View::Zmm)), ..mem };
            self.asm.inst(code).mem(mem).reg(part, view).mask_consumed(mask).done();
        }
    }

    /// The masks of both halves of the lanes; on AVX2 they have the elements' size.
    fn gather_masks(&mut self, mask: Option<Parts>, double: bool) -> [VReg; 2] {
        match mask {
            Some(mask) if self.wide == Wide::V3 && !double => [mask.single(), self.upper_half(mask.single())],
            Some(mask) => self.double_masks(mask),
            None => [self.constant_mask(true); 2],
        }
    }

    /// A byte offset a lane.
    fn offsets(&mut self, pattern: Pattern) -> Parts {
        match pattern {
            Pattern::Scattered(offsets) => self.get(offsets),
            Pattern::Strided(stride) => {
                let lanes = i64::try_from(self.lanes()).expect("few lanes");
                let halves = [(0..lanes / 2), (lanes / 2..lanes)];
                if let Some(known) = self.facts.int(stride) {
                    let sources = halves.map(|half| half.map(|lane| lane.wrapping_mul(known)).collect::<Vec<_>>());
                    let regs = sources.map(|doubles| {
                        let source = self.constant_vector(&doubles);
                        self.vector1(table::MOVE, source)
                    });
                    return Parts::of(self.lanes(), &regs);
                }
                let stride = self.one(stride);
                let stride = self.splat_general(Elem::I64, stride);
                let numbers = self.iota();
                let strides = super::floats::Operand { sources: [Src::Reg(stride); 2], ..numbers.into() };
                self.binary(Binary::Mul, Elem::I64, numbers, strides)
            }
            Pattern::One | Pattern::Contiguous => unreachable!("lanes are apart"),
        }
    }

    fn steps(&mut self, pattern: Pattern) -> Steps {
        match pattern {
            Pattern::Strided(stride) => Steps::Stride(self.one(stride)),
            Pattern::Scattered(offsets) => Steps::Offsets(self.get(offsets)),
            Pattern::One | Pattern::Contiguous => unreachable!("lanes are apart"),
        }
    }

    /// Lane by lane; where the mask does not hold, scratch memory is read instead, and the element is 0.
    fn load_lanes(&mut self, mem: Mem, dtype: DType, steps: Steps, mask: Option<Parts>) -> Parts {
        let elem = Elem::of(dtype);
        let rooms = self.rooms(&[elem, Elem::Bool, Elem::I64]);
        let room = rooms[0];
        self.each_lane(mem, steps, mask, &rooms, &mut |emitter, lane, mem, inside| {
            let loaded = Parts::one(emitter.load_one(mem, dtype));
            let value = match inside {
                None => loaded,
                Some(inside) => {
                    let zero = emitter.constant(elem, 0, 1);
                    emitter.select(Parts::one(inside), elem, loaded, zero)
                }
            };
            emitter.put_lane(room, lane, value);
        });
        self.take(room)
    }

    /// Lane by lane; where the mask does not hold, scratch memory is written instead.
    fn store_lanes(&mut self, mem: Mem, dtype: DType, steps: Steps, value: Parts, mask: Option<Parts>) {
        let rooms = self.rooms(&[Elem::of(dtype), Elem::Bool, Elem::I64]);
        let room = rooms[0];
        self.put(room, value);
        self.each_lane(mem, steps, mask, &rooms, &mut |emitter, lane, mem, _| {
            let value = emitter.take_lane(room, lane);
            emitter.store_one(mem, dtype, value.single());
        });
    }

    fn each_lane(
        &mut self,
        mem: Mem,
        steps: Steps,
        mask: Option<Parts>,
        rooms: &[super::lanes::Room],
        body: &mut Lane<'_, Self>,
    ) {
        self.flush();
        let pointer = self.address_of(mem);
        if let Some(mask) = mask {
            self.put(rooms[1], mask);
        }
        if let Steps::Offsets(offsets) = steps {
            self.put(rooms[2], offsets);
        }
        let moving = match steps {
            Steps::Stride(stride) => Some((pointer, stride)),
            Steps::Offsets(_) => None,
        };
        self.lane_loop(moving, &mut |emitter, lane, here| {
            let mem = here.map_or_else(
                || {
                    let offset = emitter.take_lane(rooms[2], lane).single();
                    Mem { index: Some((offset, View::R64)), ..Mem::at(pointer) }
                },
                Mem::at,
            );
            let inside = mask.map(|_| emitter.take_lane(rooms[1], lane).single());
            let mem = inside.map_or(mem, |inside| emitter.or_scratch(inside, mem));
            body(emitter, lane, mem, inside);
        });
    }

    /// 1 where a mask holds, as words.
    pub(super) fn mask_ones(&mut self, mask: VReg) -> VReg {
        match self.wide {
            Wide::V4 => {
                let place = self.asm.pool.add(1u32.to_le_bytes().to_vec());
                let one = self.asm.inst(Code::EVEX_Vpbroadcastd_zmm_k1z_xmmm32).def(View::Zmm);
                one.mem(Mem::pool(place, false)).mask(Some(mask), true).end()
            }
            Wide::V3 => {
                let one = self.constant_source(Elem::U32, 1);
                self.vector2(table::AND, mask, one)
            }
        }
    }
}

/// What is done with a lane: its number, where it lies, and whether it is inside of the mask.
type Lane<'l, E> = dyn FnMut(&mut E, VReg, Mem, Option<VReg>) + 'l;

/// How a pointer comes from lane to lane.
#[derive(Clone, Copy)]
enum Steps {
    /// So many bytes further.
    Stride(VReg),
    /// By an offset a lane.
    Offsets(Parts),
}
