//! Broadcasting by NumPy's rule: axes are aligned at the end, a size of one stretches, a symbol never does.

use graver_ir::dim::Atom;
use graver_ir::op::Broadcast;
use graver_ir::{Dim, Op, Shape, Symbol, Value};

use super::Builder;
use crate::problem::{Problem, Result, wrong};

impl Builder {
    /// All operands in one shape, by NumPy's rule: axes are aligned at the end, a size of one stretches. A symbol never does.
    pub(crate) fn together(&mut self, args: &[Value]) -> Result<Vec<Value>> {
        let shapes: Vec<Shape> = args.iter().map(|arg| self.shape(*arg)).collect();
        let shape = common(&shapes)?;
        args.iter().map(|arg| self.stretch(*arg, &shape)).collect()
    }

    /// The value repeated to a shape.
    pub(crate) fn stretch(&mut self, x: Value, shape: &Shape) -> Result<Value> {
        let from = self.shape(x);
        if from == *shape {
            return Ok(x);
        }
        let Some(lead) = shape.rank().checked_sub(from.rank()) else {
            return wrong(format!("{} does not broadcast to {shape}", self.ty(x)));
        };
        let repeats = |axis: &usize| from[*axis].is(1) && !shape[lead + axis].is(1);
        let (gone, kept): (Vec<usize>, Vec<usize>) = (0..from.rank()).partition(repeats);
        if kept.iter().any(|axis| from[*axis] != shape[lead + axis]) {
            return wrong(format!("{} does not broadcast to {shape}", self.ty(x)));
        }
        let x = self.reshape(x, from.without(&gone).0)?;
        let axes = kept.iter().map(|axis| lead + axis).collect();
        self.emit(Op::Broadcast(Broadcast { shape: shape.clone(), axes }), &[x])
    }

    /// Goes on only if a size is proved to be at most another; begins again with a lesser bound of its symbol otherwise.
    pub(crate) fn assume_at_most(&self, size: &Dim, most: &Dim) -> Result<()> {
        let symbols = size.symbols();
        if let ([symbol], Some(most)) = (symbols.as_slice(), most.as_const())
            && let Some(rest) = (size - Dim::sym(symbol)).as_const()
        {
            let decl = symbol.decl();
            let bounded = Symbol::ranged(symbol.name(), decl.lo, most.saturating_sub(rest), decl.multiple);
            if bounded != *symbol {
                return Err(Problem::Assume(symbol.clone(), Dim::sym(&bounded)));
            }
        }
        Ok(())
    }

    /// Whether a size is proved to be at least a number; begins again with a greater least of its symbol where that proves it.
    pub(crate) fn assume_at_least(&self, size: &Dim, least: i64) -> Result<bool> {
        let holds = |size: &Dim| (size - Dim::from(least)).is_nonneg();
        if holds(size) {
            return Ok(true);
        }
        let [symbol] = &size.symbols()[..] else { return Ok(false) };
        match from_where(symbol, &|some| holds(&with(size, symbol, some))) {
            Some(some) => Err(Problem::Assume(symbol.clone(), some)),
            None => Ok(false),
        }
    }

    /// A scalar repeated to a shape.
    pub(crate) fn fill(&mut self, scalar: Value, shape: &Shape) -> Result<Value> {
        self.stretch(scalar, shape)
    }
}

/// The shape that all of these broadcast to.
pub(crate) fn common(shapes: &[Shape]) -> Result<Shape> {
    let rank = shapes.iter().map(|shape| shape.rank()).max().unwrap_or(0);
    let mut dims = vec![Dim::ONE; rank];
    for shape in shapes {
        for (place, size) in dims[rank - shape.rank()..].iter_mut().zip(shape.iter()) {
            if place.is(1) {
                *place = size.clone();
            } else if *place != *size && !size.is(1) {
                if let Some((symbol, dim)) = made_equal(place, size) {
                    return Err(Problem::Assume(symbol, dim));
                }
                let all: Vec<String> = shapes.iter().map(Shape::to_string).collect();
                return wrong(format!("the shapes {} do not broadcast together: {place} is not {size}", all.join(", ")));
            }
        }
    }
    Ok(Shape(dims))
}

/// Goes on only if two sizes are equal, or are no sizes that a symbol makes equal; begins again with that otherwise.
pub(crate) fn agree(x: &Dim, y: &Dim) -> Result<()> {
    match (x != y).then(|| unified(x, y).or_else(|| equal_multiples(x, y))).flatten() {
        Some((symbol, size)) => Err(Problem::Assume(symbol, size)),
        None => Ok(()),
    }
}

/// Goes on only if two shapes, which are `what`, are equal; begins again where a symbol makes them so.
pub(crate) fn same(x: &Shape, y: &Shape, what: &str) -> Result<()> {
    if x.rank() != y.rank() {
        return wrong(format!("{what} are {x} and {y}: they have as many axes"));
    }
    let mut pairs = x.iter().zip(y.iter()).enumerate();
    let Some((axis, (own, other))) = pairs.find(|(_, (own, other))| own != other) else { return Ok(()) };
    match made_equal(own, other) {
        Some((symbol, size)) => Err(Problem::Assume(symbol, size)),
        None => wrong(format!("{what} are {x} and {y}: axis {axis} is {own} of one and {other} of the other")),
    }
}

/// The symbol and what it must be, for two sizes that differ to be equal.
fn made_equal(x: &Dim, y: &Dim) -> Option<(Symbol, Dim)> {
    unified(x, y).or_else(|| equal_from(x, y)).or_else(|| equal_multiples(x, y))
}

/// The symbol and the size that it must be, for two sizes to be equal.
pub(crate) fn unified(x: &Dim, y: &Dim) -> Option<(Symbol, Dim)> {
    let apart = x - y;
    // One that the difference has so many times, beside what is a multiple of that.
    let solved = |symbol: Symbol| {
        let rest = apart.substitute(&|atom| (*atom == Atom::Sym(symbol.clone())).then_some(Dim::ZERO));
        let times = (&apart - &rest).exact_div(&Dim::sym(&symbol))?.as_const().filter(|times| *times != 0)?;
        let size = (-rest).exact_div(&Dim::from(times))?;
        let (own, found) = (symbol.decl(), size.bounds());
        let may_be = size.is_nonneg() && found.hi >= own.lo && found.lo <= own.hi;
        (!size.symbols().contains(&symbol) && may_be).then(|| (symbol.clone(), size))
    };
    y.symbols().into_iter().find_map(solved).or_else(|| x.symbols().into_iter().find_map(solved))
}

/// The largest number that a size is tried to be so many times another.
const MOST_TIMES: i64 = 64;

/// The symbol, and so many times another, the fewest, for which two sizes are equal: what was halved and doubled again is what it was.
fn equal_multiples(x: &Dim, y: &Dim) -> Option<(Symbol, Dim)> {
    let symbols = x.symbols().into_iter().chain(y.symbols());
    symbols.filter(|symbol| symbol.decl().hi >= MOST_TIMES).find_map(|symbol| {
        let decl = symbol.decl().clone();
        let times = |times: i64| {
            let part =
                Symbol::ranged(symbol.name(), decl.lo / times + i64::from(decl.lo % times > 0), decl.hi / times, decl.multiple);
            Dim::from(times) * Dim::sym(&part)
        };
        (2..=MOST_TIMES)
            .map(times)
            .find_map(|size| (with(x, &symbol, &size) == with(y, &symbol, &size)).then(|| (symbol.clone(), size)))
    })
}

/// The largest that a least size is looked for.
const MOST_AT_LEAST: i64 = 1 << 16;

/// The symbol, and the same from the least size on from which two sizes are proved to be equal: what is cut from something is as long as it
/// seems where there is enough of it.
fn equal_from(x: &Dim, y: &Dim) -> Option<(Symbol, Dim)> {
    x.symbols().into_iter().chain(y.symbols()).find_map(|symbol| {
        let some = from_where(&symbol, &|some| with(x, &symbol, some) == with(y, &symbol, some))?;
        Some((symbol, some))
    })
}

/// A size with another one in the place of a symbol.
fn with(size: &Dim, symbol: &Symbol, some: &Dim) -> Dim {
    size.substitute(&|atom| (*atom == Atom::Sym(symbol.clone())).then(|| some.clone()))
}

/// The symbol from the least size on from which something is proved that is not proved of the symbol as it is. What holds from a size on holds
/// from any greater one on.
fn from_where(symbol: &Symbol, holds_of: &dyn Fn(&Dim) -> bool) -> Option<Dim> {
    let decl = symbol.decl();
    let from = |least: i64| Dim::sym(&Symbol::ranged(symbol.name(), least, decl.hi, decl.multiple));
    let (mut fails, mut holds) = (decl.lo, decl.hi.min(MOST_AT_LEAST));
    (fails < holds && holds_of(&from(holds))).then_some(())?;
    while holds - fails > 1 {
        let middle = fails + (holds - fails) / 2;
        if holds_of(&from(middle)) { holds = middle } else { fails = middle }
    }
    Some(from(holds))
}
