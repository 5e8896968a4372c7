//! Bodies: a node's graph as a function of the module, or as if its nodes stood where the node does.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::{Diag, FuncId, Type, Value};

use super::Flowed;
use crate::build::Outer;
use crate::import::{Frame, Importer, MAX_DEPTH, Outcome, Slot, Stopped};
use crate::known::Known;
use crate::problem::{Problem, Result, unsupported, wrong};
use crate::proto::{GraphProto, NodeProto, ValueInfoProto};

/// Values of the surrounding function that a body uses, by name.
pub(super) type Captured = Vec<(String, Value)>;

/// What a body's name stands for where it is built.
pub(super) struct Param {
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) known: Option<Known>,
}

/// A body under construction, with the values of its parameters and of the graph's outputs.
pub(super) struct Body {
    pub(super) outer: Outer,
    pub(super) params: Vec<Value>,
    pub(super) outputs: Vec<Value>,
}

impl Importer<'_> {
    /// Records what is not supported in the graphs of a node whose operands have problems; nothing comes of it.
    pub(super) fn surveyed(&mut self, proto: &NodeProto, frame: &Frame) -> Outcome {
        for graph in proto.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            let outside = free(graph, MAX_DEPTH)?.into_iter().filter(|name| frame.find(name).is_some());
            let inside = graph.input.iter().map(|input| input.name.clone());
            let mut inner = inner(frame);
            inner.scopes.push(inside.chain(outside).map(|name| (name, Slot::Broken)).collect());
            let outer = self.builder.begin("survey");
            inner.scopes.push(BTreeMap::new());
            self.initializers(graph, &BTreeSet::new(), &mut inner);
            self.walk(&graph.node, &mut inner);
            self.builder.abandon(outer);
        }
        Err(Stopped::Before)
    }

    /// The values of these names outside, each once, and what is known of them.
    pub(super) fn captured(&self, names: &BTreeSet<String>, frame: &Frame) -> Result<Captured> {
        let value = |name: &String| match frame.find(name) {
            Some(Slot::Value(value)) => Some(Ok((name.clone(), value))),
            Some(Slot::List(_)) => Some(unsupported("a sequence in a body that is no part of the program around it")),
            Some(Slot::Absent | Slot::Broken) | None => None,
        };
        names.iter().filter_map(value).collect()
    }

    /// Bodies have no operands whose elements are codes.
    pub(super) fn plain<'v>(&self, values: impl IntoIterator<Item = &'v Value>) -> Result<()> {
        match values.into_iter().find_map(|x| self.builder.format(*x)) {
            Some(format) => unsupported(format!("elements of {} in a body", format.name)),
            None => Ok(()),
        }
    }

    pub(super) fn param(&self, name: &str, x: Value) -> Param {
        Param { name: name.to_owned(), ty: self.builder.ty(x).clone(), known: None }
    }

    /// Builds a graph as a function of these parameters and of what is captured. Constants are known inside too.
    pub(super) fn body(
        &mut self,
        graph: &GraphProto,
        name: &str,
        params: Vec<Param>,
        captured: &Captured,
        frame: &Frame,
    ) -> Flowed<Body> {
        self.plain(captured.iter().map(|(_, x)| x))?;
        let closed: Vec<Param> =
            captured.iter().map(|(name, x)| Param { known: self.builder.known(*x).cloned(), ..self.param(name, *x) }).collect();
        let outer = self.builder.begin(name);
        let problems = self.problems.len();
        let mut inner = inner(frame);
        let mut values = Vec::new();
        for param in params.into_iter().chain(closed) {
            let value = match self.builder.param(param.ty, &param.name) {
                Ok(value) => value,
                Err(problem) => {
                    self.builder.abandon(outer);
                    return Err(problem.into());
                }
            };
            values.push(value);
            let seen = match param.known {
                Some(Known::Array(array)) => self.builder.constant(array)?,
                Some(known) => {
                    self.builder.know(value, known);
                    value
                }
                None => value,
            };
            inner.define(&param.name, Slot::Value(seen));
        }
        self.initializers(graph, &BTreeSet::new(), &mut inner);
        self.walk(&graph.node, &mut inner);
        if graph.output.iter().any(|output| matches!(inner.find(&output.name), Some(Slot::List(_) | Slot::Absent))) {
            self.builder.abandon(outer);
            return Err(Problem::Unsupported(Diag::new("a sequence or an optional value as a body's result")).into());
        }
        let output = |output: &ValueInfoProto| match inner.find(&output.name) {
            Some(Slot::Value(value)) => Some(value),
            Some(Slot::List(_) | Slot::Absent | Slot::Broken) | None => None,
        };
        let outputs: Option<Vec<Value>> = graph.output.iter().map(output).collect();
        // Values of a body that is gone cannot be asked for.
        for problem in &mut self.problems[problems..] {
            if let Problem::Unknown(_, diag) = problem {
                *problem = Problem::Unsupported(diag.clone());
            }
        }
        match outputs {
            Some(outputs) => Ok(Body { outer, params: values, outputs }),
            None => {
                self.builder.abandon(outer);
                Err(Stopped::Before)
            }
        }
    }

    /// Ends a body; its function and the types of its results.
    pub(super) fn finished(&mut self, body: Body, results: &[Value]) -> (FuncId, Vec<Type>) {
        let func = self.builder.end(body.outer, results);
        (func, self.builder.module.function(func).result_types())
    }

    pub(super) fn types(&self, values: &[Value]) -> Vec<Type> {
        values.iter().map(|x| self.builder.ty(*x).clone()).collect()
    }

    /// Whether a value is known to be true.
    pub(super) fn holds(&self, condition: Value) -> bool {
        self.builder.known(condition).and_then(Known::array).is_some_and(|array| array.numel() == 1 && !array.get(0).is_zero())
    }

    /// A graph's nodes as if they stood here.
    pub(crate) fn inlined(&mut self, graph: &GraphProto, frame: &mut Frame) -> Vec<Slot> {
        frame.depth += 1;
        frame.scopes.push(BTreeMap::new());
        self.initializers(graph, &BTreeSet::new(), frame);
        self.walk(&graph.node, frame);
        let slots = graph.output.iter().map(|output| frame.find(&output.name).unwrap_or(Slot::Broken)).collect();
        frame.scopes.pop();
        frame.depth -= 1;
        slots
    }
}

/// The names that a graph uses and does not define.
pub(super) fn free(graph: &GraphProto, depth: usize) -> Result<BTreeSet<String>> {
    let Some(depth) = depth.checked_sub(1) else { return wrong(format!("graphs nest deeper than {MAX_DEPTH}")) };
    let mut defined: BTreeSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    defined.extend(graph.initializer.iter().map(|tensor| tensor.name.as_str()));
    defined.extend(graph.sparse_initializer.iter().filter_map(|sparse| Some(sparse.values.as_ref()?.name.as_str())));
    let mut used = BTreeSet::new();
    for node in &graph.node {
        let mut wanted: BTreeSet<String> = node.input.iter().cloned().collect();
        for inner in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            wanted.extend(free(inner, depth)?);
        }
        used.extend(wanted.into_iter().filter(|name| !name.is_empty() && !defined.contains(name.as_str())));
        defined.extend(node.output.iter().map(String::as_str));
    }
    used.extend(graph.output.iter().map(|output| output.name.clone()).filter(|name| !defined.contains(name.as_str())));
    Ok(used)
}

/// What a body's nodes see before it has names.
fn inner(frame: &Frame) -> Frame {
    Frame {
        scopes: vec![BTreeMap::new()],
        opsets: frame.opsets.clone(),
        caller: frame.caller.clone(),
        name: frame.name.clone(),
        depth: frame.depth + 1,
    }
}

pub(super) fn values(captured: &Captured) -> impl Iterator<Item = Value> + '_ {
    captured.iter().map(|(_, value)| *value)
}
