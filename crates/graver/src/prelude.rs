//! What a program that uses Graver names: `use graver::prelude::*;`

pub use graver_data::metrics::Accuracy;
pub use graver_data::{DataLoader, Dataset, InMemory};
pub use graver_ir::Scalar;
pub use graver_nn::loss;
pub use graver_nn::{
    Activation, Adam, AdamW, AvgPool2d, BatchNorm1d, BatchNorm2d, Conv2d, ConvTranspose2d, Cosine, Dropout, Embedding, Flatten,
    Gru, Init, InverseSqrt, KvCache, Layer, LayerNorm, Linear, LinearDecay, Lstm, MaxPool2d, ModelFile, MultiStepDecay, OneCycle,
    Optimizer, PolynomialDecay, Repeat, Sequential, Sgd, StateFile, StepDecay, Then, Upsample, Warmup, train_step,
};
pub use graver_trace::{
    Array, Buffer, Checked, Compiled, DType, Device, Error, Grads, Param, Size, Step, Suspect, Symbol, Taps, Tensor, TrainState,
    checkpoint, compile, concat, cond, custom_jvp, custom_vjp, grad, hessian, hvp, jacobian, jacobian_forward, jvp, scan,
    scan_back, size_value, spec, stack, step, symbol, training, value_and_grad, vjp, vmap, while_at_most, while_loop,
};

pub use crate::{Module, Tree, cpu, cpu_with_threads, cuda, interpreter};
