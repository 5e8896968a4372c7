//! Losses over classes.

use graver_ir::op::{GatherAxes, ReduceKind};
use graver_ir::{Array, DType, Op, ScalarFn, Value};

use super::Values;
use super::reduce::{Rows, along};
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, wrong};

pub(super) fn negative_log_likelihood(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    Ok(vec![picked_loss(n, x)?])
}

pub(super) fn softmax_cross_entropy(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    if n.b.rank(x) < 2 {
        return wrong(format!("takes [n, classes, ..], got {}", n.b.ty(x)));
    }
    let log = along(n.b, x, 1, Rows::LogSoftmax)?;
    Ok(vec![picked_loss(n, log)?, log])
}

/// What is left out of a loss, and what counts more.
struct Weights {
    /// Which labels count.
    valid: Option<Value>,
    /// The weight of every label.
    each: Option<Value>,
}

/// The negative log probability of every label, weighted and reduced.
fn picked_loss(n: &mut Node<'_>, log: Value) -> Result<Value> {
    let (labels, rank) = (n.arg(1)?, n.b.rank(log));
    if rank < 2 || n.b.rank(labels) + 1 != rank {
        return wrong(format!("labels {} for {}", n.b.ty(labels), n.b.ty(log)));
    }
    let mut order: Vec<usize> = (0..rank).filter(|axis| *axis != 1).collect();
    order.push(1);
    let rows = n.b.permute(log, order)?;
    let mut labels = n.b.cast(labels, DType::I64)?;
    let valid = if n.has("ignore_index") {
        let ignored = n.b.constant(Array::scalar(n.int("ignore_index", 0)))?;
        let valid = n.b.map(ScalarFn::Ne, &[labels, ignored])?;
        let any = n.b.constant(Array::scalar(0i64))?;
        labels = n.b.select(valid, labels, any)?;
        Some(valid)
    } else {
        None
    };
    let axes = GatherAxes { axis: rank - 1, batch: rank - 1 };
    let chosen = n.b.emit(Op::Gather(axes), &[rows, labels])?;
    let loss = n.b.map(ScalarFn::Neg, &[chosen])?;
    let each = match n.opt(2) {
        Some(weights) => Some(n.b.gather(weights, labels, 0, 0)?),
        None => None,
    };
    let reduction = n.text("reduction", "mean");
    n.b.wide(&[loss], |b, args| {
        let each = each.map(|each| b.widened(each)).transpose()?;
        reduced(b, args[0], &Weights { valid, each }, &reduction)
    })
}

fn reduced(b: &mut Builder, loss: Value, weights: &Weights, reduction: &str) -> Result<Value> {
    let (dtype, shape) = (b.dtype(loss), b.shape(loss));
    let axes: Vec<usize> = (0..shape.rank()).collect();
    let (zero, one) = (b.number(dtype, 0.0)?, b.number(dtype, 1.0)?);
    let mut weight = match weights.each {
        Some(each) => each,
        None => b.fill(one, &shape)?,
    };
    if let Some(valid) = weights.valid {
        weight = b.select(valid, weight, zero)?;
    }
    // What does not count is left out, not multiplied by zero: it may be infinite.
    let mut loss = b.mul(loss, weight)?;
    if let Some(valid) = weights.valid {
        loss = b.select(valid, loss, zero)?;
    }
    match reduction {
        "none" => Ok(loss),
        "sum" => b.reduce(ReduceKind::Sum, loss, &axes, false),
        "mean" => {
            let (sum, count) = (b.reduce(ReduceKind::Sum, loss, &axes, false)?, b.reduce(ReduceKind::Sum, weight, &axes, false)?);
            b.div(sum, count)
        }
        other => wrong(format!("the reduction `{other}`")),
    }
}
