//! Constants, operands, and arithmetic of floats on whole registers. One float is alike in every lane, so the same code does
//! for one and for a vector.

use iced_x86::Code;
use regalloc2::VReg;

use super::operand::{Mem, Src, View};
use super::table::{self, Codes, is_double, sized};
use super::{Emitter, Parts, Pending, Wide};
use crate::vector::{Binary, Compare, Elem, Load, Op, Pattern, Shift, Unary, Val, Width};

/// The operands of a value: registers, or memory that an instruction may read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub(super) lanes: usize,
    pub(super) count: usize,
    pub(super) sources: [Src; 2],
}

impl From<Parts> for Operand {
    fn from(parts: Parts) -> Self {
        Self { lanes: parts.lanes, count: parts.count, sources: parts.regs.map(Src::Reg) }
    }
}

impl Emitter<'_> {
    // ---- instructions on whole registers

    pub(super) fn vector1(&mut self, codes: Codes, x: Src) -> VReg {
        let view = self.wide.view();
        self.asm.inst(self.wide.of(codes)).def(view).src(x, view).end()
    }

    pub(super) fn vector2(&mut self, codes: Codes, x: VReg, y: Src) -> VReg {
        let view = self.wide.view();
        self.asm.inst(self.wide.of(codes)).def(view).reg(x, view).src(y, view).end()
    }

    pub(super) fn vector_imm(&mut self, codes: Codes, x: VReg, imm: u8) -> VReg {
        let view = self.wide.view();
        self.asm.inst(self.wide.of(codes)).def(view).reg(x, view).imm8(imm).end()
    }

    /// The function of the registers in turn.
    pub(super) fn each(&mut self, x: Parts, function: &mut dyn FnMut(&mut Self, VReg) -> VReg) -> Parts {
        let regs: Vec<VReg> = x.as_slice().iter().map(|reg| function(self, *reg)).collect();
        Parts::of(x.lanes, &regs)
    }

    pub(super) fn each2(&mut self, x: Parts, y: Operand, function: &mut dyn FnMut(&mut Self, VReg, Src) -> VReg) -> Parts {
        let pairs = x.as_slice().iter().zip(y.sources);
        let regs: Vec<VReg> = pairs.map(|(x, y)| function(self, *x, y)).collect();
        Parts::of(x.lanes, &regs)
    }

    // ---- constants

    /// How many registers a value has.
    pub(super) fn registers(elem: Elem, lanes: usize) -> usize {
        if is_double(elem) && lanes > 1 { 2 } else { 1 }
    }

    pub(super) fn constant(&mut self, elem: Elem, bits: u64, lanes: usize) -> Parts {
        if lanes == 1 && !elem.is_float() {
            let value = if elem == Elem::I64 { bits.cast_signed() } else { (bits & 0xffff_ffff).cast_signed() };
            return Parts::one(self.int(value));
        }
        let reg = if elem == Elem::Bool { self.constant_mask(bits != 0) } else { self.constant_reg(elem, bits) };
        Parts { lanes, count: Self::registers(elem, lanes), regs: [reg; 2] }
    }

    fn key(elem: Elem, bits: u64) -> (usize, u64) {
        if is_double(elem) { (8, bits) } else { (4, bits & 0xffff_ffff) }
    }

    /// A constant in every lane of a register.
    pub(super) fn constant_reg(&mut self, elem: Elem, bits: u64) -> VReg {
        let key = Self::key(elem, bits);
        if let Some(held) = self.held.get(&key) {
            return *held;
        }
        if key.1 == 0 {
            return self.asm.inst(self.wide.of(table::XOR)).def_alike(self.wide.view(), 3).end();
        }
        let place = self.asm.pool.add(key.1.to_le_bytes()[..key.0].to_vec());
        let codes = sized(elem, table::BROADCAST, table::BROADCAST_DOUBLE);
        self.vector1(codes, Src::Mem(Mem::pool(place, false)))
    }

    /// A constant in every lane, for an instruction that takes memory.
    pub(super) fn constant_source(&mut self, elem: Elem, bits: u64) -> Src {
        let (size, bits) = Self::key(elem, bits);
        if let Some(held) = self.held.get(&(size, bits)) {
            return Src::Reg(*held);
        }
        let mut bytes = bits.to_le_bytes()[..size].to_vec();
        if self.wide == Wide::V3 {
            bytes = bytes.repeat(self.wide.bytes() / size);
        }
        Src::Mem(Mem::pool(self.asm.pool.add(bytes), self.wide == Wide::V4))
    }

    /// Keeps a constant in a register, until [`Emitter::held`] is set back.
    pub(super) fn hold(&mut self, elem: Elem, bits: u64) {
        let reg = self.constant_reg(elem, bits);
        self.held.insert(Self::key(elem, bits), reg);
    }

    /// One vector of doubles.
    pub(super) fn constant_vector(&mut self, doubles: &[i64]) -> Src {
        let bytes: Vec<u8> = doubles.iter().flat_map(|double| double.to_le_bytes()).collect();
        Src::Mem(Mem::pool(self.asm.pool.add(bytes), false))
    }

    /// The floats at places of a table, whose halves are a register each.
    pub(super) fn look_up(&mut self, place: Val, table: &[u32; 32]) -> Parts {
        let places = self.get(place);
        let index = if places.lanes == 1 { self.splat_general(Elem::I32, places.single()) } else { places.single() };
        let [low, high] = [&table[..16], &table[16..]].map(|half| self.half_table(half));
        let low = self.in_register(Elem::F32, low);
        let code = Code::EVEX_Vpermi2ps_zmm_k1z_zmm_zmmm512b32;
        let reg = self.asm.inst(code).modify(index, View::Zmm).reg(low, View::Zmm).src(high, View::Zmm).end();
        Parts::of(places.lanes, &[reg])
    }

    /// Half of a table, in a register if a sweep keeps it there.
    fn half_table(&mut self, half: &[u32]) -> Src {
        assert_eq!(self.wide, Wide::V4, "tables are looked up where a vector is half of one");
        if let Some(held) = self.tables.get(half) {
            return Src::Reg(*held);
        }
        let bytes: Vec<u8> = half.iter().flat_map(|word| word.to_le_bytes()).collect();
        Src::Mem(Mem::pool(self.asm.pool.add(bytes), false))
    }

    /// Keeps a table in registers, until [`Emitter::tables`] is set back.
    pub(super) fn hold_table(&mut self, table: &[u32; 32]) {
        for half in [&table[..16], &table[16..]] {
            let source = self.half_table(half);
            let reg = self.in_register(Elem::F32, source);
            self.tables.insert(half.to_vec(), reg);
        }
    }

    // ---- operands

    /// A load that the instruction after it may do: of a whole register, or of one float.
    pub(super) fn postponed(&mut self, value: Val, op: &Op) -> Option<Pending> {
        if !self.facts.dies(value) {
            return None;
        }
        if let Op::Splat(x) = op {
            let single = Self::registers(self.func.ty(value).elem, self.lanes()) == 1;
            return single.then(|| self.pending.remove(x)).flatten();
        }
        let Op::Load(Load { ptr, dtype, pattern, mask: None }) = op else { return None };
        let elem = Elem::of(*dtype);
        let broadcast = *pattern == Pattern::One && elem.is_float();
        let words = matches!(elem, Elem::F32 | Elem::I32 | Elem::U32);
        let whole = *pattern == Pattern::Contiguous && self.active.is_none() && words;
        if dtype.compute() != *dtype || !(broadcast || whole) {
            return None;
        }
        Some(Pending { mem: Mem { broadcast, ..self.place(*ptr) }, elem })
    }

    pub(super) fn load_pending(&mut self, pending: Pending) -> VReg {
        let codes =
            if pending.mem.broadcast { sized(pending.elem, table::BROADCAST, table::BROADCAST_DOUBLE) } else { table::MOVE };
        self.vector1(codes, Src::Mem(Mem { broadcast: false, ..pending.mem }))
    }

    /// Whether a value is in memory that an instruction may read.
    pub(super) fn is_memory(&self, value: Val) -> bool {
        let pending = self.pending.get(&value).is_some_and(|pending| self.folds(*pending));
        let constant = self.facts.constant(value);
        pending || constant.is_some_and(|known| !self.held.contains_key(&Self::key(known.elem, known.bits)))
    }

    /// AVX2 has no embedded broadcasts.
    fn folds(&self, pending: Pending) -> bool {
        self.wide == Wide::V4 || !pending.mem.broadcast
    }

    pub(super) fn operand_of(&mut self, value: Val) -> Operand {
        let ty = self.func.ty(value);
        let lanes = self.lanes_of(ty);
        let is_vector = ty.elem != Elem::Bool && (ty.elem.is_float() || ty.width == Width::Lanes);
        if let Some(known) = self.facts.constant(value).filter(|_| is_vector) {
            let source = self.constant_source(known.elem, known.bits);
            return Operand { lanes, count: Self::registers(ty.elem, lanes), sources: [source; 2] };
        }
        if let Some(pending) = self.pending.get(&value).copied().filter(|pending| self.folds(*pending)) {
            self.pending.remove(&value);
            return Operand { lanes, count: 1, sources: [Src::Mem(pending.mem); 2] };
        }
        Operand::from(self.get(value))
    }

    /// An operand in registers.
    pub(super) fn in_registers(&mut self, elem: Elem, operand: Operand) -> Parts {
        let sources = &operand.sources[..operand.count];
        let regs: Vec<VReg> = sources.iter().map(|source| self.in_register(elem, *source)).collect();
        Parts::of(operand.lanes, &regs)
    }

    pub(super) fn in_register(&mut self, elem: Elem, source: Src) -> VReg {
        match source {
            Src::Reg(reg) => reg,
            Src::Mem(mem) => self.load_pending(Pending { mem, elem }),
        }
    }

    // ---- arithmetic

    pub(super) fn unary_float(&mut self, op: Unary, elem: Elem, x: VReg) -> VReg {
        let sign = if is_double(elem) { 1 << 63 } else { 1 << 31 };
        match op {
            Unary::Neg => {
                let sign = self.constant_source(elem, sign);
                self.vector2(sized(elem, table::XOR, table::XOR_DOUBLE), x, sign)
            }
            Unary::Abs => {
                let rest = self.constant_source(elem, !sign);
                self.vector2(sized(elem, table::AND, table::AND_DOUBLE), x, rest)
            }
            Unary::Sqrt => self.vector1(table::sqrt(elem), Src::Reg(x)),
            Unary::Nearest => self.vector_imm(table::round(elem), x, 8),
            Unary::Floor => self.vector_imm(table::round(elem), x, 9),
            Unary::Ceil => self.vector_imm(table::round(elem), x, 10),
            Unary::Trunc => self.vector_imm(table::round(elem), x, 11),
            Unary::Not => unreachable!("V2: floats have no logical not"),
        }
    }

    pub(super) fn binary_float(&mut self, op: Binary, elem: Elem, x: Parts, y: Operand) -> Parts {
        if let Some(codes) = table::float(op, elem) {
            return self.each2(x, y, &mut |emitter, x, y| emitter.vector2(codes, x, y));
        }
        if op == Binary::Scale {
            return self.each2(x, y, &mut |emitter, x, y| emitter.scaled(x, y));
        }
        assert!(matches!(op, Binary::Min | Binary::Max), "V2: {op:?} is of integers");
        let fast = if op == Binary::Min { Binary::MinFast } else { Binary::MaxFast };
        let extreme = self.binary_float(fast, elem, x, y);
        // Where `y` is NaN, it is given; where `x` is, it must be given here.
        let nan = self.compare_float(Compare::Ne, elem, x, Operand::from(x));
        self.blend(nan, elem, x, extreme)
    }

    /// `x * 2^y`. AVX2 multiplies by two powers, whose exponents are halves of `y`.
    fn scaled(&mut self, x: VReg, y: Src) -> VReg {
        if self.wide == Wide::V4 {
            return self.vector2([Code::EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er; 2], x, y);
        }
        let y = self.in_register(Elem::F32, y);
        let whole = self.vector1([Code::VEX_Vcvtps2dq_ymm_ymmm256; 2], Src::Reg(y));
        let first = self.vector_imm(table::shift(Shift::Arithmetic, Elem::I32), whole, 1);
        let second = self.vector2(table::SUB, whole, Src::Reg(first));
        let bias = self.constant_source(Elem::I32, 127);
        [first, second].into_iter().fold(x, |x, exponent| {
            let field = self.vector2(table::ADD, exponent, bias);
            let power = self.vector_imm(table::shift(Shift::Left, Elem::I32), field, 23);
            self.vector2([Code::VEX_Vmulps_ymm_ymm_ymmm256; 2], x, Src::Reg(power))
        })
    }

    /// The register of the product and sum; `dies` tells which operands are not used again.
    pub(super) fn fused(&mut self, elem: Elem, operands: [Src; 3], dies: [bool; 3]) -> VReg {
        let (into_x, into_z) = table::fused(elem);
        let view = self.wide.view();
        let [x, y, z] = operands;
        if let Src::Mem(_) = z {
            let (x, y) = (self.in_register(elem, x), self.in_register(elem, y));
            let (x, y) = if dies[1] && !dies[0] { (y, x) } else { (x, y) };
            return self.asm.inst(self.wide.of(into_x)).modify(x, view).reg(y, view).src(z, view).end();
        }
        let (x, y, dies) = match x {
            Src::Mem(_) => (y, x, [dies[1], dies[0], dies[2]]),
            Src::Reg(_) => (x, y, dies),
        };
        let (x, z) = (self.in_register(elem, x), self.in_register(elem, z));
        let folded = matches!(y, Src::Mem(_));
        if dies[2] || folded || !(dies[0] || dies[1]) {
            return self.asm.inst(self.wide.of(into_z)).modify(z, view).reg(x, view).src(y, view).end();
        }
        let y = self.in_register(elem, y);
        let (x, y) = if dies[0] { (x, y) } else { (y, x) };
        self.asm.inst(self.wide.of(into_x)).modify(x, view).reg(y, view).reg(z, view).end()
    }

    /// A comparison of floats, of one as a vector's too.
    pub(super) fn compare_float(&mut self, compare: Compare, elem: Elem, x: Parts, y: Operand) -> Parts {
        let imm = match compare {
            Compare::Eq => 0x00,
            Compare::Ne => 0x04,
            Compare::Lt => 0x11,
            Compare::Le => 0x12,
            Compare::Gt => 0x1e,
            Compare::Ge => 0x1d,
        };
        let code = self.wide.of(table::compare_floats(elem));
        let (mask, view) = (self.wide.mask_view(), self.wide.view());
        let masks: Vec<VReg> = x
            .as_slice()
            .iter()
            .zip(y.sources)
            .map(|(x, y)| self.asm.inst(code).def(mask).reg(*x, view).src(y, view).imm8(imm).end())
            .collect();
        self.mask_of(x.lanes, &masks)
    }

    /// `x` where the mask holds, else `y`; the mask is one truth value a register of theirs.
    pub(super) fn blend_regs(&mut self, elem: Elem, mask: VReg, x: VReg, y: VReg) -> VReg {
        let (code, view) = (self.wide.of(table::blend(elem)), self.wide.view());
        let blend = self.asm.inst(code).def(view).reg(y, view).reg(x, view);
        match self.wide {
            Wide::V3 => blend.reg(mask, view).end(),
            Wide::V4 => blend.mask(Some(mask), false).end(),
        }
    }

    pub(super) fn blend(&mut self, mask: Parts, elem: Elem, x: Parts, y: Parts) -> Parts {
        let mask = if mask.lanes == 1 { self.splat_bool(mask.single()) } else { mask.single() };
        let masks = if is_double(elem) && x.lanes > 1 { self.halves(mask) } else { [mask; 2] };
        let triples = masks.into_iter().zip(x.as_slice().iter().copied()).zip(y.as_slice().iter().copied());
        let regs: Vec<VReg> = triples.map(|((mask, x), y)| self.blend_regs(elem, mask, x, y)).collect();
        Parts::of(x.lanes, &regs)
    }

    /// The lowest lane in every lane.
    pub(super) fn spread(&mut self, elem: Elem, x: VReg) -> VReg {
        let codes = sized(elem, table::SPLAT, table::SPLAT_DOUBLE);
        self.asm.inst(self.wide.of(codes)).def(self.wide.view()).reg(x, View::Xmm).end()
    }

    /// The lowest lane's bits in a general register.
    pub(super) fn general_of(&mut self, elem: Elem, x: VReg) -> VReg {
        let (codes, view) = if is_double(elem) {
            ([Code::VEX_Vmovq_rm64_xmm, Code::EVEX_Vmovq_rm64_xmm], View::R64)
        } else {
            ([Code::VEX_Vmovd_rm32_xmm, Code::EVEX_Vmovd_rm32_xmm], View::R32)
        };
        self.asm.inst(self.wide.of(codes)).def(view).reg(x, View::Xmm).end()
    }

    /// A general register's bits in every lane.
    pub(super) fn splat_general(&mut self, elem: Elem, x: VReg) -> VReg {
        let view = if is_double(elem) { View::R64 } else { View::R32 };
        if self.wide == Wide::V4 {
            let code = if is_double(elem) { Code::EVEX_Vpbroadcastq_zmm_k1z_r64 } else { Code::EVEX_Vpbroadcastd_zmm_k1z_r32 };
            return self.asm.inst(code).def(View::Zmm).reg(x, view).end();
        }
        let code = if is_double(elem) { Code::VEX_Vmovq_xmm_rm64 } else { Code::VEX_Vmovd_xmm_rm32 };
        let low = self.asm.inst(code).def(View::Xmm).reg(x, view).end();
        self.spread(elem, low)
    }
}
