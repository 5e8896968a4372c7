//! The models that are measured, with the names that their weights have in files.

mod small;

pub(crate) use small::{Cnn, Mlp, Sequence};
