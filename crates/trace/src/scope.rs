//! What holds while a closure runs: the path that errors and dumps show, and the mode. Both end with the closure, panics included.

use std::panic::Location;

use crate::context::{Mode, Scope, is_tracing, with, with_any};

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
    struct Close(usize);
    impl Drop for Close {
        fn drop(&mut self) {
            with_any(|trace| trace.into_iter().for_each(|trace| trace.scopes.truncate(self.0)));
        }
    }
    if !is_tracing() {
        return f();
    }
    let _close = with(|trace| {
        trace.scopes.push(Scope { path, line });
        Close(trace.scopes.len() - 1)
    });
    f()
}
