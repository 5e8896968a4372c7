//! Types of derivatives.

use super::Inferred;
use crate::error::Diag;
use crate::op::Transform;
use crate::ty::Type;

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
