//! What two programs must share to be the same: a numbering of nodes that ids do not enter, equality, and a hash.
//!
//! Canonical order: parameters, then operands before users from the results on, then dead nodes, by what they compute.
//! Locations take no part in `==` and in [`structural_hash`]; [`Module::eq_with_locs`] compares them too.
//! The hash is the same from run to run and knows no random state; it is not kept in files, so it may change with versions.

use std::hash::{Hash, Hasher};

use crate::graph::{Graph, NodeId, Value};
use crate::location::Loc;
use crate::module::{FuncId, Function, Module};
use crate::op::Op;

/// A hash of everything that `==` compares: equal modules have equal hashes, in every run.
#[must_use]
pub fn structural_hash(module: &Module) -> u64 {
    let mut state = StableHasher::default();
    module.state.hash(&mut state);
    module.functions.len().hash(&mut state);
    for function in module.functions.values() {
        hash_function(module, function, &mut state);
    }
    state.finish()
}

impl PartialEq for Module {
    /// Whether both are the same program: names, roles, operations, types and sharing; not ids, not locations.
    fn eq(&self, other: &Self) -> bool {
        same(self, other, |_, _| true)
    }
}

impl Module {
    /// As `==`, and every node has the same location.
    #[must_use]
    pub fn eq_with_locs(&self, other: &Self) -> bool {
        same(self, other, |x, y| x == y)
    }

    /// The position of a function among those of its module.
    fn position(&self, id: FuncId) -> Option<usize> {
        self.functions.contains_key(&id).then(|| self.functions.range(..id).count())
    }
}

/// The nodes of a function in canonical order.
struct Canon {
    order: Vec<NodeId>,
    /// By node index, the position in `order`.
    place: Vec<usize>,
}

const UNSEEN: usize = usize::MAX;
const OPEN: usize = usize::MAX - 1;

impl Canon {
    fn of(function: &Function) -> Self {
        let graph = &function.graph;
        let mut canon = Self { order: Vec::with_capacity(graph.len()), place: vec![UNSEEN; graph.bound()] };
        for param in &function.params {
            canon.visit(graph, param.node);
        }
        for result in &function.results {
            canon.visit(graph, result.value.node);
        }
        if canon.order.len() < graph.len() {
            canon.visit_dead(graph);
        }
        canon
    }

    /// The node after its operands, unless it has its place. Without recursion: graphs are deep.
    fn visit(&mut self, graph: &Graph, root: NodeId) {
        let mut stack = Vec::new();
        self.enter(graph, root, &mut stack);
        while let Some((id, operands)) = stack.last_mut() {
            if let Some((_, value)) = operands.next() {
                self.enter(graph, value.node, &mut stack);
            } else {
                self.place[id.index()] = self.order.len();
                self.order.push(*id);
                stack.pop();
            }
        }
    }

    fn enter(&mut self, graph: &Graph, id: NodeId, stack: &mut Vec<(NodeId, std::vec::IntoIter<(u16, Value)>)>) {
        if graph.contains(id) && self.place[id.index()] == UNSEEN {
            self.place[id.index()] = OPEN;
            stack.push((id, graph.slots(id).into_iter()));
        }
    }

    /// Nodes that no result needs: roots in the order of what they compute, and last what only a cycle reaches.
    fn visit_dead(&mut self, graph: &Graph) {
        let values = value_hashes(graph);
        let unseen = |place: &[usize], id: NodeId| place[id.index()] == UNSEEN;
        let mut roots: Vec<NodeId> = graph.nodes().filter(|id| unseen(&self.place, *id) && graph.users(*id).is_empty()).collect();
        roots.sort_by_key(|id| (values[id.index()], *id));
        for root in roots {
            self.visit(graph, root);
        }
        for id in graph.nodes() {
            if unseen(&self.place, id) {
                self.visit(graph, id);
            }
        }
    }

    fn operands<'a>(&'a self, graph: &Graph, id: NodeId) -> impl Iterator<Item = (u16, usize, u16)> + 'a {
        graph.slots(id).into_iter().map(|(slot, value)| (slot, self.place[value.node.index()], value.out))
    }

    fn value(&self, value: Value) -> (usize, u16) {
        (self.place.get(value.node.index()).copied().unwrap_or(UNSEEN), value.out)
    }
}

/// By node index, a hash of the tree that ends in the node: what it computes, not what it shares.
fn value_hashes(graph: &Graph) -> Vec<u64> {
    let mut hashes = vec![0; graph.bound()];
    for id in graph.try_topo().unwrap_or_default() {
        let mut state = StableHasher::default();
        graph.op(id).hash(&mut state);
        for (slot, value) in graph.slots(id) {
            (slot, hashes[value.node.index()], value.out).hash(&mut state);
        }
        hashes[id.index()] = state.finish();
    }
    hashes
}

fn hash_function(module: &Module, function: &Function, state: &mut StableHasher) {
    let (graph, canon) = (&function.graph, Canon::of(function));
    (&function.name, canon.order.len(), function.params.len(), function.results.len()).hash(state);
    for id in &canon.order {
        hash_op(module, graph.op(*id), state);
        graph.node(*id).outs.hash(state);
        for operand in canon.operands(graph, *id) {
            operand.hash(state);
        }
    }
    for param in &function.params {
        (canon.value(param.node.into()), &param.role).hash(state);
    }
    for result in &function.results {
        (canon.value(result.value), result.sink).hash(state);
    }
}

/// Functions by their position.
fn hash_op(module: &Module, op: &Op, state: &mut StableHasher) {
    if op.functions().is_empty() { op.hash(state) } else { placed(module, op).hash(state) }
}

/// The operation with the position of every function for its id; one that there is not has the last number.
fn placed(module: &Module, op: &Op) -> Op {
    op.with_functions(|id| FuncId(module.position(id).and_then(|place| u32::try_from(place).ok()).unwrap_or(u32::MAX)))
}

fn same(x: &Module, y: &Module, same_loc: fn(&Loc, &Loc) -> bool) -> bool {
    let mut functions = x.functions.values().zip(y.functions.values());
    x.state == y.state
        && x.functions.len() == y.functions.len()
        && functions.all(|(f, g)| same_function((x, f), (y, g), same_loc))
}

fn same_function((x, f): (&Module, &Function), (y, g): (&Module, &Function), same_loc: fn(&Loc, &Loc) -> bool) -> bool {
    let (f_canon, g_canon) = (Canon::of(f), Canon::of(g));
    let same_node = |(m, n): (&NodeId, &NodeId)| {
        let (a, b) = (f.graph.node(*m), g.graph.node(*n));
        same_op((x, &a.op), (y, &b.op))
            && a.outs == b.outs
            && same_loc(&a.loc, &b.loc)
            && f_canon.operands(&f.graph, *m).eq(g_canon.operands(&g.graph, *n))
    };
    let params = |f: &Function, canon: &Canon| -> Vec<_> {
        f.params.iter().map(|param| (canon.value(param.node.into()), param.role.clone())).collect()
    };
    let results = |f: &Function, canon: &Canon| -> Vec<_> {
        f.results.iter().map(|result| (canon.value(result.value), result.sink)).collect()
    };
    f.name == g.name
        && f_canon.order.len() == g_canon.order.len()
        && f_canon.order.iter().zip(&g_canon.order).all(same_node)
        && params(f, &f_canon) == params(g, &g_canon)
        && results(f, &f_canon) == results(g, &g_canon)
}

fn same_op((x, a): (&Module, &Op), (y, b): (&Module, &Op)) -> bool {
    if a.functions().is_empty() { a == b } else { placed(x, a) == placed(y, b) }
}

/// A hasher without a seed: folded multiplication over words of eight bytes.
#[derive(Default)]
struct StableHasher(u64);

impl StableHasher {
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * u128::from(0xd6e8_feb8_6659_fd93_u64);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        self.0 = (low ^ high).wrapping_add(0x2545_f491_4f6c_dd1d);
    }
}

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ bytes.len() as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::module::{Role, Sink};
    use crate::scalar::ScalarFn;
    use crate::ty::Type;

    /// `y = (x + x) * (x + x)`; the sum once or twice, and `dead` nodes made and removed or kept.
    fn module(shared: bool, removed: usize, kept: &[ScalarFn]) -> Module {
        let mut f = Function::new("main");
        let add = |f: &mut Function, function, args: &[NodeId]| {
            let args: Vec<Value> = args.iter().map(|id| id.out(0)).collect();
            f.graph.add(Op::Map(function), &args, Loc::UNKNOWN).expect("scalars of one type")
        };
        let gaps: Vec<NodeId> =
            (0..removed).map(|_| f.graph.add(Op::Param(Type::scalar(DType::F32)), &[], Loc::UNKNOWN).expect("valid")).collect();
        let x = f.add_param(Type::scalar(DType::F32), Role::Arg("x".to_owned()), Loc::UNKNOWN);
        let one = add(&mut f, ScalarFn::Add, &[x, x]);
        for gap in gaps {
            f.graph.remove(gap);
        }
        let two = if shared { one } else { add(&mut f, ScalarFn::Add, &[x, x]) };
        for function in kept {
            add(&mut f, *function, &[x]);
        }
        let y = add(&mut f, ScalarFn::Mul, &[one, two]);
        f.add_result(y, Sink::Out);
        let mut module = Module::default();
        module.add(f);
        module
    }

    fn check(x: &Module, y: &Module, equal: bool) {
        assert_eq!(x == y, equal, "{x:?}\n{y:?}");
        assert_eq!(structural_hash(x) == structural_hash(y), equal);
    }

    #[test]
    fn ids_and_gaps_are_not_seen() {
        for removed in 1..4 {
            check(&module(true, 0, &[]), &module(true, removed, &[]), true);
            check(&module(false, 0, &[]), &module(false, removed, &[]), true);
        }
    }

    #[test]
    fn sharing_and_dead_nodes_are_seen() {
        use ScalarFn::{Exp, Neg};
        check(&module(true, 0, &[]), &module(false, 0, &[]), false);
        check(&module(true, 0, &[]), &module(true, 0, &[Neg]), false);
        check(&module(true, 0, &[Exp]), &module(true, 0, &[Neg]), false);
        check(&module(true, 0, &[Exp, Neg]), &module(true, 2, &[Neg, Exp]), true);
    }

    #[test]
    fn function_ids_and_locations_are_not_seen() {
        let x = module(true, 0, &[]);
        let mut y = x.clone();
        let moved = y.functions.remove(&FuncId(0)).expect("the only function");
        y.functions.insert(FuncId(7), moved);
        let function = y.function_mut(FuncId(7));
        let node = function.results[0].value.node;
        function.graph.set_loc(node, Loc::new(crate::Place { line: 3, ..Default::default() }));
        check(&x, &y, true);
        assert!(!x.eq_with_locs(&y));
        assert!(x.eq_with_locs(&x.clone()));
    }

    #[test]
    fn names_roles_and_state_are_seen() {
        let x = module(true, 0, &[]);
        let mut y = x.clone();
        y.function_mut(FuncId(0)).params[0].role = Role::Arg("z".to_owned());
        check(&x, &y, false);
        let mut y = x.clone();
        y.function_mut(FuncId(0)).name = "other".to_owned();
        check(&x, &y, false);
    }
}
