//! Functions that compiled code calls lane by lane, because no expansion exists: transcendental functions of `f64`,
//! floating-point remainders, and sines of huge `f32`. Everything else is expanded into vector code ([`crate::expand`]).

use crate::vector::Helper;

pub(crate) const ALL: &[Helper] = &[
    Helper::ExpF64,
    Helper::Expm1F64,
    Helper::LogF64,
    Helper::Log1pF64,
    Helper::SinF64,
    Helper::CosF64,
    Helper::TanhF64,
    Helper::ErfF64,
    Helper::PowF64,
    Helper::RemF64,
    Helper::RemF32,
    Helper::SinF32,
    Helper::CosF32,
];

pub(crate) const fn name(helper: Helper) -> &'static str {
    match helper {
        Helper::ExpF64 => "graver_exp_f64",
        Helper::Expm1F64 => "graver_expm1_f64",
        Helper::LogF64 => "graver_log_f64",
        Helper::Log1pF64 => "graver_log1p_f64",
        Helper::SinF64 => "graver_sin_f64",
        Helper::CosF64 => "graver_cos_f64",
        Helper::TanhF64 => "graver_tanh_f64",
        Helper::ErfF64 => "graver_erf_f64",
        Helper::PowF64 => "graver_pow_f64",
        Helper::RemF64 => "graver_rem_f64",
        Helper::RemF32 => "graver_rem_f32",
        Helper::SinF32 => "graver_sin_f32",
        Helper::CosF32 => "graver_cos_f32",
    }
}

pub(crate) const fn arity(helper: Helper) -> usize {
    match helper {
        Helper::PowF64 | Helper::RemF64 | Helper::RemF32 => 2,
        Helper::ExpF64
        | Helper::Expm1F64
        | Helper::LogF64
        | Helper::Log1pF64
        | Helper::SinF64
        | Helper::CosF64
        | Helper::TanhF64
        | Helper::ErfF64
        | Helper::SinF32
        | Helper::CosF32 => 1,
    }
}

/// Whether operands and result are `f64`, else `f32`.
pub(crate) const fn is_double(helper: Helper) -> bool {
    !matches!(helper, Helper::RemF32 | Helper::SinF32 | Helper::CosF32)
}

pub(crate) fn address(helper: Helper) -> *const u8 {
    match helper {
        Helper::ExpF64 => exp as *const u8,
        Helper::Expm1F64 => expm1 as *const u8,
        Helper::LogF64 => log as *const u8,
        Helper::Log1pF64 => log1p as *const u8,
        Helper::SinF64 => sin as *const u8,
        Helper::CosF64 => cos as *const u8,
        Helper::TanhF64 => tanh as *const u8,
        Helper::ErfF64 => erf as *const u8,
        Helper::PowF64 => pow as *const u8,
        Helper::RemF64 => rem as *const u8,
        Helper::RemF32 => rem_f32 as *const u8,
        Helper::SinF32 => sin_f32 as *const u8,
        Helper::CosF32 => cos_f32 as *const u8,
    }
}

extern "C" fn exp(x: f64) -> f64 {
    x.exp()
}

extern "C" fn expm1(x: f64) -> f64 {
    x.exp_m1()
}

extern "C" fn log(x: f64) -> f64 {
    x.ln()
}

extern "C" fn log1p(x: f64) -> f64 {
    x.ln_1p()
}

extern "C" fn sin(x: f64) -> f64 {
    x.sin()
}

extern "C" fn cos(x: f64) -> f64 {
    x.cos()
}

extern "C" fn tanh(x: f64) -> f64 {
    x.tanh()
}

extern "C" fn pow(x: f64, y: f64) -> f64 {
    x.powf(y)
}

extern "C" fn rem(x: f64, y: f64) -> f64 {
    x % y
}

extern "C" fn rem_f32(x: f32, y: f32) -> f32 {
    x % y
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is asked for")]
extern "C" fn sin_f32(x: f32) -> f32 {
    f64::from(x).sin() as f32
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is what is asked for")]
extern "C" fn cos_f32(x: f32) -> f32 {
    f64::from(x).cos() as f32
}

/// The error function: its power series near 0 (Abramowitz and Stegun 7.1.6, no cancellation), the continued fraction of
/// `erfc` (7.1.14) beyond. Within a few units in the last place.
pub(crate) extern "C" fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    if x.is_nan() {
        x
    } else if magnitude > 6.0 {
        1f64.copysign(x)
    } else if magnitude < 2.5 {
        erf_series(x)
    } else {
        (1.0 - erfc_fraction(magnitude)).copysign(x)
    }
}

/// `2/sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!`
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > sum.abs() * f64::EPSILON / 4.0 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

/// `erfc(x)` for `x >= 2.5` by `e^(-x^2)/sqrt(pi) / (x + (1/2)/(x + 1/(x + (3/2)/(x + ...))))`, from the inside out.
fn erfc_fraction(x: f64) -> f64 {
    let denominator = (1..=60).rev().fold(x, |inner, n| x + f64::from(n) / 2.0 / inner);
    (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI / 2.0 / denominator
}
