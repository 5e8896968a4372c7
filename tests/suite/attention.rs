//! Attention as a kernel, forward and backward: near what its primitives give in `f64`, bit for bit the same for any number of
//! threads at every level, and never with an array of queries and keys both.

use std::path::Path;
use std::sync::Arc;

use graver::ir::kernel::{KernelBody, Program};
use graver::ir::{Module as Graph, Sizes};
use graver::passes::{Silent, pipeline};
use graver::prelude::*;
use graver::runtime::{Backend, Executable, Invocation, Slot};
use graver::trace::{Attention, spec_of, trace};
use graver_conformance::attention::{Case, PLAIN, bound, cases, numbers, reference};
use graver_cpu::Cpu;
use graver_cuda::{Order, Shim};
use graver_testkit::{Bound, check_close};

use crate::levels;

fn compiled(backend: &dyn Backend, graph: &Graph) -> (Arc<Program>, Arc<dyn Executable>) {
    let program = Arc::new(pipeline::compile(graph.clone(), &backend.describe(), &mut Silent).expect("a good program"));
    let executable = backend.compile(Arc::clone(&program)).expect("it compiles");
    (program, executable)
}

fn run(executable: &dyn Executable, inputs: &[Array]) -> Vec<Array> {
    let (mut workspace, inputs) = (executable.workspace(), inputs.iter().collect::<Vec<_>>());
    let state: &mut [Slot<'_>] = &mut [];
    executable.run(Invocation { entry: 0, inputs: &inputs, state, workspace: &mut workspace }).expect("it runs")
}

fn attentions(program: &Program) -> usize {
    program.kernels.iter().filter(|kernel| matches!(kernel.body, KernelBody::Attend(_))).count()
}

#[test]
fn attention_and_its_derivatives_on_every_level() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (inputs, graph) = (case.inputs(), case.graph(true));
        let expected = reference(&graph, &inputs);
        for cpu in levels::cpus(1) {
            let (program, executable) = compiled(&cpu, &graph);
            assert_eq!(attentions(&program), 2, "{case:?}");
            let results = run(executable.as_ref(), &inputs);
            wrong.extend(case.check(&expected, &results).err().map(|error| format!("{case:?} at {}: {error}", cpu.isa())));
            for threads in [2, 8] {
                let many = Cpu::new(threads).with_isa(cpu.isa()).expect("the machine runs it");
                let again = run(compiled(&many, &graph).1.as_ref(), &inputs);
                let same = again.iter().zip(&results).all(|(again, once)| again.bytes() == once.bytes());
                assert!(same, "{case:?} at {}: other bits on {threads} threads", cpu.isa());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A derivative is the same, bit for bit, where nobody asks for the others: a kernel has those sums alone that are wanted.
#[test]
fn derivatives_one_by_one() {
    let case = Case { batch: 1, width: 20, ..PLAIN };
    let case = Case { queries: 130, keys: 130, causal: true, ..case };
    let inputs: Vec<Array> = case.inputs().into_iter().take(4).collect();
    let spec = spec_of(DType::F32, (1, 2, "l", 20));
    let specs = [spec.clone(), spec.clone(), spec_of(DType::F32, (1, 2, "l", 8)), spec_of(DType::F32, (1, 2, "l", 8))];
    let results = |wrt: &[usize]| {
        let traced = trace(
            |x: [Tensor; 4]| {
                let chosen: Vec<Tensor> = wrt.iter().map(|place| x[*place]).collect();
                grad(chosen, |chosen| {
                    let mut all = x;
                    wrt.iter().zip(chosen).for_each(|(place, x)| all[*place] = x);
                    let [q, k, v, g] = all;
                    (q.attention(k, v, Attention::new().causal()) * g).sum(..)
                })
            },
            specs.clone(),
        );
        let (program, executable) = compiled(&Cpu::new(2), traced.expect("a good program").module());
        assert_eq!(attentions(&program), 2, "{wrt:?}");
        run(executable.as_ref(), &inputs)
    };
    let all = results(&[0, 1, 2]);
    for wrt in [&[0][..], &[1], &[2], &[0, 2], &[1, 2]] {
        let expected: Vec<&[u8]> = wrt.iter().map(|place| all[*place].bytes()).collect();
        let got = results(wrt);
        assert!(got.iter().map(Array::bytes).eq(expected), "{wrt:?}");
    }
}

#[test]
fn numbers_for_sizes_are_as_good_and_kernels_mean_the_same() {
    for case in cases() {
        let (inputs, graph) = (case.inputs(), case.graph(false));
        let expected = reference(&graph, &inputs);
        let (cpu, interp) = (Cpu::new(2), graver_interp::Interp::default());
        // The interpreter of kernels takes its time.
        let few = case.queries * case.keys < 2000;
        for backend in [&cpu as &dyn Backend, &interp].into_iter().take(if few { 2 } else { 1 }) {
            let results = run(compiled(backend, &graph).1.as_ref(), &inputs);
            case.check(&expected, &results).unwrap_or_else(|error| panic!("{case:?}: {error}"));
        }
    }
}

/// Kernels of a GPU, on the CPU: with a block's threads in either order, and on any number of blocks.
#[test]
fn kernels_of_a_gpu_are_as_good() {
    let shim = Shim::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim")).expect("a C++ compiler");
    let guises = [shim.clone(), shim.with_order(Order::Descending).with_blocks(3)];
    let compiled: Vec<_> = cases()
        .into_iter()
        .flat_map(|case| [true, false].map(|symbolic| (case, case.graph(symbolic))))
        .map(|(case, graph)| (case, guises.each_ref().map(|guise| compiled(guise, &graph)), graph))
        .collect();
    let mut wrong = Vec::new();
    for (case, guises, graph) in compiled {
        let (inputs, [(program, one), (_, other)]) = (case.inputs(), guises);
        let texts: Vec<String> =
            (0..program.kernels.len()).map(|kernel| graver_cuda::cuda_text(&program, kernel).expect("there is one")).collect();
        let attentions: Vec<&String> = texts.iter().filter(|text| text.contains("weights_0[")).collect();
        assert_eq!(attentions.len(), 3, "{case:?}");
        let with = |mark: &str| attentions.iter().filter(|text| text.contains(mark)).count();
        // Products of 16-bit floats, and sums of widths that are whole fragments; of halves, only those by shares.
        let (halves, wide) = (case.dtype == DType::F16, case.width.max(case.value_width) >= 32);
        let tensor = if case.dtype.size() == 2 {
            [
                3,
                if !wide {
                    0
                } else if halves {
                    1
                } else {
                    3
                },
            ]
        } else {
            [0, 0]
        };
        assert_eq!([with("gr_mma_"), with("gr_split<")], tensor, "{case:?}");
        let results = run(one.as_ref(), &inputs);
        let failed = case.check(&reference(&graph, &inputs), &results).err();
        wrong.extend(failed.map(|error| format!("{case:?}: {error}")));
        let same = run(other.as_ref(), &inputs).iter().zip(&results).all(|(again, once)| again.bytes() == once.bytes());
        assert!(same, "{case:?}: other bits in another order");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without a scale, a mask or anything beside it, it is all of the program: what a kernel is known for is no region of the entry yet.
#[test]
fn attention_is_all_there_is() {
    let text = "graver 1\n\nfunc @main(\n  %0: f32[60, 16] = arg \"q\",\n  %1: f32[70, 16] = arg \"k\",\n  %2: f32[70, 16] = arg \"v\",\n) {\n\
                  %3 = dot(%0, %1) {lhs_contract = [1], rhs_contract = [1]} : f32[60, 70]\n\
                  %4 = reduce(%3) {kind = max, axes = [1]} : f32[60]\n  %5 = broadcast(%4) {shape = [60, 70], axes = [0]} : f32[60, 70]\n\
                  %6 = sub(%3, %5) : f32[60, 70]\n  %7 = exp(%6) : f32[60, 70]\n  %8 = reduce(%7) {kind = sum, axes = [1]} : f32[60]\n\
                  %9 = broadcast(%8) {shape = [60, 70], axes = [0]} : f32[60, 70]\n  %10 = div(%7, %9) : f32[60, 70]\n\
                  %11 = dot(%10, %2) {lhs_contract = [1], rhs_contract = [0]} : f32[60, 16]\n  return %11\n}\n";
    let graph = graver::ir::text::parse(text).expect("it is well formed");
    let inputs: Vec<Array> =
        [60, 70, 70].iter().enumerate().map(|(seed, rows)| numbers(DType::F32, &[*rows, 16], seed)).collect();
    let expected = reference(&graph, &inputs);
    let shim = Shim::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim")).expect("a C++ compiler");
    let backends =
        levels::cpus(2).into_iter().map(|cpu| Box::new(cpu) as Box<dyn Backend>).chain([Box::new(shim) as Box<dyn Backend>]);
    for backend in backends {
        let (program, executable) = compiled(backend.as_ref(), &graph);
        assert_eq!((attentions(&program), program.kernels.len()), (1, 1));
        check_close(&expected[0], &run(executable.as_ref(), &inputs)[0], bound(DType::F32)).expect("it is near");
    }
}

#[test]
fn memory_grows_with_the_length_and_not_with_its_square() {
    let case = Case { batch: 1, ..Case { causal: true, ..PLAIN } };
    let peak = |length: i64| {
        let (program, executable) = compiled(&Cpu::new(2), &case.graph(true));
        let sizes: Sizes = [("b".to_owned(), 1), ("l".to_owned(), length)].into_iter().collect();
        let entry = &program.entries[0];
        let square =
            |buffer: &graver::ir::kernel::Buffer| buffer.shape.iter().filter(|dim| !dim.symbols().is_empty()).count() > 2;
        assert!(!entry.buffers.iter().any(square), "an array has queries and keys both");
        executable.working_bytes(0, &sizes).expect("sizes in range").total()
    };
    let (short, long) = (peak(512), peak(4096));
    assert!(long < 9 * short, "{short} bytes for 512, {long} for 4096");
}

#[test]
fn what_is_differentiated_twice_or_forward_is_written_out() {
    let spec = spec::<f32>((2, 5, 4));
    let loss = |x: Tensor| x.attention(x, x, Attention::new().causal()).square().sum(..);
    let twice = |x: Tensor| grad(x, |x| (grad(x, loss) * x).sum(..));
    let forward = |x: Tensor| jvp(x, &x, |x| x.attention(x, x, Attention::new().causal())).1;
    let inputs = [numbers(DType::F32, &[2, 5, 4], 1)];
    for traced in [trace(twice, spec.clone()), trace(forward, spec)] {
        let graph = traced.expect("a good program").module().clone();
        let (program, executable) = compiled(&Cpu::new(2), &graph);
        assert_eq!(attentions(&program), 0);
        let (expected, got) = (reference(&graph, &inputs), run(executable.as_ref(), &inputs));
        check_close(&expected[0], &got[0], Bound { relative: 1e-4, absolute: 1e-4 }).expect("close");
    }
}
