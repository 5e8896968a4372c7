//! Random transforms of images. What they draw is a function of the key: of the seed, the epoch and the item.

use graver_ir::{Array, Diag};

use super::image::place;
use super::{Image, Transform, rearranged, resized};
use crate::key::Key;

/// A part of an image `[.., height, width]` at a random place, after `padding` zeros were put on every side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomCrop {
    /// The part's height.
    pub height: usize,
    /// The part's width.
    pub width: usize,
    /// Zeros on every side.
    pub padding: usize,
}

impl Transform for RandomCrop {
    fn apply(&self, x: Array, key: Key) -> Result<Array, Diag> {
        let image = Image::of("random_crop", &x)?;
        let room = |have: usize, want: usize| self.padding.checked_mul(2)?.checked_add(have)?.checked_sub(want)?.checked_add(1);
        let (Some(down), Some(across)) = (room(image.height, self.height), room(image.width, self.width)) else {
            let message = format!("{} with padding {} has no part of {} x {}", x.ty(), self.padding, self.height, self.width);
            return Err(Diag::new(message).op("random_crop"));
        };
        let shape = resized("random_crop", &x, self.height, self.width)?;
        let (top, left) = (key.below(0, down), key.below(1, across));
        let inside =
            |offset: usize, place: usize, size: usize| (offset + place).checked_sub(self.padding).filter(|place| *place < size);
        rearranged(&x, shape, |position| {
            let (plane, row, column) = place(position, self.height, self.width);
            let (row, column) = (inside(top, row, image.height)?, inside(left, column, image.width)?);
            Some((plane * image.height + row) * image.width + column)
        })
    }
}

/// An image `[.., height, width]` mirrored, left to right, with this probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomFlip {
    /// From 0 to 1.
    pub probability: f64,
}

impl Transform for RandomFlip {
    fn apply(&self, x: Array, key: Key) -> Result<Array, Diag> {
        let image = Image::of("random_flip", &x)?;
        if key.unit(0) >= self.probability {
            return Ok(x);
        }
        rearranged(&x, x.shape().to_vec(), |position| {
            let column = position % image.width;
            Some(position - column + (image.width - 1 - column))
        })
    }
}
