//! How many kernels nets become, and which.

use graver_ir::DType::{F32, F64, I8, I64};
use graver_ir::kernel::{KernelBody, Launch, Program};
use graver_ir::op::{DotAxes, ReduceKind, Window, WindowAxis};
use graver_ir::{Dim, Module, Op, ScalarFn, Value};

use crate::common::{check_meaning, compiled};
use crate::nets::{Net, cnn_step, deep_mlp_step, mlp, transformer_block};

/// One line a launch: kind, name, stages.
pub(crate) fn launches(program: &Program) -> Vec<String> {
    let line = |launch: &Launch| {
        let kernel = program.kernel(launch.kernel);
        match &kernel.body {
            KernelBody::Nest(nest) => format!("nest {} {}", nest.stages.len(), kernel.name),
            KernelBody::Contract(contract) => format!("contract {} {}", contract.stores.len(), kernel.name),
            KernelBody::Scatter(_) => format!("scatter {}", kernel.name),
            KernelBody::Sort(_) => format!("sort {}", kernel.name),
            KernelBody::Prefix(_) => format!("prefix {}", kernel.name),
            KernelBody::Attend(attend) => format!("attend {} {}", attend.sums.len(), kernel.name),
        }
    };
    graver_ir::kernel::launches(&program.entries[0].steps).into_iter().map(line).collect()
}

/// The launches are these.
pub(crate) fn check(module: &Module, expected: &[&str]) {
    assert_eq!(launches(&compiled(module)), expected);
}

fn of(build: impl FnOnce(&mut Net, Value) -> Value) -> Module {
    let mut net = Net::new(F32);
    let x = net.b.arg("x", F32, ("n", 32));
    let y = build(&mut net, x);
    net.finish([y])
}

#[test]
fn a_forward_pass_is_its_contractions() {
    check(&mlp(F32), &["contract 1 dot_relu", "contract 1 dot"]);
}

/// Each operand is stored where it belongs: what is done at a point does not grow with their number, and neither does the code.
#[test]
fn many_operands_are_concatenated_one_by_one() {
    for (count, kernels, times) in [(8, 1, 1), (30, 2, 30)] {
        let mut net = Net::new(F32);
        let operands: Vec<Value> = (0..count).map(|place| net.b.arg(&format!("x{place}"), F32, ("n", 3))).collect();
        let y = net.b.add(Op::Concat(1), &operands);
        let module = net.finish([y]);
        let program = compiled(&module);
        assert_eq!((program.kernels.len(), launches(&program).len()), (kernels, times), "{count} operands");
        check_meaning("many operands", &module);
    }
}

/// Of what a reshape of computed values merges, no element's place takes a quotient.
#[test]
fn what_is_summed_over_merged_axes_is_summed_over_each() {
    let mut net = Net::new(F32);
    let (x, codes, scale) = (net.b.arg("x", F32, ("n", 24)), net.b.arg("w", I8, [8, 24]), net.b.arg("s", F32, [8, 3]));
    let codes = net.b.cast(F32, codes);
    let (groups, scale) = (net.b.reshape(codes, [8, 3, 8]), net.b.broadcast(scale, [8, 3, 8], [0, 1]));
    let scaled = net.b.map(ScalarFn::Mul, [groups, scale]);
    let weight = net.b.reshape(scaled, [8, 24]);
    let y = net.b.dot(x, weight, DotAxes { lhs_contract: vec![1], rhs_contract: vec![1], ..DotAxes::default() });
    let module = net.finish([y]);
    let program = compiled(&module);
    let [KernelBody::Contract(contract)] = program.kernels.iter().map(|kernel| &kernel.body).collect::<Vec<_>>()[..] else {
        panic!("one contraction: {program:#?}")
    };
    assert_eq!(contract.k.iter().map(|axis| contract.axes[axis].as_const()).collect::<Vec<_>>(), [Some(3), Some(8)]);
    let text = format!("{program:#?}");
    assert!(["floordiv", "FloorDiv", " mod ", "Mod("].iter().all(|quotient| !text.contains(quotient)), "{text}");
    check_meaning("merged axes", &module);
}

#[test]
fn a_softmax_is_one_nest() {
    check(&of(Net::softmax), &["nest 3 max_exp_sum"]);
}

#[test]
fn a_layer_norm_is_one_nest() {
    check(&of(|net, x| net.layer_norm(x, 32)), &["nest 3 sum_rsqrt"]);
}

#[test]
fn a_step_of_a_convolutional_net() {
    let steps = [
        "contract 2 conv_relu",
        "nest 2 window_window_arg",
        "contract 2 conv_relu",
        "nest 2 window_window_arg",
        "contract 2 dot_relu",
        "contract 1 dot",
        // With the gradient of the last bias: what fails, as labels may, writes no parameter.
        "nest 6 max_exp_sum_log",
        "nest 2 sum",
        // Each gradient of a parameter ends in its update: two stores.
        "contract 1 dot",
        "nest 1 mul_add_sub",
        "contract 2 dot",
        "nest 2 sum",
        "contract 1 dot",
        "contract 2 dot",
        "nest 1 window_put",
        "nest 2 sum",
        "contract 1 conv",
        "contract 2 conv",
        "nest 1 window_put",
        "nest 2 sum",
        "contract 2 conv",
    ];
    check(&cnn_step(F32), &steps);
}

#[test]
fn cross_entropy_and_its_gradient_are_rows_and_a_mean() {
    let mut net = Net::new(F32);
    let (x, labels) = (net.b.arg("x", F32, ("n", 10)), net.b.arg("labels", I64, ["n"]));
    let logits = net.b.add(Op::Alias, &[x]);
    let loss = net.cross_entropy(logits, labels);
    let seed = net.b.scalar(F32, 1.0);
    let gradient = net.b.vjp(&[loss], &[seed], &[logits]);
    check(&net.finish([loss, gradient[0]]), &["nest 4 max_exp_sum_log", "nest 2 sum"]);
}

#[test]
fn a_map_that_two_contractions_read_is_computed_once() {
    let y = of(|net, x| {
        let y = net.b.map(ScalarFn::Exp, [x]);
        net.b.dot(y, y, graver_ir::op::DotAxes { lhs_contract: vec![0], rhs_contract: vec![0], ..Default::default() })
    });
    check(&y, &["nest 1 exp", "contract 1 dot"]);
}

#[test]
fn attention_is_a_kernel_or_its_contractions_and_its_rows() {
    let steps = [
        "nest 3 sum_rsqrt",
        "contract 1 dot",
        "contract 1 dot",
        "contract 1 dot",
        "attend 1 attend",
        "nest 1 permute",
        "contract 1 dot",
    ];
    check(&transformer_block(F32), &steps);
    // No kernel computes in doubles.
    let steps = [
        "nest 3 sum_rsqrt",
        "contract 1 dot",
        "contract 1 dot",
        "contract 1 dot",
        "contract 1 dot",
        "nest 3 max_exp_sum",
        "contract 1 dot",
        "contract 1 dot",
    ];
    check(&transformer_block(F64), &steps);
}

#[test]
fn nets_mean_the_same() {
    check_meaning("cnn", &cnn_step(F64));
    check_meaning("mlp", &deep_mlp_step(F64));
    check_meaning("attention", &transformer_block(F64));
}

/// Cotangents that are set apart are not stored so: each element asks the windows that hold it, by the remainders of its position.
#[test]
fn a_derivative_of_average_pooling_is_one_nest() {
    for [size, stride, padding] in [[2, 2, 0], [3, 2, 1], [3, 3, 0], [3, 4, 1]] {
        let mut net = Net::new(F32);
        let x = net.b.arg("x", F32, ("n", 3, 25, 26));
        let axis = WindowAxis { size, stride, dilation: 1, low: Dim::from(padding), high: Dim::from(padding) };
        let axes = vec![WindowAxis::IDENTITY, WindowAxis::IDENTITY, axis.clone(), axis];
        let sum = net.b.add(Op::Window(Window { kind: ReduceKind::Sum, axes }), &[x]);
        let shape = net.b.ty(sum).shape.0.clone();
        let share = net.b.full(F32, shape.clone(), 0.25);
        let mean = net.b.map(ScalarFn::Mul, [sum, share]);
        let cotangent = net.b.arg("cotangent", F32, shape);
        let gradient = net.b.vjp(&[mean], &[cotangent], &[x]);
        let module = net.finish([gradient[0]]);
        check(&module, &["nest 2 window"]);
        check_meaning("a derivative of average pooling", &module);
    }
}
