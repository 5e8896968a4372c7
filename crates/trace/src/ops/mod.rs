//! The methods of [`crate::Tensor`], by family. Every public one records under its own name and the user's line; private
//! helpers return [`crate::context::Traced`], so that nothing is recorded twice.

mod attend;
pub(crate) mod attention;
pub(crate) mod composite;
pub(crate) mod contract;
pub(crate) mod index;
pub(crate) mod map;
pub(crate) mod movement;
pub(crate) mod random;
pub(crate) mod reduce;
pub(crate) mod resize;
mod scatter;
