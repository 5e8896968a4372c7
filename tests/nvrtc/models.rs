//! The programs of the examples that have a model of their own, and of nets that no example has: other types of floats, dropout, residual
//! blocks of convolutions. As small as their kernels stay the same: what is compiled depends on structure, not on depth.

use std::sync::{Arc, Mutex, PoisonError};

use graver::ir::Target;
use graver::ir::kernel::Program;
use graver::nn::{Mask, TransformerEncoderLayer};
use graver::prelude::*;
use graver::runtime::{Backend, Executable};
use graver::trace::Device;
use graver_interp::Interp;
use graver_models::Classifier;
use graver_models::hub::Tokenizer;
use graver_models::hub::tokenizers::{self, models::wordpiece::WordPiece};

#[path = "../../crates/graver/examples/autoencoder/model.rs"]
mod autoencoder;
#[path = "../../crates/graver/examples/char_lstm/model.rs"]
mod char_lstm;
#[path = "../../crates/graver/examples/depth/model.rs"]
mod depth;
#[path = "../../crates/graver/examples/digits/model.rs"]
mod digits;
#[path = "../../crates/graver/examples/corpus/draw.rs"]
mod draw;
#[path = "../../crates/graver/examples/gpt/model.rs"]
mod gpt;
#[path = "../../crates/models/examples/lines/model.rs"]
mod lines;

/// Keeps the programs that it is given to compile, as kernels for a GPU. The interpreter's executables hold their place.
#[derive(Debug, Default)]
struct Collector(Mutex<Vec<Program>>);

impl Backend for Collector {
    fn describe(&self) -> Target {
        graver_cuda::describe()
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(program.as_ref().clone());
        Interp::default().compile(program)
    }
}

/// Names of the programs that one of these compiles, in their order.
type Compiles = fn(&Device) -> Result<&'static [&'static str], Error>;

const ALL: &[Compiles] = &[of_digits, of_autoencoder, of_char_lstm, of_depth, of_gpt, of_lines, decoder, encoder, resnet];

/// Every program by name.
pub(crate) fn programs() -> Vec<(String, Program)> {
    let collector = Arc::new(Collector::default());
    let device = Device::new(collector.clone());
    let names: Vec<&str> =
        ALL.iter().flat_map(|compiles| compiles(&device).unwrap_or_else(|error| panic!("{error}"))).copied().collect();
    let programs = std::mem::take(&mut *collector.0.lock().unwrap_or_else(PoisonError::into_inner));
    assert_eq!(names.len(), programs.len(), "every program has a name");
    names.into_iter().map(str::to_owned).zip(programs).collect()
}

fn of_digits(device: &Device) -> Result<&'static [&'static str], Error> {
    let model = digits::Cnn::new(&mut Init::seed(0));
    model.training(0.01, device)?;
    compile(|x: Tensor| model.forward(x).argmax(-1), spec::<f32>(("batch", 1, 24, 24)), device)?;
    Ok(&["digits step", "digits"])
}

fn of_autoencoder(device: &Device) -> Result<&'static [&'static str], Error> {
    let model = autoencoder::Autoencoder::new(&mut Init::seed(0));
    model.training(device)?;
    model.restoring(device)?;
    Ok(&["autoencoder step", "autoencoder"])
}

/// Characters of a book.
const CHARACTERS: usize = 90;
/// What scores are divided by before a character is drawn.
const TEMPERATURE: f32 = 0.7;

fn of_char_lstm(device: &Device) -> Result<&'static [&'static str], Error> {
    let model = char_lstm::CharLstm::new(CHARACTERS, &mut Init::seed(0));
    model.training(device)?;
    model.writing(TEMPERATURE, 0, device)?;
    Ok(&["char_lstm step", "char_lstm writing"])
}

fn of_depth(device: &Device) -> Result<&'static [&'static str], Error> {
    let net = depth::Net::new(2);
    net.training(device)?;
    net.predicting(device)?;
    Ok(&["depth step", "depth"])
}

fn of_gpt(device: &Device) -> Result<&'static [&'static str], Error> {
    let model = gpt::Gpt::new(CHARACTERS, &mut Init::seed(0));
    model.training(device)?;
    model.writer(TEMPERATURE, 0, device)?;
    Ok(&["gpt step", "gpt reading", "gpt writing"])
}

fn of_lines(device: &Device) -> Result<&'static [&'static str], Error> {
    let model = lines::new(600, &["english", "rust"], &mut Init::seed(0))?;
    lines::training(&model, device)?;
    Classifier::new(&model, Tokenizer::new(tokenizers::Tokenizer::new(WordPiece::default())), device)?;
    Ok(&["lines step", "lines"])
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

fn decoder(device: &Device) -> Result<&'static [&'static str], Error> {
    let (single, half) = (Transformer::new(DType::F32, true), Transformer::new(DType::BF16, true));
    let text = || spec::<i64>(("batch", "length"));
    let loss = |m: &Transformer, (text, after): (Tensor, Tensor)| m.forward(text, Mask::causal).cross_entropy(after);
    train_step(&single, AdamW::new(1e-3), (text(), text()), loss).compile(device)?;
    compile(|text| half.forward(text, Mask::causal), text(), device)?;
    Ok(&["decoder step", "decoder/bf16"])
}

fn encoder(device: &Device) -> Result<&'static [&'static str], Error> {
    for dtype in [DType::F32, DType::F16] {
        let model = Transformer::new(dtype, false);
        compile(|text| model.forward(text, Mask::none), spec::<i64>(("batch", 128)), device)?;
    }
    Ok(&["encoder", "encoder/f16"])
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

fn resnet(device: &Device) -> Result<&'static [&'static str], Error> {
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
    train_step(&model, Sgd::new(0.1).momentum(0.9), inputs, |m, (x, y)| m.forward(x).cross_entropy(y)).compile(device)?;
    compile(|x| model.forward(x), images(), device)?;
    Ok(&["resnet step", "resnet"])
}
