//! Regions to functions: what a region reads becomes its parameters, what others need of it its results.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::op::{Call, Composite};
use graver_ir::{FuncId, Function, Graph, Module, NodeId, Op, Param, Role, Sink, Value};

use super::partition::Partition;
use rustc_hash::FxHashMap;

use crate::blocks::is_block;
use crate::lower::name::name;

/// Whether the function holds nothing but parameters, arrays, control flow and calls of regions already.
pub(super) fn is_outlined(function: &Function) -> bool {
    let graph = &function.graph;
    // What a kernel is known for is a region's body, but no region.
    graph.nodes().all(|id| calls_region(graph.op(id)) || stays(graph.op(id)))
}

/// Whether the operation calls a region that was cut out before.
fn calls_region(op: &Op) -> bool {
    if let Op::Call(call) = op { call.tag == Some(Composite::Region) } else { false }
}

/// Whether the operation stands outside of regions.
fn stays(op: &Op) -> bool {
    matches!(op, Op::Param(_) | Op::Const(_) | Op::If(_) | Op::While(_) | Op::Scan(_)) || is_block(op)
}

/// Replaces the function by calls of its regions.
pub(super) fn outline(module: &mut Module, id: FuncId, partition: &Partition) {
    let old = std::mem::take(module.function_mut(id));
    let regions = Regions::of(&old, partition);
    let mut entry = Entry::of(&old);
    for region in regions.order(&old) {
        if let [node] = regions.nodes[&region][..]
            && stays(old.graph.op(node))
        {
            entry.control(&old, node);
            continue;
        }
        let outlined = regions.function(&old, region, module.functions.len());
        let args: Vec<Value> = outlined.reads.iter().map(|value| entry.value(&old, *value)).collect();
        let (results, loc) = (outlined.function.result_types(), outlined.loc);
        let func = module.add(outlined.function);
        let call = Call { func, tag: Some(Composite::Region), vjp: None, results };
        let node =
            entry.function.graph.add(Op::Call(call), &args, loc).expect("a call takes what its callee's parameters were made of");
        for (out, value) in (0u16..).zip(outlined.gives) {
            entry.values.insert(value, node.out(out));
        }
    }
    for result in &old.results {
        let value = entry.value(&old, result.value);
        entry.function.add_result(value, result.sink);
    }
    *module.function_mut(id) = entry.function;
}

/// The new body of the entry.
struct Entry {
    function: Function,
    /// What old values are. Looked up, never iterated.
    values: FxHashMap<Value, Value>,
}

impl Entry {
    fn of(old: &Function) -> Self {
        let mut entry = Self { function: Function::new(old.name.clone()), values: FxHashMap::default() };
        for param in &old.params {
            let node = entry.copy(&old.graph, param.node);
            entry.function.params.push(Param { node, role: param.role.clone() });
        }
        entry
    }

    /// A value of the old entry in the new one. Arrays come along when they are first needed.
    fn value(&mut self, old: &Function, value: Value) -> Value {
        match self.values.get(&value) {
            Some(new) => *new,
            None => self.copy(&old.graph, value.node).into(),
        }
    }

    /// Control flow over values that are all in memory.
    fn control(&mut self, old: &Function, id: NodeId) {
        let node = old.graph.node(id);
        let args: Vec<Value> = old.graph.args(id).into_iter().map(|arg| self.value(old, arg)).collect();
        let new = self.function.graph.add(node.op.clone(), &args, node.loc.clone()).expect("it was well typed before");
        for out in 0..u16::try_from(node.outs.len()).expect("I8: a node has fewer than 65536 results") {
            self.values.insert(id.out(out), new.out(out));
        }
    }

    fn copy(&mut self, old: &Graph, id: NodeId) -> NodeId {
        let node = old.node(id);
        assert!(matches!(node.op, Op::Param(_) | Op::Const(_)), "F1: {} is in a region", node.op.name());
        let new = self.function.graph.add(node.op.clone(), &[], node.loc.clone()).expect("it was well typed before");
        self.values.insert(id.into(), new.into());
        new
    }
}

/// What each region consists of and needs.
struct Regions<'a> {
    partition: &'a Partition,
    /// By region: its nodes after their operands.
    nodes: BTreeMap<usize, Vec<NodeId>>,
    /// By region: values of others that it reads.
    reads: BTreeMap<usize, BTreeSet<Value>>,
    /// By region: its values that are needed outside, ascending.
    gives: BTreeMap<usize, Vec<Value>>,
}

struct Outlined {
    function: Function,
    loc: graver_ir::Loc,
    /// What the parameters are, in the entry.
    reads: Vec<Value>,
    /// What the results are, in the entry.
    gives: Vec<Value>,
}

impl<'a> Regions<'a> {
    fn of(function: &Function, partition: &'a Partition) -> Self {
        let mut regions = Self { partition, nodes: BTreeMap::new(), reads: BTreeMap::new(), gives: BTreeMap::new() };
        for id in function.graph.topo() {
            if let Some(region) = partition.region(id) {
                regions.nodes.entry(region).or_default().push(id);
                let mut reads = BTreeSet::new();
                for arg in function.graph.args(id) {
                    partition.sources(&function.graph, region, arg, &mut reads);
                }
                let foreign = reads.into_iter().filter(|value| partition.region(value.node) != Some(region));
                regions.reads.entry(region).or_default().extend(foreign);
            }
        }
        let read = regions.reads.values().flatten().copied();
        let shared: BTreeSet<Value> = read.chain(function.results.iter().map(|result| result.value)).collect();
        for value in shared {
            if let Some(region) = partition.region(value.node) {
                regions.gives.entry(region).or_default().push(value);
            }
        }
        regions
    }

    /// Every region after those that it reads from; among the possible orders, the one of least first nodes.
    fn order(&self, function: &Function) -> Vec<usize> {
        let mut missing: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let mut users: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (region, reads) in &self.reads {
            let from: BTreeSet<usize> = reads.iter().filter_map(|value| self.partition.region(value.node)).collect();
            for producer in &from {
                users.entry(*producer).or_default().insert(*region);
            }
            missing.insert(*region, from);
        }
        let mut rank = vec![0; function.graph.bound()];
        function.graph.topo().into_iter().enumerate().for_each(|(place, id)| rank[id.index()] = place);
        let key = |region: usize| (rank[self.nodes[&region][0].index()], region);
        let mut ready: BTreeSet<(usize, usize)> =
            missing.iter().filter(|(_, from)| from.is_empty()).map(|(region, _)| key(*region)).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some((_, region)) = ready.pop_first() {
            order.push(region);
            for user in users.remove(&region).unwrap_or_default() {
                let from = missing.get_mut(&user).expect("every region has an entry");
                from.remove(&region);
                if from.is_empty() {
                    ready.insert(key(user));
                }
            }
        }
        assert_eq!(order.len(), self.nodes.len(), "F2: no region reads from one that reads from it");
        order
    }

    fn function(&self, old: &Function, region: usize, number: usize) -> Outlined {
        let gives = self.gives.get(&region).cloned().unwrap_or_default();
        let mut body = Body {
            partition: self.partition,
            old: &old.graph,
            region,
            function: Function::new(""),
            values: BTreeMap::new(),
            reads: Vec::new(),
        };
        for id in &self.nodes[&region] {
            body.node(*id);
        }
        for value in &gives {
            let new = body.values[value];
            body.function.add_result(new, Sink::Out);
        }
        body.function.name = format!("{}.{number}", name(&body.function.graph));
        let loc = gives.last().map_or(graver_ir::Loc::UNKNOWN, |value| old.graph.loc(value.node).clone());
        Outlined { function: body.function, loc, reads: body.reads, gives }
    }
}

/// The body of a region under construction.
struct Body<'a> {
    partition: &'a Partition,
    old: &'a Graph,
    region: usize,
    function: Function,
    values: BTreeMap<Value, Value>,
    reads: Vec<Value>,
}

impl Body<'_> {
    fn value(&mut self, value: Value) -> Value {
        if let Some(new) = self.values.get(&value) {
            return *new;
        }
        if self.partition.region(value.node) == Some(self.region) || self.partition.is_free(value.node) {
            self.node(value.node);
            return self.values[&value];
        }
        let loc = self.old.loc(value.node).clone();
        let name = format!("x{}", self.reads.len());
        let param = self.function.add_param(self.old.ty(value).clone(), Role::Arg(name), loc);
        self.reads.push(value);
        self.values.insert(value, param.into());
        param.into()
    }

    fn node(&mut self, id: NodeId) {
        if self.values.contains_key(&id.into()) {
            return;
        }
        let args: Vec<Value> = self.old.args(id).into_iter().map(|arg| self.value(arg)).collect();
        let node = self.old.node(id);
        let new = self.function.graph.add(node.op.clone(), &args, node.loc.clone()).expect("it was well typed before");
        for out in 0..u16::try_from(node.outs.len()).expect("I8: a node has fewer than 65536 results") {
            self.values.insert(id.out(out), new.out(out));
        }
    }
}
