//! Where a function repeats itself: its operations as a sequence of labels, and stretches of it that agree with themselves
//! some places later.

use std::collections::BTreeMap;

use graver_ir::{DType, FuncId, Function, Graph, Loc, Module, NodeId, Op, Place, Role, StateKind, Type};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::places;

/// The operations of a function that may go to blocks, operands before users, and what they look like from outside.
pub(super) struct Sequence {
    pub(super) nodes: Vec<NodeId>,
    /// Equal for equal operations. `None`: in no block.
    pub(super) labels: Vec<Option<u32>>,
    /// The number of operations before each place, those of functions that are called counted with them; at the end, of all.
    before: Vec<usize>,
}

impl Sequence {
    /// The operations of a stretch.
    fn size(&self, start: usize, length: usize) -> usize {
        self.before[start + length] - self.before[start]
    }
}

/// Copies of so many operations, one behind another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) period: usize,
    pub(super) count: usize,
}

/// What makes two operations look alike, lines by number. Never iterated over, so a hash map's order is not seen.
type Key<'a> = (What<'a>, &'a [Type], usize, SmallVec<[Option<u32>; 4]>);

#[derive(PartialEq, Eq, Hash)]
enum What<'a> {
    /// A number, whichever.
    Number(DType),
    Op(&'a Op),
}

/// File, line, column, and the module path without numbers; of a node of a model file, which has a line and a name of its own, the file alone.
/// Callers behind.
type Line<'a> = Vec<(&'a str, u32, u32, String)>;

/// The sequence of a function.
pub(super) fn sequence(module: &Module, id: FuncId) -> Sequence {
    let function = module.function(id);
    let graph = &function.graph;
    let once = once(module, function);
    let nodes = graph.topo().into_iter().filter(|node| !is_given(graph, *node) && !once[node.index()]);
    let nodes: Vec<NodeId> = nodes.collect();
    let slots = slots(module, function);
    let (mut known, mut lines): (FxHashMap<Key<'_>, u32>, Lines<'_>) = (FxHashMap::default(), Lines::default());
    let mut label = |node: &NodeId| {
        let what = what(graph.op(*node))?;
        let slots = graph.args(*node).iter().map(|arg| slots[arg.node.index()]).collect();
        let next = u32::try_from(known.len()).expect("fewer than 2^32 operations");
        Some(*known.entry((what, &graph.node(*node).outs, lines.number(graph.loc(*node)), slots)).or_insert(next))
    };
    let labels = nodes.iter().map(&mut label).collect();
    let size = |node: &NodeId| {
        let Op::Call(call) = graph.op(*node) else { return 1 };
        module.function(call.func).graph.nodes().count()
    };
    let sums = nodes.iter().scan(0, |sum, node| {
        *sum += size(node);
        Some(*sum)
    });
    let before = std::iter::once(0).chain(sums).collect();
    Sequence { nodes, labels, before }
}

/// Whether a node is there without computing, an array, a parameter or its other name: it is never in a block, and always an operand.
fn is_given(graph: &Graph, node: NodeId) -> bool {
    if let Op::Const(array) = graph.op(node) {
        return !array.shape().is_empty();
    }
    let is_param = |node: NodeId| matches!(graph.op(node), Op::Param(_));
    let is_alias = matches!(graph.op(node), Op::Alias);
    is_param(node) || (is_alias && graph.args(node).iter().all(|arg| is_param(arg.node)))
}

/// Scalars of what a call is given, and of the state that is no layer's own: a step's rate. They are in no block, whose copies all read them,
/// nor are the numbers that are there for them alone.
fn once(module: &Module, function: &Function) -> Vec<bool> {
    let graph = &function.graph;
    let mut once = vec![false; graph.bound()];
    for param in &function.params {
        let is_layers = matches!(param.role, Role::State(id) if module.state_decl(id).kind == StateKind::Param);
        once[param.node.index()] = !is_layers && graph.ty(param.node.into()).rank() == 0;
    }
    let is_number = |node: NodeId| matches!(graph.op(node), Op::Const(_));
    for node in graph.topo() {
        let args = graph.args(node);
        let scalar = graph.node(node).outs.iter().all(|ty| ty.rank() == 0);
        let known = args.iter().all(|arg| once[arg.node.index()] || is_number(arg.node));
        once[node.index()] |= scalar && known && args.iter().any(|arg| once[arg.node.index()]);
    }
    let numbers: Vec<NodeId> = graph.nodes().filter(|node| is_number(*node) && graph.has_users(*node)).collect();
    for number in numbers {
        once[number.index()] = graph.users(number).iter().all(|user| once[user.node.index()]);
    }
    once
}

/// Derivatives name values of the function around them; convolutions belong to chains.
fn what(op: &Op) -> Option<What<'_>> {
    if let Op::Const(array) = op {
        return Some(What::Number(array.dtype()));
    }
    let stays = matches!(op, Op::Alias | Op::Transform(_) | Op::Conv(_));
    (!stays).then_some(What::Op(op))
}

/// By node, the paths of state without numbers, each a number of its own, of parameters and of their other names: they tell where a layer of
/// the model begins.
fn slots(module: &Module, function: &Function) -> Vec<Option<u32>> {
    let (mut slots, mut known) = (vec![None; function.graph.bound()], FxHashMap::default());
    for param in &function.params {
        if let Role::State(id) = param.role {
            let next = u32::try_from(known.len()).expect("fewer than 2^32 parameters");
            let number = *known.entry(without_numbers(&module.state_decl(id).path)).or_insert(next);
            let users = function.graph.users(param.node).into_iter().map(|user| user.node);
            let names = users.filter(|user| matches!(function.graph.op(*user), Op::Alias));
            names.chain([param.node]).for_each(|node| slots[node.index()] = Some(number));
        }
    }
    slots
}

fn without_numbers(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    path.split('.').filter(|part| !is_number(part)).collect::<Vec<_>>().join(".")
}

/// Lines by number, and of the places that were asked for.
#[derive(Default)]
struct Lines<'a> {
    numbers: FxHashMap<Line<'a>, usize>,
    /// Many operations have one place.
    places: FxHashMap<*const Place, usize>,
}

impl<'a> Lines<'a> {
    fn number(&mut self, loc: &'a Loc) -> usize {
        let next = self.numbers.len();
        let place = loc.place().map_or(std::ptr::null(), std::ptr::from_ref);
        *self.places.entry(place).or_insert_with(|| *self.numbers.entry(line(loc)).or_insert(next))
    }
}

fn line(loc: &Loc) -> Line<'_> {
    let chain = std::iter::successors(loc.place(), |place| place.caller.place());
    let part = |place: &'_ Place| {
        if places::is_node(place) { (0, 0, String::new()) } else { (place.line, place.column, without_numbers(&place.scope)) }
    };
    let line = |place| {
        let (line, column, scope) = part(place);
        (place.file.as_str(), line, column, scope)
    };
    chain.map(line).collect()
}

/// The least operations that are worth a block: as many as a small layer.
const SMALLEST: usize = 12;
/// The fewest copies.
pub(super) const FEWEST: usize = 3;
/// The fewest operations that fewer copies must save.
const LEAST_SAVED: usize = 128;
/// So many operations in a row tell one place from another.
const WORD: usize = 6;
/// The most distances that are looked at.
const DISTANCES: usize = 16;

/// The stretches that repeat themselves, none meeting another, in order; where several would, the one that saves the most.
pub(super) fn runs(sequence: &Sequence) -> Vec<Run> {
    let labels = &sequence.labels;
    let mut all: Vec<Run> = distances(sequence).into_iter().flat_map(|distance| stretches(sequence, distance)).collect();
    all.sort_by_key(|run| (std::cmp::Reverse(saved(sequence, run)), run.period, run.start));
    let (mut taken, mut chosen) = (vec![false; labels.len()], Vec::new());
    for run in all {
        let places = run.start..run.start + run.count * run.period;
        if !taken[places.clone()].contains(&true) {
            taken[places].fill(true);
            chosen.push(run);
        }
    }
    chosen.sort_by_key(|run| run.start);
    chosen
}

/// The operations that are kept once instead of several times.
fn saved(sequence: &Sequence, run: &Run) -> usize {
    (run.count - 1) * sequence.size(run.start, run.period)
}

/// The distances at which words come again, the most frequent first.
fn distances(sequence: &Sequence) -> Vec<usize> {
    let mut last: FxHashMap<&[Option<u32>], usize> = FxHashMap::default();
    let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
    for (place, word) in sequence.labels.windows(WORD).enumerate().filter(|(_, word)| !word.contains(&None)) {
        if let Some(before) = last.insert(word, place)
            && sequence.size(before, place - before) >= SMALLEST
        {
            *votes.entry(place - before).or_default() += 1;
        }
    }
    let mut found: Vec<(usize, usize)> = votes.into_iter().collect();
    found.sort_by_key(|(distance, votes)| (std::cmp::Reverse(*votes), *distance));
    found.into_iter().map(|(distance, _)| distance).take(DISTANCES).collect()
}

/// The stretches that agree with what comes a distance later.
fn stretches(sequence: &Sequence, distance: usize) -> Vec<Run> {
    let labels = &sequence.labels;
    let (mut found, mut start) = (Vec::new(), 0);
    let ends = labels.len().saturating_sub(distance);
    for place in 0..=ends {
        let agrees = place < ends && labels[place].is_some() && labels[place] == labels[place + distance];
        if !agrees {
            let run = Run { start, period: distance, count: (place - start) / distance + 1 };
            // What repeats itself inside of a copy is a run of its own, unless it is too small for one.
            if run.count >= FEWEST
                && sequence.size(start, distance) >= SMALLEST
                && saved(sequence, &run) >= LEAST_SAVED
                && is_primitive(&labels[start..start + distance])
            {
                found.push(run);
            }
            start = place + 1;
        }
    }
    found
}

/// Whether a word is no repetition of a shorter one.
fn is_primitive(word: &[Option<u32>]) -> bool {
    let repeats = |part: usize| word.len().is_multiple_of(part) && word.iter().zip(&word[part..]).all(|(x, y)| x == y);
    !(1..=word.len() / 2).any(repeats)
}
