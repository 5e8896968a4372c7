//! Derivatives: recorded in the same graph as what is differentiated, and written out by the grad pass.
//!
//! What is differentiated with respect to is given another name ([`graver_ir::Op::Alias`]), the closure runs over that name,
//! and the transform says which names it means. So dropout and running statistics inside need no plumbing, and derivatives nest.

use std::ops::{Add, Mul};
use std::panic::Location;

use graver_ir::op::Transform;
use graver_ir::{Array, Diag, Op};

use crate::context::{Trace, Traced, done, emit, emit_all, report, with, wrong};
use crate::module::{Module, declare};
use crate::ops::map::like;
use crate::param::{Param, ParamId};
use crate::scope::on_behalf_of;
use crate::tensor::{Operand, Tensor};
use crate::tree::{Arrays, Layout, Tensors, Tree, tensors_of};

/// A value to differentiate with respect to, and the parameter that it is, if it is one.
#[derive(Clone, Copy, Debug)]
pub struct WrtLeaf {
    tensor: Tensor,
    param: Option<ParamId>,
}

impl WrtLeaf {
    /// The value.
    pub(crate) fn tensor(&self) -> Tensor {
        self.tensor
    }

    /// The parameter that it is, if it is one.
    pub(crate) fn param(&self) -> Option<ParamId> {
        self.param
    }
}

/// What may be differentiated with respect to: a tensor, tuples (to 4), arrays and vectors of them, and a reference to a model,
/// which means its parameters that are not frozen.
pub trait Wrt {
    /// What the closure takes.
    type Given;
    /// The derivatives.
    type Grad: Tree;

    /// Appends the values in order.
    fn leaves(&self, out: &mut Vec<WrtLeaf>);
    /// The same over other names.
    fn given(&self, names: &mut Tensors<'_>) -> Self::Given;
    /// Derivatives in the order of values.
    fn grad(&self, grads: &mut Tensors<'_>) -> Self::Grad;
}

impl Wrt for Tensor {
    type Given = Self;
    type Grad = Self;

    fn leaves(&self, out: &mut Vec<WrtLeaf>) {
        out.push(WrtLeaf { tensor: *self, param: None });
    }

    fn given(&self, names: &mut Tensors<'_>) -> Self {
        self.with_tensors(names)
    }

    fn grad(&self, grads: &mut Tensors<'_>) -> Self {
        self.with_tensors(grads)
    }
}

impl<M: Module> Wrt for &M {
    type Given = Self;
    type Grad = Grads;

    fn leaves(&self, out: &mut Vec<WrtLeaf>) {
        // Models that nobody named are called by their own paths.
        with(|trace| declare(trace, "", *self));
        let leaf = |(_, param): &(String, Param)| WrtLeaf { tensor: param.get(), param: Some(param.id()) };
        out.extend(trainable(*self).iter().map(leaf));
    }

    fn given(&self, names: &mut Tensors<'_>) -> Self {
        // The names are bound to the parameters' identities; here they are only passed over.
        let _bound: Vec<Tensor> = names.take(trainable(*self).len()).collect();
        self
    }

    fn grad(&self, grads: &mut Tensors<'_>) -> Grads {
        let entry = |(path, param): (String, Param)| {
            // The whole path, where the model is a part of a larger one.
            let path = with(|trace| trace.paths.get(&param.id()).cloned()).unwrap_or(path);
            Grad { path, param, value: grads.next().expect("a derivative has a value for each parameter") }
        };
        Grads { entries: trainable(*self).into_iter().map(entry).collect() }
    }
}

/// The parameters that training changes.
fn trainable<M: Module>(model: &M) -> Vec<(String, Param)> {
    model.params().into_iter().filter(|(_, param)| !param.is_frozen()).collect()
}

impl<W: Wrt> Wrt for Vec<W> {
    type Given = Vec<W::Given>;
    type Grad = Vec<W::Grad>;

    fn leaves(&self, out: &mut Vec<WrtLeaf>) {
        self.iter().for_each(|part| part.leaves(out));
    }

    fn given(&self, names: &mut Tensors<'_>) -> Self::Given {
        self.iter().map(|part| part.given(names)).collect()
    }

    fn grad(&self, grads: &mut Tensors<'_>) -> Self::Grad {
        self.iter().map(|part| part.grad(grads)).collect()
    }
}

impl<W: Wrt, const N: usize> Wrt for [W; N] {
    type Given = [W::Given; N];
    type Grad = [W::Grad; N];

    fn leaves(&self, out: &mut Vec<WrtLeaf>) {
        self.iter().for_each(|part| part.leaves(out));
    }

    fn given(&self, names: &mut Tensors<'_>) -> Self::Given {
        std::array::from_fn(|place| self[place].given(names))
    }

    fn grad(&self, grads: &mut Tensors<'_>) -> Self::Grad {
        std::array::from_fn(|place| self[place].grad(grads))
    }
}

macro_rules! tuple_wrt {
    ($($name:ident $place:tt)*) => {
        impl<$($name: Wrt),*> Wrt for ($($name,)*) {
            type Given = ($($name::Given,)*);
            type Grad = ($($name::Grad,)*);

            fn leaves(&self, out: &mut Vec<WrtLeaf>) {
                $(self.$place.leaves(out);)*
            }

            fn given(&self, names: &mut Tensors<'_>) -> Self::Given {
                ($(self.$place.given(names),)*)
            }

            fn grad(&self, grads: &mut Tensors<'_>) -> Self::Grad {
                ($(self.$place.grad(grads),)*)
            }
        }
    };
}

tuple_wrt!(A 0 B 1);
tuple_wrt!(A 0 B 1 C 2);
tuple_wrt!(A 0 B 1 C 2 D 3);

/// What a differentiated closure may give: the loss, or the loss and anything else.
pub trait Loss {
    /// The loss.
    fn loss(&self) -> Tensor;
}

impl Loss for Tensor {
    fn loss(&self) -> Tensor {
        *self
    }
}

impl<A> Loss for (Tensor, A) {
    fn loss(&self) -> Tensor {
        self.0
    }
}

/// A run of a closure over new names.
pub(crate) struct Run<Y> {
    pub(crate) names: Vec<Tensor>,
    pub(crate) result: Y,
}

#[track_caller]
pub(crate) fn run<W: Wrt, Y>(wrt: &W, f: impl FnOnce(W::Given) -> Y) -> Run<Y> {
    let mut leaves = Vec::new();
    wrt.leaves(&mut leaves);
    let mut names = Vec::new();
    for leaf in &leaves {
        names.push(done("alias", emit(Op::Alias, &[leaf.tensor])));
    }
    let bound = leaves.iter().zip(&names).filter_map(|(leaf, name)| leaf.param.map(|param| (param, *name))).collect();
    let given = wrt.given(&mut names.clone().into_iter());
    Run { names, result: Param::bind(bound, || f(given)) }
}

/// So many results of a transform, poisoned if it failed.
#[track_caller]
pub(crate) fn settle(name: &str, result: Traced<Vec<Tensor>>, count: usize) -> Vec<Tensor> {
    match result {
        Ok(values) => values,
        Err(failed) => {
            report(name, failed);
            with(|trace| (0..count).map(|_| Trace::poison(trace)).collect())
        }
    }
}

#[track_caller]
pub(crate) fn pull_back(y: &[Tensor], cotangents: &[Tensor], names: &[Tensor]) -> Traced<Vec<Tensor>> {
    if names.is_empty() {
        return wrong("there is nothing to differentiate with respect to: the model has no parameter, or all are frozen");
    }
    let args: Vec<Tensor> = y.iter().chain(cotangents).chain(names).copied().collect();
    emit_all(Op::Transform(Transform::Vjp { outputs: y.len(), wrt: names.len() }), &args)
}

#[track_caller]
fn grad_of(loss: Tensor, names: &[Tensor]) -> Traced<Vec<Tensor>> {
    let ty = loss.ty()?;
    if ty.rank() > 0 || !ty.dtype.is_float() {
        return Err(Diag::new(format!("a loss is one float, got {ty}")).help("take its mean or sum").into());
    }
    pull_back(&[loss], &[like(loss, 1.0)?], names)
}

/// The closure's value, a loss (and anything beside it), and the loss' derivative with respect to `wrt`.
///
/// ```
/// use graver_trace::{spec, trace, value_and_grad};
/// let traced = trace(|x| value_and_grad(x, |x| (x * x).sum(..)), spec::<f32>(["n"]))?;
/// assert_eq!(traced.module().functions.len(), 1);
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[track_caller]
pub fn value_and_grad<W: Wrt, Y: Loss>(wrt: W, f: impl FnOnce(W::Given) -> Y) -> (Y, W::Grad) {
    let Run { names, result } = run(&wrt, f);
    let grads = settle("grad", grad_of(result.loss(), &names), names.len());
    let grad = wrt.grad(&mut grads.into_iter());
    (result, grad)
}

/// The derivative of the closure's loss with respect to `wrt`.
#[must_use]
#[track_caller]
pub fn grad<W: Wrt, Y: Loss>(wrt: W, f: impl FnOnce(W::Given) -> Y) -> W::Grad {
    value_and_grad(wrt, f).1
}

/// What [`vjp`] gives beside the value: from cotangents of the value to those of what it was made from.
#[derive(Debug)]
pub struct Pullback<W> {
    wrt: W,
    outputs: Vec<Tensor>,
    names: Vec<Tensor>,
}

impl<W: Wrt> Pullback<W> {
    /// The derivative of `sum(cotangents * value)` with respect to `wrt`.
    #[must_use]
    #[track_caller]
    pub fn pull<Y: Tree>(&self, cotangents: &Y) -> W::Grad {
        let cotangents = tensors_of(cotangents);
        let grads = settle("vjp", self.checked(&cotangents), self.names.len());
        self.wrt.grad(&mut grads.into_iter())
    }

    #[track_caller]
    fn checked(&self, cotangents: &[Tensor]) -> Traced<Vec<Tensor>> {
        if cotangents.len() != self.outputs.len() {
            return wrong(format!("{} cotangents for {} values", cotangents.len(), self.outputs.len()));
        }
        pull_back(&self.outputs, cotangents, &self.names)
    }
}

/// The closure's value and its pullback: reverse mode for any number of results.
#[must_use]
#[track_caller]
pub fn vjp<W: Wrt, Y: Tree>(wrt: W, f: impl FnOnce(W::Given) -> Y) -> (Y, Pullback<W>) {
    let Run { names, result } = run(&wrt, f);
    let outputs = tensors_of(&result);
    (result, Pullback { wrt, outputs, names })
}

/// The closure's value, and its derivative along `tangents` of `wrt`: forward mode.
#[must_use]
#[track_caller]
pub fn jvp<W: Wrt, Y: Tree>(wrt: W, tangents: &W::Grad, f: impl FnOnce(W::Given) -> Y) -> (Y, Y) {
    let Run { names, result } = run(&wrt, f);
    let (outputs, tangents) = (tensors_of(&result), tensors_of(tangents));
    let pushed = settle("jvp", push_forward(&outputs, &names, &tangents), outputs.len());
    let derivative = result.with_tensors(&mut pushed.into_iter());
    (result, derivative)
}

#[track_caller]
pub(crate) fn push_forward(y: &[Tensor], names: &[Tensor], tangents: &[Tensor]) -> Traced<Vec<Tensor>> {
    if tangents.len() != names.len() {
        return wrong(format!("{} tangents for {} values", tangents.len(), names.len()));
    }
    let args: Vec<Tensor> = y.iter().chain(names).chain(tangents).copied().collect();
    emit_all(Op::Transform(Transform::Jvp { outputs: y.len(), wrt: names.len() }), &args)
}

/// The product of the Hessian of the closure's loss with `vector`: forward mode over reverse mode.
#[must_use]
#[track_caller]
pub fn hvp<W, Y>(wrt: W, vector: &W::Grad, f: impl FnOnce(W::Given) -> Y) -> W::Grad
where
    W: Wrt,
    W::Given: Wrt<Given = W::Given, Grad = W::Grad>,
    Y: Loss,
{
    let _line = on_behalf_of(Location::caller(), crate::SOURCES);
    jvp(wrt, vector, |given| grad(given, f)).1
}

/// The derivative with respect to one parameter.
#[derive(Debug)]
struct Grad {
    path: String,
    param: Param,
    value: Tensor,
}

/// Derivatives with respect to a model's parameters (or any other tensors beside them), in the order of its fields.
#[derive(Debug)]
pub struct Grads {
    entries: Vec<Grad>,
}

impl Grads {
    /// Parameters with their paths and derivatives.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param, Tensor)> {
        self.entries.iter().map(|entry| (entry.path.as_str(), &entry.param, entry.value))
    }

    /// The derivative with respect to a parameter, if it was asked for.
    #[must_use]
    pub fn wrt(&self, param: &Param) -> Option<Tensor> {
        self.entries.iter().find(|entry| entry.param.id() == param.id()).map(|entry| entry.value)
    }

    /// Each derivative made another, with its parameter's path.
    #[must_use]
    pub fn map(&self, mut f: impl FnMut(&str, Tensor) -> Tensor) -> Self {
        let entry =
            |entry: &Grad| Grad { path: entry.path.clone(), param: entry.param.tie(), value: f(&entry.path, entry.value) };
        Self { entries: self.entries.iter().map(entry).collect() }
    }

    /// The root of the sum of the squares of all elements.
    #[must_use]
    #[track_caller]
    pub fn norm(&self) -> Tensor {
        let mut total: Option<Tensor> = None;
        for entry in &self.entries {
            let squares = entry.value.square().sum(..);
            total = Some(total.map_or(squares, |total| total + squares));
        }
        total.unwrap_or_else(|| crate::ops::index::scalar(0.0f32)).sqrt()
    }

    /// Reads each parameter as its value here while `f` runs: fast weights, target networks.
    pub fn with_params<R>(&self, f: impl FnOnce() -> R) -> R {
        Param::bind(self.entries.iter().map(|entry| (entry.param.id(), entry.value)).collect(), f)
    }
}

/// The parameters of a model in the trace, in the form of [`Grads`]: where updated weights start from.
#[must_use]
pub fn params_of<M: Module>(model: &M) -> Grads {
    let mut values = trainable(model).into_iter().map(|(_, param)| param.get()).collect::<Vec<_>>().into_iter();
    Wrt::grad(&model, &mut values)
}

/// Reads each parameter as its value in `values` while `f` runs over the model.
pub fn with_params<M: Module, R>(model: &M, values: &Grads, f: impl FnOnce(&M) -> R) -> R {
    values.with_params(|| f(model))
}

impl Tree for Grads {
    type Arrays = Vec<(String, Array)>;

    fn flatten(&self, out: &mut Vec<Tensor>) {
        out.extend(self.entries.iter().map(|entry| entry.value));
    }

    fn layout(&self) -> Layout {
        Layout::Named(self.entries.iter().map(|entry| entry.path.clone()).collect())
    }

    fn with_tensors(&self, tensors: &mut Tensors<'_>) -> Self {
        self.map(|_, _| tensors.next().expect("a tree is rebuilt from as many tensors as it has"))
    }

    fn arrays(layout: &Layout, arrays: &mut Arrays<'_>) -> Self::Arrays {
        match layout {
            Layout::Named(paths) => paths.iter().cloned().zip(arrays).collect(),
            Layout::Leaf | Layout::Node(_) => panic!("a layout is read as the type that made it"),
        }
    }
}

impl Add for Grads {
    type Output = Self;

    /// The sum of derivatives of the same parameters.
    ///
    /// # Panics
    /// If they are of other parameters.
    #[track_caller]
    fn add(self, other: Self) -> Self {
        let mut entries = Vec::new();
        for entry in self.entries {
            let value = other.wrt(&entry.param).expect("derivatives of the same parameters are added");
            entries.push(Grad { value: entry.value + value, ..entry });
        }
        Self { entries }
    }
}

impl<O: Operand> Mul<O> for Grads {
    type Output = Self;

    /// Every derivative times a number or a scalar.
    #[track_caller]
    fn mul(self, factor: O) -> Self {
        let mut entries = Vec::new();
        for entry in self.entries {
            entries.push(Grad { value: entry.value * &factor, ..entry });
        }
        Self { entries }
    }
}

impl Tensor {
    /// The same value, constant to differentiation.
    #[must_use]
    #[track_caller]
    pub fn stop_gradient(self) -> Self {
        done("stop_gradient", emit(Op::StopGradient, &[self]))
    }
}
