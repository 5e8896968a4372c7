//! User tensors, traced into the graph.
//!
//! A closure over [`Tensor`]s runs once and leaves a [`graver_ir::Module`]: [`trace`], [`compile`] and [`step`] run it. What it
//! reads of models ([`Param`], [`Buffer`]) becomes the state, what it differentiates ([`value_and_grad`]) becomes transforms.
//! No layers, losses' classes or optimisers are here, and no passes.
//!
//! ```
//! use graver_trace::{spec, trace};
//! let traced = trace(|x| (x * 2.0).relu().sum(-1), spec::<f32>(("batch", 128)))?;
//! let (_, main) = traced.module().entry().expect("a traced module has an entry");
//! assert_eq!(main.result_types()[0].to_string(), "f32[batch]");
//! # Ok::<(), graver_trace::Error>(())
//! ```

extern crate self as graver_trace;

mod call;
mod compile;
mod context;
mod control;
mod engine;
mod grad;
mod jacobian;
mod limits;
mod module;
mod ops;
mod param;
mod scope;
mod size;
mod spec;
mod state;
mod step;
mod tap;
mod tensor;
mod tree;

/// What the paths of this crate's files begin with.
const SOURCES: &str = file!().split_at(file!().len() - "lib.rs".len()).0;

pub use compile::{Compiled, Device, TracedModule, compile, trace};
pub use context::{Mode, fail, is_tracing};
pub use control::{Again, Level, checkpoint, cond, custom_jvp, custom_vjp, scan, scan_back, vmap, while_at_most, while_loop};
pub use engine::{Engine, PassTime, Report};
pub use grad::{Grads, Loss, Pullback, Wrt, WrtLeaf, grad, hvp, jvp, params_of, value_and_grad, vjp, with_params};
pub use graver_check::{Checked, Finding, Guilty, Suspect};
pub use graver_derive::{Module, Tree};
pub use graver_ir::{Array, DType, Diag, Element, Error, Sizes, Symbol};
pub use jacobian::{Outputs, hessian, jacobian, jacobian_forward};
pub use module::{Leaf, Module, Walk};
pub use ops::attention::Attention;
pub use ops::contract::{ConvOptions, ConvTransposeOptions};
pub use ops::index::{arange, constant_array, full, ones, scalar, size_value, zeros};
pub use ops::movement::{Range, concat, stack};
pub use ops::random::{RandomKey, integers, normal, permutation, rng_key, uniform};
pub use ops::reduce::{Pair, Pool2d};
pub use ops::resize::Interpolation;
pub use param::{Buffer, Param, ParamId};
pub use scope::{Scoped, enter, on_behalf_of, scope, training, with_mode};
pub use size::{DimArg, Dims, Extent, Size};
pub use spec::{Spec, SymbolSpec, TensorSpec, join_path, spec, spec_of, symbol};
pub use state::{StateCell, StateEntry, StateKey, TrainState, named_slot, slot};
pub use step::{Step, StepBuilder, StepFn, step};
pub use tap::Taps;
pub use tensor::{Axes, Axis, Operand, Tensor};
pub use tree::{Arrays, Layout, Tensors, Tree, field_arrays};
