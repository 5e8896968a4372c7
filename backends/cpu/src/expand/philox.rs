//! Philox4x32-10 (Salmon et al., 2011), a word a lane.

use crate::vector::{Binary, Builder, Compare, Elem, Shift, Val};

const MULTIPLIERS: [u64; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u64; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// Word `position mod 4` of the block with counter `[position / 4, stream, step..]`; `key` is `[key 0, key 1, step low, step high]`.
pub(crate) fn philox(b: &mut Builder, key: [Val; 4], position: Val, stream: u32) -> Val {
    let block = b.shift(Shift::Logical, position, 2);
    let block = b.cast(block, Elem::U32);
    let stream = b.constant(Elem::U32, u64::from(stream));
    let mut counter = [block, stream, key[2], key[3]];
    let mut round_key = [key[0], key[1]];
    for _ in 0..ROUNDS {
        counter = round(b, counter, round_key);
        for (word, step) in round_key.iter_mut().zip(WEYL) {
            let step = b.constant(Elem::U32, step);
            *word = b.add(*word, step);
        }
    }
    chosen(b, counter, position)
}

fn round(b: &mut Builder, counter: [Val; 4], key: [Val; 2]) -> [Val; 4] {
    let [first, second] = MULTIPLIERS.map(|multiplier| b.constant(Elem::U32, multiplier));
    let (high_0, low_0) = (b.binary(Binary::MulHigh, counter[0], first), b.mul(counter[0], first));
    let (high_1, low_1) = (b.binary(Binary::MulHigh, counter[2], second), b.mul(counter[2], second));
    let mixed_1 = b.binary(Binary::Xor, high_1, counter[1]);
    let mixed_0 = b.binary(Binary::Xor, high_0, counter[3]);
    [b.binary(Binary::Xor, mixed_1, key[0]), low_1, b.binary(Binary::Xor, mixed_0, key[1]), low_0]
}

/// Word `position mod 4`.
fn chosen(b: &mut Builder, words: [Val; 4], position: Val) -> Val {
    let three = b.int(3);
    let place = b.and(position, three);
    let place = b.cast(place, Elem::U32);
    let [zero, one, two] = [0, 1, 2].map(|place| b.constant(Elem::U32, place));
    let (is_two, is_one) = (b.compare(Compare::Eq, place, two), b.compare(Compare::Eq, place, one));
    let is_zero = b.compare(Compare::Eq, place, zero);
    let word = b.select(is_two, words[2], words[3]);
    let word = b.select(is_one, words[1], word);
    b.select(is_zero, words[0], word)
}
