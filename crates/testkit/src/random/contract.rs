//! Random dot products and convolutions.

use graver_ir::op::{Conv, ConvAxis, DotAxes};
use graver_ir::{DType, Dim, Op, Shape};

use super::numbers::Numbers;
use super::{Gen, Known, MAX_ELEMENTS, Recipe};
use crate::fill::Fill;

pub(super) const RECIPES: &[Recipe] = &[weights, gram, rows, conv];

fn products(x: &Known, y: &Known, count: usize) -> Numbers {
    x.numbers.mul(y.numbers, x.dtype()).sum(x.dtype(), count)
}

fn contract(g: &mut Gen<'_>, x: &Known, y: &Known, axes: DotAxes) -> Option<()> {
    let count: usize = axes.lhs_contract.iter().map(|axis| x.sizes()[*axis]).product();
    let shared: usize = axes.lhs_batch.iter().map(|axis| x.sizes()[*axis]).product::<usize>() * count * count;
    let numel = |x: &Known| x.sizes().into_iter().product::<usize>();
    if count > 0 && numel(x) * numel(y) / shared.max(1) > MAX_ELEMENTS {
        return None;
    }
    g.emit(Op::Dot(axes), &[x.value, y.value], products(x, y, count)).map(drop)
}

/// The last axis times a matrix.
fn weights(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0 && x.dtype() != DType::Bool)?;
    let size = x.ty.shape.last()?.clone();
    if size.as_const().is_none() && g.inputs.is_none() {
        return None;
    }
    let columns = Dim::from(g.rng.int(1, 5));
    let y = g.fresh(x.dtype(), Shape(vec![size, columns]), Fill::Quarters);
    contract(g, &x, &y, DotAxes { lhs_contract: vec![x.rank() - 1], rhs_contract: vec![0], ..DotAxes::default() })
}

/// All rows with all rows, of one value.
fn gram(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() == 2 && x.dtype() != DType::Bool && x.sizes()[0] < 20)?;
    contract(g, &x, &x, DotAxes { lhs_contract: vec![1], rhs_contract: vec![1], ..DotAxes::default() })
}

/// Row by row: the first axis is a batch.
fn rows(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() >= 2 && x.dtype() != DType::Bool)?;
    let y = g.any(|y| y.ty == x.ty)?;
    let last = x.rank() - 1;
    let axes = DotAxes { lhs_batch: vec![0], rhs_batch: vec![0], lhs_contract: vec![last], rhs_contract: vec![last] };
    contract(g, &x, &y, axes)
}

/// Rows as signals of one channel, under two kernels of three elements.
fn conv(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() == 2 && x.dtype() != DType::Bool && x.sizes()[1] >= 3)?;
    let [rows, length] = <[Dim; 2]>::try_from(x.ty.shape.0.clone()).ok()?;
    let signal = g.emit_hidden(Op::Reshape(Shape(vec![rows, Dim::ONE, length])), &[x.value], x.numbers)?;
    let kernel = g.fresh(x.dtype(), [2, 1, 3], Fill::Quarters);
    let axis = ConvAxis {
        stride: g.rng.int(1, 2),
        low: Dim::from(g.rng.int(0, 2)),
        high: Dim::from(g.rng.int(0, 2)),
        kernel_dilation: 1,
        input_dilation: g.rng.int(1, 2),
    };
    let order = vec![0, 1, 2];
    let conv = Conv { input: order.clone(), kernel: order.clone(), output: order, axes: vec![axis], groups: 1, batch_groups: 1 };
    g.emit(Op::Conv(conv), &[signal.value, kernel.value], products(&x, &kernel, 3)).map(drop)
}
