//! Trains a convolutional network on handwritten digits: data, training, evaluation, checkpoints, and a look at the compiler.
//!
//! `cargo run --release --example digits -- --help`

mod args;
mod checkpoint;
mod model;
mod progress;
mod report;
#[path = "../say/mod.rs"]
mod say;

use std::time::Instant;

use clap::Parser;
use graver::data::metrics::{Accuracy, Average, ConfusionMatrix, Mean};
use graver::data::{Dataset, Interpolation, Resize, Scale, Standardise, ToF32, Transform, digits};
use graver::inspect;
use graver::prelude::*;
use graver::runtime::DeviceName;

use crate::args::Args;
use crate::checkpoint::{Recipe, Stopped, save};
use crate::model::Cnn;
use crate::progress::Progress;
use crate::say::say;

fn main() -> Result<(), Error> {
    let args = Args::parse();
    let device = match args.device {
        DeviceName::Cpu => args.threads.map_or_else(cpu, |threads| cpu_with_threads(usize::from(threads))),
        DeviceName::Cuda(number) => cuda(number)?,
        DeviceName::Interp => graver::interpreter(),
    };
    let (train, test) = images()?;
    let stopped = args.resume.as_deref().map(Stopped::read).transpose()?;
    let recipe = recipe(&args, stopped.as_ref())?;

    let model = Cnn::new(&mut Init::seed(recipe.seed));
    let mut step = model.training(recipe.lr, &device)?;
    let predict = compile(|x: Tensor| model.forward(x).argmax(-1), spec::<f32>(("batch", 1, 24, 24)), &device)?;
    report::compiled("train step", &step, usize_of(recipe.batch))?;
    report::compiled("evaluation", &predict, usize_of(recipe.batch))?;
    if let Some(folder) = &args.dump {
        inspect::write_dumps(&step, folder)?;
        say(&format!("every stage of the train step is in {}", folder.display()));
    }

    if let Some(stopped) = &stopped {
        stopped.restore(step.state_mut())?;
    }
    let first = stopped.map_or(0, |stopped| stopped.epochs);
    let last = first.checked_add(args.epochs).ok_or_else(|| Error::new(format!("{first} epochs and more cannot be counted")))?;
    let batch = usize_of(recipe.batch);
    let train = DataLoader::new(train, batch)?.shuffle(recipe.seed);
    let test = DataLoader::new(test, batch)?;
    let start = Instant::now();
    for epoch in first..last {
        let mut progress = Progress::new(epoch + 1, train.dataset().len());
        let mut mean = Mean::new();
        for batch in train.epoch(u64::from(epoch)) {
            let (images, labels) = batch?;
            let (count, loss) = (labels.numel(), step.run((&images, &labels))?.item()?);
            mean.update(loss, count as f64);
            progress.batch(count, loss);
        }
        progress.finish(mean.compute().unwrap_or(f64::NAN));
        let mut accuracy = Accuracy::new();
        evaluate(&test, &predict, step.state(), |predicted, labels| accuracy.update(predicted, labels))?;
        report::epoch(epoch + 1, mean.compute(), accuracy.compute(), progress.rate());
        if let Some(folder) = &args.save {
            save(folder, step.state(), recipe, epoch + 1)?;
        }
    }
    say(&format!("trained in {:.1} s", start.elapsed().as_secs_f64()));

    let mut confusion = ConfusionMatrix::new(10)?;
    evaluate(&test, &predict, step.state(), |predicted, labels| confusion.update(predicted, labels))?;
    say(&format!("\n{confusion}\nmacro-F1: {:.4}", confusion.f1(Average::Macro).unwrap_or(0.0)));
    say(&format!("test accuracy: {:.4}", confusion.accuracy().unwrap_or(0.0)));
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

/// What was asked for, or else what a stopped training went by. Images in another order would be another training.
fn recipe(args: &Args, stopped: Option<&Stopped>) -> Result<Recipe, Error> {
    let old = stopped.map_or(Recipe { seed: 0, batch: 64, lr: 0.01 }, |stopped| stopped.recipe);
    let new =
        Recipe { seed: args.seed.unwrap_or(old.seed), batch: args.batch.unwrap_or(old.batch), lr: args.lr.unwrap_or(old.lr) };
    if stopped.is_some() && new.seed != old.seed {
        return Err(Error::new(format!("--seed is {}, but the training in --resume began with {}", new.seed, old.seed)));
    }
    Ok(new)
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).expect("a batch is at most 4096")
}
