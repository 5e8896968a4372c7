//! What is combined with all before it. Lanes are lines where those are neighbours in memory; else a vector is part of one line, whose lanes are
//! combined by doubling (W. D. Hillis and G. L. Steele, 1986, "Data parallel algorithms"). Few long lines are cut: the parts are combined
//! first, each for itself, so that every part then knows what is before it. Sums and products of `f32` are combined in `f64`, so that
//! rounding errors do not grow with a line, and what is large on the way need not be.

use graver_ir::Dim;
use graver_ir::kernel::{AxisSet, Nest, Prefix, Stage};
use graver_ir::op::ReduceKind;

use super::body::Nothing;
use super::cx::{At, Cx};
use super::loops::bind;
use super::nest::{best_lane, block};
use super::{Lowered, Phase};
use crate::vector::{Binary, Combine, Edge, Elem, Load, Op, Pattern, Val};

/// Vectors that are visited at once.
const AT_ONCE: i64 = 4;
/// Lines over lanes that a parallel point has: as many vectors at the greatest width, a cache's lines.
const COLUMNS: i64 = 64;
/// Parts of a line that is cut.
const PARTS: i64 = 64;
/// Positions of a part are a multiple of this.
const GRAIN: i64 = 1024;
/// Shorter lines are not worth reading twice.
const LONG: i64 = 1 << 18;
/// More lines than this are not cut: they keep threads busy.
const FEW: i64 = 8;

pub(super) fn lower(cx: Cx<'_>, prefix: &Prefix) -> Lowered {
    let lines = (0..prefix.axes.len()).filter(|axis| *axis != prefix.axis).collect();
    let along = Along { prefix, lines, elem: Elem::of(prefix.body.dtype(prefix.to.value)) };
    match along.lane(&cx) {
        Some(lane) if lane != prefix.axis => along.across(cx, lane),
        Some(_) | None if along.is_cut() => along.in_parts(&cx),
        Some(_) | None => along.whole(cx),
    }
}

struct Along<'a> {
    prefix: &'a Prefix,
    /// All axes but the one along which values are combined.
    lines: Vec<usize>,
    /// Of the values.
    elem: Elem,
}

impl Along<'_> {
    fn size(&self) -> &Dim {
        &self.prefix.axes[self.prefix.axis]
    }

    /// The sizes of the lines' axes; of one line there is one.
    fn points(&self) -> Vec<Dim> {
        if self.lines.is_empty() {
            return vec![Dim::ONE];
        }
        self.lines.iter().map(|axis| self.prefix.axes[*axis].clone()).collect()
    }

    fn is_cut(&self) -> bool {
        let lines = self.points().iter().fold(1, |count: i64, size| count.saturating_mul(size.nominal()));
        self.size().nominal() >= LONG && lines <= FEW
    }

    /// The axis along which accesses are best.
    fn lane(&self, cx: &Cx<'_>) -> Option<usize> {
        let Prefix { axes, body, to, .. } = self.prefix;
        let all = AxisSet::first(axes.len());
        let stage = Stage { over: all, keep: all, body: body.clone(), reductions: Vec::new(), stores: vec![to.clone()] };
        let nest = Nest { axes: axes.clone(), stages: vec![stage] };
        best_lane(cx, &nest, &nest.stages, all, AxisSet::EMPTY)
    }

    // ---- where lanes are lines

    fn across(&self, mut cx: Cx<'_>, lane: usize) -> Lowered {
        let columns = &self.prefix.axes[lane];
        let rows: Vec<usize> = self.lines.iter().copied().filter(|axis| *axis != lane).collect();
        let rest = rows.iter().map(|axis| self.prefix.axes[*axis].clone());
        let points: Vec<Dim> = rest.chain([columns.ceil_div(&Dim::from(COLUMNS))]).collect();
        cx.parallel(&points, &mut |cx, digits| {
            let (number, one) = (digits[rows.len()], cx.b.int(1));
            let next = cx.b.add(number, one);
            let (begin, end) = block(cx, number, next, COLUMNS, columns);
            bind(cx, &rows, digits);
            let group = AT_ONCE * i64::try_from(cx.lanes).expect("few lanes");
            let (count, mask) = (cx.b.sub(end, begin), cx.b.int(-group));
            let whole = cx.b.and(count, mask);
            let whole = cx.b.add(begin, whole);
            let open = cx.b.open_loop(begin, whole, group, Vec::new());
            self.abreast(cx, lane, open.var);
            cx.b.close_loop(open, Vec::new());
            cx.swept(lane, whole, end, 1, &mut |cx| {
                let (first, last, start) = (cx.b.int(0), cx.value(self.size()), self.start(cx));
                let start = cx.b.lanes(start);
                self.steps(cx, first, last, start);
            });
            cx.at[lane] = At::Unbound;
        });
        Lowered::new(vec![self.phase(cx, &points)], Dim::ZERO)
    }

    /// The lines of some vectors, step by step together: one does not wait for another.
    fn abreast(&self, cx: &mut Cx<'_>, lane: usize, line: Val) {
        let (first, last, start) = (cx.b.int(0), cx.value(self.size()), self.start(cx));
        let start = cx.b.lanes(start);
        let vectors = usize::try_from(AT_ONCE).expect("few vectors");
        let open = cx.b.open_loop(first, last, 1, vec![start; vectors]);
        let position = self.position(cx, open.var, 1);
        let mut next = Vec::new();
        for (number, before) in open.params.clone().into_iter().enumerate() {
            let further = cx.b.int(i64::try_from(number * cx.lanes).expect("few lanes"));
            cx.at[lane] = At::Lane(cx.b.add(line, further));
            cx.at[self.prefix.axis] = At::One(position);
            let (mut values, x) = self.point(cx);
            let all = self.combined(cx, before, x);
            self.store(cx, &mut values, all);
            next.push(all);
        }
        cx.at[lane] = At::Unbound;
        cx.b.close_loop(open, next);
    }

    // ---- where lanes are of one line

    fn whole(&self, mut cx: Cx<'_>) -> Lowered {
        let points = self.points();
        cx.parallel(&points, &mut |cx, digits| {
            bind(cx, &self.lines, digits);
            let (first, last, start) = (cx.b.int(0), cx.value(self.size()), self.start(cx));
            self.range(cx, first, last, start);
        });
        Lowered::new(vec![self.phase(cx, &points)], Dim::ZERO)
    }

    fn in_parts(&self, cx: &Cx<'_>) -> Lowered {
        let points: Vec<Dim> = self.points().into_iter().chain([Dim::from(PARTS)]).collect();
        let dtype = self.wide().dtype();
        let (mut totals, mut lines) = (cx.again("totals"), cx.again("lines"));
        totals.parallel(&points, &mut |cx, digits| {
            bind(cx, &self.lines, digits);
            let (first, last) = self.part(cx, digits[points.len() - 1]);
            let total = self.total(cx, first, last);
            let place = self.place(cx, digits, digits[points.len() - 1]);
            cx.b.store(place, dtype, Pattern::One, total);
        });
        lines.parallel(&points, &mut |cx, digits| {
            bind(cx, &self.lines, digits);
            let (zero, part, start) = (cx.b.int(0), digits[points.len() - 1], self.start(cx));
            let open = cx.b.open_loop(zero, part, 1, vec![start]);
            let ptr = self.place(cx, digits, open.var);
            let earlier = cx.b.load_now(Load { ptr, dtype, pattern: Pattern::One, mask: None });
            let before = self.combined(cx, open.params[0], earlier);
            let before = cx.b.close_loop(open, vec![before])[0];
            let (first, last) = self.part(cx, part);
            self.range(cx, first, last, before);
        });
        let bytes = points.iter().product::<Dim>() * Dim::from(dtype.size());
        Lowered::new(vec![self.phase(totals, &points), self.phase(lines, &points)], bytes)
    }

    /// The steps of a part, by its number.
    fn part(&self, cx: &mut Cx<'_>, part: Val) -> (Val, Val) {
        let length = self.size().ceil_div(&Dim::from(PARTS)).round_up(GRAIN);
        let (length, size) = (cx.value(&length), cx.value(self.size()));
        let first = cx.b.mul(part, length);
        let first = cx.b.binary(Binary::Min, first, size);
        let last = cx.b.add(first, length);
        (first, cx.b.binary(Binary::Min, last, size))
    }

    /// Where a part's total is, of the line that the digits but the last say.
    fn place(&self, cx: &mut Cx<'_>, digits: &[Val], part: Val) -> Val {
        let mut number = cx.b.int(0);
        for (digit, size) in digits.iter().zip(self.points()) {
            let size = cx.value(&size);
            let product = cx.b.mul(number, size);
            number = cx.b.add(product, *digit);
        }
        let (parts, bytes) = (cx.b.int(PARTS), cx.value(&Dim::from(self.wide().dtype().size())));
        let number = cx.b.mul(number, parts);
        let number = cx.b.add(number, part);
        let offset = cx.b.mul(number, bytes);
        let shared = cx.shared();
        cx.b.add(shared, offset)
    }

    /// All steps of a range combined. Of zeros alone it is a positive one.
    fn total(&self, cx: &mut Cx<'_>, first: Val, last: Val) -> Val {
        let (first, last) = if self.prefix.reverse {
            let size = cx.value(self.size());
            (cx.b.sub(size, last), cx.b.sub(size, first))
        } else {
            (first, last)
        };
        let open = cx.b.open_sweep(first, last, AT_ONCE as usize);
        cx.at[self.prefix.axis] = At::Lane(open.var);
        let (_, x) = self.point(cx);
        let x = cx.b.cast(x, self.wide());
        cx.at[self.prefix.axis] = At::Unbound;
        cx.b.close_sweep(open, vec![(self.fold(), x, None)])[0].0
    }

    /// The steps of a range, a vector's at once, from what is combined before them.
    fn range(&self, cx: &mut Cx<'_>, first: Val, last: Val, before: Val) {
        let lanes = i64::try_from(cx.lanes).expect("few lanes");
        let (count, mask) = (cx.b.sub(last, first), cx.b.int(-lanes));
        let whole = cx.b.and(count, mask);
        let whole = cx.b.add(first, whole);
        let open = cx.b.open_loop(first, whole, lanes, vec![before]);
        let position = self.position(cx, open.var, lanes);
        cx.at[self.prefix.axis] = At::Lane(position);
        let (mut values, x) = self.point(cx);
        let x = cx.b.lanes(x);
        let x = cx.b.cast(x, self.wide());
        let doubled = self.doubled(cx, x);
        let edge = if self.prefix.reverse { Edge::First } else { Edge::Last };
        let total = cx.b.op(Op::Edge(doubled, edge));
        let all = self.combined(cx, open.params[0], doubled);
        self.store(cx, &mut values, all);
        let next = self.combined(cx, open.params[0], total);
        let before = cx.b.close_loop(open, vec![next])[0];
        self.steps(cx, whole, last, before);
    }

    /// Every lane combined with those before it.
    fn doubled(&self, cx: &mut Cx<'_>, x: Val) -> Val {
        let (mut x, mut distance) = (x, 1i8);
        let elem = cx.b.ty(x).elem;
        let fill = self.identity(cx, elem);
        let fill = cx.b.lanes(fill);
        while usize::from(distance.unsigned_abs()) < cx.lanes {
            let earlier = cx.b.op(Op::Slide(x, fill, if self.prefix.reverse { -distance } else { distance }));
            x = cx.b.binary(self.binary(), earlier, x);
            distance *= 2;
        }
        x
    }

    // ---- step by step

    /// The steps of a range, one after the other, from what is combined before them.
    fn steps(&self, cx: &mut Cx<'_>, first: Val, last: Val, before: Val) {
        let open = cx.b.open_loop(first, last, 1, vec![before]);
        let position = self.position(cx, open.var, 1);
        cx.at[self.prefix.axis] = At::One(position);
        let (mut values, x) = self.point(cx);
        let all = self.combined(cx, open.params[0], x);
        self.store(cx, &mut values, all);
        cx.b.close_loop(open, vec![all]);
    }

    /// The lowest position of so many steps from this one on.
    fn position(&self, cx: &mut Cx<'_>, step: Val, count: i64) -> Val {
        if !self.prefix.reverse {
            return step;
        }
        let last = cx.value(&(self.size() - Dim::from(count)));
        cx.b.sub(last, step)
    }

    /// The body's values, and the one that is combined.
    fn point(&self, cx: &mut Cx<'_>) -> (Vec<Val>, Val) {
        let values = cx.body(&self.prefix.body, &mut Nothing);
        let x = values[self.prefix.to.value.index()];
        // Truth values go to no other lanes.
        let x = if self.elem == Elem::Bool { cx.b.cast(x, Elem::I32) } else { x };
        (values, x)
    }

    fn store(&self, cx: &mut Cx<'_>, values: &mut [Val], all: Val) {
        values[self.prefix.to.value.index()] = cx.b.cast(all, self.elem);
        cx.store(&self.prefix.to, values);
        cx.at[self.prefix.axis] = At::Unbound;
    }

    // ---- how values are combined

    /// In what they are carried along.
    fn wide(&self) -> Elem {
        match (self.elem, self.prefix.kind) {
            (Elem::F32, ReduceKind::Sum | ReduceKind::Prod) => Elem::F64,
            (Elem::Bool, _) => Elem::I32,
            (elem, _) => elem,
        }
    }

    fn start(&self, cx: &mut Cx<'_>) -> Val {
        self.identity(cx, self.wide())
    }

    /// What changes nothing, not even the sign of a zero.
    fn identity(&self, cx: &mut Cx<'_>, elem: Elem) -> Val {
        match (self.prefix.kind, elem) {
            (ReduceKind::Sum, Elem::F64) => cx.b.f64(-0.0),
            (ReduceKind::Sum, Elem::F32) => cx.b.f32(-0.0),
            (_, elem) => cx.b.constant(elem, self.fold().identity(elem)),
        }
    }

    /// What is before and what comes, in what is carried along.
    fn combined(&self, cx: &mut Cx<'_>, before: Val, x: Val) -> Val {
        let x = cx.b.cast(x, self.wide());
        cx.b.binary(self.binary(), before, x)
    }

    const fn binary(&self) -> Binary {
        match self.prefix.kind {
            ReduceKind::Sum => Binary::Add,
            ReduceKind::Prod => Binary::Mul,
            ReduceKind::Max => Binary::Max,
            ReduceKind::Min => Binary::Min,
        }
    }

    const fn fold(&self) -> Combine {
        match self.prefix.kind {
            ReduceKind::Sum => Combine::Sum,
            ReduceKind::Prod => Combine::Prod,
            ReduceKind::Max => Combine::Max,
            ReduceKind::Min => Combine::Min,
        }
    }

    fn phase(&self, cx: Cx<'_>, points: &[Dim]) -> Phase {
        let work = self.prefix.axes.iter().product::<Dim>() * Dim::from(self.prefix.body.insts.len() + 4);
        Phase { func: cx.b.finish(), extent: points.iter().product(), scratch: cx.scratch, work }
    }
}
