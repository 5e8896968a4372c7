//! The walk over nodes: each is translated where it is, or is a function of the model, inlined.

use std::cell::RefCell;
use std::collections::BTreeMap;

use graver_ir::{Diag, Loc, Place, Value};

use super::frame::{Frame, Outcome, Slot, Stopped, operands, slots};
use super::{Importer, MAX_DEPTH, domain, opsets};
use crate::control::Flow;
use crate::format;
use crate::node::Node;
use crate::ops;
use crate::problem::{Problem, Result, wrong};
use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};
use crate::sequence::OnSequence;

/// The most nodes, those of functions counted at every call.
const MAX_NODES: usize = 1 << 18;
/// The most problems that are listed.
const MAX_PROBLEMS: usize = 64;
impl Importer<'_> {
    pub(crate) fn walk(&mut self, nodes: &[NodeProto], frame: &mut Frame) {
        for (position, proto) in nodes.iter().enumerate() {
            self.nodes += 1;
            if self.assumption.is_some() {
                return;
            }
            if self.nodes > MAX_NODES || self.problems.len() >= MAX_PROBLEMS {
                self.problems.push(Problem::Wrong(Diag::new(format!("more than {MAX_NODES} nodes or {MAX_PROBLEMS} problems"))));
                return;
            }
            let loc = self.place(proto, position, frame);
            self.builder.loc = loc.clone();
            let slots = self.node(proto, frame).unwrap_or_else(|stopped| {
                match stopped {
                    Stopped::Here(Problem::Assume(symbol, dim)) => self.assumption = Some((symbol, dim)),
                    Stopped::Here(problem) => self.problems.push(problem.map(|diag| diag.op(&proto.op_type).at(&loc))),
                    Stopped::Before => {}
                }
                Vec::new()
            });
            for (place, name) in proto.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                if frame.has(name) {
                    self.problems.push(self.twice(name, &nodes[..position], frame, &loc));
                }
                frame.define(name, slots.get(place).copied().unwrap_or(Slot::Broken));
            }
        }
    }

    /// What is said of a value that has a node, or is given, before.
    fn twice(&self, name: &str, before: &[NodeProto], frame: &Frame, loc: &Loc) -> Problem {
        let first = before.iter().position(|node| node.output.iter().any(|output| output == name));
        let first = first.map_or_else(
            || "it is given, or another output of this node".to_owned(),
            |position| format!("one at {}", self.place(&before[position], position, frame)),
        );
        Problem::Wrong(Diag::new(format!("`{name}` has two values: {first}, and here")).at(loc))
    }

    /// `model.onnx:7:1 (Gather /embeddings/Gather)`: the node's number, its operation and its name.
    fn place(&self, proto: &NodeProto, position: usize, frame: &Frame) -> Loc {
        let name = if proto.name.is_empty() { proto.output.first().map_or("", String::as_str) } else { &proto.name };
        let inside = if frame.name.is_empty() { String::new() } else { format!("{}: ", frame.name) };
        let line = u32::try_from(position + 1).unwrap_or(u32::MAX);
        let (file, scope) = (self.options.name.clone(), format!("{inside}{} {name}", proto.op_type));
        Loc::new(Place { file, line, column: 1, scope, caller: frame.caller.clone() })
    }

    fn node(&mut self, proto: &NodeProto, frame: &mut Frame) -> Outcome {
        let domain = domain(&proto.domain);
        let key = (domain, proto.op_type.as_str(), proto.overload.as_str());
        if let Some(function) = self.functions.get(&key).copied() {
            // What a function does not support is told even where its operands have problems.
            let broken = proto.input.iter().any(|name| matches!(frame.find(name), Some(Slot::Broken)));
            let args = if broken { vec![Slot::Broken; proto.input.len()] } else { slots(proto, frame)? };
            return Ok(self.call(function, proto, &args, frame)?);
        }
        if let Some(flow) = Flow::of(domain, &proto.op_type) {
            return self.flow(flow, proto, frame);
        }
        if let Some(op) = OnSequence::of(domain, &proto.op_type) {
            let slots = slots(proto, frame)?;
            return self.sequence(op, proto, &slots, frame);
        }
        if proto.op_type == "Identity"
            && let [slot @ (Slot::List(_) | Slot::Absent)] = slots(proto, frame)?.as_slice()
        {
            return Ok(vec![*slot]);
        }
        let Some(version) = frame.opsets.get(domain).copied() else {
            return Err(Problem::Wrong(Diag::new(format!("the model does not import the operators of `{domain}`"))).into());
        };
        // An unknown operation is told even where its operands have problems, so that all are listed at once.
        let translate = ops::find(domain, &proto.op_type, version)?;
        let args = operands(proto, frame)?;
        let format = format::through(&self.builder, &proto.op_type, &args)?;
        let mut node = self.spelled(proto, &args, version);
        let results = translate.run(&mut node);
        // What follows from an attribute that is not what it must be is not of interest.
        node.well_typed()?;
        let results = results?;
        if let Some(format) = format {
            results.iter().for_each(|result| self.builder.mark(*result, format));
        }
        Ok(results.into_iter().map(Slot::Value).collect())
    }

    /// What a translation sees of a node.
    pub(crate) fn spelled<'n>(&'n mut self, proto: &'n NodeProto, args: &'n [Option<Value>], version: i64) -> Node<'n> {
        Node { b: &mut self.builder, proto, args, version, external: &self.external, mistyped: RefCell::default() }
    }

    /// A function of the model, inlined.
    fn call(&mut self, function: &FunctionProto, proto: &NodeProto, args: &[Slot], frame: &Frame) -> Result<Vec<Slot>> {
        if frame.depth >= MAX_DEPTH {
            return wrong(format!("functions nest deeper than {MAX_DEPTH}, or call themselves"));
        }
        let mut attributes: BTreeMap<String, AttributeProto> = BTreeMap::new();
        for attribute in function.attribute_proto.iter().chain(&proto.attribute) {
            attributes.insert(attribute.name.clone(), attribute.clone());
        }
        let slot = |place: usize| args.get(place).copied().unwrap_or(Slot::Absent);
        let scope = function.input.iter().enumerate().map(|(place, name)| (name.clone(), slot(place))).collect();
        let caller = self.builder.loc.clone();
        let mut inner = Frame {
            scopes: vec![scope],
            opsets: opsets(&function.opset_import)?,
            caller,
            name: function.name.clone(),
            depth: frame.depth + 1,
        };
        self.walk(&resolved(&function.node, &attributes), &mut inner);
        Ok(function.output.iter().map(|name| inner.find(name).unwrap_or(Slot::Broken)).collect())
    }
}

/// A function's nodes with the attributes of its call in place of their names.
fn resolved(nodes: &[NodeProto], attributes: &BTreeMap<String, AttributeProto>) -> Vec<NodeProto> {
    let attribute = |attribute: &AttributeProto| {
        if !attribute.ref_attr_name.is_empty() {
            let given = attributes.get(&attribute.ref_attr_name)?.clone();
            return Some(AttributeProto { name: attribute.name.clone(), ..given });
        }
        let inside = |graph: &GraphProto| GraphProto { node: resolved(&graph.node, attributes), ..graph.clone() };
        Some(AttributeProto { g: attribute.g.as_ref().map(inside), ..attribute.clone() })
    };
    let node = |node: &NodeProto| NodeProto { attribute: node.attribute.iter().filter_map(attribute).collect(), ..node.clone() };
    nodes.iter().map(node).collect()
}
