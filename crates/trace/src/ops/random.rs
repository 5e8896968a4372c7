//! Random numbers: Philox bits of a hidden key, which is a slot of the state that every step advances, and a stream of its own
//! for each operation. The same numbers on every backend and for any number of threads.

use graver_ir::op::{PadAxis, Philox, SliceAxis};
use graver_ir::{Array, DType, Dim, Op, Scalar, ScalarFn, Shape, StateDecl, StateKind, Type};

use super::index::constant;
use super::map::{like, map, stretch};
use super::movement::{narrow, pad_axis};
use crate::context::{Traced, done, emit, with, wrong};
use crate::scope::training;
use crate::size::{Dims, whole_shape};
use crate::state::{Origin, StateKey};
use crate::tensor::Tensor;

/// The random key of a seed: `[key 0, key 1, step low, step high]`.
#[must_use]
pub fn rng_key(seed: u64) -> Array {
    let low = u32::try_from(seed & 0xFFFF_FFFF).expect("32 bits");
    let high = u32::try_from(seed >> 32).expect("32 bits");
    Array::from_vec([4], vec![low, high, 0, 0]).expect("four elements")
}

/// The key as the call found it; in the body of a loop, the iteration's own.
#[track_caller]
pub(crate) fn key() -> Tensor {
    let line = std::panic::Location::caller();
    with(|trace| {
        let known = trace.state_ids.get(&StateKey::Rng).copied();
        let id = known.unwrap_or_else(|| {
            let ty = Type::new(DType::U32, Shape::new([4]));
            let decl = StateDecl { path: "rng".to_owned(), ty, kind: StateKind::Rng };
            let key = rng_key(trace.seed);
            trace.lift(StateKey::Rng, decl, Origin::Fixed(key), line)
        });
        trace.key_in_body().unwrap_or(trace.state[id.0 as usize].input)
    })
}

/// Records that the call leaves the key one step further, if it was used.
pub(crate) fn advance() -> Traced<()> {
    let slot = with(|trace| trace.state_ids.get(&StateKey::Rng).copied());
    let Some(id) = slot else { return Ok(()) };
    let key = with(|trace| trace.state[id.0 as usize].input);
    let one = Array::from_vec([4], vec![0u32, 0, 1, 0])?;
    let next = map(ScalarFn::Add, &[key, emit(Op::Const(one), &[])?])?;
    // The high word takes what the low one carries.
    let low = narrow(next, 0, SliceAxis { start: Dim::from(2), size: Dim::ONE, step: 1 })?;
    let zero = constant(Scalar::zero(DType::U32))?;
    let wrapped = map(ScalarFn::Eq, &[low, stretch(zero, &Shape::new([1]))?])?;
    let carry = emit(Op::Cast(DType::U32), &[wrapped])?;
    let carry = pad_axis(carry, 0, PadAxis { low: Dim::from(3), high: Dim::ZERO, interior: 0 }, zero)?;
    let next = map(ScalarFn::Add, &[next, carry])?;
    with(|trace| trace.state[id.0 as usize].update = Some(next));
    Ok(())
}

/// 32 random bits an element.
#[track_caller]
pub(crate) fn bits(shape: Shape) -> Traced {
    bits_of(key(), shape)
}

#[track_caller]
fn bits_of(key: Tensor, shape: Shape) -> Traced {
    let stream = with(|trace| {
        trace.streams += 1;
        trace.streams - 1
    });
    emit(Op::Philox(Philox { shape, stream }), &[key])
}

/// Keys that have nothing to do with one another, so many along a first axis: new words, made from the key, beside its step.
#[track_caller]
pub(crate) fn split(key: Tensor, count: &Dim) -> Traced {
    let (words, rows) = (Shape(vec![count.clone(), Dim::from(2)]), Shape(vec![count.clone(), Dim::from(2)]));
    let step = narrow(key, 0, SliceAxis { start: Dim::from(2), size: Dim::from(2), step: 1 })?;
    let steps = stretch(step, &rows)?;
    emit(Op::Concat(1), &[bits_of(key, words)?, steps])
}

/// `(bits >> drop + offset) * 2^-(32 - drop)`: exact in the element type.
#[track_caller]
fn unit(shape: Shape, dtype: DType, offset: f64) -> Traced {
    let keep = match dtype {
        DType::F64 => 32,
        // One bit less than the mantissa, so that adding a half is exact too.
        DType::F32 => 23,
        DType::F16 => 10,
        DType::BF16 => 7,
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => {
            return wrong(format!("random numbers are floats, got {dtype}"));
        }
    };
    let bits = bits(shape.clone())?;
    let drop = stretch(constant(Scalar::int(DType::U32, 32 - keep))?, &shape)?;
    let bits = if keep == 32 { bits } else { map(ScalarFn::Shr, &[bits, drop])? };
    let x = emit(Op::Cast(dtype), &[bits])?;
    let offset = stretch(like(x, offset)?, &shape)?;
    let scale = stretch(like(x, f64::powi(0.5, i32::try_from(keep).expect("at most 32")))?, &shape)?;
    map(ScalarFn::Mul, &[map(ScalarFn::Add, &[x, offset])?, scale])
}

/// By the method of Box and Muller (1958) from two uniform numbers an element.
#[track_caller]
fn gaussian(shape: &Shape, dtype: DType) -> Traced {
    let wide = dtype.compute();
    let (radius, angle) = (unit(shape.clone(), wide, 0.5)?, unit(shape.clone(), wide, 0.5)?);
    let (minus_two, turn) = (stretch(like(radius, -2.0)?, shape)?, stretch(like(radius, std::f64::consts::TAU)?, shape)?);
    let squared = map(ScalarFn::Mul, &[map(ScalarFn::Log, &[radius])?, minus_two])?;
    let turned = map(ScalarFn::Cos, &[map(ScalarFn::Mul, &[angle, turn])?])?;
    let x = map(ScalarFn::Mul, &[map(ScalarFn::Sqrt, &[squared])?, turned])?;
    if wide == dtype { Ok(x) } else { emit(Op::Cast(dtype), &[x]) }
}

/// Whether anything vanishes with this probability.
#[track_caller]
pub(super) fn is_dropped(probability: f64) -> Traced<bool> {
    if !(0.0..=1.0).contains(&probability) {
        return wrong(format!("the probability must be in 0..=1, got {probability}"));
    }
    Ok(training() && probability > 0.0)
}

#[track_caller]
pub(super) fn dropout(x: Tensor, probability: f64) -> Traced {
    let ty = x.ty()?;
    if !is_dropped(probability)? {
        return Ok(x);
    }
    let zero = stretch(like(x, 0.0)?, &ty.shape)?;
    if probability >= 1.0 {
        return Ok(zero);
    }
    // Kept where 32 bits are below the threshold: a probability to within 2^-32.
    let threshold = Scalar::float(DType::I64, ((1.0 - probability) * f64::from(2).powi(32)).round()).as_i64();
    let threshold = stretch(constant(Scalar::int(DType::U32, threshold))?, &ty.shape)?;
    let keep = map(ScalarFn::Lt, &[bits(ty.shape.clone())?, threshold])?;
    let scaled = map(ScalarFn::Mul, &[x, stretch(like(x, 1.0 / (1.0 - probability))?, &ty.shape)?])?;
    map(ScalarFn::Select, &[keep, scaled, zero])
}

#[track_caller]
fn uniform_of(dims: &dyn Dims, dtype: DType) -> Traced {
    unit(whole_shape(dims)?, dtype, 0.0)
}

#[track_caller]
fn normal_of(dims: &dyn Dims, dtype: DType) -> Traced {
    let shape = whole_shape(dims)?;
    if dtype.is_float() { gaussian(&shape, dtype) } else { wrong(format!("random numbers are floats, got {dtype}")) }
}

/// Uniform random floats in `0..1`, other ones in each step; the same in each call of a function that keeps its state.
#[must_use]
#[track_caller]
pub fn uniform(shape: impl Dims, dtype: DType) -> Tensor {
    done("uniform", uniform_of(&shape, dtype))
}

/// Normal random floats of mean 0 and variance 1, other ones in each step; the same in each call of a function that keeps its state.
#[must_use]
#[track_caller]
pub fn normal(shape: impl Dims, dtype: DType) -> Tensor {
    done("normal", normal_of(&shape, dtype))
}

impl Tensor {
    /// In training: each element 0 with this probability, else divided by the rest of it. In evaluation: `x`.
    #[must_use]
    #[track_caller]
    pub fn dropout(self, probability: f64) -> Self {
        done("dropout", dropout(self, probability))
    }
}
