//! Functions: parameters, calls and results. What control flow does with functions is in `loops`.

use std::cell::RefCell;
use std::rc::Rc;

use graver_ir::{Array, Diag, Error, FuncId, Function, Module, NodeId, Op, Role, Sink, Sizes, Type, Value, bind};

use super::{At, Outcome, Watch, apply, loops, sizes};
use crate::dense::Dense;
use crate::scalar::Precision;

/// What is the same for a whole evaluation.
pub(super) struct Cx<'a> {
    pub(super) module: &'a Module,
    state: &'a [Rc<Dense>],
    pub(super) sizes: Sizes,
    precision: Precision,
    /// Who sees every value, and may change it.
    watch: &'a dyn Watch,
    /// The iterations of loops around, outermost first.
    iterations: RefCell<Vec<usize>>,
}

impl Cx<'_> {
    /// Something in the iteration of this number of a loop.
    pub(super) fn in_iteration<R>(&self, number: usize, f: impl FnOnce() -> R) -> R {
        self.iterations.borrow_mut().push(number);
        let result = f();
        self.iterations.borrow_mut().pop();
        result
    }
}

/// A function over inputs and state from outside, both of which are checked.
pub(super) fn entry(
    module: &Module,
    func: FuncId,
    inputs: &[&Array],
    state: &[Array],
    precision: Precision,
    watch: &dyn Watch,
) -> Result<Outcome, Error> {
    let function = module.function(func);
    check_state(module, state, precision)?;
    let sizes = bind_inputs(function, inputs, precision)?;
    inputs.iter().copied().chain(state).try_for_each(|array| array.fetch().map(drop))?;
    let dense = |array: &Array, ty: &Type| Rc::new(Dense { dtype: ty.dtype, ..Dense::from_array(array) });
    let given = |array: &Array, ty: &Type, number: usize| {
        let mut value = dense(array, ty);
        watch.given(number, Rc::make_mut(&mut value), precision);
        value
    };
    let args: Vec<Rc<Dense>> =
        arg_types(function).iter().zip(inputs).enumerate().map(|(number, ((_, ty), input))| given(input, ty, number)).collect();
    let slots = module.state.iter().zip(state).enumerate();
    let state: Vec<Rc<Dense>> = slots.map(|(number, (decl, array))| given(array, &decl.ty, inputs.len() + number)).collect();
    let cx = Cx { module, state: &state, sizes, precision, watch, iterations: RefCell::default() };
    let results = call(&cx, function, &args)?;
    let mut outcome = Outcome { outputs: Vec::new(), updates: Vec::new() };
    for (result, value) in function.results.iter().zip(results) {
        let array = value.to_array(precision);
        match result.sink {
            Sink::Out => outcome.outputs.push(array),
            Sink::Update(id) => outcome.updates.push((id, array)),
        }
    }
    Ok(outcome)
}

/// Why an operation has no value without its function, or at all.
pub(super) fn not_alone(op: &Op) -> Diag {
    let message = if matches!(op, Op::Transform(_)) {
        "a derivative has no value before the grad pass has written it out; run the grad pass first"
    } else {
        "has a value in its function alone"
    };
    Diag::new(message).op(op.name())
}

/// Names and types of the parameters that the caller passes.
fn arg_types(function: &Function) -> Vec<(&str, &Type)> {
    let params = function.params.iter();
    params
        .filter_map(|param| match &param.role {
            Role::Arg(name) => Some((name.as_str(), function.graph.ty(param.node.into()))),
            Role::State(_) => None,
        })
        .collect()
}

fn bind_inputs(function: &Function, inputs: &[&Array], precision: Precision) -> Result<Sizes, Error> {
    let params = arg_types(function);
    let types: Vec<Type> = params.iter().zip(inputs).map(|((_, ty), input)| accepted(ty, input, precision)).collect();
    // Without a type for each there are not as many inputs as parameters, which `bind` reports.
    let types = params.iter().zip(types.iter().map(Some).chain(std::iter::repeat(None)));
    let params: Vec<(&str, &Type)> = types.map(|((name, ty), accepted)| (*name, accepted.unwrap_or(ty))).collect();
    bind(&params, inputs)
}

/// The type that an array must have: in the reference, any float will do where a float is declared.
fn accepted(ty: &Type, array: &Array, precision: Precision) -> Type {
    let any_float = precision == Precision::Reference && ty.dtype.is_float() && array.dtype().is_float();
    if any_float { ty.with_dtype(array.dtype()) } else { ty.clone() }
}

fn check_state(module: &Module, state: &[Array], precision: Precision) -> Result<(), Error> {
    if module.state.len() != state.len() {
        return Err(Error::new(format!("the state has {} slots, got {}", module.state.len(), state.len())));
    }
    let wrong = module.state.iter().zip(state).filter(|(decl, array)| array.ty() != accepted(&decl.ty, array, precision));
    let diags =
        wrong.map(|(decl, array)| Diag::new(format!("the state `{}` must be {}, got {}", decl.path, decl.ty, array.ty())));
    Error::from_diags(diags.collect()).map_or(Ok(()), Err)
}

/// The results of a function applied to arguments: one a parameter that is not state.
pub(super) fn call(cx: &Cx<'_>, function: &Function, args: &[Rc<Dense>]) -> Result<Vec<Rc<Dense>>, Diag> {
    let mut values = Values::new(function);
    let mut args = args.iter();
    for param in &function.params {
        let value = match &param.role {
            Role::Arg(_) => args.next().cloned().ok_or_else(|| Diag::new(format!("`{}` needs more operands", function.name)))?,
            Role::State(id) => Rc::clone(&cx.state[id.0 as usize]),
        };
        check_param(cx, function, param.node, &value)?;
        values.set(param.node, vec![value]);
    }
    for id in function.graph.topo() {
        if values.is_live(id) && !matches!(function.graph.op(id), Op::Param(_)) {
            let results = node(cx, function, id, &mut values).map_err(|diag| diag.at(function.graph.loc(id)))?;
            values.set(id, results);
        }
    }
    Ok(function.results.iter().map(|result| values.take(result.value)).collect())
}

/// A callee's parameters are written in the symbols of its caller.
fn check_param(cx: &Cx<'_>, function: &Function, param: NodeId, value: &Dense) -> Result<(), Diag> {
    let ty = function.graph.ty(param.into());
    let shape = sizes::shape(&ty.shape, &cx.sizes)?;
    if shape.as_const().as_ref() == Some(&value.shape) && ty.dtype == value.dtype {
        Ok(())
    } else {
        Err(Diag::new(format!("a parameter of `{}` is {}{shape}, the operand {}", function.name, ty.dtype, value.ty())))
    }
}

fn node(cx: &Cx<'_>, function: &Function, id: NodeId, values: &mut Values) -> Result<Vec<Rc<Dense>>, Diag> {
    let graph = &function.graph;
    let args: Vec<Rc<Dense>> = graph.args(id).into_iter().map(|arg| values.take(arg)).collect();
    if let Some(results) = loops::apply(cx, graph.op(id), &args) {
        return results.map_err(|diag| called_from(diag, graph.loc(id)));
    }
    let args: Vec<&Dense> = args.iter().map(Rc::as_ref).collect();
    let mut results = apply(graph.op(id), &args, &cx.sizes, cx.precision)?;
    let at = At { function: &function.name, node: id, op: graph.op(id), iterations: &cx.iterations.borrow() };
    cx.watch.computed(&at, &args, &mut results, cx.precision)?;
    Ok(results.into_iter().map(Rc::new).collect())
}

fn called_from(diag: Diag, loc: &graver_ir::Loc) -> Diag {
    Diag { loc: diag.loc.called_from(loc), ..diag }
}

/// The values of a function's nodes, each until its last use.
struct Values {
    of: Vec<Vec<Rc<Dense>>>,
    /// How often each node is still to be read, by live nodes and results.
    uses: Vec<usize>,
}

impl Values {
    fn new(function: &Function) -> Self {
        let graph = &function.graph;
        let mut uses = vec![0; graph.bound()];
        for result in &function.results {
            uses[result.value.node.index()] += 1;
        }
        // Users before their operands: a node is live if a live one reads it.
        for id in graph.topo().into_iter().rev() {
            if uses[id.index()] > 0 {
                graph.args(id).iter().for_each(|arg| uses[arg.node.index()] += 1);
            }
        }
        Self { of: vec![Vec::new(); graph.bound()], uses }
    }

    fn is_live(&self, id: NodeId) -> bool {
        self.uses[id.index()] > 0
    }

    fn set(&mut self, id: NodeId, values: Vec<Rc<Dense>>) {
        self.of[id.index()] = values;
    }

    fn take(&mut self, value: Value) -> Rc<Dense> {
        let node = value.node.index();
        let taken = Rc::clone(self.of[node].get(usize::from(value.out)).expect("I5: operands precede their users"));
        self.uses[node] -= 1;
        if self.uses[node] == 0 {
            self.of[node] = Vec::new();
        }
        taken
    }
}
