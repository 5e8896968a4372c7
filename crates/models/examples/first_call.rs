//! How soon the first results of a pretrained model are there: folders of models of usual sizes with random weights, opened, compiled and called.
//!
//! `cargo run --release -p graver-models --example first_call [threads]` prints the table of the guide's chapter.

use std::path::PathBuf;
use std::time::Instant;

use graver::cpu_with_threads;
use graver::prelude::*;
use graver_models::hub::Folder;
use graver_models::{
    CausalLm, Configuration, ConvNextClassifier, Gpt2, Llama, MaskedLm, Pretrained, ResNetClassifier, T5, TextInput,
    VitClassifier,
};

/// One text of so many tokens; of T5 a text and what is decoded.
const TOKENS: usize = 128;
/// One picture of this side.
const SIDE: usize = 224;
/// The shortest of so many calls after the first.
const CALLS: usize = 5;

fn main() -> Result<(), Error> {
    let threads = std::env::args().nth(1).and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let device = cpu_with_threads(threads);
    println!("| model | `model_type` | parameters | load | compile | first call | next |\n|---|---|---|---|---|---|---|");
    for family in ["bert", "roberta", "distilbert"] {
        measure("MaskedLm", family, "", |model: &MaskedLm, times| masked(model, &device, times))?;
    }
    measure("CausalLm<Gpt2>", "gpt2", "", |model: &CausalLm<Gpt2>, times| {
        let compiled = compile(|(ids, mask)| model.forward(ids, mask), (tokens(), tokens()), &device)?;
        let (ids, mask) = (of_tokens(5), of_tokens(1));
        times.called(|| compiled.call((&ids, &mask)).map(drop))
    })?;
    let small = r#", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "num_key_value_heads": 4"#;
    for family in ["llama", "mistral", "qwen2"] {
        measure("CausalLm<Llama>", family, small, |model: &CausalLm<Llama>, times| {
            let compiled = compile(|(ids, mask)| model.forward(ids, mask), (tokens(), tokens()), &device)?;
            let (ids, mask) = (of_tokens(5), of_tokens(1));
            times.called(|| compiled.call((&ids, &mask)).map(drop))
        })?;
    }
    measure("T5", "t5", "", |model: &T5, times| {
        let specs = (tokens(), tokens(), spec::<i64>(("batch", "decoded")));
        let compiled = compile(|(ids, mask, decoded)| model.decode(decoded, model.encode(ids, mask), mask), specs, &device)?;
        let (ids, mask) = (of_tokens(5), of_tokens(1));
        times.called(|| compiled.call((&ids, &mask, &ids)).map(drop))
    })?;
    measure("VitClassifier", "vit", "", |model: &VitClassifier, times| picture(|x| model.forward(x), &device, times))?;
    measure("ResNetClassifier", "resnet", "", |model: &ResNetClassifier, times| picture(|x| model.forward(x), &device, times))?;
    measure("ConvNextClassifier", "convnext", "", |model: &ConvNextClassifier, times| {
        picture(|x| model.forward(x), &device, times)
    })
}

/// When a model was compiled, and how long its calls took, in seconds.
struct Times {
    begin: Instant,
    compile: f64,
    first: f64,
    next: f64,
}

impl Times {
    /// What was measured so far is the compilation; the calls follow.
    fn called(&mut self, call: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
        self.compile = self.begin.elapsed().as_secs_f64();
        let timed = || {
            let start = Instant::now();
            call().map(|()| start.elapsed().as_secs_f64())
        };
        self.first = timed()?;
        self.next = f64::INFINITY;
        for _ in 0..CALLS {
            self.next = self.next.min(timed()?);
        }
        Ok(())
    }
}

/// A row of the table: a folder is made, then opened and used as anybody would.
fn measure<M: Pretrained>(
    name: &str,
    family: &str,
    more: &str,
    calls: impl FnOnce(&M, &mut Times) -> Result<(), Error>,
) -> Result<(), Error> {
    let folder = Temporary::new();
    let json = format!(r#"{{"model_type": "{family}"{more}}}"#);
    std::fs::write(folder.0.join("config.json"), &json).expect("the temporary folder is writable");
    let model = M::new(&M::Config::of_json(&json)?, &mut Init::seed(0))?;
    let count: usize = model.params().iter().map(|(_, param)| param.value().numel()).sum();
    model.save(folder.0.join("model.safetensors"))?;
    drop(model);

    let start = Instant::now();
    let model = M::of_folder(&Folder::open(&folder.0)?)?;
    let load = start.elapsed().as_secs_f64();
    let mut times = Times { begin: Instant::now(), compile: 0.0, first: 0.0, next: 0.0 };
    calls(&model, &mut times)?;
    let Times { compile, first, next, .. } = times;
    let millions = count as f64 / 1e6;
    println!("| `{name}` | `{family}` | {millions:.0} M | {load:.2} s | {compile:.2} s | {first:.2} s | {next:.2} s |");
    Ok(())
}

/// A folder that is gone at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("graver-first-call-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn tokens() -> graver::trace::TensorSpec {
    spec::<i64>(("batch", "length"))
}

fn of_tokens(value: i64) -> Array {
    Array::full([1, TOKENS], Scalar::int(DType::I64, value))
}

fn masked(model: &MaskedLm, device: &Device, times: &mut Times) -> Result<(), Error> {
    let forward = |(ids, mask): (Tensor, Tensor)| model.forward(TextInput { ids, mask, types: None });
    let compiled = compile(forward, (tokens(), tokens()), device)?;
    let (ids, mask) = (of_tokens(5), of_tokens(1));
    times.called(|| compiled.call((&ids, &mask)).map(drop))
}

fn picture(forward: impl FnOnce(Tensor) -> Tensor, device: &Device, times: &mut Times) -> Result<(), Error> {
    let compiled = compile(forward, spec::<f32>(("batch", 3, SIDE, SIDE)), device)?;
    let image = Array::full([1, 3, SIDE, SIDE], Scalar::float(DType::F32, 0.5));
    times.called(|| compiled.call(&image).map(drop))
}
