//! From the sizes of a call's arguments to the values of symbols.
//!
//! A symbol is solved from the first axis that is the symbol alone, or else from an axis `c*symbol + d` whose other symbols
//! are known. Every axis, declared range and declared multiple is checked afterwards; nothing is assumed.

use std::collections::BTreeMap;

use crate::array::Array;
use crate::dim::{Atom, Dim, Sizes, Symbol};
use crate::error::{Diag, Error};
use crate::ty::Type;

/// The values of the symbols in `params` for these arguments, which are checked against the parameters.
///
/// `params` are names in messages and types, one an argument.
///
/// ```
/// use graver_ir::{Array, DType, Dim, Shape, Symbol, Type, bind};
/// let batch = Symbol::new("batch");
/// let ty = Type::new(DType::F32, Shape(vec![Dim::sym(&batch), Dim::from(2)]));
/// let x = Array::from_vec([3, 2], vec![0f32; 6])?;
/// assert_eq!(bind(&[("x", &ty)], &[&x]).expect("sizes agree")["batch"], 3);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
///
/// # Errors
/// The number of arguments, an element type, a rank or a size does not fit, a symbol leaves its declared range, or it cannot be
/// told: one diagnostic for each, with the argument's name, the axis and both sides.
pub fn bind(params: &[(&str, &Type)], args: &[&Array]) -> Result<Sizes, Error> {
    if params.len() != args.len() {
        return Err(Error::new(format!("takes {} inputs ({}), got {}", params.len(), names(params), args.len())));
    }
    let mismatches = params.iter().zip(args).filter_map(|((name, ty), arg)| check_type(name, ty, arg)).collect();
    if let Some(error) = Error::from_diags(mismatches) {
        return Err(error);
    }
    let axes = axes(params, args);
    let solved = solve(&axes);
    let ranges = symbols(&axes).into_iter().filter_map(|symbol| check_symbol(&symbol, &solved));
    let sizes = solved.iter().map(|(name, solution)| (name.clone(), solution.value)).collect();
    let diags = ranges.chain(axes.iter().filter_map(|axis| check_axis(axis, &solved, &sizes))).collect();
    Error::from_diags(diags).map_or(Ok(sizes), Err)
}

/// One axis of one argument: what is declared and what is given.
struct Axis<'a> {
    name: &'a str,
    ty: &'a Type,
    axis: usize,
    size: i64,
}

impl Axis<'_> {
    fn dim(&self) -> &Dim {
        &self.ty.shape[self.axis]
    }

    fn label(&self) -> String {
        format!("`{}` axis {}", self.name, self.axis)
    }
}

/// The value of a symbol and the axis that gave it.
struct Solution {
    value: i64,
    from: String,
}

type Solutions = BTreeMap<String, Solution>;

fn names(params: &[(&str, &Type)]) -> String {
    params.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn check_type(name: &str, ty: &Type, arg: &Array) -> Option<Diag> {
    let fits = arg.dtype() == ty.dtype && arg.shape().len() == ty.rank();
    (!fits).then(|| Diag::new(format!("`{name}` must be {ty}, got {}", arg.ty())))
}

fn axes<'a>(params: &[(&'a str, &'a Type)], args: &[&Array]) -> Vec<Axis<'a>> {
    let one = |(name, ty): &(&'a str, &'a Type), arg: &Array| {
        let (name, ty) = (*name, *ty);
        let sizes = arg.shape().iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX));
        sizes.enumerate().map(|(axis, size)| Axis { name, ty, axis, size }).collect::<Vec<_>>()
    };
    params.iter().zip(args).flat_map(|(param, arg)| one(param, arg)).collect()
}

fn symbols(axes: &[Axis<'_>]) -> Vec<Symbol> {
    let mut all: Vec<Symbol> = axes.iter().flat_map(|axis| axis.dim().symbols()).collect();
    all.sort();
    all.dedup();
    all
}

fn solve(axes: &[Axis<'_>]) -> Solutions {
    let mut solved = Solutions::new();
    // Plain symbols first, so that messages name the simplest axis.
    let (plain, others): (Vec<_>, Vec<_>) =
        axes.iter().partition(|axis| linear(axis.dim()).is_some_and(|x| (x.1, x.2) == (1, 0)));
    for axis in plain {
        solve_axis(axis, &mut solved);
    }
    // An axis may wait for a symbol that a later one gives.
    while others.iter().any(|axis| solve_axis(axis, &mut solved)) {}
    solved
}

/// Solves the only unknown symbol of an axis, and says whether it did.
fn solve_axis(axis: &Axis<'_>, solved: &mut Solutions) -> bool {
    let dim = axis.dim().substitute(&|atom| known(atom, solved));
    let Some((symbol, coeff, rest)) = linear(&dim) else { return false };
    let Some(difference) = axis.size.checked_sub(rest) else { return false };
    if solved.contains_key(symbol.name()) || difference % coeff != 0 {
        return false;
    }
    solved.insert(symbol.name().to_owned(), Solution { value: difference / coeff, from: axis.label() });
    true
}

fn known(atom: &Atom, solved: &Solutions) -> Option<Dim> {
    match atom {
        Atom::Sym(symbol) => solved.get(symbol.name()).map(|solution| Dim::from(solution.value)),
        Atom::Axis(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
    }
}

/// `(symbol, c, d)` of a dim that is `c*symbol + d`.
fn linear(dim: &Dim) -> Option<(Symbol, i64, i64)> {
    let terms = dim.terms();
    let (constants, others): (Vec<_>, Vec<_>) = terms.into_iter().partition(|term| term.atoms.is_empty());
    let [term] = others.as_slice() else { return None };
    let [Atom::Sym(symbol)] = term.atoms.as_slice() else { return None };
    Some((symbol.clone(), term.coeff, constants.first().map_or(0, |term| term.coeff)))
}

fn check_symbol(symbol: &Symbol, solved: &Solutions) -> Option<Diag> {
    let decl = symbol.decl();
    // What is not solved is reported with its axis.
    let Solution { value, from } = solved.get(symbol.name())?;
    let declared = if !(decl.lo..=decl.hi).contains(value) {
        format!("its declared range is {}..={}", decl.lo, decl.hi)
    } else if value % decl.multiple != 0 {
        format!("it is declared a multiple of {}", decl.multiple)
    } else {
        return None;
    };
    Some(Diag::new(format!("{from} says {} = {value}, but {declared}", decl.name)))
}

fn check_axis(axis: &Axis<'_>, solved: &Solutions, sizes: &Sizes) -> Option<Diag> {
    let (label, size, dim) = (axis.label(), axis.size, axis.dim());
    let symbols = dim.symbols();
    if let Some(unknown) = symbols.iter().find(|symbol| !sizes.contains_key(symbol.name())) {
        return Some(Diag::new(format!("{label} is {size}, but no {} gives {dim} = {size}", unknown.name())));
    }
    let expected = match dim.eval(sizes) {
        Ok(expected) if expected == size => return None,
        Ok(expected) => expected,
        Err(error) => return Some(Diag::new(format!("{label}: {error}"))),
    };
    let why = |symbol: &Symbol| {
        solved.get(symbol.name()).map(|solution| format!("{} says {} = {}", solution.from, symbol.name(), solution.value))
    };
    let reasons = symbols.iter().filter_map(why).collect::<Vec<_>>().join(" and ");
    let message = if symbols.is_empty() {
        format!("{label} is {size}, but must be {expected}: `{}` is {}", axis.name, axis.ty)
    } else if linear(dim).is_some_and(|(_, coeff, rest)| (coeff, rest) == (1, 0)) {
        format!("{label} is {size}, but {reasons}")
    } else {
        format!("{label} is {size}, but {dim} = {expected}, since {reasons}")
    };
    Some(Diag::new(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::{DType, Scalar};
    use crate::ty::Shape;

    fn sym(name: &str) -> Dim {
        Dim::sym(&Symbol::new(name))
    }

    fn check(params: &[(&str, Vec<Dim>)], args: &[&[usize]], expected: &str) {
        let types: Vec<Type> = params.iter().map(|(_, dims)| Type::new(DType::F32, Shape(dims.clone()))).collect();
        let params: Vec<(&str, &Type)> = params.iter().map(|(name, _)| *name).zip(&types).collect();
        let arrays: Vec<Array> = args.iter().map(|shape| Array::full(*shape, Scalar::zero(DType::F32))).collect();
        let found = match bind(&params, &arrays.iter().collect::<Vec<_>>()) {
            Ok(sizes) => sizes.iter().map(|(name, size)| format!("{name} = {size}")).collect::<Vec<_>>().join(", "),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn solves_plain_and_linear_axes() {
        check(&[("x", vec![sym("batch"), Dim::from(3)])], &[&[8, 3]], "batch = 8");
        check(&[("x", vec![sym("n") * Dim::from(2) + Dim::ONE])], &[&[9]], "n = 4");
        check(&[("x", vec![sym("a") + sym("b")]), ("y", vec![sym("b")])], &[&[7], &[3]], "a = 4, b = 3");
        check(&[("x", vec![sym("n")])], &[&[0]], "n = 0");
        check(&[], &[], "");
    }

    #[test]
    fn says_both_sides() {
        let batch = || vec![sym("batch")];
        check(&[("y", batch()), ("x", batch())], &[&[8], &[7]], "`x` axis 0 is 7, but `y` axis 0 says batch = 8");
        check(&[("x", vec![Dim::from(3)])], &[&[4]], "`x` axis 0 is 4, but must be 3: `x` is f32[3]");
        let twice = vec![sym("batch") * Dim::from(2)];
        check(
            &[("x", twice.clone()), ("y", batch())],
            &[&[10], &[4]],
            "`x` axis 0 is 10, but 2*batch = 8, since `y` axis 0 says batch = 4",
        );
        check(&[("x", twice)], &[&[5]], "`x` axis 0 is 5, but no batch gives 2*batch = 5");
        check(&[("x", vec![sym("n") * sym("n")])], &[&[4]], "`x` axis 0 is 4, but no n gives n*n = 4");
    }

    #[test]
    fn checks_declarations() {
        let ranged = Dim::sym(&Symbol::ranged("n", 2, 8, 2));
        check(&[("x", vec![ranged.clone()])], &[&[9]], "`x` axis 0 says n = 9, but its declared range is 2..=8");
        check(&[("x", vec![ranged])], &[&[3]], "`x` axis 0 says n = 3, but it is declared a multiple of 2");
        check(
            &[("x", vec![sym("n") + Dim::from(3)])],
            &[&[1]],
            "`x` axis 0 says n = -2, but its declared range is 0..=4294967296",
        );
    }

    #[test]
    fn checks_types_and_counts() {
        check(&[("x", vec![])], &[&[1]], "`x` must be f32[], got f32[1]");
        check(&[("x", vec![]), ("y", vec![])], &[&[]], "takes 2 inputs (`x`, `y`), got 1");
    }
}
