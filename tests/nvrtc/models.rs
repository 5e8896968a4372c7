//! The models of the examples, as small as their kernels stay the same: what is compiled depends on structure, not on depth.

use std::sync::{Arc, Mutex, PoisonError};

use graver::ir::Target;
use graver::ir::kernel::Program;
use graver::nn::{Mask, TransformerEncoderLayer};
use graver::prelude::*;
use graver::runtime::{Backend, Executable};
use graver::trace::Device;

/// Keeps the programs that it is given to compile.
#[derive(Debug, Default)]
struct Collector(Mutex<Vec<Program>>);

impl Backend for Collector {
    fn describe(&self) -> Target {
        graver_cuda::describe()
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(program.as_ref().clone());
        Err(Error::new("it is only looked at"))
    }
}

/// The programs of every model by name.
pub(crate) fn programs() -> Vec<(String, Program)> {
    let collector = Arc::new(Collector::default());
    let device = Device::new(collector.clone());
    let names = [digits(&device), char_lstm(&device), gpt(&device), bert(&device), resnet(&device)].concat();
    let programs = std::mem::take(&mut *collector.0.lock().unwrap_or_else(PoisonError::into_inner));
    assert_eq!(names.len(), programs.len(), "every model compiles up to the backend");
    names.into_iter().map(str::to_owned).zip(programs).collect()
}

/// A training step, which is not run.
macro_rules! training {
    ($name:literal, $model:expr, $optimizer:expr, $inputs:expr, $device:expr, $loss:expr) => {{
        let error = train_step($model, $optimizer, $inputs, $loss).compile($device).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("it is only looked at"));
        $name
    }};
}

/// A forward pass, which is not run.
macro_rules! forward {
    ($name:literal, $inputs:expr, $device:expr, $forward:expr) => {{
        let error = compile($forward, $inputs, $device).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("it is only looked at"));
        $name
    }};
}

#[derive(Module)]
struct Digits {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl Digits {
    fn forward(&self, x: Tensor) -> Tensor {
        let x = self.conv1.forward(x).relu().max_pool2d(2);
        let x = self.conv2.forward(x).relu().max_pool2d(2);
        let x = self.fc1.forward(x.flatten(1)).relu();
        self.fc2.forward(x)
    }
}

fn digits(device: &Device) -> Vec<&'static str> {
    let mut init = Init::seed(0);
    let model = Digits {
        conv1: Conv2d::new(1, 32, 3).padding(1).init(&mut init),
        conv2: Conv2d::new(32, 64, 3).padding(1).init(&mut init),
        fc1: Linear::new(64 * 6 * 6, 128).init(&mut init),
        fc2: Linear::new(128, 10).init(&mut init),
    };
    let images = || spec::<f32>(("batch", 1, 24, 24));
    let inputs = (images(), spec::<i64>(["batch"]));
    let optimizer = Sgd::new(0.01).momentum(0.9);
    vec![
        training!("digits step", &model, optimizer, inputs, device, |m, (x, y)| m.forward(x).cross_entropy(y)),
        forward!("digits", images(), device, |x| model.forward(x)),
    ]
}

#[derive(Module)]
struct CharLstm {
    characters: Embedding,
    lstm: Lstm,
    head: Linear,
}

fn char_lstm(device: &Device) -> Vec<&'static str> {
    let mut init = Init::seed(0);
    let model = CharLstm {
        characters: Embedding::new(90, 64).init(&mut init),
        lstm: Lstm::new(64, 128).batch_first(true).init(&mut init),
        head: Linear::new(128, 90).init(&mut init),
    };
    let text = || spec::<i64>(("batch", "length"));
    let forward = |m: &CharLstm, text: Tensor| m.head.forward(m.lstm.forward(m.characters.forward(text)).0);
    let optimizer = AdamW::new(1e-2).clip_norm(1.0);
    let loss = |m: &CharLstm, (text, after): (Tensor, Tensor)| forward(m, text).cross_entropy(after);
    vec![training!("char_lstm step", &model, optimizer, (text(), text()), device, loss)]
}

#[derive(Module)]
struct Transformer {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<TransformerEncoderLayer>,
    norm: LayerNorm,
    head: Linear,
}

impl Transformer {
    fn new(dtype: DType, norm_first: bool) -> Self {
        let mut init = Init::seed(0).dtype(dtype);
        let options = |init: &mut Init| {
            let options = TransformerEncoderLayer::new(256, 4, 1024).activation(Activation::Gelu);
            options.dropout(0.1).attention_dropout(0.0).norm_first(norm_first).init(init)
        };
        Self {
            tokens: Embedding::new(1000, 256).init(&mut init),
            positions: Embedding::new(512, 256).init(&mut init),
            blocks: (0..2).map(|_| options(&mut init)).collect(),
            norm: LayerNorm::new(256).init(&mut init),
            head: Linear::new(256, 1000).init(&mut init),
        }
    }

    fn forward(&self, text: Tensor, mask: fn() -> Mask) -> Tensor {
        let x = self.tokens.forward(text) + self.positions.weight.get().narrow(0, 0, text.dim(1));
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, mask()));
        self.head.forward(self.norm.forward(x))
    }
}

fn gpt(device: &Device) -> Vec<&'static str> {
    let (single, half) = (Transformer::new(DType::F32, true), Transformer::new(DType::BF16, true));
    let text = || spec::<i64>(("batch", "length"));
    let loss = |m: &Transformer, (text, after): (Tensor, Tensor)| m.forward(text, Mask::causal).cross_entropy(after);
    vec![
        training!("gpt step", &single, AdamW::new(1e-3), (text(), text()), device, loss),
        forward!("gpt/bf16", text(), device, |text| half.forward(text, Mask::causal)),
    ]
}

fn bert(device: &Device) -> Vec<&'static str> {
    let (single, half) = (Transformer::new(DType::F32, false), Transformer::new(DType::F16, false));
    let text = || spec::<i64>(("batch", 128));
    vec![
        forward!("bert", text(), device, |text| single.forward(text, Mask::none)),
        forward!("bert/f16", text(), device, |text| half.forward(text, Mask::none)),
    ]
}

#[derive(Module)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm2d,
    conv2: Conv2d,
    bn2: BatchNorm2d,
    down: (Conv2d, BatchNorm2d),
}

#[derive(Module)]
struct ResNet {
    stem: Conv2d,
    bn: BatchNorm2d,
    block: Block,
    fc: Linear,
}

impl ResNet {
    fn forward(&self, x: Tensor) -> Tensor {
        let x = self.bn.forward(self.stem.forward(x)).relu().max_pool2d(graver::trace::Pool2d::new(3).stride(2).padding(1));
        let y = self.block.bn1.forward(self.block.conv1.forward(x)).relu();
        let y = self.block.bn2.forward(self.block.conv2.forward(y));
        let (conv, norm) = &self.block.down;
        self.fc.forward((y + norm.forward(conv.forward(x))).relu().mean([2, 3]))
    }
}

fn resnet(device: &Device) -> Vec<&'static str> {
    let mut init = Init::seed(0);
    let mut conv = |inputs: usize, outputs: usize, size: usize, stride: i64| {
        let options =
            Conv2d::new(inputs, outputs, size).stride(stride).padding(i64::from(size > 1) * if size == 7 { 3 } else { 1 });
        options.bias(false).init(&mut init)
    };
    let (stem, first, second, down) = (conv(3, 64, 7, 2), conv(64, 128, 3, 2), conv(128, 128, 3, 1), conv(64, 128, 1, 2));
    let mut norm = |features: usize| BatchNorm2d::new(features).init(&mut init);
    let (bn, bn1, bn2, normed) = (norm(64), norm(128), norm(128), norm(128));
    let block = Block { conv1: first, bn1, conv2: second, bn2, down: (down, normed) };
    let model = ResNet { stem, bn, block, fc: Linear::new(128, 10).init(&mut init) };
    let images = || spec::<f32>(("batch", 3, 64, 64));
    let inputs = (images(), spec::<i64>(["batch"]));
    let optimizer = Sgd::new(0.1).momentum(0.9);
    vec![
        training!("resnet step", &model, optimizer, inputs, device, |m, (x, y)| m.forward(x).cross_entropy(y)),
        forward!("resnet", images(), device, |x| model.forward(x)),
    ]
}
