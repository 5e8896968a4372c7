//! Compile time against depth: a transformer of 12, 24 and 48 blocks, or of as many as the arguments say, as it predicts and as it is
//! trained, with where the time of the training step goes.

use std::time::Instant;

use graver::ir::Sizes;
use graver::nn::{AdamW, Init, LayerNorm, Linear, train_step};
use graver::trace::{Tensor, compile, spec};
use graver::{Error, Module, cpu};

const WIDTH: usize = 64;
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

#[derive(Module)]
struct Net {
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

impl Net {
    fn forward(&self, x: Tensor) -> Tensor {
        self.head.forward(self.blocks.iter().fold(x, |x, block| block.forward(x)))
    }
}

fn main() -> Result<(), Error> {
    let asked: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    for depth in if asked.is_empty() { vec![12, 24, 48] } else { asked } {
        let mut init = Init::seed(1);
        let net =
            Net { blocks: (0..depth).map(|_| Block::new(&mut init)).collect(), head: Linear::new(WIDTH, 10).init(&mut init) };
        let specs = (spec::<f32>(("batch", "time", WIDTH)), spec::<i64>(("batch", "time")));
        let start = Instant::now();
        let predict = compile(|x| net.forward(x), spec::<f32>(("batch", "time", WIDTH)), &cpu())?;
        println!("{depth} blocks, predicting: {:.0?}, {} kernels", start.elapsed(), predict.kernels().len());
        let start = Instant::now();
        let step = train_step(&net, AdamW::new(1e-3), specs, |net, (x, y)| net.forward(x).cross_entropy(y));
        let step = step.compile(&cpu())?;
        let (took, report) = (start.elapsed(), step.report());
        let sizes = Sizes::from([("batch".to_owned(), 8), ("time".to_owned(), 64)]);
        println!(
            "{depth} blocks, training: {took:.0?}, {} kernels for {} launches; 8 x 64 take {:.1} MB to work in",
            step.kernels().len(),
            step.program().entries[0].steps.len(),
            step.working_bytes(&sizes)?.arena as f64 / 1e6
        );
        let passes = report.passes.iter().map(|pass| (pass.pass, pass.took));
        let stages = report.stages.iter().map(|(stage, took)| (*stage, *took));
        for (what, took) in [("trace", report.trace)].into_iter().chain(passes).chain(stages).chain([("codegen", report.codegen)])
        {
            if took.as_millis() > 0 {
                println!("  {what:<10} {took:>9.1?}");
            }
        }
    }
    Ok(())
}
