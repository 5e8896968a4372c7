//! From a decoded model to a module: what is imported and how, the values that are given, the results.

mod frame;
mod nodes;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use graver_ir::{Array, Diag, Dim, Function, Loc, Module, NodeId, Op, Sink, Symbol, Value};

use crate::build::Builder;
use crate::external::External;
use crate::ops::sparse::dense;
use crate::problem::{Failure, Problem, Result, wrong};
use crate::proto::{FunctionProto, GraphProto, ModelProto, OperatorSetIdProto};
use crate::tensor;

pub(crate) use frame::{Frame, Outcome, Slot, Stopped, operands, slots};

/// The deepest nesting of functions and branches.
pub(crate) const MAX_DEPTH: usize = 32;
/// The newest version of the format.
const NEWEST: i64 = 14;
/// The most sizes that are taken as equal or bounded.
const MAX_ASSUMED: usize = 64;

/// How a model is imported.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The name of the model in messages: its file.
    pub name: String,
    /// The folder where external data may lie: the model's own. Without it external data is refused. Its files are mapped, and must not
    /// change as long as the module lives, or what is compiled of it.
    pub folder: Option<PathBuf>,
    /// Shapes of inputs: numbers instead of symbols, and shapes for inputs that declare none.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values of inputs, which become constants and are no arguments any more.
    pub values: BTreeMap<String, Array>,
    /// Inputs that are arguments though they have an initializer: a call gives another value. Other names are of no matter.
    pub replaced: BTreeSet<String>,
    /// What inputs that are sequences or optional values hold; without it they are refused.
    pub forms: BTreeMap<String, Form>,
}

/// An imported model.
#[derive(Debug)]
pub struct Imported {
    /// The verified module; its entry is the model's graph.
    pub module: Module,
    /// For each argument of the entry, what it is of the model's inputs.
    pub inputs: Vec<Origin>,
    /// What the model's outputs are: each has as many of the entry's results as its form says.
    pub outputs: Vec<Form>,
}

/// Which input an argument is, or is an element of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The place among the model's inputs.
    pub input: usize,
    /// The place in the sequence that the input is.
    pub item: Option<usize>,
}

/// What an input or output holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing: an optional value that is not there.
    Absent,
    /// A tensor.
    Tensor,
    /// A sequence of so many tensors. As inputs they are called by the sequence's name and their place, `x.0`.
    Sequence(usize),
}

impl Form {
    /// How many tensors it is.
    #[must_use]
    pub const fn tensors(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Tensor => 1,
            Self::Sequence(count) => count,
        }
    }
}

/// Imports a model.
///
/// # Errors
/// What is wrong with the model, or with this importer.
pub fn import(model: &ModelProto, options: &Options) -> std::result::Result<Imported, Failure> {
    let Some(graph) = &model.graph else { return Err(Diag::new("a model without a graph").into()) };
    if model.ir_version > NEWEST {
        let what = format!("version {} of the format; {NEWEST} is the newest that is known", model.ir_version);
        return Err(Failure::Unsupported(Diag::new(what).into()));
    }
    let opsets = opsets(&model.opset_import)?;
    let mut assumed = Vec::new();
    loop {
        let mut importer = Importer::new(model, options, &assumed);
        importer.run(graph, opsets.clone())?;
        match importer.assumption.take() {
            None => return importer.finish(),
            Some(_) if assumed.len() == MAX_ASSUMED => {
                return Err(Diag::new(format!("more than {MAX_ASSUMED} sizes must be taken as equal")).into());
            }
            Some(assumption) => assumed.push(assumption),
        }
    }
}

/// A symbol and what takes its place everywhere: another size that it must equal, or the same symbol with a lesser bound.
pub(crate) type Assumption = (Symbol, Dim);

pub(crate) struct Importer<'a> {
    pub(crate) builder: Builder,
    pub(crate) options: &'a Options,
    external: External,
    /// The version of the format.
    pub(crate) version: i64,
    functions: BTreeMap<(&'a str, &'a str, &'a str), &'a FunctionProto>,
    pub(crate) assumed: &'a [Assumption],
    /// Why the import must begin again.
    pub(crate) assumption: Option<Assumption>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) lists: Vec<Vec<Value>>,
    /// How many elements these have together.
    pub(crate) listed: usize,
    nodes: usize,
    pub(crate) inputs: Vec<Origin>,
    outputs: Vec<Form>,
}

/// The version of each domain's operators, which is one.
fn opsets(imports: &[OperatorSetIdProto]) -> std::result::Result<BTreeMap<String, i64>, Diag> {
    let mut versions = BTreeMap::new();
    for set in imports {
        let before = versions.insert(domain(&set.domain).to_owned(), set.version);
        if let Some(before) = before.filter(|before| *before != set.version) {
            return Err(Diag::new(format!(
                "the operators of `{}` are imported in versions {before} and {}",
                set.domain, set.version
            )));
        }
    }
    Ok(versions)
}

/// The standard domain has two names.
fn domain(name: &str) -> &str {
    if name == "ai.onnx" { "" } else { name }
}

impl<'a> Importer<'a> {
    fn new(model: &'a ModelProto, options: &'a Options, assumed: &'a [Assumption]) -> Self {
        let key = |f: &'a FunctionProto| (domain(&f.domain), f.name.as_str(), f.overload.as_str());
        Self {
            builder: Builder::new(),
            options,
            external: External::new(options.folder.clone()),
            version: model.ir_version,
            functions: model.functions.iter().map(|function| (key(function), function)).collect(),
            assumed,
            assumption: None,
            problems: Vec::new(),
            lists: Vec::new(),
            listed: 0,
            nodes: 0,
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    fn run(&mut self, graph: &GraphProto, opsets: BTreeMap<String, i64>) -> std::result::Result<(), Failure> {
        let mut frame = Frame { scopes: vec![BTreeMap::new()], opsets, caller: Loc::UNKNOWN, name: String::new(), depth: 0 };
        let replaced = |name: &str| {
            let another = self.options.replaced.contains(name) || self.options.values.contains_key(name);
            another && self.is_input(graph, name)
        };
        let replaced: BTreeSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name.as_str()).filter(|name| replaced(name)).collect();
        self.initializers(graph, &replaced, &mut frame);
        self.arguments(graph, &mut frame);
        self.walk(&graph.node, &mut frame);
        self.builder.loc = Loc::UNKNOWN;
        if self.assumption.is_some() {
            return Ok(());
        }
        self.results(graph, &frame);
        self.verdict()
    }

    fn finish(mut self) -> std::result::Result<Imported, Failure> {
        prune(&mut self.builder.function);
        self.builder.module.functions.values_mut().for_each(prune);
        let Some((entry, _)) = self.builder.module.entry() else { return Err(Diag::new("a module without an entry").into()) };
        *self.builder.module.function_mut(entry) = self.builder.function;
        graver_ir::verify(&self.builder.module).map_err(Failure::Invalid)?;
        Ok(Imported { module: self.builder.module, inputs: self.inputs, outputs: self.outputs })
    }

    /// The value, or a recorded problem.
    pub(crate) fn slot(&mut self, value: Result<Value>, what: &str) -> Slot {
        match value {
            Ok(value) => Slot::Value(value),
            Err(problem) => {
                self.problems.push(problem.map(|diag| Diag { message: format!("{what}: {}", diag.message), ..diag }));
                Slot::Broken
            }
        }
    }

    // ---- names

    /// Gives initializers their names, but for those that are replaced.
    pub(crate) fn initializers(&mut self, graph: &GraphProto, replaced: &BTreeSet<&str>, frame: &mut Frame) {
        for tensor in graph.initializer.iter().filter(|tensor| !replaced.contains(tensor.name.as_str())) {
            let value = tensor::coded(tensor, &self.external).and_then(|(array, format)| self.builder.stored(array, format));
            let value = if frame.has(&tensor.name) { wrong("it is there twice") } else { value };
            let slot = self.slot(value, &format!("the initializer `{}`", tensor.name));
            frame.define(&tensor.name, slot);
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
            let value = dense(&mut self.builder, sparse, &self.external);
            let value = if frame.has(name) { wrong("it is there twice") } else { value };
            let slot = self.slot(value, &format!("the initializer `{name}`"));
            frame.define(name, slot);
        }
    }

    fn results(&mut self, graph: &GraphProto, frame: &Frame) {
        for output in &graph.output {
            match frame.find(&output.name) {
                Some(Slot::Value(value)) => {
                    if let Err(problem) = self.as_declared(output, value) {
                        self.slot(Err(problem), &format!("the output `{}`", output.name));
                    }
                    self.builder.function.add_result(value, Sink::Out);
                    self.outputs.push(Form::Tensor);
                }
                Some(Slot::List(list)) => {
                    let items = &self.lists[list];
                    items.iter().for_each(|item| self.builder.function.add_result(*item, Sink::Out));
                    self.outputs.push(Form::Sequence(items.len()));
                }
                Some(Slot::Absent) => self.outputs.push(Form::Absent),
                Some(Slot::Broken) if !self.problems.is_empty() => {}
                Some(Slot::Broken) | None => {
                    self.slot(wrong("no node computes it"), &format!("the output `{}`", output.name));
                }
            }
        }
    }
}

/// Removes what no result needs; arguments stay.
fn prune(function: &mut Function) {
    let mut order: Vec<NodeId> = function.graph.topo();
    order.reverse();
    let mut results = vec![false; function.graph.bound()];
    function.results.iter().for_each(|result| results[result.value.node.index()] = true);
    for node in order {
        if !results[node.index()] && !matches!(function.graph.op(node), Op::Param(_)) && !function.graph.has_users(node) {
            function.graph.remove(node);
        }
    }
}
