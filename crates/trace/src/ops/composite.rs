//! What is made of primitives: functions of the module with a tag, called; each is built once for the operands' types.
//!
//! Operands are checked before a body is recorded, so that messages are about the user's tensors.

use graver_ir::op::{Composite, GatherAxes, ReduceKind};
use graver_ir::{Dim, Op, ScalarFn, Shape, Type};

use super::map::{broadcast_pair, like, map, narrow, same_dtype, widen};
use super::movement::{permute_to, reshape_to};
use super::reduce::{Keep, mean, moments, reduce};
use crate::call::{Named, call};
use crate::context::{Traced, done, done_all, emit, wrong};
use crate::tensor::{Axes, Axis, Operand, Tensor};

pub(super) fn tagged(tag: Composite, attributes: &str) -> Named {
    let name = if attributes.is_empty() { tag.name().to_owned() } else { format!("{}_{attributes}", tag.name()) };
    Named { name, tag: Some(tag) }
}

fn last() -> Axes {
    Axes::Some(vec![(-1).into()])
}

/// `f(x, y)` after broadcasting.
#[track_caller]
fn map2(function: ScalarFn, x: Tensor, y: Tensor) -> Traced {
    let (x, y) = broadcast_pair(x, y)?;
    map(function, &[x, y])
}

/// `f(x, number)`.
#[track_caller]
pub(super) fn with_number(function: ScalarFn, x: Tensor, value: f64) -> Traced {
    map2(function, x, like(x, value)?)
}

pub(super) fn floats(what: &str, ty: &Type) -> Traced<()> {
    if ty.dtype.is_float() { Ok(()) } else { wrong(format!("{what} of floats, got {ty}")) }
}

/// A function of rows. Not a function pointer: called through one, a function does not know its caller's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Softmax,
    LogSoftmax,
}

/// A function of rows applied along any axis.
#[track_caller]
fn along(x: Tensor, axis: Axis, rows: Rows) -> Traced {
    let ty = x.ty()?;
    floats("takes rows", &ty)?;
    let axis = axis.of(&ty)?;
    let mut order: Vec<usize> = (0..ty.rank()).collect();
    order.swap(axis, ty.rank() - 1);
    // The exchange of two axes undoes itself.
    let x = permute_to(x, order.clone())?;
    let y = match rows {
        Rows::Softmax => softmax(x)?,
        Rows::LogSoftmax => log_softmax(x)?,
    };
    permute_to(y, order)
}

/// `x - max(x)` along the last axis; the maximum is a constant to differentiation, since it cancels.
#[track_caller]
fn shifted(x: Tensor) -> Traced {
    let top = emit(Op::StopGradient, &[reduce(x, ReduceKind::Max, &last(), Keep::Yes)?])?;
    map2(ScalarFn::Sub, x, top)
}

#[track_caller]
pub(super) fn softmax(x: Tensor) -> Traced {
    one(call(tagged(Composite::Softmax, ""), &[x], |args| {
        wide(args, |args| {
            let exp = map(ScalarFn::Exp, &[shifted(args[0])?])?;
            let sum = reduce(exp, ReduceKind::Sum, &last(), Keep::Yes)?;
            Ok(vec![map2(ScalarFn::Div, exp, sum)?])
        })
    }))
}

#[track_caller]
fn log_softmax(x: Tensor) -> Traced {
    one(call(tagged(Composite::LogSoftmax, ""), &[x], |args| {
        wide(args, |args| {
            let shifted = shifted(args[0])?;
            let sum = reduce(map(ScalarFn::Exp, &[shifted])?, ReduceKind::Sum, &last(), Keep::Yes)?;
            Ok(vec![map2(ScalarFn::Sub, shifted, map(ScalarFn::Log, &[sum])?)?])
        })
    }))
}

/// A composite's body over operands as wide as they are computed with, its results as narrow as its first operand.
fn wide(args: &[Tensor], body: impl FnOnce(&[Tensor]) -> Traced<Vec<Tensor>>) -> Traced<Vec<Tensor>> {
    let dtype = args[0].ty()?.dtype;
    let args: Vec<Tensor> = args.iter().map(|arg| widen(*arg)).collect::<Traced<_>>()?;
    body(&args)?.into_iter().map(|result| narrow(result, dtype)).collect()
}

pub(super) fn one(results: Traced<Vec<Tensor>>) -> Traced {
    results.map(|results| results[0])
}

#[track_caller]
fn gelu(x: Tensor) -> Traced {
    floats("gelu", &x.ty()?)?;
    one(call(tagged(Composite::Gelu, ""), &[x], |args| {
        wide(args, |args| {
            let x = args[0];
            let erf = map(ScalarFn::Erf, &[with_number(ScalarFn::Mul, x, std::f64::consts::FRAC_1_SQRT_2)?])?;
            let phi = with_number(ScalarFn::Mul, with_number(ScalarFn::Add, erf, 1.0)?, 0.5)?;
            Ok(vec![map(ScalarFn::Mul, &[x, phi])?])
        })
    }))
}

/// Hendrycks and Gimpel (2016), "Gaussian error linear units": `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
#[track_caller]
fn gelu_tanh(x: Tensor) -> Traced {
    let dtype = x.ty()?.dtype;
    floats("gelu", &x.ty()?)?;
    let x = widen(x)?;
    let cubic = with_number(ScalarFn::Mul, map(ScalarFn::Mul, &[map(ScalarFn::Mul, &[x, x])?, x])?, 0.044_715)?;
    let scale = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let inner = with_number(ScalarFn::Mul, map(ScalarFn::Add, &[x, cubic])?, scale)?;
    let outer = with_number(ScalarFn::Add, map(ScalarFn::Tanh, &[inner])?, 1.0)?;
    narrow(map(ScalarFn::Mul, &[with_number(ScalarFn::Mul, x, 0.5)?, outer])?, dtype)
}

/// A vector over one axis of `x`.
fn check_vector(what: &str, vector: &Type, x: &Type, axis: usize) -> Traced<()> {
    same_dtype(x, vector)?;
    let size = &x.shape[axis];
    if vector.shape[..] == [size.clone()] {
        Ok(())
    } else {
        wrong(format!("the {what} of {x} must be {}[{size}], got {vector}", x.dtype))
    }
}

/// Ba, Kiros and Hinton (2016), "Layer normalization", over the last axis.
#[track_caller]
fn layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: f64) -> Traced {
    let ty = x.ty()?;
    floats("normalises rows", &ty)?;
    let axis = Axis::from(-1).of(&ty)?;
    check_vector("weight", &weight.ty()?, &ty, axis)?;
    check_vector("bias", &bias.ty()?, &ty, axis)?;
    one(call(tagged(Composite::LayerNorm, &format!("eps{eps:e}")), &[x, weight, bias], |args| {
        wide(args, |args| {
            let (mean, variance) = moments(args[0], &last(), 0, Keep::Yes)?;
            let normal = normalise(args[0], mean, variance, eps)?;
            Ok(vec![map2(ScalarFn::Add, map2(ScalarFn::Mul, normal, args[1])?, args[2])?])
        })
    }))
}

/// `(x - mean) / sqrt(variance + eps)`.
#[track_caller]
fn normalise(x: Tensor, mean: Tensor, variance: Tensor, eps: f64) -> Traced {
    let scale = map(ScalarFn::Rsqrt, &[with_number(ScalarFn::Add, variance, eps)?])?;
    map2(ScalarFn::Mul, map2(ScalarFn::Sub, x, mean)?, scale)
}

/// Zhang and Sennrich (2019), "Root mean square layer normalization".
#[track_caller]
fn rms_norm(x: Tensor, weight: Tensor, eps: f64) -> Traced {
    let ty = x.ty()?;
    floats("normalises rows", &ty)?;
    let axis = Axis::from(-1).of(&ty)?;
    check_vector("weight", &weight.ty()?, &ty, axis)?;
    let (x, weight) = (widen(x)?, widen(weight)?);
    let squares = mean(map(ScalarFn::Mul, &[x, x])?, &last(), Keep::Yes)?;
    let scale = map(ScalarFn::Rsqrt, &[with_number(ScalarFn::Add, squares, eps)?])?;
    narrow(map2(ScalarFn::Mul, map2(ScalarFn::Mul, x, scale)?, weight)?, ty.dtype)
}

/// `[c]` as `[c, 1, ..]`, which broadcasts over the second axis of `x`.
#[track_caller]
fn channels(vector: Tensor, rank: usize) -> Traced {
    let mut shape = vector.ty()?.shape;
    shape.0.extend(vec![Dim::ONE; rank - 2]);
    reshape_to(vector, shape)
}

fn check_channels(x: Tensor, vectors: &[(&str, Tensor)]) -> Traced<Type> {
    let ty = x.ty()?;
    floats("normalises channels", &ty)?;
    if ty.rank() < 2 {
        return wrong(format!("takes [n, c, ..], got {ty}"));
    }
    for (what, vector) in vectors {
        check_vector(what, &vector.ty()?, &ty, 1)?;
    }
    Ok(ty)
}

/// Ioffe and Szegedy (2015), "Batch normalization": over all axes but the second.
#[track_caller]
fn batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: f64) -> Traced<[Tensor; 3]> {
    let ty = check_channels(x, &[("weight", weight), ("bias", bias)])?;
    let outs = call(tagged(Composite::BatchNorm, &format!("eps{eps:e}")), &[x, weight, bias], |args| {
        wide(args, |args| {
            let axes = Axes::Some((0..ty.rank()).filter(|axis| *axis != 1).map(Axis::from).collect());
            let (mean, variance) = moments(args[0], &axes, 0, Keep::Yes)?;
            let y = affine(normalise(args[0], mean, variance, eps)?, args[1], args[2], ty.rank())?;
            let flat = Shape(vec![ty.shape[1].clone()]);
            Ok(vec![y, reshape_to(mean, flat.clone())?, reshape_to(variance, flat)?])
        })
    })?;
    Ok([outs[0], outs[1], outs[2]])
}

#[track_caller]
fn affine(x: Tensor, weight: Tensor, bias: Tensor, rank: usize) -> Traced {
    map2(ScalarFn::Add, map2(ScalarFn::Mul, x, channels(weight, rank)?)?, channels(bias, rank)?)
}

#[track_caller]
fn batch_norm_with(x: Tensor, stats: [Tensor; 2], weight: Tensor, bias: Tensor, eps: f64) -> Traced {
    let [mean, variance] = stats;
    let vectors = [("mean", mean), ("variance", variance), ("weight", weight), ("bias", bias)];
    let ty = check_channels(x, &vectors)?;
    let (rank, [mean, variance]) = (ty.rank(), [widen(mean)?, widen(variance)?]);
    let normal = normalise(widen(x)?, channels(mean, rank)?, channels(variance, rank)?, eps)?;
    narrow(affine(normal, widen(weight)?, widen(bias)?, rank)?, ty.dtype)
}

/// The element of each row at its label.
#[track_caller]
fn pick(rows: Tensor, labels: Tensor) -> Traced {
    let last = rows.ty()?.rank() - 1;
    emit(Op::Gather(GatherAxes { axis: last, batch: last }), &[rows, labels])
}

fn check_labels(rows: &Type, labels: &Type) -> Traced<()> {
    let Some(last) = rows.rank().checked_sub(1) else { return wrong(format!("takes rows [.., classes], got {rows}")) };
    floats("takes rows", rows)?;
    if !labels.dtype.is_int() {
        return wrong(format!("labels are integers, got {labels}"));
    }
    if labels.shape.0 == rows.shape[..last] { Ok(()) } else { wrong(format!("every row of {rows} has one label, got {labels}")) }
}

#[track_caller]
fn cross_entropy(logits: Tensor, labels: Tensor) -> Traced {
    check_labels(&logits.ty()?, &labels.ty()?)?;
    one(call(tagged(Composite::CrossEntropy, ""), &[logits, labels], |args| {
        wide(args, |args| Ok(vec![negative_mean(pick(log_softmax(args[0])?, args[1])?)?]))
    }))
}

#[track_caller]
fn negative_mean(x: Tensor) -> Traced {
    map(ScalarFn::Neg, &[mean(x, &Axes::All, Keep::No)?])
}

#[track_caller]
fn nll(log_probabilities: Tensor, labels: Tensor) -> Traced {
    check_labels(&log_probabilities.ty()?, &labels.ty()?)?;
    negative_mean(pick(log_probabilities, labels)?)
}

/// Losses compare tensors of one shape: broadcasting would hide a mistake.
fn check_alike(x: &Type, target: &Type) -> Traced<()> {
    same_dtype(x, target)?;
    if x.shape == target.shape { Ok(()) } else { wrong(format!("the target of {x} must have its shape, got {target}")) }
}

#[track_caller]
fn mse(x: Tensor, target: Tensor) -> Traced {
    check_alike(&x.ty()?, &target.ty()?)?;
    let error = map(ScalarFn::Sub, &[widen(x)?, widen(target)?])?;
    narrow(mean(map(ScalarFn::Mul, &[error, error])?, &Axes::All, Keep::No)?, x.ty()?.dtype)
}

/// `max(x, 0) - x * target + log(1 + e^-|x|)`, which overflows nowhere.
#[track_caller]
fn bce_with_logits(x: Tensor, target: Tensor) -> Traced {
    check_alike(&x.ty()?, &target.ty()?)?;
    let (dtype, x, target) = (x.ty()?.dtype, widen(x)?, widen(target)?);
    let linear = map(ScalarFn::Sub, &[map(ScalarFn::Relu, &[x])?, map(ScalarFn::Mul, &[x, target])?])?;
    let decay = map(ScalarFn::Exp, &[map(ScalarFn::Neg, &[map(ScalarFn::Abs, &[x])?])?])?;
    let loss = map(ScalarFn::Add, &[linear, map(ScalarFn::Log1p, &[decay])?])?;
    narrow(mean(loss, &Axes::All, Keep::No)?, dtype)
}

impl Tensor {
    /// `e^x / sum(e^x)` along an axis.
    #[must_use]
    #[track_caller]
    pub fn softmax(self, axis: impl Into<Axis>) -> Self {
        done("softmax", along(self, axis.into(), Rows::Softmax))
    }

    /// The logarithm of the softmax along an axis.
    #[must_use]
    #[track_caller]
    pub fn log_softmax(self, axis: impl Into<Axis>) -> Self {
        done("log_softmax", along(self, axis.into(), Rows::LogSoftmax))
    }

    /// `x * Phi(x)`, by the error function.
    #[must_use]
    #[track_caller]
    pub fn gelu(self) -> Self {
        done("gelu", gelu(self))
    }

    /// The approximation of [`Tensor::gelu`] by the hyperbolic tangent.
    #[must_use]
    #[track_caller]
    pub fn gelu_tanh(self) -> Self {
        done("gelu_tanh", gelu_tanh(self))
    }

    /// Rows (the last axis, of size `d`) brought to mean 0 and variance 1, times `weight: [d]`, plus `bias: [d]`.
    #[must_use]
    #[track_caller]
    pub fn layer_norm(self, weight: impl Operand, bias: impl Operand, eps: f64) -> Self {
        let (weight, bias) = (weight.beside(self), bias.beside(self));
        done("layer_norm", layer_norm(self, weight, bias, eps))
    }

    /// Rows divided by the root of the mean of their squares, times `weight: [d]`.
    #[must_use]
    #[track_caller]
    pub fn rms_norm(self, weight: impl Operand, eps: f64) -> Self {
        let weight = weight.beside(self);
        done("rms_norm", rms_norm(self, weight, eps))
    }

    /// Channels of `[n, c, ..]` brought to mean 0 and variance 1 over the batch, times `weight: [c]`, plus `bias: [c]`;
    /// and the mean and the (population) variance, `[c]` each, for running statistics.
    #[must_use]
    #[track_caller]
    pub fn batch_norm(self, weight: impl Operand, bias: impl Operand, eps: f64) -> (Self, Self, Self) {
        let (weight, bias) = (weight.beside(self), bias.beside(self));
        let [y, mean, variance] = done_all("batch_norm", batch_norm(self, weight, bias, eps));
        (y, mean, variance)
    }

    /// [`Tensor::batch_norm`] with given statistics: what evaluation does.
    #[must_use]
    #[track_caller]
    pub fn batch_norm_with(
        self,
        mean: impl Operand,
        variance: impl Operand,
        weight: impl Operand,
        bias: impl Operand,
        eps: f64,
    ) -> Self {
        let stats = [mean.beside(self), variance.beside(self)];
        let (weight, bias) = (weight.beside(self), bias.beside(self));
        done("batch_norm", batch_norm_with(self, stats, weight, bias, eps))
    }

    /// The mean over rows `[.., classes]` of the cross-entropy of their softmax with integer labels `[..]`.
    /// A label out of range is an error of the call.
    #[must_use]
    #[track_caller]
    pub fn cross_entropy(self, labels: Self) -> Self {
        done("cross_entropy", cross_entropy(self, labels))
    }

    /// The mean over rows of minus the log-probability at the label: [`Tensor::cross_entropy`] of logarithms of probabilities.
    #[must_use]
    #[track_caller]
    pub fn nll(self, labels: Self) -> Self {
        done("nll", nll(self, labels))
    }

    /// The mean of the squared differences. Shapes must agree.
    #[must_use]
    #[track_caller]
    pub fn mse(self, target: Self) -> Self {
        done("mse", mse(self, target))
    }

    /// The mean of the binary cross-entropy of `sigmoid(x)` with targets in `0..=1`. Shapes must agree.
    #[must_use]
    #[track_caller]
    pub fn bce_with_logits(self, target: Self) -> Self {
        done("bce_with_logits", bce_with_logits(self, target))
    }
}
