//! What translations are made of: operations added to the function under construction, with the broadcasting and the conveniences
//! that ONNX has and the graph has not. Every result's [`Known`] elements are kept beside it.

use std::collections::BTreeMap;

use graver_ir::op::{
    Broadcast, Call, Composite, DotAxes, GatherAxes, Iota, PadAxis, Perm, Reduce, ReduceKind, Scan, SliceAxis, slice_of, stack_of,
};
use graver_ir::{
    Array, DType, Diag, Dim, FuncId, Function, Loc, Module, NodeId, Op, Role, Scalar, ScalarFn, Shape, Sink, Symbol, Type, Value,
};

use crate::known::{self, Budget, Known};
use crate::problem::{Problem, Result, wrong};

/// Known results of up to this many elements stand in the program as constants.
const FEW: usize = 16;
/// The most operations of a program.
const MAX_OPS: usize = 1 << 20;

/// A function under construction.
pub(crate) struct Builder {
    pub(crate) module: Module,
    pub(crate) function: Function,
    pub(crate) loc: Loc,
    known: BTreeMap<Value, Known>,
    budget: Budget,
    composites: BTreeMap<String, FuncId>,
    ops: usize,
}

/// A function that waits while another one is under construction.
pub(crate) struct Outer {
    id: FuncId,
    function: Function,
    known: BTreeMap<Value, Known>,
    loc: Loc,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let mut module = Module::default();
        // The entry's place; its body comes when it is finished.
        module.add(Function::new("main"));
        Self {
            module,
            function: Function::new("main"),
            loc: Loc::UNKNOWN,
            known: BTreeMap::new(),
            budget: Budget::default(),
            composites: BTreeMap::new(),
            ops: 0,
        }
    }

    // ---- types

    pub(crate) fn ty(&self, x: Value) -> &Type {
        self.function.graph.ty(x)
    }

    pub(crate) fn shape(&self, x: Value) -> Shape {
        self.ty(x).shape.clone()
    }

    pub(crate) fn dtype(&self, x: Value) -> DType {
        self.ty(x).dtype
    }

    pub(crate) fn rank(&self, x: Value) -> usize {
        self.ty(x).rank()
    }

    // ---- what is known

    pub(crate) fn known(&self, x: Value) -> Option<&Known> {
        self.known.get(&x)
    }

    /// The elements of an integer value as sizes.
    pub(crate) fn dims(&self, x: Value, what: &str) -> Result<Vec<Dim>> {
        let dims = self.known(x).and_then(Known::dims);
        dims.ok_or_else(|| Problem::Unknown(x, Diag::new(format!("{what} must be known before the program runs"))))
    }

    /// The elements of a value as numbers.
    pub(crate) fn array(&self, x: Value, what: &str) -> Result<Array> {
        let array = self.known(x).and_then(Known::array).cloned();
        array.ok_or_else(|| Problem::Unknown(x, Diag::new(format!("{what} must be known before the program runs"))))
    }

    // ---- operations

    pub(crate) fn param(&mut self, ty: Type, name: &str) -> Result<Value> {
        if !ty.shape.is_valid() {
            return wrong(format!("the input `{name}`: {ty} has a negative size or more than 2^48 elements"));
        }
        Ok(self.function.add_param(ty, Role::Arg(name.to_owned()), self.loc.clone()).into())
    }

    fn node(&mut self, op: Op, args: &[Value]) -> Result<NodeId> {
        self.ops += 1;
        if self.ops > MAX_OPS {
            return wrong(format!("more than {MAX_OPS} operations"));
        }
        Ok(self.function.graph.add(op, args, self.loc.clone())?)
    }

    /// An operation with any number of results, of which nothing is known.
    pub(crate) fn emit_all(&mut self, op: Op, args: &[Value]) -> Result<Vec<Value>> {
        let node = self.node(op, args)?;
        let outs = u16::try_from(self.function.graph.node(node).outs.len()).unwrap_or(u16::MAX);
        Ok((0..outs).map(|out| node.out(out)).collect())
    }

    pub(crate) fn emit(&mut self, op: Op, args: &[Value]) -> Result<Value> {
        let node = self.node(op, args)?;
        let value = Value::from(node);
        let graph = &self.function.graph;
        let operands: Option<Vec<known::Operand<'_>>> =
            args.iter().map(|arg| Some((graph.ty(*arg), self.known.get(arg)?))).collect();
        let Some(operands) = operands else { return Ok(value) };
        let body = graph.node(node);
        let Some(known) = known::evaluate(&body.op, &body.outs[0], &operands, &mut self.budget) else { return Ok(value) };
        let value = self.plain(node, &known)?;
        self.known.insert(value, known);
        Ok(value)
    }

    /// The node, or a constant or size that says the same.
    fn plain(&mut self, node: NodeId, known: &Known) -> Result<Value> {
        let body = self.function.graph.node(node);
        let op = match known {
            Known::Array(array) if array.numel() <= FEW => Op::Const(array.clone()),
            Known::Dims(dims) if dims.len() == 1 && body.outs[0] == Type::scalar(DType::I64) => Op::Size(dims[0].clone()),
            Known::Array(_) | Known::Dims(_) => return Ok(node.into()),
        };
        if matches!(body.op, Op::Const(_) | Op::Size(_)) {
            return Ok(node.into());
        }
        Ok(self.function.graph.add(op, &[], self.loc.clone())?.into())
    }

    /// A function of the module with a tag, called; its body is built once for each name and operands' types.
    pub(crate) fn composite(
        &mut self,
        tag: Composite,
        attributes: &str,
        args: &[Value],
        body: impl FnOnce(&mut Self, &[Value]) -> Result<Value>,
    ) -> Result<Value> {
        let types: Vec<Type> = args.iter().map(|arg| self.ty(*arg).clone()).collect();
        let key = format!("{}{attributes}{}", tag.name(), types.iter().map(Type::to_string).collect::<String>());
        let func = match self.composites.get(&key) {
            Some(func) => *func,
            None => {
                let func = self.body(tag.name(), &types, |builder, args| body(builder, args).map(|result| vec![result]))?;
                self.composites.insert(key, func);
                func
            }
        };
        let results = self.module.function(func).result_types();
        self.emit(Op::Call(Call { func, tag: Some(tag), vjp: None, results }), args)
    }

    /// A function of the module, built from its parameters' types.
    pub(crate) fn body(
        &mut self,
        name: &str,
        types: &[Type],
        body: impl FnOnce(&mut Self, &[Value]) -> Result<Vec<Value>>,
    ) -> Result<FuncId> {
        let outer = self.begin(name);
        self.loc = Loc::UNKNOWN;
        let params: Result<Vec<Value>> =
            types.iter().enumerate().map(|(i, ty)| self.param(ty.clone(), &format!("x{i}"))).collect();
        match params.and_then(|params| body(self, &params)) {
            Ok(results) => Ok(self.end(outer, &results)),
            Err(problem) => {
                self.abandon(outer);
                // Values of a body that is gone cannot be asked for.
                Err(if let Problem::Unknown(_, diag) = problem { Problem::Unsupported(diag) } else { problem })
            }
        }
    }

    /// Begins another function; what was under construction waits.
    pub(crate) fn begin(&mut self, name: &str) -> Outer {
        let id = self.module.add(Function::new(""));
        Outer {
            id,
            function: std::mem::replace(&mut self.function, Function::new(format!("{name}.{}", id.0))),
            known: std::mem::take(&mut self.known),
            loc: self.loc.clone(),
        }
    }

    /// Ends the function that was begun, with its results.
    pub(crate) fn end(&mut self, outer: Outer, results: &[Value]) -> FuncId {
        for result in results {
            self.function.add_result(*result, Sink::Out);
        }
        *self.module.function_mut(outer.id) = std::mem::replace(&mut self.function, outer.function);
        (self.known, self.loc) = (outer.known, outer.loc);
        outer.id
    }

    /// Forgets the function that was begun.
    pub(crate) fn abandon(&mut self, outer: Outer) {
        self.module.functions.remove(&outer.id);
        (self.function, self.known, self.loc) = (outer.function, outer.known, outer.loc);
    }

    /// Says what is known of a value, which a surrounding function knows.
    pub(crate) fn know(&mut self, x: Value, known: Known) {
        self.known.insert(x, known);
    }

    /// A loop of `trip` steps over slices of `scanned` along their first axes: the last of what is carried, and the steps' outputs
    /// stacked.
    pub(crate) fn scan(
        &mut self,
        trip: &Dim,
        carried: &[Value],
        scanned: &[Value],
        shared: &[Value],
        body: impl Fn(&mut Self, &[Value], &[Value], &[Value]) -> Result<(Vec<Value>, Value)>,
    ) -> Result<(Vec<Value>, Value)> {
        let types = |builder: &Self, values: &[Value]| values.iter().map(|x| builder.ty(*x).clone()).collect::<Vec<Type>>();
        let (own, closed) = (types(self, carried), types(self, shared));
        let slices: Vec<Type> = types(self, scanned).iter().map(slice_of).collect();
        let (first, second) = (own.len(), own.len() + slices.len());
        let func = self.body("step", &[own.clone(), slices, closed].concat(), |builder, params| {
            let (mut next, output) = body(builder, &params[..first], &params[first..second], &params[second..])?;
            next.push(output);
            Ok(next)
        })?;
        let output = self.module.function(func).result_types().pop();
        let stacked: Vec<Type> = output.iter().map(|ty| stack_of(trip, ty)).collect();
        let op = Scan {
            body: func,
            trip: trip.clone(),
            carried: own.len(),
            scanned: scanned.len(),
            reverse: false,
            at_once: false,
            results: [own, stacked].concat(),
        };
        let mut results = self.emit_all(Op::Scan(op), &[carried, scanned, shared].concat())?;
        match results.pop() {
            Some(output) => Ok((results, output)),
            None => wrong("a loop without results"),
        }
    }

    // ---- constants

    pub(crate) fn constant(&mut self, array: Array) -> Result<Value> {
        self.emit(Op::Const(array), &[])
    }

    /// A scalar constant.
    pub(crate) fn number(&mut self, dtype: DType, value: f64) -> Result<Value> {
        self.constant(Array::full([], Scalar::float(dtype, value)))
    }

    /// Integers as a vector.
    pub(crate) fn integers(&mut self, values: &[i64]) -> Result<Value> {
        self.constant(Array::from_vec([values.len()], values.to_vec())?)
    }

    /// A size as a scalar of an element type.
    pub(crate) fn size(&mut self, dim: &Dim, dtype: DType) -> Result<Value> {
        let size = self.emit(Op::Size(dim.clone()), &[])?;
        self.cast(size, dtype)
    }

    /// Sizes as a vector of `i64`.
    pub(crate) fn sizes(&mut self, dims: &[Dim]) -> Result<Value> {
        let numbers: Option<Vec<i64>> = dims.iter().map(Dim::as_const).collect();
        if let Some(numbers) = numbers {
            return self.integers(&numbers);
        }
        let mut parts = Vec::new();
        for dim in dims {
            let size = self.emit(Op::Size(dim.clone()), &[])?;
            parts.push(self.reshape(size, [Dim::ONE])?);
        }
        self.concat(0, &parts)
    }

    // ---- map

    pub(crate) fn cast(&mut self, x: Value, dtype: DType) -> Result<Value> {
        if self.dtype(x) == dtype { Ok(x) } else { self.emit(Op::Cast(dtype), &[x]) }
    }

    /// A scalar function of operands that are broadcast together.
    pub(crate) fn map(&mut self, function: ScalarFn, args: &[Value]) -> Result<Value> {
        let args = self.together(args)?;
        self.emit(Op::Map(function), &args)
    }

    /// `f(x, number)`
    pub(crate) fn with(&mut self, function: ScalarFn, x: Value, value: f64) -> Result<Value> {
        let value = self.number(self.dtype(x), value)?;
        self.map(function, &[x, value])
    }

    /// `f(number, x)`
    pub(crate) fn from(&mut self, function: ScalarFn, value: f64, x: Value) -> Result<Value> {
        let value = self.number(self.dtype(x), value)?;
        self.map(function, &[value, x])
    }

    pub(crate) fn add(&mut self, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Add, &[x, y])
    }

    pub(crate) fn sub(&mut self, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Sub, &[x, y])
    }

    pub(crate) fn mul(&mut self, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Mul, &[x, y])
    }

    pub(crate) fn div(&mut self, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Div, &[x, y])
    }

    pub(crate) fn select(&mut self, condition: Value, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Select, &[condition, x, y])
    }

    // ---- broadcasting

    /// All operands in one shape, by NumPy's rule: axes are aligned at the end, a size of one stretches. A symbol never does.
    pub(crate) fn together(&mut self, args: &[Value]) -> Result<Vec<Value>> {
        let shapes: Vec<Shape> = args.iter().map(|arg| self.shape(*arg)).collect();
        let shape = common(&shapes)?;
        args.iter().map(|arg| self.stretch(*arg, &shape)).collect()
    }

    /// The value repeated to a shape.
    pub(crate) fn stretch(&mut self, x: Value, shape: &Shape) -> Result<Value> {
        let from = self.shape(x);
        if from == *shape {
            return Ok(x);
        }
        let Some(lead) = shape.rank().checked_sub(from.rank()) else {
            return wrong(format!("{} does not broadcast to {shape}", self.ty(x)));
        };
        let repeats = |axis: &usize| from[*axis].is(1) && !shape[lead + axis].is(1);
        let (gone, kept): (Vec<usize>, Vec<usize>) = (0..from.rank()).partition(repeats);
        if kept.iter().any(|axis| from[*axis] != shape[lead + axis]) {
            return wrong(format!("{} does not broadcast to {shape}", self.ty(x)));
        }
        let x = self.reshape(x, from.without(&gone).0)?;
        let axes = kept.iter().map(|axis| lead + axis).collect();
        self.emit(Op::Broadcast(Broadcast { shape: shape.clone(), axes }), &[x])
    }

    /// Goes on only if a size is proved to be at most another; begins again with a lesser bound of its symbol otherwise.
    pub(crate) fn assume_at_most(&self, size: &Dim, most: &Dim) -> Result<()> {
        let symbols = size.symbols();
        if let ([symbol], Some(most)) = (symbols.as_slice(), most.as_const())
            && let Some(rest) = (size - Dim::sym(symbol)).as_const()
        {
            let decl = symbol.decl();
            let bounded = Symbol::ranged(symbol.name(), decl.lo, most.saturating_sub(rest), decl.multiple);
            if bounded != *symbol {
                return Err(Problem::Assume(symbol.clone(), Dim::sym(&bounded)));
            }
        }
        Ok(())
    }

    /// A scalar repeated to a shape.
    pub(crate) fn fill(&mut self, scalar: Value, shape: &Shape) -> Result<Value> {
        self.stretch(scalar, shape)
    }

    // ---- movement

    pub(crate) fn reshape(&mut self, x: Value, shape: impl Into<Vec<Dim>>) -> Result<Value> {
        let shape = Shape(shape.into());
        if self.ty(x).shape == shape { Ok(x) } else { self.emit(Op::Reshape(shape), &[x]) }
    }

    pub(crate) fn permute(&mut self, x: Value, axes: Vec<usize>) -> Result<Value> {
        let perm = Perm::new(axes).map_err(Diag::new)?;
        if perm.is_identity() && perm.axes().len() == self.rank(x) { Ok(x) } else { self.emit(Op::Permute(perm), &[x]) }
    }

    /// Two axes exchanged.
    pub(crate) fn swap(&mut self, x: Value, one: usize, other: usize) -> Result<Value> {
        let mut axes: Vec<usize> = (0..self.rank(x)).collect();
        axes.swap(one, other);
        self.permute(x, axes)
    }

    /// Axes of size one put in, so that the result has them at these places.
    pub(crate) fn unsqueeze(&mut self, x: Value, axes: &[usize]) -> Result<Value> {
        let mut shape = self.shape(x).0;
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        for axis in axes {
            if axis > shape.len() {
                return wrong(format!("axis {axis} of a result of rank {}", shape.len()));
            }
            shape.insert(axis, Dim::ONE);
        }
        self.reshape(x, shape)
    }

    /// A part of one axis.
    pub(crate) fn part(&mut self, x: Value, axis: usize, start: &Dim, size: &Dim) -> Result<Value> {
        let axes = self.whole(x);
        self.slice(x, axis, axes, SliceAxis { start: start.clone(), size: size.clone(), step: 1 })
    }

    fn slice(&mut self, x: Value, axis: usize, mut axes: Vec<SliceAxis>, range: SliceAxis) -> Result<Value> {
        if axes[axis] == range {
            return Ok(x);
        }
        axes[axis] = range;
        self.emit(Op::Slice(axes), &[x])
    }

    /// The slice that takes everything.
    pub(crate) fn whole(&self, x: Value) -> Vec<SliceAxis> {
        self.ty(x).shape.iter().map(|size| SliceAxis { start: Dim::ZERO, size: size.clone(), step: 1 }).collect()
    }

    pub(crate) fn concat(&mut self, axis: usize, parts: &[Value]) -> Result<Value> {
        if let [one] = parts { Ok(*one) } else { self.emit(Op::Concat(axis), parts) }
    }

    /// Constant padding of one axis.
    pub(crate) fn pad(&mut self, x: Value, axis: usize, low: &Dim, high: &Dim, value: Value) -> Result<Value> {
        if low.is(0) && high.is(0) {
            return Ok(x);
        }
        let none = PadAxis { low: Dim::ZERO, high: Dim::ZERO, interior: 0 };
        let mut axes = vec![none; self.rank(x)];
        axes[axis] = PadAxis { low: low.clone(), high: high.clone(), interior: 0 };
        self.emit(Op::Pad(axes), &[x, value])
    }

    // ---- index

    /// Positions along one axis.
    pub(crate) fn iota(&mut self, dtype: DType, shape: &Shape, axis: usize) -> Result<Value> {
        self.emit(Op::Iota(Iota { dtype, shape: shape.clone(), axis }), &[])
    }

    /// `0..size` as a vector.
    pub(crate) fn count(&mut self, dtype: DType, size: &Dim) -> Result<Value> {
        self.iota(dtype, &Shape(vec![size.clone()]), 0)
    }

    /// Elements at positions, which count from the end where they are negative.
    pub(crate) fn gather(&mut self, x: Value, index: Value, axis: usize, batch: usize) -> Result<Value> {
        let size = self.shape(x)[axis].clone();
        let index = self.positions(index, &size)?;
        self.emit(Op::Gather(GatherAxes { axis, batch }), &[x, index])
    }

    /// Positions that may count from the end, as positions.
    pub(crate) fn positions(&mut self, index: Value, size: &Dim) -> Result<Value> {
        if let Some(known) = self.known(index).and_then(Known::dims)
            && known.iter().all(Dim::is_nonneg)
        {
            return Ok(index);
        }
        let index = self.cast(index, DType::I64)?;
        let size = self.size(size, DType::I64)?;
        let negative = self.with(ScalarFn::Lt, index, 0.0)?;
        let wrapped = self.add(index, size)?;
        self.select(negative, wrapped, index)
    }

    // ---- reduce

    /// A reduction whose axes stay with size one, or vanish.
    pub(crate) fn reduce(&mut self, kind: ReduceKind, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        let mut shape = self.shape(x).0;
        let reduced = self.emit(Op::Reduce(Reduce { kind, axes: axes.clone() }), &[x])?;
        if !keep {
            return Ok(reduced);
        }
        for axis in axes {
            shape[axis] = Dim::ONE;
        }
        self.reshape(reduced, shape)
    }

    pub(crate) fn mean(&mut self, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        let count: Dim = axes.iter().map(|axis| self.ty(x).shape[*axis].clone()).product();
        let sum = self.reduce(ReduceKind::Sum, x, axes, keep)?;
        let count = self.size(&count, self.dtype(x))?;
        self.div(sum, count)
    }

    // ---- contract

    pub(crate) fn dot(&mut self, x: Value, y: Value, axes: DotAxes) -> Result<Value> {
        self.emit(Op::Dot(axes), &[x, y])
    }

    /// NumPy's `matmul`: the last two axes are contracted, those before are broadcast; vectors are rows or columns.
    pub(crate) fn matmul(&mut self, x: Value, y: Value) -> Result<Value> {
        let (left, right) = (self.rank(x), self.rank(y));
        if left == 0 || right == 0 {
            return wrong(format!("multiplies matrices, got {} and {}", self.ty(x), self.ty(y)));
        }
        let x2 = if left == 1 { self.unsqueeze(x, &[0])? } else { x };
        let y2 = if right == 1 { self.unsqueeze(y, &[1])? } else { y };
        let z = self.matrices(x2, y2)?;
        let rank = self.rank(z);
        let gone: Vec<usize> = (left == 1).then(|| rank - 2).into_iter().chain((right == 1).then(|| rank - 1)).collect();
        let shape = self.shape(z).without(&gone);
        self.reshape(z, shape.0)
    }

    fn matrices(&mut self, x: Value, y: Value) -> Result<Value> {
        let (xs, ys) = (self.shape(x), self.shape(y));
        let (xn, yn) = (xs.rank() - 2, ys.rank() - 2);
        if yn == 0 {
            let axes = DotAxes { lhs_contract: vec![xn + 1], rhs_contract: vec![0], ..DotAxes::default() };
            return self.dot(x, y, axes);
        }
        let batch = common(&[Shape(xs[..xn].to_vec()), Shape(ys[..yn].to_vec())])?;
        let with = |matrix: &[Dim]| Shape(batch.iter().chain(matrix).cloned().collect());
        let (x, y) = (self.stretch(x, &with(&xs[xn..]))?, self.stretch(y, &with(&ys[yn..]))?);
        let lead: Vec<usize> = (0..batch.rank()).collect();
        let n = lead.len();
        self.dot(x, y, DotAxes { lhs_batch: lead.clone(), rhs_batch: lead, lhs_contract: vec![n + 1], rhs_contract: vec![n] })
    }
}

/// The shape that all of these broadcast to.
pub(crate) fn common(shapes: &[Shape]) -> Result<Shape> {
    let rank = shapes.iter().map(|shape| shape.rank()).max().unwrap_or(0);
    let mut dims = vec![Dim::ONE; rank];
    for shape in shapes {
        for (place, size) in dims[rank - shape.rank()..].iter_mut().zip(shape.iter()) {
            if place.is(1) {
                *place = size.clone();
            } else if *place != *size && !size.is(1) {
                if let Some((symbol, dim)) = unified(place, size) {
                    return Err(Problem::Assume(symbol, dim));
                }
                let all: Vec<String> = shapes.iter().map(Shape::to_string).collect();
                return wrong(format!("the shapes {} do not broadcast together: {place} is not {size}", all.join(", ")));
            }
        }
    }
    Ok(Shape(dims))
}

/// The symbol and the size that it must be, for two sizes to be equal.
fn unified(x: &Dim, y: &Dim) -> Option<(Symbol, Dim)> {
    let one = |symbol: &Dim, other: &Dim| {
        let symbol = plain_symbol(symbol)?;
        (!other.symbols().contains(&symbol) && other.is_nonneg()).then(|| (symbol, other.clone()))
    };
    one(y, x).or_else(|| one(x, y))
}

/// The symbol that a size is.
fn plain_symbol(dim: &Dim) -> Option<Symbol> {
    let symbols = dim.symbols();
    let [symbol] = symbols.as_slice() else { return None };
    (*dim == Dim::sym(symbol)).then(|| symbol.clone())
}
