//! What patterns are written with: operands of one function, in either order; rows repeated; means; constants.

use graver_ir::op::ReduceKind;
use graver_ir::{Args, DType, Graph, NodeId, Op, ScalarFn, Shape, Value};

use crate::simplify::splat;

/// A pattern under comparison: the graph, and the nodes that were found to be inside so far.
pub(super) struct Pattern<'a> {
    pub(super) graph: &'a Graph,
    inside: Vec<NodeId>,
}

impl<'a> Pattern<'a> {
    pub(super) const fn new(graph: &'a Graph) -> Self {
        Self { graph, inside: Vec::new() }
    }

    /// Whether nothing but the node `last` needs a value of what is inside.
    pub(super) fn is_closed(&self, last: NodeId, wanted: &[bool]) -> bool {
        let within = |node: NodeId| node == last || self.inside.contains(&node);
        let hidden = |node: &NodeId| !wanted[node.index()] && self.graph.users(*node).iter().all(|user| within(user.node));
        self.inside.iter().filter(|node| **node != last).all(hidden)
    }

    pub(super) fn shape(&self, x: Value) -> &'a Shape {
        &self.graph.ty(x).shape
    }

    pub(super) fn dtype(&self, x: Value) -> DType {
        self.graph.ty(x).dtype
    }

    /// Says that the node of a value is inside.
    pub(super) fn enter(&mut self, x: Value) {
        self.inside.push(x.node);
    }

    /// What a comparison finds; what it entered in vain is left again.
    pub(super) fn attempt<T>(&mut self, compare: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let entered = self.inside.len();
        let found = compare(self);
        if found.is_none() {
            self.inside.truncate(entered);
        }
        found
    }

    // ---- maps

    /// The operands of a scalar function.
    fn operands(&mut self, x: Value, function: ScalarFn) -> Option<Args> {
        (*self.graph.op(x.node) == Op::Map(function)).then(|| {
            self.enter(x);
            self.graph.args(x.node)
        })
    }

    /// The operand of a function of one.
    pub(super) fn one(&mut self, x: Value, function: ScalarFn) -> Option<Value> {
        self.operands(x, function).map(|args| args[0])
    }

    /// The operands of a function of two.
    pub(super) fn two(&mut self, x: Value, function: ScalarFn) -> Option<(Value, Value)> {
        self.operands(x, function).map(|args| (args[0], args[1]))
    }

    /// The operands of a selection.
    pub(super) fn three(&mut self, x: Value) -> Option<[Value; 3]> {
        self.operands(x, ScalarFn::Select).map(|args| [args[0], args[1], args[2]])
    }

    /// What is found of the operands of a function that commutes, in the order in which it is found.
    pub(super) fn either<T>(
        &mut self,
        x: Value,
        function: ScalarFn,
        compare: impl Fn(&mut Self, Value, Value) -> Option<T>,
    ) -> Option<T> {
        self.attempt(|p| {
            let (left, right) = p.two(x, function)?;
            p.attempt(|p| compare(p, left, right)).or_else(|| p.attempt(|p| compare(p, right, left)))
        })
    }

    /// `f(x, constant)`, in either order where the function commutes.
    pub(super) fn with_constant(&mut self, x: Value, function: ScalarFn) -> Option<(Value, f64)> {
        if function.commutes() {
            return self.either(x, function, |p, y, constant| Some((y, p.constant(constant)?)));
        }
        self.attempt(|p| {
            let (y, constant) = p.two(x, function)?;
            Some((y, p.constant(constant)?))
        })
    }

    /// The one number of all elements.
    pub(super) fn constant(&self, x: Value) -> Option<f64> {
        splat(self.graph, x).map(graver_ir::Scalar::as_f64)
    }

    /// Whether all elements are this number, as the element type has it.
    pub(super) fn is_number(&self, x: Value, number: f64) -> bool {
        self.constant(x).is_some_and(|constant| near(constant, number, self.dtype(x)))
    }

    /// Whether a value is `x` to the power of this whole number, as a power or as products.
    pub(super) fn is_power(&mut self, value: Value, x: Value, power: u8) -> bool {
        if power == 1 {
            return value == x;
        }
        let by_pow = self.attempt(|p| {
            let (base, exponent) = p.two(value, ScalarFn::Pow)?;
            (base == x && p.constant(exponent)? == f64::from(power)).then_some(())
        });
        by_pow.is_some()
            || self.either(value, ScalarFn::Mul, |p, y, z| (z == x && p.is_power(y, x, power - 1)).then_some(())).is_some()
    }

    /// The factors of a product, and the number that all constant ones make. Products that others need too are factors.
    pub(super) fn factors(&mut self, x: Value) -> (Vec<Value>, f64) {
        let (mut factors, mut number, mut open, mut first) = (Vec::new(), 1.0, vec![x], true);
        while let Some(x) = open.pop() {
            let opens = std::mem::take(&mut first) || self.graph.has_one_use(x);
            if let Some(constant) = self.constant(x) {
                number *= constant;
            } else if opens && let Some((left, right)) = self.two(x, ScalarFn::Mul) {
                open.extend([left, right]);
            } else if opens && let Some((left, divisor)) = self.with_constant(x, ScalarFn::Div) {
                number /= divisor;
                open.push(left);
            } else {
                factors.push(x);
            }
        }
        (factors, number)
    }

    // ---- rows

    /// What is a value before axes of one element were put in or taken out.
    pub(super) fn plain(&mut self, mut x: Value) -> Value {
        while let Op::Reshape(to) = self.graph.op(x.node) {
            let from = self.graph.args(x.node)[0];
            if !without_ones(self.shape(from)).eq(without_ones(to)) {
                break;
            }
            self.enter(x);
            x = from;
        }
        x
    }

    /// One number a row, where it is repeated along the last axis of a shape.
    pub(super) fn row(&mut self, x: Value, shape: &Shape) -> Option<Value> {
        let Op::Broadcast(broadcast) = self.graph.op(x.node) else { return None };
        let last = shape.rank().checked_sub(1)?;
        let lead = |axis: &usize| !broadcast.axes.contains(axis) && !shape[*axis].is(1);
        let each = broadcast.axes.is_sorted() && !broadcast.axes.contains(&last) && !(0..last).any(|axis| lead(&axis));
        (broadcast.shape == *shape && each).then(|| {
            self.enter(x);
            self.plain(self.graph.args(x.node)[0])
        })
    }

    /// A vector over the last axis, where it is repeated to a shape. It is an operand: nothing is entered.
    pub(super) fn vector(&self, x: Value, shape: &Shape) -> Option<Value> {
        let last = shape.rank().checked_sub(1)?;
        let op = self.graph.op(x.node);
        let repeated = matches!(op, Op::Broadcast(broadcast) if broadcast.axes == [last])
            || matches!(op, Op::Reshape(_)) && shape[..last].iter().all(|size| size.is(1));
        let vector = self.graph.args(x.node).first().copied().filter(|_| repeated)?;
        (self.shape(vector)[..] == shape[last..]).then_some(vector)
    }

    /// The operand of a reduction over its last axis.
    pub(super) fn reduced(&mut self, x: Value, kind: ReduceKind) -> Option<Value> {
        let Op::Reduce(reduce) = self.graph.op(x.node) else { return None };
        let operand = self.graph.args(x.node)[0];
        (reduce.kind == kind && reduce.axes == [self.shape(operand).rank() - 1]).then(|| {
            self.enter(x);
            operand
        })
    }

    /// What a value is the mean of, over its last axis.
    pub(super) fn mean(&mut self, x: Value) -> Option<Value> {
        self.attempt(|p| {
            let x = p.plain(x);
            let (sum, share) = match p.with_constant(x, ScalarFn::Div) {
                Some((sum, count)) => (sum, count.recip()),
                None => p.with_constant(x, ScalarFn::Mul)?,
            };
            let sum = p.plain(sum);
            let operand = p.reduced(sum, ReduceKind::Sum)?;
            let count = p.shape(operand).last()?.as_const()?;
            #[expect(clippy::cast_precision_loss, reason = "a row is far shorter than 2^53")]
            near(share, (count as f64).recip(), p.dtype(x)).then_some(operand)
        })
    }
}

fn without_ones(shape: &Shape) -> impl Iterator<Item = &graver_ir::Dim> {
    shape.iter().filter(|size| !size.is(1))
}

/// Whether a constant is this number but for its rounding.
pub(super) fn near(constant: f64, number: f64, dtype: DType) -> bool {
    let rounding = match dtype {
        DType::F64 => 1e-14,
        DType::F16 => 1e-3,
        DType::BF16 => 1e-2,
        DType::F32 | DType::Bool => 2.5e-7,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => 0.0,
    };
    (constant - number).abs() <= rounding * number.abs()
}
