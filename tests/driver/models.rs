//! Programs of the suite that every backend passes, and a network that learns.

use graver::prelude::*;
use graver_conformance::{networks, random_programs};
use graver_cuda::Cuda;

use crate::{Cache, with_driver};

#[test]
fn nets_and_their_training_steps() {
    with_driver("models::nets_and_their_training_steps", Cache::Kept, |_| networks(&Cuda::new(0).expect("there is a driver")));
}

#[test]
fn random_programs_with_state() {
    with_driver("models::random_programs_with_state", Cache::Kept, |_| {
        let cuda = Cuda::new(0).expect("there is a driver");
        random_programs(&cuda, &cuda, 0..8);
    });
}

#[derive(Module)]
struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc: Linear,
}

impl Cnn {
    fn new() -> Self {
        let mut init = Init::seed(0);
        Self {
            conv1: Conv2d::new(1, 4, 3).padding(1).init(&mut init),
            conv2: Conv2d::new(4, 8, 3).padding(1).init(&mut init),
            fc: Linear::new(8 * 2 * 2, 10).init(&mut init),
        }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let x = self.conv1.forward(x).relu().max_pool2d(2);
        let x = self.conv2.forward(x).relu().max_pool2d(2);
        self.fc.forward(x.flatten(1))
    }
}

/// The digits example, small: the last batch is shorter.
#[test]
fn a_network_learns_what_it_learns_on_the_cpu() {
    with_driver("models::a_network_learns_what_it_learns_on_the_cpu", Cache::Kept, |driver| {
        let (images, _) = graver::data::digits();
        let loader = DataLoader::new(images.subset((0..10).collect()).expect("there are more"), 4).expect("4 is not 0");
        let losses = |device: &Device| {
            let inputs = (spec::<u8>(("batch", 1, 8, 8)), spec::<i64>(["batch"]));
            let model = Cnn::new();
            let step = train_step(&model, Sgd::new(0.01).momentum(0.9), inputs, |m, (x, y)| {
                m.forward(x.cast(DType::F32) * (1.0 / 16.0)).cross_entropy(y)
            });
            let mut step = step.compile(device).expect("the network is well typed");
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
        assert_eq!(got.len(), 9);
        assert!(got[8] < got[2], "it learns: {got:?}");
        assert!(got.iter().zip(&expected).all(|(x, y)| (x - y).abs() < 1e-5), "{got:?}, not {expected:?}");
        let counts = driver.counts();
        assert_eq!((counts.captures, counts.replays), (2, 7), "batches of 4 and of 2, recorded when they come again");
    });
}
