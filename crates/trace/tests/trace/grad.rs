//! Derivatives as users ask for them.

use graver_trace::{Error, Tensor, grad, hvp, jvp, spec, value_and_grad, vjp};

use crate::common::{close, error, floats, run};

fn x() -> graver_trace::Array {
    floats([3], [1.0, -2.0, 0.5])
}

/// A derivative of `sum(x^3)` or of something near it.
#[track_caller]
fn check(f: impl FnOnce(Tensor) -> Tensor, expected: &[f64]) {
    close(&run(f, spec::<f32>(["n"]), &x()).expect("a good program"), expected, 1e-5);
}

#[test]
fn first_and_second_order() {
    let cube = |x: Tensor| (x * x * x).sum(..);
    check(|x| grad(x, cube), &[3.0, 12.0, 0.75]);
    check(|x| grad(x, |x| grad(x, cube).sum(..)), &[6.0, -12.0, 3.0]);
    check(|x| hvp(x, &x, cube), &[6.0, 24.0, 1.5]);
    check(|x| jvp(x, &x, |x| x * x).1, &[2.0, 8.0, 0.5]);
    check(|x| vjp(x, |x| x.exp()).1.pull(&(-x).exp()), &[1.0; 3]);
    check(|x| grad(x, |x| (x * x.stop_gradient()).sum(..)), &[1.0, -2.0, 0.5]);
}

#[test]
fn several_at_once_and_something_beside_the_loss() -> Result<(), Error> {
    let ((loss, aux), (dx, dy)) = run(
        |(x, y)| value_and_grad((x, y), |(x, y)| ((x * y).sum(..), x + y)),
        (spec::<f32>(["n"]), spec::<f32>(["n"])),
        (&x(), &floats([3], [2.0, 3.0, 4.0])),
    )?;
    close(&loss, &[-2.0], 1e-6);
    close(&aux, &[3.0, 1.0, 4.5], 1e-6);
    close(&dx, &[2.0, 3.0, 4.0], 1e-6);
    close(&dy, &[1.0, -2.0, 0.5], 1e-6);
    Ok(())
}

#[test]
fn what_a_loss_is() {
    let found = error(|x| grad(x, |x| x * x), spec::<f32>(["n"]));
    assert!(found.contains("grad: a loss is one float, got f32[n]; take its mean or sum"), "{found}");
    let found = error(|(x, y)| grad((x, y), |(x, _)| x.sum(..)), (spec::<f32>(["n"]), spec::<i64>(["n"])));
    assert!(found.contains("only floats can be differentiated, got i64[n]"), "{found}");
}
