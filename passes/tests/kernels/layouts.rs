//! Where activations are channels-last, and where they are not.

use graver_ir::DType::F32;
use graver_ir::kernel::{KernelBody, Program, launches};
use graver_ir::{Module, Target};
use graver_passes::{Silent, pipeline};

use crate::nets::{Net, cnn_step};

/// The shapes that contractions of rank 4 write into the arena.
fn written(module: &Module, target: &Target) -> Vec<String> {
    let program: Program = pipeline::compile(module.clone(), target, &mut Silent).expect("the program is right");
    let mut shapes = Vec::new();
    for launch in launches(&program.entries[0].steps) {
        let kernel = program.kernel(launch.kernel);
        if let KernelBody::Contract(contract) = &kernel.body {
            let shape = &kernel.args[contract.stores[0].arg].shape;
            if shape.len() == 4 {
                shapes.push(graver_ir::Shape(shape.clone()).to_string());
            }
        }
    }
    shapes
}

#[test]
fn activations_between_convolutions_are_channels_last() {
    // Forward twice, the gradient of the first activation, and the two gradients of kernels as they are stored.
    let shapes = ["[n, 14, 14, 4]", "[n, 5, 5, 6]", "[n, 7, 7, 4]", "[6, 4, 3, 3]", "[4, 1, 3, 3]"];
    let mut written = written(&cnn_step(F32), &Target::generic());
    written.sort_unstable();
    let mut expected = shapes;
    expected.sort_unstable();
    assert_eq!(written, expected);
}

#[test]
fn a_target_that_prefers_the_users_order_gets_it() {
    let target = Target { channels_last: false, ..Target::generic() };
    let written = written(&cnn_step(F32), &target);
    assert!(written.contains(&"[n, 4, 14, 14]".to_owned()), "{written:?}");
}

#[test]
fn a_convolution_that_feeds_nothing_spatial_stays() {
    let mut net = Net::new(F32);
    let x = net.b.arg("x", F32, ("n", 3, 8, 8));
    let y = net.conv(x, "conv", 3, 4);
    let y = net.relu(y);
    assert_eq!(written(&net.finish([y]), &Target::generic()), ["[n, 4, 6, 6]"]);
}
