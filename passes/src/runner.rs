//! What is done around every pass: verify, time, observe, stop, and check its answer.
