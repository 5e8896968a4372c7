//! Pieces of what attention multiplies, in shared memory twice: the next ones are brought while the present ones are multiplied. Threads
//! read and write 16 bytes at once where a side is contiguous; where it is what memory holds besides, copies go on by themselves.

use std::borrow::Cow;

use graver_ir::DType;
use graver_ir::kernel::{Access, Bounds, InstKind, Side};

use super::attend::{Plan, THREADS};
use super::body::{Given, Loaded};
use super::cx::{Cx, stored};
use super::nest::known_offset;
use super::vector::{self, is_aligned};

/// A piece of a side: positions along two axes.
pub(super) struct Piece<'a> {
    /// Its variable.
    pub(super) name: &'static str,
    pub(super) side: Cow<'a, Side>,
    /// Of its elements in shared memory.
    pub(super) dtype: DType,
    /// What lies in rows of shared memory.
    pub(super) down: Extent,
    /// What lies in each of them.
    pub(super) along: Extent,
}

/// Some positions along an axis, from an expression on; those from `end` on are zeros.
pub(super) struct Extent {
    pub(super) axis: usize,
    pub(super) count: i64,
    pub(super) first: String,
    pub(super) end: String,
}

/// Elements of 16 bytes.
pub(super) fn chunk(dtype: DType) -> i64 {
    i64::try_from(16 / dtype.size()).expect("at most 16")
}

/// From one row of a piece to the next: whole 16 bytes, and 16 more, so that rows lie in different banks.
pub(super) fn pitch(count: i64, dtype: DType) -> i64 {
    (count + chunk(dtype) - 1) / chunk(dtype) * chunk(dtype) + chunk(dtype)
}

/// Bytes of a piece in shared memory, twice.
pub(super) fn bytes(down: i64, along: i64, dtype: DType) -> usize {
    usize::try_from(2 * down * pitch(along, dtype)).expect("few elements") * dtype.size()
}

impl Piece<'_> {
    fn pitch(&self) -> i64 {
        pitch(self.along.count, self.dtype)
    }

    /// An expression of where the piece of a step begins.
    pub(super) fn half(&self, step: &str) -> String {
        format!("(i32)({step} & 1) * {}", self.down.count * self.pitch())
    }

    /// Brings the piece behind `step`.
    fn load(&self, cx: &mut Cx<'_>, plan: &Plan<'_>) {
        if let Some(access) = self.copied(cx, plan) {
            cx.open(format!("if (gr_address(gr_at(p{}, 0, 0)) % 16 == 0)", access.arg));
            self.chunks(cx, plan, Some(access));
            cx.close();
            cx.open("else");
            self.chunks(cx, plan, None);
            cx.close();
        } else {
            self.chunks(cx, plan, None);
        }
    }

    /// Whether no 16 bytes are partly outside.
    fn is_whole(&self, plan: &Plan<'_>) -> bool {
        plan.size(self.along.axis).known_multiple() % chunk(self.dtype) == 0
    }

    /// The load of a side that is copied as it is, 16 bytes at once.
    fn copied(&self, cx: &Cx<'_>, plan: &Plan<'_>) -> Option<&Access> {
        let InstKind::Load(access) = &self.side.body.inst(self.side.value).kind else { return None };
        let same = self.side.body.dtype(self.side.value) == self.dtype && access.bounds == Bounds::Proven;
        let aligned = is_aligned(cx, access.arg, &access.index, self.along.axis, chunk(self.dtype));
        (same && aligned && self.is_whole(plan)).then_some(access)
    }

    /// Whether neighbours in memory are neighbours down rather than along.
    fn is_turned(&self, cx: &Cx<'_>) -> bool {
        let contiguous = |axis: usize| {
            let slope = |access: &Access| known_offset(cx, access.arg, &access.index)?.along(axis).map(|(slope, _)| slope);
            self.side.body.loads().any(|(_, access)| slope(access).is_some_and(|slope| slope.is(1)))
        };
        contiguous(self.down.axis) && !contiguous(self.along.axis)
    }

    /// 16 bytes at once, copied or computed.
    fn chunks(&self, cx: &mut Cx<'_>, plan: &Plan<'_>, copied: Option<&Access>) {
        let (name, ty, chunk, down, along) = (self.name, stored(self.dtype), chunk(self.dtype), &self.down, &self.along);
        let each = (along.count + chunk - 1) / chunk;
        cx.open(format!("for (i32 place = thread; place < {}; place += {THREADS})", down.count * each));
        // Neighbouring threads read neighbours in memory.
        cx.line(match self.is_turned(cx) {
            true => format!("const i32 own = place % {0}, in = place / {0} * {chunk};", down.count),
            false => format!("const i32 own = place / {each}, in = place % {each} * {chunk};"),
        });
        cx.line(format!("const i32 to = {} + own * {} + in;", self.half("(step + 1)"), self.pitch()));
        let inside = format!("if ({} + own < {} && {} + in < {})", down.first, down.end, along.first, along.end);
        if let Some(access) = copied {
            cx.open(inside);
            self.bind(cx);
            let offset = cx.offset(access.arg, &access.index, &[]);
            cx.line(format!("gr_copy16(gr_at({name}, to, {chunk}), gr_at(p{}, {offset}, {chunk}));", access.arg));
            cx.close();
            cx.line(format!("else gr_write16(gr_at({name}, to, {chunk}), gr_quad{{{{0, 0, 0, 0}}}});"));
        } else {
            cx.line(format!("gr_pack<{ty}, {chunk}> piece;"));
            cx.unrolled("j", chunk, format!("piece.at[j] = gr_put<{ty}>(0.0f);"));
            cx.open(inside);
            let first = self.bind(cx);
            let mut loaded = Loaded::default();
            if self.is_whole(plan) {
                vector::read(cx, &self.side.body, (along.axis, chunk), &mut loaded);
            }
            cx.open_unrolled("j", chunk);
            if !self.is_whole(plan) {
                cx.line(format!("if ({first} + j >= {}) continue;", along.end));
            }
            let position = cx.define("idx", "a", format!("{first} + j"));
            cx.at[along.axis] = Some(position);
            let values = cx.body_with(&self.side.body, Given::Nothing, &loaded);
            cx.line(format!("piece.at[j] = gr_put<{ty}>({});", values[self.side.value.index()]));
            cx.close();
            cx.close();
            cx.line(format!("gr_write_aligned<{ty}, {chunk}>(gr_at({name}, to, {chunk}), piece);"));
        }
        cx.unbind(&[down.axis, along.axis]);
        cx.close();
    }

    /// Sets the axes to the first of 16 bytes; gives its position along.
    fn bind(&self, cx: &mut Cx<'_>) -> String {
        let own = cx.define("idx", "a", format!("{} + own", self.down.first));
        let first = cx.define("idx", "a", format!("{} + in", self.along.first));
        cx.at[self.down.axis] = Some(own);
        cx.at[self.along.axis] = Some(first.clone());
        first
    }
}

impl Plan<'_> {
    /// Goes through so many steps of `depth` positions: `first` is where a step's pieces begin while they are brought, and while they are
    /// multiplied. A barrier must follow before other pieces come to the same place.
    pub(super) fn through(
        &self,
        cx: &mut Cx<'_>,
        pieces: &[Piece<'_>],
        (steps, depth): (&str, i64),
        multiply: impl FnOnce(&mut Cx<'_>),
    ) {
        let copies = pieces.iter().any(|piece| piece.copied(cx, self).is_some());
        cx.open(format!("for (idx step = -1; step < {steps}; step++)"));
        cx.open("if (step >= 0)");
        if copies {
            cx.line("gr_copy_wait<0>();");
        }
        // Here all of the step's pieces are there, and what was read of those before them is read.
        cx.sync();
        cx.close();
        cx.open(format!("if (step + 1 < {steps})"));
        cx.line(format!("const idx first = (step + 1) * {depth};"));
        pieces.iter().for_each(|piece| piece.load(cx, self));
        cx.close();
        if copies {
            cx.line("gr_copy_commit();");
        }
        cx.line("if (step < 0) continue;");
        cx.line(format!("const i32 first = (i32)step * {depth};"));
        for piece in pieces {
            cx.line(format!("const i32 {}_ready = {};", piece.name, piece.half("step")));
        }
        multiply(cx);
        cx.close();
    }
}
