//! Hendrycks and Gimpel (2016), "Gaussian error linear units": the exact one, and the approximation by `tanh`.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use graver_ir::{ScalarFn, Value};

use super::Found;
use super::body::Body;
use super::pattern::{Pattern, near};

/// `x/2 * (1 + erf(x / sqrt 2))` and `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`, their factors in any order.
pub(super) fn gelu(p: &mut Pattern<'_>, last: Value) -> Option<Found> {
    let (factors, half) = p.factors(last);
    let &[left, right] = factors.as_slice() else { return None };
    (half == 0.5).then_some(())?;
    let mut of = |x: Value, gate: Value| {
        let body = p.attempt(|p| gate_of(p, x, gate))?;
        Some(Found::Call(body, vec![x]))
    };
    of(left, right).or_else(|| of(right, left))
}

fn gate_of(p: &mut Pattern<'_>, x: Value, gate: Value) -> Option<Body> {
    let (curve, one) = p.with_constant(gate, ScalarFn::Add)?;
    (one == 1.0).then_some(())?;
    if let Some(inner) = p.one(curve, ScalarFn::Erf) {
        let (factors, scale) = p.factors(inner);
        return (factors == [x] && near(scale, FRAC_1_SQRT_2, p.dtype(x))).then_some(Body::Gelu);
    }
    let inner = p.one(curve, ScalarFn::Tanh)?;
    let (factors, scale) = p.factors(inner);
    near(scale, FRAC_2_SQRT_PI * FRAC_1_SQRT_2, p.dtype(x)).then_some(())?;
    let found = match factors.as_slice() {
        // x + 0.044715 x^3
        [sum] => p.either(*sum, ScalarFn::Add, |p, y, cubic| (y == x && is_cubic(p, cubic, x, 3)).then_some(())),
        // x * (1 + 0.044715 x^2)
        [y, sum] | [sum, y] if *y == x => {
            p.either(*sum, ScalarFn::Add, |p, square, one| (p.is_number(one, 1.0) && is_cubic(p, square, x, 2)).then_some(()))
        }
        _ => None,
    };
    found.map(|()| Body::GeluTanh)
}

/// Whether a value is `0.044715 x^power`.
fn is_cubic(p: &mut Pattern<'_>, value: Value, x: Value, power: u8) -> bool {
    let (factors, scale) = p.factors(value);
    let powers = match factors.as_slice() {
        [only] => p.is_power(*only, x, power),
        [one, rest] if *one == x => p.is_power(*rest, x, power - 1),
        [rest, one] if *one == x => p.is_power(*rest, x, power - 1),
        all => all.len() == usize::from(power) && all.iter().all(|factor| *factor == x),
    };
    powers && near(scale, 0.044_715, p.dtype(x))
}
