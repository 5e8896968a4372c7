//! Makes vector IR. What does not vary in a loop is placed before it, and what is computed already is not computed again:
//! with that done here, emitters need no optimiser.

use std::collections::BTreeMap;

use graver_ir::DType;

use super::{
    Binary, Block, Caches, Carried, Combine, Compare, Const, Elem, Fold, Func, INDEX, Load, Loop, Op, Pairs, Pattern, Shift,
    Stmt, Store, Sweep, TABLE_LANES, Tile, Transpose, Ty, Unary, Val, Width,
};

/// A function that is being made. Blocks are open from the function's own, level 0, to the innermost.
#[derive(Debug)]
pub(crate) struct Builder {
    name: String,
    types: Vec<Ty>,
    /// The block that defines a value.
    levels: Vec<usize>,
    consts: BTreeMap<Val, Const>,
    /// What `i64` were that were `i32`.
    widened: BTreeMap<Val, Val>,
    open: Vec<Open>,
    known: BTreeMap<Op, Val>,
    /// Whether tables may be looked up.
    looks_up: bool,
}

#[derive(Debug, Default)]
struct Open {
    stmts: Block,
    /// What becomes unknown at its end.
    keys: Vec<Op>,
    conditional: bool,
}

/// A loop that is open.
#[derive(Debug)]
#[must_use]
pub(crate) struct OpenLoop {
    pub(crate) var: Val,
    pub(crate) params: Vec<Val>,
    begin: Val,
    end: Val,
    step: i64,
    inits: Vec<Val>,
}

/// A sweep that is open.
#[derive(Debug)]
#[must_use]
pub(crate) struct OpenSweep {
    pub(crate) var: Val,
    begin: Val,
    end: Val,
    unroll: usize,
}

/// A condition that is open.
#[derive(Debug)]
#[must_use]
pub(crate) struct OpenIf {
    cond: Val,
}

impl Builder {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            types: Vec::new(),
            levels: Vec::new(),
            consts: BTreeMap::new(),
            widened: BTreeMap::new(),
            open: vec![Open::default()],
            known: BTreeMap::new(),
            looks_up: false,
        }
    }

    /// For vectors of so many 4-byte lanes.
    pub(crate) fn for_lanes(name: impl Into<String>, lanes: usize) -> Self {
        Self { looks_up: lanes == TABLE_LANES, ..Self::new(name) }
    }

    /// Whether [`Builder::look_up`] may be used.
    pub(crate) fn looks_up(&self) -> bool {
        self.looks_up
    }

    pub(crate) fn finish(mut self) -> Func {
        let body = self.open.pop().expect("a function has a block").stmts;
        assert!(self.open.is_empty(), "every loop is closed");
        Func { name: self.name, types: self.types, body }
    }

    pub(crate) fn ty(&self, value: Val) -> Ty {
        self.types[value.index()]
    }

    /// How deep the block that defines a value is.
    pub(crate) fn level(&self, value: Val) -> usize {
        self.levels[value.index()]
    }

    pub(crate) fn as_int(&self, value: Val) -> Option<i64> {
        self.consts.get(&value).filter(|known| known.elem == Elem::I64).map(|known| known.bits.cast_signed())
    }

    // ---- operations

    /// A value, in the outermost block where its operands are known.
    pub(crate) fn op(&mut self, op: Op) -> Val {
        let level = op.operands().iter().map(|operand| self.level(*operand)).max().unwrap_or(0);
        self.op_at(op, level)
    }

    fn op_at(&mut self, op: Op, level: usize) -> Val {
        if let Some(known) = self.known.get(&op) {
            return *known;
        }
        let value = self.value(self.ty_of(&op), level);
        if let Op::Const(known) = op {
            self.consts.insert(value, known);
        }
        self.known.insert(op.clone(), value);
        self.open[level].keys.push(op.clone());
        self.open[level].stmts.push(Stmt::Let(value, op));
        value
    }

    fn value(&mut self, ty: Ty, level: usize) -> Val {
        self.types.push(ty);
        self.levels.push(level);
        Val(u32::try_from(self.types.len() - 1).expect("fewer than 2^32 values"))
    }

    pub(crate) fn constant(&mut self, elem: Elem, bits: u64) -> Val {
        self.op(Op::Const(Const { elem, bits }))
    }

    pub(crate) fn int(&mut self, value: i64) -> Val {
        self.constant(Elem::I64, value.cast_unsigned())
    }

    pub(crate) fn f32(&mut self, value: f32) -> Val {
        self.constant(Elem::F32, u64::from(value.to_bits()))
    }

    pub(crate) fn f64(&mut self, value: f64) -> Val {
        self.constant(Elem::F64, value.to_bits())
    }

    /// A constant of any type, from an integer that it holds exactly.
    pub(crate) fn number(&mut self, elem: Elem, value: i32) -> Val {
        match elem {
            Elem::F64 => self.f64(f64::from(value)),
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            Elem::F32 => self.f32(value as f32),
            Elem::I64 => self.int(i64::from(value)),
            Elem::I32 | Elem::U32 => self.constant(elem, u64::from(value.cast_unsigned())),
            Elem::U8 => self.constant(elem, u64::from(value.cast_unsigned() & 0xff)),
            Elem::Bool => self.constant(elem, u64::from(value != 0)),
        }
    }

    pub(crate) fn unary(&mut self, op: Unary, x: Val) -> Val {
        self.op(Op::Unary(op, x))
    }

    pub(crate) fn binary(&mut self, op: Binary, x: Val, y: Val) -> Val {
        if let Some(folded) = self.fold(op, x, y) {
            return folded;
        }
        let (x, y) = self.alike(x, y);
        self.op(Op::Binary(op, x, y))
    }

    /// Index arithmetic on constants, and with 0 and 1; truth values.
    fn fold(&mut self, op: Binary, x: Val, y: Val) -> Option<Val> {
        match (op, self.truth(x), self.truth(y)) {
            (Binary::And, Some(true), _) | (Binary::Or, Some(false), _) => return Some(y),
            (Binary::And, _, Some(true)) | (Binary::Or, _, Some(false)) => return Some(x),
            (Binary::And, Some(false), _) | (Binary::Or, Some(true), _) => return Some(x),
            (Binary::And, _, Some(false)) | (Binary::Or, _, Some(true)) => return Some(y),
            _ => {}
        }
        match (op, self.as_int(x), self.as_int(y)) {
            (Binary::Add, Some(x), Some(y)) => Some(self.int(x.wrapping_add(y))),
            (Binary::Sub, Some(x), Some(y)) => Some(self.int(x.wrapping_sub(y))),
            (Binary::Mul, Some(x), Some(y)) => Some(self.int(x.wrapping_mul(y))),
            (Binary::Min, Some(x), Some(y)) => Some(self.int(x.min(y))),
            (Binary::Max, Some(x), Some(y)) => Some(self.int(x.max(y))),
            (Binary::Add, Some(0), None) | (Binary::Mul, Some(1), None) => Some(y),
            (Binary::Add | Binary::Sub, None, Some(0)) | (Binary::Mul, None, Some(1)) => Some(x),
            (Binary::Mul, Some(0), None) | (Binary::Mul, None, Some(0)) => Some(self.int(0)),
            _ => None,
        }
    }

    /// Both of one width.
    fn alike(&mut self, x: Val, y: Val) -> (Val, Val) {
        match (self.ty(x).width, self.ty(y).width) {
            (Width::One, Width::Lanes) => (self.lanes(x), y),
            (Width::Lanes, Width::One) => (x, self.lanes(y)),
            (Width::One, Width::One) | (Width::Lanes, Width::Lanes) => (x, y),
        }
    }

    /// The value in every lane.
    pub(crate) fn lanes(&mut self, x: Val) -> Val {
        match self.ty(x).width {
            Width::One => self.op(Op::Splat(x)),
            Width::Lanes => x,
        }
    }

    /// The value with the width given.
    pub(crate) fn with_width(&mut self, x: Val, width: Width) -> Val {
        match width {
            Width::One => x,
            Width::Lanes => self.lanes(x),
        }
    }

    pub(crate) fn add(&mut self, x: Val, y: Val) -> Val {
        self.binary(Binary::Add, x, y)
    }

    pub(crate) fn sub(&mut self, x: Val, y: Val) -> Val {
        self.binary(Binary::Sub, x, y)
    }

    pub(crate) fn mul(&mut self, x: Val, y: Val) -> Val {
        self.binary(Binary::Mul, x, y)
    }

    pub(crate) fn and(&mut self, x: Val, y: Val) -> Val {
        self.binary(Binary::And, x, y)
    }

    pub(crate) fn or(&mut self, x: Val, y: Val) -> Val {
        self.binary(Binary::Or, x, y)
    }

    /// A truth value that is known.
    fn truth(&self, value: Val) -> Option<bool> {
        self.consts.get(&value).filter(|known| known.elem == Elem::Bool).map(|known| known.bits != 0)
    }

    /// Whether all bits of a value are known to be 0.
    pub(crate) fn is_zero(&self, value: Val) -> bool {
        self.consts.get(&value).is_some_and(|known| known.bits == 0)
    }

    pub(crate) fn shift(&mut self, shift: Shift, x: Val, amount: u8) -> Val {
        self.op(Op::Shift(shift, x, amount))
    }

    pub(crate) fn fma(&mut self, x: Val, y: Val, z: Val) -> Val {
        let (x, y) = self.alike(x, y);
        let (x, z) = self.alike(x, z);
        let (y, z) = self.alike(y, z);
        if !self.ty(z).elem.is_float() {
            let product = self.mul(x, y);
            return self.add(product, z);
        }
        self.op(Op::Fma(x, y, z))
    }

    pub(crate) fn compare(&mut self, compare: Compare, x: Val, y: Val) -> Val {
        if let (Some(x), Some(y)) = (self.as_int(x), self.as_int(y)) {
            let holds = match compare {
                Compare::Eq => x == y,
                Compare::Ne => x != y,
                Compare::Lt => x < y,
                Compare::Le => x <= y,
                Compare::Gt => x > y,
                Compare::Ge => x >= y,
            };
            return self.constant(Elem::Bool, u64::from(holds));
        }
        let (x, y) = self.alike(x, y);
        self.op(Op::Compare(compare, x, y))
    }

    pub(crate) fn select(&mut self, mask: Val, x: Val, y: Val) -> Val {
        if x == y {
            return x;
        }
        if let Some(holds) = self.truth(mask) {
            return if holds { x } else { y };
        }
        let (x, y) = self.alike(x, y);
        let (mask, x) = self.alike(mask, x);
        let (mask, y) = self.alike(mask, y);
        self.op(Op::Select(mask, x, y))
    }

    pub(crate) fn cast(&mut self, x: Val, elem: Elem) -> Val {
        if self.ty(x).elem == elem {
            return x;
        }
        if elem == Elem::I32
            && let Some(narrow) = self.narrow(x)
        {
            return narrow;
        }
        let cast = self.op(Op::Cast(x, elem));
        if (self.ty(x).elem, elem) == (Elem::I32, Elem::I64) {
            self.widened.insert(cast, x);
        }
        cast
    }

    /// An `i64` that is known to be an `i32`.
    fn narrow(&mut self, x: Val) -> Option<Val> {
        let number = self.as_int(x).and_then(|number| i32::try_from(number).ok());
        number.map(|number| self.number(Elem::I32, number)).or_else(|| self.widened.get(&x).copied())
    }

    pub(crate) fn bitcast(&mut self, x: Val, elem: Elem) -> Val {
        if self.ty(x).elem == elem { x } else { self.op(Op::Bitcast(x, elem)) }
    }

    /// The sum of two products a lane, and of `z`; `x` and `y` are words of pairs.
    pub(crate) fn dot(&mut self, pairs: Pairs, x: Val, y: Val, z: Val) -> Val {
        let [x, y, z] = [x, y, z].map(|value| self.lanes(value));
        self.op(Op::Dot(pairs, x, y, z))
    }

    /// The float at a place of a table, whose number of places is that of the low bits.
    pub(crate) fn look_up(&mut self, place: Val, table: &'static [u32; 32]) -> Val {
        self.op(Op::LookUp(place, table))
    }

    /// A load of memory that does not change; not moved out of a condition.
    pub(crate) fn load(&mut self, load: Load) -> Val {
        let guard = (0..self.open.len()).rev().find(|level| self.open[*level].conditional).unwrap_or(0);
        let op = Op::Load(load);
        let level = op.operands().iter().map(|operand| self.level(*operand)).max().unwrap_or(0);
        self.op_at(op, level.max(guard))
    }

    /// A load of memory that changes: here and now.
    pub(crate) fn load_now(&mut self, load: Load) -> Val {
        let op = Op::Load(load);
        let value = self.value(self.ty_of(&op), self.open.len() - 1);
        self.push(Stmt::Let(value, op));
        value
    }

    pub(crate) fn store(&mut self, ptr: Val, dtype: DType, pattern: Pattern, value: Val) {
        self.store_by(Caches::Kept, ptr, dtype, pattern, value);
    }

    /// A store to a cache or past it.
    pub(crate) fn store_by(&mut self, caches: Caches, ptr: Val, dtype: DType, pattern: Pattern, value: Val) {
        let value = self.with_width(value, pattern.width());
        self.push(Stmt::Store(Store { ptr, dtype, pattern, value, between: None, caches }));
    }

    /// Stores twice as many neighbours as there are lanes: the values' elements in turn.
    pub(crate) fn store_in_turn(&mut self, caches: Caches, ptr: Val, dtype: DType, [first, second]: [Val; 2]) {
        let (value, between) = (self.lanes(first), Some(self.lanes(second)));
        self.push(Stmt::Store(Store { ptr, dtype, pattern: Pattern::Contiguous, value, between, caches }));
    }

    pub(crate) fn prefetch(&mut self, ptr: Val) {
        self.push(Stmt::Prefetch(ptr));
    }

    pub(crate) fn transpose(&mut self, square: Transpose) {
        self.push(Stmt::Transpose(square));
    }

    pub(crate) fn tile(&mut self, tile: Tile) {
        self.push(Stmt::Tile(tile));
    }

    pub(crate) fn trap(&mut self, ok: Val, trap: u32) {
        self.push(Stmt::Trap { ok, trap });
    }

    fn push(&mut self, stmt: Stmt) {
        self.open.last_mut().expect("a block is open").stmts.push(stmt);
    }

    // ---- loops

    pub(crate) fn open_loop(&mut self, begin: Val, end: Val, step: i64, inits: Vec<Val>) -> OpenLoop {
        self.open.push(Open::default());
        let level = self.open.len() - 1;
        let var = self.value(INDEX, level);
        let params = inits.iter().map(|init| self.value(self.ty(*init), level)).collect();
        OpenLoop { var, params, begin, end, step, inits }
    }

    /// Ends a loop; gives the carried values after it.
    pub(crate) fn close_loop(&mut self, open: OpenLoop, nexts: Vec<Val>) -> Vec<Val> {
        assert_eq!(open.inits.len(), nexts.len(), "every carried value has a next one");
        let nexts: Vec<Val> =
            nexts.into_iter().zip(&open.params).map(|(next, param)| self.with_width(next, self.ty(*param).width)).collect();
        let body = self.close();
        let level = self.open.len() - 1;
        let mut carried = Vec::new();
        for ((init, param), next) in open.inits.into_iter().zip(open.params).zip(nexts) {
            carried.push(Carried { init, param, next, result: self.value(self.ty(param), level) });
        }
        let results = carried.iter().map(|carried| carried.result).collect();
        self.push(Stmt::Loop(Loop { var: open.var, begin: open.begin, end: open.end, step: open.step, carried, body }));
        results
    }

    pub(crate) fn open_sweep(&mut self, begin: Val, end: Val, unroll: usize) -> OpenSweep {
        self.open.push(Open::default());
        OpenSweep { var: self.value(INDEX, self.open.len() - 1), begin, end, unroll }
    }

    /// Ends a sweep; gives the reduced values (and positions) after it.
    pub(crate) fn close_sweep(
        &mut self,
        open: OpenSweep,
        reductions: Vec<(Combine, Val, Option<Val>)>,
    ) -> Vec<(Val, Option<Val>)> {
        let reductions: Vec<(Combine, Val, Option<Val>)> = reductions
            .into_iter()
            .map(|(combine, value, position)| (combine, self.lanes(value), position.map(|position| self.lanes(position))))
            .collect();
        let body = self.close();
        let level = self.open.len() - 1;
        let mut folds = Vec::new();
        for (combine, value, position) in reductions {
            let result = self.value(Ty { width: Width::One, ..self.ty(value) }, level);
            let result_position = position.map(|_| self.value(INDEX, level));
            folds.push(Fold { combine, value, position, result, result_position });
        }
        let results = folds.iter().map(|fold| (fold.result, fold.result_position)).collect();
        let OpenSweep { var, begin, end, unroll } = open;
        self.push(Stmt::Sweep(Sweep { var, begin, end, unroll, reductions: folds, body }));
        results
    }

    pub(crate) fn open_if(&mut self, cond: Val) -> OpenIf {
        self.open.push(Open { conditional: true, ..Open::default() });
        OpenIf { cond }
    }

    pub(crate) fn close_if(&mut self, open: OpenIf) {
        let then = self.close();
        self.push(Stmt::If { cond: open.cond, then });
    }

    fn close(&mut self) -> Block {
        let closed = self.open.pop().expect("a block is open");
        for key in &closed.keys {
            self.known.remove(key);
        }
        closed.stmts
    }

    // ---- types

    fn ty_of(&self, op: &Op) -> Ty {
        let of = |value: &Val| self.ty(*value);
        match op {
            Op::Const(known) => Ty { elem: known.elem, width: Width::One },
            Op::Arg(_) | Op::Dim(_) | Op::Begin | Op::End | Op::Scratch => INDEX,
            Op::Splat(x) => Ty { width: Width::Lanes, ..of(x) },
            Op::Iota => Ty { elem: Elem::I64, width: Width::Lanes },
            Op::Unary(_, x) | Op::Binary(_, x, _) | Op::Shift(_, x, _) | Op::Fma(x, ..) | Op::Select(_, x, _) => of(x),
            Op::Round(x, _) | Op::Slide(x, ..) => of(x),
            Op::Edge(x, _) => Ty { width: Width::One, ..of(x) },
            Op::Dot(_, _, _, z) => of(z),
            Op::Compare(_, x, _) => Ty { elem: Elem::Bool, ..of(x) },
            Op::Cast(x, elem) | Op::Bitcast(x, elem) => Ty { elem: *elem, ..of(x) },
            Op::LookUp(x, _) => Ty { elem: Elem::F32, ..of(x) },
            Op::Load(load) => Ty { elem: Elem::of(load.dtype), width: load.pattern.width() },
            Op::Call(_, args) => of(&args[0]),
            Op::Patch { value, .. } => of(value),
        }
    }
}
