//! Maps that read along one axis what they write along another: a transpose. A block takes a tile of both axes through shared memory, so
//! that neighbouring threads read neighbours, and then write neighbours.

use graver_ir::Dim;
use graver_ir::kernel::{Nest, Stage, Store};

use super::THREADS;
use super::body::{Given, Loaded};
use super::cx::{Cx, stored};
use super::nest::{Plan, Sharing, count_of, known_offset};
use super::reduce::Results;
use super::vector::{Load, loads};

/// Elements of a tile along either axis.
const TILE: i64 = 32;
/// From one row of a tile to the next: one more than it holds, so that columns of it lie in different banks.
const PITCH: i64 = TILE + 1;
/// Loads that go through tiles at most: each takes 4 KiB or 8.
const MOST: usize = 4;
/// Along either axis at least, so that tiles are not mostly empty.
const LEAST: i64 = 16;

/// Emits the nest if it is such a map; gives the number of blocks.
pub(super) fn emit(cx: &mut Cx<'_>, nest: &Nest, plan: &Plan) -> Option<Dim> {
    let [stage] = nest.stages.as_slice() else { return None };
    let lane = *plan.points.last()?;
    if plan.sharing != Sharing::Alone || stage.over != plan.outer || !stage.reductions.is_empty() {
        return None;
    }
    let is_near = |store: &Store| known_offset(cx, store.arg, &store.index).and_then(|offset| offset.along(lane));
    let (across, turned) = turned(cx, nest, stage, lane)?;
    if !stage.stores.iter().all(|store| is_near(store).is_some_and(|(slope, _)| slope.is(1))) {
        return None;
    }
    let others: Vec<usize> = plan.points.iter().copied().filter(|axis| *axis != lane && *axis != across).collect();
    let tiles = |axis: usize| nest.axes[axis].ceil_div(&Dim::from(TILE));
    let count = count_of(nest, &others) * tiles(across) * tiles(lane);
    let [total, along, down] = [count.clone(), tiles(lane), tiles(across)].map(|dim| cx.dim(&dim));
    cx.line(format!("const i32 thread = gr_thread(), row = thread / {TILE}, column = thread % {TILE};"));
    cx.open(format!("for (idx tile = gr_block(); tile < {total}; tile += gr_blocks())"));
    cx.line(format!("const idx line = gr_quotient<idx>(tile, {along}), lane_first = (tile - line * {along}) * {TILE};"));
    cx.line(format!("const idx rest = gr_quotient<idx>(line, {down}), across_first = (line - rest * {down}) * {TILE};"));
    cx.bind_digits(&others, &nest.axes, "rest");
    // The tile of this turn is not written before the last turn's is read.
    cx.sync();
    let loaded = read(cx, nest, (lane, across), &turned);
    cx.sync();
    open(cx, nest, lane, across, "lane");
    let values = cx.body_with(&stage.body, Given::Reduced(&Results::default()), &loaded);
    stage.stores.iter().for_each(|store| cx.store(store, &values));
    close(cx, [lane, across]);
    cx.unbind(&others);
    cx.close();
    Some(count)
}

/// The tiles of loads, with threads along the axis along which elements are neighbours.
fn read(cx: &mut Cx<'_>, nest: &Nest, (lane, across): (usize, usize), turned: &[Load<'_>]) -> Loaded {
    let mut loaded = Loaded::default();
    let mut tile = |cx: &mut Cx<'_>, (id, arg, _): &Load<'_>| {
        let (ty, name) = (stored(cx.arg(*arg).dtype), cx.fresh("tile"));
        let place = cx.take_shared(usize::try_from(TILE * PITCH).expect("few") * cx.arg(*arg).dtype.size());
        cx.line(format!("GR_LOCAL({ty}) {name} = gr_local<{ty}>(shared, {place}, {});", TILE * PITCH));
        loaded.elements.push((*id, format!("{name}[(row + e) * {PITCH} + column]")));
        name
    };
    let names: Vec<String> = turned.iter().map(|load| tile(cx, load)).collect();
    open(cx, nest, across, lane, "across");
    for ((_, arg, index), name) in turned.iter().zip(&names) {
        let offset = cx.offset(*arg, index, &[]);
        cx.line(format!("{name}[column * {PITCH} + row + e] = p{arg}[{offset}];"));
    }
    close(cx, [lane, across]);
    loaded
}

/// Loops over a thread's points of the tile: neighbouring threads are neighbours along `fast`, whose first position is `{name}_first`.
fn open(cx: &mut Cx<'_>, nest: &Nest, fast: usize, slow: usize, name: &str) {
    let other = if name == "lane" { "across" } else { "lane" };
    cx.line("GR_UNROLL");
    cx.open(format!("for (i32 e = 0; e < {TILE}; e += {})", THREADS / TILE));
    let [fast_size, slow_size] = [fast, slow].map(|axis| cx.dim(&nest.axes[axis]));
    let near = cx.define("idx", "a", format!("{name}_first + column"));
    let far = cx.define("idx", "a", format!("{other}_first + row + e"));
    cx.open(format!("if ({near} < {fast_size} && {far} < {slow_size})"));
    cx.at[fast] = Some(near);
    cx.at[slow] = Some(far);
}

fn close(cx: &mut Cx<'_>, axes: [usize; 2]) {
    cx.unbind(&axes);
    cx.close();
    cx.close();
}

/// The axis along which most loads are neighbours that are far apart along `lane`, and those loads.
fn turned<'a>(cx: &Cx<'_>, nest: &Nest, stage: &'a Stage, lane: usize) -> Option<(usize, Vec<Load<'a>>)> {
    let long = |axis: usize| nest.axes[axis].as_const().is_none_or(|size| size >= LEAST);
    let slope = |(_, arg, index): &Load<'a>, axis: usize| known_offset(cx, *arg, index)?.along(axis).map(|(slope, _)| slope);
    let is_far = |load: &Load<'a>| slope(load, lane).is_some_and(|slope| !slope.is(0) && !slope.is(1));
    let all: Vec<Load<'a>> = loads(&stage.body).into_iter().filter(is_far).collect();
    let along = |axis: usize| -> Vec<Load<'a>> {
        all.iter().filter(|load| slope(load, axis).is_some_and(|slope| slope.is(1))).take(MOST).copied().collect()
    };
    let axes = (0..nest.axes.len()).filter(|axis| *axis != lane && long(*axis) && long(lane));
    let best = axes.map(|axis| (axis, along(axis))).max_by_key(|(_, loads)| loads.len())?;
    (!best.1.is_empty()).then_some(best)
}
