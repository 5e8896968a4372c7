//! #[derive(Module)] and #[derive(Tree)].
