//! The cases by name, with the work that each is: what it is built from, its operations, the bytes that it must move.

mod decode;
mod file;
mod micro;
mod model;
mod operation;
mod runs;

use std::path::{Path, PathBuf};

use graver::ir::Sizes;
use graver::nn::Storage;
use graver::prelude::*;

use crate::numbers::Numbers;

pub(crate) use file::prepare;
pub(crate) use operation::Operation;
pub(crate) use runs::{Facts, Runs};

/// Compiles a case for a device, over these numbers.
type Own = fn(&mut Numbers, &Device) -> Result<Box<dyn Runs>, Error>;

/// What a case is compiled of.
pub(crate) enum Build {
    /// What is written here.
    Own(Own),
    /// A function of tensors.
    Operation(Operation),
    /// An ONNX model.
    File(PathBuf),
}

/// Something to be measured.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Floating-point operations of a call, a multiply-add as two. A training step is three times its forward pass.
    pub(crate) flops: f64,
    /// Bytes of arguments and results, where a call does little with each; 0 where operations decide.
    pub(crate) bytes: f64,
    pub(crate) build: Build,
}

impl Case {
    const fn computing(name: &'static str, flops: f64, build: Own) -> Self {
        Self { name, flops, bytes: 0.0, build: Build::Own(build) }
    }

    const fn moving(name: &'static str, bytes: f64, build: Own) -> Self {
        Self { name, flops: 0.0, bytes, build: Build::Own(build) }
    }

    /// An ONNX model as a case, called by its file's name. How many operations it is, its kernels tell.
    pub(crate) fn file(path: &Path) -> Self {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self { name: name.leak(), flops: 0.0, bytes: 0.0, build: Build::File(path.to_owned()) }
    }

    /// Compiles it for a device, over these numbers, where a file leaves sizes open of these sizes.
    pub(crate) fn compile(&self, numbers: &mut Numbers, sizes: &Sizes, device: &Device) -> Result<Box<dyn Runs>, Error> {
        match &self.build {
            Build::Own(build) => build(numbers, device),
            Build::Operation(operation) => operation.build(numbers, device),
            Build::File(path) => file::build(path, sizes, numbers, device),
        }
    }

    /// So many kernels it is not, if it is compiled to so many and another number is told of it.
    pub(crate) fn other_kernels(&self, kernels: usize) -> Option<String> {
        let Build::Operation(operation) = &self.build else { return None };
        let told = operation.kernels;
        (kernels != told).then(|| format!("it is {kernels} kernels, where its table says {told}"))
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.name {
            _ if matches!(self.build, Build::File(_)) => Kind::File,
            name if name.ends_with("_train") => Kind::Train,
            name if name.contains("_infer") => Kind::Infer,
            name if name.contains("_decode") => Kind::Decode,
            _ => Kind::Operation,
        }
    }
}

/// What a case is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Steps of a model's training.
    Train,
    /// A model's results.
    Infer,
    /// A text that a model writes, token by token.
    Decode,
    /// Single operations.
    Operation,
    /// The results of a model in a file.
    File,
}

const MLP: f64 = 2.0 * (784.0 * 512.0 + 512.0 * 512.0 + 512.0 * 10.0);
const CNN: f64 = 2.0 * (24.0 * 24.0 * 32.0 * 27.0 + 12.0 * 12.0 * 64.0 * 288.0 + 2304.0 * 128.0 + 128.0 * 10.0);
const LSTM: f64 = 64.0 * 2.0 * (128.0 + 256.0) * 1024.0;
const RESNET: f64 = 2.0 * 1.814e9;
const RESNET_SMALL: f64 = 2.0 * 0.5557e9;
/// Twelve layers over 128 tokens.
const TRANSFORMER: f64 = 12.0 * (128.0 * 24.0 * 768.0 * 768.0 + 4.0 * 128.0 * 128.0 * 768.0);
const GPT2: f64 = TRANSFORMER + 2.0 * 128.0 * 768.0 * 50257.0;
/// Weights of GPT-2 that are read for every token, of so many bytes each: the layers' and the vocabulary's.
const fn decoded(bytes: f64) -> f64 {
    decode::TOKENS as f64 * bytes * 768.0 * (12.0 * 12.0 * 768.0 + 50257.0)
}
/// Causal attention of twelve heads of 64 over so many tokens.
const fn attention(tokens: f64) -> f64 {
    2.0 * 12.0 * tokens * tokens * 64.0
}
/// A product of both kinds: of two arguments, and with a weight.
macro_rules! products {
    ($($m:literal $k:literal $n:literal;)*) => {
        [$(
            Case::computing(concat!("gemm_", $m, "x", $k, "x", $n), 2.0 * $m as f64 * $k as f64 * $n as f64, |numbers, device| {
                operation::product(numbers, device, [$m, $k, $n])
            }),
            Case::computing(concat!("linear_", $m, "x", $k, "x", $n), 2.0 * $m as f64 * $k as f64 * $n as f64, |numbers, device| {
                operation::linear(numbers, device, [$m, $k, $n])
            }),
        )*]
    };
}

static PRODUCTS: [Case; 18] = products! {
    64 64 64;
    128 128 128;
    256 256 256;
    512 512 512;
    1024 1024 1024;
    2048 2048 2048;
    1 768 3072;
    8 768 3072;
    128 768 3072;
};

/// Models, and what a call costs.
static CASES: [Case; 16] = [
    Case::computing("mlp_train", 3.0 * 128.0 * MLP, model::mlp_train),
    Case::computing("cnn_train", 3.0 * 64.0 * CNN, model::cnn_train),
    Case::computing("cnn_infer_b1", CNN, |numbers, device| model::cnn_infer(numbers, device, 1)),
    Case::computing("cnn_infer_b64", 64.0 * CNN, |numbers, device| model::cnn_infer(numbers, device, 64)),
    Case::computing("lstm_train", 3.0 * 32.0 * LSTM, model::lstm_train),
    Case::computing("resnet18_infer_b1", RESNET, |numbers, device| model::resnet18_infer(numbers, device, 1)),
    Case::computing("resnet18_infer_b8", 8.0 * RESNET, |numbers, device| model::resnet18_infer(numbers, device, 8)),
    Case::computing("resnet18_train", 3.0 * 32.0 * RESNET_SMALL, model::resnet18_train),
    Case::computing("bert_base_infer_b1", TRANSFORMER, |numbers, device| model::bert_infer(numbers, device, 1)),
    Case::computing("bert_base_infer_b8", 8.0 * TRANSFORMER, |numbers, device| model::bert_infer(numbers, device, 8)),
    Case::computing("gpt2_small_train", 3.0 * 4.0 * GPT2, model::gpt2_train),
    Case::moving("gpt2_small_decode", decoded(4.0), |numbers, device| decode::gpt2(numbers, device, None)),
    Case::moving("gpt2_small_decode_bf16", decoded(2.0), |numbers, device| decode::gpt2(numbers, device, Some(Storage::Bf16))),
    Case::moving("gpt2_small_decode_int8", decoded(1.0), |numbers, device| decode::gpt2(numbers, device, Some(Storage::INT8))),
    Case::moving("gpt2_small_decode_int4", decoded(0.5625), |numbers, device| decode::gpt2(numbers, device, Some(Storage::INT4))),
    Case::moving("tiny50", 0.0, operation::tiny50),
];

/// Every case.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain(&micro::OPERATIONS).chain(&PRODUCTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<&str> = all().map(|case| case.name).collect();
        assert_eq!(names.len(), all().count());
    }

    #[test]
    fn a_step_can_be_called_and_profiled() {
        let case = all().find(|case| case.name == "mlp_train").expect("it is one");
        let mut numbers = Numbers::open(None, case.name).expect("our own numbers are always there");
        let device = graver::cpu_with_threads(1);
        let mut step = case.compile(&mut numbers, &Sizes::new(), &device).expect("it compiles");
        step.call().expect("it runs");
        let first = step.seen().expect("it ran");
        let profile = step.profile().expect("it runs");
        assert!(step.seen().expect("it ran") == first, "a profile does not count as a call that is seen");
        step.call().expect("it runs");
        assert!(step.seen().expect("it ran") < first, "it learns");
        assert!(profile.launches.len() > 5 && profile.launches.iter().all(|launch| launch.kernel < step.program().kernels.len()));
    }
}
