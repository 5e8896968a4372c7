//! Maps whose neighbours are computed together: a thread reads, computes and writes 16 bytes of neighbours at once. Either rows are of
//! whole such groups, or what is written has no rows: its elements are numbered through, whatever the sizes, and the last group is short.

use graver_ir::Dim;
use graver_ir::kernel::{Body, Bounds, Index, Nest, Stage, Store, ValueId};

use super::THREADS;
use super::body::{Given, Loaded};
use super::cx::{Cx, stored};
use super::nest::{Plan, Sharing, count_of, known_offset, number};
use super::reduce::Results;

/// Emits the nest if it is such a map; gives the number of blocks.
pub(super) fn emit(cx: &mut Cx<'_>, nest: &Nest, plan: &Plan) -> Option<Dim> {
    let [stage] = nest.stages.as_slice() else { return None };
    let lane = *plan.points.last()?;
    if plan.sharing != Sharing::Alone || stage.over != plan.outer || !stage.reductions.is_empty() {
        return None;
    }
    let width = width(cx, nest, stage, lane)?;
    let mut sizes = nest.axes.clone();
    sizes[lane] = sizes[lane].exact_div(&Dim::from(width))?;
    let count: Dim = plan.points.iter().map(|axis| sizes[*axis].clone()).product();
    let total = cx.dim(&count);
    cx.open(format!("for (idx point = gr_block() * {THREADS} + gr_thread(); point < {total}; point += gr_blocks() * {THREADS})"));
    cx.bind_digits(&plan.points, &sizes, "point");
    let group = cx.at[lane].take().expect("the lane is the last digit");
    let first = cx.define("idx", "first", format!("{group} * {width}"));
    cx.at[lane] = Some(first.clone());
    let results = Results::default();
    points(cx, stage, (lane, width, &first), Loaded::default(), "", |cx, loaded| {
        cx.body_with(&stage.body, Given::Reduced(&results), loaded)
    });
    cx.unbind(&plan.points);
    cx.close();
    Some(count.ceil_div(&Dim::from(THREADS)))
}

/// Emits the nest if it is a map that writes one element after the other; gives the number of blocks.
pub(super) fn emit_flat(cx: &mut Cx<'_>, nest: &Nest, plan: &Plan) -> Option<Dim> {
    let [stage] = nest.stages.as_slice() else { return None };
    if plan.sharing != Sharing::Alone || stage.over != plan.outer || !stage.reductions.is_empty() || stage.stores.is_empty() {
        return None;
    }
    // In the order of memory, which may be another than the plan's.
    let axes: Vec<usize> = plan.outer.iter().collect();
    let row_major = number(nest, &axes);
    let is_flat =
        |cx: &Cx<'_>, arg: usize, index: &[Index]| known_offset(cx, arg, index).is_some_and(|offset| offset == row_major);
    let flat: Vec<Load<'_>> = loads(&stage.body).into_iter().filter(|(_, arg, index)| is_flat(cx, *arg, index)).collect();
    let args = flat.iter().map(|(_, arg, _)| *arg).chain(stage.stores.iter().map(|store| store.arg));
    let width = i64::try_from(16 / args.map(|arg| cx.arg(arg).dtype.size()).max()?).expect("at most 16");
    if width == 1 || !stage.stores.iter().all(|store| is_flat(cx, store.arg, &store.index)) {
        return None;
    }
    let count = count_of(nest, &axes);
    let total = cx.dim(&count);
    let groups = count.ceil_div(&Dim::from(width));
    let end = cx.dim(&groups);
    cx.open(format!("for (idx group = gr_block() * {THREADS} + gr_thread(); group < {end}; group += gr_blocks() * {THREADS})"));
    cx.line(format!("const idx first = group * {width};"));
    cx.line(format!("const i32 left = (i32)gr_lesser<idx>({total} - first, {width});"));
    let mut loaded = Loaded::default();
    for (id, arg, _) in flat {
        let ty = stored(cx.arg(arg).dtype);
        let read = format!("gr_read_some<{ty}, {width}>(gr_at(p{arg}, first, left), left)");
        let vector = cx.define(&format!("gr_pack<{ty}, {width}>"), "v", read);
        loaded.elements.push((id, format!("{vector}.at[j]")));
    }
    let outs: Vec<String> = stage.stores.iter().map(|store| open_out(cx, store, width)).collect();
    cx.open_unrolled("j", width);
    cx.line("if (j >= left) continue;");
    cx.bind_digits(&axes, &nest.axes, "(first + j)");
    let values = cx.body_with(&stage.body, Given::Reduced(&Results::default()), &loaded);
    for (store, out) in stage.stores.iter().zip(&outs) {
        let value = cx.stored_value(store, &values);
        cx.line(format!("{out}.at[j] = {value};"));
    }
    cx.unbind(&axes);
    cx.close();
    for (store, out) in stage.stores.iter().zip(&outs) {
        let ty = stored(cx.arg(store.arg).dtype);
        cx.line(format!("gr_write_some<{ty}, {width}>(gr_at(p{}, first, left), {out}, left);", store.arg));
    }
    cx.close();
    Some(groups.ceil_div(&Dim::from(THREADS)))
}

/// Reads `width` neighbours along an axis from `first` on, visits them one by one, writes where the guard holds. Some elements are read
/// already, and a visit gives the values of the body.
pub(super) fn points(
    cx: &mut Cx<'_>,
    stage: &Stage,
    (lane, width, first): (usize, i64, &str),
    mut loaded: Loaded,
    guard: &str,
    visit: impl FnOnce(&mut Cx<'_>, &Loaded) -> Vec<String>,
) {
    read(cx, &stage.body, (lane, width), &mut loaded);
    if !guard.is_empty() {
        cx.open(format!("if ({guard})"));
    }
    let open =
        |cx: &mut Cx<'_>, store: &Store| is_aligned(cx, store.arg, &store.index, lane, width).then(|| open_out(cx, store, width));
    let outs: Vec<Option<String>> = stage.stores.iter().map(|store| open(cx, store)).collect();
    cx.open_unrolled("j", width);
    let position = cx.define("idx", "a", format!("{first} + j"));
    cx.at[lane] = Some(position);
    let values = visit(cx, &loaded);
    for (store, out) in stage.stores.iter().zip(&outs) {
        match out {
            Some(out) => {
                let value = cx.stored_value(store, &values);
                cx.line(format!("{out}.at[j] = {value};"));
            }
            None => cx.store(store, &values),
        }
    }
    cx.close();
    cx.at[lane] = Some(first.to_owned());
    for (store, out) in stage.stores.iter().zip(&outs) {
        let Some(out) = out else { continue };
        let (ty, offset) = (stored(cx.arg(store.arg).dtype), cx.offset(store.arg, &store.index, &[]));
        cx.line(format!("gr_write<{ty}, {width}>(gr_at(p{}, {offset}, {width}), {out});", store.arg));
    }
    if !guard.is_empty() {
        cx.close();
    }
}

/// Reads `width` neighbours along an axis at once, which begin where it is bound to, for every load of which that is one.
pub(super) fn read(cx: &mut Cx<'_>, body: &Body, (lane, width): (usize, i64), loaded: &mut Loaded) {
    for (id, arg, index) in loads(body) {
        if loaded.elements.iter().all(|(known, _)| *known != id) && is_aligned(cx, arg, index, lane, width) {
            let (ty, offset) = (stored(cx.arg(arg).dtype), cx.offset(arg, index, &[]));
            let vector = cx.define(
                &format!("gr_pack<{ty}, {width}>"),
                "v",
                format!("gr_read<{ty}, {width}>(gr_at(p{arg}, {offset}, {width}))"),
            );
            loaded.elements.push((id, format!("{vector}.at[j]")));
        }
    }
}

fn open_out(cx: &mut Cx<'_>, store: &Store, width: i64) -> String {
    let out = cx.fresh("out");
    cx.line(format!("gr_pack<{}, {width}> {out};", stored(cx.arg(store.arg).dtype)));
    out
}

/// A load: the instruction, the argument and where.
pub(super) type Load<'a> = (ValueId, usize, &'a [Index]);

/// Loads that are proved inside.
pub(super) fn loads(body: &Body) -> Vec<Load<'_>> {
    let proven = body.loads().filter(|(_, access)| access.bounds == Bounds::Proven);
    proven.map(|(id, access)| (id, access.arg, access.index.as_slice())).collect()
}

/// Neighbours that one thread computes: as many of the widest element as 16 bytes hold, if every store can be made at once.
fn width(cx: &Cx<'_>, nest: &Nest, stage: &Stage, lane: usize) -> Option<i64> {
    let args = loads(&stage.body).into_iter().map(|(_, arg, _)| arg).chain(stage.stores.iter().map(|store| store.arg));
    let widest = args.map(|arg| cx.arg(arg).dtype.size()).max()?;
    let width = i64::try_from(16 / widest).expect("at most 16");
    let fits = nest.axes[lane].known_multiple() % width == 0 && width > 1;
    let aligned = stage.stores.iter().all(|store| is_aligned(cx, store.arg, &store.index, lane, width));
    (fits && aligned).then_some(width)
}

/// Whether neighbours along the axis are neighbours in memory, from a multiple of `width` on.
pub(super) fn is_aligned(cx: &Cx<'_>, arg: usize, index: &[Index], lane: usize, width: i64) -> bool {
    let along = known_offset(cx, arg, index).and_then(|offset| offset.along(lane));
    along.is_some_and(|(slope, rest)| slope.is(1) && rest.known_multiple() % width == 0)
}
