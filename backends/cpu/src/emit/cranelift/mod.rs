//! Vector IR to Cranelift's IR, at 128 bits: four lanes, or one in the tails of sweeps.
//!
//! A value of four lanes is one register of 4-byte elements, or two of 8-byte ones. Truth values are masks of four 32-bit
//! lanes, and the byte 0 or 1 in one lane; `u8` is held in 32 bits. What Cranelift has no vector instruction for is done
//! lane by lane.

mod convert;
mod ints;
mod memory;
mod ops;
mod sweep;

use std::collections::BTreeMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, FuncRef, Function, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::FunctionBuilder;

use crate::vector::{Block, Elem, Func, Helper, Loop, Op, Stmt, Ty, Val, Width};

/// Lanes of a vector.
pub(crate) const LANES: usize = 4;

/// What a kernel's function takes: arguments, sizes, begin, end, scratch, status.
pub(crate) const PARAMS: [Type; 6] = [types::I64; 6];

/// What the emitter must know of the machine and the module.
pub(crate) struct Environment<'a> {
    /// Whether there is a fused multiply-add.
    pub(crate) fma: bool,
    /// Of the target.
    pub(crate) config: TargetFrontendConfig,
    /// Declares a function of the run-time library.
    pub(crate) helper: &'a mut dyn FnMut(Helper, &mut Function) -> FuncRef,
}

/// The registers of a value.
#[derive(Clone, Copy, Debug)]
struct Parts {
    lanes: usize,
    count: usize,
    values: [Value; 2],
}

impl Parts {
    fn one(value: Value) -> Self {
        Self { lanes: 1, count: 1, values: [value; 2] }
    }

    fn vector(value: Value) -> Self {
        Self { lanes: LANES, count: 1, values: [value; 2] }
    }

    fn pair(low: Value, high: Value) -> Self {
        Self { lanes: LANES, count: 2, values: [low, high] }
    }

    fn of(lanes: usize, values: &[Value]) -> Self {
        Self { lanes, count: values.len(), values: [values[0], values[values.len() - 1]] }
    }

    fn as_slice(&self) -> &[Value] {
        &self.values[..self.count]
    }

    /// The only register.
    fn single(&self) -> Value {
        self.values[0]
    }
}

/// One iteration: from the counter and the state to the next state.
type Iteration<'i, E> = dyn FnMut(&mut E, Value, &[Parts]) -> Vec<Parts> + 'i;

struct Emitter<'a, 'b> {
    b: FunctionBuilder<'b>,
    func: &'a Func,
    environment: Environment<'a>,
    params: Vec<Value>,
    values: BTreeMap<Val, Parts>,
    consts: BTreeMap<Val, (Elem, u64)>,
    /// Lanes of [`Width::Lanes`] here.
    lanes: usize,
}

/// Writes the function's code.
pub(crate) fn emit<'a>(func: &'a Func, mut b: FunctionBuilder<'_>, environment: Environment<'a>) {
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let params = b.block_params(entry).to_vec();
    let mut emitter = Emitter { b, func, environment, params, values: BTreeMap::new(), consts: BTreeMap::new(), lanes: LANES };
    emitter.block(&func.body);
    emitter.b.ins().return_(&[]);
    emitter.b.seal_all_blocks();
    let config = emitter.environment.config;
    emitter.b.finalize(config);
}

/// The type of a register of a value.
fn register(elem: Elem, lanes: usize) -> Type {
    match (elem, lanes) {
        (Elem::F64, 1) => types::F64,
        (Elem::F32, 1) => types::F32,
        (Elem::I64, 1) => types::I64,
        (Elem::I32 | Elem::U32 | Elem::U8, 1) => types::I32,
        (Elem::Bool, 1) => types::I8,
        (Elem::F64, _) => types::F64X2,
        (Elem::F32, _) => types::F32X4,
        (Elem::I64, _) => types::I64X2,
        (Elem::I32 | Elem::U32 | Elem::U8 | Elem::Bool, _) => types::I32X4,
    }
}

/// How many registers a value has.
fn registers(elem: Elem, lanes: usize) -> usize {
    match elem {
        Elem::F64 | Elem::I64 if lanes > 1 => 2,
        Elem::F64 | Elem::I64 | Elem::F32 | Elem::I32 | Elem::U32 | Elem::U8 | Elem::Bool => 1,
    }
}

fn args(values: &[Value]) -> Vec<BlockArg> {
    values.iter().copied().map(BlockArg::from).collect()
}

/// Bits reinterpreted; vectors in this machine's order.
const BITS: MemFlagsData = MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little);

impl Emitter<'_, '_> {
    fn block(&mut self, block: &Block) {
        for stmt in block {
            self.statement(stmt);
        }
    }

    fn statement(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(value, op) => {
                if let Op::Const(known) = op {
                    self.consts.insert(*value, (known.elem, known.bits));
                }
                let parts = self.operation(op, self.func.ty(*value));
                self.values.insert(*value, parts);
            }
            Stmt::Store(store) => self.store(store),
            Stmt::Trap { ok, trap } => self.trap(*ok, *trap),
            // It has no such instruction.
            Stmt::Prefetch(_) => {}
            Stmt::Transpose(_) | Stmt::Tile(_) => unreachable!("squares and tiles are for vectors of as many lanes"),
            Stmt::If { cond, then } => self.condition(*cond, then),
            Stmt::Loop(inner) => self.counted(inner),
            Stmt::Sweep(sweep) => self.sweep(sweep),
        }
    }

    /// How many lanes a value of this type has here.
    fn lanes_of(&self, ty: Ty) -> usize {
        match ty.width {
            Width::One => 1,
            Width::Lanes => self.lanes,
        }
    }

    /// A value with the lanes that its type has here. V4 allows to take the first lane of one from outside of a tail.
    fn get(&mut self, value: Val) -> Parts {
        let parts = *self.values.get(&value).expect("V1: a value is defined before its uses");
        let lanes = self.lanes_of(self.func.ty(value));
        if parts.lanes == lanes {
            return parts;
        }
        assert_eq!(lanes, 1, "V4: only tails see values of another width");
        Parts::one(self.extract(parts, self.func.ty(value).elem, 0))
    }

    /// The only register of a value of one lane.
    fn one(&mut self, value: Val) -> Value {
        let parts = self.get(value);
        assert_eq!(parts.lanes, 1, "V2: one element is asked for");
        parts.single()
    }

    fn int(&mut self, value: i64) -> Value {
        self.b.ins().iconst(types::I64, value)
    }

    fn condition(&mut self, cond: Val, then: &Block) {
        let cond = self.one(cond);
        let (inside, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(cond, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        self.block(then);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
    }

    /// A loop that tests at its end, with one test before it.
    fn counted(&mut self, inner: &Loop) {
        let (begin, end) = (self.one(inner.begin), self.one(inner.end));
        let inits: Vec<Parts> = inner.carried.iter().map(|carried| self.get(carried.init)).collect();
        let params: Vec<Val> = inner.carried.iter().map(|carried| carried.param).collect();
        let results = self.repeat(begin, end, inner.step, &inits, &mut |emitter, var, state| {
            emitter.values.insert(inner.var, Parts::one(var));
            for (param, parts) in params.iter().zip(state) {
                emitter.values.insert(*param, *parts);
            }
            emitter.block(&inner.body);
            inner.carried.iter().map(|carried| emitter.get(carried.next)).collect()
        });
        for (carried, parts) in inner.carried.iter().zip(results.1) {
            self.values.insert(carried.result, parts);
        }
    }

    /// `while var < end { body; var += step }`; gives the last `var` and the state after it.
    fn repeat(
        &mut self,
        begin: Value,
        end: Value,
        step: i64,
        inits: &[Parts],
        body: &mut Iteration<'_, Self>,
    ) -> (Value, Vec<Parts>) {
        let (inside, after) = (self.b.create_block(), self.b.create_block());
        let flat = |first: Value, state: &[Parts]| {
            let registers = state.iter().flat_map(|parts| parts.as_slice().iter().copied());
            args(&[first].into_iter().chain(registers).collect::<Vec<_>>())
        };
        let start = flat(begin, inits);
        let some = self.b.ins().icmp(IntCC::SignedLessThan, begin, end);
        self.b.ins().brif(some, inside, &start, after, &start);
        let (var, state) = self.block_params(inside, inits);
        self.b.switch_to_block(inside);
        let next_state = body(self, var, &state);
        let next = self.b.ins().iadd_imm_s(var, step);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, end);
        let again = flat(next, &next_state);
        self.b.ins().brif(more, inside, &again, after, &again);
        let results = self.block_params(after, inits);
        self.b.switch_to_block(after);
        results
    }

    /// Parameters of a block: a counter and registers as those of `like`.
    fn block_params(&mut self, block: cranelift_codegen::ir::Block, like: &[Parts]) -> (Value, Vec<Parts>) {
        let var = self.b.append_block_param(block, types::I64);
        let mut state = Vec::new();
        for parts in like {
            let ty = self.b.func.dfg.value_type(parts.single());
            let registers: Vec<Value> = parts.as_slice().iter().map(|_| self.b.append_block_param(block, ty)).collect();
            state.push(Parts::of(parts.lanes, &registers));
        }
        (var, state)
    }

    /// Where a lane is not ok, the status word becomes the trap unless it is set.
    fn trap(&mut self, ok: Val, trap: u32) {
        let ok = self.get(ok);
        let all = if ok.lanes == 1 { ok.single() } else { self.b.ins().vall_true(ok.single()) };
        let (failed, set, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(all, after, &[], failed, &[]);
        self.b.switch_to_block(failed);
        let status = self.params[5];
        let word = self.b.ins().load(types::I64, MemFlagsData::new().with_notrap(), status, 0);
        self.b.ins().brif(word, after, &[], set, &[]);
        self.b.switch_to_block(set);
        let code = self.int(i64::from(trap) + 1);
        self.b.ins().store(MemFlagsData::new().with_notrap(), code, status, 0);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
    }
}
