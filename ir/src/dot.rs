//! Modules as Graphviz text: `dot -Tsvg`. For looking at, not for reading back.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::graph::NodeId;
use crate::module::{Function, Module, Role, Sink};
use crate::op::Op;

/// The Graphviz text of a module: a cluster a function, a box a node with its types, an edge an operand.
#[must_use]
pub fn print(module: &Module) -> String {
    let mut text = String::from("digraph module {\n  node [shape=box, fontname=monospace];\n");
    for (position, function) in module.functions.values().enumerate() {
        cluster(module, function, position, &mut text).expect("writing to a string does not fail");
    }
    text.push_str("}\n");
    text
}

fn cluster(module: &Module, function: &Function, position: usize, text: &mut String) -> std::fmt::Result {
    writeln!(text, "  subgraph cluster_{position} {{\n    label={};", label(&function.name))?;
    let roles: BTreeMap<NodeId, &Role> = function.params.iter().map(|param| (param.node, &param.role)).collect();
    for id in function.graph.nodes() {
        let name = match roles.get(&id) {
            Some(Role::Arg(name)) => format!("arg {name}"),
            Some(Role::State(slot)) => format!("state {}", path(module, slot.0)),
            None => operation(module, function.graph.op(id)),
        };
        node(function, &name, (position, id), text)?;
    }
    for (at, result) in function.results.iter().enumerate() {
        let sink = match result.sink {
            Sink::Out => format!("result {at}"),
            Sink::Update(slot) => format!("update {}", path(module, slot.0)),
        };
        writeln!(text, "    f{position}_r{at} [label={}, shape=ellipse];", label(&sink))?;
        writeln!(text, "    f{position}_n{} -> f{position}_r{at}{};", result.value.node.index(), tail(result.value.out))?;
    }
    text.write_str("  }\n")
}

fn node(function: &Function, name: &str, (position, id): (usize, NodeId), text: &mut String) -> std::fmt::Result {
    let node = function.graph.node(id);
    let types: Vec<String> = node.outs.iter().map(ToString::to_string).collect();
    let index = id.index();
    writeln!(text, "    f{position}_n{index} [label={}];", label(&format!("{name}\n{}", types.join(", "))))?;
    for (slot, arg) in function.graph.slots(id) {
        writeln!(text, "    f{position}_n{} -> f{position}_n{index}{}; // operand {slot}", arg.node.index(), tail(arg.out))?;
    }
    Ok(())
}

/// The name, with those of the functions that it applies.
fn operation(module: &Module, op: &Op) -> String {
    let names = op.functions().into_iter().map(|id| module.functions.get(&id).map_or("?", |function| &function.name));
    let names: Vec<String> = names.map(|name| format!(" @{name}")).collect();
    format!("{}{}", op.name(), names.concat())
}

fn path(module: &Module, slot: u32) -> &str {
    module.state.get(slot as usize).map_or("?", |decl| &decl.path)
}

/// ` [taillabel="1"]` for results but the first.
fn tail(out: u16) -> String {
    if out == 0 { String::new() } else { format!(" [taillabel=\"{out}\"]") }
}

/// A quoted string of the Graphviz language.
fn label(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '\n' => quoted.push_str("\\n"),
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}
