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
                if let Some((symbol, dim)) = unified(place, size).or_else(|| equal_if_not_empty(place, size)) {
                    return Err(Problem::Assume(symbol, dim));
                }
                let all: Vec<String> = shapes.iter().map(Shape::to_string).collect();
                return wrong(format!("the shapes {} do not broadcast together: {place} is not {size}", all.join(", ")));
            }
        }
    }
    Ok(Shape(dims))
}

/// The symbol and the size that it must be, for two sizes to be equal.
fn unified(x: &Dim, y: &Dim) -> Option<(Symbol, Dim)> {
    let one = |symbol: &Dim, other: &Dim| {
        let symbol = plain_symbol(symbol)?;
        (!other.symbols().contains(&symbol) && other.is_nonneg()).then(|| (symbol, other.clone()))
    };
    one(y, x).or_else(|| one(x, y))
}

/// The symbol, and the same with no size of 0, for two sizes to be equal: what is cut from the front of something has its length then.
fn equal_if_not_empty(x: &Dim, y: &Dim) -> Option<(Symbol, Dim)> {
    let empty = |symbol: &Symbol| symbol.decl().lo == 0 && symbol.decl().hi > 0;
    x.symbols().into_iter().chain(y.symbols()).filter(empty).find_map(|symbol| {
        let decl = symbol.decl();
        let some = Dim::sym(&Symbol::ranged(symbol.name(), decl.multiple.max(1), decl.hi, decl.multiple));
        let [x, y] = [x, y].map(|size| size.substitute(&|atom| (*atom == Atom::Sym(symbol.clone())).then(|| some.clone())));
        (x == y).then_some((symbol, some))
    })
}

/// The symbol that a size is.
fn plain_symbol(dim: &Dim) -> Option<Symbol> {
    let symbols = dim.symbols();
    let [symbol] = symbols.as_slice() else { return None };
    (*dim == Dim::sym(symbol)).then(|| symbol.clone())
}
