//! Initial values of parameters: a stream of arrays that depend on the seed and on the order of requests alone.
//!
//! Philox words under the seed; the counter holds the element's block, the attempt and the parameter's number, so that
//! one parameter's values do not depend on the sizes of those before it. No tensor of a trace is here.

use std::num::NonZero;

use graver_ir::philox::philox4x32_10;
use graver_ir::{Array, DType, Diag, Scalar};
use graver_trace::Param;

/// How a parameter's elements are drawn.
///
/// `fan_in` and `fan_out` of a weight `[out, in, k..]` are `in` and `out` times the kernel's elements, as in PyTorch; of a
/// vector both are its size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// One number everywhere.
    Constant(f64),
    /// Uniform in `low..high`.
    Uniform {
        /// The least value.
        low: f64,
        /// What all values are below.
        high: f64,
    },
    /// Normal.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        std: f64,
    },
    /// Normal, drawn again while farther than `bound` standard deviations (at least one) from the mean.
    TruncatedNormal {
        /// The mean of the whole normal distribution.
        mean: f64,
        /// The standard deviation of the whole normal distribution.
        std: f64,
        /// How many standard deviations may be left.
        bound: f64,
    },
    /// Uniform within `gain * sqrt(3 / fan_in)` of 0: He et al. (2015), "Delving deep into rectifiers".
    /// PyTorch's default for linear and convolutional weights has the gain `1 / sqrt(3)`; before relu it is `sqrt(2)`.
    KaimingUniform {
        /// What the following activation asks for.
        gain: f64,
    },
    /// Normal with standard deviation `gain / sqrt(fan_in)`.
    KaimingNormal {
        /// What the following activation asks for.
        gain: f64,
    },
    /// Uniform within `gain * sqrt(6 / (fan_in + fan_out))` of 0: Glorot and Bengio (2010), "Understanding the difficulty of
    /// training deep feedforward neural networks".
    XavierUniform {
        /// What the following activation asks for.
        gain: f64,
    },
    /// Normal with standard deviation `gain * sqrt(2 / (fan_in + fan_out))`.
    XavierNormal {
        /// What the following activation asks for.
        gain: f64,
    },
}

impl Fill {
    /// PyTorch's default for weights of linear and convolutional layers: Kaiming uniform with `a = sqrt(5)`, which is
    /// uniform within `1 / sqrt(fan_in)` of 0.
    #[must_use]
    pub fn default_weight() -> Self {
        Self::KaimingUniform { gain: (1.0f64 / 3.0).sqrt() }
    }

    /// PyTorch's default for biases of layers with so many inputs: uniform within `1 / sqrt(fan_in)` of 0.
    #[must_use]
    pub fn default_bias(fan_in: usize) -> Self {
        within(1.0 / size(fan_in.max(1)).sqrt())
    }

    /// The distribution once the shape is known.
    fn resolve(self, shape: &[usize]) -> Draw {
        let [fan_in, fan_out] = fans(shape);
        match self {
            Self::Constant(value) => Draw::Constant(value),
            Self::Uniform { low, high } => Draw::Uniform { low, high },
            Self::Normal { mean, std } => Draw::Normal { mean, std, bound: f64::INFINITY },
            Self::TruncatedNormal { mean, std, bound } => Draw::Normal { mean, std, bound: bound.max(1.0) },
            Self::KaimingUniform { gain } => within(gain * (3.0 / fan_in).sqrt()).resolve(shape),
            Self::KaimingNormal { gain } => Draw::centred(gain / fan_in.sqrt()),
            Self::XavierUniform { gain } => within(gain * (6.0 / (fan_in + fan_out)).sqrt()).resolve(shape),
            Self::XavierNormal { gain } => Draw::centred(gain * (2.0 / (fan_in + fan_out)).sqrt()),
        }
    }
}

/// What is left of a [`Fill`] when the shape is known.
#[derive(Clone, Copy)]
enum Draw {
    Constant(f64),
    Uniform { low: f64, high: f64 },
    Normal { mean: f64, std: f64, bound: f64 },
}

impl Draw {
    const fn centred(std: f64) -> Self {
        Self::Normal { mean: 0.0, std, bound: f64::INFINITY }
    }
}

/// A deterministic stream of initial values.
///
/// The n-th array of a seed depends on the seed, on n and on its own shape. Draws under a name ([`Init::named`]) depend on
/// the names instead of on what was drawn before.
///
/// ```
/// use graver_nn::{Fill, Init};
/// let mut init = Init::seed(7);
/// let weight = init.array(Fill::default_weight(), [10, 64]);
/// assert!(weight.to_f64().iter().all(|x| x.abs() <= 0.125)); // 1 / sqrt(64)
/// assert_eq!(Init::seed(7).array(Fill::default_weight(), [10, 64]), weight);
/// ```
#[derive(Clone, Debug)]
pub struct Init {
    key: [u32; 2],
    next: u32,
    dtype: DType,
    /// How many elements a [`Init::blank`] has left.
    blank: Option<usize>,
    refused: Option<Vec<usize>>,
}

impl Init {
    /// The stream of a seed, of `f32` arrays.
    #[must_use]
    pub fn seed(seed: u64) -> Self {
        Self { key: halves(seed), next: 0, dtype: DType::F32, blank: None, refused: None }
    }

    /// Zeros instead of random numbers, for a model that is read from a file; they take no memory before they are touched. Of
    /// so many elements in all: what a configuration asks for beyond that gets no elements, and [`Init::refused`] says so.
    ///
    /// ```
    /// use graver_nn::{Init, Linear};
    /// let mut init = Init::blank(100);
    /// let layer = Linear::new(9, 10).init(&mut init);
    /// assert_eq!((layer.weight.value().shape(), init.refused()), ([10, 9].as_slice(), None));
    /// drop(Linear::new(1 << 40, 1 << 20).init(&mut init));
    /// assert_eq!(init.refused(), Some([1 << 20, 1 << 40].as_slice()));
    /// ```
    #[must_use]
    pub fn blank(elements: usize) -> Self {
        Self { blank: Some(elements), ..Self::seed(0) }
    }

    /// The first shape for which a [`Init::blank`] had not enough elements, or any stream not enough memory.
    #[must_use]
    pub fn refused(&self) -> Option<&[usize]> {
        self.refused.as_deref()
    }

    /// The stream in another float type: every layer made from it has parameters of that type.
    ///
    /// # Panics
    /// If the type is not a float, which no layer can learn.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        assert!(dtype.is_float(), "parameters are floats, got {dtype}");
        self.dtype = dtype;
        self
    }

    /// A stream of its own for one part of a model, which depends on this stream's seed and on the name alone: a layer that
    /// is added elsewhere then changes nothing here.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        let [low, high] = halves(fnv1a(name));
        // The last word tells these from the counters of values, whose last word is 0.
        let words = philox4x32_10([low, high, 0, 1], self.key);
        Self { key: [words[0], words[1]], next: 0, ..self.clone() }
    }

    /// A parameter of the next array of the stream; where there is no memory for it, one that programs cannot read: the error names the
    /// line that does.
    ///
    /// ```
    /// use graver_nn::{Init, Linear};
    /// use graver_trace::{spec, trace};
    /// let layer = Linear::new(1 << 40, 1 << 20).init(&mut Init::seed(0));
    /// let error = trace(|x| layer.forward(x), spec::<f32>((1, 1usize << 40))).expect_err("too large").to_string();
    /// assert!(error.contains("there is no memory for a parameter f32[1048576, 1099511627776]"), "{error}");
    /// ```
    #[must_use]
    pub fn param(&mut self, fill: Fill, shape: impl Into<Vec<usize>>) -> Param {
        let shape = shape.into();
        let array = self.array(fill, shape.clone());
        // Of a file's model, whoever reads it tells what was refused.
        if array.shape() == shape || self.blank.is_some() {
            return Param::new(array);
        }
        let message = format!("there is no memory for a parameter {}{shape:?}", self.dtype);
        Param::refused(self.dtype, Diag::new(message).op("init"))
    }

    /// The next array of the stream; where there is no memory for it, an empty one, and [`Init::refused`] says so.
    #[must_use]
    pub fn array(&mut self, fill: Fill, shape: impl Into<Vec<usize>>) -> Array {
        let shape = shape.into();
        if let Some(left) = self.blank {
            return self.zeros(left, shape);
        }
        if !is_possible(self.dtype, &shape) {
            return self.refuse(shape);
        }
        let stream = self.next;
        self.next = self.next.wrapping_add(1);
        match fill.resolve(&shape) {
            Draw::Constant(value) => Array::full(shape, Scalar::float(self.dtype, value)),
            Draw::Uniform { low, high } => {
                self.blocks(shape, |block| uniform(self.words(block, 0, stream)).map(|u| low + (high - low) * u))
            }
            Draw::Normal { mean, std, bound } => {
                self.blocks(shape, |block| self.normal(block, stream, bound).map(|x| mean + std * x))
            }
        }
    }

    /// Zeros, while there are elements for them.
    fn zeros(&mut self, left: usize, shape: Vec<usize>) -> Array {
        let left = elements(&shape).and_then(|elements| left.checked_sub(elements));
        let Some((left, array)) = left.zip(Array::zeroed(self.dtype, shape.clone()).ok()) else { return self.refuse(shape) };
        self.blank = Some(left);
        array
    }

    fn refuse(&mut self, shape: Vec<usize>) -> Array {
        let empty = Array::full(vec![0; shape.len()], Scalar::zero(self.dtype));
        self.refused.get_or_insert(shape);
        empty
    }

    fn words(&self, block: u32, attempt: u32, stream: u32) -> [u32; 4] {
        philox4x32_10([block, attempt, stream, 0], self.key)
    }

    /// Four normal numbers of at most `bound` by magnitude. With a bound of 1 or more an attempt fails with probability 0.32
    /// or less, so the limit is never met in practice.
    fn normal(&self, block: u32, stream: u32, bound: f64) -> [f64; 4] {
        let mut kept = gaussian(self.words(block, 0, stream));
        for attempt in 1..256 {
            if kept.iter().all(|x| x.abs() <= bound) {
                break;
            }
            let again = gaussian(self.words(block, attempt, stream));
            for (kept, again) in kept.iter_mut().zip(again).filter(|(kept, _)| kept.abs() > bound) {
                *kept = again;
            }
        }
        kept.map(|x| x.clamp(-bound, bound))
    }

    /// An array whose elements come four at a time.
    fn blocks(&self, shape: Vec<usize>, four: impl Fn(u32) -> [f64; 4] + Sync) -> Array {
        let four = |block: usize| four(u32::try_from(block).expect("a parameter has fewer than 2^34 elements"));
        if self.dtype != DType::F32 {
            let mut current = [0.0; 4];
            return Array::from_fn(self.dtype, shape, |position| {
                if position % 4 == 0 {
                    current = four(position / 4);
                }
                Scalar::float(self.dtype, current[position % 4])
            });
        }
        let mut array = Array::full(shape, Scalar::zero(self.dtype));
        in_blocks(array.as_mut_slice::<f32>().expect("its own type"), |block| {
            #[expect(clippy::cast_possible_truncation, reason = "rounded to the parameter's type")]
            four(block).map(|value| value as f32)
        });
        array
    }
}

/// Fills elements four at a time, many by several threads: no block depends on another one.
fn in_blocks(elements: &mut [f32], four: impl Fn(usize) -> [f32; 4] + Sync) {
    /// Blocks that are worth a thread.
    const MANY: usize = 1 << 14;
    let blocks = elements.len().div_ceil(4);
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(blocks / MANY).max(1);
    let each = blocks.div_ceil(threads).max(1);
    let fill = |first: usize, part: &mut [f32]| {
        for (number, block) in part.chunks_mut(4).enumerate() {
            let values = four(first + number);
            block.copy_from_slice(&values[..block.len()]);
        }
    };
    std::thread::scope(|scope| {
        let mut parts = elements.chunks_mut(4 * each).enumerate();
        let own = parts.next();
        for (number, part) in parts {
            let fill = &fill;
            scope.spawn(move || fill(number * each, part));
        }
        own.into_iter().for_each(|(_, part)| fill(0, part));
    });
}

/// How many elements arrays of this shape have, if that is a number.
fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
}

/// Whether there is memory for an array, and its elements can be counted by a stream.
fn is_possible(dtype: DType, shape: &[usize]) -> bool {
    /// Below, memory is not asked for: it is there, or nothing is.
    const SMALL: usize = 1 << 24;
    let possible = |elements: usize| elements < SMALL || (elements < 1 << 34 && Array::zeroed(dtype, shape).is_ok());
    elements(shape).is_some_and(possible)
}

fn within(bound: f64) -> Fill {
    Fill::Uniform { low: -bound, high: bound }
}

/// Each word as a number in `0..1`.
fn uniform(words: [u32; 4]) -> [f64; 4] {
    words.map(|word| f64::from(word) / f64::from(2.0f32).powi(32))
}

/// By the method of Box and Muller (1958): two normal numbers from two uniform ones.
fn gaussian(words: [u32; 4]) -> [f64; 4] {
    let [a, b, c, d] = words.map(|word| (f64::from(word) + 0.5) / f64::from(2.0f32).powi(32));
    let pair = |radius: f64, angle: f64| {
        let radius = (-2.0 * radius.ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * angle).sin_cos();
        [radius * cos, radius * sin]
    };
    let ([p, q], [r, s]) = (pair(a, b), pair(c, d));
    [p, q, r, s]
}

/// `fan_in` and `fan_out`, at least 1 each.
fn fans(shape: &[usize]) -> [f64; 2] {
    let (fan_in, fan_out) = match shape {
        [] => (1, 1),
        [size] => (*size, *size),
        [out, inner @ ..] => {
            let kernel = inner[1..].iter().copied().fold(1, usize::saturating_mul);
            (inner[0].saturating_mul(kernel), out.saturating_mul(kernel))
        }
    };
    [size(fan_in.max(1)), size(fan_out.max(1))]
}

#[expect(clippy::cast_precision_loss, reason = "fans are far below 2^53")]
const fn size(count: usize) -> f64 {
    count as f64
}

fn halves(bits: u64) -> [u32; 2] {
    let low = u32::try_from(bits & 0xFFFF_FFFF).expect("32 bits");
    let high = u32::try_from(bits >> 32).expect("32 bits");
    [low, high]
}

/// Fowler, Noll and Vo's hash, 64 bits: the standard library's hashes may change between versions.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(fill: Fill, shape: &[usize]) -> (f64, f64) {
        let x = Init::seed(3).dtype(DType::F64).array(fill, shape).to_f64();
        let n = size(x.len());
        let mean = x.iter().sum::<f64>() / n;
        (mean, (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    /// Six standard errors of the mean, and of the deviation of a normal, over 40,000 draws: 3 %.
    fn check(fill: Fill, std: f64) {
        let (mean, found) = moments(fill, &[400, 100]);
        assert!(mean.abs() < 0.03 * std, "{fill:?}: mean {mean}");
        assert!((found / std - 1.0).abs() < 0.03, "{fill:?}: {found} instead of {std}");
    }

    #[test]
    fn distributions_have_their_moments() {
        let third = (1.0f64 / 3.0).sqrt();
        check(Fill::Uniform { low: -2.0, high: 2.0 }, 2.0 * third);
        check(Fill::Normal { mean: 0.0, std: 1.5 }, 1.5);
        check(Fill::default_weight(), 0.1 * third);
        check(Fill::default_bias(100), 0.1 * third);
        check(Fill::KaimingUniform { gain: 2.0f64.sqrt() }, 0.02f64.sqrt());
        check(Fill::KaimingNormal { gain: 2.0f64.sqrt() }, 0.02f64.sqrt());
        check(Fill::XavierUniform { gain: 1.0 }, (2.0f64 / 500.0).sqrt());
        check(Fill::XavierNormal { gain: 1.0 }, (2.0f64 / 500.0).sqrt());
        // The deviation of a normal cut off at two: sqrt(1 - 2 * 2 * phi(2) / (2 Phi(2) - 1)).
        check(Fill::TruncatedNormal { mean: 0.0, std: 1.0, bound: 2.0 }, 0.879_626_f64);
    }

    #[test]
    fn truncated_values_stay_in_bounds() {
        let fill = Fill::TruncatedNormal { mean: 1.0, std: 0.5, bound: 1.0 };
        assert!(Init::seed(0).array(fill, [10_000]).to_f64().iter().all(|x| (0.5..=1.5).contains(x)));
    }

    /// Large arrays are filled by several threads, and the last block may be a part of one.
    #[test]
    fn values_are_those_of_their_blocks_whatever_the_type_and_the_size() {
        let fill = Fill::TruncatedNormal { mean: 0.0, std: 1.0, bound: 2.0 };
        for elements in [0, 1, 3, 4, 9, 300_003] {
            let wide = Init::seed(5).dtype(DType::F64).array(fill, [elements]);
            let single = Init::seed(5).array(fill, [elements]);
            assert!(wide.cast(DType::F32) == single, "{elements} elements");
        }
    }

    #[test]
    fn fans_count_kernels() {
        assert_eq!(fans(&[8, 4, 3, 3]), [36.0, 72.0]);
        assert_eq!(fans(&[5]), [5.0, 5.0]);
        assert_eq!(fans(&[3, 0]), [1.0, 3.0]);
    }

    #[test]
    fn a_parameter_depends_on_its_number_and_not_on_the_sizes_before() {
        let fill = Fill::Normal { mean: 0.0, std: 1.0 };
        let second = |size: usize| {
            let mut init = Init::seed(5);
            drop(init.array(fill, [size]));
            init.array(fill, [6])
        };
        assert_eq!(second(1), second(100));
        assert_ne!(second(1), Init::seed(5).array(fill, [6]));
    }

    #[test]
    fn a_named_stream_depends_on_seed_and_names() {
        let fill = Fill::Uniform { low: 0.0, high: 1.0 };
        let mut drawn = Init::seed(5);
        drop(drawn.array(fill, [3]));
        assert_eq!(drawn.named("encoder").array(fill, [6]), Init::seed(5).named("encoder").array(fill, [6]));
        assert_ne!(drawn.named("encoder").array(fill, [6]), drawn.named("decoder").array(fill, [6]));
        assert_ne!(Init::seed(5).named("a").array(fill, [6]), Init::seed(6).named("a").array(fill, [6]));
    }

    #[test]
    fn half_precision_values_are_rounded() {
        let x = Init::seed(1).dtype(DType::BF16).array(Fill::Constant(1.001), [2]);
        assert_eq!((x.dtype(), x.to_f64()), (DType::BF16, vec![1.0, 1.0]));
        assert_eq!(Init::seed(1).array(Fill::Constant(1.0), [0, 3]).numel(), 0);
    }
}
