//! Mistakes about control flow: the wrong function, the wrong order, the wrong slice, the wrong memory.

use graver_ir::dim::Atom;
use graver_ir::kernel::{Loop, Program, Step, Trip, View};
use graver_ir::op::{If, Scan, While};
use graver_ir::{Dim, Module, NodeId, Op, Value};

use super::graph::judge;
use super::{COMPILED, Compiled, Fault, all_are_caught};

const GRAPHS: &[Fault<Module>] = &[
    Fault { name: "a scan goes the other way", plant: |m| changed(m, other_way) },
    Fault { name: "the arms of a branch are exchanged", plant: |m| changed(m, other_arm) },
    Fault { name: "a loop ends an iteration early", plant: |m| changed(m, one_less) },
    Fault { name: "what is carried changes places", plant: |m| changed(m, carried_exchanged) },
];

const PROGRAMS: &[Fault<Program>] = &[
    Fault { name: "what a loop carries is not exchanged", plant: |p| in_loop(p, |of| of.carry.pop().is_some()) },
    Fault { name: "a loop makes an iteration less", plant: |p| in_loop(p, shorter) },
    Fault { name: "every slice is the first", plant: |p| in_loop(p, first_slice) },
    Fault { name: "a slice is the next", plant: |p| in_loop(p, next_slice) },
    Fault { name: "a step of an iteration is forgotten", plant: |p| in_loop(p, |of| of.body.pop().is_some()) },
    Fault { name: "the lists of a branch are exchanged", plant: lists_exchanged },
];

#[test]
fn faults_in_control_flow_are_caught() {
    all_are_caught(GRAPHS, &COMPILED, |compiled| &compiled.case.module, judge);
}

#[test]
fn faults_in_steps_are_caught() {
    all_are_caught(PROGRAMS, &COMPILED, |compiled| &compiled.program, Compiled::judge);
}

/// What a node becomes, if it is one that the fault is about.
type Change = fn(&Op, &[Value]) -> Option<(Op, Vec<Value>)>;

/// Gives the first node for which `change` answers another operation and other operands.
fn changed(module: &mut Module, change: Change) -> bool {
    module.functions.values_mut().any(|function| {
        let nodes: Vec<NodeId> = function.graph.topo();
        nodes.into_iter().any(|node| {
            let Some((op, args)) = change(function.graph.op(node), &function.graph.args(node)) else { return false };
            let (loc, count) = (function.graph.loc(node).clone(), function.graph.node(node).outs.len());
            let Ok(new) = function.graph.add(op, &args, loc) else { return false };
            if function.graph.node(new).outs != function.graph.node(node).outs {
                function.graph.remove(new);
                return false;
            }
            for out in 0..u16::try_from(count).expect("few results") {
                function.replace(node.out(out), new.out(out));
            }
            function.graph.remove(node);
            true
        })
    })
}

fn other_way(op: &Op, args: &[Value]) -> Option<(Op, Vec<Value>)> {
    let Op::Scan(op) = op else { return None };
    (!op.trip.is(1)).then(|| (Op::Scan(Scan { reverse: !op.reverse, ..op.clone() }), args.to_vec()))
}

fn other_arm(op: &Op, args: &[Value]) -> Option<(Op, Vec<Value>)> {
    let Op::If(op) = op else { return None };
    Some((Op::If(If { then: op.otherwise, otherwise: op.then, results: op.results.clone() }), args.to_vec()))
}

fn one_less(op: &Op, args: &[Value]) -> Option<(Op, Vec<Value>)> {
    let Op::While(op) = op else { return None };
    let most = op.most.as_ref().filter(|most| most.is_positive())?;
    Some((Op::While(While { most: Some(most - Dim::ONE), ..op.clone() }), args.to_vec()))
}

fn carried_exchanged(op: &Op, args: &[Value]) -> Option<(Op, Vec<Value>)> {
    let carried = if let Op::While(op) = op { op.carried } else { 0 };
    let mut args = args.to_vec();
    (carried > 1 && args[0] != args[1]).then(|| {
        args.swap(0, 1);
        (op.clone(), args)
    })
}

fn is_bounded(of: &Loop) -> bool {
    !matches!(of.trip, Trip::While { most: None, .. })
}

fn in_loop(program: &mut Program, plant: fn(&mut Loop) -> bool) -> bool {
    fn in_steps(steps: &mut [Step], plant: fn(&mut Loop) -> bool) -> bool {
        steps.iter_mut().any(|step| match step {
            Step::Launch(_) => false,
            Step::If(branch) => in_steps(&mut branch.then, plant) || in_steps(&mut branch.otherwise, plant),
            // A sick loop without a bound may never end.
            Step::Loop(of) => (is_bounded(of) && plant(of)) || in_steps(&mut of.body, plant),
        })
    }
    program.entries.iter_mut().any(|entry| in_steps(&mut entry.steps, plant))
}

fn shorter(of: &mut Loop) -> bool {
    let Trip::Times(trip) = &of.trip else { return false };
    let shorter = Trip::Times((trip - Dim::ONE).max_with(&Dim::ZERO));
    // A range that fits, so that the mistake is seen by what it does.
    let fits = shorter.counter(of.counter.name()) == of.counter;
    of.trip = shorter;
    fits
}

/// Sets the counter in the first offset that has it to this.
fn at_counter(of: &mut Loop, to: &dyn Fn(&Dim) -> Dim) -> bool {
    let counter = of.counter.clone();
    let views = of.body.iter_mut().filter_map(|step| if let Step::Launch(launch) = step { Some(&mut launch.args) } else { None });
    let mut counted = views.flatten().filter(|view: &&mut View| view.offset.symbols().contains(&counter));
    let Some(view) = counted.next() else { return false };
    let is_counter = |atom: &Atom| if let Atom::Sym(symbol) = atom { *symbol == counter } else { false };
    view.offset = view.offset.substitute(&|atom| is_counter(atom).then(|| to(&Dim::sym(&counter))));
    true
}

fn first_slice(of: &mut Loop) -> bool {
    at_counter(of, &|_| Dim::ZERO)
}

fn next_slice(of: &mut Loop) -> bool {
    at_counter(of, &|counter| counter + Dim::ONE)
}

fn lists_exchanged(program: &mut Program) -> bool {
    fn in_steps(steps: &mut [Step]) -> bool {
        steps.iter_mut().any(|step| match step {
            Step::Launch(_) => false,
            Step::If(branch) => {
                std::mem::swap(&mut branch.then, &mut branch.otherwise);
                true
            }
            Step::Loop(of) => in_steps(&mut of.body),
        })
    }
    program.entries.iter_mut().any(|entry| in_steps(&mut entry.steps))
}
