//! What code looks like: sums of tiles in registers, whatever comes after them; what lies near read as whole vectors.

mod levels;

use std::sync::Arc;

use graver_cpu::{Cpu, Dots};
use graver_ir::op::{Conv, ConvAxis, DotAxes, ReduceKind};
use graver_ir::{DType, Dim, Module, Op, ScalarFn, Value};
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

/// The machine code of 3x3 windows a channel, or of the gradient of their weights.
fn windows(cpu: &Cpu, layout: [usize; 4], is_gradient: bool) -> String {
    let axis = ConvAxis { stride: 1, low: Dim::ONE, high: Dim::ONE, kernel_dilation: 1, input_dilation: 1 };
    let axes = vec![axis.clone(), axis];
    let (input, output, kernel) = (layout.to_vec(), layout.to_vec(), vec![0, 1, 2, 3]);
    let conv = Conv { input, kernel, output, axes, groups: 64, batch_groups: 1 };
    let mut b = Build::new("windows");
    let (x, w) = (b.arg("x", DType::F32, [2, 64, 64, 64]), b.arg("w", DType::F32, [64, 1, 3, 3]));
    let z = b.add(Op::Conv(conv), &[x, w]);
    let results = if is_gradient {
        let cotangent = b.arg("cotangent", DType::F32, [2, 64, 64, 64]);
        b.vjp(&[z], &[cotangent], &[w])
    } else {
        vec![z]
    };
    let program = graver_passes::pipeline::compile(b.finish_all(&results), &cpu.describe(), &mut graver_passes::Silent);
    let executable = cpu.compile(Arc::new(program.expect("it compiles"))).expect("it compiles");
    executable.dump(0, Stage::Asm).expect("there is a kernel")
}

/// The shortest loop of 72 products, of eight rows at nine places, in which nothing is asked.
fn loop_of_windows(asm: &str) -> Vec<&str> {
    let lines: Vec<&str> = asm.lines().collect();
    let jumps = |line: &&str| line.split_once(": ").is_some_and(|(_, code)| code.starts_with('j'));
    let is_whole = |block: &&[&str]| block.iter().filter(|line| line.contains("vfmadd")).count() == 72;
    let asks = |block: &&[&str]| block.iter().any(|line| line.contains("{k1}{z}"));
    let blocks = lines.split(jumps).filter(is_whole).filter(|block| !asks(block));
    blocks.min_by_key(|block| block.len()).expect("there is a loop").to_vec()
}

/// How many vectors a loop reads.
fn vectors_read(block: &[&str]) -> usize {
    let is_read = |line: &&&str| {
        let vector = line.contains(": vmovups zmm") || line.contains("vfmadd");
        vector && line.split_once(',').is_some_and(|(_, from)| from.contains('['))
    };
    block.iter().filter(is_read).count()
}

/// Eight rows of 3x3 windows a channel read ten rows, each at three places; nothing else is read in the loop, but at its edges.
#[test]
fn what_neighbouring_windows_share_is_read_once() {
    for cpu in levels::cpus(1).into_iter().filter(|cpu| cpu.isa() == graver_cpu::Isa::V4) {
        for layout in [[0, 1, 2, 3], [0, 3, 1, 2]] {
            let asm = windows(&cpu, layout, false);
            let block = loop_of_windows(&asm);
            let weights = if layout[1] == 1 { 0 } else { 9 };
            assert_eq!(vectors_read(&block), 30 + weights, "{layout:?}: {block:#?}");
        }
    }
}

/// The gradient of their weights reads the same, and eight rows of what they are multiplied by: a vector for two products. Sums are in registers, or, where
/// channels go over lanes, read and stored once; then all places are a few addresses and constants.
#[test]
fn gradients_of_weights_read_everything_once() {
    for cpu in levels::cpus(1).into_iter().filter(|cpu| cpu.isa() == graver_cpu::Isa::V4) {
        for layout in [[0, 1, 2, 3], [0, 3, 1, 2]] {
            let asm = windows(&cpu, layout, true);
            let block = loop_of_windows(&asm);
            let is_first = layout[1] == 1;
            assert_eq!(vectors_read(&block), 30 + 8 + if is_first { 0 } else { 9 }, "{layout:?}: {block:#?}");
            let scalar = block.iter().filter(|line| !line.contains(": v")).count();
            assert!(is_first || scalar < 10, "{layout:?}: {block:#?}");
            let spilled = block.iter().filter(|line| line.contains(": vmov") && line.contains("[rsp")).count();
            assert_eq!(spilled, 0, "{layout:?}: {block:#?}");
        }
    }
}

/// Whole numbers that 16 bits hold are multiplied two at a time, their sums in registers.
#[test]
fn narrow_products_are_sums_of_two() {
    for cpu in levels::with_dots(1).into_iter().filter(|cpu| cpu.isa() != graver_cpu::Isa::Baseline) {
        for (dtype, plain) in [(DType::I8, "vpmaddwd"), (DType::BF16, "vfmadd")] {
            let mut b = Build::new("narrow");
            let (x, y) = (b.arg("x", dtype, [96, 512]), b.arg("y", dtype, [512, 192]));
            let sides = if dtype == DType::I8 { [x, y].map(|side| b.cast(DType::I32, side)) } else { [x, y] };
            let product = b.matmul(sides[0], sides[1]);
            let program = graver_passes::pipeline::compile(b.finish([product]), &cpu.describe(), &mut graver_passes::Silent);
            let executable = cpu.compile(Arc::new(program.expect("it compiles"))).expect("it compiles");
            let asm = executable.dump(0, Stage::Asm).expect("there is a kernel");
            // Twelve sums, four steps, or two tiles by two.
            let (dots, least) = match (dtype, cpu.dots()) {
                (_, Dots::Plain) | (DType::BF16, Dots::Vnni) => (plain, 48),
                (DType::BF16, Dots::Bf16) => ("vdpbf16ps", 48),
                (_, Dots::Vnni | Dots::Bf16) => ("vpdpwssd", 48),
                (DType::BF16, Dots::Amx) => ("tdpbf16ps", 4),
                (_, Dots::Amx) => ("tdpbssd", 4),
            };
            let lines: Vec<&str> = asm.lines().collect();
            let jumps = |line: &&str| line.split_once(": ").is_some_and(|(_, code)| code.starts_with('j'));
            let products = |block: &[&str]| block.iter().filter(|line| line.contains(dots)).count();
            let block = lines.split(jumps).max_by_key(|block| products(block)).expect("there are loops");
            assert!(products(block) >= least, "{dtype}, {}, {}: {block:#?}", cpu.isa(), cpu.dots());
            let spilled: Vec<&&str> = block.iter().filter(|line| line.contains(": vmov") && line.contains("[rsp")).collect();
            assert!(spilled.is_empty(), "{dtype}, {}, {}: {spilled:#?}", cpu.isa(), cpu.dots());
        }
    }
}

/// Where vectors have sixteen lanes, every third element is picked out of three vectors; every ninth is gathered.
#[test]
fn what_lies_near_is_not_gathered() {
    let v4 = levels::cpus(1).into_iter().find(|cpu| cpu.isa() == graver_cpu::Isa::V4);
    for (cpu, (step, gathered)) in v4.into_iter().flat_map(|cpu| [(3, false), (9, true)].map(|how| (cpu.clone(), how))) {
        let mut b = Build::new("apart");
        let x = b.arg("x", DType::F32, [900]);
        let slice = b.slice(x, [(0, 100, step)]);
        let sum = b.map(ScalarFn::Add, [slice, slice]);
        let program = graver_passes::pipeline::compile(b.finish([sum]), &cpu.describe(), &mut graver_passes::Silent);
        let executable = cpu.compile(Arc::new(program.expect("it compiles"))).expect("it compiles");
        let asm = executable.dump(0, Stage::Asm).expect("there is a kernel");
        assert_eq!((asm.contains("vgatherqps"), asm.contains("vpermi2ps")), (gathered, !gathered), "every {step}th:\n{asm}");
    }
}

/// Which columns of a window are padding depends on no loop that the window's rows and channels are: it is asked before these.
#[test]
fn padding_of_a_short_axis_is_found_once() {
    for cpu in levels::cpus(1).into_iter().filter(|cpu| cpu.isa() != graver_cpu::Isa::Baseline) {
        let mut b = Build::new("conv");
        let (x, w) = (b.arg("x", DType::F32, [2, 3, 32, 32]), b.arg("w", DType::F32, [64, 3, 7, 7]));
        let axis = ConvAxis { stride: 2, low: Dim::from(3), high: Dim::from(3), kernel_dilation: 1, input_dilation: 1 };
        let (axes, order) = (vec![axis.clone(), axis], || vec![0, 1, 2, 3]);
        let conv = Conv { input: order(), kernel: order(), output: vec![0, 3, 1, 2], axes, groups: 1, batch_groups: 1 };
        let y = b.add(Op::Conv(conv), &[x, w]);
        let program = graver_passes::pipeline::compile(b.finish([y]), &cpu.describe(), &mut graver_passes::Silent);
        let executable = cpu.compile(Arc::new(program.expect("it compiles"))).expect("it compiles");
        let text = executable.dump(0, Stage::Vector).expect("there is a kernel");
        let depth = |line: &str| line.len() - line.trim_start().len();
        let deepest = |holds: &dyn Fn(&str) -> bool| text.lines().filter(|line| holds(line)).map(depth).max();
        let compared = deepest(&|line| line.contains("<bool> = Ge") || line.contains("<bool> = Lt")).expect("padding is masked");
        let loaded = deepest(&|line| line.contains(" where ")).expect("under a mask");
        assert!(compared + 6 <= loaded, "the loops over channels and rows, and the sweep, are between them:\n{text}");
    }
}

/// The next row is fetched while functions of a row are computed, or one that is in a cache is visited again; what is further on in a long row, if functions
/// are many instructions; the next tile while one is transposed, a product's next columns while some are multiplied, further rows of a matrix that is
/// read once. What is one stream of few instructions is left to the machine, and rows that are short.
#[test]
fn what_comes_next_is_fetched_where_the_machine_would_not() {
    type Made = fn(&mut Build) -> Value;
    let softmax: Made = |b| {
        let x = b.arg("x", DType::F32, [8, 4096]);
        let along = |b: &mut Build, kind, x| {
            let row = b.reduce(kind, x, [1]);
            b.broadcast(row, [8, 4096], [0])
        };
        let most = along(b, ReduceKind::Max, x);
        let below = b.map(ScalarFn::Sub, [x, most]);
        let exp = b.map(ScalarFn::Exp, [below]);
        let all = along(b, ReduceKind::Sum, exp);
        b.map(ScalarFn::Div, [exp, all])
    };
    let across: Made = |b| {
        let (x, y) = (b.arg("x", DType::F32, [512, 512]), b.arg("y", DType::F32, [512, 512]));
        let across = b.permute(x, [1, 0]);
        b.map(ScalarFn::Add, [across, y])
    };
    let product = |b: &mut Build, rows: usize| {
        let (x, y) = (b.arg("x", DType::F32, [rows, 256]), b.arg("y", DType::F32, [256, 192]));
        let axes = DotAxes { lhs_batch: vec![], rhs_batch: vec![], lhs_contract: vec![1], rhs_contract: vec![0] };
        b.dot(x, y, axes)
    };
    let map = |b: &mut Build, function: ScalarFn, width: usize| {
        let x = b.arg("x", DType::F32, [64, width]);
        b.map(function, [x])
    };
    let centred: Made = |b| {
        let x = b.arg("x", DType::F32, [8, 4096]);
        let row = b.reduce(ReduceKind::Sum, x, [1]);
        let wide = b.broadcast(row, [8, 4096], [0]);
        b.map(ScalarFn::Sub, [x, wide])
    };
    let fetches = |cpu: &graver_cpu::Cpu, make: &dyn Fn(&mut Build) -> Value| {
        let mut b = Build::new("next");
        let result = make(&mut b);
        let program = graver_passes::pipeline::compile(b.finish([result]), &cpu.describe(), &mut graver_passes::Silent);
        let executable = cpu.compile(Arc::new(program.expect("it compiles"))).expect("it compiles");
        assert_eq!(executable.program().kernels.len(), 1);
        executable.dump(0, Stage::Asm).expect("there is a kernel").contains("prefetcht1")
    };
    for cpu in levels::cpus(1).into_iter().filter(|cpu| cpu.isa() != graver_cpu::Isa::Baseline) {
        let in_squares = cpu.isa() == graver_cpu::Isa::V4;
        assert!(fetches(&cpu, &softmax), "{}", cpu.isa());
        assert_eq!(fetches(&cpu, &across), in_squares, "{}", cpu.isa());
        assert!(fetches(&cpu, &|b| product(b, 96)), "{}", cpu.isa());
        assert!(fetches(&cpu, &|b| product(b, 1)), "{}", cpu.isa());
        assert!(fetches(&cpu, &centred), "{}", cpu.isa());
        assert!(fetches(&cpu, &|b| map(b, ScalarFn::Exp, 4096)), "{}", cpu.isa());
        assert!(!fetches(&cpu, &|b| map(b, ScalarFn::Exp, 512)), "{}", cpu.isa());
        assert!(!fetches(&cpu, &|b| map(b, ScalarFn::Abs, 4096)), "{}", cpu.isa());
    }
}
