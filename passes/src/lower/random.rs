//! Random bits.

use graver_ir::dim::Dim;
use graver_ir::kernel::{Index, InstKind, ValueId};
use graver_ir::op::Philox;
use graver_ir::{DType, Value};

use super::point::{Point, expression};
use super::region::Region;

/// The word of the row-major position under the key.
pub(super) fn philox(region: &mut Region<'_>, at: &mut Point, philox: &Philox, value: Value, index: &[Index]) -> ValueId {
    let key = region.graph().args(value.node)[0];
    let key = [0i64, 1, 2, 3].map(|word| region.pull(at, key, &[Index::At(Dim::from(word))]));
    let sizes = philox.shape.iter().zip(index);
    let position = sizes.fold(Dim::ZERO, |sum, (size, index)| sum * size + expression(index));
    // Outside of its shape, where a reader pads, the value is not used, but it is computed.
    let position = at.position(&Index::At(position.max_with(&Dim::ZERO)));
    at.body.push(InstKind::Philox { key, position, stream: philox.stream }, DType::U32)
}
