//! Which two regions may become one: a producer and a consumer of its values, or two that read the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use graver_ir::{DType, Dim, Graph, NodeId, Op, Value};

use super::class::{Class, class, combines_first, is_cheap, operand_space, random_axes, reads_once, result, space};
use super::facts::{Facts, Read};
use super::group::{Group, Kind};
use super::reach::reaches;
use super::relation::{is_affine, is_identity, is_prefix, is_random, permutation, repeats};

/// Zeros between elements at most for windows to meet them by remainders.
const FARTHEST: i64 = 3;

/// Why two neighbours are two kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Both are contractions, attentions, scatters, sorts, prefixes or windows.
    OneCoreEach,
    /// Reductions that keep different axes.
    OtherRows,
    /// Values are read at other places than where they are computed, and others need them too.
    ReadElsewhere,
    /// Others need it too.
    Shared,
    /// It would be computed several times.
    Recomputed,
    /// A contraction, an attention or a sort reads its operands many times.
    Operand,
    /// A position that is known at run time only.
    RunTimePosition,
    /// Another kernel in between needs one and feeds the other.
    Between,
    /// A kernel has at most so many ops.
    TooLarge,
    /// The target's contractions take no maps.
    NoEpilogue,
    /// What control flow takes and gives is in memory.
    Control,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneCoreEach => "a kernel has one contraction, attention, scatter, sort, prefix or kind of window",
            Self::OtherRows => "reductions of one kernel keep the same leading axes",
            Self::ReadElsewhere => "it is read at other places than where it is computed, and needed elsewhere too",
            Self::Shared => "it is needed elsewhere too",
            Self::Recomputed => "fusing would compute it several times",
            Self::Operand => {
                "a contraction, an attention or a sort reads its operands many times: they are computed once, before"
            }
            Self::RunTimePosition => "it is read at positions that are known at run time only",
            Self::Between => "another kernel between them needs one and feeds the other",
            Self::TooLarge => "the kernel would be too large",
            Self::Control => "what control flow takes and gives is in memory",
            Self::NoEpilogue => "the target's contractions take no further ops",
        })
    }
}

/// Why the producer and the consumer are two, whatever one reads of the other.
pub(super) fn apart(p: &Group, c: &Group) -> Option<Refusal> {
    if p.tail && c.kind != Kind::Move {
        return Some(Refusal::ReadElsewhere);
    }
    [p.kind, c.kind].contains(&Kind::Control).then_some(Refusal::Control)
}

/// The producer and the consumer as one region, if they are not [`apart`]; `reads` are all reads of the producer by the consumer.
pub(super) fn vertical(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read], private: bool) -> Result<Group, Refusal> {
    let merged = by_kind(facts, p, c, reads, private)?;
    if all_reached(facts, &merged) { Ok(merged) } else { Err(Refusal::RunTimePosition) }
}

/// Whether what a gather of the region picks can be had at one position: what lies behind what it reads may have joined the region later.
fn all_reached(facts: &Facts<'_>, merged: &Group) -> bool {
    let graph = facts.graph();
    let inside = |id: NodeId| merged.nodes.binary_search(&id).is_ok() || facts.free[id.index()];
    merged
        .nodes
        .iter()
        .all(|id| random_axes(graph, *id).is_none_or(|random| reaches(graph, graph.args(*id)[0], &random, &|node| !inside(node))))
}

fn by_kind(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read], private: bool) -> Result<Group, Refusal> {
    match (p.kind, c.kind) {
        (Kind::Control, _) | (_, Kind::Control) => Err(Refusal::Control),
        (_, Kind::Sort | Kind::Attend) => Err(Refusal::Operand),
        // One result is stored, of one shape.
        (Kind::Sort | Kind::Prefix, Kind::Move) if private => reshaped(facts, p, c, reads),
        (Kind::Sort | Kind::Prefix | Kind::Attend, _) => Err(Refusal::OneCoreEach),
        (Kind::Map, Kind::Prefix) if !private => Err(Refusal::Shared),
        (Kind::Map, Kind::Prefix) => inlined(facts, p, c, reads, private),
        (Kind::Contract, Kind::Map) => epilogue(facts, p, c, reads),
        (Kind::Contract, Kind::Move) => tail_of_sum(facts, p, c, reads),
        (Kind::Map, Kind::Contract) => into_contraction(facts, p, c, reads, private),
        (Kind::Map, Kind::Scatter) if private && reads.iter().all(|read| !is_random(&read.relation)) => Ok(joined(p, c, c)),
        (Kind::Map | Kind::Row | Kind::Window | Kind::Column, Kind::Move) => tail(facts, p, c, reads),
        (Kind::Map, Kind::Map | Kind::Row | Kind::Column | Kind::Window) => maps(facts, p, c, reads, private),
        (Kind::Row, Kind::Map) if reads.iter().any(|read| p.across.contains(&read.source.node)) => sums(facts, p, c, reads),
        (Kind::Row, Kind::Map | Kind::Row) => rows(facts, p, c, reads),
        (Kind::Row, Kind::Column) => over_rows(facts, p, c, reads),
        (Kind::Column, Kind::Map) => results(facts, p, c, reads, p.kept),
        (Kind::Window, Kind::Map) => results(facts, p, c, reads, p.full.len()),
        (Kind::Map, Kind::Scatter) => Err(Refusal::ReadElsewhere),
        (Kind::Column | Kind::Window, Kind::Row | Kind::Column) => Err(Refusal::OtherRows),
        (Kind::Row | Kind::Column | Kind::Window, Kind::Contract | Kind::Scatter) => Err(Refusal::Operand),
        (Kind::Contract | Kind::Scatter | Kind::Row | Kind::Column | Kind::Window, _) | (Kind::Move, _) => {
            Err(Refusal::OneCoreEach)
        }
    }
}

/// Two regions that reduce what they both read over the same axes.
pub(super) fn horizontal(facts: &Facts<'_>, x: &Group, y: &Group) -> Option<Group> {
    let sums = [(x, y), (y, x)].into_iter().find(|(rows, sums)| !rows.across.is_empty() && sums.kind == Kind::Column);
    if let Some((rows, sums)) = sums {
        return beside_rows(facts, rows, sums);
    }
    let alike = x.kind == y.kind && matches!(x.kind, Kind::Column | Kind::Window) && x.full == y.full && x.kept == y.kept;
    alike.then(|| joined(x, y, x))
}

/// Rows, and what is combined over them, as one region, if all that is combined is: over the axes that rows keep, with few sums of each.
/// Sizes tell the axes apart.
fn beside_rows(facts: &Facts<'_>, rows: &Group, sums: &Group) -> Option<Group> {
    let graph = facts.graph();
    let (kept, reduced) = rows.full.split_at(rows.kept);
    let bytes = reduced.iter().product::<Dim>() * Dim::from(DType::F32.size());
    let apart = !kept.is_empty() && kept.iter().all(|size| !reduced.contains(size));
    let combined = || sums.nodes.iter().filter(|id| class(graph, **id) == Class::Reduce);
    let fits = rows.full == sums.full && apart && bytes.nominal() <= facts.across_bytes;
    if !fits || sums.tail || !combined().all(|id| combines_first(graph, *id, rows.kept)) {
        return None;
    }
    let across: Vec<NodeId> = sums.nodes.iter().copied().filter(|id| !sums.is_full(facts, *id)).collect();
    let maps: Vec<NodeId> = across.iter().copied().filter(|id| class(graph, *id) != Class::Reduce).collect();
    let mut merged = joined(rows, sums, rows);
    merged.across.extend(across);
    may_follow(facts, rows, &maps).then_some(merged)
}

/// Whether maps over what is combined may be in the kernel of the rows: as the update of a parameter does, they may write their result in the place of what
/// they read. Rows must not read that too, nor fail, as what looks for a run-time position may: then the state is as it was.
fn may_follow(facts: &Facts<'_>, rows: &Group, maps: &[NodeId]) -> bool {
    let fails = rows.nodes.iter().any(|id| random_axes(facts.graph(), *id).is_some());
    let sources = |id: &NodeId| facts.reads[id.index()].iter().map(|read| read.source);
    let read: BTreeSet<Value> = rows.nodes.iter().flat_map(sources).filter(|source| !rows.nodes.contains(&source.node)).collect();
    maps.is_empty() || !fails && maps.iter().flat_map(sources).all(|source| !read.contains(&source))
}

/// What rows compute, combined over the rows.
fn over_rows(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read]) -> Result<Group, Refusal> {
    let merged = beside_rows(facts, p, c).ok_or(Refusal::OtherRows)?;
    aligned(facts, p, reads).map(|()| merged)
}

/// Maps over what was combined over rows.
fn sums(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read]) -> Result<Group, Refusal> {
    if !reads.iter().all(|read| p.across.contains(&read.source.node)) || !may_follow(facts, p, &c.nodes) {
        return Err(Refusal::ReadElsewhere);
    }
    let mut merged = results(facts, p, c, reads, p.full.len() - p.kept)?;
    merged.across.extend(&c.nodes);
    Ok(merged)
}

/// The nodes of both, in a region that is otherwise like `like`.
fn joined(p: &Group, c: &Group, like: &Group) -> Group {
    let mut nodes: Vec<NodeId> = p.nodes.iter().chain(&c.nodes).copied().collect();
    nodes.sort_unstable();
    let places = p.places.iter().chain(&c.places).map(|(id, place)| (*id, place.clone())).collect();
    let across = p.across.union(&c.across).copied().collect();
    Group { nodes, places, across, tail: p.tail || c.tail, ..like.clone() }
}

/// Maps over the sum's space, whose axes may be in another order.
fn epilogue(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read]) -> Result<Group, Refusal> {
    if !facts.target_fuses {
        return Err(Refusal::NoEpilogue);
    }
    let mut place: Option<Vec<usize>> = None;
    for read in reads {
        let own = p.places.get(&read.source.node).ok_or(Refusal::ReadElsewhere)?;
        let axes = permutation(&read.relation, c.full.len()).ok_or(Refusal::ReadElsewhere)?;
        let composed: Vec<usize> = own.iter().map(|axis| axes[*axis]).collect();
        if is_random(&read.relation) || place.as_ref().is_some_and(|place| *place != composed) {
            return Err(Refusal::ReadElsewhere);
        }
        place = Some(composed);
    }
    let place = place.ok_or(Refusal::ReadElsewhere)?;
    if !c.nodes.iter().all(|id| c.is_full(facts, *id) && is_pointwise(facts.graph(), *id)) {
        return Err(Refusal::ReadElsewhere);
    }
    let mut merged = joined(p, c, p);
    merged.places.extend(c.nodes.iter().map(|id| (*id, place.clone())));
    Ok(merged)
}

/// Whether a node computes at one point of its space what it needs at the same point.
fn is_pointwise(graph: &Graph, id: NodeId) -> bool {
    matches!(graph.op(id), Op::Map(_) | Op::Cast(_) | Op::Bitcast(_))
}

/// A permutation or reshape of a value over the sum's space: an index of its store.
fn tail_of_sum(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read]) -> Result<Group, Refusal> {
    let [read] = reads else { return Err(Refusal::ReadElsewhere) };
    let movable = matches!(facts.graph().op(read.reader), Op::Permute(_) | Op::Reshape(_));
    let placed = p.places.contains_key(&read.source.node) || p.tail;
    if movable && is_direct(facts, read) && placed { Ok(joined(p, c, p)) } else { Err(Refusal::ReadElsewhere) }
}

/// A permutation of a value that a nest computes is an index of its store; a reshape is another view of what is stored.
fn tail(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read]) -> Result<Group, Refusal> {
    let [read] = reads else { return Err(Refusal::ReadElsewhere) };
    let permutes = matches!(facts.graph().op(read.reader), Op::Permute(_)) && !p.tail && p.is_full(facts, read.source.node);
    let moved = permutes || matches!(facts.graph().op(read.reader), Op::Reshape(_));
    if moved && is_direct(facts, read) { Ok(joined(p, c, p)) } else { Err(Refusal::ReadElsewhere) }
}

/// A reshape is another view of what is stored.
fn reshaped(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read]) -> Result<Group, Refusal> {
    let [read] = reads else { return Err(Refusal::ReadElsewhere) };
    let moved = matches!(facts.graph().op(read.reader), Op::Reshape(_)) && is_direct(facts, read);
    if moved { Ok(joined(p, c, p)) } else { Err(Refusal::ReadElsewhere) }
}

/// Whether nothing lies between: what is free above a movement has an index of its own.
fn is_direct(facts: &Facts<'_>, read: &Read) -> bool {
    facts.graph().args(read.reader).first() == Some(&read.source)
}

/// A map before or after a contraction that stands already.
fn into_contraction(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read], private: bool) -> Result<Group, Refusal> {
    let core = c.contraction(facts).ok_or(Refusal::OneCoreEach)?;
    if reads.iter().all(|read| read.reader != core) {
        return beside_sum(facts, p, c, reads);
    }
    let reads_core = reads.iter().all(|read| read.reader == core);
    let cheap = p.nodes.iter().all(|id| is_cheap(facts.graph(), *id) && is_pointwise(facts.graph(), *id));
    if !(private && reads_core && cheap && p.nodes.len() <= 4 && reads.iter().all(|read| is_affine(&read.relation))) {
        return Err(Refusal::Operand);
    }
    let value = reads[0].source;
    let inputs = p.nodes.iter().flat_map(|id| &facts.reads[id.index()]).filter(|read| !p.nodes.contains(&read.source.node));
    let bytes: i64 = inputs.filter(|read| !repeats(&read.relation, p.full.len())).map(|read| facts.bytes(read.source)).sum();
    if bytes <= facts.bytes(value) { Ok(joined(p, c, c)) } else { Err(Refusal::Operand) }
}

/// A map that only the maps after a contraction read, at the same points.
fn beside_sum(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read]) -> Result<Group, Refusal> {
    let mut place: Option<&Vec<usize>> = None;
    for read in reads {
        let own = c.places.get(&read.reader);
        if own.is_none() || !is_identity(&read.relation, p.full.len()) || place.is_some_and(|place| Some(place) != own) {
            return Err(Refusal::ReadElsewhere);
        }
        place = own;
    }
    let place = place.ok_or(Refusal::ReadElsewhere)?;
    if place.len() != p.full.len() || !p.nodes.iter().all(|id| p.is_full(facts, *id) && is_pointwise(facts.graph(), *id)) {
        return Err(Refusal::ReadElsewhere);
    }
    let mut merged = joined(p, c, c);
    merged.places.extend(p.nodes.iter().map(|id| (*id, place.clone())));
    Ok(merged)
}

/// Maps into a nest: at the same points, or computed again where they are read.
fn maps(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read], private: bool) -> Result<Group, Refusal> {
    if reads.iter().any(|read| is_random(&read.relation)) {
        return gathered(facts, p, c, reads, private);
    }
    let same = |read: &Read| is_identity(&read.relation, operand_space(facts.graph(), read.reader).len());
    let over_full = p.full == c.full && reads.iter().all(same);
    let of_rows = |read: &Read| is_prefix(&read.relation) && !c.across.contains(&read.reader);
    let over_rows = c.kind == Kind::Row && p.full == c.full[..c.kept] && reads.iter().all(of_rows);
    match c.kind {
        Kind::Map | Kind::Row if over_full || over_rows => Ok(joined(p, c, c)),
        // A window's own space is that of its results: what it reads is elsewhere. A column stores nothing over its full space.
        Kind::Column if over_full && private => Ok(joined(p, c, c)),
        Kind::Window if private && (reads_windows_once(facts, reads) || is_spread(facts, p, reads)) => Ok(joined(p, c, c)),
        Kind::Map | Kind::Row | Kind::Column | Kind::Window => inlined(facts, p, c, reads, private),
        Kind::Move | Kind::Contract | Kind::Scatter | Kind::Sort | Kind::Prefix | Kind::Attend | Kind::Control => {
            Err(Refusal::OneCoreEach)
        }
    }
}

fn reads_windows_once(facts: &Facts<'_>, reads: &[Read]) -> bool {
    let [read] = reads else { return false };
    reads_once(facts.graph(), read.reader)
}

/// Whether windows sum what is set a little apart, as the derivative of sums does: they are computed by the remainders of their positions, each of
/// which meets few of its elements.
fn is_spread(facts: &Facts<'_>, p: &Group, reads: &[Read]) -> bool {
    let graph = facts.graph();
    let apart = |id: &NodeId| matches!(graph.op(*id), Op::Pad(axes) if (1..=FARTHEST).contains(&axes.iter().map(|axis| axis.interior).max().unwrap_or(0)));
    let cheap = |id: &NodeId| apart(id) || is_cheap(graph, *id);
    p.nodes.len() <= 6
        && p.nodes.iter().any(apart)
        && p.nodes.iter().all(cheap)
        && reads.iter().all(|read| matches!(graph.op(read.reader), Op::Window(_)))
}

/// Maps that are computed where they are read, perhaps more than once.
fn inlined(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read], private: bool) -> Result<Group, Refusal> {
    if !private || p.nodes.iter().any(|id| p.full.len() != space(&result(facts.graph(), *id).shape).len()) {
        return Err(Refusal::ReadElsewhere);
    }
    if !reads.iter().all(|read| is_affine(&read.relation)) {
        return Err(Refusal::ReadElsewhere);
    }
    let several = reads.iter().any(|read| read.relation != reads[0].relation)
        || reads.iter().any(|read| repeats(&read.relation, operand_space(facts.graph(), read.reader).len()));
    let cheap = p.nodes.len() <= 6 && p.nodes.iter().all(|id| is_cheap(facts.graph(), *id));
    if !several || cheap { Ok(joined(p, c, c)) } else { Err(Refusal::Recomputed) }
}

/// Rows at one position: what a gather or a dynamic slice picks of maps over whole rows.
fn gathered(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read], private: bool) -> Result<Group, Refusal> {
    let inside = |id: NodeId| p.nodes.contains(&id) || facts.free[id.index()];
    let pullable = |read: &Read| {
        let Some(random) = random_axes(facts.graph(), read.reader) else { return false };
        reaches(facts.graph(), facts.graph().args(read.reader)[0], &random, &|node| !inside(node))
    };
    let once = reads.iter().filter(|read| is_random(&read.relation)).all(pullable);
    let rest = reads.iter().filter(|read| !is_random(&read.relation)).all(|read| is_affine(&read.relation));
    if private && once && rest && p.kind == Kind::Map { Ok(joined(p, c, c)) } else { Err(Refusal::RunTimePosition) }
}

/// Maps after reductions over rows, at whole rows or at one value a row, and further reductions over the same rows.
fn rows(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read]) -> Result<Group, Refusal> {
    if c.kind == Kind::Row && (c.kept != p.kept || c.full != p.full) {
        return Err(Refusal::OtherRows);
    }
    if c.kind == Kind::Map && c.full != p.full && c.full != p.full[..p.kept] {
        return Err(Refusal::OtherRows);
    }
    aligned(facts, p, reads).map(|()| joined(p, c, p))
}

/// Whether what is read of rows is read where it is computed: the same element, or that of the row.
fn aligned(facts: &Facts<'_>, p: &Group, reads: &[Read]) -> Result<(), Refusal> {
    for read in reads {
        let reader = operand_space(facts.graph(), read.reader);
        let aligned = if p.across.contains(&read.source.node) {
            false
        } else if p.is_full(facts, read.source.node) {
            is_identity(&read.relation, reader.len()) || picks(facts, p, read)
        } else {
            is_prefix(&read.relation)
        };
        if !aligned {
            return Err(if is_random(&read.relation) { Refusal::RunTimePosition } else { Refusal::ReadElsewhere });
        }
    }
    Ok(())
}

/// Whether a read is one element a row, at a run-time position.
fn picks(facts: &Facts<'_>, p: &Group, read: &Read) -> bool {
    let Some(random) = random_axes(facts.graph(), read.reader) else { return false };
    let x = facts.graph().args(read.reader)[0];
    let inside = |id: NodeId| p.nodes.contains(&id) || facts.free[id.index()];
    let kept = read.relation.get(..p.kept).is_some_and(|kept| is_prefix(&kept.to_vec()));
    kept && read.slot == 0
        && operand_space(facts.graph(), read.reader).len() == p.kept
        && reaches(facts.graph(), x, &random, &|node| !inside(node))
}

/// Maps over the results of reductions.
fn results(facts: &Facts<'_>, p: &Group, c: &Group, reads: &[Read], rank: usize) -> Result<Group, Refusal> {
    let of_result = |read: &Read| {
        space(&result(facts.graph(), read.source.node).shape) == c.full && is_identity(&read.relation, c.full.len())
    };
    if c.full.len() == rank && reads.iter().all(of_result) { Ok(joined(p, c, p)) } else { Err(Refusal::ReadElsewhere) }
}

/// The last refusal of each pair, for remarks.
pub(super) type Refusals = BTreeMap<(NodeId, NodeId), Refusal>;
