//! Control flow: attributes of the operations that apply functions of the module once, or again and again.
//!
//! Such an operation names functions as a call does. A function takes what is carried, then a slice of what is scanned, then
//! what it closes over, and has no other way to see its surroundings. Nothing is unrolled here.

use serde::{Deserialize, Serialize};

use super::{Call, Op};
use crate::dim::Dim;
use crate::module::FuncId;
use crate::ty::Type;

/// Attributes of [`Op::If`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct If {
    /// `(operands..) -> results`: applied where the condition holds.
    pub then: FuncId,
    /// `(operands..) -> results`: applied where it does not.
    pub otherwise: FuncId,
    /// The result types of both.
    pub results: Vec<Type>,
}

/// Attributes of [`Op::While`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct While {
    /// `(carried.., closed..) -> bool[]`: whether the body is applied once more.
    pub cond: FuncId,
    /// `(carried.., closed..) -> carried..`
    pub body: FuncId,
    /// How many of the operands are carried: the first ones.
    pub carried: usize,
    /// The body is applied at most so often, whatever the condition says.
    pub most: Option<Dim>,
}

/// Attributes of [`Op::Scan`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scan {
    /// `(carried.., slices of what is scanned.., closed..) -> (carried.., slices of what is stacked..)`
    pub body: FuncId,
    /// How often the body is applied: the first size of everything that is scanned or stacked.
    pub trip: Dim,
    /// How many of the operands are carried: the first ones.
    pub carried: usize,
    /// How many of the operands are scanned: the next ones.
    pub scanned: usize,
    /// Whether the last slice is the first.
    pub reverse: bool,
    /// Whether nothing is carried and all iterations are to be taken at once, as one batch: what `vmap` records. The meaning is the loop's
    /// all the same.
    #[serde(default)]
    pub at_once: bool,
    /// The types of the results: what is carried, then what is stacked.
    pub results: Vec<Type>,
}

impl Op {
    /// The functions of the module that the operation names, in a fixed order.
    #[must_use]
    pub fn functions(&self) -> Vec<FuncId> {
        match self {
            Self::Call(call) => std::iter::once(call.func).chain(call.vjp).collect(),
            Self::If(op) => vec![op.then, op.otherwise],
            Self::While(op) => vec![op.cond, op.body],
            Self::Scan(op) => vec![op.body],
            Self::Map(_)
            | Self::Cast(_)
            | Self::Bitcast(_)
            | Self::Const(_)
            | Self::Size(_)
            | Self::Iota(_)
            | Self::Gather(_)
            | Self::Scatter(_)
            | Self::DynamicSlice(_)
            | Self::DynamicUpdate(_)
            | Self::Sort(_)
            | Self::Reshape(_)
            | Self::Permute(_)
            | Self::Broadcast(_)
            | Self::Slice(_)
            | Self::Pad(_)
            | Self::Concat(_)
            | Self::Reverse(_)
            | Self::Reduce(_)
            | Self::ArgReduce(_)
            | Self::Prefix(_)
            | Self::Window(_)
            | Self::WindowArg(_)
            | Self::WindowTake(_)
            | Self::WindowPut(_)
            | Self::Dot(_)
            | Self::Conv(_)
            | Self::Philox(_)
            | Self::Param(_)
            | Self::Alias
            | Self::StopGradient
            | Self::Transform(_) => Vec::new(),
        }
    }

    /// The operation with every function replaced, in the order of [`Op::functions`].
    #[must_use]
    pub fn with_functions(&self, mut replace: impl FnMut(FuncId) -> FuncId) -> Self {
        let mut named = self.functions().into_iter().map(&mut replace);
        let mut next = || named.next().expect("as many functions as `functions` lists");
        let mut new = self.clone();
        if let Self::Call(Call { func, vjp, .. }) = &mut new {
            *func = next();
            vjp.iter_mut().for_each(|vjp| *vjp = next());
        } else if let Self::If(If { then, otherwise, .. }) = &mut new {
            (*then, *otherwise) = (next(), next());
        } else if let Self::While(While { cond, body, .. }) = &mut new {
            (*cond, *body) = (next(), next());
        } else if let Self::Scan(Scan { body, .. }) = &mut new {
            *body = next();
        }
        assert!(named.next().is_none(), "every function that `functions` lists is replaced");
        new
    }
}

/// The types that the body of a scan takes for these operands, and must give, where they fit the attributes: a slice of what
/// is scanned or stacked has one axis less.
#[must_use]
pub fn scan_signature<'t>(scan: &Scan, operands: &[&'t Type]) -> (Vec<Type>, Vec<Type>) {
    let slices = |types: &mut dyn Iterator<Item = &'t Type>| types.map(slice_of).collect::<Vec<_>>();
    let (carried, rest) = operands.split_at(scan.carried.min(operands.len()));
    let (scanned, closed) = rest.split_at(scan.scanned.min(rest.len()));
    let whole = |types: &[&Type]| types.iter().map(|ty| (*ty).clone()).collect::<Vec<_>>();
    let takes = [whole(carried), slices(&mut scanned.iter().copied()), whole(closed)].concat();
    let (kept, stacked) = scan.results.split_at(scan.carried.min(scan.results.len()));
    let gives = kept.iter().cloned().chain(stacked.iter().map(slice_of)).collect();
    (takes, gives)
}

/// The type of one slice along the first axis.
#[must_use]
pub fn slice_of(ty: &Type) -> Type {
    Type::new(ty.dtype, crate::ty::Shape(ty.shape.iter().skip(1).cloned().collect()))
}

/// The type of so many slices, one after another along a new first axis.
#[must_use]
pub fn stack_of(trip: &Dim, slice: &Type) -> Type {
    Type::new(slice.dtype, crate::ty::Shape(std::iter::once(trip).chain(slice.shape.iter()).cloned().collect()))
}
