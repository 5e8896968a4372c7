//! Normalisations of rows, with their weights: Ba et al. (2016), "Layer normalization"; Zhang and Sennrich (2019), "Root mean square layer
//! normalization".

use graver_ir::{ScalarFn, Shape, Value};

use super::Found;
use super::body::Body;
use super::pattern::Pattern;

/// `(x - mean x) / sqrt(mean (x - mean x)^2 + eps) * weight + bias`, all along the last axis.
pub(super) fn layer_norm(p: &mut Pattern<'_>, last: Value) -> Option<Found> {
    let shape = p.shape(last);
    p.either(last, ScalarFn::Add, |p, scaled, bias| {
        let bias = p.vector(bias, shape)?;
        p.either(scaled, ScalarFn::Mul, |p, normal, weight| {
            let weight = p.vector(weight, shape)?;
            let (centred, squares, eps) = over_root(p, normal, shape)?;
            p.is_power(squares, centred, 2).then_some(())?;
            let (x, mean) = p.two(centred, ScalarFn::Sub)?;
            let mean = p.row(mean, shape)?;
            (p.mean(mean)? == x).then_some(())?;
            Some(Found::Call(Body::LayerNorm { eps }, vec![x, weight, bias]))
        })
    })
}

/// `x / sqrt(mean x^2 + eps) * weight`, along the last axis.
pub(super) fn rms_norm(p: &mut Pattern<'_>, last: Value) -> Option<Found> {
    let shape = p.shape(last);
    p.either(last, ScalarFn::Mul, |p, normal, weight| {
        let weight = p.vector(weight, shape)?;
        let (x, squares, eps) = over_root(p, normal, shape)?;
        p.is_power(squares, x, 2).then_some(())?;
        Some(Found::Call(Body::RmsNorm { eps }, vec![x, weight]))
    })
}

/// `(x, s, eps)` of `x / sqrt(mean s + eps)`.
fn over_root(p: &mut Pattern<'_>, value: Value, shape: &Shape) -> Option<(Value, Value, Bits)> {
    let divided = p.attempt(|p| {
        let (x, root) = p.two(value, ScalarFn::Div)?;
        let root = p.row(root, shape)?;
        Some((x, p.one(root, ScalarFn::Sqrt)?))
    });
    let (x, above) = match divided {
        Some(found) => found,
        None => p.either(value, ScalarFn::Mul, |p, x, inverse| {
            let inverse = p.row(inverse, shape)?;
            Some((x, under_inverse_root(p, inverse)?))
        })?,
    };
    let above = p.plain(above);
    let (mean, eps) = p.with_constant(above, ScalarFn::Add)?;
    Some((x, p.mean(mean)?, Bits(eps.to_bits())))
}

/// `v` of `1 / sqrt v`.
fn under_inverse_root(p: &mut Pattern<'_>, x: Value) -> Option<Value> {
    if let Some(inside) = p.one(x, ScalarFn::Rsqrt) {
        return Some(inside);
    }
    let (one, root) = p.two(x, ScalarFn::Div)?;
    p.is_number(one, 1.0).then_some(())?;
    let root = p.plain(root);
    p.one(root, ScalarFn::Sqrt)
}

/// A number whose bits are a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bits(pub(super) u64);
