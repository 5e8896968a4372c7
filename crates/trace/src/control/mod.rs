//! Control flow: loops over slices, loops with a condition, branches, maps over a batch, and what derivatives compute again.
//!
//! Bodies are traced once, whatever the number of iterations, and nothing is unrolled. They use tensors made around them as they
//! are, read parameters, and draw random numbers, other ones in each iteration; state that they set is carried.

mod again;
mod body;
mod build;
mod custom;
mod linear;

use graver_ir::op::Composite;
use graver_ir::{DType, Dim, Shape, Type};

use crate::context::{Failed, Trace, Traced, give_up, report, with, wrong};
use crate::ops::index::iota_of;
use crate::size::Size;
use crate::tensor::Tensor;
use crate::tree::{Tree, tensors_of};

pub use again::{Again, Level};
pub(crate) use body::Surroundings;
use build::{Called, Direction};
pub use custom::{custom_jvp, custom_vjp};

/// Applies `f` to every slice of `xs` along its first axis in turn: from what is carried and a slice to what is carried on, and a slice of
/// what is stacked. Gives what the last iteration carries and the stacks, whose first axis is that of `xs`.
///
/// ```
/// use graver_trace::{scan, spec, trace};
/// // A running mean with a decay: `m = 0.9 m + 0.1 x`.
/// let traced = trace(
///     |(start, xs)| scan(start, xs, |mean, x| {
///         let mean = mean * 0.9 + x * 0.1;
///         (mean, mean)
///     }),
///     (spec::<f32>([8]), spec::<f32>(("time", 8))),
/// )?;
/// let (_, main) = traced.module().entry().expect("a traced module has an entry");
/// assert_eq!(main.result_types()[1].to_string(), "f32[time, 8]");
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[track_caller]
pub fn scan<C: Tree, X: Tree, Y: Tree>(init: C, xs: X, f: impl FnOnce(C, X) -> (C, Y)) -> (C, Y) {
    scan_along(Direction::Forwards, &init, &xs, f)
}

/// As [`scan`], from the last slice to the first: what an iteration stacks is at the place of its slice.
#[track_caller]
pub fn scan_back<C: Tree, X: Tree, Y: Tree>(init: C, xs: X, f: impl FnOnce(C, X) -> (C, Y)) -> (C, Y) {
    scan_along(Direction::Backwards, &init, &xs, f)
}

#[track_caller]
fn scan_along<C: Tree, X: Tree, Y: Tree>(direction: Direction, init: &C, xs: &X, f: impl FnOnce(C, X) -> (C, Y)) -> (C, Y) {
    let (start, scanned) = (tensors_of(init), tensors_of(xs));
    let (carried, slices) = match build::slices(&start, &scanned) {
        Ok(types) => types,
        Err(failed) => give_up("scan", failed),
    };
    let recorded = body::record("scan", &[&carried[..], &slices].concat(), body::KeyAtEnd::Stays, |params| {
        let mut params = params.iter().copied();
        let (carry, x) = (init.with_tensors(&mut params), xs.with_tensors(&mut params));
        let (carry, y) = f(carry, x);
        ([tensors_of(&carry), tensors_of(&y)].concat(), y)
    });
    let (built, y) = match recorded {
        Ok(body) => {
            let trip = scanned[0].ty().map(|ty| ty.shape[0].clone());
            (trip.and_then(|trip| build::scan((direction, trip), &start, &scanned, &carried, &body)), body.given)
        }
        Err((failed, y)) => (Err(failed), y),
    };
    let results = settle("scan", built, start.len() + tensors_of(&y).len());
    let mut results = results.into_iter();
    (init.with_tensors(&mut results), y.with_tensors(&mut results))
}

/// Applies `body` to what is carried as long as `cond` of it holds, perhaps never. It has no reverse-mode derivative, since nobody knows
/// how much to save: see [`while_at_most`].
///
/// ```
/// use graver_trace::{spec, trace, while_loop};
/// // Newton's method for the square root.
/// let traced = trace(
///     |x| while_loop(x, |y| (y * y - x).abs().gt(1e-6).any(..), |y| (y + x / y) * 0.5),
///     spec::<f32>([4]),
/// )?;
/// assert_eq!(traced.module().functions.len(), 3);
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[track_caller]
pub fn while_loop<C: Tree>(init: C, cond: impl FnOnce(C) -> Tensor, body: impl FnOnce(C) -> C) -> C {
    repeat(None, &init, cond, body)
}

/// As [`while_loop`], at most so many times. Reverse mode saves that many iterations.
#[track_caller]
pub fn while_at_most<C: Tree>(most: impl Into<Size>, init: C, cond: impl FnOnce(C) -> Tensor, body: impl FnOnce(C) -> C) -> C {
    repeat(Some(most.into()), &init, cond, body)
}

#[track_caller]
fn repeat<C: Tree>(most: Option<Size>, init: &C, cond: impl FnOnce(C) -> Tensor, body: impl FnOnce(C) -> C) -> C {
    let start = tensors_of(init);
    let types = match types_of(&start) {
        Ok(types) => types,
        Err(failed) => give_up("while", failed),
    };
    let test = body::record("while_cond", &types, body::KeyAtEnd::Stays, |params| {
        (vec![cond(init.with_tensors(&mut params.iter().copied()))], ())
    });
    let body = body::record("while_body", &types, body::KeyAtEnd::Advances, |params| {
        (tensors_of(&body(init.with_tensors(&mut params.iter().copied()))), ())
    });
    let built = match (test, body) {
        (Ok(test), Ok(body)) => build::repeat(most, &start, &types, test, body),
        (Err((failed, ())), _) | (_, Err((failed, ()))) => Err(failed),
    };
    init.with_tensors(&mut settle("while", built, start.len()).into_iter())
}

/// One of two results, by a condition of one bool: only that one is computed.
///
/// ```
/// use graver_trace::{cond, spec, trace};
/// let traced = trace(|x| cond(x.sum(..).gt(0.0), || x.relu(), || x * 0.1), spec::<f32>(["n"]))?;
/// assert_eq!(traced.module().functions.len(), 3);
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[track_caller]
pub fn cond<Y: Tree>(condition: Tensor, then: impl FnOnce() -> Y, otherwise: impl FnOnce() -> Y) -> Y {
    let arm = |y: Y| (tensors_of(&y), y);
    let then = body::record("then", &[], body::KeyAtEnd::Stays, |_| arm(then()));
    let otherwise = body::record("otherwise", &[], body::KeyAtEnd::Stays, |_| arm(otherwise()));
    let (built, y) = match (then, otherwise) {
        (Ok(then), Ok(otherwise)) => {
            let [x, y] = [then.given.layout(), otherwise.given.layout()];
            let built = if x == y { build::branch(condition, &then, &otherwise) } else { differ() };
            (built, then.given)
        }
        (Err((failed, y)), _) => (Err(failed), y),
        (Ok(then), Err((failed, _))) => (Err(failed), then.given),
    };
    y.with_tensors(&mut settle("cond", built, tensors_of(&y).len()).into_iter())
}

/// Applies `f` to every slice of `xs` along its first axis, all at once: what it gives gets a new first axis. Operations of `f` become
/// batched ones, in derivatives too; nothing runs one slice after another but what has no batched form.
///
/// Tensors made around `f` are the same for every slice, so are parameters; random numbers are others for each. For another axis than the
/// first, permute `xs` before or the result afterwards. State cannot be set inside.
///
/// ```
/// use graver_trace::{grad, spec, trace, vmap};
/// // The gradient of every example's own loss.
/// let traced = trace(
///     |(w, xs)| vmap(xs, |x| grad(w, |w| (w * x).sum(..).square())),
///     (spec::<f32>([8]), spec::<f32>(("batch", 8))),
/// )?;
/// let (_, main) = traced.module().entry().expect("a traced module has an entry");
/// assert_eq!(main.result_types()[0].to_string(), "f32[batch, 8]");
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[track_caller]
pub fn vmap<X: Tree, Y: Tree>(xs: X, f: impl FnOnce(X) -> Y) -> Y {
    let scanned = tensors_of(&xs);
    let slices = match build::slices(&[], &scanned) {
        Ok((_, types)) => types,
        Err(failed) => give_up("vmap", failed),
    };
    let recorded = body::record("vmap", &slices, body::KeyAtEnd::Stays, |params| {
        let y = f(xs.with_tensors(&mut params.iter().copied()));
        (tensors_of(&y), y)
    });
    let (built, y) = match recorded {
        Ok(body) => {
            let trip = scanned[0].ty().map(|ty| ty.shape[0].clone());
            (trip.and_then(|trip| build::scan((Direction::AtOnce, trip), &[], &scanned, &[], &body)), body.given)
        }
        Err((failed, y)) => (Err(failed), y),
    };
    let results = settle("vmap", built, tensors_of(&y).len());
    y.with_tensors(&mut results.into_iter())
}

/// [`vmap`] over the numbers `0..count`, where the count is known once `f` has run.
#[track_caller]
pub(crate) fn map_numbers<R>(
    name: &str,
    f: impl FnOnce(Tensor) -> (Vec<Tensor>, R),
    count: impl FnOnce(&R) -> Traced<Dim>,
) -> (Traced<Vec<Tensor>>, R) {
    let recorded = body::record(name, &[Type::scalar(DType::I64)], body::KeyAtEnd::Stays, |params| f(params[0]));
    match recorded {
        Ok(body) => {
            let mapped = |count: Dim| {
                let numbers = iota_of(DType::I64, Shape(vec![count.clone()]), 0)?;
                build::scan((Direction::AtOnce, count), &[], &[numbers], &[], &body)
            };
            (count(&body.given).and_then(mapped), body.given)
        }
        Err((failed, given)) => (Err(failed), given),
    }
}

/// Applies `f`. Reverse mode does not keep what it computes: it computes it again from `x` and from what `f` closes over, so that memory is
/// given back between the forward and the backward pass, for one more forward pass of time. Anything may be inside: parameters, dropout
/// (which draws the same numbers again), state, loops, further checkpoints.
///
/// ```
/// use graver_trace::{checkpoint, grad, spec, trace};
/// let traced = trace(|x| grad(x, |x| checkpoint(x, |x| x.exp().sin()).sum(..)), spec::<f32>(["n"]))?;
/// assert_eq!(traced.module().functions.len(), 2);
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[track_caller]
pub fn checkpoint<X: Tree, Y: Tree>(x: X, f: impl FnOnce(X) -> Y) -> Y {
    let args = tensors_of(&x);
    let types = match types_of(&args) {
        Ok(types) => types,
        Err(failed) => give_up("checkpoint", failed),
    };
    let recorded = body::record("checkpoint", &types, body::KeyAtEnd::Stays, |params| {
        let y = f(x.with_tensors(&mut params.iter().copied()));
        (tensors_of(&y), y)
    });
    let (built, y) = match recorded {
        Ok(body) => (Called::of(&body).call(Some(Composite::Checkpoint), &args, |slot| slot), body.given),
        Err((failed, y)) => (Err(failed), y),
    };
    let results = settle("checkpoint", built, tensors_of(&y).len());
    y.with_tensors(&mut results.into_iter())
}

fn differ<T>() -> Traced<T> {
    wrong("the two closures give other nestings of tensors")
}

fn types_of(tensors: &[Tensor]) -> Traced<Vec<Type>> {
    tensors.iter().map(|tensor| tensor.ty()).collect()
}

/// So many results, poisoned if they could not be had.
#[track_caller]
fn settle(name: &str, built: Result<Vec<Tensor>, Failed>, count: usize) -> Vec<Tensor> {
    match built {
        Ok(results) => results,
        Err(failed) => {
            report(name, failed);
            with(|trace| (0..count).map(|_| Trace::poison(trace)).collect())
        }
    }
}
