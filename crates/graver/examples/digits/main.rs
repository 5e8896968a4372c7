//! Trains a convolutional network on handwritten digits: data, training, evaluation, checkpoints, and a look at the compiler.
//!
//! `cargo run --release --example digits -- --help`

mod args;
mod progress;
mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use graver::data::metrics::{Accuracy, Average, ConfusionMatrix, Mean};
use graver::data::{Dataset, Interpolation, Resize, Scale, Standardise, ToF32, Transform, digits};
use graver::inspect;
use graver::nn::{Checkpoint, StateFile};
use graver::prelude::*;

use crate::args::{Args, On};
use crate::progress::Progress;

/// Two convolutions with pooling, two linear layers.
#[derive(Module)]
struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl Cnn {
    fn new(init: &mut Init) -> Self {
        Self {
            conv1: Conv2d::new(1, 32, 3).padding(1).init(init),
            conv2: Conv2d::new(32, 64, 3).padding(1).init(init),
            fc1: Linear::new(64 * 6 * 6, 128).init(init),
            fc2: Linear::new(128, 10).init(init),
        }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let x = self.conv1.forward(x).relu().max_pool2d(2);
        let x = self.conv2.forward(x).relu().max_pool2d(2);
        let x = self.fc1.forward(x.flatten(1)).relu();
        self.fc2.forward(x)
    }
}

fn main() -> Result<(), Error> {
    let args = Args::parse();
    let device = match args.device {
        On::Cpu => args.threads.map_or_else(cpu, |threads| cpu_with_threads(usize::from(threads))),
        On::Cuda => cuda(0)?,
    };
    let (train, test) = images()?;

    let model = Cnn::new(&mut Init::seed(args.seed));
    let (x, y) = (spec::<f32>(("batch", 1, 24, 24)), spec::<i64>(["batch"]));
    let optimizer = Sgd::new(args.lr).momentum(0.9);
    let mut step = train_step(&model, optimizer, (x.clone(), y), |m, (x, y)| m.forward(x).cross_entropy(y)).compile(&device)?;
    let predict = compile(|x: Tensor| model.forward(x).argmax(-1), x, &device)?;
    report::compiled("train step", &step, usize_of(args.batch))?;
    report::compiled("evaluation", &predict, usize_of(args.batch))?;
    if let Some(folder) = &args.dump {
        inspect::write_dumps(&step, folder)?;
        println!("every stage of the train step is in {}", folder.display());
    }

    let first = match &args.resume {
        Some(folder) => resume(folder, step.state_mut())?,
        None => 0,
    };
    let batch = usize_of(args.batch);
    let train = DataLoader::new(train, batch)?.shuffle(args.seed);
    let test = DataLoader::new(test, batch)?;
    let start = Instant::now();
    for epoch in first..first.saturating_add(args.epochs) {
        let mut progress = Progress::new(epoch + 1, train.dataset().len());
        let mut mean = Mean::new();
        for batch in train.epoch(u64::from(epoch)) {
            let (images, labels) = batch?;
            let (count, loss) = (labels.numel(), step.run((&images, &labels))?.item()?);
            mean.update(loss, count as f64);
            progress.batch(count, loss);
        }
        progress.finish();
        let mut accuracy = Accuracy::new();
        evaluate(&test, &predict, step.state(), |predicted, labels| accuracy.update(predicted, labels))?;
        report::epoch(epoch + 1, mean.compute(), accuracy.compute(), progress.rate());
        if let Some(folder) = &args.save {
            save(folder, step.state(), epoch + 1)?;
        }
    }
    println!("trained in {:.1} s", start.elapsed().as_secs_f64());

    let mut confusion = ConfusionMatrix::new(10)?;
    evaluate(&test, &predict, step.state(), |predicted, labels| confusion.update(predicted, labels))?;
    println!("\n{confusion}\nmacro-F1: {:.4}", confusion.f1(Average::Macro).unwrap_or(0.0));
    println!("test accuracy: {:.4}", confusion.accuracy().unwrap_or(0.0));
    Ok(())
}

/// Images and their labels.
trait Images: Dataset<Item = (Array, Array)> + 'static {}

impl<D: Dataset<Item = (Array, Array)> + 'static> Images for D {}

/// Training and test images: pixels to 0..1, 8 x 8 to 24 x 24, then standardised by the training images' mean and deviation.
fn images() -> Result<(impl Images, impl Images), Error> {
    let enlarge = Resize { height: 24, width: 24, interpolation: Interpolation::Bilinear };
    let prepare = || ToF32.then(Scale(1.0 / 16.0)).then(enlarge);
    let (train, test) = digits();
    let (train, test) = (train.transform(prepare()), test.transform(prepare()));
    let standardise = Standardise::fit(&train)?;
    Ok((train.transform(standardise.clone()), test.transform(standardise)))
}

/// Runs the model over a living state and every batch of a loader.
fn evaluate(
    loader: &DataLoader<impl Images>,
    predict: &Compiled<graver::trace::TensorSpec, Tensor>,
    state: &TrainState,
    mut see: impl FnMut(&Array, &Array) -> Result<(), graver::ir::Diag>,
) -> Result<(), Error> {
    for batch in loader.epoch(0) {
        let (images, labels) = batch?;
        see(&predict.call_with(state, &images)?, &labels)?;
    }
    Ok(())
}

fn checkpoint_file(folder: &Path) -> PathBuf {
    folder.join("training.safetensors")
}

/// Writes parameters, optimiser state, random key and the number of finished epochs.
fn save(folder: &Path, state: &TrainState, epochs: u32) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|error| Error::new(format!("{}: {error}", folder.display())))?;
    let mut checkpoint = state.checkpoint();
    checkpoint.metadata.insert("epochs".to_owned(), epochs.to_string());
    checkpoint.write(checkpoint_file(folder))
}

/// Reads what [`save`] wrote; gives the number of finished epochs.
fn resume(folder: &Path, state: &mut TrainState) -> Result<u32, Error> {
    let path = checkpoint_file(folder);
    let checkpoint = Checkpoint::read(&path)?;
    state.restore(&checkpoint)?;
    let epochs = checkpoint.metadata.get("epochs").and_then(|epochs| epochs.parse().ok());
    epochs.ok_or_else(|| Error::new(format!("{}: does not say how many epochs were finished", path.display())))
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).expect("a batch is at most 4096")
}
