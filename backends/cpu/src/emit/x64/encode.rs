//! Instructions with their registers to bytes: frame, moves, jumps and the constants behind the code.

use iced_x86::{Code, Encoder, FastFormatter, Instruction, OpKind, Register};
use regalloc2::{Allocation, Block, Edit, Function, Inst as InstId, InstOrEdit, Output, PReg, RegClass};

use super::Wide;
use super::alloc::SAVED;
use super::inst::{Asm, Inst, Kind};
use super::operand::{Arg, Base, Cond, GENERAL, MASK, Mem, VECTOR, View};

/// Bytes that vectors on the stack are aligned to.
const ALIGNMENT: usize = 64;

/// A function's bytes.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// Code, and the constants behind it.
    pub(crate) bytes: Vec<u8>,
    /// The instructions and where they start.
    instructions: Vec<(usize, Instruction)>,
}

impl Encoded {
    /// The code as text, with addresses from the function's start.
    pub(crate) fn listing(&self) -> String {
        let mut formatter = FastFormatter::new();
        let mut text = String::new();
        for (at, instruction) in &self.instructions {
            let mut line = String::new();
            formatter.format(instruction, &mut line);
            text.push_str(&format!("{at:6x}: {line}\n"));
        }
        text
    }
}

/// Code with its constants.
pub(super) fn encode(asm: &Asm, wide: Wide, output: &Output) -> Encoded {
    let mut writer = Writer {
        asm,
        wide,
        output,
        encoder: Encoder::new(64),
        at: 0,
        last: 0,
        blocks: vec![0; asm.num_blocks()],
        jumps: Vec::new(),
        constants: Vec::new(),
        saved: saved(output),
        instructions: Vec::new(),
        frame: (asm.frame.next_multiple_of(ALIGNMENT) + output.num_spillslots * 8).next_multiple_of(ALIGNMENT),
    };
    let empty: Vec<bool> = (0..asm.num_blocks()).map(|block| writer.is_empty(Block::new(block))).collect();
    writer.prologue();
    for block in 0..asm.num_blocks() {
        writer.block(Block::new(block), &empty);
    }
    writer.finish()
}

struct Writer<'a> {
    asm: &'a Asm,
    wide: Wide,
    output: &'a Output,
    encoder: Encoder,
    at: usize,
    /// Where the last instruction starts.
    last: usize,
    blocks: Vec<usize>,
    jumps: Vec<Jump>,
    constants: Vec<Constant>,
    saved: Vec<usize>,
    frame: usize,
    instructions: Vec<(usize, Instruction)>,
}

/// A jump, whose last four bytes are its distance.
struct Jump {
    inst: usize,
    end: usize,
    target: Block,
}

/// An instruction that reads a constant.
struct Constant {
    inst: usize,
    /// Where the distance is.
    place: usize,
    end: usize,
    /// Among the constants.
    offset: i64,
}

/// Registers to be given back that the code uses.
fn saved(output: &Output) -> Vec<usize> {
    let used = |number: &usize| {
        let register = Allocation::reg(PReg::new(*number, GENERAL));
        let moved = |edit: &Edit| {
            let Edit::Move { from, to } = edit;
            *from == register || *to == register
        };
        output.allocs.contains(&register) || output.edits.iter().any(|(_, edit)| moved(edit))
    };
    SAVED.into_iter().filter(used).collect()
}

impl Writer<'_> {
    // ---- blocks

    /// Whether a block is an edge on which nothing is moved, so that jumps go where it leads.
    fn is_empty(&self, block: Block) -> bool {
        let mut code = self.output.block_insts_and_edits(self.asm, block);
        self.asm.only_jumps(block) && matches!(code.next(), Some(InstOrEdit::Inst(_)))
    }

    fn block(&mut self, block: Block, empty: &[bool]) {
        self.blocks[block.index()] = self.at;
        if empty[block.index()] && self.is_skipped(block, empty) {
            return;
        }
        for item in self.output.block_insts_and_edits(self.asm, block) {
            match item {
                InstOrEdit::Edit(Edit::Move { from, to }) => self.transfer(*from, *to),
                InstOrEdit::Inst(inst) => self.inst(block, inst, empty),
            }
        }
    }

    /// Whether no one comes to an empty block: the branch before it jumps to where it leads.
    fn is_skipped(&self, block: Block, empty: &[bool]) -> bool {
        let [pred] = self.asm.block_preds(block) else { return false };
        match self.asm.block_succs(*pred) {
            [first, second] => block == if self.inverts(*first, *second, empty) { *second } else { *first },
            _ => false,
        }
    }

    /// Whether a branch jumps where its condition does not hold, and falls through to its first edge: if something is moved
    /// there, or the code that it leads to comes next.
    fn inverts(&self, first: Block, second: Block, empty: &[bool]) -> bool {
        let next = self.asm.block_succs(first)[0].index() == second.index() + 1;
        !empty[first.index()] || (next && empty[second.index()])
    }

    fn inst(&mut self, block: Block, id: InstId, empty: &[bool]) {
        let inst = *self.asm.at(id);
        match inst.kind {
            Kind::Plain(code) => self.plain(code, &inst, id),
            Kind::Enter => {}
            Kind::Jump => {
                let target = self.asm.block_succs(block)[0];
                if !self.falls_to(block, target, empty) {
                    self.jump(Code::Jmp_rel32_64, target);
                }
            }
            Kind::Branch(cond) => {
                let (first, second) = (self.asm.block_succs(block)[0], self.asm.block_succs(block)[1]);
                let inverts = self.inverts(first, second, empty);
                let (cond, edge) = if inverts { (cond.inverse(), second) } else { (cond, first) };
                let target = if empty[edge.index()] { self.asm.block_succs(edge)[0] } else { edge };
                self.jump(jump_code(cond), target);
            }
            Kind::Return => self.epilogue(),
            Kind::Call => {
                self.simple(Code::VEX_Vzeroupper, &[]);
                let target = self.register(self.alloc(id, 0), View::R64);
                self.simple(Code::Call_rm64, &[target]);
            }
            Kind::Divide { wide, signed } => self.divide(wide, signed, self.alloc(id, 1)),
        }
    }

    /// Whether the code after `block` is that of `target`, past blocks that are not written.
    fn falls_to(&self, block: Block, target: Block, empty: &[bool]) -> bool {
        let between = block.index() + 1..target.index();
        target.index() > block.index()
            && between.into_iter().all(|other| empty[other] && self.is_skipped(Block::new(other), empty))
    }

    fn jump(&mut self, code: Code, target: Block) {
        let instruction = Instruction::with_branch(code, 0).expect("a branch");
        self.write(&instruction);
        self.jumps.push(Jump { inst: self.instructions.len() - 1, end: self.at, target });
    }

    fn divide(&mut self, wide: bool, signed: bool, divisor: Allocation) {
        let view = if wide { View::R64 } else { View::R32 };
        let register = self.register(divisor, view);
        let (extend, divide) = match (wide, signed) {
            (true, true) => (Code::Cqo, Code::Idiv_rm64),
            (false, true) => (Code::Cdq, Code::Idiv_rm32),
            (true, false) => (Code::Xor_r32_rm32, Code::Div_rm64),
            (false, false) => (Code::Xor_r32_rm32, Code::Div_rm32),
        };
        self.simple(extend, if signed { &[] } else { &[Register::EDX, Register::EDX] });
        self.simple(divide, &[register]);
    }

    // ---- frame

    fn has_frame(&self) -> bool {
        self.frame > 0 || self.asm.calls || !self.saved.is_empty()
    }

    fn prologue(&mut self) {
        if !self.has_frame() {
            return;
        }
        self.simple(Code::Push_r64, &[Register::RBP]);
        self.simple(Code::Mov_r64_rm64, &[Register::RBP, Register::RSP]);
        for number in self.saved.clone() {
            self.simple(Code::Push_r64, &[general(number)]);
        }
        self.stack(Code::And_rm64_imm8, OpKind::Immediate8to64, -i64::try_from(ALIGNMENT).expect("small"));
        self.stack(Code::Sub_rm64_imm32, OpKind::Immediate32to64, i64::try_from(self.frame).expect("a small frame"));
    }

    fn stack(&mut self, code: Code, kind: OpKind, value: i64) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        set_register(&mut instruction, 0, Register::RSP);
        set_immediate(&mut instruction, 1, kind, value);
        self.write(&instruction);
    }

    fn epilogue(&mut self) {
        self.simple(Code::VEX_Vzeroupper, &[]);
        if self.has_frame() {
            let below = i64::try_from(self.saved.len() * 8).expect("small");
            let mut instruction = Instruction::default();
            instruction.set_code(Code::Lea_r64_m);
            set_register(&mut instruction, 0, Register::RSP);
            set_memory(&mut instruction, 1, Register::RBP, Register::None, 1, -below);
            self.write(&instruction);
            for number in self.saved.clone().into_iter().rev() {
                self.simple(Code::Pop_r64, &[general(number)]);
            }
            self.simple(Code::Pop_r64, &[Register::RBP]);
        }
        self.simple(Code::Retnq, &[]);
    }

    fn slot(&self, allocation: Allocation) -> i64 {
        let slot = allocation.as_stack().expect("a place on the stack").index();
        i64::try_from(self.asm.frame.next_multiple_of(ALIGNMENT) + slot * 8).expect("a small frame")
    }

    // ---- moves

    fn transfer(&mut self, from: Allocation, to: Allocation) {
        let (code, view) = match (class(from, to), from.is_reg(), to.is_reg()) {
            (RegClass::Int, true, true) => (Code::Mov_r64_rm64, View::R64),
            (RegClass::Int, false, _) => (Code::Mov_r64_rm64, View::R64),
            (RegClass::Int, _, false) => (Code::Mov_rm64_r64, View::R64),
            (RegClass::Vector, true, true) => (Code::VEX_Kmovw_kr_km16, View::K),
            (RegClass::Vector, false, _) => (Code::VEX_Kmovw_kr_km16, View::K),
            (RegClass::Vector, _, false) => (Code::VEX_Kmovw_m16_kr, View::K),
            (RegClass::Float, true, true) => {
                (self.wide.of([Code::VEX_Vmovaps_ymm_ymmm256, Code::EVEX_Vmovaps_zmm_k1z_zmmm512]), self.wide.view())
            }
            (RegClass::Float, false, _) => {
                (self.wide.of([Code::VEX_Vmovups_ymm_ymmm256, Code::EVEX_Vmovups_zmm_k1z_zmmm512]), self.wide.view())
            }
            (RegClass::Float, _, false) => {
                (self.wide.of([Code::VEX_Vmovups_ymmm256_ymm, Code::EVEX_Vmovups_zmmm512_k1z_zmm]), self.wide.view())
            }
        };
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        for (place, allocation) in [(0, to), (1, from)] {
            if allocation.is_reg() {
                set_register(&mut instruction, place, self.register(allocation, view));
            } else {
                set_memory(&mut instruction, place, Register::RSP, Register::None, 1, self.slot(allocation));
            }
        }
        self.write(&instruction);
    }

    // ---- instructions

    fn alloc(&self, inst: InstId, operand: u8) -> Allocation {
        self.output.inst_allocs(inst)[usize::from(operand)]
    }

    fn register(&self, allocation: Allocation, view: View) -> Register {
        register(allocation.as_reg().expect("an operand is in a register"), view)
    }

    fn plain(&mut self, code: Code, inst: &Inst, id: InstId) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        let mut constant = None;
        for (place, arg) in (0u32..).zip(inst.args.iter().flatten()) {
            match arg {
                Arg::Reg(slot, view) => set_register(&mut instruction, place, self.register(self.alloc(id, *slot), *view)),
                Arg::Imm(kind, value) => set_immediate(&mut instruction, place, *kind, *value),
                Arg::Tile(tile) => set_register(&mut instruction, place, Register::TMM0 + u32::from(*tile)),
                Arg::Mem(mem) => constant = constant.or(self.memory(&mut instruction, place, id, mem)),
            }
        }
        if let Some((slot, zeroing)) = inst.mask {
            instruction.set_op_mask(self.register(self.alloc(id, slot), View::K));
            instruction.set_zeroing_masking(zeroing);
        }
        self.write(&instruction);
        if let Some(offset) = constant {
            let offsets = self.encoder.get_constant_offsets();
            let place = self.last + offsets.displacement_offset();
            self.constants.push(Constant { inst: self.instructions.len() - 1, place, end: self.at, offset });
        }
    }

    /// Sets an operand in memory; gives the offset of the constant that it is, if it is one.
    fn memory(&self, instruction: &mut Instruction, place: u32, id: InstId, mem: &Mem<u8>) -> Option<i64> {
        let index = mem.index.map_or(Register::None, |(slot, view)| self.register(self.alloc(id, slot), view));
        let base = match mem.base {
            Base::None => Register::None,
            Base::Reg(slot) => self.register(self.alloc(id, slot), View::R64),
            Base::Frame => Register::RSP,
            Base::Pool => Register::RIP,
        };
        instruction.set_is_broadcast(mem.broadcast);
        if base == Register::RIP {
            instruction.set_op_kind(place, OpKind::Memory);
            instruction.set_memory_base(base);
            instruction.set_memory_displ_size(8);
            instruction.set_memory_displacement64(self.at as u64);
            return Some(mem.disp);
        }
        set_memory(instruction, place, base, index, mem.scale, mem.disp);
        None
    }

    fn simple(&mut self, code: Code, registers: &[Register]) {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        for (place, register) in (0u32..).zip(registers) {
            set_register(&mut instruction, place, *register);
        }
        self.write(&instruction);
    }

    fn write(&mut self, instruction: &Instruction) {
        let length = self.encoder.encode(instruction, self.at as u64);
        self.last = self.at;
        self.instructions.push((self.at, *instruction));
        self.at += length.unwrap_or_else(|error| panic!("X3: operands are what {:?} takes: {error}", instruction.code()));
    }

    fn finish(mut self) -> Encoded {
        let mut bytes = self.encoder.take_buffer();
        for jump in &self.jumps {
            let target = self.blocks[jump.target.index()];
            put_distance(&mut bytes, jump.end - 4, jump.end, target);
            self.instructions[jump.inst].1.set_near_branch64(target as u64);
        }
        let pool = bytes.len().next_multiple_of(ALIGNMENT);
        if !self.constants.is_empty() {
            bytes.resize(pool, 0xcc);
            bytes.extend(self.asm.pool.bytes());
        }
        for constant in &self.constants {
            let target = pool + usize::try_from(constant.offset).expect("X4: constants lie behind the code");
            put_distance(&mut bytes, constant.place, constant.end, target);
            self.instructions[constant.inst].1.set_memory_displacement64(target as u64);
        }
        Encoded { bytes, instructions: self.instructions }
    }
}

fn put_distance(bytes: &mut [u8], place: usize, end: usize, target: usize) {
    let distance = i64::try_from(target).expect("small code") - i64::try_from(end).expect("small code");
    let distance = i32::try_from(distance).expect("X5: code is below 2 GiB");
    bytes[place..place + 4].copy_from_slice(&distance.to_le_bytes());
}

fn class(from: Allocation, to: Allocation) -> RegClass {
    let register = from.as_reg().or(to.as_reg()).expect("a move has a register on a side");
    register.class()
}

fn general(number: usize) -> Register {
    register(PReg::new(number, GENERAL), View::R64)
}

fn register(register: PReg, view: View) -> Register {
    let number = u32::try_from(register.hw_enc()).expect("few registers");
    debug_assert!(matches!(register.class(), GENERAL | VECTOR | MASK) && register.class() == view.class());
    match view {
        View::R64 => Register::RAX + number,
        View::R32 => Register::EAX + number,
        View::R16 => Register::AX + number,
        View::R8 if number < 4 => Register::AL + number,
        View::R8 if number < 8 => Register::SPL + (number - 4),
        View::R8 => Register::R8L + (number - 8),
        View::Xmm => Register::XMM0 + number,
        View::Ymm => Register::YMM0 + number,
        View::Zmm => Register::ZMM0 + number,
        View::K => Register::K0 + number,
    }
}

fn set_register(instruction: &mut Instruction, place: u32, register: Register) {
    instruction.set_op_kind(place, OpKind::Register);
    instruction.set_op_register(place, register);
}

fn set_memory(instruction: &mut Instruction, place: u32, base: Register, index: Register, scale: u8, disp: i64) {
    instruction.set_op_kind(place, OpKind::Memory);
    instruction.set_memory_base(base);
    instruction.set_memory_index(index);
    instruction.set_memory_index_scale(u32::from(scale));
    instruction.set_memory_displacement64(disp.cast_unsigned());
    instruction.set_memory_displ_size(match (base, disp) {
        (Register::None, _) => 8,
        (_, 0) => 0,
        (_, _) => 1,
    });
}

fn set_immediate(instruction: &mut Instruction, place: u32, kind: OpKind, value: i64) {
    instruction.set_op_kind(place, kind);
    instruction.set_immediate_i64(place, value);
}

fn jump_code(cond: Cond) -> Code {
    match cond {
        Cond::Equal => Code::Je_rel32_64,
        Cond::NotEqual => Code::Jne_rel32_64,
        Cond::Less => Code::Jl_rel32_64,
        Cond::LessEqual => Code::Jle_rel32_64,
        Cond::Greater => Code::Jg_rel32_64,
        Cond::GreaterEqual => Code::Jge_rel32_64,
        Cond::Below => Code::Jb_rel32_64,
        Cond::BelowEqual => Code::Jbe_rel32_64,
        Cond::Above => Code::Ja_rel32_64,
        Cond::AboveEqual => Code::Jae_rel32_64,
    }
}
