//! Adds nodes for a rewrite at one place of the user's program. No decisions are here.

use graver_ir::op::{Broadcast, Reduce, ReduceKind};
use graver_ir::{Array, Diag, Graph, Loc, NodeId, Op, Scalar, ScalarFn, Shape, Type, Value};

/// A graph and the place that new nodes get.
pub(crate) struct Build<'a> {
    /// The graph.
    pub(crate) graph: &'a mut Graph,
    /// The place.
    pub(crate) loc: Loc,
    /// What was added so far, in order.
    pub(crate) added: Vec<NodeId>,
}

impl<'a> Build<'a> {
    /// New nodes in `graph` are at `loc`.
    pub(crate) fn at(graph: &'a mut Graph, loc: &Loc) -> Self {
        Self { graph, loc: loc.clone(), added: Vec::new() }
    }

    /// The type of a value.
    pub(crate) fn ty(&self, value: Value) -> &Type {
        self.graph.ty(value)
    }

    /// The first result of a new node.
    ///
    /// # Errors
    /// If the types do not fit, which for symbolic sizes may be unknown before.
    pub(crate) fn add(&mut self, op: Op, args: &[Value]) -> Result<Value, Diag> {
        let node = self.graph.add(op, args, self.loc.clone())?;
        self.added.push(node);
        Ok(node.into())
    }

    /// A map over operands of one shape and of element types that are known to fit.
    pub(crate) fn map(&mut self, function: ScalarFn, args: &[Value]) -> Value {
        self.add(Op::Map(function), args).expect("a map's operands have one shape and fitting element types")
    }

    pub(crate) fn sum_of(&mut self, x: Value, y: Value) -> Value {
        self.map(ScalarFn::Add, &[x, y])
    }

    pub(crate) fn mul(&mut self, x: Value, y: Value) -> Value {
        self.map(ScalarFn::Mul, &[x, y])
    }

    /// The scalar constant, repeated to a type's shape.
    pub(crate) fn full(&mut self, shape: &Shape, value: Scalar) -> Value {
        let scalar = self.add(Op::Const(Array::full([], value)), &[]).expect("a scalar constant has no constraint");
        if shape.rank() == 0 {
            return scalar;
        }
        let broadcast = Broadcast { shape: shape.clone(), axes: Vec::new() };
        self.add(Op::Broadcast(broadcast), &[scalar]).expect("a scalar broadcasts to every valid shape")
    }

    /// Zeros of a type.
    pub(crate) fn zeros(&mut self, ty: &Type) -> Value {
        self.full(&ty.shape, Scalar::zero(ty.dtype))
    }

    /// The float everywhere, of the type of `x`.
    pub(crate) fn like(&mut self, x: Value, value: f64) -> Value {
        let ty = self.ty(x).clone();
        self.full(&ty.shape, Scalar::float(ty.dtype, value))
    }

    /// The sum along axes, or the value itself if there are none.
    pub(crate) fn sum(&mut self, x: Value, axes: Vec<usize>) -> Result<Value, Diag> {
        if axes.is_empty() { Ok(x) } else { self.add(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes }), &[x]) }
    }
}
