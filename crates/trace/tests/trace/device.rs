//! Compiled programs from end to end, with the interpreter of kernels as the device.

use std::sync::Arc;

use graver_interp::Interp;
use graver_ir::Sizes;
use graver_trace::{
    Array, Compiled, Device, Error, Module, Param, Step, StepFn, Tensor, TensorSpec, TrainState, compile, scan, spec, step,
    value_and_grad,
};

use crate::common::{close, floats, ints};

fn device() -> Device {
    Device::new(Arc::new(Interp::default()))
}

#[derive(Module)]
struct Scale {
    weight: Param,
}

impl Scale {
    fn new(weight: f32) -> Self {
        Self { weight: Param::new(Array::scalar(weight)) }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        self.scope(|| x * &self.weight)
    }
}

type Fit = Step<(TensorSpec, TensorSpec), (Tensor, Tensor)>;

/// Fits `y = w x`, and looks up `x` at `at`, which may fail.
fn fit(model: &Scale) -> Result<Fit, Error> {
    step((spec::<f32>(["n"]), spec::<i64>(["m"])), |(x, at)| {
        let (loss, grad) = value_and_grad(model, |model| model.forward(x).mse(x * 3.0));
        for (_, param, grad) in grad.iter() {
            param.set(param.get() - grad * 0.1);
        }
        (loss, x.index_select(0, at))
    })
    .model("", model)
    .compile(&device())
}

#[test]
fn a_step_trains_and_a_function_reads_its_state() -> Result<(), Error> {
    let mut model = Scale::new(0.0);
    let mut train = fit(&model)?;
    let eval = compile(|x| model.forward(x), spec::<f32>(["n"]), &device())?;
    let (x, at) = (floats([2], [1.0, -1.0]), ints([1], [0]));
    let (first, found) = train.run((&x, &at))?;
    close(&first, &[9.0], 1e-6);
    close(&found, &[1.0], 0.0);
    let (second, _) = train.run((&x, &at))?;
    assert!(second.item()? < 9.0);
    // The model is as it was until it is written to; the living state is ahead.
    close(&eval.call(&x)?, &[0.0, 0.0], 0.0);
    let weight = train.state().at("weight").expect("a slot").item()?;
    close(&eval.call_with(train.state(), &x)?, &[weight, -weight], 1e-6);
    train.write_to(&mut model)?;
    close(&eval_of(&model)?.call(&x)?, &[weight, -weight], 1e-6);
    Ok(())
}

fn eval_of(model: &Scale) -> Result<Compiled<TensorSpec, Tensor>, Error> {
    compile(|x| model.forward(x), spec::<f32>(["n"]), &device())
}

#[test]
fn a_failed_call_leaves_the_state() -> Result<(), Error> {
    let model = Scale::new(0.5);
    let (function, state) = fit(&model)?.split();
    let x = floats([2], [1.0, -1.0]);
    let (state, error) = function.call(state, (&x, &ints([1], [2]))).expect_err("2 is not below 2");
    assert!(error.to_string().contains("crates/trace/tests/trace/device.rs"), "{error}");
    assert_eq!(state.at("weight").expect("a slot").item()?, 0.5);
    let (state, (loss, _)) = function.call(state, (&x, &ints([1], [1]))).map_err(|(_, error)| error)?;
    close(&loss, &[6.25], 1e-6);
    assert_ne!(state.at("weight").expect("a slot").item()?, 0.5);
    let (_, error) = function.call(TrainState::default(), (&x, &ints([1], [1]))).expect_err("an empty state");
    assert!(error.to_string().contains("the state is not this step's"), "{error}");
    Ok(())
}

#[test]
fn another_step_goes_on_with_a_state() -> Result<(), Error> {
    let model = Scale::new(0.5);
    let mut train = fit(&model)?;
    train.state_mut().set("weight", Array::scalar(2.0f32))?;
    assert!(train.state_mut().set("weight", Array::scalar(2.0f64)).is_err());
    assert!(train.state_mut().set("nothing", Array::scalar(2.0f32)).is_err());
    let (_, state) = train.split();
    let doubling =
        step((), |()| model.weight.set(model.weight.get() * 2.0)).model("", &model).state(state).compile::<()>(&device());
    let mut doubling = doubling?;
    doubling.run(())?;
    assert_eq!(doubling.state().at("weight").expect("a slot").item()?, 4.0);
    Ok(())
}

#[test]
fn what_a_call_is_told() -> Result<(), Error> {
    let add = compile(|(x, y)| x + y, (spec::<f32>(("n", 2)).named("left"), spec::<f32>(("n", 2))), &device())?;
    let (two, three) = (floats([2, 2], [1.0; 4]), floats([3, 2], [1.0; 6]));
    let told = |x: &Array, y: &Array| add.call((x, y)).expect_err("they do not fit").to_string();
    let sizes = told(&two, &three);
    assert!(sizes.contains("left") && sizes.contains('2') && sizes.contains('3'), "{sizes}");
    let dtypes = told(&two, &ints([2, 2], [1; 4]));
    assert!(dtypes.contains("input 1") && dtypes.contains("i64"), "{dtypes}");
    close(&add.call((&two, &two))?, &[2.0; 4], 0.0);
    // A batch of none is nothing special.
    assert_eq!(add.call((&floats([0, 2], []), &floats([0, 2], [])))?.shape(), [0, 2]);
    Ok(())
}

#[test]
fn the_compiled_thing_can_be_asked() -> Result<(), Error> {
    // The shares are in memory before they are summed up.
    let f = compile(|x| x.softmax(1).cumsum(0).sum(0), spec::<f32>(("n", 8)), &device())?;
    assert!(f.module_text().contains("softmax"), "{}", f.module_text());
    let inlined = f.dump("inline").expect("a pass of this name");
    assert!(inlined.contains("exp") && !inlined.contains("call"), "{inlined}");
    assert_eq!(f.dump("no such pass"), None);
    assert!(!f.kernels().is_empty() && f.program().entries.len() == 1);
    let bytes = |n: i64| f.peak_bytes(&Sizes::from([("n".to_owned(), n)]));
    assert!(bytes(100)? >= bytes(1)? && f.peak_bytes(&Sizes::new()).is_err());
    assert!(f.report().passes.iter().any(|pass| pass.pass == "fuse"));
    let stages: Vec<&str> = f.report().stages.iter().map(|(stage, _)| *stage).collect();
    assert_eq!(stages, ["lower", "schedule", "reuse", "plan"]);
    Ok(())
}

#[test]
fn many_threads_call_one_function() -> Result<(), Error> {
    fn shared<T: Send + Sync>(_: &T) {}
    let f = compile(|x| (x * 2.0).sum(..), spec::<f32>(["n"]), &device())?;
    shared(&f);
    let call = |n: usize| f.call(&floats([n], vec![1.0; n])).and_then(|sum| Ok(sum.item()?));
    std::thread::scope(|threads| {
        let calls: Vec<_> = (0..4).map(|n| threads.spawn(move || call(n))).collect();
        for (n, thread) in calls.into_iter().enumerate() {
            assert_eq!(thread.join().expect("no panic"), Ok(2.0 * n as f64));
        }
    });
    Ok(())
}

#[test]
fn steps_may_move_to_other_threads() {
    fn movable<T: Send>() {}
    movable::<Step<TensorSpec, Tensor>>();
    movable::<StepFn<TensorSpec, Tensor>>();
    movable::<TrainState>();
}

#[test]
fn a_range_that_does_not_fit_the_sizes_of_a_call_is_an_error() -> Result<(), Error> {
    let f = compile(|x| x.slice(0, ..5).sum(..), spec::<f32>(["n"]), &device())?;
    close(&f.call(&floats([6], [1.0; 6]))?, &[5.0], 0.0);
    let error = f.call(&floats([3], [1.0; 3])).expect_err("3 elements have no first five").to_string();
    let expected = "slice: axis 0 of f32[n]: 5 elements from 0 by 1 do not lie inside where n = 3";
    assert!(error.contains("device.rs") && error.ends_with(expected), "{error}");
    let last = compile(|x| x.argmax(0), spec::<f32>(["n"]), &device())?;
    close(&last.call(&floats([2], [0.0, 1.0]))?, &[1.0], 0.0);
    let error = last.call(&floats([0], [])).expect_err("nothing has no greatest").to_string();
    assert!(error.ends_with("arg_reduce: axis 0 of f32[n] is empty where n = 0"), "{error}");
    Ok(())
}

/// One loop gives up a result of another that it no longer reads, in a loop: every function that is made anew has a name of its own.
#[test]
fn loops_in_loops_are_narrowed() -> Result<(), Error> {
    let f = |xs: Tensor| {
        let outer = scan(xs.sum(1).select(0, 0), xs, |carry, row| {
            let zero = row.select(0, 0) * 0.0;
            let (sum, steps) = scan(zero, row, |c, x| (c + x, c * x));
            let (sum, twice) = scan(sum, (row, steps), |c, (x, s)| (c + x, s * 2.0));
            (carry, (sum, twice))
        });
        outer.1.0
    };
    let f = compile(f, spec::<f32>([2, 3]), &device())?;
    close(&f.call(&floats([2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))?, &[12.0, 30.0], 1e-6);
    Ok(())
}
