//! Models built here, imported, evaluated by the interpreter and compared with what is computed here; and hostile ones.

mod bytes;
mod common;
mod control;
mod external;
mod halves;
mod hostile;
mod integers;
mod ops;
mod positions;
mod quantize;
mod random;
mod sample;
mod sequences;
mod sizes;
mod sparse;
