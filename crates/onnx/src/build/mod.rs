//! What translations are made of: operations added to the function under construction, with the broadcasting and the conveniences
//! that ONNX has and the graph has not. Every result's [`Known`] elements are kept beside it.

mod compute;
mod movement;
mod shape;

use std::collections::BTreeMap;

use graver_ir::op::{Call, Composite, Scan, slice_of, stack_of};
use graver_ir::{Array, DType, Diag, Dim, FuncId, Function, Loc, Module, NodeId, Op, Role, Scalar, Shape, Sink, Type, Value};

use crate::format::{Element, Format};
use crate::known::{self, Budget, Known, Quotient};
use crate::problem::{Problem, Result, wrong};

pub(crate) use shape::{agree, common, same, unified};

/// Known results of up to this many elements stand in the program as constants.
const FEW: usize = 16;
/// The most operations of a program.
const MAX_OPS: usize = 1 << 20;
/// Elements of a result at most. Where nothing keeps it, what is large beyond all memory would still be computed, element by element.
const MAX_ELEMENTS: i64 = 1 << 40;

/// A function under construction.
pub(crate) struct Builder {
    pub(crate) module: Module,
    pub(crate) function: Function,
    pub(crate) loc: Loc,
    known: BTreeMap<Value, Known>,
    /// What the elements of values that hold codes mean.
    formats: BTreeMap<Value, Format>,
    budget: Budget,
    composites: BTreeMap<String, FuncId>,
    ops: usize,
}

/// A function that waits while another one is under construction.
pub(crate) struct Outer {
    id: FuncId,
    function: Function,
    known: BTreeMap<Value, Known>,
    formats: BTreeMap<Value, Format>,
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
            formats: BTreeMap::new(),
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

    /// The size of an axis, which an operand of another rank than the operation's has not.
    pub(crate) fn along(&self, x: Value, axis: usize) -> Result<Dim> {
        match self.ty(x).shape.get(axis) {
            Some(size) => Ok(size.clone()),
            None => wrong(format!("{} has no axis {axis}", self.ty(x))),
        }
    }

    /// An operand of the rank that the operation is for.
    pub(crate) fn of_rank(&self, x: Value, rank: usize, what: &str) -> Result<()> {
        if self.rank(x) == rank { Ok(()) } else { wrong(format!("{what} has {rank} axes, got {}", self.ty(x))) }
    }

    /// What the elements mean, if they are codes.
    pub(crate) fn format(&self, x: Value) -> Option<Format> {
        self.formats.get(&x).copied()
    }

    pub(crate) fn element(&self, x: Value) -> Element {
        self.format(x).map_or_else(|| Element::Plain(self.dtype(x)), Element::Coded)
    }

    /// Says that a value's elements are codes.
    pub(crate) fn mark(&mut self, x: Value, format: Format) {
        self.formats.insert(x, format);
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

    /// The elements of a value as quotients of sizes.
    pub(crate) fn quotients(&self, x: Value, what: &str) -> Result<Vec<Quotient>> {
        let quotients = self.known(x).and_then(Known::quotients);
        quotients.ok_or_else(|| Problem::Unknown(x, Diag::new(format!("{what} must be known before the program runs"))))
    }

    /// The elements of a value as numbers.
    pub(crate) fn array(&self, x: Value, what: &str) -> Result<Array> {
        let array = self.known(x).and_then(Known::array).cloned();
        array.ok_or_else(|| Problem::Unknown(x, Diag::new(format!("{what} must be known before the program runs"))))
    }

    // ---- operations

    pub(crate) fn param(&mut self, ty: Type, name: &str) -> Result<Value> {
        if !ty.shape.is_valid() {
            return wrong(format!("{ty} has a negative size or more than 2^48 elements"));
        }
        Ok(self.function.add_param(ty, Role::Arg(name.to_owned()), self.loc.clone()).into())
    }

    fn node(&mut self, op: Op, args: &[Value]) -> Result<NodeId> {
        self.ops += 1;
        if self.ops > MAX_OPS {
            return wrong(format!("more than {MAX_OPS} operations"));
        }
        let visited = visited(&op);
        let node = self.function.graph.add(op, args, self.loc.clone())?;
        let count = |ty: &Type| ty.shape.iter().filter_map(Dim::as_const).fold(visited, i64::saturating_mul);
        let is_large = |ty: &Type| count(ty) > MAX_ELEMENTS;
        match self.function.graph.node(node).outs.iter().find(|ty| is_large(ty)) {
            None => Ok(node),
            Some(ty) if visited > 1 => wrong(format!(
                "the windows of {visited} elements of a result {ty} have more than 2^40: to compute it takes hours"
            )),
            Some(ty) => wrong(format!(
                "a result {ty} has more than 2^40 elements: no machine has the memory, and to compute it takes hours"
            )),
        }
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
        let operands: Vec<(&Type, Option<&Known>)> = args.iter().map(|arg| (graph.ty(*arg), self.known.get(arg))).collect();
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
            Known::Array(_) | Known::Dims(_) | Known::Quotients(_) => return Ok(node.into()),
        };
        // A repeated number stays one: passes see what it is.
        if matches!(body.op, Op::Const(_) | Op::Size(_) | Op::Broadcast(_)) {
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
            formats: std::mem::take(&mut self.formats),
            loc: self.loc.clone(),
        }
    }

    /// Ends the function that was begun, with its results.
    pub(crate) fn end(&mut self, outer: Outer, results: &[Value]) -> FuncId {
        for result in results {
            self.function.add_result(*result, Sink::Out);
        }
        *self.module.function_mut(outer.id) = std::mem::replace(&mut self.function, outer.function);
        (self.known, self.formats, self.loc) = (outer.known, outer.formats, outer.loc);
        outer.id
    }

    /// Forgets the function that was begun.
    pub(crate) fn abandon(&mut self, outer: Outer) {
        self.module.functions.remove(&outer.id);
        (self.function, self.known, self.formats, self.loc) = (outer.function, outer.known, outer.formats, outer.loc);
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

    /// A constant whose elements may be codes.
    pub(crate) fn stored(&mut self, array: Array, format: Option<Format>) -> Result<Value> {
        let value = self.constant(array)?;
        if let Some(format) = format {
            self.mark(value, format);
        }
        Ok(value)
    }

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
}

/// How many elements of the operand each element of the results is made of, where that is the operation's own number.
fn visited(op: &Op) -> i64 {
    let (Op::Window(window) | Op::WindowArg(window)) = op else { return 1 };
    window.axes.iter().map(|axis| axis.size).fold(1, i64::saturating_mul)
}
