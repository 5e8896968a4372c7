//! Maps over batches, Jacobians, Hessians, checkpoints: alone and inside of one another.

use std::sync::Arc;

use graver_interp::Interp;
use graver_ir::Sizes;
use graver_trace::{
    Array, Buffer, Device, Error, Param, Tensor, arange, checkpoint, compile, grad, hessian, hvp, jacobian, jacobian_forward,
    jvp, scan, spec, step, uniform, value_and_grad, vjp, vmap, while_at_most,
};

use crate::common::{close, error, floats, ramp, run};

#[test]
fn a_map_is_a_loop_of_single_calls() {
    let f = |(w, xs): (Tensor, Tensor)| vmap(xs, |x| (w.matmul(x).tanh(), x.sum(..)));
    let (w, xs) = (ramp([3, 4]), ramp([5, 4]));
    let (ys, sums) = run(f, (spec::<f32>([3, 4]), spec::<f32>(("n", 4))), (&w, &xs)).expect("it runs");
    let looped = |(w, xs): (Tensor, Tensor)| scan((), xs, |(), x| ((), (w.matmul(x).tanh(), x.sum(..)))).1;
    let (expected, totals) = run(looped, (spec::<f32>([3, 4]), spec::<f32>(("n", 4))), (&w, &xs)).expect("it runs");
    assert_eq!(ys.shape(), [5, 3]);
    close(&ys, &expected.to_f64(), 1e-6);
    close(&sums, &totals.to_f64(), 1e-6);
}

/// Per-example gradients: derivative inside, map outside; and the gradient of a sum over a map.
#[test]
fn maps_of_derivatives_and_derivatives_of_maps() {
    let loss = |w: Tensor, x: Tensor| (w * x).sum(..).sin();
    let each = |(w, xs): (Tensor, Tensor)| vmap(xs, |x| grad(w, |w| loss(w, x)));
    let all = |(w, xs): (Tensor, Tensor)| grad(w, |w| vmap(xs, |x| loss(w, x)).sum(..));
    let specs = || (spec::<f32>([3]), spec::<f32>(("n", 3)));
    let (w, xs) = (ramp([3]), ramp([4, 3]));
    let (each, all) = (run(each, specs(), (&w, &xs)).expect("it runs"), run(all, specs(), (&w, &xs)).expect("it runs"));
    let rows = each.to_f64();
    let sum: Vec<f64> = (0..3).map(|column| (0..4).map(|row| rows[row * 3 + column]).sum()).collect();
    close(&all, &sum, 1e-5);
    // Twice: the map of a gradient of a map.
    let nested = |(w, xs): (Tensor, Tensor)| vmap(xs, |x| grad(w, |w| vmap(w, |w| (w * x).sum(..).square()).sum(..)));
    let got = run(nested, specs(), (&w, &xs)).expect("it runs");
    let expected: Vec<f64> = (0..4)
        .flat_map(|row| {
            let x: Vec<f64> = xs.to_f64()[row * 3..row * 3 + 3].to_vec();
            let sum: f64 = x.iter().sum();
            w.to_f64().into_iter().map(move |w| 2.0 * w * sum * sum).collect::<Vec<f64>>()
        })
        .collect();
    close(&got, &expected, 1e-4);
}

#[test]
fn maps_of_loops_and_random_numbers() {
    // Newton's method, each instance until its own end.
    let roots = |xs: Tensor| vmap(xs, |x| while_at_most(50, x, |y| (y * y - x).abs().gt(1e-4), |y| (y + x / y) * 0.5));
    close(&run(roots, spec::<f32>(["n"]), &floats([3], [4.0, 9.0, 2.25])).expect("it runs"), &[2.0, 3.0, 1.5], 1e-3);
    let slopes =
        |xs: Tensor| grad(xs, |xs| vmap(xs, |x| scan(x, arange(2, graver_trace::DType::F32), |y, _| (y * x, ())).0).sum(..));
    close(&run(slopes, spec::<f32>(["n"]), &floats([2], [2.0, -1.0])).expect("it runs"), &[12.0, 3.0], 1e-5);
    let noise = |xs: Tensor| vmap(xs, |x| x + uniform([2], graver_trace::DType::F32));
    let got = run(noise, spec::<f32>(["n"]), &floats([2], [0.0, 0.0])).expect("it runs").to_f64();
    assert!(got[0] != got[2] && got[1] != got[3], "{got:?}");
}

#[test]
fn what_a_map_refuses() {
    let empty = error(|x: Tensor| (x, vmap((), |()| ())), spec::<f32>(["n"]));
    assert!(empty.contains("vmap") && empty.contains("nothing to scan"), "{empty}");
    let scalar = error(|x: Tensor| vmap(x, |x| x), spec::<f32>(()));
    assert!(scalar.contains("vmap: f32[] has no first axis"), "{scalar}");
    let state = Buffer::new(Array::scalar(0.0f32));
    let sets = step(spec::<f32>(["n"]), |x| {
        vmap(x, |x| {
            state.set(x);
            x
        })
    });
    let said = sets.model("state", &state).trace().expect_err("it sets state").to_string();
    assert!(said.contains("state is set inside") && said.contains("crates/trace/tests/trace/transforms.rs"), "{said}");
}

/// `y_i = sum_j a_ij x_j^2`: `dy_i/dx_j = 2 a_ij x_j`.
#[test]
fn jacobians_by_either_mode() {
    let a = ramp([2, 3]);
    let f = |a: Tensor| move |x: Tensor| a.matmul(x.square());
    let reverse = run(|(a, x): (Tensor, Tensor)| jacobian(x, f(a)), (spec::<f32>([2, 3]), spec::<f32>([3])), (&a, &ramp([3])));
    let forward =
        run(|(a, x): (Tensor, Tensor)| jacobian_forward(x, f(a)), (spec::<f32>([2, 3]), spec::<f32>([3])), (&a, &ramp([3])));
    let (reverse, forward) = (reverse.expect("it runs"), forward.expect("it runs"));
    let x = ramp([3]).to_f64();
    let expected: Vec<f64> = a.to_f64().iter().enumerate().map(|(place, a)| 2.0 * a * x[place % 3]).collect();
    assert_eq!((reverse.shape(), forward.shape()), (&[2, 3][..], &[2, 3][..]));
    close(&reverse, &expected, 1e-5);
    close(&forward, &expected, 1e-5);
}

#[test]
fn jacobians_of_several_with_respect_to_several() {
    // (x y, sum x) with respect to (x, y), over a symbolic size.
    let f = |(x, y): (Tensor, Tensor)| ((x * y), x.sum(..));
    let both = |(x, y): (Tensor, Tensor)| (jacobian((x, y), f), jacobian_forward((x, y), f));
    let (x, y) = (floats([2], [1.0, 2.0]), floats([2], [3.0, 4.0]));
    let (reverse, forward) = run(both, (spec::<f32>(["n"]), spec::<f32>(["n"])), (&x, &y)).expect("it runs");
    for ((px, py), (sx, sy)) in [reverse, forward] {
        close(&px, &[3.0, 0.0, 0.0, 4.0], 1e-6);
        close(&py, &[1.0, 0.0, 0.0, 2.0], 1e-6);
        close(&sx, &[1.0, 1.0], 1e-6);
        close(&sy, &[0.0, 0.0], 1e-6);
    }
}

/// `(1 - a)^2 + 100 (b - a^2)^2`, whose second derivatives are known.
#[test]
fn hessians() {
    let valley = |x: Tensor| {
        let (a, b) = (x.narrow(0, 0, 1), x.narrow(0, 1, 1));
        ((1.0 - a).square() + 100.0 * (b - a.square()).square()).sum(..)
    };
    let got = run(|x: Tensor| hessian(x, valley), spec::<f64>([2]), &Array::from_vec([2], vec![-1.0f64, 2.0]).expect("two"));
    close(&got.expect("it runs"), &[2.0 - 400.0 * (2.0 - 1.0) + 800.0, 400.0, 400.0, 200.0], 1e-9);
    // Of a batch, each its own; by reverse over reverse the same.
    let each = |xs: Tensor| (vmap(xs, |x| hessian(x, valley)), vmap(xs, |x| jacobian(x, |x| grad(x, valley))));
    let (forward, reverse) =
        run(each, spec::<f64>(("n", 2)), &Array::from_vec([2, 2], vec![-1.0f64, 2.0, 1.0, 1.0]).expect("four")).expect("it runs");
    close(&forward, &[1202.0 - 800.0, 400.0, 400.0, 200.0, 802.0, -400.0, -400.0, 200.0], 1e-9);
    close(&reverse, &forward.to_f64(), 1e-9);
    let models = |x: Tensor| {
        let w = Param::new(floats([2], [1.0, 2.0]));
        hessian((x, w.get()), |(x, w)| (x * w).sum(..).square())
    };
    let ((xx, xw), (wx, ww)) = run(models, spec::<f32>([2]), &floats([2], [3.0, 4.0])).expect("it runs");
    // With s = x . w: d2/dx_i dw_j = 2 x_j w_i + 2 s [i = j].
    close(&xx, &[2.0, 4.0, 4.0, 8.0], 1e-5);
    close(&xw, &[2.0 * 3.0 + 22.0, 2.0 * 4.0, 2.0 * 2.0 * 3.0, 2.0 * 2.0 * 4.0 + 22.0], 1e-5);
    close(&wx, &[28.0, 12.0, 8.0, 38.0], 1e-5);
    close(&ww, &[18.0, 24.0, 24.0, 32.0], 1e-5);
}

#[test]
fn only_floats_have_jacobians() {
    let said = error(|x: Tensor| jacobian(x, |x| x.gt(0.0)), spec::<f32>([2]));
    assert!(said.contains("jacobian") && said.contains("only floats can be differentiated"), "{said}");
    assert!(said.starts_with("crates/trace/tests/trace/transforms.rs:"), "{said}");
}

#[test]
fn losses_of_second_derivatives_are_told_at_the_call() {
    let curvature = error(|x: Tensor| hessian(x, |x| x * x), spec::<f32>([2]));
    let product = error(|x: Tensor| hvp(x, &x, |x| x * x), spec::<f32>([2]));
    for said in [curvature, product] {
        assert!(said.starts_with("crates/trace/tests/trace/transforms.rs:") && said.contains("a loss is one float"), "{said}");
    }
}

/// A deep chain of wide layers.
fn deep(x: Tensor, w: Tensor, kept: bool) -> Tensor {
    let layer = |x: Tensor| x.matmul(w).sin().matmul(w).sin().matmul(w).sin().matmul(w).sin();
    (0..8).fold(x, |x, _| if kept { layer(x) } else { checkpoint(x, layer) }).square().sum(..)
}

#[test]
fn a_checkpoint_gives_the_same_gradient_in_less_memory() -> Result<(), Error> {
    let device = Device::new(Arc::new(Interp::default()));
    let specs = || (spec::<f32>(("n", 16)), spec::<f32>([16, 16]));
    let plain = compile(|(x, w)| value_and_grad((x, w), |(x, w)| deep(x, w, true)), specs(), &device)?;
    let again = compile(|(x, w)| value_and_grad((x, w), |(x, w)| deep(x, w, false)), specs(), &device)?;
    let sizes = Sizes::from([("n".to_owned(), 64)]);
    let (kept, less) = (plain.working_bytes(&sizes)?.arena, again.working_bytes(&sizes)?.arena);
    // 64 values of a layer are kept, 32 products and 32 sines; checkpoints keep one of every eight, and the values of one part.
    assert!(2 * less < kept, "{less} bytes with checkpoints, {kept} without");
    let (x, w) = (ramp([3, 16]), floats([16, 16], (0..256).map(|place| ((place * 29 + 3) % 17) as f32 / 32.0 - 0.25)));
    let (loss, (dx, dw)) = plain.call((&x, &w))?;
    let (same, (dx_again, dw_again)) = again.call((&x, &w))?;
    close(&same, &loss.to_f64(), 1e-6);
    close(&dx_again, &dx.to_f64(), 1e-4);
    close(&dw_again, &dw.to_f64(), 1e-4);
    Ok(())
}

#[test]
fn checkpoints_nest_in_everything() {
    let part = |x: Tensor| checkpoint(x, |x| checkpoint(x, |x| x.sin()) * x);
    let specs = || spec::<f64>([2]);
    let x = Array::from_vec([2], vec![0.3f64, -1.2]).expect("two");
    let plain = |x: Tensor| x.sin() * x;
    let of = |f: &dyn Fn(Tensor) -> Tensor| {
        let first = run(|x: Tensor| grad(x, |x| f(x).sum(..)), specs(), &x).expect("it runs");
        let second = run(|x: Tensor| hessian(x, |x| f(x).sum(..)), specs(), &x).expect("it runs");
        let along = run(|x: Tensor| jvp(x, &x, f).1, specs(), &x).expect("it runs");
        let mapped = run(|x: Tensor| vmap(x, |x| grad(x, |x| f(x).sum(..))), specs(), &x).expect("it runs");
        let looped = run(
            |x: Tensor| grad(x, |x| scan(x, arange(3, graver_trace::DType::F64), |y, _| (f(y) + x, ())).0.sum(..)),
            specs(),
            &x,
        );
        [first, second, along, mapped, looped.expect("it runs")].map(|array| array.to_f64())
    };
    for (expected, got) in of(&plain).into_iter().zip(of(&part)) {
        for (x, y) in expected.iter().zip(&got) {
            assert!((x - y).abs() < 1e-9, "{expected:?} and {got:?}");
        }
    }
}

/// The backward pass draws the numbers of the forward pass.
#[test]
fn a_checkpoint_draws_the_same_numbers_again() {
    let f = |x: Tensor| {
        let (y, pullback) = vjp(x, |x| checkpoint(x, |x| x * uniform([4], graver_trace::DType::F32)));
        (y, pullback.pull(&(x * 0.0 + 1.0)))
    };
    let (y, dx) = run(f, spec::<f32>([4]), &floats([4], [1.0, 1.0, 1.0, 1.0])).expect("it runs");
    assert_eq!(y, dx);
}

#[test]
fn a_checkpoint_leaves_state() -> Result<(), Error> {
    let mean = Buffer::new(Array::scalar(0.0f32));
    let mut train = step(spec::<f32>(["n"]), |x| {
        grad(x, |x| {
            checkpoint(x, |x| {
                mean.set(mean.get() * 0.5 + x.mean(..) * 0.5);
                x.square()
            })
            .sum(..)
        })
    })
    .model("mean", &mean)
    .compile(&Device::new(Arc::new(Interp::default())))?;
    close(&train.run(&floats([2], [1.0, 3.0]))?, &[2.0, 6.0], 1e-6);
    assert_eq!(train.state().at("mean").expect("a slot").item()?, 1.0);
    Ok(())
}

/// A bound that a size makes negative is none.
#[test]
fn a_loop_whose_bound_is_negative_does_not_run() -> Result<(), Error> {
    let device = Device::new(Arc::new(Interp::default()));
    let looped = |x: Tensor| {
        let most = x.dim(0) - 3;
        grad(x, move |x| while_at_most(most, x, |y| y.lt(100.0).all(..), |y| y * 2.0).sum(..))
    };
    let f = compile(looped, spec::<f32>(["n"]), &device)?;
    close(&f.call(&floats([2], [1.0, 1.0]))?, &[1.0, 1.0], 1e-6);
    close(&f.call(&floats([5], [1.0; 5]))?, &[4.0; 5], 1e-6);
    let plain =
        compile(|x: Tensor| while_at_most(x.dim(0) - 3, x, |y| y.lt(100.0).all(..), |y| y * 2.0), spec::<f32>(["n"]), &device)?;
    close(&plain.call(&floats([2], [1.0, 1.0]))?, &[1.0, 1.0], 1e-6);
    Ok(())
}
