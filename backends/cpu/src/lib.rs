//! Kernels to vector IR to machine code for CPUs.
