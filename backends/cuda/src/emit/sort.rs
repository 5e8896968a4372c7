//! Elements in order, by a sorting network over positions, in place where they are to be (K. E. Batcher, 1968, "Sorting networks and their
//! applications"; every comparison puts what comes first at the lower place, so that any size fits). A block takes a line. Equal values are
//! ordered by their positions, so there is one answer, and the network need not be stable.

use graver_ir::Dim;
use graver_ir::kernel::Sort;

use super::body::Given;
use super::cx::Cx;
use super::{Emitted, THREADS, finish};

pub(super) fn emit(mut cx: Cx<'_>, sort: &Sort) -> Emitted {
    let lines: Vec<usize> = (0..sort.axes.len()).filter(|axis| *axis != sort.axis).collect();
    let count: Dim = lines.iter().map(|axis| sort.axes[*axis].clone()).product();
    let (total, size) = (cx.dim(&count), cx.dim(&sort.axes[sort.axis]));
    cx.open(format!("for (idx line = gr_block(); line < {total}; line += gr_blocks())"));
    cx.bind_digits(&lines, &sort.axes, "line");
    cx.open(format!("for (i64 place = gr_thread(); place < {size}; place += {THREADS})"));
    let at = place(&mut cx, sort, "place");
    cx.line(format!("p{}[{at}] = place;", sort.to.arg));
    cx.close();
    cx.sync();
    cx.open(format!("for (i64 half = 1; half < {size}; half *= 2)"));
    // The second run backwards: then both together rise and fall.
    pairs(&mut cx, sort, &size, "half", "t / half * 2 * half + 2 * half - 1 - t % half");
    cx.open("for (i64 step = half / 2; step > 0; step /= 2)");
    pairs(&mut cx, sort, &size, "step", "t / step * 2 * step + step + t % step");
    cx.close();
    cx.close();
    cx.close();
    finish(cx, THREADS, count)
}

/// One comparison of every pair, shared out among the threads: of the `step` first of each `2 * step` places, with `other`.
fn pairs(cx: &mut Cx<'_>, sort: &Sort, size: &str, step: &str, other: &str) {
    cx.open(format!("for (i64 t = gr_thread(); t < {size}; t += {THREADS})"));
    let low = cx.define("i64", "low", format!("t / {step} * 2 * {step} + t % {step}"));
    let high = cx.define("i64", "high", other);
    cx.open(format!("if ({high} < {size})"));
    let places = [low, high].map(|at| {
        let offset = place(cx, sort, &at);
        cx.define("i64", "to", offset)
    });
    let positions = places.each_ref().map(|at| cx.define("i64", "position", format!("p{}[{at}]", sort.to.arg)));
    let [x, y] = positions.each_ref().map(|position| key(cx, sort, position));
    let (first, second) = (&positions[0], &positions[1]);
    let order = if sort.descending { ">" } else { "<" };
    let before = if sort.body.dtype(sort.to.value).is_float() {
        format!(
            "gr_is_nan({y}) ? gr_is_nan({x}) && {second} < {first} : \
             gr_is_nan({x}) || {y} {order} {x} || ({y} == {x} && {second} < {first})"
        )
    } else {
        format!("{y} {order} {x} || ({y} == {x} && {second} < {first})")
    };
    cx.open(format!("if ({before})"));
    cx.line(format!("p{}[{}] = {second};", sort.to.arg, places[0]));
    cx.line(format!("p{}[{}] = {first};", sort.to.arg, places[1]));
    cx.close();
    cx.close();
    cx.close();
    cx.sync();
}

/// Where the position that comes at a place is stored.
fn place(cx: &mut Cx<'_>, sort: &Sort, at: &str) -> String {
    cx.at[sort.axis] = Some(at.to_owned());
    let offset = cx.offset(sort.to.arg, &sort.to.index, &[]);
    cx.at[sort.axis] = None;
    offset
}

/// What is compared, at a position.
fn key(cx: &mut Cx<'_>, sort: &Sort, position: &str) -> String {
    let own = cx.define("idx", "a", format!("(idx){position}"));
    cx.at[sort.axis] = Some(own);
    let values = cx.body(&sort.body, Given::Nothing);
    cx.at[sort.axis] = None;
    values[sort.to.value.index()].clone()
}
