//! Types of control flow, as far as the operation alone tells them, and of derivatives. What functions take and give the verifier knows.

use super::Inferred;
use crate::dtype::DType;
use crate::error::Diag;
use crate::op::{If, Scan, Transform, While};
use crate::ty::Type;

/// The condition is one bool.
pub(super) fn branch(op: &If, args: &[&Type]) -> Inferred {
    match args.first() {
        Some(ty) if **ty == Type::scalar(DType::Bool) => Ok(op.results.clone()),
        Some(ty) => Err(Diag::new(format!("the condition must be bool[], got {ty}"))),
        None => Err(Diag::new("takes a condition, got no operand")),
    }
}

/// What is carried keeps its type; the bound is not negative.
pub(super) fn repeat(op: &While, args: &[&Type]) -> Inferred {
    if let Some(most) = op.most.as_ref().filter(|most| (-(*most).clone() - crate::Dim::ONE).is_nonneg()) {
        return Err(Diag::new(format!("at most {most} iterations")));
    }
    carried(op.carried, args)
}

fn carried(count: usize, args: &[&Type]) -> Inferred {
    match args.get(..count) {
        Some(types) => Ok(types.iter().map(|ty| (*ty).clone()).collect()),
        None => Err(Diag::new(format!("carries {count} operands, got {}", args.len()))),
    }
}

/// What is carried keeps its type; what is scanned or stacked has `trip` slices along its first axis.
pub(super) fn scan(op: &Scan, args: &[&Type]) -> Inferred {
    let Some(scanned) = args.get(op.carried..op.carried.saturating_add(op.scanned)) else {
        return Err(Diag::new(format!("carries {} and scans {} operands, got {}", op.carried, op.scanned, args.len())));
    };
    if op.at_once && op.carried > 0 {
        return Err(Diag::new(format!(
            "carries {} operands from one iteration to the next, so they cannot be taken at once",
            op.carried
        )));
    }
    let own = carried(op.carried, args)?;
    if !op.results.starts_with(&own) {
        let list = |types: &[Type]| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
        return Err(Diag::new(format!("carries ({}), its results are ({})", list(&own), list(&op.results))));
    }
    let sliced = |ty: &&Type| ty.shape.first() != Some(&op.trip);
    match scanned.iter().copied().chain(&op.results[own.len()..]).find(sliced) {
        Some(ty) => Err(Diag::new(format!("the first size of {ty} must be {}, one slice an iteration", op.trip))),
        None => Ok(op.results.clone()),
    }
}

/// Cotangents have the outputs' types, tangents those of what is differentiated with respect to; all are floats.
pub(super) fn transform(transform: Transform, args: &[&Type]) -> Inferred {
    let (outputs, wrt, pair) = match transform {
        Transform::Vjp { outputs, wrt } => (outputs, wrt, outputs),
        Transform::Jvp { outputs, wrt } => (outputs, wrt, wrt),
    };
    let expected = outputs.saturating_add(wrt).saturating_add(pair);
    if args.len() != expected {
        return Err(Diag::new(format!("takes {expected} operands, got {}", args.len())));
    }
    let (y, rest) = args.split_at(outputs);
    let (given, result, seed) = match transform {
        Transform::Vjp { .. } => (y, &rest[outputs..], &rest[..outputs]),
        Transform::Jvp { .. } => (&rest[..wrt], y, &rest[wrt..]),
    };
    if let Some(ty) = y.iter().chain(rest).find(|ty| !ty.dtype.is_float()) {
        return Err(Diag::new(format!("only floats can be differentiated, got {ty}")));
    }
    match given.iter().zip(seed).find(|(x, dx)| x != dx) {
        Some((x, dx)) => Err(Diag::new(format!("the derivative of {x} must have its type, got {dx}"))),
        None => Ok(result.iter().map(|ty| (*ty).clone()).collect()),
    }
}
