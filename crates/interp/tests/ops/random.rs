//! Random bits.

use graver_ir::op::Philox;
use graver_ir::philox::philox4x32_10;
use graver_ir::{Op, Shape};

use crate::{array, check};

#[test]
fn philox_counts_blocks_of_four() {
    let op = |shape: &[usize], stream| Op::Philox(Philox { shape: Shape::new(shape.iter().copied()), stream });
    // The first known answer of the generator's authors.
    let zero = array(&[4], &[0u32; 4]);
    check(&op(&[4], 0), &[&zero], &array(&[4], &[0x6627_e8d5u32, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]));
    let key = array(&[4], &[1u32, 2, 3, 4]);
    let [first, second] = [0, 1].map(|block| philox4x32_10([block, 9, 3, 4], [1, 2]));
    check(&op(&[2, 3], 9), &[&key], &array(&[2, 3], &[first[0], first[1], first[2], first[3], second[0], second[1]]));
    check(&op(&[0], 9), &[&key], &array::<u32>(&[0], &[]));
}
