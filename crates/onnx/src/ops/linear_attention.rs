//! Linear attention: a state of keys times values, read and written one step at a time.
//!
//! Yang et al. (2024), "Parallelizing linear transformers with the delta rule over sequence length".

use graver_ir::op::DotAxes;
use graver_ir::{DType, Dim, ScalarFn, Shape, Value};

use super::Values;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, wrong};

pub(super) fn linear_attention(n: &mut Node<'_>) -> Values {
    let (q_heads, kv_heads) = (n.int("q_num_heads", 0), n.int("kv_num_heads", 0));
    if q_heads < 1 || kv_heads < 1 || q_heads % kv_heads != 0 {
        return wrong(format!("{q_heads} heads of queries over {kv_heads}"));
    }
    let kind = n.text("update_rule", "gated_delta");
    let rule = Rule { decays: kind.starts_with("gated"), corrects: kind.ends_with("delta") };
    let dtype = n.dtype(0)?;
    let compute = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let mut scanned = vec![split(n, 0, q_heads, compute)?, split(n, 1, kv_heads, compute)?, split(n, 2, kv_heads, compute)?];
    if rule.decays {
        scanned.push(split(n, 4, kv_heads, compute)?);
    }
    if rule.corrects {
        // One rate a head, or one for all.
        let rates = n.shape(5)?.last().and_then(Dim::as_const).unwrap_or(1);
        scanned.push(split(n, 5, rates, compute)?);
    }
    let (keys, values) = (n.b.shape(scanned[1]), n.b.shape(scanned[2]));
    let (state, kept) = match n.opt(3) {
        Some(past) => (n.b.cast(past, compute)?, n.b.dtype(past)),
        None => {
            let zero = n.b.number(compute, 0.0)?;
            let shape = Shape(vec![keys[1].clone(), keys[2].clone(), keys[3].clone(), values[3].clone()]);
            (n.b.fill(zero, &shape)?, dtype)
        }
    };
    let (last, read) = n.b.scan(&keys[0], &[state], &scanned, &[], |b, states, slices, _| step(b, states[0], slices, rule))?;
    let own = n.float("scale", 0.0);
    #[expect(clippy::cast_precision_loss, reason = "a width is far below 2^53")]
    let scale = match keys[3].as_const() {
        _ if own > 0.0 => own,
        Some(width) => 1.0 / (width as f64).sqrt(),
        None => return wrong("the width of keys must be a number"),
    };
    let y = n.b.with(ScalarFn::Mul, read, scale)?;
    let y = n.b.swap(y, 0, 1)?;
    let shape = n.b.shape(y);
    let y = n.b.reshape(y, [shape[0].clone(), shape[1].clone(), &shape[2] * &shape[3]])?;
    Ok(vec![n.b.cast(y, dtype)?, n.b.cast(last[0], kept)?])
}

/// What happens to the state before it is written.
#[derive(Clone, Copy)]
struct Rule {
    /// It is multiplied by a gate.
    decays: bool,
    /// What it holds for the key already is taken from the value.
    corrects: bool,
}

/// `[batch, time, heads * width]` as `[time, batch, heads, width]`.
fn split(n: &mut Node<'_>, place: usize, heads: i64, compute: DType) -> Result<Value> {
    let x = n.arg(place)?;
    let shape = n.b.shape(x);
    let [batch, time, width] = &shape[..] else { return wrong(format!("takes [batch, time, width], got {}", n.b.ty(x))) };
    let heads = Dim::from(heads);
    let x = n.b.reshape(x, [batch.clone(), time.clone(), heads.clone(), width.floor_div(&heads)])?;
    let x = n.b.swap(x, 0, 1)?;
    n.b.cast(x, compute)
}

/// The next state, and what the query reads of it.
fn step(b: &mut Builder, state: Value, slices: &[Value], rule: Rule) -> Result<(Vec<Value>, Value)> {
    let (q, k, mut v) = (slices[0], slices[1], slices[2]);
    let mut state = state;
    if rule.decays {
        let gate = b.map(ScalarFn::Exp, &[slices[3]])?;
        let gate = b.unsqueeze(gate, &[3])?;
        state = b.mul(state, gate)?;
    }
    if rule.corrects {
        let held = b.dot(k, state, per_head(2))?;
        let missing = b.sub(v, held)?;
        v = b.mul(missing, slices[slices.len() - 1])?;
    }
    let (column, row) = (b.unsqueeze(k, &[3])?, b.unsqueeze(v, &[2])?);
    let outer = b.mul(column, row)?;
    let state = b.add(state, outer)?;
    let (queries, held) = (b.shape(q), b.shape(state));
    let group = queries[1].floor_div(&held[1]);
    let grouped = b.reshape(q, [queries[0].clone(), held[1].clone(), group, queries[2].clone()])?;
    let read = b.dot(grouped, state, per_head(3))?;
    let read = b.reshape(read, [queries[0].clone(), queries[1].clone(), held[3].clone()])?;
    Ok((vec![state], read))
}

/// The sum over keys' elements, for every row of the batch and every head.
fn per_head(axis: usize) -> DotAxes {
    DotAxes { lhs_batch: vec![0, 1], rhs_batch: vec![0, 1], lhs_contract: vec![axis], rhs_contract: vec![2] }
}
