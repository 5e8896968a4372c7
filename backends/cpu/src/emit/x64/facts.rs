//! What is known of a function before code is made: which values are used, where and how often, which are only parts of
//! addresses, and which are constants.

use crate::vector::{Binary, Block, Const, Elem, Func, INDEX, Load, Op, Shift, Stmt, Val};

/// A loop or a sweep, by its variable; the function's own block otherwise.
pub(super) type Region = Option<Val>;

/// Facts of every value.
pub(super) struct Facts<'a> {
    func: &'a Func,
    defs: Vec<Option<&'a Op>>,
    regions: Vec<Region>,
    uses: Vec<u32>,
    /// Where it is used first, which for a value that is used once is where it is used.
    used_in: Vec<Region>,
}

/// An address as the machine adds it up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) base: Option<Val>,
    pub(super) index: Option<(Val, u8)>,
    pub(super) disp: i64,
}

/// Displacements stay below: later vectors and parts of a value are added to them, and an instruction holds 32 bits.
const FAR: u64 = 1 << 30;

impl<'a> Facts<'a> {
    pub(super) fn new(func: &'a Func) -> Self {
        let count = func.types.len();
        let mut facts =
            Self { func, defs: vec![None; count], regions: vec![None; count], uses: vec![0; count], used_in: vec![None; count] };
        facts.define(&func.body, None);
        facts.uses(&func.body, None);
        facts
    }

    fn define(&mut self, block: &'a Block, region: Region) {
        for stmt in block {
            match stmt {
                Stmt::Let(value, op) => {
                    self.defs[value.index()] = Some(op);
                    self.regions[value.index()] = region;
                }
                Stmt::Store(_) | Stmt::Trap { .. } | Stmt::Prefetch(_) | Stmt::Transpose(_) | Stmt::Tile(_) => {}
                Stmt::If { then, .. } => self.define(then, region),
                Stmt::Loop(inner) => {
                    let own = Some(inner.var);
                    for carried in &inner.carried {
                        self.regions[carried.param.index()] = own;
                        self.regions[carried.result.index()] = region;
                    }
                    self.regions[inner.var.index()] = own;
                    self.define(&inner.body, own);
                }
                Stmt::Sweep(sweep) => {
                    self.regions[sweep.var.index()] = Some(sweep.var);
                    for fold in &sweep.reductions {
                        let results = [Some(fold.result), fold.result_position];
                        results.into_iter().flatten().for_each(|result| self.regions[result.index()] = region);
                    }
                    self.define(&sweep.body, Some(sweep.var));
                }
            }
        }
    }

    /// Counts uses from the last to the first, so that what is not used uses nothing.
    fn uses(&mut self, block: &Block, region: Region) {
        for stmt in block.iter().rev() {
            match stmt {
                Stmt::Let(value, op) => {
                    if self.is_used(*value) {
                        self.operands(*value, op, region);
                    }
                }
                Stmt::Store(store) => {
                    self.address_uses(store.ptr, region);
                    store.pattern.operand().into_iter().for_each(|operand| self.used(operand, region));
                    [store.value].into_iter().chain(store.between).for_each(|value| self.used(value, region));
                }
                Stmt::Trap { ok, .. } => self.used(*ok, region),
                Stmt::Prefetch(ptr) => self.address_uses(*ptr, region),
                Stmt::Transpose(square) => square.operands().into_iter().for_each(|operand| self.used(operand, region)),
                Stmt::Tile(tile) => tile.operands().into_iter().for_each(|operand| self.used(operand, region)),
                Stmt::If { cond, then } => {
                    self.uses(then, region);
                    self.used(*cond, region);
                }
                Stmt::Loop(inner) => {
                    let own = Some(inner.var);
                    inner.carried.iter().for_each(|carried| self.used(carried.next, own));
                    self.uses(&inner.body, own);
                    inner.carried.iter().for_each(|carried| self.used(carried.init, region));
                    self.used(inner.begin, region);
                    self.used(inner.end, own);
                }
                Stmt::Sweep(sweep) => {
                    let own = Some(sweep.var);
                    for fold in &sweep.reductions {
                        self.used(fold.value, own);
                        fold.position.into_iter().for_each(|position| self.used(position, own));
                    }
                    self.uses(&sweep.body, own);
                    self.used(sweep.begin, own);
                    self.used(sweep.end, own);
                }
            }
        }
    }

    fn operands(&mut self, value: Val, op: &Op, region: Region) {
        if let Op::Load(Load { ptr, pattern, mask, .. }) = op {
            self.address_uses(*ptr, region);
            pattern.operand().into_iter().chain(*mask).for_each(|operand| self.used(operand, region));
        } else if self.is_sum(value) {
            self.parts_used(self.sum(value), region);
        } else {
            op.operands().into_iter().for_each(|operand| self.used(operand, region));
        }
    }

    fn address_uses(&mut self, ptr: Val, region: Region) {
        self.parts_used(self.address(ptr, region), region);
    }

    fn parts_used(&mut self, address: Address, region: Region) {
        address.base.into_iter().for_each(|base| self.used(base, region));
        address.index.into_iter().for_each(|(index, _)| self.used(index, region));
    }

    fn used(&mut self, value: Val, region: Region) {
        self.uses[value.index()] += 1;
        self.used_in[value.index()] = region;
    }

    // ---- answers

    pub(super) fn is_used(&self, value: Val) -> bool {
        self.uses[value.index()] > 0
    }

    /// Whether a value is used once, where it is defined: its register is free afterwards.
    pub(super) fn dies(&self, value: Val) -> bool {
        self.uses[value.index()] == 1 && self.used_in[value.index()] == self.regions[value.index()]
    }

    pub(super) fn def(&self, value: Val) -> Option<&'a Op> {
        self.defs[value.index()]
    }

    /// A constant, or one in every lane.
    pub(super) fn constant(&self, value: Val) -> Option<Const> {
        let def = self.def(value)?;
        if let Op::Splat(x) = def {
            return self.constant(*x);
        }
        if let Op::Const(known) = def { Some(*known) } else { None }
    }

    pub(super) fn int(&self, value: Val) -> Option<i64> {
        let known = self.constant(value)?;
        (known.elem == Elem::I64 && self.func.ty(value) == INDEX).then(|| known.bits.cast_signed())
    }

    /// Whether a value is a sum of indices, which one instruction adds up as it would an address.
    pub(super) fn is_sum(&self, value: Val) -> bool {
        self.func.ty(value) == INDEX && matches!(self.def(value), Some(Op::Binary(Binary::Add, ..)))
    }

    /// The parts of a sum of indices.
    pub(super) fn sum(&self, value: Val) -> Address {
        let mut address = Address::default();
        if self.split(value, self.regions[value.index()], &mut address) {
            return address;
        }
        let Some(Op::Binary(Binary::Add, x, y)) = self.def(value) else { unreachable!("a sum is an addition") };
        Address { base: Some(*x), index: Some((*y, 1)), disp: 0 }
    }

    /// The parts of an address that is used in a region. What is computed outside of it stays whole, but for constants.
    pub(super) fn address(&self, ptr: Val, region: Region) -> Address {
        let mut address = Address::default();
        if self.collect(ptr, region, &mut address) { address } else { Address { base: Some(ptr), ..Address::default() } }
    }

    fn collect(&self, value: Val, region: Region, address: &mut Address) -> bool {
        let before = *address;
        if let Some(sum) = self.int(value).and_then(|known| address.disp.checked_add(known))
            && sum.unsigned_abs() < FAR
        {
            address.disp = sum;
            return true;
        }
        if self.split(value, region, address) {
            return true;
        }
        *address = before;
        if address.base.is_none() {
            address.base = Some(value);
        } else if address.index.is_none() {
            address.index = Some((value, 1));
        } else {
            return false;
        }
        true
    }

    /// The operands of an addition or a scaling as parts.
    fn split(&self, value: Val, region: Region, address: &mut Address) -> bool {
        if self.func.ty(value) != INDEX {
            return false;
        }
        let here = self.regions[value.index()] == region;
        match self.def(value) {
            Some(Op::Binary(Binary::Add, x, y)) => {
                let constant = self.int(*x).is_some() || self.int(*y).is_some();
                (here || constant) && self.collect(*x, region, address) && self.collect(*y, region, address)
            }
            Some(Op::Binary(Binary::Mul, x, y)) if here => match (self.int(*x), self.int(*y)) {
                (None, Some(factor @ (2 | 4 | 8))) => scaled(*x, factor, address),
                (Some(factor @ (2 | 4 | 8)), None) => scaled(*y, factor, address),
                _ => false,
            },
            Some(Op::Shift(Shift::Left, x, amount @ 1..=3)) if here => scaled(*x, 1 << amount, address),
            _ => false,
        }
    }
}

fn scaled(value: Val, factor: i64, address: &mut Address) -> bool {
    let free = address.index.is_none();
    if free {
        address.index = Some((value, u8::try_from(factor).expect("a small factor")));
    }
    free
}
