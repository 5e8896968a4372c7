//! Samples of random bits: exact by definition.

use graver_ir::{DType, Dim};

use super::{Cases, shapes};
use crate::fill::Fill;

pub(super) fn add(cases: &mut Cases) {
    for (turn, (name, shape)) in (0u32..).zip(shapes()) {
        cases.add(format!("philox/u32/{name}"), |c| {
            let key = c.arg(DType::U32, [4], Fill::Bits);
            for symbol in shape.iter().flat_map(Dim::symbols) {
                c.arg(DType::U8, [symbol.name()], Fill::Any);
            }
            [c.b.philox(key, shape, turn)]
        });
    }
    cases.add("philox/u32/two_streams", |c| {
        let key = c.arg(DType::U32, [4], Fill::Bits);
        [0, u32::MAX].map(|stream| c.b.philox(key, [5], stream))
    });
}
