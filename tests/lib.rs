//! Nothing: this package is its tests. Run them with `cargo test -p graver-tests`.
