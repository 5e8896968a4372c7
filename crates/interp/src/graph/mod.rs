//! The meaning of graphs: functions evaluated node by node. Only what the results need is evaluated.
//!
//! Dispatch is here, work in the families' files. Before a node is evaluated its sizes become numbers and its typing rule
//! is applied to them: what could not be told for all sizes is told for these.

mod contract;
mod control;
mod index;
mod loops;
mod map;
mod movement;
mod random;
mod reduce;
mod sizes;
mod unsigned;

pub(crate) use random::key_words;
pub(crate) use reduce::{beats, combine};

use graver_ir::{Array, DType, Diag, Error, FuncId, Module, NodeId, Op, Sizes, StateId, infer};

use crate::dense::Dense;
use crate::finite::{Finite, Suspect};
use crate::noise::Noise;
use crate::scalar::Precision;

/// What a function gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The results that go to the caller, in order.
    pub outputs: Vec<Array>,
    /// The results that go into the state, in order.
    pub updates: Vec<(StateId, Array)>,
}

/// A function of a module over inputs and state. `state` has one array a slot of the module's.
///
/// With [`Precision::Reference`] floats of any type may be given where floats are declared, and all float results are `f64`.
///
/// # Errors
/// Inputs or state that do not fit; sizes for which an operation is not defined; a position out of range and an integer
/// division by zero (at the node's line); a derivative that the grad pass has not written out.
///
/// # Panics
/// If the module is not verified.
pub fn eval(module: &Module, func: FuncId, inputs: &[&Array], state: &[Array], precision: Precision) -> Result<Outcome, Error> {
    control::entry(module, func, inputs, state, precision, &Unwatched)
}

/// As [`eval`] of declared types, until a value is NaN or infinite that was made of none: the error names the operation, its line, the
/// element and what it was made of. `derived` tells operations that a derivative has added, by their function's name and their node, so that
/// the error can say so.
///
/// A value is made non-finite where all that it was made of is finite, and made NaN where none of it is NaN: infinities that are written down,
/// as masks are, are not meant, what they make is.
///
/// # Errors
/// As [`eval`], and the first value that is looked for.
pub fn eval_finite(
    module: &Module,
    func: FuncId,
    (inputs, state): (&[&Array], &[Array]),
    suspect: Suspect,
    derived: &dyn Fn(&str, NodeId) -> bool,
) -> Result<Outcome, Error> {
    control::entry(module, func, inputs, state, Precision::Typed, &Finite { suspect, derived })
}

/// As [`eval`] of declared types, with every input and every rounded result moved by up to two units in its last place, by chance: how far
/// rounding may take the results, from a few seeds (Parker, 1997, "Monte Carlo arithmetic").
///
/// # Errors
/// As [`eval`].
pub fn eval_noisy(module: &Module, func: FuncId, inputs: &[&Array], state: &[Array], seed: u64) -> Result<Outcome, Error> {
    control::entry(module, func, inputs, state, Precision::Typed, &Noise { seed })
}

/// Where a value is computed.
pub(crate) struct At<'a> {
    pub(crate) function: &'a str,
    pub(crate) node: NodeId,
    pub(crate) op: &'a Op,
    /// The iterations of loops around, outermost first.
    pub(crate) iterations: &'a [usize],
}

/// Who sees the values of an evaluation.
pub(crate) trait Watch {
    /// An input, or a slot of the state behind the inputs, by number.
    fn given(&self, number: usize, value: &mut Dense, precision: Precision);
    /// What an operation other than calls and control flow has given.
    fn computed(&self, at: &At<'_>, args: &[&Dense], results: &mut [Dense], precision: Precision) -> Result<(), Diag>;
}

/// Nobody.
struct Unwatched;

impl Watch for Unwatched {
    fn given(&self, _: usize, _: &mut Dense, _: Precision) {}

    fn computed(&self, _: &At<'_>, _: &[&Dense], _: &mut [Dense], _: Precision) -> Result<(), Diag> {
        Ok(())
    }
}

/// One operation applied to arrays: what folding a constant means.
///
/// ```
/// use graver_interp::eval_op;
/// use graver_ir::{Array, Op, ScalarFn, Sizes};
/// let x = Array::from_vec([2], vec![1.0f32, -2.0])?;
/// let y = eval_op(&Op::Map(ScalarFn::Neg), &[&x], &Sizes::new())?;
/// assert_eq!(y[0].to_f64(), [-1.0, 2.0]);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
///
/// # Errors
/// As [`eval`], without a place; and calls and parameters, which have no value by themselves.
pub fn eval_op(op: &Op, args: &[&Array], sizes: &Sizes) -> Result<Vec<Array>, Diag> {
    let args: Vec<Dense> = args.iter().map(|arg| Dense::from_array(arg)).collect();
    let results = apply(op, &args.iter().collect::<Vec<_>>(), sizes, Precision::Typed)?;
    Ok(results.iter().map(|result| result.to_array(Precision::Typed)).collect())
}

/// The type of a result whose sizes are numbers.
pub(crate) struct Out {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
}

impl Out {
    fn of(self, data: crate::dense::Data) -> Dense {
        Dense { dtype: self.dtype, shape: self.shape, data }
    }
}

/// One operation other than a call. The results are rounded and wrapped.
fn apply(op: &Op, args: &[&Dense], sizes: &Sizes, precision: Precision) -> Result<Vec<Dense>, Diag> {
    if let Op::Call(_) | Op::If(_) | Op::While(_) | Op::Scan(_) | Op::Param(_) | Op::Transform(_) = op {
        return Err(control::not_alone(op));
    }
    let op = sizes::bound(op, sizes).map_err(|diag| diag.op(op.name()))?;
    let types: Vec<_> = args.iter().map(|arg| arg.ty()).collect();
    let outs = infer(&op, &types.iter().collect::<Vec<_>>()).map_err(|diag| diag.op(op.name()))?;
    let outs = outs.iter().map(|ty| Out { dtype: ty.dtype, shape: sizes::constant(&ty.shape) });
    let [out] = <[Out; 1]>::try_from(outs.collect::<Vec<_>>()).map_err(|_| Diag::new("has one result").op(op.name()))?;
    let result = unsigned::dispatch(&op, args, out, precision).map_err(|diag| diag.op(op.name()))?;
    Ok(vec![result.finished(precision)])
}

/// One operation whose sizes are numbers, with the type of its result.
fn dispatch(op: &Op, args: &[&Dense], out: Out, precision: Precision) -> Result<Dense, Diag> {
    Ok(match op {
        Op::Map(function) => map::function(*function, args, out)?,
        Op::Cast(_) => map::cast(args[0], out, precision),
        Op::Bitcast(_) => map::bitcast(args[0], out),
        Op::Const(array) => Dense::from_array(array),
        Op::Size(dim) => index::size(sizes::number(dim), out),
        Op::Iota(iota) => index::iota(iota.axis, out, precision),
        Op::Gather(axes) => index::gather(*axes, args[0], args[1], out)?,
        Op::Scatter(scatter) => index::scatter(*scatter, args[0], args[1], args[2], out)?,
        Op::DynamicSlice(slice) => index::dynamic_slice(&slice.axes, args[0], &args[1..], out)?,
        Op::DynamicUpdate(axes) => index::dynamic_update(axes, args[0], args[1], &args[2..], out)?,
        Op::Sort(sort) => index::sort(*sort, args[0], out),
        Op::Reshape(_) => out.of(args[0].data.clone()),
        Op::Permute(perm) => movement::permute(perm, args[0], out),
        Op::Broadcast(broadcast) => movement::broadcast(&broadcast.axes, args[0], out),
        Op::Slice(axes) => movement::slice(axes, args[0], out),
        Op::Pad(axes) => movement::pad(axes, args[0], args[1], out),
        Op::Concat(axis) => movement::concat(*axis, args, out),
        Op::Reverse(axes) => movement::reverse(axes, args[0], out),
        Op::Reduce(reduce) => reduce::reduce(reduce, args[0], out),
        Op::ArgReduce(arg) => reduce::arg_reduce(*arg, args[0], out),
        Op::Prefix(prefix) => reduce::prefix(*prefix, args[0], out),
        Op::Window(window) => reduce::window(window, args[0], out),
        Op::WindowArg(window) => reduce::window_arg(window, args[0], out),
        Op::WindowTake(axes) => reduce::window_take(axes, args[0], args[1], out),
        Op::WindowPut(put) => reduce::window_put(&put.axes, args[0], args[1], out),
        Op::Dot(axes) => contract::dot(axes, args[0], args[1], out),
        Op::Conv(conv) => contract::conv(conv, args[0], args[1], out),
        Op::Philox(philox) => random::philox(philox.stream, args[0], out),
        Op::Alias | Op::StopGradient => args[0].clone(),
        Op::Param(_) | Op::Call(_) | Op::If(_) | Op::While(_) | Op::Scan(_) | Op::Transform(_) => {
            return Err(control::not_alone(op));
        }
    })
}
