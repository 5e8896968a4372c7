//! Matrices of derivatives: one row of a Jacobian is one pullback, one column one tangent; [`crate::vmap`] takes all of them at once.
//!
//! The function runs once. What does not depend on the row or the column, the values themselves, is computed once too: the map's pass
//! leaves it outside of the batch.

use std::panic::Location;

use graver_ir::op::{Perm, SliceAxis};
use graver_ir::{DType, Diag, Dim, Op, ScalarFn, Shape, Type};

use crate::context::{Traced, emit};
use crate::control::map_numbers;
use crate::grad::{Grads, Loss, Run, Wrt, WrtLeaf, grad, pull_back, push_forward, run, settle};
use crate::ops::index::iota_of;
use crate::ops::map::stretch;
use crate::scope::on_behalf_of;
use crate::tensor::Tensor;
use crate::tree::{Tree, tensors_of};

/// What a function may give of which a Jacobian is taken: a tensor, tuples (to 4), arrays and vectors of them, or gradients of a model.
pub trait Outputs: Tree {
    /// For each tensor the derivatives with respect to everything.
    type Jacobian<G: Tree>: Tree;

    /// Takes the derivatives of one tensor after another.
    fn jacobian<G: Tree>(&self, next: &mut dyn FnMut() -> G) -> Self::Jacobian<G>;
}

impl Outputs for Tensor {
    type Jacobian<G: Tree> = G;

    fn jacobian<G: Tree>(&self, next: &mut dyn FnMut() -> G) -> G {
        next()
    }
}

impl<Y: Outputs> Outputs for Vec<Y> {
    type Jacobian<G: Tree> = Vec<Y::Jacobian<G>>;

    fn jacobian<G: Tree>(&self, next: &mut dyn FnMut() -> G) -> Self::Jacobian<G> {
        self.iter().map(|part| part.jacobian(next)).collect()
    }
}

impl<Y: Outputs, const N: usize> Outputs for [Y; N] {
    type Jacobian<G: Tree> = [Y::Jacobian<G>; N];

    fn jacobian<G: Tree>(&self, next: &mut dyn FnMut() -> G) -> Self::Jacobian<G> {
        std::array::from_fn(|place| self[place].jacobian(next))
    }
}

/// One a parameter, in their order.
impl Outputs for Grads {
    type Jacobian<G: Tree> = Vec<G>;

    fn jacobian<G: Tree>(&self, next: &mut dyn FnMut() -> G) -> Vec<G> {
        self.iter().map(|_| next()).collect()
    }
}

macro_rules! tuple_outputs {
    ($($name:ident $place:tt)*) => {
        impl<$($name: Outputs),*> Outputs for ($($name,)*) {
            type Jacobian<Of: Tree> = ($($name::Jacobian<Of>,)*);

            fn jacobian<Of: Tree>(&self, next: &mut dyn FnMut() -> Of) -> Self::Jacobian<Of> {
                ($(self.$place.jacobian(next),)*)
            }
        }
    };
}

tuple_outputs!(A 0 B 1);
tuple_outputs!(A 0 B 1 C 2);
tuple_outputs!(A 0 B 1 C 2 D 3);

/// The derivative of everything that the closure gives with respect to every element of `wrt`: for `y` and `x` an array of the shape
/// `y.shape + x.shape`. By reverse mode, one pullback an element of `y`, all at once: right where `y` has fewer elements than `x`;
/// [`jacobian_forward`] is the other way.
///
/// ```
/// use graver_trace::{jacobian, spec, trace};
/// let traced = trace(|x| jacobian(x, |x| x.square().sum(1)), spec::<f32>(("n", 3)))?;
/// let (_, main) = traced.module().entry().expect("a traced module has an entry");
/// assert_eq!(main.result_types()[0].to_string(), "f32[n, n, 3]");
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[must_use]
#[track_caller]
pub fn jacobian<W: Wrt, Y: Outputs>(wrt: W, f: impl FnOnce(W::Given) -> Y) -> Y::Jacobian<W::Grad> {
    let _line = on_behalf_of(Location::caller(), crate::SOURCES);
    let mut wanted = 0;
    let (built, (y, types)) = map_numbers(
        "jacobian",
        |number| {
            let Run { names, result } = run(&wrt, f);
            wanted = names.len();
            let ys = tensors_of(&result);
            let types = types_of(&ys);
            let seeds = types.clone().and_then(|types| units(number, &types));
            let rows = seeds.and_then(|seeds| pull_back(&ys, &seeds, &names));
            (settle("jacobian", rows, names.len()), (result, types))
        },
        |(_, types)| Ok(sizes(types.as_ref().map_err(Clone::clone)?).into_iter().sum()),
    );
    let rows = settle("jacobian", built, wanted);
    let blocks = types.and_then(|types| row_blocks(&rows, &types));
    assembled(&wrt, &y, settle("jacobian", blocks, wanted * tensors_of(&y).len()))
}

/// As [`jacobian`], by forward mode, one tangent an element of `wrt`, all at once: right where `wrt` has fewer elements than what the
/// closure gives.
#[must_use]
#[track_caller]
pub fn jacobian_forward<W: Wrt, Y: Outputs>(wrt: W, f: impl FnOnce(W::Given) -> Y) -> Y::Jacobian<W::Grad> {
    let _line = on_behalf_of(Location::caller(), crate::SOURCES);
    let mut leaves: Vec<WrtLeaf> = Vec::new();
    wrt.leaves(&mut leaves);
    let types = types_of(&leaves.iter().map(WrtLeaf::tensor).collect::<Vec<_>>());
    let (built, y) = map_numbers(
        "jacobian",
        |number| {
            let Run { names, result } = run(&wrt, f);
            let ys = tensors_of(&result);
            let tangents = types.clone().and_then(|types| units(number, &types));
            let columns = tangents.and_then(|tangents| push_forward(&ys, &names, &tangents));
            (settle("jacobian_forward", columns, ys.len()), result)
        },
        |_| Ok(sizes(types.as_ref().map_err(Clone::clone)?).into_iter().sum()),
    );
    let count = tensors_of(&y).len();
    let columns = settle("jacobian_forward", built, count);
    let blocks = types.and_then(|types| column_blocks(&columns, &types));
    assembled(&wrt, &y, settle("jacobian_forward", blocks, count * leaves.len()))
}

/// The second derivatives of the closure's loss with respect to every pair of elements of `wrt`: for `x` an array of the shape
/// `x.shape + x.shape`. Forward mode over reverse mode, one tangent an element, all at once; [`crate::hvp`] gives products without it.
///
/// ```
/// use graver_trace::{hessian, spec, trace};
/// let traced = trace(|x| hessian(x, |x| x.square().sum(..)), spec::<f32>([3]))?;
/// let (_, main) = traced.module().entry().expect("a traced module has an entry");
/// assert_eq!(main.result_types()[0].to_string(), "f32[3, 3]");
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[must_use]
#[track_caller]
pub fn hessian<W, Y>(wrt: W, f: impl FnOnce(W::Given) -> Y) -> <W::Grad as Outputs>::Jacobian<W::Grad>
where
    W: Wrt,
    W::Grad: Outputs,
    W::Given: Wrt<Given = W::Given, Grad = W::Grad>,
    Y: Loss,
{
    let _line = on_behalf_of(Location::caller(), crate::SOURCES);
    jacobian_forward(wrt, |given| grad(given, f))
}

fn types_of(tensors: &[Tensor]) -> Traced<Vec<Type>> {
    let types = tensors.iter().map(|tensor| tensor.ty()).collect::<Traced<Vec<Type>>>()?;
    match types.iter().find(|ty| !ty.dtype.is_float()) {
        Some(ty) => Err(Diag::new(format!("only floats can be differentiated, got {ty}")).into()),
        None => Ok(types),
    }
}

/// Elements of each.
fn sizes(types: &[Type]) -> Vec<Dim> {
    types.iter().map(|ty| ty.shape.iter().product()).collect()
}

/// One at the element of this number, counted through all of them, and zero elsewhere.
#[track_caller]
fn units(number: Tensor, types: &[Type]) -> Traced<Vec<Tensor>> {
    let (mut units, mut first) = (Vec::new(), Dim::ZERO);
    for (ty, count) in types.iter().zip(sizes(types)) {
        let flat = Shape(vec![count.clone()]);
        let numbers = iota_of(DType::I64, flat.clone(), 0)?;
        let before = stretch(crate::ops::index::size_like(&first, DType::I64)?, &flat)?;
        let numbers = emit(Op::Map(ScalarFn::Add), &[numbers, before])?;
        let hit = emit(Op::Map(ScalarFn::Eq), &[numbers, stretch(number, &flat)?])?;
        let unit = emit(Op::Cast(ty.dtype), &[hit])?;
        units.push(emit(Op::Reshape(ty.shape.clone()), &[unit])?);
        first = first + count;
    }
    Ok(units)
}

/// So many slices of the first axis.
#[track_caller]
fn part(x: Tensor, start: &Dim, count: &Dim) -> Traced {
    let shape = x.ty()?.shape;
    let axis = |(axis, size): (usize, &Dim)| {
        let (start, size) = if axis == 0 { (start.clone(), count.clone()) } else { (Dim::ZERO, size.clone()) };
        SliceAxis { start, size, step: 1 }
    };
    emit(Op::Slice(shape.iter().enumerate().map(axis).collect()), &[x])
}

/// From rows, stacked through all of `y`, to an array for each of `y` and of `x`.
#[track_caller]
fn row_blocks(rows: &[Tensor], y: &[Type]) -> Traced<Vec<Tensor>> {
    let (mut blocks, mut first) = (Vec::new(), Dim::ZERO);
    for (ty, count) in y.iter().zip(sizes(y)) {
        for row in rows {
            let own = row.ty()?.shape.0[1..].to_vec();
            let block = part(*row, &first, &count)?;
            blocks.push(emit(Op::Reshape(Shape([ty.shape.0.clone(), own].concat())), &[block])?);
        }
        first = first + count;
    }
    Ok(blocks)
}

/// From columns, stacked through all of `x`, to an array for each of `y` and of `x`.
#[track_caller]
fn column_blocks(columns: &[Tensor], x: &[Type]) -> Traced<Vec<Tensor>> {
    let mut blocks = Vec::new();
    for column in columns {
        let (own, mut first) = (column.ty()?.shape.0[1..].to_vec(), Dim::ZERO);
        for (ty, count) in x.iter().zip(sizes(x)) {
            let block = part(*column, &first, &count)?;
            let block = emit(Op::Reshape(Shape([ty.shape.0.clone(), own.clone()].concat())), &[block])?;
            let (rank, outer) = (ty.rank(), own.len());
            let perm = Perm::new((rank..rank + outer).chain(0..rank).collect()).map_err(Diag::new)?;
            blocks.push(emit(Op::Permute(perm), &[block])?);
            first = first + count;
        }
    }
    Ok(blocks)
}

fn assembled<W: Wrt, Y: Outputs>(wrt: &W, y: &Y, blocks: Vec<Tensor>) -> Y::Jacobian<W::Grad> {
    let mut blocks = blocks.into_iter();
    y.jacobian(&mut || wrt.grad(&mut blocks))
}
