//! What holds while a closure runs: the path that errors and dumps show, and the mode. Both end with the closure, panics included.

use std::panic::Location;
use std::rc::Rc;

use crate::context::{Mode, Scope, Trace, with, with_any};
use crate::module::Module;

/// Whether layers are traced as in training. `false` outside of a trace.
#[must_use]
pub fn training() -> bool {
    with_any(|trace| trace.is_some_and(|trace| trace.mode == Mode::Train))
}

/// Runs `f` in another mode: a frozen teacher inside of a training step.
pub fn with_mode<R>(mode: Mode, f: impl FnOnce() -> R) -> R {
    struct Restore(Mode);
    impl Drop for Restore {
        fn drop(&mut self) {
            with_any(|trace| trace.into_iter().for_each(|trace| trace.mode = self.0));
        }
    }
    let _restore = Restore(with(|trace| std::mem::replace(&mut trace.mode, mode)));
    f()
}

/// Runs `f` with `name` after the path that errors, dumps and profiles show. Outside of a trace it only runs `f`.
#[track_caller]
pub fn scope<R>(name: &str, f: impl FnOnce() -> R) -> R {
    let line = Location::caller();
    let path = with_any(|trace| {
        let outer = trace.as_ref().map_or("", |trace| trace.scope_path());
        if outer.is_empty() { name.to_owned() } else { format!("{outer}.{name}") }
    });
    scope_at(path, line, f)
}

/// Runs `f` under a whole path.
pub(crate) fn scope_at<R>(path: String, line: &'static Location<'static>, f: impl FnOnce() -> R) -> R {
    let _scope = Scoped::open(|_| Some(path), line, None);
    f()
}

/// Opens the scope of a module's path until the guard drops: [`Module::scope`] for the layers of a library, whose operations
/// are to show the line of the user's call instead of their own. `sources` is what the paths of the library's files begin with.
///
/// ```
/// use graver_trace::{Param, Tensor, enter};
///
/// #[derive(graver_trace::Module)]
/// struct Scale {
///     weight: Param,
/// }
///
/// impl Scale {
///     #[track_caller]
///     fn forward(&self, x: Tensor) -> Tensor {
///         let _scope = enter(self, file!());
///         x * &self.weight
///     }
/// }
/// ```
#[must_use]
#[track_caller]
pub fn enter<M: Module>(module: &M, sources: &'static str) -> Scoped {
    Scoped::open(|trace| trace.module_path(module), Location::caller(), Some(sources))
}

/// Makes the operations of a library's files show another line than their own, until the guard drops: see [`enter`].
#[must_use]
pub fn on_behalf_of(line: &'static Location<'static>, sources: &'static str) -> Scoped {
    Scoped::open(|_| None, line, Some(sources))
}

/// Closes a scope when it drops.
#[derive(Debug)]
pub struct Scoped {
    /// The number of scopes outside of it, if it is one.
    outer: Option<usize>,
}

impl Scoped {
    /// A scope of the innermost trace, if there is one, under a path, or the one that is open.
    fn open(
        path: impl FnOnce(&Trace) -> Option<String>,
        line: &'static Location<'static>,
        sources: Option<&'static str>,
    ) -> Self {
        let push = |trace: &mut Trace| {
            let path = path(trace).map_or_else(|| trace.path(), Rc::from);
            let line = trace.telling(line);
            trace.scopes.push(Scope { path, line, sources });
            trace.scopes.len() - 1
        };
        Self { outer: with_any(|trace| trace.map(push)) }
    }
}

impl Drop for Scoped {
    fn drop(&mut self) {
        let Some(outer) = self.outer else { return };
        with_any(|trace| trace.into_iter().for_each(|trace| trace.scopes.truncate(outer)));
    }
}
