//! What users are told: where, what, both sides, what to do.

use graver_trace::{Array, DType, Param, concat, scope, spec, step, symbol, trace};

use crate::common::error;

#[test]
fn shapes_dtypes_and_axes() {
    let (x, y) = (|| spec::<f32>(("n", 3)), || spec::<f32>(("n", 4)));
    check(
        &error(|(x, y)| x * y, (x(), y())),
        "mul: shapes do not broadcast: f32[n, 3] and f32[n, 4] differ at axis -1, 3 and 4; only a size of 1 stretches",
    );
    check(
        &error(|(x, y)| x.matmul(y), (x(), y())),
        "matmul: contracting sizes differ, lhs f32[n, 3] axis 1 = 3, rhs f32[n, 4] axis 0 = n",
    );
    check(&error(|x| x.sum(2), x()), "sum: there is no axis 2 in f32[n, 3], which has rank 2");
    check(
        &error(|(x, y)| x + y, (x(), spec::<f64>(("n", 3)))),
        "add: element types differ: f32[n, 3] and f64[n, 3]; cast one of them: `.cast(DType::F32)`",
    );
    check(&error(|x| x.reshape((-1, 2)), x()), "reshape: 3*n elements are not known to be a multiple of the other sizes' 2");
    check(&error(|x| x.chunk(0, 1)[0], x()), "chunk: axis 1 of f32[n, 3] is not known to split into 0 equal parts");
    check(&error(|x| x + 0.5, spec::<i64>([3])), "constant: the number 0.5 is no i64");
}

/// The message after a place in this file.
#[track_caller]
fn check(found: &str, expected: &str) {
    let (place, message) = found.split_once(": ").expect("a place and a message");
    assert!(place.starts_with("crates/trace/tests/trace/errors.rs:"), "{found}");
    assert_eq!(message, expected);
}

#[test]
fn the_place_is_the_line_of_the_operation() {
    let line = line!() + 3;
    let found = error(
        |x| {
            let y = x.exp().sum(1);
            y + 1.0
        },
        spec::<f32>(["n"]),
    );
    assert!(found.starts_with(&format!("crates/trace/tests/trace/errors.rs:{line}:29: sum: ")), "{found}");
}

#[test]
fn a_transposed_matrix_is_recognised() {
    let found = error(|(x, w)| x.matmul(w), (spec::<f32>(("n", 784)), spec::<f32>((10, 784))));
    assert!(
        found.ends_with("lhs f32[n, 784] axis 1 = 784, rhs f32[10, 784] axis 0 = 10; transpose the right side: `.t()`?"),
        "{found}"
    );
}

#[test]
fn symbols_never_stretch_and_are_no_numbers() {
    let found = error(|(x, y)| x + y, (spec::<f32>(["n"]), spec::<f32>(["m"])));
    assert!(found.contains("n and m; sizes that are not equal as expressions never broadcast"), "{found}");
    check(
        &error(|x| x.reshape([x.dim(0).number()]), spec::<f32>(["n"])),
        "size: the size n is not known before the call, and cannot be a number here; \
         compute with the size itself, or declare the axis with a number",
    );
    let found = error(|(x, _)| x, (spec::<f32>([symbol("n", 1..=4)]), spec::<f32>([symbol("n", 1..=8)])));
    assert!(found.ends_with("spec: the size `n` is declared as 1..=8 here, and as 1..=4 before"), "{found}");
    #[expect(clippy::reversed_empty_ranges, reason = "the mistake")]
    let found = error(|x| x, spec::<f32>([symbol("n", 5..=1)]));
    assert!(found.contains("tests/trace/errors.rs:"), "{found}");
    let said = "symbol: the size `n` is declared as 5..=1, in which there is no size; the least comes first: 1..=5";
    assert!(found.ends_with(said), "{found}");
}

#[test]
fn one_mistake_is_told_once_and_independent_ones_together() {
    let found = error(
        |x| {
            let broken = x.sum(5).relu() + x;
            let also = x.transpose(0, 7);
            broken * also.exp()
        },
        spec::<f32>(["n"]),
    );
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 2, "{found}");
    assert!(lines[0].contains("sum: there is no axis 5") && lines[1].contains("transpose: there is no axis 7"), "{found}");
}

#[test]
fn a_query_on_a_poisoned_tensor_ends_the_trace_quietly() {
    let found = error(|x| x.sum(3).reshape([x.sum(3).rank()]), spec::<f32>(["n"]));
    assert!(found.contains("sum: there is no axis 3"), "{found}");
    // The thread is clean afterwards.
    assert_eq!(error(|x| x, spec::<f32>(["n"])), "no error");
}

#[test]
fn at_most_twenty_errors() {
    let found = error(|x| (1..50).map(|axis| x.sum(axis)).collect::<Vec<_>>(), spec::<f32>(["n"]));
    assert_eq!(found.lines().count(), 20);
}

#[test]
fn a_panic_in_the_closure_leaves_the_thread_clean() {
    let caught = std::panic::catch_unwind(|| {
        drop(trace(|x| if x.rank() == 1 { std::panic::resume_unwind(Box::new(7)) } else { x }, spec::<f32>(["n"])))
    });
    assert!(caught.expect_err("the closure panics").is::<i32>());
    assert!(!graver_trace::is_tracing());
}

#[test]
fn a_tensor_outside_of_its_trace_is_refused() {
    let mut leaked = None;
    assert_eq!(error(|x| *leaked.insert(x), spec::<f32>(["n"])), "no error");
    let leaked = leaked.expect("the closure ran");
    let found = error(|x| x + leaked, spec::<f32>(["n"]));
    assert!(found.contains("a tensor of another trace is used here"), "{found}");
}

#[test]
fn scopes_and_library_lines() {
    let traced = trace(|x| scope("encoder", || scope("mlp", || [x].map(graver_trace::Tensor::exp))), spec::<f32>(["n"]));
    let traced = traced.expect("a good program");
    let (_, main) = traced.module().entry().expect("an entry");
    let exp = main.graph.nodes().find(|id| main.graph.op(*id).name() == "exp").expect("exp was recorded");
    let place = main.graph.loc(exp).place().expect("a known place");
    assert_eq!((place.file.as_str(), place.scope.as_str()), ("crates/trace/tests/trace/errors.rs", "encoder.mlp"));
}

#[test]
fn composites_are_checked_where_they_are_called() {
    let found = error(|(x, y)| x.cross_entropy(y), (spec::<f32>(("n", 10)), spec::<f32>(["n"])));
    assert!(found.contains("errors.rs") && found.contains("cross_entropy: labels are integers, got f32[n]"), "{found}");
    let found = error(|(x, w)| x.layer_norm(w, w, 1e-5), (spec::<f32>(("n", 8)), spec::<f32>([4])));
    assert!(found.contains("layer_norm: the weight of f32[n, 8] must be f32[8], got f32[4]"), "{found}");
    let found = error(|x| x.conv2d(x, graver_trace::ConvOptions::new()), spec::<f32>([2, 3, 4]));
    assert!(found.contains("conv2d: takes images [n, c, h, w]"), "{found}");
    let found = error(|(x, y)| concat(&[x, y], 0), (spec::<f32>(("n", 3)), spec::<f32>(("n", 4))));
    assert!(found.contains("concat: f32[n, 3] and f32[n, 4] differ in more than axis 0"), "{found}");
}

#[test]
fn updates_belong_to_steps() {
    let weight = Param::new(Array::scalar(1.0f32));
    let found = error(
        |x| {
            weight.set(weight.get() * 2.0);
            x
        },
        spec::<f32>(["n"]),
    );
    assert!(found.contains("set: `param` is updated in a function that keeps its state; trace it with step"), "{found}");
    let mistyped = step(spec::<f32>([2]), |x| weight.set(x)).model("scale", &weight).trace::<()>();
    assert!(mistyped.expect_err("a scalar").to_string().contains("set: `scale` is f32[] and cannot become f32[2]"));
}

#[test]
fn a_call_with_wrong_inputs() {
    let traced = trace(|xs: Vec<_>| xs[0], vec![spec::<f32>(["n"]), spec::<f32>(["n"])]).expect("a good program");
    let x = Array::from_vec([1], vec![1.0f32]).expect("one value");
    let found = traced.arguments(vec![&x]).expect_err("one of two").to_string();
    assert_eq!(found, "call: 2 inputs were declared where the call gives 1");
}

#[test]
fn sizes_of_arguments_are_checked() {
    assert!(error(|x| x, spec::<f32>([-1])).contains("spec: the size of an argument is a number of 0 or more, or a symbol"));
    let found = error(|x| graver_trace::zeros(["m"], DType::F32) + x, spec::<f32>(["n"]));
    assert!(found.contains("zeros: no input declares the size `m`"), "{found}");
}
