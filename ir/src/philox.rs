//! Philox4x32-10, the counter-based generator behind [`crate::Op::Philox`].
//!
//! J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The
//! constants are those of the paper, the tests its authors' known answers. No state is here: a word is a function of its
//! counter and key alone.

const ROUNDS: u32 = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// The golden ratio and `sqrt(3) - 1`, by which the key grows between rounds.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Four random words for one counter and key.
///
/// ```
/// let words = graver_ir::philox::philox4x32_10([0; 4], [0; 2]);
/// assert_eq!(words, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
/// ```
#[must_use]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut counter, mut key) = (counter, key);
    for _ in 0..ROUNDS {
        counter = round(counter, key);
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// The word of the element at `position` under `key = [key 0, key 1, step low, step high]`, as [`crate::op::Philox`] says.
#[must_use]
pub fn philox_word(key: [u32; 4], position: u64, stream: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "positions are below 2^34, so a block's number fits")]
    let block = (position / 4) as u32;
    philox4x32_10([block, stream, key[2], key[3]], [key[0], key[1]])[(position % 4) as usize]
}

fn round(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (high0, low0) = widening_mul(MULTIPLIERS[0], counter[0]);
    let (high1, low1) = widening_mul(MULTIPLIERS[1], counter[2]);
    [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves are what is asked for")]
fn widening_mul(x: u32, y: u32) -> (u32, u32) {
    let product = u64::from(x) * u64::from(y);
    ((product >> 32) as u32, product as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows `philox4x32 10` of the file `kat_vectors` of Random123.
    #[test]
    fn known_answers() {
        let ones = u32::MAX;
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let rows = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([ones; 4], [ones; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (pi, [0xa409_3822, 0x299f_31d0], [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
        ];
        for (counter, key, expected) in rows {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }

    #[test]
    fn a_word_is_a_quarter_of_its_block() {
        let block = philox4x32_10([2, 9, 7, 8], [5, 6]);
        for (word, expected) in (0..).zip(block) {
            assert_eq!(philox_word([5, 6, 7, 8], 8 + word, 9), expected);
        }
    }
}
