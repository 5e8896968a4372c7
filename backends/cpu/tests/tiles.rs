//! What the code of tiles looks like: sums in registers, whatever comes after them.

mod levels;

use std::sync::Arc;

use graver_ir::op::DotAxes;
use graver_ir::{DType, Module, ScalarFn};
use graver_runtime::{Backend, Stage};
use graver_testkit::Build;

/// `erf(x y)`, multiplied so often by `x y`, in several chunks of `k`.
fn product_and_erf(times: usize) -> Module {
    let mut b = Build::new("product");
    let (x, y) = (b.arg("x", DType::F32, [96, 1536]), b.arg("y", DType::F32, [1536, 192]));
    let axes = DotAxes { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![1], rhs_contract: vec![0] };
    let product = b.dot(x, y, axes);
    let mut result = b.map(ScalarFn::Erf, [product]);
    for _ in 0..times {
        result = b.map(ScalarFn::Mul, [result, product]);
    }
    b.finish([result])
}

/// What comes after the loop over `k`, be it long or but one function, which is long itself, takes no registers of that loop.
#[test]
fn sums_stay_in_registers_whatever_comes_after_them() {
    let cpus = || levels::cpus(1).into_iter().filter(|cpu| cpu.isa() != graver_cpu::Isa::Baseline);
    for (cpu, times) in cpus().flat_map(|cpu| [(cpu.clone(), 12), (cpu, 0)]) {
        let program = graver_passes::pipeline::compile(product_and_erf(times), &cpu.describe(), &mut graver_passes::Silent);
        let executable = cpu.compile(Arc::new(program.expect("it compiles"))).expect("it compiles");
        assert_eq!(executable.program().kernels.len(), 1, "the epilogue is the product's");
        let asm = executable.dump(0, Stage::Asm).expect("there is a kernel");
        let lines: Vec<&str> = asm.lines().collect();
        let products = |block: &[&str]| block.iter().filter(|line| line.contains("vfmadd")).count();
        let jumps = |line: &&str| line.split_once(": ").is_some_and(|(_, code)| code.starts_with('j'));
        let block = lines.split(jumps).max_by_key(|block| products(block)).expect("there are loops");
        assert!(products(block) >= 4 * 12, "the loop over `k` is unrolled: {block:#?}");
        let spilled: Vec<&&str> = block.iter().filter(|line| line.contains(": vmov") && line.contains("[rsp")).collect();
        assert!(spilled.is_empty(), "level {}, {times} times: {spilled:#?}", cpu.isa());
    }
}
