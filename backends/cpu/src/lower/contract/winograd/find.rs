//! Which contractions are convolutions of 3x3 windows that slide by one, and which of them transforms pay for.

use graver_ir::Dim;
use graver_ir::kernel::{AxisSet, Body, Bounds, Contract, Index, InstKind, Side, Store};

use super::super::super::cx::Cx;
use super::super::sides::slope;
use super::transform::{FOUR, TAPS, TWO, Transform};
use crate::how::Convolutions;

/// What transforming an element of a patch or its sum costs, in products.
const TRANSFORM: i64 = 8;
/// What transforming a window of weights costs beyond packing it.
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

/// A convolution of 3x3 windows.
pub(super) struct Convolution<'a> {
    pub(super) image: &'a Side,
    pub(super) weights: &'a Side,
    pub(super) slides: [Slide; 2],
    /// The other axes of the image and the result.
    pub(super) others: Vec<usize>,
    /// Those of the weights and the result, along the last of which results are neighbours.
    pub(super) columns: Vec<usize>,
    /// What is summed over besides windows; elements of the image are neighbours along the last.
    pub(super) channels: Vec<usize>,
}

impl<'a> Convolution<'a> {
    /// `None` if the contraction is none, or images are not stored channel by channel.
    pub(super) fn find(cx: &Cx<'_>, contract: &'a Contract) -> Option<Self> {
        let sides = [(&contract.a, contract.m, &contract.b, contract.n), (&contract.b, contract.n, &contract.a, contract.m)];
        sides.into_iter().filter(|_| contract.batch.is_empty()).find_map(|(image, m, weights, n)| {
            let slides = slides(contract, &image.body, m)?;
            let without = |set: AxisSet, axis: &dyn Fn(&Slide) -> usize| -> Vec<usize> {
                set.iter().filter(|other| slides.iter().all(|slide| axis(slide) != *other)).collect()
            };
            let found = Self {
                image,
                weights,
                slides,
                others: without(m, &|slide| slide.own),
                columns: n.iter().collect(),
                channels: without(contract.k, &|slide| slide.tap),
            };
            found.is_by_channel(cx, contract).then_some(found)
        })
    }

    /// Whether images are read, and results stored, along channels, which no padding depends on.
    fn is_by_channel(&self, cx: &Cx<'_>, contract: &Contract) -> bool {
        let (Some(channel), Some(column)) = (self.channels.last(), self.columns.last()) else { return false };
        let moves = |arg: usize, index: &[Index], axis: usize| slope(cx, arg, index, axis);
        let stored = |store: &Store| moves(store.arg, &store.index, *column).is_some_and(|by| by.is(1));
        let stored = contract.stores.iter().all(stored);
        let read = self.image.body.loads().all(|(_, access)| {
            let inside = |index: &Index, size: &Dim| {
                let of_channel = self.channels.iter().any(|axis| index.dim().axes().iter().any(|var| var.id as usize == *axis));
                !of_channel || index.dim().is_below(size)
            };
            let padding = access.index.iter().zip(&cx.arg(access.arg).shape).all(|(index, size)| inside(index, size));
            padding && moves(access.arg, &access.index, *channel).is_some_and(|by| by.is(0) || by.is(1))
        });
        stored && read
    }

    /// The transform of those allowed that is the least work, if any is less than the sums of products; `kept`: transformed weights are.
    pub(super) fn cheapest(&self, cx: &Cx<'_>, contract: &Contract, kept: bool) -> Option<&'static Transform> {
        let transforms: &[&'static Transform] = match cx.how.convolutions {
            Convolutions::Direct => &[],
            Convolutions::Winograd2 => &[&TWO],
            Convolutions::Winograd4 => &[&TWO, &FOUR],
        };
        let count = |axes: &[usize]| axes.iter().map(|axis| contract.axes[*axis].nominal()).fold(1, i64::saturating_mul);
        let [channels, columns, others] = [&self.channels, &self.columns, &self.others].map(|axes| count(axes));
        let sizes = self.slides.map(|slide| contract.axes[slide.own].nominal());
        let weights = channels.saturating_mul(columns);
        let product = |numbers: [i64; 4]| numbers.into_iter().fold(1, i64::saturating_mul);
        let direct = product([others, sizes[0], sizes[1], 9]).saturating_mul(weights);
        // Vectors are transformed, of which the last may be nearly empty.
        let lanes = i64::try_from(cx.lanes).expect("few lanes");
        let covered = |count: i64| count.saturating_add(lanes - 1) / lanes * lanes;
        let sides = covered(channels).saturating_add(covered(columns));
        let work = |transform: &Transform| {
            let [outputs, patch] = [transform.outputs(), transform.patch()];
            let [y, x] = sizes.map(|size| size / outputs + i64::from(size % outputs > 0));
            let each = weights.saturating_add(sides.saturating_mul(TRANSFORM));
            let packed = if kept { 0 } else { weights.saturating_mul(WINDOW) };
            product([others, y, x, patch * patch]).saturating_mul(each).saturating_add(packed)
        };
        transforms.iter().copied().filter(|transform| work(transform) < direct).min_by_key(|transform| work(transform))
    }
}

/// The last two axes along which windows slide.
fn slides(contract: &Contract, image: &Body, own: AxisSet) -> Option<[Slide; 2]> {
    let is_taps = |axis: &usize| contract.axes[*axis].is(TAPS);
    let of_tap = |tap: usize| own.iter().find_map(|own| slide(image, own, tap));
    let found: Vec<Slide> = contract.k.iter().filter(is_taps).filter_map(of_tap).collect();
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
                let is_plain = |index: &Index| matches!(index, Index::At(_));
                if access.bounds == Bounds::Clamp || !access.index.iter().all(is_plain) {
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
