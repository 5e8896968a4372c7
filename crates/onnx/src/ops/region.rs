//! Regions of pictures, sampled to one size.

use graver_ir::op::{DotAxes, ReduceKind};
use graver_ir::{Dim, ScalarFn, Shape, Value};

use super::Values;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

/// One axis of all regions: weights `[regions, samples, places]` of the elements before and behind each sample.
struct Axis {
    before: Value,
    behind: Value,
}

/// He et al. (2017), "Mask R-CNN". Sampling is linear along each axis, so that a mean of samples is a product of matrices.
pub(super) fn align(n: &mut Node<'_>) -> Values {
    let (x, regions, of) = (n.arg(0)?, n.arg(1)?, n.arg(2)?);
    let shape = n.b.shape(x);
    if shape.rank() != 4 || n.b.rank(regions) != 2 || !n.b.shape(regions)[1].is(4) {
        return wrong(format!("takes pictures and rows of four corners, got {} and {}", n.b.ty(x), n.b.ty(regions)));
    }
    let (Ok(samples @ 1..=1024), Ok(rows @ 1..=65536), Ok(columns @ 1..=65536)) = (
        u16::try_from(n.int("sampling_ratio", 0)).map(i64::from),
        u32::try_from(n.int("output_height", 1)).map(i64::from),
        u32::try_from(n.int("output_width", 1)).map(i64::from),
    ) else {
        return unsupported("samples whose number depends on the region, or is above 1024");
    };
    let own = n.b.gather(x, of, 0, 0)?;
    let (left, top) = (axis(n, regions, 0, columns, samples, &shape[3])?, axis(n, regions, 1, rows, samples, &shape[2])?);
    let dims = [
        n.b.shape(own)[0].clone(),
        shape[1].clone(),
        Dim::from(rows),
        Dim::from(samples),
        Dim::from(columns),
        Dim::from(samples),
    ];
    let y = match n.text("mode", "avg").as_str() {
        "avg" => {
            let (top, left) = (n.b.add(top.before, top.behind)?, n.b.add(left.before, left.behind)?);
            let y = sampled(n.b, own, top, left)?;
            let y = n.b.reshape(y, dims)?;
            n.b.mean(y, &[3, 5], false)?
        }
        "max" => {
            let mut most: Option<Value> = None;
            for top in [top.before, top.behind] {
                for left in [left.before, left.behind] {
                    let corner = sampled(n.b, own, top, left)?;
                    most = Some(match most {
                        Some(most) => n.b.map(ScalarFn::Max, &[most, corner])?,
                        None => corner,
                    });
                }
            }
            let Some(most) = most else { return wrong("a place without corners") };
            let y = n.b.reshape(most, dims)?;
            n.b.reduce(ReduceKind::Max, y, &[3, 5], false)?
        }
        other => return wrong(format!("the mode `{other}`")),
    };
    Ok(vec![y])
}

/// `[regions, channels, rows, columns]` of `[regions, channels, height, width]`.
fn sampled(b: &mut Builder, x: Value, top: Value, left: Value) -> Result<Value> {
    let product = |b: &mut Builder, x: Value, weights: Value, axis: usize| {
        b.dot(x, weights, DotAxes { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![axis], rhs_contract: vec![2] })
    };
    // [regions, channels, height, columns], then [regions, channels, columns, rows].
    let x = product(b, x, left, 3)?;
    let x = product(b, x, top, 2)?;
    b.swap(x, 2, 3)
}

/// The weights of the samples along an axis of `places` elements, whose regions are from corner `place` to corner `place + 2`.
fn axis(n: &mut Node<'_>, regions: Value, place: i64, bins: i64, samples: i64, places: &Dim) -> Result<Axis> {
    let half_pixel =
        n.text("coordinate_transformation_mode", if n.version < 16 { "output_half_pixel" } else { "half_pixel" }) == "half_pixel";
    let (scale, dtype) = (n.float("spatial_scale", 1.0), n.b.dtype(regions));
    let mut corner = |place: i64| -> Result<Value> {
        let own = n.b.part(regions, 1, &Dim::from(place), &Dim::ONE)?;
        let own = n.b.with(ScalarFn::Mul, own, scale)?;
        n.b.with(ScalarFn::Sub, own, if half_pixel { 0.5 } else { 0.0 })
    };
    let (start, end) = (corner(place)?, corner(place + 2)?);
    let mut size = n.b.sub(end, start)?;
    if !half_pixel {
        size = n.b.with(ScalarFn::Max, size, 1.0)?;
    }
    // Samples lie in the middle of equal parts.
    let count = n.b.size(&Dim::from(bins * samples), dtype)?;
    let step = n.b.div(size, count)?;
    let sample = n.b.count(dtype, &Dim::from(bins * samples))?;
    let sample = n.b.with(ScalarFn::Add, sample, 0.5)?;
    let along = n.b.mul(step, sample)?;
    let at = n.b.add(start, along)?;
    weights(n.b, at, places)
}

/// The weights at places `[regions, samples]`; zero from one element outside on.
fn weights(b: &mut Builder, at: Value, places: &Dim) -> Result<Axis> {
    let dtype = b.dtype(at);
    let count = b.size(places, dtype)?;
    let last = b.with(ScalarFn::Sub, count, 1.0)?;
    let (low, high) = (b.with(ScalarFn::Ge, at, -1.0)?, b.map(ScalarFn::Le, &[at, count])?);
    let inside = b.map(ScalarFn::And, &[low, high])?;
    let at = b.with(ScalarFn::Max, at, 0.0)?;
    let at = b.map(ScalarFn::Min, &[at, last])?;
    let before = b.map(ScalarFn::Floor, &[at])?;
    let behind = b.with(ScalarFn::Add, before, 1.0)?;
    let behind = b.map(ScalarFn::Min, &[behind, last])?;
    let rest = b.sub(at, before)?;
    let own = b.from(ScalarFn::Sub, 1.0, rest)?;
    let zero = b.number(dtype, 0.0)?;
    let shape = Shape(b.shape(at).iter().chain([places]).cloned().collect());
    let place = b.iota(dtype, &shape, 2)?;
    let mut of = |element: Value, weight: Value| -> Result<Value> {
        let weight = b.select(inside, weight, zero)?;
        let (element, weight) = (b.unsqueeze(element, &[2])?, b.unsqueeze(weight, &[2])?);
        let here = b.map(ScalarFn::Eq, &[place, element])?;
        b.select(here, weight, zero)
    };
    Ok(Axis { before: of(before, own)?, behind: of(behind, rest)? })
}
