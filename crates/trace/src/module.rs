//! Models: structs whose parameters and buffers can be walked by path. `#[derive(Module)]` writes the walk.

use std::any::{Any, TypeId};
use std::panic::Location;

use graver_ir::{Array, Diag};

use crate::context::{Trace, with_any};
use crate::param::{Buffer, Param, ParamId};
use crate::scope::scope_at;

/// A part of a model, which knows its parameters, buffers and parts by name.
///
/// Derive it. Fields are modules, [`Param`]s, [`Buffer`]s, and vectors, arrays, options, tuples and boxes of them.
///
/// ```
/// use graver_trace::{Array, Module, Param};
///
/// #[derive(Module)]
/// struct Block<M> {
///     inner: Vec<M>,
///     #[module(name = "gamma")]
///     scale: Param,
///     #[module(skip)]
///     width: usize,
/// }
///
/// let param = || Param::new(Array::scalar(1.0f32));
/// let block = Block { inner: vec![param(), param()], scale: param(), width: 2 };
/// let paths: Vec<String> = block.params().into_iter().map(|(path, _)| path).collect();
/// assert_eq!(paths, ["inner.0", "inner.1", "gamma"]);
/// # let _ = block.width;
/// ```
///
/// A field that is no module must say so:
/// ```compile_fail,E0277
/// #[derive(graver_trace::Module)]
/// struct Layer {
///     width: usize,
/// }
/// ```
/// Attributes are never ignored:
/// ```compile_fail
/// #[derive(graver_trace::Module)]
/// struct Layer {
///     #[module(skipped)]
///     width: usize,
/// }
/// ```
/// ```compile_fail
/// #[derive(graver_trace::Module)]
/// #[module(skip)]
/// struct Layer {}
/// ```
/// Enums are not walked:
/// ```compile_fail
/// #[derive(graver_trace::Module)]
/// enum Layer {
///     Dense(graver_trace::Param),
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no module",
    label = "a field of a module must be a module, a `Param` or a `Buffer`",
    note = "put `#[module(skip)]` before the field if it holds nothing to train"
)]
pub trait Module: Any {
    /// Walks the parts: one [`Walk::field`] each.
    fn visit(&self, walk: &mut Walk<'_>);

    /// Parameters and buffers with their paths, in the order of fields; tied ones at their first place.
    fn leaves(&self) -> Vec<(String, Leaf)> {
        let mut found = Found::default();
        self.visit(&mut Walk { path: String::new(), visitor: &mut found });
        found.leaves
    }

    /// Parameters with their paths, in the order of fields; tied ones at their first place.
    fn params(&self) -> Vec<(String, Param)> {
        let param = |(path, leaf)| match leaf {
            Leaf::Param(param) => Some((path, param)),
            Leaf::Buffer(_) => None,
        };
        self.leaves().into_iter().filter_map(param).collect()
    }

    /// The number of elements of all parameters.
    fn count(&self) -> usize {
        self.params().iter().map(|(_, param)| param.value().numel()).sum()
    }

    /// Freezes every parameter.
    fn freeze(&self) {
        self.params().iter().for_each(|(_, param)| param.freeze());
    }

    /// Unfreezes every parameter.
    fn unfreeze(&self) {
        self.params().iter().for_each(|(_, param)| param.unfreeze());
    }

    /// Runs `f`, a forward pass, under this module's path in the model that is traced: errors, dumps and profiles show it.
    #[track_caller]
    fn scope<R>(&self, f: impl FnOnce() -> R) -> R
    where
        Self: Sized,
    {
        let line = Location::caller();
        match with_any(|trace| trace.and_then(|trace| trace.module_path(self))) {
            Some(path) => scope_at(path, line, f),
            None => f(),
        }
    }
}

/// A parameter or a buffer of a model: a handle of the same identity.
#[derive(Debug)]
pub enum Leaf {
    /// What training changes.
    Param(Param),
    /// What forward passes change.
    Buffer(Buffer),
}

impl Leaf {
    /// Another handle of the same parameter or buffer.
    #[must_use]
    pub fn tie(&self) -> Self {
        match self {
            Self::Param(param) => Self::Param(param.tie()),
            Self::Buffer(buffer) => Self::Buffer(buffer.tie()),
        }
    }

    /// The identity.
    #[must_use]
    pub fn id(&self) -> ParamId {
        match self {
            Self::Param(param) => param.id(),
            Self::Buffer(buffer) => buffer.id(),
        }
    }

    /// The value on the host.
    #[must_use]
    pub fn value(&self) -> Array {
        match self {
            Self::Param(param) => param.value(),
            Self::Buffer(buffer) => buffer.value(),
        }
    }

    /// Replaces the value on the host.
    ///
    /// # Errors
    /// If the type differs.
    pub fn set_value(&self, value: Array) -> Result<(), Diag> {
        match self {
            Self::Param(param) => param.set_value(value),
            Self::Buffer(buffer) => buffer.set_value(value),
        }
    }
}

/// Where a walk over a model is.
pub struct Walk<'a> {
    path: String,
    visitor: &'a mut dyn Visitor,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Walk at {}", self.path)
    }
}

/// What a walk is for.
trait Visitor {
    fn enter(&mut self, path: &str, at: (usize, TypeId));
    fn leaf(&mut self, path: &str, leaf: Leaf);
}

impl Walk<'_> {
    /// Walks a part under its name.
    pub fn field(&mut self, name: &str, part: &dyn Module) {
        let outer = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
        self.inner(part);
        self.path.truncate(outer);
    }

    /// Walks what a container holds under the container's own name.
    fn inner<M: Module + ?Sized>(&mut self, part: &M) {
        // Parts without size may share an address, and would take each other's names.
        if size_of_val(part) > 0 {
            self.visitor.enter(&self.path, (address(part), Any::type_id(part)));
        }
        part.visit(self);
    }

    fn leaf(&mut self, leaf: Leaf) {
        self.visitor.leaf(&self.path, leaf);
    }
}

impl Trace {
    /// The path of a module of a walked model.
    pub(crate) fn module_path<M: Module>(&self, module: &M) -> Option<String> {
        self.modules.get(&(address(module), TypeId::of::<M>())).cloned()
    }
}

fn address<T: ?Sized>(part: &T) -> usize {
    std::ptr::from_ref(part).cast::<()>().addr()
}

#[derive(Default)]
struct Found {
    leaves: Vec<(String, Leaf)>,
    seen: std::collections::BTreeSet<ParamId>,
}

impl Visitor for Found {
    fn enter(&mut self, _: &str, _: (usize, TypeId)) {}

    fn leaf(&mut self, path: &str, leaf: Leaf) {
        if self.seen.insert(leaf.id()) {
            self.leaves.push((path.to_owned(), leaf));
        }
    }
}

/// Makes the model's paths known to a trace; `prefix` may be empty.
pub(crate) fn declare(trace: &mut Trace, prefix: &str, model: &dyn Module) {
    struct Paths<'a>(&'a mut Trace);
    impl Visitor for Paths<'_> {
        fn enter(&mut self, path: &str, at: (usize, TypeId)) {
            self.0.modules.entry(at).or_insert_with(|| path.to_owned());
        }

        fn leaf(&mut self, path: &str, leaf: Leaf) {
            self.0.paths.entry(leaf.id()).or_insert_with(|| path.to_owned());
        }
    }
    let mut paths = Paths(trace);
    model.visit(&mut Walk { path: prefix.to_owned(), visitor: &mut paths });
}

impl Module for Param {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.leaf(Leaf::Param(self.tie()));
    }
}

impl Module for Buffer {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.leaf(Leaf::Buffer(self.tie()));
    }
}

impl Module for () {
    fn visit(&self, _: &mut Walk<'_>) {}
}

impl<M: Module> Module for Vec<M> {
    fn visit(&self, walk: &mut Walk<'_>) {
        self.iter().enumerate().for_each(|(place, part)| walk.field(&place.to_string(), part));
    }
}

impl<M: Module, const N: usize> Module for [M; N] {
    fn visit(&self, walk: &mut Walk<'_>) {
        self.iter().enumerate().for_each(|(place, part)| walk.field(&place.to_string(), part));
    }
}

impl<M: Module> Module for Option<M> {
    fn visit(&self, walk: &mut Walk<'_>) {
        self.iter().for_each(|part| walk.inner(part));
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    fn visit(&self, walk: &mut Walk<'_>) {
        walk.inner(&**self);
    }
}

macro_rules! tuple_modules {
    ($($name:ident $place:tt)*) => {
        impl<$($name: Module),*> Module for ($($name,)*) {
            fn visit(&self, walk: &mut Walk<'_>) {
                $(walk.field(stringify!($place), &self.$place);)*
            }
        }
    };
}

tuple_modules!(A 0);
tuple_modules!(A 0 B 1);
tuple_modules!(A 0 B 1 C 2);
tuple_modules!(A 0 B 1 C 2 D 3);
tuple_modules!(A 0 B 1 C 2 D 3 E 4);
tuple_modules!(A 0 B 1 C 2 D 3 E 4 F 5);
tuple_modules!(A 0 B 1 C 2 D 3 E 4 F 5 G 6);
tuple_modules!(A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7);
