//! Orders, operands, and what is done to many nodes at once.

use super::{Graph, NodeId, Use, Value};
use crate::dtype::{DType, Scalar};
use crate::location::Loc;
use crate::op::{Call, Op};
use crate::{Array, FuncId, ScalarFn, Type};

/// Sums whose operands come before or, after the same exchange of operands for later nodes, behind them.
fn shuffled(seed: usize) -> Graph {
    let mut graph = Graph::new();
    let mut nodes: Vec<NodeId> = Vec::new();
    let mut add = |op: Op, args: &[Value]| {
        let node = graph.add(op, args, Loc::UNKNOWN).expect("scalars of one type");
        nodes.push(node);
    };
    let number = Op::Const(Array::full([], Scalar::zero(DType::F32)));
    (0..8).for_each(|_| add(number.clone(), &[]));
    for at in 0..40 {
        let [x, y] = [seed * 7 + at * 5, seed * 3 + at * 11].map(|of| NodeId(u32::try_from(of % (8 + at)).expect("small")));
        add(Op::Map(ScalarFn::Add), &[x.into(), y.into()]);
    }
    // Numbers that come last, in the place of operands of the first.
    (0..8).for_each(|_| add(number.clone(), &[]));
    for at in 0..16u32 {
        graph.set_arg(Use { node: NodeId(8 + 2 * at), slot: 0 }, NodeId(48 + at % 8).into());
    }
    graph
}

#[test]
fn the_order_is_that_of_least_ids() {
    for seed in 0..20 {
        let graph = shuffled(seed);
        let mut order: Vec<NodeId> = Vec::new();
        while order.len() < graph.len() {
            let ready = |id: &NodeId| !order.contains(id) && graph.args(*id).iter().all(|arg| order.contains(&arg.node));
            order.push(graph.nodes().find(ready).expect("there is no cycle"));
        }
        assert!(!order.is_sorted(), "some node comes before one of a lesser id");
        assert_eq!(graph.topo(), order, "seed {seed}");
    }
}

#[test]
fn operands_are_in_the_order_of_their_slots() {
    let mut graph = Graph::new();
    let number = |graph: &mut Graph| {
        let number = Op::Const(Array::full([2], Scalar::zero(DType::F32)));
        Value::from(graph.add(number, &[], Loc::UNKNOWN).expect("numbers"))
    };
    let args: Vec<Value> = (0..6).map(|_| number(&mut graph)).collect();
    let node = graph.add(Op::Concat(0), &args, Loc::UNKNOWN).expect("they are alike");
    let mut wanted = args;
    // The edges come in another order each time.
    for slot in [3u16, 0, 5, 3] {
        let new = number(&mut graph);
        graph.set_arg(Use { node, slot }, new);
        wanted[usize::from(slot)] = new;
        assert_eq!(graph.args(node).as_slice(), wanted);
    }
}

/// What can be seen of a graph, and the ids that its next nodes get.
#[derive(Debug, PartialEq)]
struct Seen {
    nodes: Vec<(NodeId, Vec<Value>, Vec<Use>)>,
    order: Vec<NodeId>,
    next: Vec<NodeId>,
}

fn seen(graph: &mut Graph) -> Seen {
    let of = |id: NodeId| (id, graph.args(id).to_vec(), graph.users(id));
    let (nodes, order) = (graph.nodes().map(of).collect(), graph.topo());
    let number = Op::Const(Array::full([], Scalar::zero(DType::F32)));
    let next = (0..4).map(|_| graph.add(number.clone(), &[], Loc::UNKNOWN).expect("a number")).collect();
    Seen { nodes, order, next }
}

#[test]
fn many_nodes_go_as_one_after_another() {
    for seed in 0..20 {
        // Users first: a sixth of the nodes, and all but a few.
        for rest in [60, 3] {
            let graph = shuffled(seed);
            let mut order = graph.topo();
            order.reverse();
            let mut gone: Vec<NodeId> = Vec::new();
            for id in order {
                let free = graph.users(id).iter().all(|user| gone.contains(&user.node));
                if free && gone.len() + rest < graph.len() {
                    gone.push(id);
                }
            }
            let (mut one, mut all) = (graph.clone(), graph);
            gone.iter().for_each(|id| one.remove(*id));
            all.remove_all(&gone);
            assert_eq!(seen(&mut all), seen(&mut one), "seed {seed}, {} of them", gone.len());
        }
    }
}

#[test]
#[should_panic(expected = "I1: a node with users is not removed")]
fn many_nodes_with_users_stay() {
    let mut graph = shuffled(0);
    let used: Vec<NodeId> = graph.topo().into_iter().take(40).collect();
    graph.remove_all(&used);
}

#[test]
fn many_values_are_replaced_as_one_after_another() {
    for seed in 0..20 {
        let graph = shuffled(seed);
        let [olds, new] = [graph.nodes().take(7).collect::<Vec<_>>(), graph.nodes().skip(7).take(1).collect()];
        let pairs: Vec<(Value, Value)> = olds.into_iter().rev().map(|old| (old.into(), new[0].into())).collect();
        let (mut one, mut all) = (graph.clone(), graph);
        pairs.iter().for_each(|(old, new)| one.replace_uses(*old, *new));
        all.replace_all_uses(&pairs);
        assert_eq!(seen(&mut all), seen(&mut one), "seed {seed}");
    }
}

#[test]
fn results_of_one_node_are_replaced_each_by_its_own() {
    let mut graph = Graph::new();
    let mut add = |op: Op, args: &[Value]| graph.add(op, args, Loc::UNKNOWN).expect("scalars of one type");
    let number = Op::Const(Array::full([], Scalar::zero(DType::F32)));
    let new: [Value; 2] = [add(number.clone(), &[]).into(), add(number, &[]).into()];
    let results = vec![Type::scalar(DType::F32); 3];
    let call = add(Op::Call(Call { func: FuncId(1), tag: None, vjp: None, results }), &[]);
    let sums: Vec<NodeId> = (0..6).map(|at| add(Op::Map(ScalarFn::Add), &[call.out(at % 3), call.out(at / 2)])).collect();
    graph.replace_all_uses(&[(call.out(2), new[0]), (call.out(0), new[1])]);
    let now = |out: u16| [new[1], call.out(1), new[0]][usize::from(out)];
    for (at, sum) in (0..6).zip(sums) {
        assert_eq!(graph.args(sum).as_slice(), [now(at % 3), now(at / 2)]);
    }
}
