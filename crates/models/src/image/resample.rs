//! Pictures at other sizes, to the last bit as Pillow makes them.
//!
//! A pixel is a weighted sum of the pixels around its place; where a picture shrinks, of all that it covers. Rows first, then columns, each
//! rounded to 8 bits, with weights in fixed point.

use super::picture::Picture;

/// How pixels are weighed by their distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All alike.
    Box,
    /// A triangle.
    Bilinear,
    /// Keys (1981), "Cubic convolution interpolation for digital image processing", with a slope of -1/2.
    Bicubic,
    /// A sinc in the window of another, three times as wide.
    Lanczos,
}

impl Filter {
    /// How far it reaches.
    const fn reach(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    /// The weight at a distance.
    fn weight(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - distance).max(0.0),
            Self::Bicubic => match distance {
                d if d < 1.0 => (1.5 * d - 2.5) * d * d + 1.0,
                d if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * -0.5,
                _ => 0.0,
            },
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let angle = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { angle.sin() / angle }
}

impl Picture {
    /// The picture at another height and width, each at least 1.
    #[must_use]
    pub fn resize(&self, [height, width]: [usize; 2], filter: Filter) -> Self {
        let wide = if width == self.width { self.clone() } else { self.widened(width, filter) };
        if height == self.height { wide } else { wide.heightened(height, filter) }
    }

    fn widened(&self, width: usize, filter: Filter) -> Self {
        let taps = taps(self.width, width, filter);
        let mut pixels = Vec::with_capacity(self.height * width * self.channels);
        for row in self.pixels.chunks_exact(self.width * self.channels) {
            for tap in &taps {
                let window = &row[tap.first * self.channels..];
                pixels.extend((0..self.channels).map(|channel| tap.sum(window[channel..].iter().step_by(self.channels))));
            }
        }
        Self { width, pixels, ..*self }
    }

    fn heightened(&self, height: usize, filter: Filter) -> Self {
        let row = self.width * self.channels;
        let mut pixels = Vec::with_capacity(height * row);
        for tap in taps(self.height, height, filter) {
            let window = &self.pixels[tap.first * row..];
            pixels.extend((0..row).map(|place| tap.sum(window[place..].iter().step_by(row))));
        }
        Self { height, pixels, ..*self }
    }
}

/// The bits of a weight behind the point: sums of 255 by weights, whose negative lobes may add to them, fit into 32.
const BITS: u32 = 22;

/// The pixels that one is made of: the first, and the weights of it and those after it.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

impl Tap {
    fn sum<'p>(&self, pixels: impl Iterator<Item = &'p u8>) -> u8 {
        let half = 1 << (BITS - 1);
        let sum = self.weights.iter().zip(pixels).fold(half, |sum, (weight, pixel)| sum + weight * i32::from(*pixel));
        u8::try_from((sum >> BITS).clamp(0, 255)).expect("just clamped")
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of pictures; not negative; weights are below 2"
)]
fn taps(old: usize, new: usize, filter: Filter) -> Vec<Tap> {
    let scale = old as f64 / new as f64;
    // A picture that grows is looked at between its pixels, one that shrinks over all of them.
    let stretch = scale.max(1.0);
    let reach = filter.reach() * stretch;
    let tap = |place: usize| {
        let center = (place as f64 + 0.5) * scale;
        let first = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(old);
        let weights = (first..end).map(|pixel| filter.weight((pixel as f64 - center + 0.5) * (1.0 / stretch)));
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1 << BITS)).round() as i32;
        Tap { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..new).map(tap).collect()
}
