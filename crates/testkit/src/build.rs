//! A builder of modules for tests: it panics where a user would get a diagnostic.

use graver_ir::op::{
    ArgReduce, Broadcast, Call, Composite, DotAxes, DynamicSlice, Extreme, GatherAxes, If, Iota, PadAxis, Perm, Philox,
};
use graver_ir::op::{Prefix, Reduce, ReduceKind, Scan, Scatter, ScatterKind, SliceAxis, Sort, Transform, While, stack_of};
use graver_ir::{Array, DType, Dim, FuncId, Function, Loc, Module, Op, Place, Role, Scalar, ScalarFn, Shape, Sink, StateDecl};
use graver_ir::{StateId, StateKind, Symbol, Type, Value};

/// A size in a test: a number, or the name of a symbol of any size.
pub trait AsDim {
    /// The dim.
    fn dim(self) -> Dim;
}

macro_rules! as_dim {
    ($($ty:ty),*) => { $(impl AsDim for $ty { fn dim(self) -> Dim { Dim::from(self) } })* };
}
as_dim!(i32, i64, usize, &Symbol, &Dim);

impl AsDim for Dim {
    fn dim(self) -> Dim {
        self
    }
}

impl AsDim for &str {
    fn dim(self) -> Dim {
        Dim::sym(&Symbol::new(self))
    }
}

/// A shape in a test: an array or tuple of [`AsDim`], such as `("n", 3)`; `()` for scalars.
pub trait Dims {
    /// The shape.
    fn shape(self) -> Shape;
}

impl<D: AsDim, const N: usize> Dims for [D; N] {
    fn shape(self) -> Shape {
        Shape(self.into_iter().map(AsDim::dim).collect())
    }
}

impl<D: AsDim> Dims for Vec<D> {
    fn shape(self) -> Shape {
        Shape(self.into_iter().map(AsDim::dim).collect())
    }
}

impl Dims for Shape {
    fn shape(self) -> Shape {
        self
    }
}

impl Dims for &Shape {
    fn shape(self) -> Shape {
        self.clone()
    }
}

impl Dims for () {
    fn shape(self) -> Shape {
        Shape::SCALAR
    }
}

macro_rules! tuple_dims {
    ($($name:ident)*) => {
        impl<$($name: AsDim),*> Dims for ($($name,)*) {
            fn shape(self) -> Shape {
                #[expect(non_snake_case, reason = "the type parameters name the places")]
                let ($($name,)*) = self;
                Shape(vec![$($name.dim()),*])
            }
        }
    };
}
tuple_dims!(A);
tuple_dims!(A B);
tuple_dims!(A B C);
tuple_dims!(A B C D);
tuple_dims!(A B C D E);

/// A function, and the module around it, under construction. Every method panics where types do not fit.
///
/// ```
/// use graver_ir::{DType::F32, ScalarFn::Add};
/// use graver_testkit::Build;
///
/// let mut b = Build::new("main");
/// let x = b.arg("x", F32, ("n", 3));
/// let y = b.map(Add, [x, x]);
/// assert_eq!(b.ty(y).to_string(), "f32[n, 3]");
/// let module = b.finish([y]);
/// assert_eq!(module.functions.len(), 1);
/// ```
#[derive(Debug)]
pub struct Build {
    module: Module,
    function: Function,
    updates: Vec<(StateId, Value)>,
    loc: Loc,
}

impl Build {
    /// An empty entry function of an empty module.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut module = Module::default();
        // The entry is the module's first function: its place is taken before callees are added.
        module.add(Function::new(name));
        Self { module, function: Function::new(name), updates: Vec::new(), loc: Loc::UNKNOWN }
    }

    /// The nodes that follow come from this line.
    pub fn at(&mut self, file: &str, line: u32) -> &mut Self {
        self.loc = Loc::new(Place { file: file.to_owned(), line, column: 1, ..Place::default() });
        self
    }

    /// The type of a value.
    #[must_use]
    pub fn ty(&self, value: Value) -> &Type {
        self.function.graph.ty(value)
    }

    /// Whether an operation uses the value.
    #[must_use]
    pub fn is_used(&self, value: Value) -> bool {
        !self.function.graph.uses(value).is_empty()
    }

    /// A parameter that the caller passes.
    pub fn arg(&mut self, name: &str, dtype: DType, dims: impl Dims) -> Value {
        let ty = Type::new(dtype, dims.shape());
        self.function.add_param(ty, Role::Arg(name.to_owned()), self.loc.clone()).into()
    }

    /// A new slot of the state, and its value at the start of the call.
    pub fn state(&mut self, path: &str, kind: StateKind, dtype: DType, dims: impl Dims) -> (StateId, Value) {
        let ty = Type::new(dtype, dims.shape());
        let id = self.module.add_state(StateDecl { path: path.to_owned(), ty: ty.clone(), kind });
        (id, self.function.add_param(ty, Role::State(id), self.loc.clone()).into())
    }

    /// The slot holds `value` after the call.
    pub fn update(&mut self, slot: StateId, value: Value) {
        self.updates.push((slot, value));
    }

    /// Any operation with one result.
    ///
    /// # Panics
    /// With the diagnostic, if the operands do not fit.
    #[track_caller]
    pub fn add(&mut self, op: Op, args: &[Value]) -> Value {
        let outs = self.add_many(op, args);
        assert_eq!(outs.len(), 1, "an operation of one result");
        outs[0]
    }

    /// Any operation with all its results.
    ///
    /// # Panics
    /// With the diagnostic, if the operands do not fit.
    #[track_caller]
    pub fn add_many(&mut self, op: Op, args: &[Value]) -> Vec<Value> {
        match self.function.graph.add(op, args, self.loc.clone()) {
            Ok(node) => {
                let outs = u16::try_from(self.function.graph.node(node).outs.len()).expect("few results");
                (0..outs).map(|out| node.out(out)).collect()
            }
            Err(diag) => panic!("{diag}"),
        }
    }

    /// The function at every element.
    #[track_caller]
    pub fn map<const N: usize>(&mut self, function: ScalarFn, args: [Value; N]) -> Value {
        self.add(Op::Map(function), &args)
    }

    /// Every element converted.
    #[track_caller]
    pub fn cast(&mut self, dtype: DType, x: Value) -> Value {
        self.add(Op::Cast(dtype), &[x])
    }

    /// A constant array.
    #[track_caller]
    pub fn constant(&mut self, array: Array) -> Value {
        self.add(Op::Const(array), &[])
    }

    /// A constant of rank 0.
    #[track_caller]
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Value {
        self.constant(Array::full([], Scalar::float(dtype, value)))
    }

    /// A constant repeated over a shape.
    #[track_caller]
    pub fn full(&mut self, dtype: DType, dims: impl Dims, value: f64) -> Value {
        let scalar = self.scalar(dtype, value);
        self.broadcast(scalar, dims, [])
    }

    /// A size as a value.
    #[track_caller]
    pub fn size(&mut self, dim: impl AsDim) -> Value {
        self.add(Op::Size(dim.dim()), &[])
    }

    /// Positions along an axis.
    #[track_caller]
    pub fn iota(&mut self, dtype: DType, dims: impl Dims, axis: usize) -> Value {
        self.add(Op::Iota(Iota { dtype, shape: dims.shape(), axis }), &[])
    }

    /// Elements along `axis` at run-time positions; the first `batch` axes are shared.
    #[track_caller]
    pub fn gather(&mut self, x: Value, index: Value, axis: usize, batch: usize) -> Value {
        self.add(Op::Gather(GatherAxes { axis, batch }), &[x, index])
    }

    /// Updates added at run-time positions along `axis`; the first `batch` axes are shared.
    #[track_caller]
    pub fn scatter_add(&mut self, x: Value, index: Value, update: Value, axis: usize, batch: usize) -> Value {
        self.scatter(ScatterKind::Add, [x, index, update], axis, batch)
    }

    /// `[x, index, update]`: updates put or combined at run-time positions along `axis`; the first `batch` axes are shared.
    #[track_caller]
    pub fn scatter(&mut self, kind: ScatterKind, args: [Value; 3], axis: usize, batch: usize) -> Value {
        self.add(Op::Scatter(Scatter { kind, at: GatherAxes { axis, batch } }), &args)
    }

    /// The block of these sizes at run-time starts along these axes.
    #[track_caller]
    pub fn dynamic_slice(&mut self, x: Value, axes: &[usize], sizes: impl Dims, starts: &[Value]) -> Value {
        let op = DynamicSlice { axes: axes.to_vec(), sizes: sizes.shape().0 };
        self.add(Op::DynamicSlice(op), &[&[x], starts].concat())
    }

    /// `x` with `update` at run-time starts along these axes.
    #[track_caller]
    pub fn dynamic_update(&mut self, x: Value, update: Value, axes: &[usize], starts: &[Value]) -> Value {
        self.add(Op::DynamicUpdate(axes.to_vec()), &[&[x, update], starts].concat())
    }

    /// Every element combined with all before it along an axis, or with all after it.
    #[track_caller]
    pub fn prefix(&mut self, kind: ReduceKind, axis: usize, reverse: bool, x: Value) -> Value {
        self.add(Op::Prefix(Prefix { kind, axis, reverse }), &[x])
    }

    /// Positions along an axis in the order of their elements.
    #[track_caller]
    pub fn sort(&mut self, x: Value, axis: usize, descending: bool) -> Value {
        self.add(Op::Sort(Sort { axis, descending }), &[x])
    }

    /// The same elements under another shape.
    #[track_caller]
    pub fn reshape(&mut self, x: Value, dims: impl Dims) -> Value {
        self.add(Op::Reshape(dims.shape()), &[x])
    }

    /// Axis `perm[i]` becomes axis `i`.
    #[track_caller]
    pub fn permute<const N: usize>(&mut self, x: Value, perm: [usize; N]) -> Value {
        let perm = Perm::new(perm.to_vec()).expect("a permutation");
        self.add(Op::Permute(perm), &[x])
    }

    /// Axis `i` becomes axis `axes[i]`; the others repeat.
    #[track_caller]
    pub fn broadcast<const N: usize>(&mut self, x: Value, dims: impl Dims, axes: [usize; N]) -> Value {
        self.add(Op::Broadcast(Broadcast { shape: dims.shape(), axes: axes.to_vec() }), &[x])
    }

    /// One `(start, size, step)` an axis.
    #[track_caller]
    pub fn slice<S: AsDim, D: AsDim, const N: usize>(&mut self, x: Value, axes: [(S, D, i64); N]) -> Value {
        let axes = axes.into_iter().map(|(start, size, step)| SliceAxis { start: start.dim(), size: size.dim(), step });
        self.add(Op::Slice(axes.collect()), &[x])
    }

    /// One `(low, high, interior)` an axis.
    #[track_caller]
    pub fn pad<L: AsDim, H: AsDim, const N: usize>(&mut self, x: Value, value: Value, axes: [(L, H, i64); N]) -> Value {
        let axes = axes.into_iter().map(|(low, high, interior)| PadAxis { low: low.dim(), high: high.dim(), interior });
        self.add(Op::Pad(axes.collect()), &[x, value])
    }

    /// Operands after one another.
    #[track_caller]
    pub fn concat<const N: usize>(&mut self, axis: usize, args: [Value; N]) -> Value {
        self.add(Op::Concat(axis), &args)
    }

    /// Axes backwards.
    #[track_caller]
    pub fn reverse<const N: usize>(&mut self, x: Value, axes: [usize; N]) -> Value {
        self.add(Op::Reverse(axes.to_vec()), &[x])
    }

    /// Axes combined.
    #[track_caller]
    pub fn reduce<const N: usize>(&mut self, kind: ReduceKind, x: Value, axes: [usize; N]) -> Value {
        self.add(Op::Reduce(Reduce { kind, axes: axes.to_vec() }), &[x])
    }

    /// The position of the extreme element.
    #[track_caller]
    pub fn arg_reduce(&mut self, kind: Extreme, x: Value, axis: usize) -> Value {
        self.add(Op::ArgReduce(ArgReduce { kind, axis }), &[x])
    }

    /// Sums of products.
    #[track_caller]
    pub fn dot(&mut self, x: Value, y: Value, axes: DotAxes) -> Value {
        self.add(Op::Dot(axes), &[x, y])
    }

    /// The product of two matrices.
    #[track_caller]
    pub fn matmul(&mut self, x: Value, y: Value) -> Value {
        self.dot(x, y, DotAxes { lhs_contract: vec![1], rhs_contract: vec![0], ..DotAxes::default() })
    }

    /// Random bits.
    #[track_caller]
    pub fn philox(&mut self, key: Value, dims: impl Dims, stream: u32) -> Value {
        self.add(Op::Philox(Philox { shape: dims.shape(), stream }), &[key])
    }

    /// A function of this module, written by `body`, which returns its results.
    pub fn func(&mut self, name: &str, body: impl FnOnce(&mut Self) -> Vec<Value>) -> FuncId {
        let mut inner = Self {
            module: std::mem::take(&mut self.module),
            function: Function::new(name),
            updates: Vec::new(),
            loc: self.loc.clone(),
        };
        let results = body(&mut inner);
        let (module, function) = inner.close(&results);
        self.module = module;
        self.module.add(function)
    }

    /// Takes the last results of a function of this module away.
    pub fn keep_results(&mut self, func: FuncId, count: usize) {
        self.module.function_mut(func).results.truncate(count);
    }

    /// A function of this module applied.
    #[track_caller]
    pub fn call(&mut self, func: FuncId, args: &[Value]) -> Vec<Value> {
        self.call_tagged(func, args, None, None)
    }

    /// A function of this module applied, with what it means and its own derivative.
    #[track_caller]
    pub fn call_tagged(&mut self, func: FuncId, args: &[Value], tag: Option<Composite>, vjp: Option<FuncId>) -> Vec<Value> {
        let results = self.module.function(func).result_types();
        self.add_many(Op::Call(Call { func, tag, vjp, results }), args)
    }

    /// One of two functions of this module applied.
    #[track_caller]
    pub fn branch(&mut self, condition: Value, arms: [FuncId; 2], operands: &[Value]) -> Vec<Value> {
        let [then, otherwise] = arms;
        let results = self.module.function(then).result_types();
        self.add_many(Op::If(If { then, otherwise, results }), &[&[condition], operands].concat())
    }

    /// A function of this module applied as long as another one says so.
    #[track_caller]
    pub fn repeat(&mut self, [cond, body]: [FuncId; 2], most: Option<Dim>, carried: &[Value], closed: &[Value]) -> Vec<Value> {
        let op = While { cond, body, carried: carried.len(), most };
        self.add_many(Op::While(op), &[carried, closed].concat())
    }

    /// A function of this module applied to every slice in turn; what it gives beyond what it carries is stacked.
    #[track_caller]
    pub fn scan(&mut self, body: FuncId, (trip, reverse): (impl AsDim, bool), operands: [&[Value]; 3]) -> Vec<Value> {
        let [carried, scanned, closed] = operands;
        let (trip, mut results) = (trip.dim(), self.module.function(body).result_types());
        results.iter_mut().skip(carried.len()).for_each(|slice| *slice = stack_of(&trip, slice));
        let op = Scan { body, trip, carried: carried.len(), scanned: scanned.len(), reverse, at_once: false, results };
        self.add_many(Op::Scan(op), &[carried, scanned, closed].concat())
    }

    /// Cotangents of `x`, given those of `y`.
    #[track_caller]
    pub fn vjp(&mut self, y: &[Value], cotangents: &[Value], x: &[Value]) -> Vec<Value> {
        let transform = Transform::Vjp { outputs: y.len(), wrt: x.len() };
        self.add_many(Op::Transform(transform), &[y, cotangents, x].concat())
    }

    /// Tangents of `y`, given those of `x`.
    #[track_caller]
    pub fn jvp(&mut self, y: &[Value], x: &[Value], tangents: &[Value]) -> Vec<Value> {
        let transform = Transform::Jvp { outputs: y.len(), wrt: x.len() };
        self.add_many(Op::Transform(transform), &[y, x, tangents].concat())
    }

    /// The module: these results go to the caller, updates into the state.
    ///
    /// # Panics
    /// Never for a builder made by [`Build::new`].
    #[must_use]
    pub fn finish<const N: usize>(self, results: [Value; N]) -> Module {
        self.finish_all(&results)
    }

    /// As [`Build::finish`], for a number of results that is not known to the compiler.
    ///
    /// # Panics
    /// Never for a builder made by [`Build::new`].
    #[must_use]
    pub fn finish_all(self, results: &[Value]) -> Module {
        let (mut module, function) = self.close(results);
        let entry = module.functions.values_mut().next().expect("the entry's place was taken in `new`");
        *entry = function;
        module
    }

    fn close(mut self, results: &[Value]) -> (Module, Function) {
        for value in results {
            self.function.add_result(*value, Sink::Out);
        }
        for (slot, value) in &self.updates {
            self.function.add_result(*value, Sink::Update(*slot));
        }
        (self.module, self.function)
    }
}
