//! Whether a rule is linear in its tangents: what becomes of tangents in every value that is computed with them.
//!
//! Nothing is computed or rewritten: a sum like `(c + t) - c` counts as what it is written as. Invariant: what is `Zero` or `Linear` here is
//! so for all finite numbers.

use std::collections::BTreeMap;

use graver_ir::op::{Prefix, Reduce, ReduceKind, Scatter, ScatterKind, Transform, Window};
use graver_ir::{FuncId, Function, Module, NodeId, Op, ScalarFn, Value};

/// How a value depends on tangents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Degree {
    /// It is 0, which is constant and linear.
    Zero,
    /// Not at all.
    Constant,
    /// In proportion to all of them together.
    Linear,
    /// In another way.
    Other,
}

use Degree::{Constant, Linear, Other, Zero};

impl Degree {
    const fn is_constant(self) -> bool {
        matches!(self, Zero | Constant)
    }

    /// Of a sum, and of what is one or the other.
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Zero, degree) | (degree, Zero) => degree,
            (Constant, Constant) => Constant,
            (Linear, Linear) => Linear,
            (Constant, Linear) | (Linear, Constant) | (Other, _) | (_, Other) => Other,
        }
    }

    /// Of a product.
    fn times(self, other: Self) -> Self {
        match (self, other) {
            (Other, _) | (_, Other) | (Linear, Linear) => Other,
            (Zero, _) | (_, Zero) => Zero,
            (Constant, degree) | (degree, Constant) => degree,
        }
    }

    /// Of what has this degree only where a condition, positions or a divisor are constant.
    fn given(self, others: &[Self]) -> Self {
        if others.iter().all(|other| other.is_constant()) { self } else { Other }
    }
}

fn sum(degrees: impl IntoIterator<Item = Degree>) -> Degree {
    degrees.into_iter().fold(Zero, Degree::plus)
}

/// The degrees of all values of a function in which these have a degree, and other parameters none.
pub(super) struct Degrees<'m> {
    module: &'m Module,
    function: &'m Function,
    /// By the number of the node, then of the result.
    known: Vec<Vec<Degree>>,
}

impl<'m> Degrees<'m> {
    pub(super) fn of(module: &'m Module, function: &'m Function, given: &BTreeMap<Value, Degree>) -> Self {
        let mut degrees = Self { module, function, known: vec![Vec::new(); function.graph.bound()] };
        for node in function.graph.topo() {
            degrees.known[node.index()] = match given.get(&node.into()) {
                Some(degree) => vec![*degree],
                None => degrees.of_node(node),
            };
        }
        degrees
    }

    pub(super) fn get(&self, value: Value) -> Degree {
        self.known[value.node.index()][usize::from(value.out)]
    }

    /// The first operation by which a value is not linear.
    pub(super) fn culprit(&self, value: Value) -> Option<NodeId> {
        let graph = &self.function.graph;
        let mut node = value.node;
        while let Some(arg) = graph.args(node).iter().find(|arg| self.get(**arg) == Other) {
            node = arg.node;
        }
        (self.get(value) == Other).then_some(node)
    }

    fn of_node(&self, node: NodeId) -> Vec<Degree> {
        let graph = &self.function.graph;
        let args: Vec<Degree> = graph.args(node).iter().map(|arg| self.get(*arg)).collect();
        let (op, count) = (graph.op(node), graph.node(node).outs.len());
        if let Op::Transform(transform) = op {
            derived(*transform, &args)
        } else if op.functions().is_empty() {
            vec![of_op(op, &args); count]
        } else if args.iter().all(|arg| *arg == Constant) {
            // Where nothing depends on tangents, no body is looked into.
            vec![Constant; count]
        } else {
            self.of_control(op, args)
        }
    }

    fn of_control(&self, op: &Op, mut args: Vec<Degree>) -> Vec<Degree> {
        if let Op::Call(call) = op {
            self.called(call.func, &args)
        } else if let Op::If(op) = op {
            let (then, otherwise) = (self.called(op.then, &args[1..]), self.called(op.otherwise, &args[1..]));
            then.into_iter().zip(otherwise).map(|(x, y)| x.plus(y).given(&args[..1])).collect()
        } else if let Op::While(op) = op {
            self.fixed_point(op.body, &mut args, op.carried);
            let goes_on = self.called(op.cond, &args);
            args[..op.carried].iter().map(|carried| carried.given(&goes_on)).collect()
        } else if let Op::Scan(op) = op {
            let results = self.fixed_point(op.body, &mut args, op.carried);
            [&args[..op.carried], &results[op.carried..]].concat()
        } else {
            unreachable!("`{}` names no function", op.name())
        }
    }

    fn called(&self, func: FuncId, args: &[Degree]) -> Vec<Degree> {
        let function = self.module.function(func);
        let given = function.params.iter().map(|param| param.node.into()).zip(args.iter().copied()).collect();
        let degrees = Degrees::of(self.module, function, &given);
        function.results.iter().map(|result| degrees.get(result.value)).collect()
    }

    /// The results of a body that is applied again and again: what is carried has the degree of all that it is in turn.
    fn fixed_point(&self, body: FuncId, args: &mut [Degree], carried: usize) -> Vec<Degree> {
        loop {
            let results = self.called(body, args);
            let turns: Vec<Degree> = args.iter().zip(&results).take(carried).map(|(x, y)| x.plus(*y)).collect();
            if turns == args[..carried] {
                return results;
            }
            args[..carried].copy_from_slice(&turns);
        }
    }
}

/// `J t` and `g J`: linear in what is differentiated, as long as the place is constant, and in tangents or cotangents.
fn derived(transform: Transform, args: &[Degree]) -> Vec<Degree> {
    match transform {
        Transform::Vjp { outputs, wrt: _ } => {
            let (y, rest) = args.split_at(outputs);
            let (cotangents, x) = rest.split_at(outputs);
            let degree = sum(y.iter().zip(cotangents).map(|(y, g)| y.times(*g))).given(x);
            vec![degree; x.len()]
        }
        Transform::Jvp { outputs, wrt } => {
            let (y, rest) = args.split_at(outputs);
            let (x, tangents) = rest.split_at(wrt);
            y.iter().map(|y| y.times(sum(tangents.iter().copied())).given(x)).collect()
        }
    }
}

/// The degree of an operation that has one result and names no function.
fn of_op(op: &Op, args: &[Degree]) -> Degree {
    match op {
        Op::Map(function) => of_map(*function, args),
        // What a float becomes as an integer goes in steps.
        Op::Cast(dtype) if !dtype.is_float() && args[0] == Linear => Other,
        Op::Cast(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::Reverse(_)
        | Op::Alias
        | Op::Reduce(Reduce { kind: ReduceKind::Sum, .. })
        | Op::Prefix(Prefix { kind: ReduceKind::Sum, .. })
        | Op::Window(Window { kind: ReduceKind::Sum, .. }) => args[0],
        Op::Pad(_) | Op::Concat(_) => sum(args.iter().copied()),
        Op::Gather(_) | Op::DynamicSlice(_) | Op::WindowTake(_) | Op::WindowPut(_) => args[0].given(&args[1..]),
        Op::DynamicUpdate(_) => args[0].plus(args[1]).given(&args[2..]),
        Op::Scatter(Scatter { kind: ScatterKind::Set | ScatterKind::Add, .. }) => args[0].plus(args[2]).given(&args[1..2]),
        Op::Scatter(Scatter { kind: ScatterKind::Mul, .. }) => args[0].times(args[2]).given(&args[1..2]),
        Op::Dot(_) | Op::Conv(_) => args[0].times(args[1]),
        Op::Const(array) if array.bytes().iter().all(|byte| *byte == 0) => Zero,
        Op::Const(_) | Op::Size(_) | Op::Iota(_) | Op::Param(_) => Constant,
        Op::Bitcast(_)
        | Op::Sort(_)
        | Op::ArgReduce(_)
        | Op::WindowArg(_)
        | Op::Philox(_)
        | Op::Reduce(Reduce { kind: ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min, .. })
        | Op::Prefix(Prefix { kind: ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min, .. })
        | Op::Window(Window { kind: ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min, .. })
        | Op::Scatter(Scatter { kind: ScatterKind::Max | ScatterKind::Min, .. })
        // Its derivative is 0, and it is not.
        | Op::StopGradient => Constant.given(args),
        Op::Call(_) | Op::If(_) | Op::While(_) | Op::Scan(_) | Op::Transform(_) => panic!("of_node looks into `{}`", op.name()),
    }
}

fn of_map(function: ScalarFn, args: &[Degree]) -> Degree {
    match function {
        ScalarFn::Neg => args[0],
        ScalarFn::Add | ScalarFn::Sub => args[0].plus(args[1]),
        ScalarFn::Mul => args[0].times(args[1]),
        ScalarFn::Div => args[0].given(&args[1..]),
        ScalarFn::Select => args[1].plus(args[2]).given(&args[..1]),
        ScalarFn::Abs
        | ScalarFn::Sign
        | ScalarFn::Relu
        | ScalarFn::Floor
        | ScalarFn::Ceil
        | ScalarFn::Trunc
        | ScalarFn::Round
        | ScalarFn::Exp
        | ScalarFn::Expm1
        | ScalarFn::Log
        | ScalarFn::Log1p
        | ScalarFn::Sqrt
        | ScalarFn::Rsqrt
        | ScalarFn::Sin
        | ScalarFn::Cos
        | ScalarFn::Tanh
        | ScalarFn::Sigmoid
        | ScalarFn::Erf
        | ScalarFn::Not
        | ScalarFn::IsNan
        | ScalarFn::IsFinite
        | ScalarFn::Rem
        | ScalarFn::Pow
        | ScalarFn::Max
        | ScalarFn::Min
        | ScalarFn::And
        | ScalarFn::Or
        | ScalarFn::Xor
        | ScalarFn::Shl
        | ScalarFn::Shr
        | ScalarFn::Eq
        | ScalarFn::Ne
        | ScalarFn::Lt
        | ScalarFn::Le
        | ScalarFn::Gt
        | ScalarFn::Ge => Constant.given(args),
    }
}
