//! From vector IR to machine code. One emitter a folder; none is seen from above but through [`Code`].

pub(crate) mod cranelift;
pub(crate) mod jit;
pub(crate) mod x64;

#[cfg(test)]
mod fuzz;
