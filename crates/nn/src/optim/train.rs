//! The training step of one model and one optimiser.

use std::panic::Location;

use graver_trace::{Diag, Loss, Module, Spec, StepBuilder, Tree, fail, on_behalf_of, step, value_and_grad};

use super::Optimizer;
use super::rules::matches;

/// A step that runs the closure over the model, differentiates its loss with respect to the parameters that are not frozen, and
/// updates them. The closure gives the loss, or the loss and anything to be seen beside it.
///
/// ```
/// use graver_nn::{AdamW, Init, Linear, train_step};
/// use graver_trace::spec;
/// let model = Linear::new(4, 3).init(&mut Init::seed(0));
/// let inputs = (spec::<f32>(("batch", 4)), spec::<i64>(["batch"]));
/// let traced = train_step(&model, AdamW::new(1e-3), inputs, |m, (x, y)| {
///     let logits = m.forward(x);
///     (logits.cross_entropy(y), logits.argmax(-1))
/// })
/// .trace()?;
/// assert!(traced.module().state.iter().any(|slot| slot.path.ends_with("weight.exp_avg")));
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[track_caller]
pub fn train_step<'m, M, O, S, Y>(
    model: &'m M,
    optimizer: O,
    spec: S,
    f: impl FnOnce(&M, S::Traced) -> Y,
) -> StepBuilder<'m, S, impl FnOnce(S::Traced) -> Y>
where
    M: Module,
    O: Optimizer,
    S: Spec,
    Y: Loss + Tree,
{
    let line = Location::caller();
    step(spec, move |inputs| {
        let _lines = on_behalf_of(line, crate::SOURCES);
        check_patterns(model, &optimizer);
        let (result, grads) = value_and_grad(model, |m| f(m, inputs));
        optimizer.update("", grads);
        result
    })
    .model("", model)
}

/// A pattern that matches no parameter is a slip of the pen: the rule would be without effect.
fn check_patterns(model: &impl Module, optimizer: &impl Optimizer) {
    let paths: Vec<String> = model.params().into_iter().map(|(path, _)| path).collect();
    for pattern in optimizer.patterns() {
        if !paths.iter().any(|path| matches(&pattern, path)) {
            let diag = Diag::new(format!("the pattern `{pattern}` matches no parameter of the model"));
            fail(diag.op("optimizer").help(format!("its parameters: {}", listed(&paths))));
        }
    }
}

fn listed(paths: &[String]) -> String {
    let mut text = paths.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    if paths.len() > 8 {
        text.push_str(", ..");
    }
    text
}
