//! Machine instructions over virtual registers, in blocks, as the register allocator reads them. What they compute is not
//! known here.
//!
//! Invariants: a virtual register is defined once; every edge from a block with two successors leads to a block of its own,
//! which only jumps; flags are read by the instruction after the one that sets them, with at most moves in between.

use iced_x86::{Code, OpKind};
use regalloc2::{Block as BlockId, Inst as InstId, InstRange, Operand, OperandConstraint, OperandKind, OperandPos};
use regalloc2::{PReg, PRegSet, RegClass, VReg};

use super::operand::{Arg, Base, Cond, MASK, Mem, Src, VECTOR, View};
use super::pool::Pool;

/// A place that jumps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Plain(Code),
    /// Defines the parameters.
    Enter,
    Jump,
    /// To the first successor where the condition holds, else to the second.
    Branch(Cond),
    Return,
    /// To the address in operand 0.
    Call,
    /// Of operand 0, in `rax`, by operand 1: 64 bits if `wide`.
    Divide {
        wide: bool,
        signed: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Inst {
    pub(super) kind: Kind,
    pub(super) args: [Option<Arg>; 4],
    /// The operand that is a mask, and whether other lanes become 0.
    pub(super) mask: Option<(u8, bool)>,
    operands: (u32, u32),
    clobbers: PRegSet,
}

/// A block: instructions, parameters, and where it leads.
#[derive(Debug)]
struct Block {
    insts: (usize, usize),
    params: Vec<VReg>,
    /// Labels while code is made, blocks afterwards.
    succs: Vec<BlockId>,
    targets: Vec<Label>,
    preds: Vec<BlockId>,
    args: Vec<Vec<VReg>>,
}

/// A function's instructions.
pub(super) struct Asm {
    insts: Vec<Inst>,
    operands: Vec<Operand>,
    blocks: Vec<Block>,
    /// The block at each label.
    labels: Vec<usize>,
    vregs: usize,
    /// 64-bit words of a vector register.
    vector_words: usize,
    pub(super) pool: Pool,
    /// Bytes on the stack that the code uses by itself.
    pub(super) frame: usize,
    pub(super) calls: bool,
}

impl Asm {
    pub(super) fn new(vector_bytes: usize) -> Self {
        let mut asm = Self {
            insts: Vec::new(),
            operands: Vec::new(),
            blocks: Vec::new(),
            labels: Vec::new(),
            vregs: 0,
            vector_words: vector_bytes / 8,
            pool: Pool::default(),
            frame: 0,
            calls: false,
        };
        asm.open(Vec::new());
        asm
    }

    pub(super) fn vreg(&mut self, class: RegClass) -> VReg {
        self.vregs += 1;
        VReg::new(self.vregs - 1, class)
    }

    pub(super) fn inst(&mut self, code: Code) -> Build<'_> {
        self.build(Kind::Plain(code))
    }

    pub(super) fn build(&mut self, kind: Kind) -> Build<'_> {
        let first = u32::try_from(self.operands.len()).expect("fewer than 2^32 operands");
        let inst = Inst { kind, args: [None; 4], mask: None, operands: (first, first), clobbers: PRegSet::empty() };
        Build { asm: self, inst, count: 0, def: None }
    }

    // ---- blocks

    pub(super) fn label(&mut self) -> Label {
        self.labels.push(usize::MAX);
        Label(self.labels.len() - 1)
    }

    /// Starts the block of a label, after the last one was ended.
    pub(super) fn bind(&mut self, label: Label, params: Vec<VReg>) {
        self.labels[label.0] = self.blocks.len();
        self.open(params);
    }

    fn open(&mut self, params: Vec<VReg>) {
        let at = self.insts.len();
        self.blocks.push(Block {
            insts: (at, at),
            params,
            succs: Vec::new(),
            targets: Vec::new(),
            preds: Vec::new(),
            args: Vec::new(),
        });
    }

    fn end(&mut self, targets: Vec<Label>, args: Vec<Vec<VReg>>) {
        let at = self.insts.len();
        let block = self.blocks.last_mut().expect("a block is open");
        block.insts.1 = at;
        block.targets = targets;
        block.args = args;
    }

    pub(super) fn jump(&mut self, target: Label, args: Vec<VReg>) {
        self.build(Kind::Jump).done();
        self.end(vec![target], vec![args]);
    }

    /// Ends the block: to `then` where the condition holds, else to `otherwise`.
    pub(super) fn branch(&mut self, cond: Cond, then: (Label, Vec<VReg>), otherwise: (Label, Vec<VReg>)) {
        let (first, second) = (self.label(), self.label());
        self.build(Kind::Branch(cond)).done();
        self.end(vec![first, second], vec![Vec::new(), Vec::new()]);
        for (edge, (target, args)) in [(first, then), (second, otherwise)] {
            self.bind(edge, Vec::new());
            self.jump(target, args);
        }
    }

    pub(super) fn ret(&mut self) {
        self.build(Kind::Return).done();
        self.end(Vec::new(), Vec::new());
    }

    /// Labels become blocks; nothing is added afterwards.
    pub(super) fn finish(&mut self) {
        for block in 0..self.blocks.len() {
            let targets = self.blocks[block].targets.clone();
            for target in targets {
                let to = self.labels[target.0];
                assert_ne!(to, usize::MAX, "every label is bound");
                self.blocks[block].succs.push(BlockId::new(to));
                self.blocks[to].preds.push(BlockId::new(block));
            }
        }
    }

    pub(super) fn at(&self, inst: InstId) -> &Inst {
        &self.insts[inst.index()]
    }

    /// Whether a block only jumps.
    pub(super) fn only_jumps(&self, block: BlockId) -> bool {
        let (begin, end) = self.blocks[block.index()].insts;
        end - begin == 1 && matches!(self.insts[begin].kind, Kind::Jump)
    }
}

/// An instruction that is being made: encoded operands in order.
pub(super) struct Build<'a> {
    asm: &'a mut Asm,
    inst: Inst,
    count: usize,
    def: Option<VReg>,
}

impl Build<'_> {
    fn operand(&mut self, vreg: VReg, constraint: OperandConstraint, kind: OperandKind, pos: OperandPos) -> u8 {
        self.asm.operands.push(Operand::new(vreg, constraint, kind, pos));
        self.inst.operands.1 += 1;
        u8::try_from(self.inst.operands.1 - self.inst.operands.0 - 1).expect("few operands")
    }

    fn arg(mut self, arg: Arg) -> Self {
        self.inst.args[self.count] = Some(arg);
        self.count += 1;
        self
    }

    fn define(&mut self, class: RegClass, constraint: OperandConstraint) -> u8 {
        let vreg = self.asm.vreg(class);
        self.def = self.def.or(Some(vreg));
        self.operand(vreg, constraint, OperandKind::Def, OperandPos::Late)
    }

    /// A new register.
    pub(super) fn def(mut self, view: View) -> Self {
        let slot = self.define(view.class(), OperandConstraint::Reg);
        self.arg(Arg::Reg(slot, view))
    }

    /// A new register that holds `x` before.
    pub(super) fn modify(mut self, x: VReg, view: View) -> Self {
        let used = self.operand(x, OperandConstraint::Reg, OperandKind::Use, OperandPos::Early);
        let slot = self.define(view.class(), OperandConstraint::Reuse(usize::from(used)));
        self.arg(Arg::Reg(slot, view))
    }

    /// As [`Build::modify`], of an instruction that names what it changes twice: as the result and as the first operand.
    pub(super) fn update(self, x: VReg, view: View) -> Self {
        let build = self.modify(x, view);
        let named = build.inst.args[build.count - 1].expect("what is modified is named");
        build.arg(named)
    }

    /// A new register that is read though nothing was written: what it holds does not matter.
    pub(super) fn def_alike(mut self, view: View, times: usize) -> Self {
        let slot = self.define(view.class(), OperandConstraint::Reg);
        (0..times).fold(self, |build, _| build.arg(Arg::Reg(slot, view)))
    }

    pub(super) fn reg(mut self, x: VReg, view: View) -> Self {
        let slot = self.operand(x, OperandConstraint::Reg, OperandKind::Use, OperandPos::Early);
        self.arg(Arg::Reg(slot, view))
    }

    pub(super) fn mem(mut self, mem: Mem) -> Self {
        let mut used = |vreg: VReg| self.operand(vreg, OperandConstraint::Reg, OperandKind::Use, OperandPos::Early);
        let base = match mem.base {
            Base::None => Base::None,
            Base::Reg(vreg) => Base::Reg(used(vreg)),
            Base::Frame => Base::Frame,
            Base::Pool => Base::Pool,
        };
        let index = mem.index.map(|(vreg, view)| (used(vreg), view));
        self.arg(Arg::Mem(Mem { base, index, scale: mem.scale, disp: mem.disp, broadcast: mem.broadcast }))
    }

    pub(super) fn src(self, src: Src, view: View) -> Self {
        match src {
            Src::Reg(vreg) => self.reg(vreg, view),
            Src::Mem(mem) => self.mem(mem),
        }
    }

    pub(super) fn tile(self, tile: u8) -> Self {
        self.arg(Arg::Tile(tile))
    }

    pub(super) fn imm8(self, value: u8) -> Self {
        self.arg(Arg::Imm(OpKind::Immediate8, i64::from(value)))
    }

    pub(super) fn imm(self, kind: OpKind, value: i64) -> Self {
        self.arg(Arg::Imm(kind, value))
    }

    /// Lanes outside of the mask are left, or 0 if `zeroing`.
    pub(super) fn mask(mut self, mask: Option<VReg>, zeroing: bool) -> Self {
        if let Some(mask) = mask {
            let slot = self.operand(mask, OperandConstraint::Reg, OperandKind::Use, OperandPos::Early);
            self.inst.mask = Some((slot, zeroing));
        }
        self
    }

    /// A mask that the instruction destroys.
    pub(super) fn mask_consumed(mut self, mask: VReg) -> Self {
        let used = self.operand(mask, OperandConstraint::Reg, OperandKind::Use, OperandPos::Early);
        let slot = self.define(MASK, OperandConstraint::Reuse(usize::from(used)));
        self.inst.mask = Some((slot, false));
        self
    }

    /// A register that the instruction reads without naming it.
    pub(super) fn fixed_use(mut self, x: VReg, at: PReg) -> Self {
        self.operand(x, OperandConstraint::FixedReg(at), OperandKind::Use, OperandPos::Early);
        self
    }

    /// A register that the instruction still reads when it has written others.
    pub(super) fn late_use(mut self, x: VReg) -> Self {
        self.operand(x, OperandConstraint::Reg, OperandKind::Use, OperandPos::Late);
        self
    }

    /// A register that the instruction writes without naming it.
    pub(super) fn fixed_def(mut self, at: PReg) -> Self {
        self.define(at.class(), OperandConstraint::FixedReg(at));
        self
    }

    pub(super) fn clobbers(mut self, registers: PRegSet) -> Self {
        self.inst.clobbers = registers;
        self
    }

    /// Adds the instruction; gives the first register that it defines.
    pub(super) fn end(self) -> VReg {
        self.asm.insts.push(self.inst);
        self.def.expect("the instruction defines a register")
    }

    /// Adds the instruction.
    pub(super) fn done(self) {
        self.asm.insts.push(self.inst);
    }
}

impl regalloc2::Function for Asm {
    fn num_insts(&self) -> usize {
        self.insts.len()
    }

    fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn entry_block(&self) -> BlockId {
        BlockId::new(0)
    }

    fn block_insns(&self, block: BlockId) -> InstRange {
        let (begin, end) = self.blocks[block.index()].insts;
        InstRange::new(InstId::new(begin), InstId::new(end))
    }

    fn block_succs(&self, block: BlockId) -> &[BlockId] {
        &self.blocks[block.index()].succs
    }

    fn block_preds(&self, block: BlockId) -> &[BlockId] {
        &self.blocks[block.index()].preds
    }

    fn block_params(&self, block: BlockId) -> &[VReg] {
        &self.blocks[block.index()].params
    }

    fn is_ret(&self, inst: InstId) -> bool {
        matches!(self.at(inst).kind, Kind::Return)
    }

    fn is_branch(&self, inst: InstId) -> bool {
        matches!(self.at(inst).kind, Kind::Jump | Kind::Branch(_))
    }

    fn branch_blockparams(&self, block: BlockId, _: InstId, successor: usize) -> &[VReg] {
        &self.blocks[block.index()].args[successor]
    }

    fn inst_operands(&self, inst: InstId) -> &[Operand] {
        let (begin, end) = self.at(inst).operands;
        &self.operands[begin as usize..end as usize]
    }

    fn inst_clobbers(&self, inst: InstId) -> PRegSet {
        self.at(inst).clobbers
    }

    fn num_vregs(&self) -> usize {
        self.vregs
    }

    fn spillslot_size(&self, class: RegClass) -> usize {
        if class == VECTOR { self.vector_words } else { 1 }
    }
}
