//! Patches of the image: what windows of neighbouring results see, transformed.

use graver_ir::kernel::{Body, Bounds, Contract, InstKind};
use graver_ir::{DType, Dim};

use super::super::super::body::Nothing;
use super::super::super::cx::{At, Cx};
use super::super::Tiling;
use super::super::tile::bind;
use super::BYTES;
use super::find::Convolution;
use super::transform::{TAPS, Transform, both_ways};
use crate::vector::{Binary, Compare, Pattern, Unary, Val};

/// The patches of a convolution's image, of all of which each gives several results along both axes.
#[derive(Clone)]
pub(super) struct Patches<'a> {
    pub(super) convolution: Convolution<'a>,
    pub(super) transform: &'static Transform,
    /// Positions along both axes, and patches along them.
    sizes: [Dim; 2],
    along: [Dim; 2],
    /// The sizes of the other axes of positions.
    others: Vec<Dim>,
}

impl<'a> Patches<'a> {
    pub(super) fn new(contract: &Contract, convolution: Convolution<'a>, transform: &'static Transform) -> Self {
        let size = |axis: usize| contract.axes[axis].clone();
        let sizes = convolution.slides.map(|slide| size(slide.own));
        let along = sizes.each_ref().map(|size| size.ceil_div(&Dim::from(transform.outputs())));
        let others = convolution.others.iter().map(|axis| size(*axis)).collect();
        Self { convolution, transform, sizes, along, others }
    }

    /// How many there are.
    pub(super) fn count(&self) -> Dim {
        self.others.iter().chain(&self.along).product()
    }

    /// The body for every patch `begin..end`: its place among them, and where its first results are. The other axes of positions are bound.
    pub(super) fn each(&self, cx: &mut Cx<'_>, begin: Val, end: Val, body: &mut dyn FnMut(&mut Cx<'_>, Val, [Val; 2])) {
        let others = &self.convolution.others;
        let sizes: Vec<Val> = self.others.iter().chain(&self.along).map(|size| cx.value(size)).collect();
        let first = cx.digits(begin, &sizes);
        let open = cx.b.open_loop(begin, end, 1, first);
        let digits = open.params.clone();
        let [outer @ .., y, x] = &digits[..] else { unreachable!("a patch has two places") };
        bind(cx, others, outer);
        let outputs = cx.b.int(self.transform.outputs());
        let corner = [*y, *x].map(|place| cx.b.mul(place, outputs));
        let place = cx.b.sub(open.var, begin);
        body(cx, place, corner);
        others.iter().for_each(|axis| cx.at[*axis] = At::Unbound);
        let next = cx.next_digits(&digits, &sizes);
        cx.b.close_loop(open, next);
    }

    /// How many results a patch has along an axis.
    pub(super) fn results(&self, cx: &mut Cx<'_>, axis: usize, corner: [Val; 2]) -> Val {
        let (size, most) = (cx.value(&self.sizes[axis]), cx.b.int(self.transform.outputs()));
        let left = cx.b.sub(size, corner[axis]);
        cx.b.binary(Binary::Min, left, most)
    }

    /// Transforms a patch of the image. One without padding, all of whose results exist, is not asked at every position whether it is inside.
    pub(super) fn image(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, corner: [Val; 2], to: &Channels) {
        let (side, slides) = (self.convolution.image, &self.convolution.slides);
        let (inner, channels) = (unpadded(&side.body), &self.convolution.channels);
        let is_inner = self.is_inner(cx, corner);
        let open = cx.b.open_if(is_inner);
        to.each(cx, tiling, channels, &mut |cx, lanes| {
            let elements = both_ways(cx, self.transform.image, &mut |cx, row, column| {
                for ((slide, place), first) in slides.iter().zip([row, column]).zip(corner) {
                    cx.at[slide.own] = At::One(first);
                    cx.at[slide.tap] = At::One(cx.b.int(slide.at(place)));
                }
                cx.body(&inner, &mut Nothing)[side.value.index()]
            });
            to.store(cx, lanes, &elements);
        });
        cx.b.close_if(open);
        let is_outer = cx.b.unary(Unary::Not, is_inner);
        let open = cx.b.open_if(is_outer);
        to.each(cx, tiling, channels, &mut |cx, lanes| {
            let elements = both_ways(cx, self.transform.image, &mut |cx, row, column| {
                self.stand(cx, corner, [row, column]);
                cx.body(&side.body, &mut Nothing)[side.value.index()]
            });
            to.store(cx, lanes, &elements);
        });
        cx.b.close_if(open);
        self.unbind(cx);
    }

    /// Transforms what is multiplied by a patch where windows are summed up: the cotangent of its results, 0 of those that do not exist.
    pub(super) fn cotangent(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, corner: [Val; 2], to: &Channels) {
        let outputs = self.transform.outputs();
        let mut is_whole = None;
        for axis in [0, 1] {
            let (results, outputs) = (self.results(cx, axis, corner), cx.b.int(outputs));
            let all = cx.b.compare(Compare::Eq, results, outputs);
            is_whole = Some(is_whole.map_or(all, |before| cx.b.and(before, all)));
        }
        let is_whole = is_whole.expect("there are two axes");
        let open = cx.b.open_if(is_whole);
        self.cotangent_of(cx, tiling, corner, to, false);
        cx.b.close_if(open);
        let is_part = cx.b.unary(Unary::Not, is_whole);
        let open = cx.b.open_if(is_part);
        self.cotangent_of(cx, tiling, corner, to, true);
        cx.b.close_if(open);
        self.unbind(cx);
    }

    fn cotangent_of(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, corner: [Val; 2], to: &Channels, part: bool) {
        let (side, slides) = (self.convolution.by, &self.convolution.slides);
        to.each(cx, tiling, &self.convolution.outputs, &mut |cx, lanes| {
            let elements = both_ways(cx, self.transform.cotangent, &mut |cx, row, column| {
                let mut exists = None;
                for (axis, place) in [row, column].into_iter().enumerate() {
                    let place = cx.b.int(place);
                    let mut position = cx.b.add(corner[axis], place);
                    if part {
                        let (size, one) = (cx.value(&self.sizes[axis]), cx.b.int(1));
                        let last = cx.b.sub(size, one);
                        let inside = cx.b.compare(Compare::Lt, position, size);
                        exists = Some(exists.map_or(inside, |before| cx.b.and(before, inside)));
                        position = cx.b.binary(Binary::Min, position, last);
                    }
                    cx.at[slides[axis].own] = At::One(position);
                }
                let value = cx.body(&side.body, &mut Nothing)[side.value.index()];
                let Some(exists) = exists else { return value };
                let (exists, zero) = (cx.b.lanes(exists), cx.b.f32(0.0));
                let (value, zero) = (cx.b.lanes(value), cx.b.lanes(zero));
                cx.b.select(exists, value, zero)
            });
            to.store(cx, lanes, &elements);
        });
    }

    /// Whether a patch holds no padding and no position beyond the last result: both ends along both axes are inside.
    fn is_inner(&self, cx: &mut Cx<'_>, corner: [Val; 2]) -> Val {
        let outputs = self.transform.outputs();
        let mut inner: Option<Val> = None;
        let mut and = |cx: &mut Cx<'_>, holds: Val| inner = Some(inner.map_or(holds, |inner| cx.b.and(inner, holds)));
        for (size, first) in self.sizes.iter().zip(corner) {
            let (size, outputs) = (cx.value(size), cx.b.int(outputs));
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

    /// Stands at a position of a patch: at a result that exists, and the tap that is left. Positions beyond the last result's are that result's last.
    fn stand(&self, cx: &mut Cx<'_>, corner: [Val; 2], places: [i64; 2]) {
        for ((slide, size), (first, place)) in self.convolution.slides.iter().zip(&self.sizes).zip(corner.into_iter().zip(places))
        {
            let (place, last_tap) = (cx.b.int(place), cx.b.int(TAPS - 1));
            let last = cx.value(&(size - Dim::ONE));
            let position = cx.b.add(first, place);
            let own = cx.b.binary(Binary::Min, position, last);
            let tap = cx.b.sub(position, own);
            let tap = cx.b.binary(Binary::Min, tap, last_tap);
            let tap = if slide.reversed { cx.b.sub(last_tap, tap) } else { tap };
            (cx.at[slide.own], cx.at[slide.tap]) = (At::One(own), At::One(tap));
        }
    }

    fn unbind(&self, cx: &mut Cx<'_>) {
        for slide in &self.convolution.slides {
            (cx.at[slide.own], cx.at[slide.tap]) = (At::Unbound, At::Unbound);
        }
    }
}

/// Some of an operand's channels, and where elements of theirs lie: channel `begin + i` of element `e` is at `base + e * apart + i`.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    pub(super) begin: Val,
    pub(super) end: Val,
    pub(super) base: Val,
    pub(super) apart: i64,
}

impl Channels {
    /// The body at every channel, over lanes; `axes` are what channels are numbered by.
    pub(super) fn each(&self, cx: &mut Cx<'_>, tiling: &Tiling<'_>, axes: &[usize], body: &mut dyn FnMut(&mut Cx<'_>, &Lanes)) {
        tiling.runs(cx, axes, self.begin, self.end, &mut |cx, run| {
            let bytes = cx.b.int(BYTES);
            let shift = cx.b.sub(run.first, self.begin);
            let shift = cx.b.mul(shift, bytes);
            let axis = Dim::axis(u32::try_from(run.axis).expect("few axes"), &tiling.size(run.axis));
            let lanes = Lanes { shift, axis };
            cx.swept(run.axis, run.begin, run.end, 1, &mut |cx| body(cx, &lanes));
        });
    }

    /// Stores every element of the channels that are over lanes.
    pub(super) fn store(&self, cx: &mut Cx<'_>, lanes: &Lanes, elements: &[Val]) {
        for (number, element) in (0..).zip(elements) {
            let before = cx.b.int(number * self.apart * BYTES);
            let row = cx.b.add(self.base, before);
            let (ptr, pattern) = lanes.place(cx, row);
            cx.b.store(ptr, DType::F32, pattern, *element);
        }
    }
}

/// The channels that are over lanes.
pub(super) struct Lanes {
    /// Bytes from where a row of channels begins to where position 0 of the axis over lanes would be.
    shift: Val,
    axis: Dim,
}

impl Lanes {
    /// Where they lie in a row.
    fn place(&self, cx: &mut Cx<'_>, row: Val) -> (Val, Pattern) {
        let row = cx.b.add(row, self.shift);
        cx.place(row, &self.axis, None, DType::F32)
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
