//! How far rounding may take every element of a graph's results: a running error analysis (Higham, 2002, "Accuracy and Stability of Numerical
//! Algorithms", section 3.3), added to the graph itself in `f64`. Every operation counts as rounded, whether a kernel stores its result or
//! not; so does the reference, in `f64`. Where rounding may decide a choice, what either choice gives counts. Knows the operations of nets;
//! attention is taken as its primitives, which round no less often than its kernel does over one block of columns.

use std::collections::BTreeMap;

use graver_ir::op::{Broadcast, Conv, DotAxes, Reduce, ReduceKind, ScatterKind, Window, WindowAxis, WindowPut};
use graver_ir::{Array, DType, Dim, Function, Graph, Loc, NodeId, Op, Scalar, ScalarFn, Shape, Sink, Value};
use graver_testkit::{eps, sizes};

/// Units in the last place by which `exp`, `log` and the like may be off, as the samples have it.
const FUNCTIONS: f64 = 4.0;

/// Adds, behind the results of a function without calls, a bound of each one's elements: all go to the caller.
///
/// # Errors
/// If there is an operation that the analysis does not know.
pub(crate) fn add_bounds(function: &mut Function) -> Result<(), String> {
    let order = function.graph.topo();
    let mut errors = Errors { graph: &mut function.graph, of: BTreeMap::new(), doubts: BTreeMap::new() };
    order.into_iter().try_for_each(|node| errors.visit(node))?;
    let values: Vec<Value> = function.results.iter().map(|result| result.value).collect();
    let bounds: Vec<Value> = values.iter().map(|value| errors.error(*value)).collect();
    function.results.clear();
    values.into_iter().chain(bounds).for_each(|value| function.add_result(value, Sink::Out));
    Ok(())
}

struct Errors<'a> {
    graph: &'a mut Graph,
    /// Of each value that is not exact.
    of: BTreeMap<Value, Value>,
    /// Where rounding may decide a truth value or a position.
    doubts: BTreeMap<Value, Value>,
}

impl Errors<'_> {
    fn visit(&mut self, node: NodeId) -> Result<(), String> {
        let (op, args) = (self.graph.op(node).clone(), self.graph.args(node).to_vec());
        let (value, exact) = (Value::from(node), args.iter().all(|arg| !self.of.contains_key(arg)));
        let chooses = matches!(op, Op::Map(ScalarFn::Select) | Op::WindowPut(_));
        if !chooses && args.iter().any(|arg| self.doubts.contains_key(arg)) {
            return Err(format!("a choice goes into {}", op.name()));
        }
        let error = match &op {
            Op::Param(_) | Op::Const(_) | Op::Size(_) | Op::Iota(_) => return Ok(()),
            Op::Map(function) if !self.graph.ty(value).dtype.is_float() => return self.compare(*function, value, &args),
            Op::Map(function) => self.map(*function, value, &args)?,
            Op::WindowArg(_) if exact => return Ok(()),
            Op::WindowArg(window) => return self.place(window, value, args[0]),
            Op::Cast(to) if to.is_float() => {
                let carried = self.error(args[0]);
                self.rounded(value, carried, 1.0)
            }
            Op::Cast(_) if exact => return Ok(()),
            // The same elements elsewhere.
            Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(_) | Op::Reverse(_) | Op::Gather(_) if exact => return Ok(()),
            Op::Reshape(_) | Op::Permute(_) | Op::Broadcast(_) | Op::Reverse(_) | Op::Gather(_) => self.of_errors(&op, &args),
            // What is greatest moves no further than its furthest candidate.
            Op::Reduce(Reduce { kind: ReduceKind::Max, .. }) | Op::Window(Window { kind: ReduceKind::Max, .. }) => {
                self.of_errors(&op, &args)
            }
            Op::Reduce(Reduce { kind: ReduceKind::Sum, axes }) => {
                let shape = &self.graph.ty(args[0]).shape;
                let terms = count(axes.iter().map(|axis| &shape[*axis]));
                self.sum(&op, value, &args, terms)
            }
            Op::Scatter(scatter) if scatter.kind == ScatterKind::Add => {
                let terms = count(self.graph.ty(args[2]).shape.iter()) + 1.0;
                self.sum(&op, value, &args, terms)
            }
            Op::WindowPut(put) => self.put(put, value, &args),
            Op::Dot(DotAxes { lhs_contract, .. }) => {
                let shape = &self.graph.ty(args[0]).shape;
                let terms = count(lhs_contract.iter().map(|axis| &shape[*axis]));
                self.sum(&op, value, &args, terms)
            }
            Op::Conv(Conv { kernel, .. }) => {
                let shape = &self.graph.ty(args[1]).shape;
                let terms = count(kernel[1..].iter().map(|axis| &shape[*axis]));
                self.sum(&op, value, &args, terms)
            }
            Op::Cast(_)
            | Op::Bitcast(_)
            | Op::Scatter(_)
            | Op::DynamicSlice(_)
            | Op::DynamicUpdate(_)
            | Op::Sort(_)
            | Op::Slice(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Reduce(_)
            | Op::ArgReduce(_)
            | Op::Prefix(_)
            | Op::Window(_)
            | Op::WindowTake(_)
            | Op::Philox(_)
            | Op::Alias
            | Op::StopGradient
            | Op::Call(_)
            | Op::If(_)
            | Op::While(_)
            | Op::Scan(_)
            | Op::Transform(_) => return Err(format!("the analysis does not know {}", op.name())),
        };
        self.of.insert(value, error);
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "nets have few functions, and others are refused")]
    fn map(&mut self, function: ScalarFn, value: Value, args: &[Value]) -> Result<Value, String> {
        use ScalarFn::{Add, Div, Exp, Expm1, Log, Log1p, Min, Mul, Neg, Relu, Rsqrt, Select, Sub};
        let errors: Vec<Value> = args.iter().map(|arg| self.error(*arg)).collect();
        // Of a condition neither is looked at.
        let sizes: Vec<Value> = args.iter().map(|arg| self.magnitude(*arg)).collect();
        let (carried, ulps) = match function {
            Neg => return Ok(errors[0]),
            Add | Sub => (self.apply(Add, &errors), 1.0),
            // (|x| + e)(|y| + f) - |x||y|, and (|x| + e) / (|y| - f) - |x| / |y|.
            Mul | Div => {
                let x = self.apply(Add, &[sizes[0], errors[0]]);
                let y = self.apply(if function == Mul { Add } else { Sub }, &[sizes[1], errors[1]]);
                let (far, near) = (self.apply(function, &[x, y]), self.apply(function, &sizes));
                (self.apply(Sub, &[far, near]), 1.0)
            }
            // What is negative by more than its error is 0.
            Relu => {
                let x = self.widened(args[0]);
                let far = self.apply(Add, &[x, errors[0]]);
                let far = self.apply(Relu, &[far]);
                return Ok(self.apply(Min, &[errors[0], far]));
            }
            Exp => {
                let (x, grown) = (self.magnitude(value), self.apply(Expm1, &errors));
                (self.apply(Mul, &[x, grown]), FUNCTIONS)
            }
            // -log(1 - e/x).
            Log => {
                let share = self.apply(Div, &[errors[0], sizes[0]]);
                let share = self.apply(Neg, &[share]);
                let log = self.apply(Log1p, &[share]);
                (self.apply(Neg, &[log]), FUNCTIONS)
            }
            Rsqrt => {
                let near = self.apply(Sub, &[sizes[0], errors[0]]);
                let (far, near) = (self.apply(Rsqrt, &[near]), self.apply(Rsqrt, &[sizes[0]]));
                (self.apply(Sub, &[far, near]), FUNCTIONS)
            }
            Select => return Ok(self.select(args, &errors)),
            _ => return Err(format!("the analysis does not know {function}")),
        };
        Ok(self.rounded(value, carried, ulps))
    }

    /// The chosen one's error; where the choice is in doubt, how far both are apart besides.
    fn select(&mut self, args: &[Value], errors: &[Value]) -> Value {
        let chosen = self.apply(ScalarFn::Select, &[args[0], errors[1], errors[2]]);
        let Some(doubt) = self.doubts.get(&args[0]).copied() else { return chosen };
        let (x, y) = (self.widened(args[1]), self.widened(args[2]));
        let apart = self.apply(ScalarFn::Sub, &[x, y]);
        let apart = self.apply(ScalarFn::Abs, &[apart]);
        let larger = self.apply(ScalarFn::Max, &[errors[1], errors[2]]);
        let either = self.apply(ScalarFn::Add, &[apart, larger]);
        self.apply(ScalarFn::Select, &[doubt, either, chosen])
    }

    /// A comparison is in doubt where both are as close as their errors, which are not 0.
    fn compare(&mut self, function: ScalarFn, value: Value, args: &[Value]) -> Result<(), String> {
        if args.iter().all(|arg| !self.of.contains_key(arg)) {
            return Ok(());
        }
        if !matches!(function, ScalarFn::Gt | ScalarFn::Ge | ScalarFn::Lt | ScalarFn::Le) {
            return Err(format!("the analysis does not know {function}"));
        }
        let (errors, wide) = ([self.error(args[0]), self.error(args[1])], [self.widened(args[0]), self.widened(args[1])]);
        let error = self.apply(ScalarFn::Add, &errors);
        let apart = self.apply(ScalarFn::Sub, &wide);
        let apart = self.apply(ScalarFn::Abs, &[apart]);
        let zero = self.number(0.0, error);
        let (close, some) = (self.apply(ScalarFn::Le, &[apart, error]), self.apply(ScalarFn::Gt, &[error, zero]));
        let doubt = self.apply(ScalarFn::And, &[close, some]);
        self.doubts.insert(value, doubt);
        Ok(())
    }

    /// A window's greatest element is in doubt where more than one may be it.
    fn place(&mut self, window: &Window, value: Value, x: Value) -> Result<(), String> {
        if window.kind != ReduceKind::Max {
            return Err("the analysis knows greatest elements only".to_owned());
        }
        let (error, wide) = (self.error(x), self.widened(x));
        let [low, high] = [ScalarFn::Sub, ScalarFn::Add].map(|function| self.apply(function, &[wide, error]));
        let least = self.same(&Op::Window(window.clone()), &[low]);
        let mut candidates = self.number(0.0, least);
        for place in self.places(&window.axes, value) {
            let highest = self.same(&Op::WindowTake(window.axes.clone()), &[high, place]);
            let candidate = self.apply(ScalarFn::Ge, &[highest, least]);
            let candidate = self.same(&Op::Cast(DType::F64), &[candidate]);
            candidates = self.apply(ScalarFn::Add, &[candidates, candidate]);
        }
        let one = self.number(1.0, candidates);
        let doubt = self.apply(ScalarFn::Gt, &[candidates, one]);
        self.doubts.insert(value, doubt);
        Ok(())
    }

    /// What is put where the place is in doubt may be missing there, or be at any place of its window.
    fn put(&mut self, put: &WindowPut, value: Value, args: &[Value]) -> Value {
        let (op, error, size) = (Op::WindowPut(put.clone()), self.error(args[0]), self.magnitude(args[0]));
        let grown = self.apply(ScalarFn::Add, &[size, error]);
        let mut carried = self.same(&op, &[error, args[1]]);
        if let Some(doubt) = self.doubts.get(&args[1]).copied() {
            let zero = self.number(0.0, grown);
            let moved = self.apply(ScalarFn::Select, &[doubt, grown, zero]);
            for place in self.places(&put.axes, args[1]) {
                let moved = self.same(&op, &[moved, place]);
                carried = self.apply(ScalarFn::Add, &[carried, moved]);
            }
        }
        self.rounded(value, carried, window_size(&put.axes))
    }

    /// Every place of a window, as an array like `like`.
    fn places(&mut self, axes: &[WindowAxis], like: Value) -> Vec<Value> {
        let count: i64 = axes.iter().map(|axis| axis.size).product();
        (0..count).map(|place| self.filled(Scalar::int(DType::I32, place), like)).collect()
    }

    /// A sum of products, or of its first operand's elements: each term's error, and those of adding so many.
    fn sum(&mut self, op: &Op, value: Value, args: &[Value], terms: f64) -> Value {
        let [grown, sizes] = [true, false].map(|grows| {
            args.iter()
                .map(|arg| if self.graph.ty(*arg).dtype.is_float() { self.most(*arg, grows) } else { *arg })
                .collect::<Vec<_>>()
        });
        let (far, near) = (self.same(op, &grown), self.same(op, &sizes));
        let carried = self.apply(ScalarFn::Sub, &[far, near]);
        let compute = self.graph.ty(value).dtype.compute();
        let unit = self.number((terms + 1.0) * (eps(compute) + eps(DType::F64)), far);
        let added = self.apply(ScalarFn::Mul, &[unit, far]);
        let carried = self.apply(ScalarFn::Add, &[carried, added]);
        self.rounded(value, carried, 1.0)
    }

    /// `carried`, and so many units in the last place of what there may be.
    fn rounded(&mut self, value: Value, carried: Value, ulps: f64) -> Value {
        let size = self.magnitude(value);
        let most = self.apply(ScalarFn::Add, &[size, carried]);
        let unit = self.number(ulps * (eps(self.graph.ty(value).dtype) + eps(DType::F64)), most);
        let own = self.apply(ScalarFn::Mul, &[unit, most]);
        self.apply(ScalarFn::Add, &[carried, own])
    }

    fn error(&mut self, value: Value) -> Value {
        self.of.get(&value).copied().unwrap_or_else(|| self.number(0.0, value))
    }

    fn magnitude(&mut self, value: Value) -> Value {
        let wide = self.widened(value);
        self.apply(ScalarFn::Abs, &[wide])
    }

    /// A magnitude, and its error if that is asked for.
    fn most(&mut self, value: Value, with_error: bool) -> Value {
        let (size, error) = (self.magnitude(value), self.error(value));
        if with_error { self.apply(ScalarFn::Add, &[size, error]) } else { size }
    }

    fn widened(&mut self, value: Value) -> Value {
        self.same(&Op::Cast(DType::F64), &[value])
    }

    fn apply(&mut self, function: ScalarFn, args: &[Value]) -> Value {
        self.same(&Op::Map(function), args)
    }

    /// A number in the shape of `like`.
    fn number(&mut self, number: f64, like: Value) -> Value {
        self.filled(Scalar::float(DType::F64, number), like)
    }

    fn filled(&mut self, element: Scalar, like: Value) -> Value {
        let shape: Shape = self.graph.ty(like).shape.clone();
        let constant = self.same(&Op::Const(Array::full([], element)), &[]);
        self.same(&Op::Broadcast(Broadcast { shape, axes: vec![] }), &[constant])
    }

    /// The operation of its float operands' errors.
    fn of_errors(&mut self, op: &Op, args: &[Value]) -> Value {
        let error = |arg: &Value| if self.graph.ty(*arg).dtype.is_float() { self.error(*arg) } else { *arg };
        let errors: Vec<Value> = args.iter().map(error).collect();
        self.same(op, &errors)
    }

    /// An operation of one result.
    fn same(&mut self, op: &Op, args: &[Value]) -> Value {
        self.graph.add(op.clone(), args, Loc::UNKNOWN).expect("a bound has the type of its value, in f64").into()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a window is small")]
fn window_size(axes: &[WindowAxis]) -> f64 {
    axes.iter().map(|axis| axis.size as f64).product()
}

/// How many terms there are along dims, at the sizes that nets are run at.
fn count<'a>(dims: impl Iterator<Item = &'a Dim>) -> f64 {
    let sizes = sizes();
    #[expect(clippy::cast_precision_loss, reason = "a net is small")]
    dims.map(|dim| dim.eval(&sizes).expect("a dim over the symbols of nets") as f64).product()
}
