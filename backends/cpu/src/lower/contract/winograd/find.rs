//! Which contractions are convolutions of 3x3 windows that slide by one, and which of them transforms pay for.

use graver_ir::Dim;
use graver_ir::kernel::{AxisSet, Body, Bounds, Contract, Index, InstKind, Side};

use super::super::super::cx::Cx;
use super::super::sides::slope;
use super::transform::{FOUR, TAPS, TWO, Transform};
use crate::how::Convolutions;

/// What transforming an element of a patch or its sum costs, in products.
const TRANSFORM: i64 = 8;
/// What transforming a window of weights, or its gradient, costs beyond moving it.
const WINDOW: i64 = 32;

/// An axis of an image along which windows overlap: an element depends on its position plus the tap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slide {
    /// The position of the window.
    pub(super) own: usize,
    /// That in the window.
    pub(super) tap: usize,
    /// Whether an element depends on the position minus the tap.
    pub(super) reversed: bool,
}

impl Slide {
    /// The tap at a place of a window.
    pub(super) const fn at(&self, place: i64) -> i64 {
        if self.reversed { TAPS - 1 - place } else { place }
    }
}

/// A convolution of 3x3 windows, or its derivative with respect to them.
#[derive(Clone)]
pub(super) struct Convolution<'a> {
    pub(super) image: &'a Side,
    /// What patches are multiplied by: weights, or the cotangent of results.
    pub(super) by: &'a Side,
    pub(super) slides: [Slide; 2],
    /// The axes of positions besides those along which windows slide.
    pub(super) others: Vec<usize>,
    /// Those of what patches are multiplied by that the image has not.
    pub(super) outputs: Vec<usize>,
    /// Those of the image besides positions and windows; its elements are neighbours along the last.
    pub(super) channels: Vec<usize>,
}

impl<'a> Convolution<'a> {
    /// `None` if the contraction is none, or images are not read, and results not stored, channel by channel.
    pub(super) fn find(cx: &Cx<'_>, contract: &'a Contract) -> Option<Self> {
        let found = Self::of(contract, |own| (own, contract.k))?;
        let column = *found.outputs.last()?;
        (is_stored_along(cx, contract, column) && found.is_by_channel(cx)).then_some(found)
    }

    /// The derivative with respect to weights: positions are summed over, and there is a result for every tap. `None` if the contraction is none, or images
    /// and cotangents are not read channel by channel.
    pub(super) fn find_gradient(cx: &Cx<'_>, contract: &'a Contract) -> Option<Self> {
        let found = Self::of(contract, |own| (contract.k, own))?;
        let output = *found.outputs.last()?;
        (found.is_by_channel(cx) && is_along(cx, &found.by.body, output)).then_some(found)
    }

    /// `roles` says, of the image's own axes, which axes are positions, and which may be taps.
    fn of(contract: &'a Contract, roles: impl Fn(AxisSet) -> (AxisSet, AxisSet)) -> Option<Self> {
        let sides = [(&contract.a, contract.m, &contract.b, contract.n), (&contract.b, contract.n, &contract.a, contract.m)];
        sides.into_iter().filter(|_| contract.batch.is_empty()).find_map(|(image, m, by, n)| {
            let (positions, taps) = roles(m);
            let slides = slides(contract, &image.body, (positions, taps))?;
            let without = |set: AxisSet, axis: &dyn Fn(&Slide) -> usize| -> Vec<usize> {
                set.iter().filter(|other| slides.iter().all(|slide| axis(slide) != *other)).collect()
            };
            Some(Self {
                image,
                by,
                slides,
                others: without(positions, &|slide| slide.own),
                outputs: n.iter().collect(),
                channels: without(taps, &|slide| slide.tap),
            })
        })
    }

    /// Whether images are read along channels, which no padding depends on.
    fn is_by_channel(&self, cx: &Cx<'_>) -> bool {
        let inside = |index: &Index, size: &Dim| {
            let of_channel = self.channels.iter().any(|axis| index.dim().axes().iter().any(|var| var.id as usize == *axis));
            !of_channel || index.dim().is_below(size)
        };
        let mut loads = self.image.body.loads();
        let is_inside =
            loads.all(|(_, access)| access.index.iter().zip(&cx.arg(access.arg).shape).all(|(index, size)| inside(index, size)));
        self.channels.last().is_some_and(|channel| is_inside && is_along(cx, &self.image.body, *channel))
    }

    /// The transform of those allowed that is the least work, if any is less than the sums of products; `kept`: transformed windows are.
    pub(super) fn cheapest(&self, cx: &Cx<'_>, contract: &Contract, kept: bool) -> Option<&'static Transform> {
        let transforms: &[&'static Transform] = match cx.how.convolutions {
            Convolutions::Direct => &[],
            Convolutions::Winograd2 => &[&TWO],
            Convolutions::Winograd4 => &[&TWO, &FOUR],
        };
        let count = |axes: &[usize]| axes.iter().map(|axis| contract.axes[*axis].nominal()).fold(1, i64::saturating_mul);
        let [channels, outputs, others] = [&self.channels, &self.outputs, &self.others].map(|axes| count(axes));
        let sizes = self.slides.map(|slide| contract.axes[slide.own].nominal());
        let weights = channels.saturating_mul(outputs);
        let product = |numbers: [i64; 4]| numbers.into_iter().fold(1, i64::saturating_mul);
        let direct = product([others, sizes[0], sizes[1], 9]).saturating_mul(weights);
        // Vectors are transformed, of which the last may be nearly empty.
        let lanes = i64::try_from(cx.lanes).expect("few lanes");
        let covered = |count: i64| count.saturating_add(lanes - 1) / lanes * lanes;
        let sides = covered(channels).saturating_add(covered(outputs));
        let work = |transform: &Transform| {
            let at_once = transform.outputs();
            let [y, x] = sizes.map(|size| size / at_once + i64::from(size % at_once > 0));
            let each = weights.saturating_add(sides.saturating_mul(TRANSFORM));
            let packed = if kept { 0 } else { weights.saturating_mul(WINDOW) };
            product([others, y, x, transform.elements()]).saturating_mul(each).saturating_add(packed)
        };
        transforms.iter().copied().filter(|transform| work(transform) < direct).min_by_key(|transform| work(transform))
    }
}

/// Whether results are neighbours along an axis.
pub(super) fn is_stored_along(cx: &Cx<'_>, contract: &Contract, axis: usize) -> bool {
    contract.stores.iter().all(|store| slope(cx, store.arg, &store.index, axis).is_some_and(|by| by.is(1)))
}

/// Whether a body reads neighbours, or the same, along an axis.
fn is_along(cx: &Cx<'_>, body: &Body, axis: usize) -> bool {
    body.loads().all(|(_, access)| slope(cx, access.arg, &access.index, axis).is_some_and(|by| by.is(0) || by.is(1)))
}

/// The last two axes along which windows slide, of some positions and some that may be taps.
fn slides(contract: &Contract, image: &Body, (positions, taps): (AxisSet, AxisSet)) -> Option<[Slide; 2]> {
    let is_taps = |axis: &usize| contract.axes[*axis].is(TAPS);
    let of_tap = |tap: usize| positions.iter().find_map(|own| slide(image, own, tap));
    let found: Vec<Slide> = taps.iter().filter(is_taps).filter_map(of_tap).collect();
    let [.., y, x] = found[..] else { return None };
    (y.own != x.own).then_some([y, x])
}

/// The slide of a window along an axis, if everything in a body depends on the sum or the difference of both.
fn slide(image: &Body, own: usize, tap: usize) -> Option<Slide> {
    let mut dims: Vec<&Dim> = Vec::new();
    for inst in &image.insts {
        match &inst.kind {
            InstKind::Index(dim) => dims.push(dim),
            InstKind::Load(access) => {
                if access.bounds == Bounds::Clamp || !access.index.iter().all(Index::is_known) {
                    return None;
                }
                dims.extend(access.index.iter().map(Index::dim));
            }
            InstKind::Const(_) | InstKind::Map(..) | InstKind::Cast(_) | InstKind::Bitcast(_) | InstKind::Philox { .. } => {}
            InstKind::Reduced { .. } | InstKind::Acc | InstKind::Check { .. } => return None,
        }
    }
    let slopes = dims.into_iter().map(|dim| {
        let (of_own, rest) = dim.along(own)?;
        let (of_tap, _) = rest.along(tap)?;
        Some((of_own, of_tap))
    });
    let slopes: Vec<(Dim, Dim)> = slopes.collect::<Option<_>>()?;
    let moves = slopes.iter().any(|(of_own, _)| !of_own.is(0)) && slopes.iter().all(|(of_own, _)| of_own.axes().is_empty());
    let sum = slopes.iter().all(|(of_own, of_tap)| of_own == of_tap);
    let difference = slopes.iter().all(|(of_own, of_tap)| *of_own == Dim::ZERO - of_tap);
    (moves && (sum || difference)).then_some(Slide { own, tap, reversed: !sum })
}
