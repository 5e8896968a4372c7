//! Nothing: this package is its tests. Run them with `cargo test --workspace --test suite`, and of `driver` and `nvrtc`.
