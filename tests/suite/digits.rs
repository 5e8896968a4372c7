//! The main job, small: the network of the digits example learns, resumes bit for bit, and is compiled as it should be.

use graver::data::{Dataset, Interpolation, Resize, Scale, Standardise, ToF32, Transform, digits};
use graver::ir::Sizes;
use graver::ir::kernel::Place;
use graver::nn::StateFile;
use graver::prelude::*;
use graver::trace::TensorSpec;

#[path = "../../crates/graver/examples/digits/model.rs"]
mod model;

use model::Cnn;

type Training = Step<(TensorSpec, TensorSpec), Tensor>;

fn training(threads: usize) -> Training {
    Cnn::new(&mut Init::seed(0)).training(0.01, &cpu_with_threads(threads)).expect("the network is well typed")
}

/// Batches of 16 of the first 72 images: the last of an epoch is shorter.
fn epoch(step: &mut Training, epoch: u64) -> Vec<f64> {
    let enlarge = Resize { height: 24, width: 24, interpolation: Interpolation::Bilinear };
    let (images, _) = digits();
    let images = images.subset((0..72).collect()).expect("there are more").transform(ToF32.then(Scale(1.0 / 16.0)).then(enlarge));
    let standardise = Standardise::fit(&images).expect("pixels vary");
    let loader = DataLoader::new(images.transform(standardise), 16).expect("16 is not 0").shuffle(3);
    let losses = loader.epoch(epoch).map(|batch| {
        let (x, y) = batch.expect("the images are embedded");
        step.run((&x, &y)).expect("labels are in range").item().expect("a loss is a scalar")
    });
    losses.collect()
}

#[test]
fn a_resumed_training_goes_on_bit_for_bit_on_any_number_of_threads() {
    let mut through = training(1);
    let losses: Vec<f64> = (0..4).flat_map(|number| epoch(&mut through, number)).collect();
    assert!(losses[losses.len() - 1] < 0.8 * losses[0], "it learns: {losses:?}");

    let mut first = training(2);
    let mut again: Vec<f64> = (0..2).flat_map(|number| epoch(&mut first, number)).collect();
    let saved = first.state().checkpoint().to_bytes().expect("small");
    let mut second = training(3);
    second.state_mut().restore(&graver::nn::Checkpoint::from_bytes(&saved).expect("just written")).expect("the same network");
    again.extend((2..4).flat_map(|number| epoch(&mut second, number)));

    assert_eq!(losses, again);
    assert_eq!(through.state().checkpoint(), second.state().checkpoint());
}

#[test]
fn a_wrong_label_names_the_line_and_leaves_the_state() {
    let mut step = training(2);
    let before = step.state().checkpoint();
    let x = Array::full([2, 1, 24, 24], Scalar::float(DType::F32, 0.5));
    let y = Array::from_vec([2], vec![3i64, 10]).expect("sizes agree");
    let error = step.run((&x, &y)).expect_err("there are ten classes").to_string();
    assert!(error.contains("digits/model.rs") && error.contains("cross_entropy") && error.contains("out of range"), "{error}");
    assert_eq!(step.state().checkpoint(), before);
}

#[test]
fn the_step_is_few_kernels_in_little_memory() {
    let mut step = training(2);
    let launches: usize = step.program().entries.iter().map(|entry| entry.steps.len()).sum();
    assert!(launches <= 24, "{launches} launches");
    for batch in [1, 34, 64] {
        let sizes = Sizes::from([("batch".to_owned(), batch)]);
        let planned = step.working_bytes(&sizes).expect("batch has a size");
        let (arena, live) = (i64::try_from(planned.arena).expect("it is small"), live(&step, &sizes));
        assert!(arena * 10 <= live * 11, "batch {batch}: {arena} bytes planned, {live} live at once");
        assert!(planned.total() * 10 <= planned.live * 11, "batch {batch}, with what kernels need besides: {planned:?}");

        let batch = usize::try_from(batch).expect("it is small");
        let x = Array::full([batch, 1, 24, 24], Scalar::float(DType::F32, 0.5));
        let y = Array::full([batch], Scalar::int(DType::I64, 3));
        step.run((&x, &y)).expect("3 is a class");
        assert_eq!(step.allocated_bytes(), planned.total(), "batch {batch}: what is allocated is what was planned");
    }
}

/// The greatest number of bytes of intermediate values that are alive at once: from the launch that first has a buffer to the last.
fn live(step: &Training, sizes: &Sizes) -> i64 {
    let entry = &step.program().entries[0];
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; entry.buffers.len()];
    for (position, launch) in graver::ir::kernel::launches(&entry.steps).into_iter().enumerate() {
        for view in &launch.args {
            let span = &mut spans[view.buffer.0 as usize];
            *span = Some((span.map_or(position, |(first, _)| first), position));
        }
    }
    let alive = |position: usize| {
        let buffers = entry.buffers.iter().zip(&spans).filter(|(buffer, _)| matches!(buffer.place, Place::Arena(_)));
        let here = buffers.filter(|(_, span)| span.is_some_and(|(first, last)| (first..=last).contains(&position)));
        here.map(|(buffer, _)| buffer.bytes().eval(sizes).expect("batch has a size")).sum::<i64>()
    };
    (0..entry.steps.len()).map(alive).max().unwrap_or(0)
}

/// Two symbols give sizes of which neither is proved the greater; planning them once took longer than anybody waits.
#[test]
fn a_deep_model_over_two_symbols_is_planned() {
    let mut init = Init::seed(1);
    let layers: Vec<(Linear, LayerNorm)> =
        (0..6).map(|_| (Linear::new(8, 8).init(&mut init), LayerNorm::new(8).init(&mut init))).collect();
    let inputs = (spec::<f32>(("batch", "length", 8)), spec::<f32>(("batch", "length", 8)));
    let mut step = train_step(&layers, AdamW::new(1e-2), inputs, |layers, (x, y)| {
        let scores = x.matmul(x.transpose(-1, -2)).softmax(-1);
        let x = layers.iter().fold(scores.matmul(x), |x, (linear, norm)| x + norm.forward(linear.forward(x).relu()));
        (x - y).square().mean(..)
    })
    .compile(&cpu_with_threads(2))
    .expect("the model is well typed");
    let array =
        |shift: usize| Array::from_fn(DType::F32, [2, 3, 8], |at| Scalar::float(DType::F32, ((at + shift) % 7) as f64 / 7.0));
    let (x, y) = (array(0), array(3));
    let losses: Vec<f64> = (0..20).map(|_| step.run((&x, &y)).and_then(|loss| Ok(loss.item()?)).expect("sizes agree")).collect();
    assert!(losses[19] < 0.8 * losses[0], "{losses:?}");
}
