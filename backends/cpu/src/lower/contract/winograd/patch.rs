//! Patches of the image: what windows of neighbouring results see, transformed.

use graver_ir::Dim;
use graver_ir::kernel::{Body, Bounds, InstKind};

use super::super::super::body::Nothing;
use super::super::super::cx::{At, Cx};
use super::transform::{TAPS, both_ways};
use super::{BYTES, Memory, Winograd, offset};
use crate::vector::{Binary, Compare, Elem, Load, Pattern, Unary, Val};

impl Winograd<'_> {
    /// Transforms every patch `begin..end`. One without padding, all of whose results exist, is read where it lies; others are
    /// copied first.
    pub(super) fn patches(&self, cx: &mut Cx<'_>, memory: &Memory, begin: Val, end: Val) {
        let inner = unpadded(&self.convolution.image.body);
        let value = self.convolution.image.value;
        self.each_patch(cx, begin, end, &mut |cx, place, corner| {
            let to = offset(cx, memory.patches, place, self.row_stride());
            let is_inner = self.is_inner(cx, corner);
            let open = cx.b.open_if(is_inner);
            self.transformed(cx, to, &mut |cx, row, column| {
                for ((slide, place), first) in self.convolution.slides.iter().zip([row, column]).zip(corner) {
                    cx.at[slide.own] = At::One(first);
                    cx.at[slide.tap] = At::One(cx.b.int(slide.at(place)));
                }
                cx.body(&inner, &mut Nothing)[value.index()]
            });
            cx.b.close_if(open);
            let is_outer = cx.b.unary(Unary::Not, is_inner);
            let open = cx.b.open_if(is_outer);
            self.copy(cx, memory.padded, corner);
            self.transformed(cx, to, &mut |cx, row, column| {
                let element = cx.b.int(row * self.transform.patch() + column);
                let from = offset(cx, memory.padded, element, self.row_stride());
                let (ptr, pattern) = self.channel(cx, from);
                cx.b.load_now(Load { ptr, dtype: Elem::F32.dtype(), pattern, mask: None })
            });
            cx.b.close_if(open);
            self.unbind(cx);
        });
    }

    /// The channel's place in a row of channels.
    fn channel(&self, cx: &mut Cx<'_>, row: Val) -> (Val, Pattern) {
        cx.place(row, &self.tiling.number(&self.tiling.k), None, Elem::F32.dtype())
    }

    /// Transforms a patch, whose elements are given, at every channel.
    fn transformed(&self, cx: &mut Cx<'_>, to: Val, at: &mut dyn FnMut(&mut Cx<'_>, i64, i64) -> Val) {
        self.each_channel(cx, &mut |cx| {
            let elements = both_ways(cx, self.transform.image, at);
            for (number, element) in (0..).zip(elements) {
                let before = cx.b.int(number * self.most * self.row_stride() * BYTES);
                let to = cx.b.add(to, before);
                let (ptr, pattern) = self.channel(cx, to);
                cx.b.store(ptr, Elem::F32.dtype(), pattern, element);
            }
        });
    }

    fn each_channel(&self, cx: &mut Cx<'_>, body: &mut dyn FnMut(&mut Cx<'_>)) {
        let (lane, serial) = self.tiling.k.split_last().expect("a convolution has channels");
        cx.nested(&self.tiling.contract.axes, serial, Some(*lane), 1, body);
    }

    /// Whether a patch holds no padding and no position beyond the last result: both ends along both axes are inside.
    fn is_inner(&self, cx: &mut Cx<'_>, corner: [Val; 2]) -> Val {
        let outputs = self.transform.outputs();
        let mut inner: Option<Val> = None;
        let mut and = |cx: &mut Cx<'_>, holds: Val| inner = Some(inner.map_or(holds, |inner| cx.b.and(inner, holds)));
        for (slide, first) in self.convolution.slides.iter().zip(corner) {
            let (size, outputs) = (cx.value(&self.tiling.size(slide.own)), cx.b.int(outputs));
            let end = cx.b.add(first, outputs);
            let exists = cx.b.compare(Compare::Le, end, size);
            and(cx, exists);
        }
        let body = &self.convolution.image.body;
        for ends in [[false, false], [false, true], [true, false], [true, true]] {
            for ((slide, first), last) in self.convolution.slides.iter().zip(corner).zip(ends) {
                let (moved, tap) = if last { (outputs - 1, TAPS - 1) } else { (0, 0) };
                let moved = cx.b.int(moved);
                cx.at[slide.own] = At::One(cx.b.add(first, moved));
                cx.at[slide.tap] = At::One(cx.b.int(slide.at(tap)));
            }
            for (_, access) in body.loads().filter(|(_, access)| matches!(access.bounds, Bounds::Fill(_))) {
                if let Some(inside) = cx.inside_of(access.arg, &access.index, &[]) {
                    and(cx, inside);
                }
            }
        }
        inner.expect("there are two axes")
    }

    /// Copies a patch, padding and all. Positions beyond the last result's are that result's last.
    fn copy(&self, cx: &mut Cx<'_>, to: Val, corner: [Val; 2]) {
        let patch = self.transform.patch();
        let (zero, size) = (cx.b.int(0), cx.b.int(patch));
        let row = cx.b.open_loop(zero, size, 1, Vec::new());
        self.bind_slide(cx, 0, corner[0], row.var);
        let to = offset(cx, to, row.var, patch * self.row_stride());
        let column = cx.b.open_loop(zero, size, 1, Vec::new());
        self.bind_slide(cx, 1, corner[1], column.var);
        let to = offset(cx, to, column.var, self.row_stride());
        self.each_channel(cx, &mut |cx| {
            let side = self.convolution.image;
            let value = cx.body(&side.body, &mut Nothing)[side.value.index()];
            let (ptr, pattern) = self.channel(cx, to);
            cx.b.store(ptr, Elem::F32.dtype(), pattern, value);
        });
        cx.b.close_loop(column, Vec::new());
        cx.b.close_loop(row, Vec::new());
    }

    /// Stands at a position of a patch: at a result that exists, and the tap that is left.
    fn bind_slide(&self, cx: &mut Cx<'_>, axis: usize, first: Val, place: Val) {
        let slide = self.convolution.slides[axis];
        let last_tap = cx.b.int(TAPS - 1);
        let last = cx.value(&(self.tiling.size(slide.own) - Dim::ONE));
        let position = cx.b.add(first, place);
        let own = cx.b.binary(Binary::Min, position, last);
        let tap = cx.b.sub(position, own);
        let tap = cx.b.binary(Binary::Min, tap, last_tap);
        let tap = if slide.reversed { cx.b.sub(last_tap, tap) } else { tap };
        (cx.at[slide.own], cx.at[slide.tap]) = (At::One(own), At::One(tap));
    }

    fn unbind(&self, cx: &mut Cx<'_>) {
        for slide in &self.convolution.slides {
            (cx.at[slide.own], cx.at[slide.tap]) = (At::Unbound, At::Unbound);
        }
    }
}

/// The body where nothing is padding.
fn unpadded(body: &Body) -> Body {
    let mut body = body.clone();
    for inst in &mut body.insts {
        if let InstKind::Load(access) = &mut inst.kind {
            access.bounds = Bounds::Proven;
        }
    }
    body
}
