//! Random programs, samples of every operation, and comparison by error bounds, for tests.
