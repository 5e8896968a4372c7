//! Vector IR to machine code at full width: AVX2 with FMA and F16C at 256 bits, AVX-512 (F, BW, DQ, VL) at 512.
//!
//! Vector IR becomes instructions over virtual registers ([`inst`]), an allocator gives them registers ([`alloc`]), and
//! [`encode`] writes the bytes with their constants, which need no relocation. Nothing here knows kernels.
//!
//! How values are held:
//! - One integer or address is in a general register, of 32 bits but for `i64`; a truth value is 0 or 1.
//! - One float is in a vector register, alike in every lane, so that it is its own splat.
//! - A value of a lane each is one register of 4-byte elements, or two of 8-byte ones; `u8` is held in 32 bits. Truth values
//!   are a mask register on AVX-512, and all ones or zeros in 32-bit lanes on AVX2.
//! - Constants are in no register until they are used: where an instruction takes memory, it reads them from the pool.
//!
//! The tails of sweeps run under a mask of the lanes that exist. What has no vector instruction goes through memory on the
//! stack, a lane at a time.

mod address;
mod alloc;
mod amx;
mod arith;
mod convert;
mod encode;
mod facts;
mod floats;
mod general;
mod inst;
mod lanes;
mod masks;
mod memory;
mod near;
mod operand;
mod pool;
mod slide;
mod sweep;
mod table;
mod transpose;

use std::collections::BTreeMap;

use iced_x86::Code;
use regalloc2::VReg;

use crate::vector::{Block, Elem, Func, Helper, Loop, Op, Stmt, Ty, Val, Width};
pub(crate) use encode::Encoded;
use facts::{Facts, Region};
use inst::{Asm, Kind, Label};
use operand::{Cond, Mem, View};

/// The vector extensions that code is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wide {
    /// AVX2, FMA, F16C, BMI2.
    V3,
    /// AVX-512 F, BW, DQ and VL, and all of V3.
    V4,
}

impl Wide {
    /// 4-byte lanes of a vector.
    pub(crate) const fn lanes(self) -> usize {
        match self {
            Self::V3 => 8,
            Self::V4 => 16,
        }
    }

    const fn bytes(self) -> usize {
        self.lanes() * 4
    }

    /// How many vector registers there are.
    const fn registers(self) -> usize {
        match self {
            Self::V3 => 16,
            Self::V4 => 32,
        }
    }

    /// The instruction of this extension.
    const fn of(self, codes: [Code; 2]) -> Code {
        match self {
            Self::V3 => codes[0],
            Self::V4 => codes[1],
        }
    }

    /// A whole vector register.
    const fn view(self) -> View {
        match self {
            Self::V3 => View::Ymm,
            Self::V4 => View::Zmm,
        }
    }

    /// The lower half of a vector register.
    const fn half(self) -> View {
        match self {
            Self::V3 => View::Xmm,
            Self::V4 => View::Ymm,
        }
    }

    const fn mask_view(self) -> View {
        match self {
            Self::V3 => View::Ymm,
            Self::V4 => View::K,
        }
    }
}

/// Machine code of a function, of the convention of [`crate::emit::jit::Entry`]; `helper` gives the addresses of helpers.
pub(crate) fn emit(func: &Func, wide: Wide, helper: fn(Helper) -> *const u8) -> Encoded {
    let mut emitter = Emitter::new(func, wide, helper);
    emitter.block(&func.body);
    emitter.flush();
    if emitter.passes {
        // Stores past the caches are seen by others only then.
        emitter.asm.inst(Code::Sfence).done();
    }
    emitter.asm.ret();
    let mut asm = emitter.asm;
    asm.finish();
    let output = alloc::allocate(&asm, wide);
    encode::encode(&asm, wide, &output)
}

/// The registers of a value.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// 1, or those of a vector.
    lanes: usize,
    count: usize,
    regs: [VReg; 2],
}

impl Parts {
    const fn one(reg: VReg) -> Self {
        Self { lanes: 1, count: 1, regs: [reg; 2] }
    }

    fn of(lanes: usize, regs: &[VReg]) -> Self {
        Self { lanes, count: regs.len(), regs: [regs[0], regs[regs.len() - 1]] }
    }

    fn as_slice(&self) -> &[VReg] {
        &self.regs[..self.count]
    }

    /// The only register.
    const fn single(&self) -> VReg {
        self.regs[0]
    }
}

/// A load that is part of the instruction that uses it, unless something is written first.
#[derive(Clone, Copy)]
struct Pending {
    mem: Mem,
    elem: Elem,
}

/// The lanes that exist in the tail of a sweep, as masks of 4-byte lanes and of both halves of 8-byte lanes.
#[derive(Clone, Copy)]
struct Active {
    words: VReg,
    halves: [VReg; 2],
}

/// One iteration: from the counter and the state to the next state.
type Iteration<'i, E> = dyn FnMut(&mut E, VReg, &[Parts]) -> Vec<Parts> + 'i;

struct Emitter<'a> {
    asm: Asm,
    func: &'a Func,
    facts: Facts<'a>,
    wide: Wide,
    helper: fn(Helper) -> *const u8,
    params: Vec<VReg>,
    values: Vec<Option<Parts>>,
    pending: BTreeMap<Val, Pending>,
    /// Constants in registers, by size and bits.
    held: BTreeMap<(usize, u64), VReg>,
    /// Halves of tables in registers, while a sweep goes on.
    tables: BTreeMap<Vec<u32>, VReg>,
    active: Option<Active>,
    /// Whether something was stored past the caches.
    passes: bool,
    region: Region,
    /// The variable of an unrolled sweep: a register and how far it is behind.
    swept: Option<(Val, VReg, i64)>,
}

impl<'a> Emitter<'a> {
    fn new(func: &'a Func, wide: Wide, helper: fn(Helper) -> *const u8) -> Self {
        let mut asm = Asm::new(wide.bytes());
        let first = alloc::PARAMS.iter().fold(asm.build(Kind::Enter), |enter, at| enter.fixed_def(*at)).end();
        let params = (0..alloc::PARAMS.len()).map(|param| VReg::new(first.vreg() + param, operand::GENERAL)).collect();
        Self {
            asm,
            func,
            facts: Facts::new(func),
            wide,
            helper,
            params,
            values: vec![None; func.types.len()],
            pending: BTreeMap::new(),
            held: BTreeMap::new(),
            tables: BTreeMap::new(),
            active: None,
            passes: false,
            region: None,
            swept: None,
        }
    }

    fn lanes(&self) -> usize {
        self.wide.lanes()
    }

    fn block(&mut self, block: &Block) {
        for stmt in block {
            self.statement(stmt);
        }
    }

    fn statement(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(value, op) => self.define(*value, op),
            Stmt::Store(store) => self.store(store),
            Stmt::Trap { ok, trap } => self.trap(*ok, *trap),
            Stmt::Prefetch(ptr) => self.prefetch(*ptr),
            Stmt::Transpose(square) => self.transpose(square),
            Stmt::Tile(tile) => self.tile(tile),
            Stmt::If { cond, then } => self.condition(*cond, then),
            Stmt::Loop(inner) => self.counted(inner),
            Stmt::Sweep(sweep) => self.sweep(sweep),
        }
    }

    fn define(&mut self, value: Val, op: &Op) {
        if !self.facts.is_used(value) || self.facts.constant(value).is_some() {
            return;
        }
        let ty = self.func.ty(value);
        if let Some(pending) = self.postponed(value, op) {
            self.pending.insert(value, pending);
            return;
        }
        let parts = if self.facts.is_sum(value) { Parts::one(self.sum(value)) } else { self.operation(op, ty) };
        self.values[value.index()] = Some(parts);
    }

    /// How many lanes a value of this type has.
    fn lanes_of(&self, ty: Ty) -> usize {
        match ty.width {
            Width::One => 1,
            Width::Lanes => self.lanes(),
        }
    }

    /// A value in registers.
    fn get(&mut self, value: Val) -> Parts {
        if let Some(known) = self.facts.constant(value) {
            let lanes = self.lanes_of(self.func.ty(value));
            return self.constant(known.elem, known.bits, lanes);
        }
        if let Some(pending) = self.pending.remove(&value) {
            let reg = self.load_pending(pending);
            let lanes = self.lanes_of(self.func.ty(value));
            self.values[value.index()] = Some(Parts::of(lanes, &[reg]));
        }
        // Not kept: the first use may lie in a block that does not enclose the next.
        if let Some((_, reg, behind)) = self.swept.filter(|(var, ..)| *var == value && self.values[var.index()].is_none()) {
            return Parts::one(if behind == 0 { reg } else { self.add_imm(reg, behind) });
        }
        self.values[value.index()].expect("V1: a value is defined before its uses")
    }

    /// The only register of a value of one element.
    fn one(&mut self, value: Val) -> VReg {
        let parts = self.get(value);
        assert_eq!(parts.lanes, 1, "V2: one element is asked for");
        parts.single()
    }

    /// Loads what was postponed: something is about to be written, or the code to branch.
    fn flush(&mut self) {
        let pending: Vec<Val> = self.pending.keys().copied().collect();
        pending.into_iter().for_each(|value| {
            self.get(value);
        });
    }

    fn condition(&mut self, cond: Val, then: &Block) {
        let cond = self.one(cond);
        self.flush();
        let (inside, after) = (self.asm.label(), self.asm.label());
        self.test(cond);
        self.asm.branch(Cond::NotEqual, (inside, Vec::new()), (after, Vec::new()));
        self.asm.bind(inside, Vec::new());
        self.block(then);
        self.flush();
        self.asm.jump(after, Vec::new());
        self.asm.bind(after, Vec::new());
    }

    fn counted(&mut self, inner: &Loop) {
        let begin = self.one(inner.begin);
        let inits: Vec<Parts> = inner.carried.iter().map(|carried| self.get(carried.init)).collect();
        let known = self.facts.int(inner.begin).zip(self.facts.int(inner.end));
        if known.is_some_and(|(begin, end)| begin >= end) {
            inner.carried.iter().zip(inits).for_each(|(carried, init)| self.values[carried.result.index()] = Some(init));
            return;
        }
        let some = known.is_some();
        let outside = self.region.replace(inner.var);
        let (_, results) = self.repeat(begin, End::Value(inner.end), inner.step, some, &inits, &mut |emitter, var, state| {
            emitter.values[inner.var.index()] = Some(Parts::one(var));
            for (carried, parts) in inner.carried.iter().zip(state) {
                emitter.values[carried.param.index()] = Some(*parts);
            }
            emitter.block(&inner.body);
            inner.carried.iter().map(|carried| emitter.get(carried.next)).collect()
        });
        self.region = outside;
        for (carried, parts) in inner.carried.iter().zip(results) {
            self.values[carried.result.index()] = Some(parts);
        }
    }

    /// `while var < end { body; var += step }`, at least once if `some`; gives the last `var` and the state after it.
    fn repeat(
        &mut self,
        begin: VReg,
        end: End,
        step: i64,
        some: bool,
        inits: &[Parts],
        body: &mut Iteration<'_, Self>,
    ) -> (VReg, Vec<Parts>) {
        self.flush();
        let (inside, after) = (self.asm.label(), self.asm.label());
        let start = flat(begin, inits);
        if some {
            self.asm.jump(inside, start);
        } else {
            self.compare_end(begin, end);
            self.asm.branch(Cond::Less, (inside, start.clone()), (after, start));
        }
        let (var, state) = self.bind_params(inside, inits);
        let next_state = body(self, var, &state);
        self.flush();
        let next = self.add_imm(var, step);
        let again = flat(next, &next_state);
        self.compare_end(next, end);
        self.asm.branch(Cond::Less, (inside, again.clone()), (after, again));
        self.bind_params(after, inits)
    }

    /// Starts a block whose parameters are a counter and registers as those of `like`.
    fn bind_params(&mut self, label: Label, like: &[Parts]) -> (VReg, Vec<Parts>) {
        let var = self.asm.vreg(operand::GENERAL);
        let state: Vec<Parts> = like.iter().map(|parts| self.fresh(*parts)).collect();
        self.asm.bind(label, flat(var, &state));
        (var, state)
    }

    fn fresh(&mut self, like: Parts) -> Parts {
        let regs: Vec<VReg> = like.as_slice().iter().map(|reg| self.asm.vreg(reg.class())).collect();
        Parts::of(like.lanes, &regs)
    }

    /// Where a lane is not ok, the status word becomes the trap unless it is set.
    fn trap(&mut self, ok: Val, trap: u32) {
        let ok = self.get(ok);
        self.flush();
        let [failed, set, after] = [self.asm.label(), self.asm.label(), self.asm.label()];
        let fine = self.test_all(ok);
        self.asm.branch(fine, (after, Vec::new()), (failed, Vec::new()));
        self.asm.bind(failed, Vec::new());
        let status = Mem::at(self.params[5]);
        let word = self.asm.inst(Code::Mov_r64_rm64).def(View::R64).mem(status).end();
        self.test_wide(word);
        self.asm.branch(Cond::NotEqual, (after, Vec::new()), (set, Vec::new()));
        self.asm.bind(set, Vec::new());
        let code = self.int(i64::from(trap) + 1);
        self.asm.inst(Code::Mov_rm64_r64).mem(status).reg(code, View::R64).done();
        self.asm.jump(after, Vec::new());
        self.asm.bind(after, Vec::new());
    }
}

/// Where a loop ends.
#[derive(Clone, Copy)]
enum End {
    Value(Val),
    Reg(VReg),
    Known(i64),
}

fn flat(first: VReg, state: &[Parts]) -> Vec<VReg> {
    [first].into_iter().chain(state.iter().flat_map(|parts| parts.as_slice().iter().copied())).collect()
}
