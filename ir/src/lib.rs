//! What a Graver program is.
//!
//! Two languages and what they share: the graph IR ([`Module`], [`Graph`], [`op::Op`]), which tracing makes and passes
//! rewrite, and the kernel IR ([`kernel::Program`]), which passes make and backends compile. Both are plain data with a
//! text, a verifier and JSON. No IO, no passes and no execution are here.

mod array;
mod base64;
mod bind;
pub mod dim;
pub mod dot;
mod dtype;
mod error;
mod graph;
mod infer;
pub mod json;
pub mod kernel;
mod location;
mod module;
mod name;
pub mod op;
pub mod philox;
mod scalar;
mod structure;
mod target;
pub mod text;
mod ty;
mod verify;

pub use array::{Array, Element, Lender, Remote, Watch, prefer_large_pages, unravel};
pub use bind::bind;
pub use dim::{Dim, Sizes, Symbol};
pub use dtype::{DType, DTypeKind, Scalar};
pub use error::{Diag, Error};
pub use graph::{Args, Graph, Node, NodeId, Use, Value};
pub use half::{bf16, f16};
pub use infer::infer;
pub use location::{Loc, Place};
pub use module::{FuncId, FuncResult, Function, Module, Param, Role, Sink, StateDecl, StateId, StateKind};
pub use op::Op;
pub use scalar::{Rule, ScalarFn};
pub use structure::structural_hash;
pub use target::Target;
pub use ty::{MAX_RANK, Shape, Type};
pub use verify::{verify, verify_sizes};
