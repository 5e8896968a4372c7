//! What is combined with all before it. A block takes a line, its threads some neighbours each, turn by turn; what is before a thread's neighbours
//! comes by shuffles, and by slots of the warps. Few long lines are cut: a first phase combines every part, so that each of the second's
//! knows what is before it. Of many lines that lie beside each other a thread takes one.

use graver_ir::Dim;
use graver_ir::kernel::Prefix;
use graver_ir::op::ReduceKind;
use graver_ir::{DType, Scalar};

use super::body::{Given, constant};
use super::cx::{Cx, computed};
use super::nest::known_offset;
use super::reduce::reduction;
use super::{Emitted, Part, THREADS, finish, finish_all};

/// Neighbours of a thread in a turn.
const EACH: i64 = 4;
/// Threads of a warp.
const WARP: i64 = 32;
/// Lines from which on there is work for all of a GPU, a thread each.
const MANY: i64 = 4096;
/// Lines of so many elements are no work for a block.
const SHORT: i64 = 32;
/// Parts of a line that is cut.
const PARTS: i64 = 64;
/// Longer lines are cut, if there are few.
const LONG: i64 = 1 << 15;
/// More lines than this are not cut: they keep a GPU busy.
const FEW: i64 = 64;

pub(super) fn emit(cx: Cx<'_>, prefix: &Prefix) -> Emitted {
    let lines: Vec<usize> = (0..prefix.axes.len()).filter(|axis| *axis != prefix.axis).collect();
    let count: Dim = lines.iter().map(|axis| prefix.axes[*axis].clone()).product();
    let along = Along { prefix, lines, count };
    let offset = known_offset(&cx, prefix.to.arg, &prefix.to.index).and_then(|offset| offset.along(prefix.axis));
    let near = offset.is_some_and(|(slope, _)| slope.is(1));
    let size = along.size();
    if size.as_const().is_some_and(|size| size <= SHORT) || (!near && along.count.nominal() >= MANY) {
        along.across(cx)
    } else if size.nominal() >= LONG && along.count.nominal() <= FEW {
        along.in_parts(&cx)
    } else {
        along.whole(cx)
    }
}

struct Along<'a> {
    prefix: &'a Prefix,
    /// All axes but the one along which values are combined.
    lines: Vec<usize>,
    /// How many lines there are.
    count: Dim,
}

impl<'a> Along<'a> {
    fn size(&self) -> &'a Dim {
        &self.prefix.axes[self.prefix.axis]
    }

    /// In what values are combined: sums and products of `f32` in `f64`, so that rounding errors do not grow with a line, and what is large
    /// on the way need not be.
    fn dtype(&self) -> DType {
        let dtype = self.prefix.body.dtype(self.prefix.to.value);
        match self.prefix.kind {
            ReduceKind::Sum | ReduceKind::Prod if dtype == DType::F32 => DType::F64,
            ReduceKind::Sum | ReduceKind::Prod | ReduceKind::Max | ReduceKind::Min => dtype,
        }
    }

    /// A thread takes a line.
    fn across(&self, mut cx: Cx<'_>) -> Emitted {
        let (total, size) = (cx.dim(&self.count), cx.dim(self.size()));
        cx.open(format!(
            "for (i64 line = gr_block() * {THREADS} + gr_thread(); line < {total}; line += gr_blocks() * {THREADS})"
        ));
        cx.line("const idx own = (idx)line;");
        cx.bind_digits(&self.lines, &self.prefix.axes, "own");
        self.start(&mut cx, "all");
        cx.open(format!("for (i64 step = 0; step < {size}; step++)"));
        self.bind(&mut cx, "step", &size);
        let x = self.point(&mut cx);
        cx.line(format!("all = {};", self.combined("all", &x)));
        self.store(&mut cx, "all");
        cx.close();
        cx.close();
        finish(cx, THREADS, self.count.ceil_div(&Dim::from(THREADS)))
    }

    /// A block takes a line.
    fn whole(&self, mut cx: Cx<'_>) -> Emitted {
        let (total, size) = (cx.dim(&self.count), cx.dim(self.size()));
        self.slots(&mut cx);
        cx.open(format!("for (idx line = gr_block(); line < {total}; line += gr_blocks())"));
        cx.bind_digits(&self.lines, &self.prefix.axes, "line");
        cx.line(format!("const i64 first = 0, last = {size};"));
        self.start(&mut cx, "all");
        self.turns(&mut cx, &size);
        cx.close();
        finish(cx, THREADS, self.count.clone())
    }

    /// A block takes a part of a line.
    fn in_parts(&self, cx: &Cx<'a>) -> Emitted {
        let units = &self.count * Dim::from(PARTS);
        let bytes = &units * Dim::from(self.dtype().size());
        let phase = |work: &dyn Fn(&mut Cx<'_>, &str)| {
            let mut cx = Cx::new(cx.kernel);
            let (total, size) = (cx.dim(&units), cx.dim(self.size()));
            self.slots(&mut cx);
            cx.open(format!("for (idx unit = gr_block(); unit < {total}; unit += gr_blocks())"));
            cx.line(format!("const idx line = unit / {PARTS}, part = unit % {PARTS};"));
            cx.bind_digits(&self.lines, &self.prefix.axes, "line");
            cx.line(format!("const i64 length = ((i64){size} + {PARTS} - 1) / {PARTS};"));
            cx.line(format!("const i64 first = gr_lesser<i64>(part * length, {size});"));
            cx.line(format!("const i64 last = gr_lesser<i64>(first + length, {size});"));
            self.start(&mut cx, "all");
            work(&mut cx, &size);
            cx.close();
            Part { cx, threads: THREADS, blocks: units.clone() }
        };
        let totals = phase(&|cx, size| self.total(cx, size));
        let lines = phase(&|cx, size| {
            cx.open("for (i64 earlier = 0; earlier < part; earlier++)");
            let total = self.place(&format!("(i64)line * {PARTS} + earlier"));
            cx.line(format!("all = {};", self.combined("all", &total)));
            cx.close();
            self.turns(cx, size);
        });
        finish_all(vec![totals, lines], &bytes)
    }

    /// All of a part combined, and left in memory.
    fn total(&self, cx: &mut Cx<'_>, size: &str) {
        cx.open(format!("for (i64 step = first + gr_thread(); step < last; step += {THREADS})"));
        self.bind(cx, "step", size);
        let x = self.point(cx);
        cx.line(format!("all = {};", self.combined("all", &x)));
        cx.close();
        let ty = computed(self.dtype());
        cx.line(format!("{ty} total;"));
        self.earlier(cx, "all");
        cx.open("if (gr_thread() == 0)");
        cx.line(format!("{} = total;", self.place("unit")));
        cx.close();
    }

    /// The steps from `first` to `last`, turn by turn; before them is `all`.
    fn turns(&self, cx: &mut Cx<'_>, size: &str) {
        let (ty, turn) = (computed(self.dtype()), THREADS * EACH);
        cx.open(format!("for (i64 turn = first; turn < last; turn += {turn})"));
        cx.line(format!("const i64 own = turn + gr_thread() * {EACH};"));
        cx.line(format!("{ty} upto[{EACH}], total;"));
        cx.open_unrolled("j", EACH);
        self.start(cx, "x");
        cx.open("if (own + j < last)");
        self.bind(cx, "own + j", size);
        let x = self.point(cx);
        cx.line(format!("x = {x};"));
        cx.close();
        cx.line(format!("upto[j] = j == 0 ? x : {};", self.combined("upto[j == 0 ? 0 : j - 1]", "x")));
        cx.close();
        let before = self.earlier(cx, &format!("upto[{}]", EACH - 1));
        let before = cx.define(ty, "before", self.combined("all", &before));
        cx.open_unrolled("j", EACH);
        cx.open("if (own + j < last)");
        self.bind(cx, "own + j", size);
        let all = cx.define(ty, "x", self.combined(&before, "upto[j]"));
        self.store(cx, &all);
        cx.close();
        cx.close();
        cx.line(format!("all = {};", self.combined("all", "total")));
        cx.close();
    }

    /// Places where warps leave what they combine.
    fn slots(&self, cx: &mut Cx<'_>) {
        let (ty, warps) = (computed(self.dtype()), THREADS / WARP);
        let bytes = usize::try_from(warps).expect("few warps") * self.dtype().size();
        let place = cx.take_shared(bytes);
        cx.line(format!("GR_LOCAL({ty}) slots = gr_local<{ty}>(shared, {place}, {warps});"));
    }

    /// What the threads before this one have, combined; `total` is what all have.
    fn earlier(&self, cx: &mut Cx<'_>, own: &str) -> String {
        // Its barriers.
        cx.barriers = true;
        let (ty, warps, op, identity) = (computed(self.dtype()), THREADS / WARP, reduction(self.prefix.kind), self.identity());
        cx.define(ty, "before", format!("gr_of_earlier<{op}, {ty}>(slots, {own}, {identity}, {warps}, &total)"))
    }

    /// A part's total, by its number.
    fn place(&self, number: &str) -> String {
        format!("gr_place<{}>(scratch, ({number}) * {})", computed(self.dtype()), self.dtype().size())
    }

    /// A variable with what changes nothing.
    fn start(&self, cx: &mut Cx<'_>, name: &str) {
        cx.line(format!("{} {name} = {};", computed(self.dtype()), self.identity()));
    }

    /// What changes nothing, not even the sign of a zero.
    fn identity(&self) -> String {
        let (kind, dtype) = (self.prefix.kind, self.dtype());
        let signed = kind == ReduceKind::Sum && dtype.is_float();
        constant(if signed { Scalar::float(dtype, -0.0) } else { kind.identity(dtype) })
    }

    fn combined(&self, before: &str, x: &str) -> String {
        format!("{}::of({before}, {x})", reduction(self.prefix.kind))
    }

    /// Sets the axis to the position of a step.
    fn bind(&self, cx: &mut Cx<'_>, step: &str, size: &str) {
        let position = if self.prefix.reverse { format!("(idx)({size} - 1 - ({step}))") } else { format!("(idx)({step})") };
        let position = cx.define("idx", "a", position);
        cx.at[self.prefix.axis] = Some(position);
    }

    /// What is combined at this point.
    fn point(&self, cx: &mut Cx<'_>) -> String {
        let values = cx.body(&self.prefix.body, Given::Nothing);
        format!("({}){}", computed(self.dtype()), values[self.prefix.to.value.index()])
    }

    fn store(&self, cx: &mut Cx<'_>, all: &str) {
        let mut values = vec![String::new(); self.prefix.body.insts.len()];
        let value = self.prefix.to.value;
        values[value.index()] = format!("({}){all}", computed(self.prefix.body.dtype(value)));
        cx.store(&self.prefix.to, &values);
        cx.at[self.prefix.axis] = None;
    }
}
