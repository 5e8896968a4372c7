//! Names and stops, once derivatives are written out.

use graver_ir::Value;

use super::{Rewrite, Site};
use crate::build::Build;

pub(super) const NAMES: &[Rewrite] = &[name_of_a_value];

/// `alias x = x`, `stop_gradient x = x`.
fn name_of_a_value(_: &mut Build<'_>, site: &Site<'_>) -> Option<Value> {
    Some(site.args[0])
}
