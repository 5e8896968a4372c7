//! Checks the invariants of the vector IR. A failure is a bug of a lowering, never of a user.

use super::{Block, Elem, Func, INDEX, Op, Pattern, Stmt, Ty, Val, Width};

/// The first invariant that does not hold, as a sentence.
pub(crate) fn verify(func: &Func) -> Result<(), String> {
    let mut scope = Scope { func, defined: vec![false; func.types.len()], swept: false };
    scope.block(&func.body).map_err(|what| format!("{}: {what}", func.name))
}

struct Scope<'a> {
    func: &'a Func,
    defined: Vec<bool>,
    swept: bool,
}

impl Scope<'_> {
    fn block(&mut self, block: &Block) -> Result<(), String> {
        let before = self.defined.clone();
        self.visible(block)?;
        self.defined = before;
        Ok(())
    }

    /// The block, whose values stay visible.
    fn visible(&mut self, block: &Block) -> Result<(), String> {
        block.iter().try_for_each(|stmt| self.statement(stmt))
    }

    fn statement(&mut self, stmt: &Stmt) -> Result<(), String> {
        match stmt {
            Stmt::Let(value, op) => {
                self.used(&op.operands())?;
                self.operation(op).map_err(|what| format!("V2: {value} = {op}: {what}"))?;
                self.define(*value)
            }
            Stmt::Store(store) => {
                self.used(&[store.ptr, store.value])?;
                self.used(&store.pattern.operand().into_iter().collect::<Vec<_>>())?;
                self.expect(store.ptr, INDEX)?;
                self.pattern(store.pattern)?;
                self.expect(store.value, Ty { elem: Elem::of(store.dtype), width: store.pattern.width() })
            }
            Stmt::Trap { ok, .. } => {
                self.used(&[*ok])?;
                self.elem(*ok, Elem::Bool)
            }
            Stmt::Prefetch(ptr) => {
                self.used(&[*ptr])?;
                self.expect(*ptr, INDEX)
            }
            Stmt::Transpose(square) => {
                if self.swept {
                    return Err("a square is transposed in a sweep".to_owned());
                }
                self.used(&square.operands())?;
                square.operands().iter().try_for_each(|operand| self.expect(*operand, INDEX))
            }
            Stmt::If { cond, then } => {
                self.used(&[*cond])?;
                self.expect(*cond, Ty { elem: Elem::Bool, width: Width::One })?;
                self.block(then)
            }
            Stmt::Loop(inner) => {
                self.used(&[inner.begin, inner.end])?;
                let before = self.defined.clone();
                self.define(inner.var)?;
                for carried in &inner.carried {
                    self.used(&[carried.init])?;
                    self.expect(carried.init, self.func.ty(carried.param))?;
                    self.define(carried.param)?;
                }
                self.visible(&inner.body)?;
                for carried in &inner.carried {
                    self.used(&[carried.next])?;
                    self.expect(carried.next, self.func.ty(carried.param))?;
                }
                self.defined = before;
                inner.carried.iter().try_for_each(|carried| self.define(carried.result))
            }
            Stmt::Sweep(sweep) => {
                self.used(&[sweep.begin, sweep.end])?;
                if std::mem::replace(&mut self.swept, true) {
                    return Err("V3: a sweep in a sweep".to_owned());
                }
                let before = self.defined.clone();
                self.define(sweep.var)?;
                self.visible(&sweep.body)?;
                for fold in &sweep.reductions {
                    self.used(&[fold.value])?;
                    self.used(&fold.position.into_iter().collect::<Vec<_>>())?;
                }
                self.defined = before;
                self.swept = false;
                let results = sweep.reductions.iter().flat_map(|fold| [Some(fold.result), fold.result_position]).flatten();
                results.into_iter().try_for_each(|result| self.define(result))
            }
        }
    }

    fn define(&mut self, value: Val) -> Result<(), String> {
        if std::mem::replace(&mut self.defined[value.index()], true) {
            Err(format!("V1: {value} is defined twice"))
        } else {
            Ok(())
        }
    }

    fn used(&self, values: &[Val]) -> Result<(), String> {
        match values.iter().find(|value| !self.defined[value.index()]) {
            Some(value) => Err(format!("V1: {value} is used where it is not defined")),
            None => Ok(()),
        }
    }

    fn expect(&self, value: Val, ty: Ty) -> Result<(), String> {
        let found = self.func.ty(value);
        if found == ty { Ok(()) } else { Err(format!("{value} is {found}, not {ty}")) }
    }

    fn elem(&self, value: Val, elem: Elem) -> Result<(), String> {
        self.expect(value, Ty { elem, ..self.func.ty(value) })
    }

    fn pattern(&self, pattern: Pattern) -> Result<(), String> {
        match pattern {
            Pattern::One | Pattern::Contiguous => Ok(()),
            Pattern::Strided(stride) => self.expect(stride, INDEX),
            Pattern::Scattered(offsets) => self.expect(offsets, Ty { width: Width::Lanes, ..INDEX }),
        }
    }

    fn operation(&self, op: &Op) -> Result<(), String> {
        let ty = |value: &Val| self.func.ty(*value);
        match op {
            Op::Const(_) | Op::Arg(_) | Op::Dim(_) | Op::Begin | Op::End | Op::Scratch | Op::Iota => Ok(()),
            Op::Unary(..) | Op::Shift(..) | Op::Cast(..) | Op::Bitcast(..) => Ok(()),
            Op::Round(x, _) => self.elem(*x, Elem::F32),
            Op::LookUp(x, _) => self.elem(*x, Elem::I32),
            Op::Splat(x) => self.expect(*x, Ty { width: Width::One, ..ty(x) }),
            Op::Binary(_, x, y) | Op::Compare(_, x, y) => self.expect(*y, ty(x)),
            Op::Fma(x, y, z) => self.expect(*y, ty(x)).and_then(|()| self.expect(*z, ty(x))),
            Op::Select(mask, x, y) => {
                self.expect(*y, ty(x))?;
                self.expect(*mask, Ty { elem: Elem::Bool, ..ty(x) })
            }
            Op::Load(load) => {
                self.expect(load.ptr, INDEX)?;
                self.pattern(load.pattern)?;
                load.mask.map_or(Ok(()), |mask| self.expect(mask, Ty { elem: Elem::Bool, width: load.pattern.width() }))
            }
            Op::Call(_, args) => args.iter().try_for_each(|arg| self.expect(*arg, ty(&args[0]))),
            Op::Patch { mask, value, arg, .. } => {
                self.expect(*arg, ty(value))?;
                self.expect(*mask, Ty { elem: Elem::Bool, ..ty(value) })
            }
        }
    }
}
