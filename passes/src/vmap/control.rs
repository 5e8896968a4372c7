//! Control flow over a batch. What decides for all instances alike decides once. A branch that they decide one by one computes both arms and
//! picks; a loop that they leave one by one goes on until the last has left, and keeps what the others left. Where what is then computed in
//! vain might fail, instances go one after another instead.

use graver_ir::op::{Broadcast, Call, Composite, If, Reduce, ReduceKind, Scan, While};
use graver_ir::{Diag, FuncId, Function, Module, Op, ScalarFn, Value};

use super::{Batch, Lane, move_axis};
use crate::bodies::{add, outs, param_values, set_results};
use crate::build::Build;

fn masks(args: &[Lane]) -> Vec<bool> {
    args.iter().map(|arg| arg.mapped).collect()
}

fn values(args: &[Lane]) -> Vec<Value> {
    args.iter().map(|arg| arg.value).collect()
}

fn lanes(b: &mut Build<'_>, op: Op, args: &[Value], mapped: &[bool]) -> Result<Vec<Lane>, Diag> {
    let node = b.graph.add(op, args, b.loc.clone())?;
    Ok(outs(node, 0..mapped.len()).into_iter().zip(mapped).map(|(value, mapped)| Lane { value, mapped: *mapped }).collect())
}

/// The callee over a batch. A derivative that the call brings is batched too: then everything is mapped, so that it gives no sums.
pub(super) fn call(batch: &mut Batch<'_>, b: &mut Build<'_>, call: &Call, args: &[Lane]) -> Result<Vec<Lane>, Diag> {
    let Some(vjp) = call.vjp else {
        let tag = call.tag.filter(|tag| matches!(tag, Composite::Block | Composite::Checkpoint));
        let (func, mapped) = batch.function(call.func, &masks(args), &vec![false; call.results.len()])?;
        let results = batch.module.function(func).result_types();
        return lanes(b, Op::Call(Call { func, tag, vjp: None, results }), &values(args), &mapped);
    };
    let operands = batch.whole(b, args)?;
    let all = |batch: &mut Batch<'_>, func: FuncId| {
        let function = batch.module.function(func);
        let (params, results) = (vec![true; function.params.len()], vec![true; function.results.len()]);
        batch.function(func, &params, &results)
    };
    let (func, mapped) = all(batch, call.func)?;
    let (vjp, _) = all(batch, vjp)?;
    let results = batch.module.function(func).result_types();
    lanes(b, Op::Call(Call { func, tag: call.tag.filter(|tag| tag.is_custom()), vjp: Some(vjp), results }), &operands, &mapped)
}

pub(super) fn branch(batch: &mut Batch<'_>, b: &mut Build<'_>, op: &If, args: &[Lane]) -> Result<Vec<Lane>, Diag> {
    let arms = [op.then, op.otherwise];
    if args[0].mapped {
        if arms.iter().any(|arm| may_fail(batch.module, *arm)) {
            return batch.each(b, &Op::If(op.clone()), args);
        }
        let mut computed = Vec::new();
        for arm in arms {
            let body = batch.module.function(arm).clone();
            let loc = b.loc.clone();
            computed.push(batch.body(b.graph, &body, &args[1..], Some(&loc))?);
        }
        let picks = computed[0].clone().into_iter().zip(computed[1].clone());
        let picked = picks.map(|(then, otherwise)| {
            let [x, y] = [then.whole(b, &batch.size)?, otherwise.whole(b, &batch.size)?];
            Ok(Lane::mapped(pick(b, args[0].value, x, y)?))
        });
        return picked.collect();
    }
    let params = masks(&args[1..]);
    let depends = arms.map(|arm| dependent(batch.module.function(arm), &params));
    let wanted: Vec<bool> = depends[0].iter().zip(&depends[1]).map(|(x, y)| *x || *y).collect();
    let mut made = Vec::new();
    for arm in arms {
        made.push(batch.function(arm, &params, &wanted)?.0);
    }
    let results = batch.module.function(made[0]).result_types();
    let op = Op::If(If { then: made[0], otherwise: made[1], results });
    lanes(b, op, &values(args), &wanted)
}

/// `x` for instances where the condition holds, `y` for the others.
fn pick(b: &mut Build<'_>, condition: Value, x: Value, y: Value) -> Result<Value, Diag> {
    let shape = b.ty(x).shape.clone();
    let condition =
        if shape.rank() == 1 { condition } else { b.add(Op::Broadcast(Broadcast { shape, axes: vec![0] }), &[condition])? };
    b.add(Op::Map(ScalarFn::Select), &[condition, x, y])
}

pub(super) fn repeat(batch: &mut Batch<'_>, b: &mut Build<'_>, op: &While, args: &[Lane]) -> Result<Vec<Lane>, Diag> {
    let mut params = masks(args);
    let one_by_one = loop {
        let decides = dependent(batch.module.function(op.cond), &params)[0];
        let left = dependent(batch.module.function(op.body), &params);
        let next: Vec<bool> =
            params.iter().enumerate().map(|(place, own)| *own || (place < op.carried && (decides || left[place]))).collect();
        if next == params {
            break decides;
        }
        params = next;
    };
    if one_by_one && [op.cond, op.body].iter().any(|func| may_fail(batch.module, *func)) {
        return batch.each(b, &Op::While(op.clone()), args);
    }
    let mut operands = Vec::new();
    for (arg, mapped) in args.iter().zip(&params) {
        operands.push(if *mapped { arg.whole(b, &batch.size)? } else { arg.value });
    }
    let carried = params[..op.carried].to_vec();
    let (cond, body) = if one_by_one {
        (any_goes_on(batch, op, &params)?, those_that_go_on(batch, op, &params)?)
    } else {
        (batch.function(op.cond, &params, &[false])?.0, batch.function(op.body, &params, &carried)?.0)
    };
    lanes(b, Op::While(While { cond, body, carried: op.carried, most: op.most.clone() }), &operands, &carried)
}

/// Whether the condition holds for any instance.
fn any_goes_on(batch: &mut Batch<'_>, op: &While, params: &[bool]) -> Result<FuncId, Diag> {
    let (mut cond, _) = batch.batched(op.cond, params, &[true])?;
    let holds = cond.results[0].value;
    let loc = cond.graph.loc(holds.node).clone();
    let any = Op::Reduce(Reduce { kind: ReduceKind::Max, axes: vec![0] });
    let any = Build::at(&mut cond.graph, &loc).add(any, &[holds])?;
    set_results(&mut cond, &[any]);
    let name = batch.module.function(op.cond).name.clone();
    Ok(add(batch.module, cond, &name, "vmap"))
}

/// The body, for those instances whose condition holds; the others keep what they carry.
fn those_that_go_on(batch: &mut Batch<'_>, op: &While, params: &[bool]) -> Result<FuncId, Diag> {
    let wanted = vec![true; op.carried];
    let (mut body, _) = batch.batched(op.body, params, &wanted)?;
    let before = param_values(&body);
    let given: Vec<Lane> = before.iter().zip(params).map(|(value, mapped)| Lane { value: *value, mapped: *mapped }).collect();
    let (name, cond) = (batch.module.function(op.body).name.clone(), batch.module.function(op.cond).clone());
    let holds = batch.body(&mut body.graph, &cond, &given, None)?[0];
    let mut kept = Vec::new();
    for (result, before) in body.results.clone().iter().zip(&before) {
        let loc = body.graph.loc(result.value.node).clone();
        kept.push(pick(&mut Build::at(&mut body.graph, &loc), holds.value, result.value, *before)?);
    }
    set_results(&mut body, &kept);
    Ok(add(batch.module, body, &name, "vmap"))
}

/// Every iteration takes one slice of all instances.
pub(super) fn scan(batch: &mut Batch<'_>, b: &mut Build<'_>, op: &Scan, args: &[Lane]) -> Result<Vec<Lane>, Diag> {
    let mut params = masks(args);
    let results = loop {
        let left = dependent(batch.module.function(op.body), &params);
        let next: Vec<bool> = params.iter().enumerate().map(|(place, own)| *own || (place < op.carried && left[place])).collect();
        if next == params {
            break left;
        }
        params = next;
    };
    let mut wanted = results;
    wanted[..op.carried].copy_from_slice(&params[..op.carried]);
    let mut operands = Vec::new();
    for (place, (arg, mapped)) in args.iter().zip(&params).enumerate() {
        let value = if *mapped { arg.whole(b, &batch.size)? } else { arg.value };
        let scanned = (op.carried..op.carried + op.scanned).contains(&place);
        operands.push(if *mapped && scanned { move_axis(b, value, 0, 1)? } else { value });
    }
    let (body, _) = batch.function(op.body, &params, &wanted)?;
    let types = batch.module.function(body).result_types();
    let stacks = types[op.carried..].iter().map(|ty| graver_ir::op::stack_of(&op.trip, ty));
    let results = types[..op.carried].iter().cloned().chain(stacks).collect();
    let given = lanes(b, Op::Scan(Scan { body, results, ..op.clone() }), &operands, &wanted)?;
    let mut moved = Vec::new();
    for (place, lane) in given.into_iter().enumerate() {
        let stacked = lane.mapped && place >= op.carried;
        moved.push(if stacked { Lane::mapped(move_axis(b, lane.value, 1, 0)?) } else { lane });
    }
    Ok(moved)
}

/// Which results depend on parameters that are marked.
fn dependent(function: &Function, params: &[bool]) -> Vec<bool> {
    let graph = &function.graph;
    let mut marked = vec![false; graph.bound()];
    for (param, mark) in function.params.iter().zip(params) {
        marked[param.node.index()] = *mark;
    }
    for node in graph.topo() {
        if graph.args(node).iter().any(|arg| marked[arg.node.index()]) {
            marked[node.index()] = true;
        }
    }
    function.results.iter().map(|result| marked[result.value.node.index()]).collect()
}

/// Whether a function, or one that it applies, holds an operation that can fail for what its operands hold.
fn may_fail(module: &Module, func: FuncId) -> bool {
    let function = module.function(func);
    let graph = &function.graph;
    graph.nodes().any(|node| {
        let integers = !graph.node(node).outs.iter().any(|ty| ty.dtype.is_float());
        match graph.op(node) {
            Op::Gather(_) | Op::Scatter(_) | Op::DynamicSlice(_) | Op::DynamicUpdate(_) => true,
            Op::Map(ScalarFn::Div | ScalarFn::Rem) => integers,
            op @ (Op::Call(_) | Op::If(_) | Op::While(_) | Op::Scan(_)) => {
                op.functions().into_iter().any(|func| may_fail(module, func))
            }
            Op::Map(_)
            | Op::Cast(_)
            | Op::Bitcast(_)
            | Op::Const(_)
            | Op::Size(_)
            | Op::Iota(_)
            | Op::Sort(_)
            | Op::Reshape(_)
            | Op::Permute(_)
            | Op::Broadcast(_)
            | Op::Slice(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Reverse(_)
            | Op::Reduce(_)
            | Op::ArgReduce(_)
            | Op::Prefix(_)
            | Op::Window(_)
            | Op::WindowArg(_)
            | Op::WindowTake(_)
            | Op::WindowPut(_)
            | Op::Dot(_)
            | Op::Conv(_)
            | Op::Philox(_)
            | Op::Param(_)
            | Op::Alias
            | Op::StopGradient
            | Op::Transform(_) => false,
        }
    })
}
