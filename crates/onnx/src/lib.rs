//! ONNX models as modules of the graph language.
//!
//! [`read_file`] decodes a model file, [`import`] makes it a [`graver_ir::Module`]: every dynamic axis becomes a symbol, chains of
//! shape arithmetic are evaluated while importing and vanish, every operation carries its node's name. Nothing is run here.
//!
//! Models are hostile: a damaged or absurd one gives a [`Failure`], never a panic, in time and memory that its file bounds.

mod build;
mod control;
mod external;
mod format;
mod import;
mod inputs;
mod known;
mod node;
mod ops;
mod problem;
pub mod proto;
mod read;
mod sequence;
mod specialise;
mod tensor;

pub use format::{Element, Format};
pub use import::{Form, Imported, Options, Origin, import};
pub use inputs::{input_dtypes, input_names, output_elements};
pub use problem::Failure;
pub use read::{decode, read_file, read_tensor};
pub use specialise::import_for;
