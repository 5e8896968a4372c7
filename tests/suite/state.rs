//! A step's state on the CPU: it is written to where it lies, from the first call on.

use graver::ir::StateKind;
use graver::prelude::*;
use graver::trace::{Module as _, Step, TensorSpec};

const WIDTH: usize = 24;

type Training = Step<TensorSpec, Tensor>;

fn step_of(model: &Linear) -> Training {
    let step = train_step(model, AdamW::new(0.01), spec::<f32>(("rows", WIDTH)), |model, x| model.forward(x).square().mean(..));
    step.compile(&graver::cpu_with_threads(2)).expect("a good program")
}

fn model() -> Linear {
    Linear::new(WIDTH, WIDTH).init(&mut Init::seed(3))
}

/// Whether each array stays where it was before the first call, by its path, and whether it is an optimiser's own.
fn stays(step: &mut Training) -> Vec<(String, bool, bool)> {
    let places =
        |step: &Training| -> Vec<*const u8> { step.state().entries().map(|entry| entry.value.bytes().as_ptr()).collect() };
    let before = places(step);
    let rows = Array::from_vec([5, WIDTH], (0..5 * WIDTH).map(|at| (at % 7) as f32 - 3.0).collect()).expect("as many as places");
    step.run(&rows).expect("a good call");
    let after = places(step);
    let entries = step.state().entries().zip(before.iter().zip(&after));
    entries.map(|(entry, (before, after))| (entry.path.clone(), entry.kind == StateKind::Slot, before == after)).collect()
}

#[test]
fn a_state_that_is_nobody_elses_is_copied_by_no_call() {
    let mut step = step_of(&model());
    let stays = stays(&mut step);
    assert!(stays.iter().any(|(_, is_slot, _)| *is_slot) && stays.iter().all(|(_, _, stays)| *stays), "{stays:?}");
}

#[test]
fn a_model_keeps_its_values_and_moments_are_copied_by_no_call() {
    let model = model();
    let before = model.leaves().iter().map(|(_, leaf)| leaf.value().to_f64()).collect::<Vec<_>>();
    let mut step = step_of(&model);
    let stays = stays(&mut step);
    assert!(stays.iter().all(|(_, is_slot, stays)| is_slot == stays), "{stays:?}");
    let after = model.leaves().iter().map(|(_, leaf)| leaf.value().to_f64()).collect::<Vec<_>>();
    assert_eq!(before, after);
}
