//! Mistakes of graph passes: rewrites that keep every type and change the meaning.

use graver_interp::Interp;
use graver_ir::op::{Extreme, ReduceKind};
use graver_ir::{Array, DType, Dim, Function, Module, NodeId, Op, Scalar, ScalarFn, Value, verify};
use graver_testkit::eps;

use super::{COMPILED, Compiled, Fault, Verdict, all_are_caught};

const FAULTS: &[Fault<Module>] = &[
    Fault { name: "the operands of sub are swapped", plant: |m| edit(m, |op| is_map(op, ScalarFn::Sub), swap(0, 1)) },
    Fault { name: "the operands of div are swapped", plant: |m| edit(m, |op| is_map(op, ScalarFn::Div), swap(0, 1)) },
    Fault { name: "relu is dropped", plant: |m| dropped(m, |op| is_map(op, ScalarFn::Relu)) },
    Fault { name: "neg is dropped", plant: |m| dropped(m, |op| is_map(op, ScalarFn::Neg)) },
    Fault { name: "lt is le", plant: |m| renamed(m, ScalarFn::Lt, ScalarFn::Le) },
    Fault { name: "max is min", plant: |m| renamed(m, ScalarFn::Max, ScalarFn::Min) },
    Fault { name: "the arms of select are swapped", plant: |m| edit(m, |op| is_map(op, ScalarFn::Select), swap(1, 2)) },
    Fault { name: "a cast goes through bf16", plant: cast_narrowed },
    Fault { name: "a constant is off by one ulp", plant: constant_moved },
    Fault { name: "a gather takes from another axis", plant: gather_axis },
    Fault { name: "an added update is dropped", plant: |m| dropped(m, |op| matches!(op, Op::Scatter(_))) },
    Fault { name: "an iota counts along another axis", plant: iota_axis },
    Fault { name: "a permutation is inverted", plant: permute_inverted },
    Fault { name: "a broadcast repeats another axis", plant: broadcast_axis },
    Fault { name: "a slice starts one too early", plant: |m| slice_moved(m, -1) },
    Fault { name: "a slice starts one too late", plant: |m| slice_moved(m, 1) },
    Fault { name: "padding is at the other end", plant: pad_flipped },
    Fault { name: "operands of concat are swapped", plant: |m| edit(m, |op| matches!(op, Op::Concat(_)), swap(0, 1)) },
    Fault { name: "a reverse is dropped", plant: |m| dropped(m, |op| matches!(op, Op::Reverse(_))) },
    Fault { name: "a sum is a max", plant: sum_is_max },
    Fault { name: "an arg_max is an arg_min", plant: arg_max_is_min },
    Fault { name: "windows begin one later", plant: window_moved },
    Fault { name: "a convolution's padding is at the other end", plant: conv_flipped },
    Fault { name: "a random stream is another", plant: stream_moved },
    Fault { name: "two results are exchanged", plant: results_exchanged },
];

#[test]
fn faults_in_graphs_are_caught() {
    all_are_caught(FAULTS, &COMPILED, |compiled| &compiled.case.module, judge);
}

pub(super) fn judge(compiled: &Compiled, module: Module) -> Verdict {
    if let Err(error) = verify(&module) {
        return Verdict::Refused(error.to_string());
    }
    let sick = crate::cases::Case { module, ..compiled.case.clone() };
    match sick.compile(&Interp::default()) {
        Ok(program) => compiled.judge(program),
        Err(error) => Verdict::Refused(error.to_string()),
    }
}

/// What takes the place of a node: another operation over these operands.
type Rewrite = (Op, Vec<Value>);

/// Replaces the first node of any function for which `rewrite` finds another of the same type.
pub(super) fn rewritten(module: &mut Module, rewrite: impl Fn(&Function, NodeId) -> Option<Rewrite>) -> bool {
    module.functions.values_mut().any(|function| rewritten_in(function, &rewrite))
}

fn rewritten_in(function: &mut Function, rewrite: impl Fn(&Function, NodeId) -> Option<Rewrite>) -> bool {
    function.graph.topo().into_iter().any(|id| match rewrite(function, id) {
        Some((op, args)) => replaced(function, id, op, &args),
        None => false,
    })
}

fn replaced(function: &mut Function, id: NodeId, op: Op, args: &[Value]) -> bool {
    let loc = function.graph.loc(id).clone();
    let (users, old) = (function.graph.users(id), function.graph.node(id).outs.clone());
    let Ok(new) = function.graph.add(op, args, loc) else { return false };
    if function.graph.node(new).outs != old || old.len() != 1 {
        function.graph.remove(new);
        return false;
    }
    // Not `replace`: the new node may use the old one.
    users.into_iter().for_each(|user| function.graph.set_arg(user, new.into()));
    for result in function.results.iter_mut().filter(|result| result.value == id.into()) {
        result.value = new.into();
    }
    true
}

/// The first operand in the place of the first operation of a kind.
pub(super) fn dropped(module: &mut Module, is: fn(&Op) -> bool) -> bool {
    rewritten(module, |function, id| {
        let graph = &function.graph;
        is(graph.op(id)).then(|| (Op::Alias, vec![graph.args(id)[0]]))
    })
}

/// The first operation of a kind takes its operands in another order.
fn edit(module: &mut Module, is: fn(&Op) -> bool, order: impl Fn(&mut Vec<Value>)) -> bool {
    rewritten(module, |function, id| {
        let mut args = function.graph.args(id).to_vec();
        let fits = is(function.graph.op(id)) && args.len() > 1;
        fits.then(|| order(&mut args))?;
        (args != function.graph.args(id).to_vec()).then(|| (function.graph.op(id).clone(), args))
    })
}

fn swap(x: usize, y: usize) -> impl Fn(&mut Vec<Value>) {
    move |args| args.swap(x, y)
}

/// The first operation that `change` changes.
fn changed(module: &mut Module, change: impl Fn(&mut Op) -> bool) -> bool {
    rewritten(module, |function, id| {
        let mut op = function.graph.op(id).clone();
        (change(&mut op) && op != *function.graph.op(id)).then(|| (op, function.graph.args(id).to_vec()))
    })
}

fn is_map(op: &Op, function: ScalarFn) -> bool {
    *op == Op::Map(function)
}

fn renamed(module: &mut Module, from: ScalarFn, to: ScalarFn) -> bool {
    changed(module, |op| {
        let fits = is_map(op, from);
        *op = if fits { Op::Map(to) } else { op.clone() };
        fits
    })
}

/// Puts a cast to `bf16` and back behind the first cast between wide floats.
fn cast_narrowed(module: &mut Module) -> bool {
    module.functions.values_mut().any(|function| {
        let wide = |dtype: DType| matches!(dtype, DType::F64 | DType::F32);
        let graph = &mut function.graph;
        let is_cast =
            |id: &NodeId| matches!(graph.op(*id), Op::Cast(to) if wide(*to) && wide(graph.ty(graph.args(*id)[0]).dtype));
        let Some(cast) = graph.topo().into_iter().find(is_cast) else { return false };
        let loc = graph.loc(cast).clone();
        let narrow = graph.add(Op::Cast(DType::BF16), &graph.args(cast), loc).expect("any number is cast");
        let wide = graph.op(cast).clone();
        replaced(function, cast, wide, &[narrow.into()])
    })
}

fn constant_moved(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Const(array) = op else { return false };
        let dtype = array.dtype();
        let moved = |place: usize| {
            let old = array.get(place);
            let new = if dtype.is_float() {
                Scalar::float(dtype, old.as_f64() * (1.0 + eps(dtype)))
            } else {
                Scalar::int(dtype, old.as_i64() ^ 1)
            };
            if place == 0 { new } else { old }
        };
        *array = Array::from_fn(dtype, array.shape(), moved);
        true
    })
}

fn gather_axis(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Gather(axes) = op else { return false };
        axes.axis ^= 1;
        true
    })
}

fn iota_axis(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Iota(iota) = op else { return false };
        iota.axis = (iota.axis + 1) % iota.shape.rank();
        true
    })
}

fn permute_inverted(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Permute(perm) = op else { return false };
        *perm = perm.inverse();
        true
    })
}

fn broadcast_axis(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Broadcast(broadcast) = op else { return false };
        let rank = broadcast.shape.rank();
        let [axis] = broadcast.axes.as_mut_slice() else { return false };
        *axis = (*axis + 1) % rank;
        true
    })
}

fn slice_moved(module: &mut Module, by: i64) -> bool {
    changed(module, |op| {
        let Op::Slice(axes) = op else { return false };
        // An empty range may start anywhere.
        let Some(axis) = axes.iter_mut().find(|axis| !axis.size.is(0) && (by > 0 || axis.start.is_positive())) else {
            return false;
        };
        axis.start = &axis.start + Dim::from(by);
        true
    })
}

fn pad_flipped(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Pad(axes) = op else { return false };
        axes.iter_mut().for_each(|axis| std::mem::swap(&mut axis.low, &mut axis.high));
        true
    })
}

fn sum_is_max(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Reduce(reduce) = op else { return false };
        let fits = reduce.kind == ReduceKind::Sum;
        reduce.kind = if fits { ReduceKind::Max } else { reduce.kind };
        fits
    })
}

fn arg_max_is_min(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::ArgReduce(reduce) = op else { return false };
        reduce.kind = Extreme::Min;
        true
    })
}

fn window_moved(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Window(window) = op else { return false };
        let Some(axis) = window.axes.iter_mut().find(|axis| axis.low.is_positive()) else { return false };
        (axis.low, axis.high) = (&axis.low - Dim::ONE, &axis.high + Dim::ONE);
        true
    })
}

fn conv_flipped(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Conv(conv) = op else { return false };
        conv.axes.iter_mut().for_each(|axis| std::mem::swap(&mut axis.low, &mut axis.high));
        true
    })
}

fn stream_moved(module: &mut Module) -> bool {
    changed(module, |op| {
        let Op::Philox(philox) = op else { return false };
        philox.stream += 1;
        true
    })
}

fn results_exchanged(module: &mut Module) -> bool {
    let function = module.functions.values_mut().next().expect("a case has an entry");
    let types = function.result_types();
    let pair =
        (1..types.len()).find(|place| types[*place] == types[0] && function.results[*place].value != function.results[0].value);
    let Some(other) = pair else { return false };
    (function.results[0].value, function.results[other].value) = (function.results[other].value, function.results[0].value);
    true
}
