//! Checks the invariants of the vector IR. A failure is a bug of a lowering, never of a user.

use std::collections::BTreeMap;

use graver_ir::DType;

use super::{ALONE_LANES, Block, Elem, Func, INDEX, Op, Pattern, Stmt, Sweep, Ty, Val, Width};

/// The first invariant that does not hold, as a sentence; for vectors of so many 4-byte lanes.
pub(crate) fn verify(func: &Func, lanes: usize) -> Result<(), String> {
    let (defined, ints) = (vec![false; func.types.len()], BTreeMap::new());
    let mut scope = Scope { func, lanes, picked: picked(func), defined, ints, swept: None };
    scope.block(&func.body).map_err(|what| format!("{}: {what}", func.name))
}

/// What is known of a value's lanes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Lanes {
    /// They may differ.
    vary: bool,
    /// They were loaded a lane each, or are made of such.
    picked: bool,
}

impl Lanes {
    fn or(self, other: Self) -> Self {
        Self { vary: self.vary | other.vary, picked: self.picked | other.picked }
    }
}

/// What is known of every value's lanes.
fn picked(func: &Func) -> Vec<Lanes> {
    let mut picked = vec![Lanes::default(); func.types.len()];
    // Again while a loop carries what was found at its end.
    while pick(&func.body, &mut picked) {}
    picked
}

/// Notes what the block makes; whether that was anything new of a loop's start.
fn pick(block: &Block, picked: &mut [Lanes]) -> bool {
    let mut again = false;
    for stmt in block {
        match stmt {
            Stmt::Let(value, op) => picked[value.index()] = lanes(op, picked),
            Stmt::If { then, .. } => again |= pick(then, picked),
            Stmt::Loop(inner) => {
                for carried in &inner.carried {
                    picked[carried.param.index()] = picked[carried.param.index()].or(picked[carried.init.index()]);
                }
                again |= pick(&inner.body, picked);
                for carried in &inner.carried {
                    let start = picked[carried.param.index()];
                    let both = start.or(picked[carried.next.index()]);
                    again |= both != start;
                    (picked[carried.param.index()], picked[carried.result.index()]) = (both, both);
                }
            }
            // What is left of a sweep is one element.
            Stmt::Sweep(sweep) => again |= pick(&sweep.body, picked),
            Stmt::Store(_) | Stmt::Trap { .. } | Stmt::Transpose(_) | Stmt::Tile(_) | Stmt::Prefetch(_) => {}
        }
    }
    again
}

/// Of what an operation gives.
fn lanes(op: &Op, picked: &[Lanes]) -> Lanes {
    let operands = op.operands().iter().map(|operand| picked[operand.index()]).fold(Lanes::default(), Lanes::or);
    match op {
        Op::Iota => Lanes { vary: true, ..operands },
        Op::Load(load) => match load.pattern {
            Pattern::One => operands,
            Pattern::Contiguous | Pattern::Strided(_) => Lanes { vary: true, picked: true },
            // One element for all, where their offsets are alike.
            Pattern::Scattered(_) => Lanes { picked: operands.vary, ..operands },
        },
        Op::Const(_)
        | Op::Arg(_)
        | Op::Dim(_)
        | Op::Begin
        | Op::End
        | Op::Scratch
        | Op::Splat(_)
        | Op::Unary(..)
        | Op::Binary(..)
        | Op::Shift(..)
        | Op::Fma(..)
        | Op::Dot(..)
        | Op::Compare(..)
        | Op::Select(..)
        | Op::Cast(..)
        | Op::Bitcast(..)
        | Op::Round(..)
        | Op::Slide(..)
        | Op::Edge(..)
        | Op::LookUp(..)
        | Op::Call(..)
        | Op::Patch { .. } => operands,
    }
}

struct Scope<'a> {
    func: &'a Func,
    lanes: usize,
    picked: Vec<Lanes>,
    defined: Vec<bool>,
    /// Constants.
    ints: BTreeMap<Val, i64>,
    /// In a sweep, what was defined outside of it, if lanes have other points there.
    swept: Option<Vec<bool>>,
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
                if let Op::Const(number) = op {
                    self.ints.insert(*value, number.bits.cast_signed());
                }
                self.define(*value)
            }
            Stmt::Store(store) => {
                self.used(&[store.ptr, store.value])?;
                self.used(&store.pattern.operand().into_iter().chain(store.between).collect::<Vec<_>>())?;
                self.expect(store.ptr, INDEX)?;
                self.pattern(store.pattern)?;
                let ty = Ty { elem: Elem::of(store.dtype), width: store.pattern.width() };
                if let Some(between) = store.between {
                    self.expect(between, ty)?;
                    if store.pattern != Pattern::Contiguous || store.dtype == DType::Bool {
                        return Err(format!("values are stored in turn at {} that are {}", store.pattern, store.dtype));
                    }
                }
                self.expect(store.value, ty)
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
                if self.swept.is_some() {
                    return Err("a square is transposed in a sweep".to_owned());
                }
                self.used(&square.operands())?;
                square.operands().iter().try_for_each(|operand| self.expect(*operand, INDEX))
            }
            Stmt::Tile(tile) => {
                if self.swept.is_some() {
                    return Err("a tile is in a sweep".to_owned());
                }
                self.used(&tile.operands())?;
                tile.operands().iter().try_for_each(|operand| self.expect(*operand, INDEX))
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
                if self.swept.is_some() {
                    return Err("V3: a sweep in a sweep".to_owned());
                }
                let before = self.defined.clone();
                self.swept = Some(if self.is_one_vector(sweep) { Vec::new() } else { before.clone() });
                self.define(sweep.var)?;
                self.visible(&sweep.body)?;
                for fold in &sweep.reductions {
                    self.used(&[fold.value])?;
                    self.used(&fold.position.into_iter().collect::<Vec<_>>())?;
                }
                self.defined = before;
                self.swept = None;
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

    /// Whether every point has the lane that it has when all lanes are points of the sweep.
    fn is_one_vector(&self, sweep: &Sweep) -> bool {
        let ends = self.ints.get(&sweep.begin).zip(self.ints.get(&sweep.end));
        let points = ends.and_then(|(begin, end)| usize::try_from(end - begin).ok());
        points.is_some_and(|points| points == self.lanes || points < self.lanes && self.lanes > ALONE_LANES)
    }

    fn used(&self, values: &[Val]) -> Result<(), String> {
        if let Some(value) = values.iter().find(|value| !self.defined[value.index()]) {
            return Err(format!("V1: {value} is used where it is not defined"));
        }
        let outside = |value: &&Val| self.swept.as_ref().is_some_and(|outside| outside.get(value.index()) == Some(&true));
        match values.iter().find(|value| outside(value) && self.picked[value.index()].picked) {
            Some(value) => Err(format!("V4: {value} was loaded a lane each outside of the sweep that uses it")),
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

    /// Of a value of which lanes go to other lanes: a number a lane of a whole vector.
    fn across(&self, value: Val) -> Result<(), String> {
        let Ty { elem, width } = self.func.ty(value);
        let whole = elem != Elem::Bool && width == Width::Lanes && self.swept.is_none();
        if whole { Ok(()) } else { Err(format!("{value} is no vector of numbers outside of sweeps")) }
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
            Op::Slide(x, fill, by) => {
                self.expect(*fill, ty(x))?;
                if self.picked[fill.index()].vary || usize::from(by.unsigned_abs()) >= self.lanes {
                    return Err(format!("{fill} is not alike in all lanes, or {by} is no distance of lanes"));
                }
                self.across(*x)
            }
            Op::Edge(x, _) => self.across(*x),
            Op::Splat(x) => self.expect(*x, Ty { width: Width::One, ..ty(x) }),
            Op::Binary(_, x, y) | Op::Compare(_, x, y) => self.expect(*y, ty(x)),
            Op::Fma(x, y, z) => self.expect(*y, ty(x)).and_then(|()| self.expect(*z, ty(x))),
            Op::Dot(pairs, x, y, z) => {
                let of = |elem: Elem| Ty { elem, width: Width::Lanes };
                [*x, *y].into_iter().try_for_each(|word| self.expect(word, of(Elem::F32)))?;
                self.expect(*z, of(pairs.elem()))
            }
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

#[cfg(test)]
mod tests {
    use graver_ir::DType;

    use super::verify;
    use crate::vector::{Binary, Builder, Func, Load, Op, Pattern, Val};

    /// Adds what is loaded before a sweep of so many points to what is computed in it, through a loop if `carried`.
    fn loads_before(points: i64, carried: bool) -> Func {
        let mut b = Builder::new("test");
        let (ptr, zero, end) = (b.op(Op::Arg(0)), b.int(0), b.int(points));
        let load =
            |b: &mut Builder, ptr: Val| b.op(Op::Load(Load { ptr, dtype: DType::F32, pattern: Pattern::Contiguous, mask: None }));
        let number = b.f32(0.0);
        let mut outside = if carried { b.lanes(number) } else { load(&mut b, ptr) };
        if carried {
            let four = b.int(4);
            let open = b.open_loop(zero, four, 1, vec![outside]);
            let at = b.add(ptr, open.var);
            let (sum, next) = (open.params[0], load(&mut b, at));
            let next = b.binary(Binary::Add, sum, next);
            outside = b.close_loop(open, vec![next])[0];
        }
        let open = b.open_sweep(zero, end, 1);
        let at = b.add(ptr, open.var);
        let inside = load(&mut b, at);
        let value = b.binary(Binary::Add, inside, outside);
        b.store(at, DType::F32, Pattern::Contiguous, value);
        b.close_sweep(open, Vec::new());
        b.finish()
    }

    #[test]
    fn what_lanes_loaded_stays_with_their_points() {
        let verdict = |points, carried, lanes| verify(&loads_before(points, carried), lanes);
        for carried in [false, true] {
            let error = verdict(64, carried, 16).expect_err("points of other vectors see it too");
            assert!(error.starts_with("test: V4: "), "{error}");
            // One vector, whole or, under a mask, not.
            assert_eq!(verdict(16, carried, 16), Ok(()));
            assert_eq!(verdict(15, carried, 16), Ok(()));
            assert_eq!(verdict(4, carried, 4), Ok(()));
            // What is left is visited one lane at a time.
            assert!(verdict(3, carried, 4).is_err());
        }
    }
}
