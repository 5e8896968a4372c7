//! Programs of the suite that every backend passes, and a network that learns.

use graver::data::{Dataset, Interpolation, Resize, Scale, ToF32, Transform};
use graver::prelude::*;
use graver_conformance::{Again, networks, random_programs};
use graver_cuda::Cuda;

use crate::{Cache, with_driver};

#[path = "../../crates/graver/examples/digits/model.rs"]
mod model;

use model::Cnn;

#[test]
fn nets_and_their_training_steps() {
    with_driver("models::nets_and_their_training_steps", Cache::Kept, |driver| {
        networks(&Again(Cuda::new(0).expect("there is a driver")), &[]);
        let counts = driver.counts();
        assert_eq!((counts.captures, counts.replays), (12, 24), "every net is recorded by its second call, and replayed");
    });
}

#[test]
fn random_programs_with_state() {
    with_driver("models::random_programs_with_state", Cache::Kept, |driver| {
        let cuda = Again(Cuda::new(0).expect("there is a driver"));
        random_programs(&cuda, &[&cuda], 0..8);
        assert!(driver.counts().replays >= 16, "{:?}", driver.counts());
    });
}

/// The digits example with few images: the last batch of an epoch is shorter.
#[test]
fn the_digits_learn_what_they_learn_on_the_cpu() {
    with_driver("models::the_digits_learn_what_they_learn_on_the_cpu", Cache::Kept, |driver| {
        let enlarge = Resize { height: 24, width: 24, interpolation: Interpolation::Bilinear };
        let (images, _) = graver::data::digits();
        let images =
            images.subset((0..6).collect()).expect("there are more").transform(ToF32.then(Scale(1.0 / 16.0)).then(enlarge));
        let loader = DataLoader::new(images, 4).expect("4 is not 0");
        let losses = |device: &Device| {
            let mut step = Cnn::new(&mut Init::seed(0)).training(0.01, device).expect("the network is well typed");
            let batches = (0..3).flat_map(|_| loader.epoch(0));
            let losses = batches.map(|batch| {
                let (x, y) = batch.expect("the images are embedded");
                step.run((&x, &y)).expect("labels are in range")
            });
            // Kept until the end, as a user's list keeps them.
            let losses: Vec<Array> = losses.collect();
            losses.iter().map(|loss| loss.item().expect("a loss is a scalar")).collect::<Vec<f64>>()
        };
        let expected = losses(&cpu_with_threads(1));
        let got = losses(&cuda(0).expect("there is a driver"));
        assert_eq!(got.len(), 6);
        assert!(got[4] < got[0], "it learns: {got:?}");
        assert!(got.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-5), "{got:?}, not {expected:?}");
        let counts = driver.counts();
        assert_eq!((counts.captures, counts.replays), (2, 4), "batches of 4 and of 2, recorded when they come again");
    });
}
