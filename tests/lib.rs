//! Nothing: this package is its tests. Run them with `cargo test --workspace --test suite`, and `--test driver` and `--test nvrtc`.
