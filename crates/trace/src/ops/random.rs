//! Random numbers: Philox bits of a key and a stream. The key is a hidden one, a slot of the state that every step advances, with a stream
//! of its own for each operation; or the caller's, and then the numbers follow from it alone. The same numbers on every backend and
//! for any number of threads.

use std::ops::Range;

use graver_ir::op::{ArgReduce, Extreme, PadAxis, Philox, SliceAxis, Sort};
use graver_ir::{Array, DType, Dim, Op, Scalar, ScalarFn, Shape, StateDecl, StateKind, Type};

use super::index::constant;
use super::map::{like, map, stretch, widen};
use super::movement::{narrow, pad_axis, reshape_to};
use crate::context::{Traced, done, done_all, emit, with, wrong};
use crate::scope::training;
use crate::size::{Dims, Size, whole_shape};
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

/// The stream of the keys that a caller's key is split into; draws have those below.
const SPLITS: u32 = u32::MAX;

/// Where random bits come from.
#[derive(Clone, Copy)]
enum Source {
    /// A stream of the program's for each draw.
    Program(Tensor),
    /// The key alone says what the bits are: this is the first stream of a draw.
    Caller(Tensor, u32),
}

impl Source {
    #[track_caller]
    fn hidden() -> Self {
        Self::Program(key())
    }

    /// 32 bits an element, other ones each time.
    #[track_caller]
    fn bits(&mut self, shape: Shape) -> Traced {
        match self {
            Self::Program(key) => bits_of(*key, shape),
            Self::Caller(key, stream) => {
                *stream += 1;
                emit(Op::Philox(Philox { shape, stream: *stream - 1 }), &[*key])
            }
        }
    }
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
fn unit(source: &mut Source, shape: Shape, dtype: DType, offset: f64) -> Traced {
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
    let bits = source.bits(shape.clone())?;
    let drop = stretch(constant(Scalar::int(DType::U32, 32 - keep))?, &shape)?;
    let bits = if keep == 32 { bits } else { map(ScalarFn::Shr, &[bits, drop])? };
    let x = emit(Op::Cast(dtype), &[bits])?;
    let offset = stretch(like(x, offset)?, &shape)?;
    let scale = stretch(like(x, f64::powi(0.5, i32::try_from(keep).expect("at most 32")))?, &shape)?;
    map(ScalarFn::Mul, &[map(ScalarFn::Add, &[x, offset])?, scale])
}

/// By the method of Box and Muller (1958) from two uniform numbers an element.
#[track_caller]
fn gaussian(source: &mut Source, shape: &Shape, dtype: DType) -> Traced {
    let wide = dtype.compute();
    let (radius, angle) = (unit(source, shape.clone(), wide, 0.5)?, unit(source, shape.clone(), wide, 0.5)?);
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
    let keep = map(ScalarFn::Lt, &[Source::hidden().bits(ty.shape.clone())?, threshold])?;
    let scaled = map(ScalarFn::Mul, &[x, stretch(like(x, 1.0 / (1.0 - probability))?, &ty.shape)?])?;
    map(ScalarFn::Select, &[keep, scaled, zero])
}

#[track_caller]
fn uniform_of(mut source: Source, dims: &dyn Dims, dtype: DType) -> Traced {
    unit(&mut source, whole_shape(dims)?, dtype, 0.0)
}

#[track_caller]
fn normal_of(mut source: Source, dims: &dyn Dims, dtype: DType) -> Traced {
    let shape = whole_shape(dims)?;
    if dtype.is_float() { gaussian(&mut source, &shape, dtype) } else { wrong(format!("random numbers are floats, got {dtype}")) }
}

/// Uniform numbers below the probabilities: 0 is never, 1 always.
#[track_caller]
fn bernoulli_of(mut source: Source, probabilities: Tensor) -> Traced {
    let probabilities = widen(probabilities)?;
    let ty = probabilities.ty()?;
    let uniform = unit(&mut source, ty.shape, ty.dtype, 0.0)?;
    map(ScalarFn::Lt, &[uniform, probabilities])
}

/// Gumbel (1954), "Statistical theory of extreme values": the greatest of scores, each with a number of his distribution added.
#[track_caller]
fn categorical_of(mut source: Source, scores: Tensor) -> Traced {
    let scores = widen(scores)?;
    let ty = scores.ty()?;
    let Some(axis) = ty.rank().checked_sub(1) else { return wrong(format!("takes scores [.., classes], got {ty}")) };
    let negative_log = |x: Tensor| map(ScalarFn::Neg, &[map(ScalarFn::Log, &[x])?]);
    let gumbel = negative_log(negative_log(unit(&mut source, ty.shape, ty.dtype, 0.5)?)?)?;
    emit(Op::ArgReduce(ArgReduce { kind: Extreme::Max, axis }), &[map(ScalarFn::Add, &[scores, gumbel])?])
}

/// `start + (bits * count >> 32)`: each with a probability to within 2^-32.
#[track_caller]
fn integers_of(mut source: Source, dims: &dyn Dims, range: &Range<i64>) -> Traced {
    let (shape, count) = (whole_shape(dims)?, range.end.checked_sub(range.start));
    let Some(count) = count.filter(|count| (1..=1 << 31).contains(count)) else {
        return wrong(format!("a range has from 1 to 2^31 integers, got {range:?}"));
    };
    let number = |value: i64| stretch(constant(Scalar::int(DType::I64, value))?, &shape);
    let bits = emit(Op::Cast(DType::I64), &[source.bits(shape.clone())?])?;
    let scaled = map(ScalarFn::Mul, &[bits, number(count)?])?;
    let place = map(ScalarFn::Shr, &[scaled, number(32)?])?;
    map(ScalarFn::Add, &[place, number(range.start)?])
}

/// The order of random bits.
#[track_caller]
fn permutation_of(mut source: Source, size: Size) -> Traced {
    let bits = source.bits(Shape(vec![size.to_dim()?]))?;
    emit(Op::Sort(Sort { axis: 0, descending: false }), &[bits])
}

/// So many rows of keys, made from the bits of one and beside its step.
#[track_caller]
fn keys_of(key: Tensor, count: usize) -> Traced<Vec<Tensor>> {
    let rows = Shape(vec![Dim::from(count), Dim::from(2)]);
    let words = emit(Op::Philox(Philox { shape: rows.clone(), stream: SPLITS }), &[key])?;
    let step = narrow(key, 0, SliceAxis { start: Dim::from(2), size: Dim::from(2), step: 1 })?;
    let keys = emit(Op::Concat(1), &[words, stretch(step, &rows)?])?;
    let row = |row: usize| {
        let one = narrow(keys, 0, SliceAxis { start: Dim::from(row), size: Dim::ONE, step: 1 })?;
        reshape_to(one, Shape::new([4]))
    };
    (0..count).map(row).collect()
}

/// What a key is made of.
#[track_caller]
fn checked(key: Tensor) -> Traced {
    let ty = key.ty()?;
    let wanted = Type::new(DType::U32, Shape::new([4]));
    if ty == wanted { Ok(key) } else { wrong(format!("a random key is {wanted}, as `rng_key` makes it, got {ty}")) }
}

/// Uniform random floats in `0..1`, other ones in each step; the same in each call of a function that keeps its state.
#[must_use]
#[track_caller]
pub fn uniform(shape: impl Dims, dtype: DType) -> Tensor {
    done("uniform", uniform_of(Source::hidden(), &shape, dtype))
}

/// Normal random floats of mean 0 and variance 1, other ones in each step; the same in each call of a function that keeps its state.
#[must_use]
#[track_caller]
pub fn normal(shape: impl Dims, dtype: DType) -> Tensor {
    done("normal", normal_of(Source::hidden(), &shape, dtype))
}

/// Random integers of a range of up to 2^31, each as likely as the others to within 2^-32, as i64; other ones in each step.
#[must_use]
#[track_caller]
pub fn integers(shape: impl Dims, range: Range<i64>) -> Tensor {
    done("integers", integers_of(Source::hidden(), &shape, &range))
}

/// `0..size` in a random order, as i64; another one in each step. Of places with the same 32 random bits the first comes first.
#[must_use]
#[track_caller]
pub fn permutation(size: impl Into<Size>) -> Tensor {
    done("permutation", permutation_of(Source::hidden(), size.into()))
}

/// A key that random numbers follow from: the same numbers for the same key, whatever else a program draws. Who needs several draws that
/// have nothing to do with one another splits the key.
///
/// ```
/// use graver_trace::{DType, RandomKey, rng_key, spec, trace};
/// let traced = trace(
///     |key| {
///         let [noise, choice] = RandomKey::new(key).split();
///         (noise.normal([8, 16], DType::F32), choice.integers([8], 0..10))
///     },
///     spec::<u32>([4]),
/// )?;
/// assert!(traced.module().state.is_empty());
/// # let _ = rng_key(1);
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RandomKey(Tensor);

impl RandomKey {
    /// The key that a tensor `u32[4]` holds: what [`rng_key`] makes of a seed.
    #[must_use]
    #[track_caller]
    pub fn new(key: Tensor) -> Self {
        Self(done("random_key", checked(key)))
    }

    /// The key of a seed, a constant of the program.
    #[must_use]
    #[track_caller]
    pub fn seed(seed: u64) -> Self {
        Self(done("random_key", emit(Op::Const(rng_key(seed)), &[])))
    }

    /// The key as a tensor `u32[4]`.
    #[must_use]
    pub const fn tensor(self) -> Tensor {
        self.0
    }

    /// Keys that have nothing to do with one another, or with what is drawn from this one.
    #[must_use]
    #[track_caller]
    pub fn split<const N: usize>(self) -> [Self; N] {
        let keys = keys_of(self.0, N).map(|keys| <[Tensor; N]>::try_from(keys).expect("as many keys as were asked for"));
        done_all("random_split", keys).map(Self)
    }

    const fn source(self) -> Source {
        Source::Caller(self.0, 0)
    }

    /// As [`uniform`].
    #[must_use]
    #[track_caller]
    pub fn uniform(self, shape: impl Dims, dtype: DType) -> Tensor {
        done("uniform", uniform_of(self.source(), &shape, dtype))
    }

    /// As [`normal`].
    #[must_use]
    #[track_caller]
    pub fn normal(self, shape: impl Dims, dtype: DType) -> Tensor {
        done("normal", normal_of(self.source(), &shape, dtype))
    }

    /// As [`Tensor::bernoulli`].
    #[must_use]
    #[track_caller]
    pub fn bernoulli(self, probabilities: Tensor) -> Tensor {
        done("bernoulli", bernoulli_of(self.source(), probabilities))
    }

    /// As [`Tensor::categorical`].
    #[must_use]
    #[track_caller]
    pub fn categorical(self, scores: Tensor) -> Tensor {
        done("categorical", categorical_of(self.source(), scores))
    }

    /// As [`integers`].
    #[must_use]
    #[track_caller]
    pub fn integers(self, shape: impl Dims, range: Range<i64>) -> Tensor {
        done("integers", integers_of(self.source(), &shape, &range))
    }

    /// As [`permutation`].
    #[must_use]
    #[track_caller]
    pub fn permutation(self, size: impl Into<Size>) -> Tensor {
        done("permutation", permutation_of(self.source(), size.into()))
    }
}

impl Tensor {
    /// In training: each element 0 with this probability, else divided by the rest of it. In evaluation: `x`.
    #[must_use]
    #[track_caller]
    pub fn dropout(self, probability: f64) -> Self {
        done("dropout", dropout(self, probability))
    }

    /// Whether each happens, of these probabilities, to within 2^-23 of each (2^-32 in f64): a bool each; other ones in each step.
    #[must_use]
    #[track_caller]
    pub fn bernoulli(self) -> Self {
        done("bernoulli", bernoulli_of(Source::hidden(), self))
    }

    /// A class a row, by scores `[.., classes]` that are the logarithms of probabilities up to a constant: `[..]`, as i64; other ones in each
    /// step. A score of minus infinity is never chosen where another is finite.
    #[must_use]
    #[track_caller]
    pub fn categorical(self) -> Self {
        done("categorical", categorical_of(Source::hidden(), self))
    }
}
