//! The meaning of every operation and of every kernel, in plain loops.
