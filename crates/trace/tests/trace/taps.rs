//! Values that are named and read after a call.

use std::sync::Arc;

use graver_interp::Interp;
use graver_trace::{
    Array, Checked, Device, Error, Module, Param, Suspect, Tensor, checkpoint, compile, cond, custom_vjp, grad, scan, scope,
    spec, step, trace, value_and_grad, vmap, while_loop,
};

use crate::common::{close, floats, ramp};

fn device() -> Device {
    Device::new(Arc::new(Interp::default()))
}

#[derive(Module)]
struct Layer {
    weight: Param,
}

impl Layer {
    fn forward(&self, x: Tensor) -> Tensor {
        self.scope(|| (x * &self.weight).tap("product").tanh())
    }
}

#[derive(Module)]
struct Net {
    layers: Vec<Layer>,
}

fn net() -> Net {
    let layer = |weight: f32| Layer { weight: Param::new(Array::scalar(weight)) };
    Net { layers: vec![layer(2.0), layer(-1.0)] }
}

#[test]
fn modules_name_their_taps_by_path() -> Result<(), Error> {
    let net = net();
    let f = compile(|x| net.layers.iter().fold(x, |x, layer| layer.forward(x)), spec::<f32>(["n"]), &device())?;
    let (y, taps) = f.call_tapped(&floats([2], [0.5, -0.25]))?;
    assert_eq!(f.tap_names().count(), 2);
    close(taps.get(f.tap_names().next().expect("two"))?, &[1.0, -0.5], 1e-6);
    close(&y, &[(-(1f64.tanh())).tanh(), (0.5f64.tanh()).tanh()], 1e-6);
    // A call that does not ask runs the program that knows nothing of them.
    assert_eq!(f.program().entries[0].outputs.len(), 1);
    assert_eq!(f.call(&floats([2], [0.5, -0.25]))?, y);
    Ok(())
}

#[test]
fn names_are_told_apart_and_unknown_ones_refused() -> Result<(), Error> {
    let f = compile(|x| scope("a", || x.tap("x").square().tap("x")), spec::<f32>(["n"]), &device())?;
    let (_, taps) = f.call_tapped(&floats([1], [3.0]))?;
    assert_eq!(taps.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a.x", "a.x.2"]);
    close(taps.get("a.x.2")?, &[9.0], 1e-6);
    let error = taps.get("y").expect_err("there is none").to_string();
    assert!(error.contains("no value is tapped as `y`; there are: a.x, a.x.2"), "{error}");
    Ok(())
}

#[test]
fn taps_inside_of_gradients_loops_and_maps() -> Result<(), Error> {
    // Nested loops stack twice; what is tapped of a loop's own results stays right when the loop gets more of them.
    let f = |xs: Tensor| {
        grad(xs, |xs| {
            let (last, all) = scan(xs.sum(0) * 0.0, xs, |sum, row| {
                let (inner, _) = scan(sum, row, |inner, x| {
                    let next = (inner + x).tap("inner");
                    (next, ())
                });
                (inner.tap("outer"), inner)
            });
            let all = all.tap("all");
            let twice = vmap(all, |row| checkpoint(row, |row| (row * 2.0).tap("twice")));
            (last.sum(..) + twice.sum(..)).tap("loss")
        })
    };
    let f = compile(|xs: Tensor| f(xs), spec::<f32>((2, 3)), &device())?;
    let x = floats([2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let (_, taps) = f.call_tapped(&x)?;
    assert_eq!(taps.get("inner")?.shape(), [2, 3, 3]);
    let sums = [6.0, 6.0, 6.0, 21.0, 21.0, 21.0];
    close(taps.get("outer")?, &sums, 1e-6);
    close(taps.get("all")?, &sums, 1e-6);
    close(taps.get("twice")?, &sums.map(|x| 2.0 * x), 1e-6);
    close(taps.get("loss")?, &[63.0 + 162.0], 1e-5);
    Ok(())
}

#[test]
fn a_tap_in_a_function_with_its_own_derivative_is_refused() -> Result<(), Error> {
    let own = |x: Tensor| custom_vjp(x, |x| (x.sin().tap("inside"), x), |x, g| (g * x.cos()).tap("rule"));
    let f = compile(|x| grad(x, |x| own(x).tap("given").sum(..)), spec::<f32>(["n"]), &device())?;
    let (slope, taps) = f.call_tapped(&floats([1], [0.5]))?;
    for name in ["inside", "rule"] {
        let error = taps.get(name).expect_err("no value of the program").to_string();
        assert!(error.contains("tests/trace/taps.rs") && error.contains("a derivative of its own"), "{error}");
    }
    close(taps.get("given")?, &[0.5f64.sin()], 1e-6);
    close(&slope, &[0.5f64.cos()], 1e-6);
    Ok(())
}

#[test]
fn a_tap_where_nobody_knows_how_often_is_refused_with_its_line() -> Result<(), Error> {
    let f = compile(
        |x| {
            let y = while_loop(x, |y| y.sum(..).lt(10.0), |y| (y * 2.0).tap("in_loop"));
            cond(y.sum(..).gt(0.0), || y.tap("in_branch_of_outside"), || (y * 3.0).tap("in_branch"))
        },
        spec::<f32>(["n"]),
        &device(),
    )?;
    let (_, taps) = f.call_tapped(&floats([1], [3.0]))?;
    let error = taps.get("in_loop").expect_err("a while").to_string();
    assert!(
        error.contains("crates/trace/tests/trace/taps.rs") && error.contains("body of a `while`, any number of times"),
        "{error}"
    );
    assert!(taps.get("in_branch").expect_err("a branch").to_string().contains("perhaps not at all"));
    close(taps.get("in_branch_of_outside")?, &[12.0], 1e-6);
    Ok(())
}

#[test]
fn a_tapped_step_is_a_step() -> Result<(), Error> {
    let net = net();
    let train = || {
        step(spec::<f32>(["n"]), |x| {
            let (loss, grads) = value_and_grad(&net, |net| net.layers[0].forward(x).square().mean(..));
            for (_, param, grad) in grads.iter() {
                param.set(param.get() - grad.tap("grad") * 0.1);
            }
            loss
        })
        .model("", &net)
        .compile(&device())
    };
    let (mut one, mut other) = (train()?, train()?);
    let x = floats([2], [1.0, 0.5]);
    let loss = one.run(&x)?;
    let (tapped, taps) = other.run_tapped(&x)?;
    assert_eq!(loss, tapped);
    assert!(taps.iter().any(|(name, _)| name == "grad"));
    assert_eq!(one.state().at("layers.0.weight"), other.state().at("layers.0.weight"));
    Ok(())
}

#[test]
fn a_step_can_be_asked_for_nans_and_checked() -> Result<(), Error> {
    let weight = Param::new(Array::scalar(0.0f32));
    let train = step(spec::<f32>(["n"]), |x| {
        let (loss, grad) = value_and_grad(weight.get(), |w| (x * w).sqrt().sum(..));
        weight.set(weight.get() - grad * 0.1);
        loss
    })
    .model("weight", &weight)
    .compile(&device())?;
    let x = floats([2], [1.0, 0.5]);
    let error = train.check_finite(&x, Suspect::NanOrInfinity).expect_err("the slope of a root at zero").to_string();
    assert!(error.contains("crates/trace/tests/trace/taps.rs") && error.contains("derivative"), "{error}");
    assert_eq!(train.state().at("weight").expect("a slot").item()?, 0.0);
    let f = compile(|x| x.softmax(-1), spec::<f32>(("n", 5)), &device())?;
    let x = ramp([2, 5]);
    f.check_finite(&x, Suspect::NanOrInfinity)?;
    assert!(matches!(f.check(&x)?, Checked::Right { launches: 1.. }));
    Ok(())
}

#[test]
fn what_flows_back_to_a_tapped_value() -> Result<(), Error> {
    let f = compile(
        |x| {
            let (value, slope) = value_and_grad(x, |x| {
                let twice = (x.tap("own") * 2.0).tap("twice");
                // Two users, and one of another path: what flows back is all of it.
                let cube = twice.square().tap("square") * twice;
                (cube + x).sum(..).tap("loss")
            });
            (value, slope.tap("slope"), (x * 3.0).tap("beside"))
        },
        spec::<f32>(["n"]),
        &device(),
    )?;
    let x = floats([2], [0.5, -1.0]);
    let (tapped, taps) = f.call_tapped(&x)?;
    assert_eq!(tapped, f.call(&x)?);
    close(taps.get("twice")?, &[1.0, -2.0], 1e-6);
    close(taps.gradient("twice")?, &[3.0, 12.0], 1e-6);
    close(taps.gradient("square")?, &[1.0, -2.0], 1e-6);
    close(taps.gradient("loss")?, &[1.0], 1e-6);
    close(taps.gradient("own")?, &[7.0, 25.0], 1e-6);
    close(taps.get("slope")?, &[7.0, 25.0], 1e-6);
    for outside in ["slope", "beside"] {
        let error = taps.gradient(outside).expect_err("nothing differentiates it").to_string();
        assert!(error.contains("taps.rs") && error.contains("no derivative passes through it"), "{error}");
    }
    assert!(taps.gradient("none").expect_err("no such name").to_string().contains("there are: own, twice"));
    Ok(())
}

#[test]
fn the_innermost_derivative_flows_back() -> Result<(), Error> {
    let inner = |x: Tensor| grad(x, |x| (x.square().tap("square") * x).sum(..));
    let f = compile(|x: Tensor| grad(x, |x| inner(x).tap("slope").sum(..)), spec::<f32>([3]), &device())?;
    let (own, taps) = f.call_tapped(&floats([3], [1.0, 2.0, -1.0]))?;
    // (x^3)'' = 6x; d(s x)/ds = x; d sum(3x^2) / d(3x^2) = 1.
    close(&own, &[6.0, 12.0, -6.0], 1e-5);
    close(taps.gradient("square")?, &[1.0, 2.0, -1.0], 1e-6);
    close(taps.gradient("slope")?, &[1.0; 3], 1e-6);
    Ok(())
}

#[test]
fn what_flows_back_into_bodies_is_stacked() -> Result<(), Error> {
    let f = compile(
        |x: Tensor| {
            let (last, _) = scan(x.sum(..) * 0.0, x, |sum, x| ((sum + x.square().tap("outside")), ()));
            let product = grad(x, |x| {
                let (first, _) = scan(last * 0.0 + 1.0, x, |product, x| ((product * x.tap("factor")).tap("product"), ()));
                checkpoint(first, |y| (y * 3.0).tap("checked").square())
            });
            (product, last)
        },
        spec::<f32>([3]),
        &device(),
    )?;
    let x = floats([3], [2.0, 0.5, -3.0]);
    let (own, taps) = f.call_tapped(&x)?;
    assert_eq!(own, f.call(&x)?);
    // 9 p^2 of p = -3: 18 p = -54 at the last product.
    close(&own.0, &[81.0, 324.0, -54.0], 1e-3);
    close(taps.get("factor")?, &[2.0, 0.5, -3.0], 1e-6);
    close(taps.gradient("factor")?, &[81.0, 324.0, -54.0], 1e-3);
    close(taps.get("product")?, &[2.0, 1.0, -3.0], 1e-6);
    close(taps.gradient("product")?, &[81.0, 162.0, -54.0], 1e-3);
    close(taps.gradient("checked")?, &[-18.0], 1e-4);
    assert!(taps.gradient("outside").expect_err("not differentiated").to_string().contains("no derivative passes through it"));
    Ok(())
}

/// Layers that the compiler keeps once, as a function that it calls: what flows back to each is its own.
#[test]
fn what_flows_back_to_layers_that_are_kept_once() -> Result<(), Error> {
    const WIDTH: usize = 3;
    const LAYERS: usize = 10;
    let weight = |layer: usize| (0..WIDTH * WIDTH).map(move |place| ((place * 5 + layer * 7) % 11) as f64 / 8.0 - 0.5);
    let weights: Vec<Param> =
        (0..LAYERS).map(|layer| Param::new(floats([WIDTH, WIDTH], weight(layer).map(|w| w as f32)))).collect();
    let net = |x: Tensor| {
        grad(x, |x| {
            // Large enough that keeping it once is worth a call.
            let wave = |x: Tensor| (x * 0.9 + 0.05).sin();
            let layer = |x: Tensor, w: &Param| wave(wave(x.matmul(w.get()) * 0.5 + x)).tap("layer");
            weights.iter().fold(x, layer).square().sum(..)
        })
    };
    let mut module = trace(net, spec::<f32>(("n", WIDTH)))?.module().clone();
    let target = graver_ir::Target::generic();
    let mut cx = graver_passes::Cx { target: &target, remarks: Vec::new() };
    graver_passes::runner::run(&mut module, graver_passes::pipeline::GRAPH, &mut cx, &mut graver_passes::Silent, None)?;
    let text = graver_ir::text::print(&module);
    assert!(text.contains("tag = block"), "the layers are kept once: {text}");

    let x = [0.25f64, -1.0, 0.5];
    let f = compile(net, spec::<f32>(("n", WIDTH)), &device())?;
    let (own, taps) = f.call_tapped(&floats([1, WIDTH], x.map(|x| x as f32)))?;
    assert_eq!(own, f.call(&floats([1, WIDTH], x.map(|x| x as f32)))?);
    let wave = |y: f64| (y * 0.9 + 0.05).sin();
    let slope = |y: f64| 0.9 * (y * 0.9 + 0.05).cos();
    // What each layer is given, and what its waves are given.
    let (mut given, mut inner) = (vec![x.to_vec()], Vec::new());
    for layer in 0..LAYERS {
        let (w, x): (Vec<f64>, &[f64]) = (weight(layer).collect(), &given[layer]);
        let row = |to: usize| (0..WIDTH).map(|from| x[from] * w[from * WIDTH + to]).sum::<f64>() * 0.5 + x[to];
        inner.push((0..WIDTH).map(row).collect::<Vec<f64>>());
        given.push(inner[layer].iter().map(|y| wave(wave(*y))).collect());
    }
    let mut g: Vec<f64> = given[LAYERS].iter().map(|y| 2.0 * y).collect();
    for layer in (0..LAYERS).rev() {
        let name = if layer == 0 { "layer".to_owned() } else { format!("layer.{}", layer + 1) };
        close(taps.get(&name)?, &given[layer + 1], 1e-5);
        close(taps.gradient(&name)?, &g, 1e-4);
        let w: Vec<f64> = weight(layer).collect();
        let back: Vec<f64> = g.iter().zip(&inner[layer]).map(|(g, y)| g * slope(wave(*y)) * slope(*y)).collect();
        g = (0..WIDTH).map(|from| (0..WIDTH).map(|to| back[to] * w[from * WIDTH + to]).sum::<f64>() * 0.5 + back[from]).collect();
    }
    close(&own, &g, 1e-4);
    Ok(())
}

#[test]
fn what_flows_back_into_loops_in_loops_and_back_from_them() -> Result<(), Error> {
    let rows = |x: Tensor| {
        let whole = scan(x.sum(..) * 0.0, x, |sum, row| {
            let (inner, _) = scan(sum * 0.0, row, |inner, x| ((inner + x.square().tap("square")), ()));
            ((sum + inner.tap("row")), ())
        });
        whole.0
    };
    let f = compile(|x: Tensor| grad(x, |x| rows(x).square()), spec::<f32>(("n", 2)), &device())?;
    let (own, taps) = f.call_tapped(&floats([2, 2], [1.0, 2.0, 3.0, 4.0]))?;
    // 30^2: 2 30 at every square, and 2 x of that.
    close(&own, &[120.0, 240.0, 360.0, 480.0], 1e-3);
    close(taps.gradient("square")?, &[60.0; 4], 1e-3);
    close(taps.gradient("row")?, &[60.0; 2], 1e-3);
    assert_eq!(taps.gradient("square")?.shape(), [2, 2]);
    // A derivative that is taken in the body is one of that function.
    let each = compile(
        |x: Tensor| scan(x.sum(..), x, |sum, x| (sum, grad(x, |x| (x * x).tap("own").sin()))).1,
        spec::<f32>([2]),
        &device(),
    )?;
    let (_, taps) = each.call_tapped(&floats([2], [0.0, 1.0]))?;
    close(taps.gradient("own")?, &[1.0, 1f64.cos()], 1e-6);
    let vmapped = compile(|x: Tensor| grad(x, |x| vmap(x, |x| x.tap("lane").square()).sum(..)), spec::<f32>([3]), &device())?;
    let (_, taps) = vmapped.call_tapped(&floats([3], [1.0, 2.0, 3.0]))?;
    close(taps.gradient("lane")?, &[2.0, 4.0, 6.0], 1e-6);
    Ok(())
}
