//! A transformer with attention written by hand, over symbols for batch and time.

use graver::nn::{AdamW, Init, LayerNorm, Linear, train_step};
use graver::trace::{Compiled, Step, Tensor, TensorSpec, compile, spec};
use graver::{Device, Error, Module};

pub(crate) const WIDTH: usize = 64;
const HEADS: usize = 4;

#[derive(Module)]
struct Block {
    before_attention: LayerNorm,
    qkv: Linear,
    out: Linear,
    before_mlp: LayerNorm,
    up: Linear,
    down: Linear,
}

/// So many blocks, and scores of ten classes for every place.
#[derive(Module)]
pub(crate) struct Net {
    blocks: Vec<Block>,
    head: Linear,
}

impl Block {
    fn new(init: &mut Init) -> Self {
        let mut linear = |inputs, outputs| Linear::new(inputs, outputs).init(init);
        let [qkv, out] = [3 * WIDTH, WIDTH].map(|outputs| linear(WIDTH, outputs));
        let (up, down) = (linear(WIDTH, 4 * WIDTH), linear(4 * WIDTH, WIDTH));
        let [before_attention, before_mlp] = [(), ()].map(|()| LayerNorm::new(WIDTH).init(init));
        Self { before_attention, qkv, out, before_mlp, up, down }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let x = x + self.attention(self.before_attention.forward(x));
        x + self.down.forward(self.up.forward(self.before_mlp.forward(x)).gelu())
    }

    /// Of `[batch, time, width]`.
    fn attention(&self, x: Tensor) -> Tensor {
        let shape = x.shape();
        let heads = |x: Tensor| {
            let split = (shape[0], shape[1], HEADS, WIDTH / HEADS);
            x.reshape(split).permute([0, 2, 1, 3])
        };
        let parts: Vec<Tensor> = self.qkv.forward(x).chunk(3, -1).into_iter().map(heads).collect();
        let scores = parts[0].matmul(parts[1].transpose(-1, -2)) / (WIDTH as f32 / HEADS as f32).sqrt();
        let mixed = scores.softmax(-1).matmul(parts[2]).permute([0, 2, 1, 3]);
        self.out.forward(mixed.reshape((shape[0], shape[1], WIDTH)))
    }
}

type Training = Step<(TensorSpec, TensorSpec), Tensor>;

impl Net {
    pub(crate) fn new(depth: usize) -> Self {
        let mut init = Init::seed(1);
        Self { blocks: (0..depth).map(|_| Block::new(&mut init)).collect(), head: Linear::new(WIDTH, 10).init(&mut init) }
    }

    /// As it predicts.
    pub(crate) fn predicting(&self, device: &Device) -> Result<Compiled<TensorSpec, Tensor>, Error> {
        compile(|x| self.forward(x), spec::<f32>(("batch", "time", WIDTH)), device)
    }

    /// Its training step, with AdamW.
    pub(crate) fn training(&self, device: &Device) -> Result<Training, Error> {
        let specs = (spec::<f32>(("batch", "time", WIDTH)), spec::<i64>(("batch", "time")));
        train_step(self, AdamW::new(1e-3), specs, |net, (x, y)| net.forward(x).cross_entropy(y)).compile(device)
    }

    fn forward(&self, x: Tensor) -> Tensor {
        self.head.forward(self.blocks.iter().fold(x, |x, block| block.forward(x)))
    }
}
