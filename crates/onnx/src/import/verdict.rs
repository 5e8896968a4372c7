//! What comes of the problems that an import met: whose fault they are, and which inputs would settle them.

use std::collections::BTreeSet;

use graver_ir::{Diag, Error, Function, Role, Value};

use super::Importer;
use crate::problem::{Failure, Problem};

impl Importer<'_> {
    /// Whether there are problems, and whose fault they are.
    pub(super) fn verdict(&mut self) -> std::result::Result<(), Failure> {
        let (mut invalid, mut unsupported, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        let mut inputs = BTreeSet::new();
        for problem in self.problems.drain(..) {
            match problem {
                Problem::Wrong(diag) => invalid.push(diag),
                Problem::Unsupported(diag) => unsupported.push(diag),
                Problem::Assume(symbol, dim) => invalid.push(Diag::new(format!("{} is not {dim}", symbol.name()))),
                Problem::Unknown(value, diag) => {
                    let from = origins(&self.builder.function, value);
                    if from.is_empty() {
                        unsupported.push(diag)
                    } else {
                        unknown.push(diag)
                    }
                    inputs.extend(from);
                }
            }
        }
        if !invalid.is_empty() {
            // Everything is told at once.
            invalid
                .extend(unsupported.into_iter().map(|diag| Diag { message: format!("not supported: {}", diag.message), ..diag }));
            unsupported = Vec::new();
        }
        if let Some(error) = Error::from_diags(invalid) {
            return Err(Failure::Invalid(error));
        }
        if let Some(error) = Error::from_diags(unsupported) {
            return Err(Failure::Unsupported(error));
        }
        match Error::from_diags(unknown) {
            Some(error) => Err(Failure::Undetermined { inputs: inputs.into_iter().collect(), error }),
            None => Ok(()),
        }
    }
}

/// The names of the arguments that a value depends on.
fn origins(function: &Function, value: Value) -> BTreeSet<String> {
    let (mut seen, mut stack) = (vec![false; function.graph.bound()], vec![value.node]);
    while let Some(node) = stack.pop() {
        if !std::mem::replace(&mut seen[node.index()], true) {
            stack.extend(function.graph.args(node).iter().map(|arg| arg.node));
        }
    }
    let named = |param: &graver_ir::Param| match &param.role {
        Role::Arg(name) if seen[param.node.index()] => Some(name.clone()),
        Role::Arg(_) | Role::State(_) => None,
    };
    function.params.iter().filter_map(named).collect()
}
