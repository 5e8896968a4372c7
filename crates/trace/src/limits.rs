//! What a program needs of a call's sizes beyond their declarations: what type inference could not tell for all sizes.
//!
//! Kernels assume it, so every call checks it before anything runs.

use graver_ir::{Array, Diag, Dim, Error, Function, Loc, Module, NodeId, Op, Role, Shape, Sizes, Type, bind};

/// One thing that must hold: `slack >= 0`, unless `count` is 0.
#[derive(Clone, Debug)]
struct Limit {
    slack: Dim,
    count: Option<Dim>,
    message: String,
    op: &'static str,
    loc: Loc,
}

/// What must hold of a call, and the parameters that sizes are read from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    params: Vec<(String, Type)>,
    limits: Vec<Limit>,
}

impl Limits {
    /// What a traced program needs. Nothing, where everything is proved.
    pub(crate) fn of(module: &Module) -> Self {
        let Some((_, main)) = module.entry() else { return Self::default() };
        let limits = module.functions.values().flat_map(limits_of).collect();
        Self { params: params_of(main), limits }
    }

    /// Checks a call's arrays.
    ///
    /// # Errors
    /// Everything that does not hold, with its line and the sizes; or arrays that do not fit at all.
    pub(crate) fn check(&self, inputs: &[&Array]) -> Result<(), Error> {
        if self.limits.is_empty() {
            return Ok(());
        }
        let params: Vec<(&str, &Type)> = self.params.iter().map(|(name, ty)| (name.as_str(), ty)).collect();
        let sizes = bind(&params, inputs)?;
        let diags = self.limits.iter().filter_map(|limit| limit.broken(&sizes)).collect();
        Error::from_diags(diags).map_or(Ok(()), Err)
    }
}

impl Limit {
    fn broken(&self, sizes: &Sizes) -> Option<Diag> {
        let holds = |dim: &Dim, least: i64| dim.eval(sizes).is_ok_and(|value| value >= least);
        let empty = self.count.as_ref().is_some_and(|count| !holds(count, 1));
        if empty || holds(&self.slack, 0) {
            return None;
        }
        let sizes: Vec<String> = sizes.iter().map(|(name, size)| format!("{name} = {size}")).collect();
        Some(Diag::new(format!("{} where {}", self.message, sizes.join(", "))).op(self.op).at(&self.loc))
    }
}

/// The caller's parameters with their names.
fn params_of(main: &Function) -> Vec<(String, Type)> {
    let argument = |param: &graver_ir::Param| match &param.role {
        Role::Arg(name) => Some((name.clone(), main.graph.ty(param.node.into()).clone())),
        Role::State(_) => None,
    };
    main.params.iter().filter_map(argument).collect()
}

fn limits_of(function: &Function) -> Vec<Limit> {
    function.graph.nodes().flat_map(|id| results(function, id).into_iter().chain(operands(function, id))).collect()
}

/// No result has a negative size.
fn results(function: &Function, id: NodeId) -> Vec<Limit> {
    let node = function.graph.node(id);
    let negative = |shape: &Shape| shape.iter().filter(|dim| !dim.is_nonneg()).cloned().collect::<Vec<Dim>>();
    let limit = |slack: Dim| {
        let message = format!("the size {slack} is negative");
        Limit { slack, count: None, message, op: node.op.name(), loc: node.loc.clone() }
    };
    node.outs.iter().flat_map(|ty| negative(&ty.shape)).map(limit).collect()
}

/// Ranges lie inside of their axes, and an extreme is one of something.
fn operands(function: &Function, id: NodeId) -> Vec<Limit> {
    let node = function.graph.node(id);
    let ty = |slot: usize| function.graph.ty(function.graph.args(id)[slot]);
    let limit = |slack: Dim, count: Option<Dim>, message: String| Limit {
        slack,
        count,
        message,
        op: node.op.name(),
        loc: node.loc.clone(),
    };
    if let Op::ArgReduce(arg) = &node.op {
        let size = &ty(0).shape[arg.axis];
        let some = limit(size - Dim::ONE, None, format!("axis {} of {} is empty", arg.axis, ty(0)));
        return if size.is_positive() { Vec::new() } else { vec![some] };
    }
    let Op::Slice(ranges) = &node.op else { return Vec::new() };
    let x = ty(0);
    let mut limits = Vec::new();
    for (axis, range) in ranges.iter().enumerate() {
        let last = &range.start + (&range.size - Dim::ONE) * Dim::from(range.step);
        let message =
            || format!("axis {axis} of {x}: {} elements from {} by {} do not lie inside", range.size, range.start, range.step);
        for slack in [range.start.clone(), &x.shape[axis] - Dim::ONE - last] {
            // `size - 1 - (size - 1)`: the whole axis is always inside.
            if !slack.is_nonneg() {
                limits.push(limit(slack, Some(range.size.clone()), message()));
            }
        }
    }
    limits
}
