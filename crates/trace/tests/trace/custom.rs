//! Functions with derivatives of the user's own.

use graver_passes::{Silent, pipeline, runner};
use graver_trace::{
    DType, Error, Param, Tensor, checkpoint, cond, custom_jvp, custom_vjp, grad, hvp, jvp, scan, spec, trace, uniform,
    value_and_grad, vjp, vmap,
};

use crate::common::{close, error, floats, run};

fn x() -> graver_trace::Array {
    floats([3], [1.0, -2.0, 0.5])
}

/// `exp`, with ten times its derivative, made from the value itself.
fn steep(x: Tensor) -> Tensor {
    custom_vjp(
        x,
        |x| {
            let y = x.exp();
            (y, y)
        },
        |y, g| g * y * 10.0,
    )
}

/// `x^2 sin(x)`, with the derivative of `x^2` alone, made from a residual that is neither argument nor value.
fn partial(x: Tensor) -> Tensor {
    custom_vjp(x, |x| (x * x * x.sin(), (x, x + x)), |(_, twice), g| g * twice)
}

#[track_caller]
fn check(f: impl FnOnce(Tensor) -> Tensor, expected: impl Fn(f64) -> f64) {
    let expected: Vec<f64> = [1.0, -2.0, 0.5].into_iter().map(expected).collect();
    close(&run(f, spec::<f32>(["n"]), &x()).expect("a good program"), &expected, 1e-5);
}

#[test]
fn the_rule_takes_the_place_of_the_derivative() {
    check(steep, f64::exp);
    check(|x| grad(x, |x| steep(x).sum(..)), |x| 10.0 * x.exp());
    check(|x| grad(x, |x| partial(x * 2.0).sum(..)), |x| 8.0 * x);
    check(|x| grad(x, |x| custom_vjp(x, |x| (x.round(), ()), |(), g| g * 3.0).sum(..)), |_| 3.0);
}

#[test]
fn a_derivative_of_the_derivative_knows_the_rule_of_a_value() {
    // g y 10, and y' = 10 y.
    check(|x| grad(x, |x| grad(x, |x| steep(x).sum(..)).sum(..)), |x| 100.0 * x.exp());
    check(|x| grad(x, |x| grad(x, |x| partial(x).sum(..)).sum(..)), |_| 2.0);
    check(|x| hvp(x, &x, |x| custom_vjp(x, |x| (x.sin(), x), |x, g| g * x * x).sum(..)), |x| 2.0 * x * x);
}

#[test]
fn rules_hold_in_loops_maps_and_checkpoints() {
    let by_scan = |x: Tensor| scan(x * 0.0, x.reshape((1, "n")), |carry, x| (carry + steep(x), ())).0.sum(..);
    check(|x| grad(x, by_scan), |x| 10.0 * x.exp());
    check(|x| grad(x, |x| vmap(x, steep).sum(..)), |x| 10.0 * x.exp());
    check(|x| vmap(x, |x| grad(x, partial)), |x| 2.0 * x);
    check(|x| grad(x, |x| checkpoint(x, steep).sum(..)), |x| 10.0 * x.exp());
    check(|x| grad(x, |x| custom_vjp(x, |x| (steep(x), x), |x, g| g * grad(x, |x| partial(x).sum(..))).sum(..)), |x| 2.0 * x);
}

#[test]
fn several_arguments_integers_and_parameters() -> Result<(), Error> {
    let w = Param::new(floats([3], [2.0, 2.0, 2.0]));
    let scaled = |(x, k): (Tensor, Tensor)| {
        let factor = w.get();
        let y = custom_vjp((x, k), |(x, k)| ((x * factor, k + k), factor), |w, (g, k)| (g * w, k)).0;
        y.sum(..)
    };
    let k = graver_trace::Array::from_vec([3], vec![1i64, 2, 3])?;
    let found = run(|(x, k)| grad(x, |x| scaled((x, k))), (spec::<f32>([3]), spec::<i64>([3])), (&x(), &k))?;
    close(&found, &[2.0; 3], 1e-6);
    let two = |(x, y): (Tensor, Tensor)| custom_vjp((x, y), |(x, y)| (x * y, (x, y)), |(x, y), g| (g * y, g * x * 5.0));
    let ((dx, dy), _) = run(
        |(x, y)| {
            let (value, pull) = vjp((x, y), two);
            (pull.pull(&value.stop_gradient()), value)
        },
        (spec::<f32>(["n"]), spec::<f32>(["n"])),
        (&x(), &x()),
    )?;
    close(&dx, &[1.0, -8.0, 0.125], 1e-6);
    close(&dy, &[5.0, -40.0, 0.625], 1e-6);
    Ok(())
}

/// `exp`, with ten times its derivative, as a rule for forward mode.
fn steep_forward(x: Tensor) -> Tensor {
    custom_jvp(x, |x| x.exp(), |_, y, dx| dx * y * 10.0)
}

/// `sin x`, with `x^2` for its derivative.
fn square_slope(x: Tensor) -> Tensor {
    custom_jvp(x, |x| x.sin(), |x, _, dx| x * x * dx)
}

#[test]
fn a_rule_for_forward_mode_serves_both_modes() {
    check(steep_forward, f64::exp);
    check(|x| jvp(x, &(x * 3.0), steep_forward).1, |x| 30.0 * x * x.exp());
    check(|x| grad(x, |x| steep_forward(x).sum(..)), |x| 10.0 * x.exp());
    check(|x| grad(x, |x| square_slope(x * 2.0).sum(..)), |x| 8.0 * x * x);
    check(|x| jvp(x, &(x * 0.0 + 1.0), |x| square_slope(x * 2.0)).1, |x| 8.0 * x * x);
}

#[test]
fn rules_for_forward_mode_nest() {
    let one = |x: Tensor| x * 0.0 + 1.0;
    check(|x| grad(x, |x| grad(x, |x| steep_forward(x).sum(..)).sum(..)), |x| 100.0 * x.exp());
    check(|x| jvp(x, &one(x), |x| jvp(x, &one(x), steep_forward).1).1, |x| 100.0 * x.exp());
    check(|x| jvp(x, &one(x), |x| grad(x, |x| square_slope(x).sum(..))).1, |x| 2.0 * x);
    check(|x| grad(x, |x| jvp(x, &one(x), square_slope).1.sum(..)), |x| 2.0 * x);
    check(|x| hvp(x, &x, |x| steep_forward(x).sum(..)), |x| 100.0 * x * x.exp());
    // A rule over a rule: what the outer one gives, and not the inner.
    let outer = |x: Tensor| custom_jvp(x, steep_forward, |x, _, dx| jvp(x, &dx, square_slope).1 * 2.0);
    check(|x| grad(x, |x| outer(x).sum(..)), |x| 2.0 * x * x);
    check(|x| jvp(x, &one(x), outer).1, |x| 2.0 * x * x);
}

#[test]
fn rules_for_forward_mode_hold_in_loops_maps_and_checkpoints() {
    let by_scan = |x: Tensor| scan(x * 0.0, x.reshape((1, "n")), |carry, x| (carry + steep_forward(x), ())).0;
    check(|x| grad(x, |x| by_scan(x).sum(..)), |x| 10.0 * x.exp());
    check(|x| jvp(x, &x, by_scan).1, |x| 10.0 * x * x.exp());
    check(|x| jvp(x, &x, |x| vmap(x, square_slope)).1, |x| x * x * x);
    check(|x| vmap(x, |x| grad(x, square_slope)), |x| x * x);
    check(|x| grad(x, |x| checkpoint(x, square_slope).sum(..)), |x| x * x);
}

#[test]
fn a_rule_for_forward_mode_takes_several_arguments_integers_and_parameters() -> Result<(), Error> {
    let w = Param::new(floats([3], [2.0, 2.0, 2.0]));
    let k = graver_trace::Array::from_vec([3], vec![1i64, 2, 3])?;
    // `x k`, whose derivative is said to be `5 k dx`; `k` passes through, and of its tangent nothing is taken.
    let rule = |(x, k): (Tensor, Tensor)| {
        custom_jvp(
            (x, k),
            |(x, k)| (x * k.cast(DType::F32) * w.get(), k),
            |(_, k), _, (dx, dk)| (dx * k.cast(DType::F32) * 5.0, dk),
        )
    };
    let found = run(|(x, k)| grad(x, |x| rule((x, k)).0.sum(..)), (spec::<f32>([3]), spec::<i64>([3])), (&x(), &k))?;
    close(&found, &[5.0, 10.0, 15.0], 1e-6);
    let two =
        |(x, y): (Tensor, Tensor)| custom_jvp((x, y), |(x, y)| (x * y, x + y), |(x, y), _, (dx, dy)| (y * dx, x * dy * 3.0));
    let (dx, dy) = run(
        |(x, y)| grad((x, y), |both| two(both).0.sum(..) + two(both).1.sum(..)),
        (spec::<f32>(["n"]), spec::<f32>(["n"])),
        (&x(), &x()),
    )?;
    close(&dx, &[1.0, -2.0, 0.5], 1e-6);
    close(&dy, &[3.0, -6.0, 1.5], 1e-6);
    Ok(())
}

/// What is said of `exp` with this rule.
#[track_caller]
fn of_rule(rule: impl FnOnce(Tensor, Tensor) -> Tensor) -> String {
    let found = trace(|x| custom_jvp(x, |x| x.exp(), |x, _, dx| rule(x, dx)), spec::<f32>([3]));
    found.err().map_or_else(|| "no error".to_owned(), |error| error.to_string())
}

#[test]
fn a_rule_that_is_not_linear_is_refused() {
    for (said, found) in [
        ("`mul`", of_rule(|_, dx| dx * dx)),
        ("`add`", of_rule(|_, dx| dx + 1.0)),
        ("`relu`", of_rule(|_, dx| dx.relu())),
        ("`stop_gradient`", of_rule(|_, dx| dx.stop_gradient())),
        ("`gt`", of_rule(|x, dx| dx.gt(0.0).where_(x, dx))),
        ("`div`", of_rule(|x, dx| x / dx)),
        ("`cast`", of_rule(|_, dx| dx.cast(DType::I32).cast(DType::F32))),
        ("`reduce`", of_rule(|_, dx| dx.max(..).broadcast_to([3]))),
        ("`if`", of_rule(|x, dx| cond(x.sum(..).gt(0.0), || dx, || x))),
        ("`scan`", of_rule(|x, dx| scan(x.sum(..), dx, |y, dx| (y + dx, ())).0.broadcast_to([3]))),
        ("`jvp`", of_rule(|x, dx| jvp(dx, &x, |dx| dx * x).1)),
        // The first by which it is not, of several.
        ("`exp`", of_rule(|x, dx| (dx * x).exp().sin() * x)),
    ] {
        assert!(found.contains(&format!("that is not linear in tangents: not so is {said} at ")), "{said}: {found}");
        assert_eq!(found.matches("tests/trace/custom.rs").count(), 2, "of the call, and of the operation: {found}");
    }
    for found in [of_rule(|x, _| x), of_rule(|_, dx| dx.ones_like())] {
        assert!(found.contains("that depends on no tangent, and is not zero"), "{found}");
    }
}

#[test]
fn a_rule_that_is_linear_is_taken() {
    for found in [
        of_rule(|_, dx| dx.zeros_like()),
        of_rule(|x, _| x * 0.0),
        of_rule(|x, dx| -dx / x + dx * x.exp() - dx.flip(0)),
        of_rule(|x, dx| x.gt(0.0).where_(dx, dx.zeros_like()).sum(..).broadcast_to([3])),
        of_rule(|x, dx| cond(x.sum(..).gt(0.0), || dx, || dx * x)),
        of_rule(|x, dx| scan(dx.sum(..) * 0.0, (x, dx), |y, (x, dx)| (y * x + dx, ())).0.broadcast_to([3])),
        of_rule(|x, dx| jvp(x, &dx, |x| grad(x, |x| (x * x).sum(..))).1),
        of_rule(|x, dx| grad(x, |x| (x.exp() * dx).sum(..))),
        of_rule(|x, dx| custom_vjp(dx, |dx| (dx * x, ()), |(), g| g * x)),
    ] {
        assert_eq!(found, "no error");
    }
}

#[test]
fn what_random_numbers_a_function_draws_its_residuals_hold() {
    // The derivative of `x u` is `u`: the same numbers, drawn once.
    let noisy = |x: Tensor| {
        custom_vjp(
            x,
            |x| {
                let u = uniform(x.shape(), DType::F32);
                (x * u, u)
            },
            |u, g| g * u,
        )
    };
    let both = |x: Tensor| {
        value_and_grad(x, |x| {
            let y = noisy(x);
            (y.sum(..), y)
        })
    };
    let ((_, y), slope) = run(both, spec::<f32>(["n"]), &floats([3], [1.0; 3])).expect("a good program");
    assert_eq!(y, slope);
    assert!(y.to_f64().iter().any(|y| *y != 0.0));
}

#[test]
fn residuals_are_not_computed_twice() -> Result<(), Error> {
    let f = |x: Tensor| grad(x, |x| custom_vjp(x, |x| (x.sin() * x.cos(), x.cos()), |cos, g| g * cos).sum(..));
    let mut module = trace(f, spec::<f32>(["n"]))?.module().clone();
    let target = graver_ir::Target::generic();
    let mut cx = graver_passes::Cx { target: &target, remarks: Vec::new() };
    runner::run(&mut module, pipeline::GRAPH, &mut cx, &mut Silent, None)?;
    let text = graver_ir::text::print(&module);
    assert_eq!((text.matches("= cos(").count(), text.matches("= sin(").count(), module.functions.len()), (1, 0, 1), "{text}");
    Ok(())
}

/// What the compiler says is wrong.
fn refusal(f: impl FnOnce(Tensor) -> Tensor) -> String {
    run(f, spec::<f32>(["n"]), &x()).err().map_or_else(|| "no error".to_owned(), |error| error.to_string())
}

#[test]
fn errors_name_the_line_of_the_call() {
    let vector = || spec::<f32>(["n"]);
    let found = error(|x| custom_vjp(x, |x| (x.exp(), ()), |(), g: Tensor| g.sum(..)), vector());
    assert!(
        found.contains("tests/trace/custom.rs")
            && found.contains("the derivative gives f32[] as the cotangent of argument 0, which is f32[n]"),
        "{found}"
    );
    let found = error(|x| custom_vjp(vec![x, x], |x| (x[0] * x[1], ()), |(), g| vec![g]), vector());
    assert!(found.contains("the derivative gives 1 cotangents for 2 arguments"), "{found}");
    let found = refusal(|x| jvp(x, &x, steep).1);
    assert!(
        found.contains("tests/trace/custom.rs") && found.contains("is one for reverse mode; use grad or vjp, or custom_jvp"),
        "{found}"
    );
    let found = error(|x| custom_jvp(x, |x| x.exp(), |_, _, dx: Tensor| dx.sum(..)), vector());
    assert!(
        found.contains("tests/trace/custom.rs")
            && found.contains("the rule gives f32[] as the tangent of value 0, which is f32[n]; a tangent has"),
        "{found}"
    );
    let found = error(|x| custom_jvp(x, |x| vec![x, x], |_, _, dx| vec![dx]), vector());
    assert!(found.contains("tests/trace/custom.rs") && found.contains("the rule gives 1 tangents for 2 values"), "{found}");
    let found = refusal(|x| jvp(x, &x, |x| custom_jvp(x.stop_gradient(), |y| x * y, |_, _, dx| dx)).1);
    assert!(found.contains("custom_jvp") && found.contains("says nothing of what the function closes over"), "{found}");
    let found = refusal(|x| grad(x, |x| custom_vjp(x.stop_gradient(), |y| (x * y, ()), |(), g| g).sum(..)));
    assert!(found.contains("says nothing of what the function closes over; pass it as an argument"), "{found}");
    let found = error(|x| custom_vjp(x, |x| (x, ()), |(), g: Tensor| g * uniform(g.shape(), DType::F32)), vector());
    assert!(found.contains("random numbers are drawn in a derivative"), "{found}");
}
