use graver_ir::kernel::Contract;

use super::Lowered;
use super::cx::Cx;

pub(super) fn lower(_cx: Cx<'_>, _contract: &Contract) -> Lowered {
    panic!("being written")
}
