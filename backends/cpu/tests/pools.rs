//! Code of pooling and its derivatives: elements are read and stored as whole vectors, however far apart windows are.

mod levels;

use std::sync::Arc;

use graver_cpu::Isa;
use graver_ir::op::{ReduceKind, Window, WindowAxis};
use graver_ir::{DType, Dim, Module, Op};
use graver_runtime::{Backend, Stage};
use graver_testkit::Build;

/// The derivative of pooling planes, whose last axis is channels if they are `last`.
fn gradient(kind: ReduceKind, [size, padding]: [i64; 2], last: bool) -> Module {
    let mut b = Build::new("pool");
    let axis = WindowAxis { size, stride: 2, dilation: 1, low: Dim::from(padding), high: Dim::from(padding) };
    let mut axes = vec![WindowAxis::IDENTITY; 4];
    let (shape, first) = if last { ([2usize, 40, 76, 64], 1) } else { ([2, 5, 40, 76], 2) };
    axes[first..first + 2].fill(axis);
    let x = b.arg("x", DType::F32, shape);
    let z = b.add(Op::Window(Window { kind, axes }), &[x]);
    let cotangent = b.arg("cotangent", DType::F32, b.ty(z).shape.0.clone());
    let gradient = b.vjp(&[z], &[cotangent], &[x]);
    b.finish_all(&gradient)
}

#[test]
fn derivatives_of_pooling_pick_nothing_out_lane_by_lane() {
    for cpu in levels::cpus(1).into_iter().filter(|cpu| cpu.isa() != Isa::Baseline) {
        for (kind, window, last) in [ReduceKind::Max, ReduceKind::Sum]
            .into_iter()
            .flat_map(|kind| [[2, 0], [3, 1]].map(|window| (kind, window)))
            .flat_map(|(kind, window)| [false, true].map(|last| (kind, window, last)))
        {
            let module = gradient(kind, window, last);
            let program = graver_passes::pipeline::compile(module, &cpu.describe(), &mut graver_passes::Silent);
            let executable = cpu.compile(Arc::new(program.expect("it compiles"))).expect("it compiles");
            let kernels = executable.program().kernels.len();
            let what = format!("level {}, {kind:?}, {window:?}, channels last: {last}", cpu.isa());
            assert_eq!(kernels, if kind == ReduceKind::Max { 2 } else { 1 }, "{what}");
            // The last kernel is the one that writes elements.
            let asm = executable.dump(kernels - 1, Stage::Asm).expect("there is a kernel");
            let apart: Vec<&str> = asm.lines().filter(|line| line.contains("gather") || line.contains("scatter")).collect();
            assert!(apart.is_empty() && asm.lines().count() > 20, "{what}: {apart:?}");
        }
    }
}
