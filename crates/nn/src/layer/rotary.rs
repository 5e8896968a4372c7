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
        Self { frequencies, gain: 1.0 }
    }

    /// Turned features are multiplied by this too: Peng et al. (2023), "YaRN", scale scores so.
    #[must_use]
    pub const fn gain(mut self, gain: f64) -> Self {
        self.gain = gain;
        self
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
        #[expect(clippy::cast_possible_truncation, reason = "tables are as precise as `f32`, which models are trained with")]
        let frequencies: Vec<f32> = self.frequencies.iter().map(|frequency| *frequency as f32).collect();
        let frequencies = Array::from_vec([frequencies.len()], frequencies).expect("as many as there are");
        let angles = positions.cast(DType::F32).unsqueeze(-1) * constant_array(&frequencies);
        let (cos, sin) = (angles.cos(), angles.sin());
        if self.gain == 1.0 { (cos, sin) } else { (cos * self.gain, sin * self.gain) }
    }
}
