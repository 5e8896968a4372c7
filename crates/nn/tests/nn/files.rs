//! Models and trainings in files: round trips, resumption bit for bit, and files that lie.

use std::path::PathBuf;
use std::sync::Arc;

use graver_interp::Interp;
use graver_nn::{
    Activation, AdamW, BatchNorm1d, Checkpoint, Cosine, Dropout, Init, Linear, ModelFile, Sequential, StateFile, Storage, Warmup,
    train_step,
};
use graver_trace::{Array, DType, Device, Error, Module, Step, Tensor, TensorSpec, compile, spec};

use crate::common::{floats, ints, ramp};

/// A file that is removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("graver-nn-{}-{name}.safetensors", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn net(seed: u64) -> Sequential {
    let init = &mut Init::seed(seed);
    Sequential::new()
        .push(Linear::new(3, 6).init(init))
        .push(BatchNorm1d::new(6).init(init))
        .push(Activation::Relu)
        .push(Dropout::new(0.2))
        .push(Linear::new(6, 2).init(init))
}

fn values(model: &Sequential) -> Vec<(String, Array)> {
    model.leaves().into_iter().map(|(path, leaf)| (path, leaf.value())).collect()
}

#[test]
fn a_model_comes_back_from_its_file() -> Result<(), Error> {
    let file = Scratch::new("model");
    let (saved, mut loaded) = (net(0), net(1));
    saved.save(&file.0)?;
    assert_ne!(values(&loaded), values(&saved));
    loaded.load(&file.0)?;
    assert_eq!(values(&loaded), values(&saved));
    let names: Vec<String> = Checkpoint::read(&file.0)?.arrays.into_keys().collect();
    let bn = ["bias", "num_batches_tracked", "running_mean", "running_var", "weight"].map(|name| format!("1.{name}"));
    assert_eq!(names[..2], ["0.bias", "0.weight"]);
    assert_eq!(names[2..7], bn);
    Ok(())
}

/// As they are kept: nothing is rounded again.
#[test]
fn stored_weights_come_back_from_their_file() -> Result<(), Error> {
    for storage in [Storage::Bf16, Storage::INT8, Storage::Int8 { group: Some(4) }, Storage::INT4] {
        let net = |seed: u64| {
            let init = &mut Init::seed(seed);
            let stored = |inputs, outputs, init: &mut Init| Linear::new(inputs, outputs).init(init).stored(storage);
            Sequential::new().push(stored(64, 128, init)).push(Activation::Relu).push(stored(128, 2, init))
        };
        let file = Scratch::new("stored");
        let (saved, mut loaded) = (net(0), net(1));
        saved.save(&file.0)?;
        assert_ne!(values(&loaded), values(&saved));
        loaded.load(&file.0)?;
        assert_eq!(values(&loaded), values(&saved), "{storage:?}");
        let x = Array::from_vec([1, 64], (0..64u8).map(|place| f32::from(place) / 64.0).collect())?;
        let run = |model: &Sequential| {
            compile(|x: Tensor| model.forward(x), spec::<f32>([1, 64]), &Device::new(Arc::new(Interp::default())))?.call(&x)
        };
        assert_eq!(run(&saved)?, run(&loaded)?, "{storage:?}");
    }
    Ok(())
}

#[test]
fn all_differences_are_told_at_once_and_nothing_is_changed() -> Result<(), Error> {
    let mut model = net(0);
    let before = values(&model);
    let mut file = net(1).state_dict();
    file.arrays.remove("0.weight");
    file.arrays.remove("1.running_var");
    file.arrays.insert("head.weight".to_owned(), floats([1], [0.0]));
    file.arrays.insert("4.weight".to_owned(), floats([6, 2], ramp(12)));
    file.arrays.insert("1.num_batches_tracked".to_owned(), floats([], [1.0]));
    let found = model.load_state_dict(&file).expect_err("five differences").to_string();
    insta::assert_snapshot!(found, @"
    load: `0.weight` is missing
    load: `1.running_var` is missing
    load: `head.weight` is unexpected
    load: `1.num_batches_tracked` is i64[] in the model and f32[] in the file
    load: `4.weight` is f32[2, 6] in the model and f32[6, 2] in the file
    ");
    assert_eq!(values(&model), before);
    let differences = model.load_fitting(&file)?;
    assert_eq!((differences.missing.len(), differences.unexpected.len(), differences.mismatched.len()), (2, 1, 2));
    let after = values(&model);
    assert_eq!(after[0], before[0], "missing in the file");
    assert_ne!(after[1], before[1], "loaded");
    assert!(model.load_fitting(&net(1).state_dict())?.is_empty());
    Ok(())
}

#[test]
fn floats_of_another_type_are_converted() -> Result<(), Error> {
    let mut model = Linear::new(2, 1).init(&mut Init::seed(0));
    let mut file = model.state_dict();
    file.arrays.insert("weight".to_owned(), floats([1, 2], [0.5, 3.0]).cast(DType::BF16));
    model.load_state_dict(&file)?;
    assert_eq!(model.weight.value(), floats([1, 2], [0.5, 3.0]));
    Ok(())
}

type Training = Step<(TensorSpec, TensorSpec), (Tensor, Tensor)>;

fn device() -> Device {
    Device::new(Arc::new(Interp::default()))
}

/// A training with everything that has state: statistics, masks, moments, a schedule.
fn training(model: &Sequential, seed: u64) -> Result<Training, Error> {
    let inputs = (spec::<f32>(("n", 3)), spec::<i64>(["n"]));
    let optimizer = AdamW::new(Warmup::new(2, Cosine::new(0.05, 10)));
    let loss = |m: &Sequential, (x, y): (Tensor, Tensor)| {
        let logits = m.forward(x);
        (logits.cross_entropy(y), logits)
    };
    train_step(model, optimizer, inputs, loss).seed(seed).compile(&device())
}

fn run(training: &mut Training, steps: usize) -> Result<Vec<Array>, Error> {
    let (x, y) = (floats([5, 3], ramp(15)), ints([5], [0, 1, 1, 0, 1]));
    (0..steps).map(|_| training.run((&x, &y)).map(|(loss, _)| loss)).collect()
}

#[test]
fn a_resumed_training_goes_on_bit_for_bit() -> Result<(), Error> {
    let file = Scratch::new("training");
    let mut first = training(&net(0), 7)?;
    run(&mut first, 3)?;
    first.state().save(&file.0)?;
    let mut second = training(&net(1), 8)?;
    assert_ne!(second.state().checkpoint(), first.state().checkpoint());
    second.state_mut().load(&file.0)?;
    assert_eq!(second.state().checkpoint(), first.state().checkpoint());
    assert_eq!(run(&mut second, 3)?, run(&mut first, 3)?);
    assert_eq!(second.state().checkpoint().to_bytes(), first.state().checkpoint().to_bytes());
    Ok(())
}

#[test]
fn a_training_s_state_is_named() -> Result<(), Error> {
    let mut step = training(&net(0), 0)?;
    run(&mut step, 2)?;
    let names: Vec<String> = step.state().checkpoint().arrays.into_keys().collect();
    insta::assert_snapshot!(names.join("\n"));
    assert_eq!(step.state().at("optim.step").map(Array::to_f64), Some(vec![2.0]));
    Ok(())
}

#[test]
fn what_a_training_learned_is_written_to_its_model() -> Result<(), Error> {
    let mut model = net(0);
    let x = floats([2, 3], ramp(6));
    let before = values(&model);
    let mut step = training(&model, 0)?;
    let eval = compile(|x| model.forward(x), spec::<f32>(("n", 3)), &device())?;
    run(&mut step, 2)?;
    assert_eq!(values(&model), before);
    let living = eval.call_with(step.state(), &x)?;
    step.write_to(&mut model)?;
    assert_ne!(values(&model), before);
    assert_eq!(eval.call(&x)?, living);
    Ok(())
}

#[test]
fn a_state_that_does_not_fit_is_refused_whole() -> Result<(), Error> {
    let mut step = training(&net(0), 0)?;
    let before = step.state().checkpoint();
    let mut refused = |file: &Checkpoint, expected: &str| {
        let found = step.state_mut().restore(file).expect_err("does not fit").to_string();
        assert!(found.contains(expected), "{found}");
        assert_eq!(step.state().checkpoint(), before);
    };
    refused(&net(0).state_dict(), "the file holds no training; a model's file is read by the model's `load`");
    let mut file = before.clone();
    file.arrays.remove("rng");
    file.arrays.insert("0.weight".to_owned(), floats([6, 3], ramp(18)).cast(DType::F64));
    refused(&file, "`rng` is missing\nload: `0.weight` is f32[6, 3] in the training and f64[6, 3] in the file");
    file.metadata.insert("graver.train_state".to_owned(), "2".to_owned());
    refused(&file, "a training's file of version 2, this is version 1");
    Ok(())
}

#[test]
fn files_that_lie_are_errors() -> Result<(), Error> {
    let good = net(1).state_dict().to_bytes()?;
    let before = values(&net(0));
    let load = |bytes: &[u8]| {
        let mut model = net(0);
        let result = Checkpoint::from_bytes(bytes).and_then(|file| model.load_state_dict(&file));
        (result, values(&model))
    };
    for end in (0..good.len()).step_by(97) {
        let (result, after) = load(&good[..end]);
        assert!(result.is_err() && after == before, "cut at {end}");
    }
    let mut refused = 0;
    for bit in (0..256 * 8).step_by(3) {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (result, after) = load(&bytes);
        // Where only the metadata's text is another, the file is good.
        refused += usize::from(result.is_err());
        assert_eq!(after, if result.is_err() { before.clone() } else { values(&net(1)) }, "bit {bit}");
    }
    assert!(refused > 600, "{refused} refused");
    Ok(())
}

#[test]
fn files_that_are_not_there_are_errors_with_their_path() {
    let mut model = net(0);
    let found = model.load("/no/such/file").expect_err("no such file").to_string();
    assert!(found.starts_with("/no/such/file: "), "{found}");
    assert!(model.load(std::env::temp_dir()).is_err(), "a folder is no file");
    let found = model.save("/no/such/folder/file").expect_err("no such folder").to_string();
    assert!(found.starts_with("/no/such/folder/file: "), "{found}");
}
