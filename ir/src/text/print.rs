//! Modules to text.

use std::collections::BTreeSet;

use super::value::{Printer, Value as _};
use super::{VERSION, attrs};
use crate::dim::Symbol;
use crate::graph::{NodeId, Value};
use crate::location::Loc;
use crate::module::{Function, Module, Param, Role, Sink, StateDecl, StateId};
use crate::name::{Name, Quoted};
use crate::verify::symbols_of;

/// The text of a module, with the user's lines.
#[must_use]
pub fn print(module: &Module) -> String {
    text(module, true)
}

/// The text of a module without the user's lines: shorter, and the same for `==` modules of the same node order.
#[must_use]
pub fn print_without_locs(module: &Module) -> String {
    text(module, false)
}

fn text(module: &Module, locs: bool) -> String {
    let mut out = Printer::new(Some(module));
    out.put(format_args!("graver {VERSION}\n"));
    symbols(symbols_of(module), &mut out);
    states(&module.state, &mut out);
    for function in module.functions.values() {
        out.put("\n");
        Body::new(module, function, locs).print(&mut out);
    }
    out.text
}

/// `sym batch: 0..=4294967296 multiple 8`
pub(crate) fn symbols(symbols: Vec<Symbol>, out: &mut Printer<'_>) {
    if !symbols.is_empty() {
        out.put("\n");
    }
    for symbol in symbols {
        let decl = symbol.decl();
        out.put(format_args!("sym {symbol}: {}..={}", decl.lo, decl.hi));
        if decl.multiple != 1 {
            out.put(format_args!(" multiple {}", decl.multiple));
        }
        out.put("\n");
    }
}

/// `state "fc.weight": f32[10, 784] param`
pub(crate) fn states(decls: &[StateDecl], out: &mut Printer<'_>) {
    if !decls.is_empty() {
        out.put("\n");
    }
    for decl in decls {
        out.put(format_args!("state {}: {} {}\n", Quoted(&decl.path), decl.ty, decl.kind.name()));
    }
}

/// The path of a slot; one that there is not is `?7`, which does not parse.
fn slot(module: &Module, id: StateId, out: &mut Printer<'_>) {
    match module.state.get(id.0 as usize) {
        Some(decl) => out.put(Quoted(&decl.path)),
        None => out.put(format_args!("?{}", id.0)),
    }
}

/// ` loc("src/main.rs":4:5 "encoder.0", "src/lib.rs":7:1)`: callers follow.
pub(crate) fn loc(loc: &Loc, out: &mut Printer<'_>) {
    if loc.place().is_none() {
        return;
    }
    out.put(" loc(");
    let chain = std::iter::successors(loc.place(), |place| place.caller.place());
    out.list(chain, |out, place| {
        out.put(format_args!("{}:{}:{}", Quoted(&place.file), place.line, place.column));
        if !place.scope.is_empty() {
            out.put(format_args!(" {}", Quoted(&place.scope)));
        }
    });
    out.put(")");
}

/// A function as it is printed.
struct Body<'a> {
    module: &'a Module,
    function: &'a Function,
    locs: bool,
    /// Every node but the parameters, operands before users.
    order: Vec<NodeId>,
    /// By node index, the number of its first result.
    first: Vec<usize>,
}

impl<'a> Body<'a> {
    fn new(module: &'a Module, function: &'a Function, locs: bool) -> Self {
        let graph = &function.graph;
        let params: BTreeSet<NodeId> = function.params.iter().map(|param| param.node).collect();
        let order = graph.try_topo().unwrap_or_else(|| graph.nodes().collect());
        let order: Vec<NodeId> = order.into_iter().filter(|id| !params.contains(id)).collect();
        let mut first = vec![usize::MAX; graph.bound()];
        let mut next = 0;
        for id in function.params.iter().map(|param| &param.node).chain(&order).filter(|id| graph.contains(**id)) {
            first[id.index()] = next;
            next += graph.node(*id).outs.len();
        }
        Self { module, function, locs, order, first }
    }

    fn print(&self, out: &mut Printer<'_>) {
        out.put(format_args!("func @{}(", Name(&self.function.name)));
        for param in &self.function.params {
            out.put("\n  ");
            self.param(param, out);
            out.put(",");
        }
        out.put(if self.function.params.is_empty() { ") {\n" } else { "\n) {\n" });
        for id in &self.order {
            self.node(*id, out);
        }
        self.results(out);
        out.put("}\n");
    }

    /// `%0: f32[batch, 784] = arg "images"`
    fn param(&self, param: &Param, out: &mut Printer<'_>) {
        self.value(param.node.into(), out);
        if let Some(node) = self.function.graph.contains(param.node).then(|| self.function.graph.node(param.node)) {
            out.put(": ");
            out.list(&node.outs, |out, ty| ty.print(out));
        }
        match &param.role {
            Role::Arg(name) => out.put(format_args!(" = arg {}", Quoted(name))),
            Role::State(id) => {
                out.put(" = state ");
                slot(self.module, *id, out);
            }
        }
        if self.locs && self.function.graph.contains(param.node) {
            loc(self.function.graph.loc(param.node), out);
        }
    }

    /// `%2 = add(%0, %1) : f32[batch, 784]`
    fn node(&self, id: NodeId, out: &mut Printer<'_>) {
        let node = self.function.graph.node(id);
        out.put("  ");
        out.list(0..node.outs.len(), |out, result| out.put(format_args!("%{}", self.first[id.index()] + result)));
        out.put(if node.outs.is_empty() { "_ = " } else { " = " });
        out.put(format_args!("{}(", node.op.name()));
        out.list(self.function.graph.slots(id), |out, (_, value)| self.value(value, out));
        out.put(")");
        attrs::print(&node.op, out);
        if !node.outs.is_empty() {
            out.put(" : ");
            out.list(&node.outs, |out, ty| ty.print(out));
        }
        if self.locs {
            loc(&node.loc, out);
        }
        out.put("\n");
    }

    /// `return %5, update "fc.weight" = %6`
    fn results(&self, out: &mut Printer<'_>) {
        out.put("  return");
        for (position, result) in self.function.results.iter().enumerate() {
            out.put(if position == 0 { " " } else { ", " });
            if let Sink::Update(id) = result.sink {
                out.put("update ");
                slot(self.module, id, out);
                out.put(" = ");
            }
            self.value(result.value, out);
        }
        out.put("\n");
    }

    /// `%3`; a value that there is not is `%?`, which does not parse.
    fn value(&self, value: Value, out: &mut Printer<'_>) {
        match self.first.get(value.node.index()).filter(|first| **first != usize::MAX) {
            Some(first) => out.put(format_args!("%{}", first + usize::from(value.out))),
            None => out.put("%?"),
        }
    }
}
