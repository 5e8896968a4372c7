//! What is known of integer and small constant values while a model is imported: their elements, as numbers or as sizes.
//!
//! Sizes travel through ONNX graphs as tensors (Shape, Gather, Concat, .. Reshape). Here the same operations act on what is known of
//! their operands, so that the sizes arrive as expressions and the chain between is dead, also where a part of it is computed in floats. Sound
//! and incomplete: `None` is unknown.

mod quotient;

use graver_interp::eval_op;
use graver_ir::op::{Prefix, ReduceKind};
use graver_ir::{Array, DType, Dim, Op, Scalar, ScalarFn, Sizes, Type};

pub(crate) use quotient::Quotient;
use quotient::apply_floats;

/// The most elements that are known of one value.
const MANY: usize = 1 << 14;
/// The most elements of a condition that decides alone.
const FEW: usize = 64;
/// The most elements that are computed for one model: hostile ones must not compute at import.
const BUDGET: usize = 1 << 24;

/// The elements of a value.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Numbers.
    Array(Array),
    /// Integers that depend on symbols, in row-major order.
    Dims(Vec<Dim>),
    /// Floats that depend on symbols, in row-major order.
    Quotients(Vec<Quotient>),
}

impl Known {
    /// The elements as sizes; nothing for floats.
    pub(crate) fn dims(&self) -> Option<Vec<Dim>> {
        match self {
            Self::Dims(dims) => Some(dims.clone()),
            Self::Array(array) if array.dtype().is_float() || array.numel() > MANY => None,
            Self::Array(array) => Some((0..array.numel()).map(|place| Dim::from(array.get(place).as_i64())).collect()),
            Self::Quotients(_) => None,
        }
    }

    /// The elements, integers or floats, as quotients of sizes.
    pub(crate) fn quotients(&self) -> Option<Vec<Quotient>> {
        match self {
            Self::Quotients(quotients) => Some(quotients.clone()),
            Self::Array(array) if array.dtype().is_float() && array.numel() <= MANY => {
                array.to_f64().into_iter().map(Quotient::number).collect()
            }
            Self::Array(_) | Self::Dims(_) => Some(self.dims()?.into_iter().map(Quotient::from).collect()),
        }
    }

    /// The numbers, if all are.
    pub(crate) const fn array(&self) -> Option<&Array> {
        match self {
            Self::Array(array) => Some(array),
            Self::Dims(_) | Self::Quotients(_) => None,
        }
    }

    fn numel(&self) -> usize {
        match self {
            Self::Array(array) => array.numel(),
            Self::Dims(dims) => dims.len(),
            Self::Quotients(quotients) => quotients.len(),
        }
    }
}

/// How much may still be computed.
#[derive(Debug)]
pub(crate) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(BUDGET)
    }
}

/// How an operation's result follows from what is known of its operands.
#[derive(Clone, Copy)]
enum Rule {
    /// Every element is one of the operands'.
    Moves,
    /// Every element is one of the first operand's, at positions that are numbers.
    Picks,
    /// A scalar function.
    Applies(ScalarFn),
    /// A conversion.
    Converts(DType),
    /// A reduction.
    Combines(ReduceKind),
    /// Every element with all before it.
    Accumulates(Prefix),
    /// Numbers give numbers; sizes are not followed.
    Numbers,
    /// It is left to the compiled program.
    Never,
}

const fn rule(op: &Op) -> Rule {
    match op {
        Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(_) | Op::Slice(_) | Op::Pad(_) | Op::Concat(_) | Op::Reverse(_) => {
            Rule::Moves
        }
        Op::Gather(_) => Rule::Picks,
        Op::Map(function) => Rule::Applies(*function),
        Op::Cast(dtype) => Rule::Converts(*dtype),
        Op::Reduce(reduce) => Rule::Combines(reduce.kind),
        Op::Prefix(prefix) => Rule::Accumulates(*prefix),
        Op::Bitcast(_) | Op::Iota(_) | Op::ArgReduce(_) | Op::Sort(_) => Rule::Numbers,
        Op::Const(_)
        | Op::Size(_)
        | Op::Scatter(_)
        | Op::DynamicSlice(_)
        | Op::DynamicUpdate(_)
        | Op::Window(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_) => Rule::Never,
        Op::WindowPut(_) | Op::Dot(_) | Op::Conv(_) | Op::Philox(_) | Op::Param(_) | Op::Alias | Op::StopGradient => Rule::Never,
        Op::Call(_) | Op::If(_) | Op::While(_) | Op::Scan(_) | Op::Transform(_) => Rule::Never,
    }
}

/// An operand with its type.
type Operand<'a> = (&'a Type, &'a Known);

/// What the operation's result is known to be.
pub(crate) fn evaluate(op: &Op, out: &Type, args: &[(&Type, Option<&Known>)], budget: &mut Budget) -> Option<Known> {
    if let Op::Const(array) = op {
        return Some(Known::Array(array.clone()));
    }
    if let Op::Size(dim) = op {
        return Some(sizes(vec![dim.clone()], out));
    }
    if matches!(rule(op), Rule::Never) {
        return None;
    }
    if let Rule::Applies(function) = rule(op)
        && let Some(known) = decided(function, &args.iter().map(|(_, known)| *known).collect::<Vec<_>>())
    {
        return Some(known.clone());
    }
    let args: Vec<Operand<'_>> = args.iter().map(|(ty, known)| Some((*ty, (*known)?))).collect::<Option<_>>()?;
    let numel = out.shape.as_const()?.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    let work = args.iter().map(|(_, known)| known.numel()).fold(numel, usize::max);
    if work > MANY {
        return None;
    }
    budget.0 = budget.0.checked_sub(work)?;
    match args.iter().map(|(_, known)| known.array()).collect::<Option<Vec<&Array>>>() {
        Some(arrays) => eval_op(op, &arrays, &Sizes::new()).ok()?.pop().map(Known::Array),
        None => symbolic(op, out, &args),
    }
}

/// What some operands decide, whatever the others are.
fn decided<'a>(function: ScalarFn, args: &[Option<&'a Known>]) -> Option<&'a Known> {
    let all = |known: &Known, zero: bool| {
        known.array().is_some_and(|array| {
            array.dtype() == DType::Bool && array.numel() <= FEW && (0..array.numel()).all(|i| array.get(i).is_zero() == zero)
        })
    };
    match (function, args) {
        (ScalarFn::And | ScalarFn::Or, args) => {
            let decides = |known: &&Known| all(known, function == ScalarFn::And);
            args.iter().copied().flatten().find(decides)
        }
        (ScalarFn::Select, [Some(condition), x, y]) if condition.numel() > 0 => {
            if all(condition, false) {
                *x
            } else if all(condition, true) {
                *y
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Sizes, as numbers where all of them are.
fn sizes(dims: Vec<Dim>, ty: &Type) -> Known {
    let numbers: Option<Vec<Scalar>> = dims.iter().map(|dim| dim.as_const().map(|size| Scalar::int(ty.dtype, size))).collect();
    let array = numbers.and_then(|numbers| Array::from_scalars(ty.dtype, ty.shape.as_const()?, &numbers).ok());
    array.map_or(Known::Dims(dims), Known::Array)
}

/// Floats, as numbers where all of them are.
fn floats(quotients: Vec<Quotient>, ty: &Type) -> Known {
    let numbers: Option<Vec<f64>> = quotients.iter().map(Quotient::as_number).collect();
    let array = numbers.and_then(|numbers| Array::from_vec(ty.shape.as_const()?, numbers).ok());
    array.map_or(Known::Quotients(quotients), |array| Known::Array(array.cast(ty.dtype)))
}

fn symbolic(op: &Op, out: &Type, args: &[Operand<'_>]) -> Option<Known> {
    // Floats of 16 bits hold sizes of 11.
    let in_floats = |ty: &Type| matches!(ty.dtype, DType::F32 | DType::F64);
    if in_floats(out) {
        return of_floats(op, args).map(|quotients| floats(quotients, out));
    }
    if args.iter().any(|(ty, _)| in_floats(ty)) {
        return to_integers(op, args).map(|dims| sizes(dims, out));
    }
    (!out.dtype.is_float()).then_some(())?;
    let of_dims = |known: &Known| known.dims();
    let dims = match rule(op) {
        Rule::Moves => moved(op, args, &[], of_dims),
        Rule::Picks => moved(op, &args[..1], &[args[1].1.array()?], of_dims),
        Rule::Applies(function) => applied(args, of_dims, |args| apply(function, args)),
        // The narrower type holds every size that a tensor has in practice; what the program computes with a larger one wraps.
        Rule::Converts(DType::I64 | DType::I32) => args[0].1.dims(),
        Rule::Converts(DType::Bool) => {
            args[0].1.dims()?.iter().map(|dim| equal(dim, &Dim::ZERO).map(|zero| truth(!zero))).collect()
        }
        Rule::Combines(kind) if out.rank() == 0 => combine(kind, args[0].1.dims()?).map(|dim| vec![dim]),
        Rule::Accumulates(prefix) if out.rank() == 1 => accumulated(prefix, args[0].1.dims()?),
        Rule::Converts(_) | Rule::Combines(_) | Rule::Accumulates(_) | Rule::Numbers | Rule::Never => None,
    };
    dims.map(|dims| sizes(dims, out))
}

/// What gives floats.
fn of_floats(op: &Op, args: &[Operand<'_>]) -> Option<Vec<Quotient>> {
    match rule(op) {
        Rule::Moves => moved(op, args, &[], Known::quotients),
        Rule::Picks => moved(op, &args[..1], &[args[1].1.array()?], Known::quotients),
        Rule::Applies(function) => applied(args, Known::quotients, |args| apply_floats(function, args)),
        Rule::Converts(_) => args[0].1.quotients(),
        Rule::Combines(_) | Rule::Accumulates(_) | Rule::Numbers | Rule::Never => None,
    }
}

/// What gives integers of floats: casts and comparisons.
fn to_integers(op: &Op, args: &[Operand<'_>]) -> Option<Vec<Dim>> {
    match rule(op) {
        Rule::Applies(function) => {
            let found = applied(args, Known::quotients, |args| apply_floats(function, args))?;
            found.iter().map(|x| x.whole().cloned()).collect()
        }
        Rule::Converts(DType::I64 | DType::I32) => args[0].1.quotients()?.iter().map(Quotient::truncated).collect(),
        Rule::Converts(_) | Rule::Moves | Rule::Picks | Rule::Combines(_) | Rule::Accumulates(_) => None,
        Rule::Numbers | Rule::Never => None,
    }
}

/// A function of the elements of operands, place by place.
fn applied<T>(
    args: &[Operand<'_>],
    elements: impl Fn(&Known) -> Option<Vec<T>>,
    function: impl Fn(&[&T]) -> Option<T>,
) -> Option<Vec<T>> {
    let operands: Vec<Vec<T>> = args.iter().map(|(_, known)| elements(known)).collect::<Option<_>>()?;
    let at = |place: usize| function(&operands.iter().map(|each| &each[place]).collect::<Vec<_>>());
    (0..operands.first()?.len()).map(at).collect()
}

/// The operation over the places of elements instead of elements: what it gives are the places that they come from.
fn moved<T: Clone>(
    op: &Op,
    args: &[Operand<'_>],
    rest: &[&Array],
    elements: impl Fn(&Known) -> Option<Vec<T>>,
) -> Option<Vec<T>> {
    let (mut all, mut places) = (Vec::new(), Vec::new());
    for (ty, known) in args {
        let first = i64::try_from(all.len()).ok()?;
        all.extend(elements(known)?);
        let numbers = (first..i64::try_from(all.len()).ok()?).collect();
        places.push(Array::from_vec(ty.shape.as_const()?, numbers).ok()?);
    }
    let operands: Vec<&Array> = places.iter().chain(rest.iter().copied()).collect();
    let result = eval_op(op, &operands, &Sizes::new()).ok()?.pop()?;
    result.as_slice::<i64>()?.iter().map(|place| all.get(usize::try_from(*place).ok()?).cloned()).collect()
}

fn truth(holds: bool) -> Dim {
    Dim::from(i64::from(holds))
}

fn combine(kind: ReduceKind, dims: Vec<Dim>) -> Option<Dim> {
    match kind {
        ReduceKind::Sum => Some(dims.into_iter().sum()),
        ReduceKind::Prod => Some(dims.into_iter().product()),
        ReduceKind::Max => dims.into_iter().reduce(|x, y| x.max_with(&y)),
        ReduceKind::Min => dims.into_iter().reduce(|x, y| x.min_with(&y)),
    }
}

fn accumulated(prefix: Prefix, mut dims: Vec<Dim>) -> Option<Vec<Dim>> {
    if prefix.reverse {
        dims.reverse();
    }
    for place in 1..dims.len() {
        dims[place] = combine(prefix.kind, vec![dims[place - 1].clone(), dims[place].clone()]).filter(Dim::is_small)?;
    }
    if prefix.reverse {
        dims.reverse();
    }
    Some(dims)
}

/// Whether two sizes are equal, if it can be told for all values of their symbols.
fn equal(x: &Dim, y: &Dim) -> Option<bool> {
    if x == y {
        return Some(true);
    }
    let apart = (x - y).is_positive() || (y - x).is_positive();
    apart.then_some(false)
}

/// Whether `x < y`, if it can be told.
fn less(x: &Dim, y: &Dim) -> Option<bool> {
    if (y - x).is_positive() {
        Some(true)
    } else if (x - y).is_nonneg() {
        Some(false)
    } else {
        None
    }
}

/// What is left of a division, as a difference where it is seen to be one: what it is added to may cancel it.
pub(crate) fn remainder(x: &Dim, y: &Dim) -> Dim {
    if x.is_below(y) {
        return x.clone();
    }
    let rest = x - &(y * &x.floor_div(y));
    if rest.is_below(y) { rest } else { x.modulo(y) }
}

/// A scalar function of sizes.
fn apply(function: ScalarFn, args: &[&Dim]) -> Option<Dim> {
    let divides = |x: &Dim, y: &Dim| x.is_nonneg() && y.is_positive();
    let small = |dim: Dim| dim.is_small().then_some(dim);
    match (function, args) {
        (ScalarFn::Neg, [x]) => small(-(*x).clone()),
        (ScalarFn::Abs, [x]) if x.is_nonneg() => Some((*x).clone()),
        (ScalarFn::Not, [x]) => x.as_const().map(|x| truth(x == 0)),
        (ScalarFn::Add, [x, y]) => small(*x + *y),
        (ScalarFn::Sub, [x, y]) => small(*x - *y),
        (ScalarFn::Mul, [x, y]) => small(*x * *y),
        // Integer division truncates, which is the floor where nothing is negative.
        (ScalarFn::Div, [x, y]) if divides(x, y) => small(x.floor_div(y)),
        // What is so many times something is that many, unless it is nothing: that has no quotient.
        (ScalarFn::Div, [x, y]) => small(x.exact_div(y)?),
        (ScalarFn::Rem, [x, y]) if divides(x, y) => small(remainder(x, y)),
        (ScalarFn::Max, [x, y]) => small(x.max_with(y)),
        (ScalarFn::Min, [x, y]) => small(x.min_with(y)),
        (ScalarFn::Eq, [x, y]) => equal(x, y).map(truth),
        (ScalarFn::Ne, [x, y]) => equal(x, y).map(|equal| truth(!equal)),
        (ScalarFn::Lt, [x, y]) => less(x, y).map(truth),
        (ScalarFn::Gt, [x, y]) => less(y, x).map(truth),
        (ScalarFn::Le, [x, y]) => less(y, x).map(|less| truth(!less)),
        (ScalarFn::Ge, [x, y]) => less(x, y).map(|less| truth(!less)),
        (ScalarFn::And, [x, y]) => Some(truth(x.as_const()? != 0 && y.as_const()? != 0)),
        (ScalarFn::Or, [x, y]) => Some(truth(x.as_const()? != 0 || y.as_const()? != 0)),
        (ScalarFn::Select, [c, x, y]) => Some(if c.as_const()? != 0 { (*x).clone() } else { (*y).clone() }),
        _ => None,
    }
}
