//! Layers as pretrained models are initialised: normal weights of deviation 0.02, biases 0.

use graver_ir::Diag;
use graver_nn::{Embedding, Fill, Init, Linear};
use graver_trace::Param;

const WEIGHTS: Fill = Fill::Normal { mean: 0.0, std: 0.02 };

pub(crate) fn linear(inputs: usize, outputs: usize, init: &mut Init) -> Linear {
    Linear { bias: Some(zeros(outputs, init)), ..unbiased(inputs, outputs, init) }
}

pub(crate) fn linear_if(bias: bool, inputs: usize, outputs: usize, init: &mut Init) -> Linear {
    if bias { linear(inputs, outputs, init) } else { unbiased(inputs, outputs, init) }
}

pub(crate) fn unbiased(inputs: usize, outputs: usize, init: &mut Init) -> Linear {
    Linear::new(inputs, outputs).bias(false).init_with(init, WEIGHTS)
}

pub(crate) fn table(entries: usize, width: usize, init: &mut Init) -> Embedding {
    Embedding::new(entries, width).init_with(init, WEIGHTS)
}

pub(crate) fn weights(shape: &[usize], init: &mut Init) -> Param {
    init.param(WEIGHTS, shape)
}

pub(crate) fn zeros(size: usize, init: &mut Init) -> Param {
    init.param(Fill::Constant(0.0), [size])
}

/// That caches are not one for each block.
pub(crate) fn unlike_blocks<C>(caches: &[C], blocks: usize) -> Option<Diag> {
    let message = || format!("{} caches are given for {blocks} blocks: the model's own `caches` makes them", caches.len());
    (caches.len() != blocks).then(|| Diag::new(message()).op("cache"))
}
