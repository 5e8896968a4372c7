//! Chance as a function: what an item draws depends on a seed, an epoch and an index, not on who asks and when.

use graver_ir::philox::philox4x32_10;

/// A place in a tree of random numbers. A seed is the root; [`Key::fold`] goes down to a child; numbers are read by position.
///
/// The loader gives every item the key `seed / epoch / index`; a chain of transforms gives each its own child.
///
/// ```
/// use graver_data::Key;
/// let key = Key::seed(7).fold(0).fold(41);
/// assert_eq!(key.bits(3), Key::seed(7).fold(0).fold(41).bits(3));
/// assert_ne!(key.bits(3), Key::seed(7).fold(1).fold(41).bits(3));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key([u32; 2]);

impl Key {
    /// The root of a seed.
    #[must_use]
    pub const fn seed(seed: u64) -> Self {
        Self(split(seed))
    }

    /// The child of this number. Children and numbers of one key have nothing in common.
    #[must_use]
    pub fn fold(self, child: u64) -> Self {
        let [x, y, ..] = self.block(child, 1);
        Self([x, y])
    }

    /// The 64 random bits at a position (Philox4x32-10).
    #[must_use]
    pub fn bits(self, position: u64) -> u64 {
        let [low, high, ..] = self.block(position, 0);
        u64::from(high) << 32 | u64::from(low)
    }

    /// A number in `0..limit` (0 if `limit` is 0): the upper half of `bits * limit`, whose bias is below `limit / 2^64`.
    #[must_use]
    pub fn below(self, position: u64, limit: usize) -> usize {
        let product = u128::from(self.bits(position)) * limit as u128;
        usize::try_from(product >> 64).expect("below a usize")
    }

    /// A number in `0.0..1.0`.
    #[must_use]
    pub fn unit(self, position: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let unit = (self.bits(position) >> 11) as f64 / (1u64 << 53) as f64;
        unit
    }

    fn block(self, position: u64, stream: u32) -> [u32; 4] {
        let [low, high] = split(position);
        philox4x32_10([low, high, stream, 0], self.0)
    }
}

const fn split(x: u64) -> [u32; 2] {
    [(x & 0xffff_ffff) as u32, (x >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn numbers_stay_in_range_and_reach_it() {
        let key = Key::seed(1);
        let drawn: Vec<usize> = (0..200).map(|position| key.below(position, 3)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&0), Some(&2)));
        assert_eq!(key.below(0, 0), 0);
        let mean = (0..1000).map(|position| key.unit(position)).sum::<f64>() / 1000.0;
        assert!((mean - 0.5).abs() < 0.03, "{mean}");
    }
}
