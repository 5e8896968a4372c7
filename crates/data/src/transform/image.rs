//! Transforms of images: the last two axes are height and width.

use graver_ir::{Array, Diag};

use super::{Image, Transform, check_float, from_f64, rearranged, resized};
use crate::key::Key;

/// How values between pixels are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// The pixel at `floor(position * old / new)`, as PyTorch's `interpolate(mode="nearest")`. Any element type.
    Nearest,
    /// Between the four pixels around `(position + 1/2) * old / new - 1/2`, which is moved inside at the edges: PyTorch's
    /// `interpolate(mode="bilinear", align_corners=False)` without antialiasing. Floats.
    Bilinear,
}

/// An image `[.., height, width]` at another size.
///
/// ```
/// use graver_data::{Interpolation, Key, Resize, Transform};
/// use graver_ir::Array;
/// let x = Array::from_vec([1, 2], vec![0.0f32, 1.0])?;
/// let wide = Resize { height: 1, width: 4, interpolation: Interpolation::Bilinear }.apply(x, Key::default())?;
/// assert_eq!(wide.to_f64(), [0.0, 0.25, 0.75, 1.0]);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// The new height.
    pub height: usize,
    /// The new width.
    pub width: usize,
    /// How.
    pub interpolation: Interpolation,
}

impl Transform for Resize {
    fn apply(&self, x: Array, _key: Key) -> Result<Array, Diag> {
        let image = Image::of("resize", &x)?;
        if [image.height, image.width, self.height, self.width].contains(&0) {
            let message = format!("{} cannot become {} x {}: a size is 0", x.ty(), self.height, self.width);
            return Err(Diag::new(message).op("resize"));
        }
        let shape = resized("resize", &x, self.height, self.width)?;
        match self.interpolation {
            Interpolation::Nearest => self.nearest(&x, &image, shape),
            Interpolation::Bilinear => self.bilinear(&x, &image, &shape),
        }
    }
}

impl Resize {
    fn nearest(&self, x: &Array, image: &Image, shape: Vec<usize>) -> Result<Array, Diag> {
        let rows: Vec<usize> = (0..self.height).map(|row| row * image.height / self.height).collect();
        let columns: Vec<usize> = (0..self.width).map(|column| column * image.width / self.width).collect();
        rearranged(x, shape, |position| {
            let (plane, row, column) = place(position, self.height, self.width);
            Some((plane * image.height + rows[row]) * image.width + columns[column])
        })
    }

    fn bilinear(&self, x: &Array, image: &Image, shape: &[usize]) -> Result<Array, Diag> {
        check_float("resize", x)?;
        let (rows, columns) = (taps(image.height, self.height), taps(image.width, self.width));
        let (values, size) = (x.to_f64(), image.height * image.width);
        let mut resized = Vec::with_capacity(image.planes * self.height * self.width);
        for plane in 0..image.planes {
            let plane = &values[plane * size..][..size];
            let row = |row: usize, tap: &Tap| {
                let row = &plane[row * image.width..][..image.width];
                row[tap.low] * (1.0 - tap.weight) + row[tap.high] * tap.weight
            };
            for down in &rows {
                let mix = |across: &Tap| row(down.low, across) * (1.0 - down.weight) + row(down.high, across) * down.weight;
                resized.extend(columns.iter().map(mix));
            }
        }
        Ok(from_f64(x.dtype(), shape, &resized))
    }
}

/// Two neighbours, and how much of the second.
struct Tap {
    low: usize,
    high: usize,
    weight: f64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes of images; not negative"
)]
fn taps(old: usize, new: usize) -> Vec<Tap> {
    let scale = old as f64 / new as f64;
    let tap = |position: usize| {
        let source = ((position as f64 + 0.5) * scale - 0.5).max(0.0);
        let low = (source as usize).min(old - 1);
        Tap { low, high: (low + 1).min(old - 1), weight: source - low as f64 }
    };
    (0..new).map(tap).collect()
}

/// Plane, row and column of a row-major position.
pub(super) fn place(position: usize, height: usize, width: usize) -> (usize, usize, usize) {
    (position / width / height, position / width % height, position % width)
}
