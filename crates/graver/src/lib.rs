//! A static-graph deep-learning compiler: the one crate that a user names.
