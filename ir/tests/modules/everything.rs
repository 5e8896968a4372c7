//! Modules that tests share: one with everything, one small.

use graver_ir::op::*;
use graver_ir::*;

/// A module with every operation, every scalar function and every element type.
pub(crate) fn everything() -> Module {
    let mut module = Module::default();
    let weight = Type::new(DType::F32, Shape::new([10, 784]));
    let slot = module.add_state(StateDecl { path: "fc.weight".to_owned(), ty: weight.clone(), kind: StateKind::Param });
    let key = Type::new(DType::U32, Shape::new([4]));
    let rng = module.add_state(StateDecl { path: "rng".to_owned(), ty: key.clone(), kind: StateKind::Rng });
    let mut main = Function::new("main");
    let weight = main.add_param(weight, Role::State(slot), place("w", 1));
    let key = main.add_param(key, Role::State(rng), Loc::UNKNOWN);
    maps(&mut main);
    index(&mut main);
    movement(&mut main);
    reductions(&mut main);
    contractions(&mut main);
    add(&mut main, Op::Philox(Philox { shape: shape(&[batch(), 3.into()]), stream: 7 }), &[key.into()]);
    control(&mut main);
    loops(&mut main);
    main.add_result(weight, Sink::Update(slot));
    main.add_result(key, Sink::Out);
    module.add(main);
    module.add(callee("callee \"quoted\"\n"));
    module.add(callee("f.1"));
    module.add(holds());
    module.add(keeps());
    module
}

fn place(scope: &str, line: u32) -> Loc {
    let outer = Loc::new(Place { file: "src/main.rs".to_owned(), line: 9, column: 1, ..Place::default() });
    Loc::new(Place { file: "src/\"odd\"\\x.rs".to_owned(), line, column: 5, scope: scope.to_owned(), caller: outer })
}

fn batch() -> Dim {
    Dim::sym(&Symbol::ranged("batch", 0, 1 << 20, 4))
}

fn odd() -> Dim {
    Dim::sym(&Symbol::new("a0"))
}

fn shape(dims: &[Dim]) -> Shape {
    Shape(dims.to_vec())
}

fn add(f: &mut Function, op: Op, args: &[Value]) -> Value {
    let line = u32::try_from(f.graph.len()).expect("small");
    f.graph.add(op, args, place("encoder.0", line)).expect("operands fit").out(0)
}

fn arg(f: &mut Function, dtype: DType, dims: &[Dim]) -> Value {
    let name = format!("x{}", f.params.len());
    f.add_param(Type::new(dtype, shape(dims)), Role::Arg(name), Loc::UNKNOWN).into()
}

fn maps(f: &mut Function) {
    let inputs = DType::ALL.map(|dtype| arg(f, dtype, &[batch()]));
    let of = |dtype: DType| inputs[DType::ALL.iter().position(|x| *x == dtype).expect("in the list")];
    for function in ScalarFn::ALL {
        for dtype in DType::ALL {
            let mut dtypes = vec![dtype; function.arity()];
            if function.rule() == Rule::Select {
                dtypes[0] = DType::Bool;
            }
            if function.infer(&dtypes).is_ok() {
                let args: Vec<Value> = dtypes.iter().map(|dtype| of(*dtype)).collect();
                add(f, Op::Map(*function), &args);
            }
        }
    }
    for dtype in DType::ALL {
        let y = add(f, Op::Cast(dtype), &[inputs[0]]);
        f.add_result(y, Sink::Out);
        let small = Array::from_fn(dtype, [2, 2], |i| Scalar::float(dtype, [0.1, f64::NAN, f64::INFINITY, -0.0][i]));
        add(f, Op::Const(small), &[]);
        let large = Array::from_fn(dtype, [50], |i| Scalar::float(dtype, i as f64 * 0.3));
        add(f, Op::Const(large), &[]);
        add(f, Op::Const(Array::full([0], Scalar::one(dtype))), &[]);
    }
    let peculiar = Array::from_vec([1], vec![f32::from_bits(0x7fc0_1234)]).expect("one element");
    add(f, Op::Const(peculiar), &[]);
}

fn index(f: &mut Function) {
    let size = batch() * odd() * Dim::from(3) - batch().floor_div(&Dim::from(7)) + odd().modulo(&batch()) - Dim::from(5);
    add(f, Op::Size(size), &[]);
    add(f, Op::Size(odd().min_with(&batch()).max_with(&(batch() - odd()))), &[]);
    add(f, Op::Iota(Iota { dtype: DType::I32, shape: shape(&[batch(), odd()]), axis: 1 }), &[]);
    let x = arg(f, DType::F32, &[batch(), 10.into(), 4.into()]);
    let i = arg(f, DType::I64, &[batch(), odd()]);
    let axes = GatherAxes { axis: 1, batch: 1 };
    let y = add(f, Op::Gather(axes), &[x, i]);
    for kind in ScatterKind::ALL {
        add(f, Op::Scatter(Scatter { kind, at: axes }), &[x, i, y]);
    }
    let starts = [arg(f, DType::I64, &[]), arg(f, DType::I64, &[])];
    let slice = DynamicSlice { axes: vec![1, 2], sizes: vec![3.into(), 4.into()] };
    let block = add(f, Op::DynamicSlice(slice), &[x, starts[0], starts[1]]);
    add(f, Op::Sort(Sort { axis: 1, descending: true }), &[x]);
    add(f, Op::Bitcast(DType::I32), &[x]);
    add(f, Op::DynamicUpdate(vec![1, 2]), &[x, block, starts[0], starts[1]]);
}

fn movement(f: &mut Function) {
    let x = arg(f, DType::F32, &[batch(), 6.into()]);
    let zero = arg(f, DType::F32, &[]);
    add(f, Op::Reshape(shape(&[batch(), 2.into(), 3.into()])), &[x]);
    add(f, Op::Permute(Perm::new(vec![1, 0]).expect("a permutation")), &[x]);
    add(f, Op::Broadcast(Broadcast { shape: shape(&[odd(), batch(), 6.into()]), axes: vec![1, 2] }), &[x]);
    let whole = SliceAxis { start: Dim::ZERO, size: batch(), step: 1 };
    let part = SliceAxis { start: 1.into(), size: 2.into(), step: 2 };
    add(f, Op::Slice(vec![whole, part]), &[x]);
    let none = PadAxis { low: Dim::ZERO, high: Dim::ZERO, interior: 0 };
    add(f, Op::Pad(vec![none, PadAxis { low: 1.into(), high: odd(), interior: 2 }]), &[x, zero]);
    add(f, Op::Concat(1), &[x, x, x]);
    add(f, Op::Reverse(vec![0, 1]), &[x]);
}

fn reductions(f: &mut Function) {
    let x = arg(f, DType::F32, &[batch(), 8.into()]);
    for kind in ReduceKind::ALL {
        add(f, Op::Reduce(Reduce { kind, axes: vec![0, 1] }), &[x]);
    }
    for kind in [Extreme::Max, Extreme::Min] {
        add(f, Op::ArgReduce(ArgReduce { kind, axis: 1 }), &[x]);
    }
    for reverse in [false, true] {
        add(f, Op::Prefix(Prefix { kind: ReduceKind::Sum, axis: 1, reverse }), &[x]);
    }
    let two = WindowAxis { size: 2, stride: 2, dilation: 3, low: 1.into(), high: odd() };
    let axes = vec![WindowAxis::IDENTITY, two];
    let y = add(f, Op::Window(Window { kind: ReduceKind::Max, axes: axes.clone() }), &[x]);
    let at = add(f, Op::WindowArg(Window { kind: ReduceKind::Min, axes: axes.clone() }), &[x]);
    add(f, Op::WindowTake(axes.clone()), &[x, at]);
    add(f, Op::WindowPut(WindowPut { axes, shape: shape(&[batch(), 8.into()]) }), &[y, at]);
}

fn contractions(f: &mut Function) {
    let x = arg(f, DType::F32, &[batch(), 4.into(), 12.into(), 12.into()]);
    let k = arg(f, DType::F32, &[6.into(), 2.into(), 3.into(), 3.into()]);
    let axis = ConvAxis { stride: 2, low: 1.into(), high: (-1).into(), kernel_dilation: 2, input_dilation: 3 };
    let axes = vec![axis.clone(), ConvAxis { stride: 1, kernel_dilation: 1, input_dilation: 1, ..axis }];
    let order = vec![0, 1, 2, 3];
    let conv = Conv { input: order.clone(), kernel: order, output: vec![0, 3, 1, 2], axes, groups: 2, batch_groups: 1 };
    add(f, Op::Conv(conv), &[x, k]);
    let dot = DotAxes { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![1, 2], rhs_contract: vec![1, 2] };
    add(f, Op::Dot(dot), &[x, x]);
    add(f, Op::Dot(DotAxes::default()), &[k, k]);
}

fn control(f: &mut Function) {
    let x = arg(f, DType::F32, &[batch()]);
    let alias = add(f, Op::Alias, &[x]);
    add(f, Op::StopGradient, &[x]);
    let ty = Type::new(DType::F32, shape(&[batch()]));
    for tag in Composite::ALL.into_iter().map(Some).chain([None]) {
        let vjp = tag.map(|_| FuncId(2));
        let call = Call { func: FuncId(1), tag, vjp, results: vec![ty.clone(), ty.clone()] };
        let y = add(f, Op::Call(call), &[alias]);
        let second = y.node.out(1);
        add(f, Op::Transform(Transform::Vjp { outputs: 2, wrt: 1 }), &[y, second, x, x, alias]);
        add(f, Op::Transform(Transform::Jvp { outputs: 1, wrt: 1 }), &[second, alias, x]);
    }
}

/// `(f32[batch]) -> bool[]`
fn holds() -> Function {
    let mut f = Function::new("holds");
    arg(&mut f, DType::F32, &[batch()]);
    let y = add(&mut f, Op::Const(Array::full([], Scalar::one(DType::Bool))), &[]);
    f.add_result(y, Sink::Out);
    f
}

/// `(f32[batch]) -> f32[batch]`
fn keeps() -> Function {
    let mut f = Function::new("keeps");
    let x = arg(&mut f, DType::F32, &[batch()]);
    f.add_result(x, Sink::Out);
    f
}

fn loops(f: &mut Function) {
    let (x, xs) = (arg(f, DType::F32, &[batch()]), arg(f, DType::F32, &[odd(), batch()]));
    let condition = arg(f, DType::Bool, &[]);
    let (one, stack) = (Type::new(DType::F32, shape(&[batch()])), Type::new(DType::F32, shape(&[odd(), batch()])));
    add(f, Op::If(If { then: FuncId(1), otherwise: FuncId(2), results: vec![one.clone(); 2] }), &[condition, x]);
    for most in [None, Some(odd())] {
        add(f, Op::While(While { cond: FuncId(3), body: FuncId(4), carried: 1, most }), &[x]);
    }
    let scan = |carried: usize, reverse: bool, results: Vec<Type>| {
        Op::Scan(Scan { body: FuncId(1), trip: odd(), carried, scanned: 1 - carried, reverse, at_once: carried == 0, results })
    };
    add(f, scan(1, true, vec![one, stack.clone()]), &[x]);
    add(f, scan(0, false, vec![stack.clone(), stack]), &[xs]);
}

fn callee(name: &str) -> Function {
    let mut f = Function::new(name);
    let x = arg(&mut f, DType::F32, &[batch()]);
    let y = add(&mut f, Op::Map(ScalarFn::Exp), &[x]);
    f.add_result(y, Sink::Out);
    f.add_result(x, Sink::Out);
    f
}

/// A number for every variant: a new operation does not compile here until it is counted, and fails until it is used.
pub(crate) fn number(op: &Op) -> usize {
    match op {
        Op::Map(_) => 0,
        Op::Cast(_) => 1,
        Op::Const(_) => 2,
        Op::Size(_) => 3,
        Op::Iota(_) => 4,
        Op::Gather(_) => 5,
        Op::Scatter(_) => 6,
        Op::Reshape(_) => 7,
        Op::Permute(_) => 8,
        Op::Broadcast(_) => 9,
        Op::Slice(_) => 10,
        Op::Pad(_) => 11,
        Op::Concat(_) => 12,
        Op::Reverse(_) => 13,
        Op::Reduce(_) => 14,
        Op::ArgReduce(_) => 15,
        Op::Window(_) => 16,
        Op::WindowArg(_) => 17,
        Op::WindowTake(_) => 18,
        Op::WindowPut(_) => 19,
        Op::Dot(_) => 20,
        Op::Conv(_) => 21,
        Op::Philox(_) => 22,
        Op::Param(_) => 23,
        Op::Alias => 24,
        Op::StopGradient => 25,
        Op::Call(_) => 26,
        Op::Transform(Transform::Vjp { .. }) => 27,
        Op::Transform(Transform::Jvp { .. }) => 28,
        Op::If(_) => 29,
        Op::While(_) => 30,
        Op::Scan(_) => 31,
        Op::DynamicSlice(_) => 32,
        Op::DynamicUpdate(_) => 33,
        Op::Sort(_) => 34,
        Op::Bitcast(_) => 35,
        Op::Prefix(_) => 36,
    }
}

pub(crate) fn sample() -> Module {
    let n = Dim::sym(&Symbol::new("batch"));
    let mut module = Module::default();
    let ty = Type::new(DType::F32, Shape::new([10, 784]));
    let slot = module.add_state(StateDecl { path: "fc.weight".to_owned(), ty: ty.clone(), kind: StateKind::Param });
    let mut f = Function::new("main");
    let at = |line, scope: &str| {
        Loc::new(Place { file: "src/main.rs".to_owned(), line, column: 5, scope: scope.to_owned(), caller: Loc::UNKNOWN })
    };
    let x = Type::new(DType::F32, shape(&[n.clone(), 28.into(), 28.into()]));
    let x = f.add_param(x, Role::Arg("images".to_owned()), at(3, "")).into();
    let w = f.add_param(ty.clone(), Role::State(slot), at(2, "fc")).into();
    let mut add = |op, args: &[Value], loc| f.graph.add(op, args, loc).expect("operands fit").out(0);
    let flat = add(Op::Reshape(shape(&[n, 784.into()])), &[x], at(4, ""));
    let dot = DotAxes { lhs_contract: vec![1], rhs_contract: vec![1], ..DotAxes::default() };
    let y = add(Op::Dot(dot), &[flat, w], at(5, "fc").called_from(&at(9, "")));
    let y = add(Op::Map(ScalarFn::Relu), &[y], Loc::UNKNOWN);
    let loss = add(Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: vec![0, 1] }), &[y], at(6, ""));
    let rate = add(Op::Const(Array::scalar(0.01f32)), &[], at(7, ""));
    let rate = add(Op::Broadcast(Broadcast { shape: ty.shape, axes: vec![] }), &[rate], at(7, ""));
    let next = add(Op::Map(ScalarFn::Sub), &[w, rate], at(7, ""));
    f.add_result(loss, Sink::Out);
    f.add_result(next, Sink::Update(slot));
    module.add(f);
    module
}
