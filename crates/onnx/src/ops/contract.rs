//! Sums of products: matrices and convolutions.

use graver_ir::op::{Conv, ConvAxis, DotAxes};
use graver_ir::{Dim, Op, ScalarFn, Value};

use super::Values;
use super::window::{self, Spatial};
use crate::build::{Builder, common};
use crate::node::Node;
use crate::problem::{Result, quoted, wrong};

pub(super) fn matmul(n: &mut Node<'_>) -> Values {
    let (x, y) = (n.arg(0)?, n.arg(1)?);
    Ok(vec![n.b.matmul(x, y)?])
}

/// `alpha * a b + beta * c`, each of `a` and `b` as it is or transposed.
pub(super) fn gemm(n: &mut Node<'_>) -> Values {
    let (a, b) = (n.arg(0)?, n.arg(1)?);
    if n.b.rank(a) != 2 || n.b.rank(b) != 2 {
        return wrong(format!("multiplies matrices, got {} and {}", n.b.ty(a), n.b.ty(b)));
    }
    let (left, right) = (usize::from(!n.flag("transA", false)), usize::from(n.flag("transB", false)));
    let axes = DotAxes { lhs_contract: vec![left], rhs_contract: vec![right], ..DotAxes::default() };
    let product = n.b.dot(a, b, axes)?;
    let mut y = times(n.b, product, n.float("alpha", 1.0))?;
    if let Some(c) = n.opt(2) {
        let beta = n.float("beta", 1.0);
        let (own, whole) = (n.b.shape(y), common(&[n.b.shape(y), n.b.shape(c)])?);
        if own != whole {
            return wrong(format!("{} does not broadcast to the product {}", n.b.ty(c), n.b.ty(y)));
        }
        // Times zero, it is not there, whatever it holds: as in BLAS.
        if beta != 0.0 {
            let c = times(n.b, c, beta)?;
            y = n.b.add(y, c)?;
        }
    }
    Ok(vec![y])
}

#[expect(clippy::float_cmp, reason = "exactly one is the attribute's default")]
fn times(b: &mut Builder, x: Value, factor: f64) -> Result<Value> {
    if factor == 1.0 { Ok(x) } else { b.with(ScalarFn::Mul, x, factor) }
}

/// The usual layout: batch, features, spatial axes; the kernel: output features, input features, spatial axes.
fn convolve(b: &mut Builder, x: Value, kernel: Value, axes: Vec<ConvAxis>, groups: i64) -> Result<Value> {
    let places: Vec<usize> = (0..axes.len() + 2).collect();
    let conv = Conv { input: places.clone(), kernel: places.clone(), output: places, axes, groups, batch_groups: 1 };
    b.emit(Op::Conv(conv), &[x, kernel])
}

/// A vector over the features added.
pub(super) fn biased(b: &mut Builder, y: Value, bias: Option<Value>) -> Result<Value> {
    let Some(bias) = bias else { return Ok(y) };
    let trailing: Vec<usize> = (1..b.rank(y) - 1).collect();
    let bias = b.unsqueeze(bias, &trailing)?;
    b.add(y, bias)
}

/// The kernel's spatial sizes, which must be numbers, and those of the attribute `kernel_shape` where it is there.
pub(super) fn kernel_sizes(n: &Node<'_>, kernel: Value) -> Result<Vec<i64>> {
    let shape = n.b.shape(kernel);
    let sizes: Option<Vec<i64>> = shape.iter().skip(2).map(Dim::as_const).collect();
    let asked = n.ints("kernel_shape").filter(|asked| !asked.is_empty());
    match (sizes, asked) {
        (Some(sizes), Some(asked)) if shape.rank() >= 2 && sizes != asked => {
            wrong(format!("`kernel_shape` is {asked:?}, and the kernel is {}: {sizes:?}", n.b.ty(kernel)))
        }
        (Some(sizes), _) if shape.rank() >= 2 => Ok(sizes),
        (Some(_) | None, _) => wrong(format!("the kernel {} is not [out, in, numbers ..]", n.b.ty(kernel))),
    }
}

pub(super) fn conv(n: &mut Node<'_>) -> Values {
    let (x, kernel) = (n.arg(0)?, n.arg(1)?);
    let y = convolved(n, x, kernel)?;
    Ok(vec![biased(n.b, y, n.opt(2))?])
}

/// The convolution that the attributes describe.
pub(super) fn convolved(n: &mut Node<'_>, x: Value, kernel: Value) -> Result<Value> {
    let sizes = kernel_sizes(n, kernel)?;
    let spatial = window::spatial(n, x, &sizes)?;
    let axes = spatial.iter().map(|axis| ConvAxis {
        stride: axis.stride,
        low: axis.low.clone(),
        high: axis.high.clone(),
        kernel_dilation: axis.dilation,
        input_dilation: 1,
    });
    convolve(n.b, x, kernel, axes.collect(), n.int("group", 1))
}

/// A convolution of sequences, each channel by itself.
pub(super) fn depthwise(b: &mut Builder, x: Value, kernel: Value, channels: i64) -> Result<Value> {
    let axis = ConvAxis { stride: 1, low: Dim::ZERO, high: Dim::ZERO, kernel_dilation: 1, input_dilation: 1 };
    convolve(b, x, kernel, vec![axis], channels)
}

/// The convolution whose gradient this is, backwards: the operand is dilated by the strides, the kernel reversed.
pub(super) fn conv_transpose(n: &mut Node<'_>) -> Values {
    let (x, kernel) = (n.arg(0)?, n.arg(1)?);
    let sizes = kernel_sizes(n, kernel)?;
    let spatial = transposed(n, x, &sizes)?;
    let axes = spatial.iter().zip(&sizes).map(|(axis, size)| {
        let reach = Dim::from(axis.dilation.saturating_mul(size - 1));
        ConvAxis {
            stride: 1,
            low: &reach - &axis.low,
            high: &reach - &axis.high,
            kernel_dilation: axis.dilation,
            input_dilation: axis.stride,
        }
    });
    let axes: Vec<ConvAxis> = axes.collect();
    let groups = n.int("group", 1);
    let kernel = turned(n.b, kernel, groups)?;
    let y = convolve(n.b, x, kernel, axes, groups)?;
    Ok(vec![biased(n.b, y, n.opt(2))?])
}

/// `[in, out / groups, ..]` as `[out, in / groups, ..]`, its spatial axes backwards.
fn turned(b: &mut Builder, kernel: Value, groups: i64) -> Result<Value> {
    if groups < 1 {
        return wrong(format!("{groups} groups"));
    }
    let (shape, parts) = (b.shape(kernel), Dim::from(groups));
    let (input, spatial) = (shape[0].floor_div(&parts), &shape[2..]);
    let split = [&[parts.clone(), input.clone(), shape[1].clone()], spatial].concat();
    let kernel = b.reshape(kernel, split)?;
    let kernel = b.swap(kernel, 1, 2)?;
    let kernel = b.reshape(kernel, [&[&shape[1] * &parts, input], spatial].concat())?;
    let axes: Vec<usize> = (2..shape.rank()).collect();
    if axes.is_empty() { Ok(kernel) } else { b.emit(Op::Reverse(axes), &[kernel]) }
}

/// The windows of the convolution forwards; what `output_shape` and `output_padding` ask for is taken from the upper padding.
fn transposed(n: &Node<'_>, x: Value, sizes: &[i64]) -> Result<Vec<Spatial>> {
    let count = sizes.len();
    let one = |name: &str, default: i64| n.ints(name).unwrap_or_else(|| vec![default; count]);
    let (strides, dilations, extra) = (one("strides", 1), one("dilations", 1), one("output_padding", 0));
    let (pads, asked) = (n.ints("pads").unwrap_or_else(|| vec![0; 2 * count]), n.ints("output_shape"));
    let auto = window::auto_pad(n)?;
    let shape = n.b.shape(x);
    let lists = [strides.len(), dilations.len(), extra.len(), pads.len() / 2, shape.rank().saturating_sub(2)];
    if lists != [count; 5] || asked.as_ref().is_some_and(|asked| asked.len() < count) {
        return wrong(format!("attributes of other lengths than the {count} spatial axes of {}", n.b.ty(x)));
    }
    let mut spatial = Vec::new();
    for axis in 0..count {
        let (stride, dilation) = (strides[axis], dilations[axis]);
        if stride < 1 || dilation < 1 {
            return wrong(format!("stride {stride}, dilation {dilation}"));
        }
        let reach = Dim::from(dilation.saturating_mul(sizes[axis] - 1).saturating_add(1));
        let full = (&shape[axis + 2] - Dim::ONE) * Dim::from(stride) + &reach + Dim::from(extra[axis]);
        let wanted = match (&asked, auto.as_str()) {
            (Some(asked), _) => Some(Dim::from(asked[asked.len() - count + axis])),
            (None, "SAME_UPPER" | "SAME_LOWER") => Some(&shape[axis + 2] * Dim::from(stride)),
            (None, _) => None,
        };
        let (low, high) = match wanted {
            None => (Dim::from(pads[axis]), Dim::from(pads[axis + count])),
            Some(wanted) => {
                let total = full - wanted;
                let half = total.floor_div(&Dim::from(2));
                let rest = &total - &half;
                if auto == "SAME_UPPER" { (half, rest) } else { (rest, half) }
            }
        };
        spatial.push(Spatial { stride, dilation, size: sizes[axis], low, high: high - Dim::from(extra[axis]) });
    }
    Ok(spatial)
}

/// A sum of products over named axes.
pub(super) fn einsum(n: &mut Node<'_>) -> Values {
    let args = n.all()?;
    let equation: String = n.text("equation", "").chars().filter(|c| !c.is_whitespace()).collect();
    let (inputs, output) = match equation.split_once("->") {
        Some((inputs, output)) => (inputs.to_owned(), Some(output.to_owned())),
        None => (equation.clone(), None),
    };
    let ranks: Vec<usize> = args.iter().map(|arg| n.b.rank(*arg)).collect();
    let terms: Vec<&str> = inputs.split(',').collect();
    if terms.len() != args.len() {
        return wrong(format!("{} names {} operands, there are {}", quoted(&equation), terms.len(), args.len()));
    }
    let names: Vec<Vec<char>> = terms.iter().zip(&ranks).map(|(term, rank)| spelled(term, *rank)).collect::<Result<_>>()?;
    let output = match output {
        Some(output) => spelled(&output, output_rank(&output, &names))?,
        None => implied(&names),
    };
    super::einsum::contract(n.b, args, names, &output).map(|y| vec![y])
}

/// The first of the names that an ellipsis stands for; the last of its axes has the last name.
const DOTS: u32 = 0xE000;

/// A name an axis; an ellipsis stands for what is left.
fn spelled(term: &str, rank: usize) -> Result<Vec<char>> {
    let (before, after) = term.split_once("...").unwrap_or((term, ""));
    let letters = before.len() + after.len();
    let dots = if term.contains("...") { rank.checked_sub(letters) } else { (letters == rank).then_some(0) };
    let Some(dots) = dots.filter(|dots| *dots <= 64) else {
        return wrong(format!("{} for a tensor of rank {rank}", quoted(term)));
    };
    let hidden = (64 - dots..64).filter_map(|place| char::from_u32(DOTS + u32::try_from(place).ok()?));
    Ok(before.chars().chain(hidden).chain(after.chars()).collect())
}

fn output_rank(output: &str, names: &[Vec<char>]) -> usize {
    let hidden = |name: &Vec<char>| name.iter().filter(|c| **c >= '\u{E000}').count();
    let dots = if output.contains("...") { names.iter().map(hidden).max().unwrap_or(0) } else { 0 };
    output.replace("...", "").len() + dots
}

/// Without an arrow: hidden axes, then the names that occur once, in order.
fn implied(names: &[Vec<char>]) -> Vec<char> {
    let mut all: Vec<char> = names.iter().flatten().copied().collect();
    all.sort_unstable();
    let once = |c: &char| *c >= '\u{E000}' || all.iter().filter(|other| *other == c).count() == 1;
    let mut kept: Vec<char> = all.iter().copied().filter(once).collect();
    kept.dedup();
    kept.sort_by_key(|c| (*c < '\u{E000}', *c));
    kept
}
