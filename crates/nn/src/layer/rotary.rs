//! Rotary positions.

use graver_trace::{Array, DType, Tensor, concat, constant_array};

/// Positions as rotations of pairs of features: Su et al. (2021), "RoFormer". Feature `i` of the first half is paired with feature
/// `i` of the second; features beyond both halves stay as they are. No parameters.
///
/// ```
/// use graver_nn::Rotary;
/// let rotary = Rotary::new(64, 10_000.0);
/// assert_eq!((rotary.frequencies().len(), rotary.frequencies()[0]), (32, 1.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    frequencies: Vec<f64>,
    gain: f64,
    longer: Option<(usize, Longer)>,
}

/// How texts are turned that are longer than those that a model was trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum Longer {
    /// By other frequencies.
    By(Vec<f64>),
    /// By frequencies of which the base grows with the text, so that slow pairs are slower: "dynamic NTK", by a factor.
    Dynamic(f64),
}

impl Rotary {
    /// Over the first `width` features of a head: pair `i` turns by `base^(-2i / width)` a position.
    #[must_use]
    pub fn new(width: usize, base: f64) -> Self {
        let (pairs, width) = (u32::try_from(width / 2).unwrap_or(u32::MAX), f64::from(u32::try_from(width).unwrap_or(u32::MAX)));
        Self::from_frequencies((0..pairs).map(|pair| base.powf(-2.0 * f64::from(pair) / width)).collect())
    }

    /// By how much each pair turns a position, in radians.
    #[must_use]
    pub const fn from_frequencies(frequencies: Vec<f64>) -> Self {
        Self { frequencies, gain: 1.0, longer: None }
    }

    /// Turned features are multiplied by this too: Peng et al. (2023), "YaRN", scale scores so.
    #[must_use]
    pub const fn gain(mut self, gain: f64) -> Self {
        self.gain = gain;
        self
    }

    /// Texts of more positions than `length` are turned otherwise, as long as they are: all of them, the first positions too. What a cache
    /// holds of a text stays as it was turned when it was shorter.
    #[must_use]
    pub fn longer(mut self, length: usize, longer: Longer) -> Self {
        self.longer = Some((length, longer));
        self
    }

    /// Up to how many positions a text is turned by the same frequencies.
    #[must_use]
    pub fn steady(&self) -> usize {
        self.longer.as_ref().map_or(usize::MAX, |(length, _)| *length)
    }

    /// By how much each pair turns a position, in radians.
    #[must_use]
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// Heads `[.., time, width]` turned by their positions: integers `[time]`, or of a shape that broadcasts to `[.., time]`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor, positions: Tensor) -> Tensor {
        let (cos, sin) = self.tables(positions);
        let (cos, sin) = (cos.cast(x.dtype()), sin.cast(x.dtype()));
        let half = self.frequencies.len();
        let (low, high) = (x.narrow(-1, 0, half), x.narrow(-1, half, half));
        let mut parts = vec![low * cos - high * sin, high * cos + low * sin];
        if x.dim(-1) != 2 * half {
            parts.push(x.narrow(-1, 2 * half, x.dim(-1) - 2 * half));
        }
        concat(&parts, -1)
    }

    /// The cosine and sine of every pair's angle, `[.., time, pairs]` in `f32`.
    #[track_caller]
    fn tables(&self, positions: Tensor) -> (Tensor, Tensor) {
        let angles = positions.cast(DType::F32).unsqueeze(-1) * self.frequencies_of(positions);
        let (cos, sin) = (angles.cos(), angles.sin());
        if self.gain == 1.0 { (cos, sin) } else { (cos * self.gain, sin * self.gain) }
    }

    /// The frequencies of a text whose last position is the greatest of these.
    #[track_caller]
    fn frequencies_of(&self, positions: Tensor) -> Tensor {
        let plain = numbers(self.frequencies.iter().copied());
        let Some((trained, longer)) = &self.longer else { return plain };
        #[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^53")]
        let known = *trained as f64;
        let length = positions.max(..).cast(DType::F32) + 1.0;
        match longer {
            Longer::By(frequencies) => length.gt(known).where_(numbers(frequencies.iter().copied()), plain),
            Longer::Dynamic(factor) => {
                // `base * grown^(width / (width - 2))` to the power of `-2 pair / width`.
                let grown = (length * (factor / known) - (factor - 1.0)).clamp(1.0, f64::INFINITY);
                let last = u32::try_from(self.frequencies.len()).unwrap_or(u32::MAX).saturating_sub(1).max(1);
                let slower = (0..=last).map(|pair| -f64::from(pair) / f64::from(last)).take(self.frequencies.len());
                plain * (grown.log() * numbers(slower)).exp()
            }
        }
    }
}

/// A constant `f32[n]`: tables are as precise as models are trained with.
#[track_caller]
fn numbers(values: impl Iterator<Item = f64>) -> Tensor {
    #[expect(clippy::cast_possible_truncation, reason = "rounded on purpose")]
    let values: Vec<f32> = values.map(|value| value as f32).collect();
    constant_array(&Array::from_vec([values.len()], values).expect("as many as there are"))
}
