//! Attention as a kernel, forward and backward: near what its primitives give in `f64`, bit for bit the same for any number of
//! threads at every level, and never with an array of queries and keys both.

use std::path::Path;
use std::sync::Arc;

use graver::ir::kernel::{KernelBody, Program};
use graver::ir::{Module as Graph, Sizes, Target};
use graver::passes::{Cx, Silent, pipeline, runner};
use graver::prelude::*;
use graver::runtime::{Backend, Executable, Invocation, Slot};
use graver::trace::{Attention, spec_of, trace};
use graver_cpu::Cpu;
use graver_cuda::{Order, Shim};
use graver_interp::{Precision, eval};
use graver_testkit::{Bound, check_close};

use crate::levels;

/// An attention of `[batch, heads, queries, width]`.
#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    heads: usize,
    /// Heads of keys.
    shared: usize,
    queries: usize,
    keys: usize,
    width: usize,
    value_width: usize,
    causal: bool,
    bias: Bias,
    dtype: DType,
}

/// What is added to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bias {
    None,
    /// For every head, query and key.
    Full,
    /// Minus infinity for some keys, of every batch its own.
    Keys,
}

const PLAIN: Case = Case {
    batch: 2,
    heads: 2,
    shared: 2,
    queries: 7,
    keys: 7,
    width: 8,
    value_width: 8,
    causal: false,
    bias: Bias::None,
    dtype: DType::F32,
};

/// Sizes below, at and beyond those of tiles and blocks.
fn cases() -> Vec<Case> {
    let square = |size: usize| Case { queries: size, keys: size, ..PLAIN };
    let causal = |case: Case| Case { causal: true, ..case };
    vec![
        PLAIN,
        causal(PLAIN),
        causal(square(65)),
        Case { batch: 1, width: 64, value_width: 64, ..causal(square(300)) },
        Case { batch: 1, queries: 53, keys: 517, value_width: 24, ..causal(PLAIN) },
        // The first queries see nothing.
        Case { queries: 9, keys: 5, ..causal(PLAIN) },
        Case { heads: 6, shared: 2, queries: 50, keys: 70, width: 5, value_width: 3, ..PLAIN },
        Case { heads: 6, shared: 2, ..causal(square(49)) },
        // So many heads that no sums over rows are in parts.
        Case { heads: 8, shared: 8, ..causal(square(101)) },
        Case { heads: 4, shared: 1, bias: Bias::Full, ..causal(square(20)) },
        Case { queries: 33, keys: 270, bias: Bias::Keys, ..PLAIN },
        Case { queries: 3, keys: 1, ..PLAIN },
        Case { queries: 3, keys: 0, ..PLAIN },
        Case { queries: 0, keys: 3, ..PLAIN },
        Case { dtype: DType::BF16, ..causal(square(31)) },
        Case { dtype: DType::F16, heads: 4, ..square(31) },
        Case { dtype: DType::BF16, batch: 1, width: 64, value_width: 128, ..causal(square(70)) },
        Case {
            dtype: DType::BF16,
            heads: 4,
            shared: 2,
            queries: 40,
            keys: 150,
            width: 32,
            value_width: 32,
            bias: Bias::Keys,
            ..PLAIN
        },
        Case { dtype: DType::F16, batch: 1, width: 20, value_width: 64, ..causal(square(65)) },
    ]
}

/// Numbers below 1, which differ from place to place.
fn numbers(dtype: DType, shape: &[usize], seed: usize) -> Array {
    let value = |place: usize| ((place * 37 + seed * 101 + place / 11 * 5) % 127) as f64 / 64.0 - 1.0;
    Array::from_fn(dtype, shape, |place| Scalar::float(dtype, value(place)))
}

impl Case {
    fn inputs(&self) -> Vec<Array> {
        let Self { batch, heads, shared, queries, keys, width, value_width, dtype, .. } = *self;
        let shapes = [
            [batch, heads, queries, width],
            [batch, shared, keys, width],
            [batch, shared, keys, value_width],
            [batch, heads, queries, value_width],
        ];
        let mut inputs: Vec<Array> = shapes.iter().enumerate().map(|(seed, shape)| numbers(dtype, shape, seed)).collect();
        inputs.push(match self.bias {
            Bias::None => numbers(dtype, &[1, 1, 1, 1], 5),
            Bias::Full => numbers(dtype, &[batch, heads, queries, keys], 5),
            Bias::Keys => Array::from_fn(dtype, [batch, 1, 1, keys], |place| {
                Scalar::float(dtype, if place % 3 == 1 { f64::NEG_INFINITY } else { 0.0 })
            }),
        });
        inputs
    }

    /// A query that sees no key gives the values NaN where its shares are written out, and nothing in a kernel.
    fn check(&self, expected: &[Array], results: &[Array]) -> Result<(), String> {
        let sees_nothing = self.causal && self.keys < self.queries;
        for (place, (expected, got)) in expected.iter().zip(results).enumerate() {
            if place == 3 && sees_nothing {
                let finite = got.to_f64().iter().all(|value| value.is_finite());
                assert!(finite && expected.to_f64().iter().all(|value| value.is_nan()), "{self:?}");
                continue;
            }
            check_close(expected, got, bound(self.dtype)).map_err(|error| format!("result {place}: {error}"))?;
        }
        Ok(())
    }

    /// The attention of the inputs under a cotangent, and its derivatives, with symbols for sizes where `symbolic`.
    fn graph(&self, symbolic: bool) -> Graph {
        let Self { causal, bias, dtype, .. } = *self;
        let shapes: Vec<Vec<usize>> = self.inputs().iter().map(|input| input.shape().to_vec()).collect();
        let keys = if self.queries == self.keys { "l" } else { "s" };
        let spec = |place: usize| {
            let [batch, heads, length, width] = shapes[place][..] else { panic!("four axes") };
            match place {
                0 | 3 if symbolic => spec_of(dtype, ("b", heads, "l", width)),
                1 | 2 if symbolic => spec_of(dtype, ("b", heads, keys, width)),
                _ if symbolic && bias == Bias::Full => spec_of(dtype, ("b", heads, "l", keys)),
                _ if symbolic && bias == Bias::Keys => spec_of(dtype, ("b", heads, length, keys)),
                _ => spec_of(dtype, (batch, heads, length, width)),
            }
        };
        let options = if causal { Attention::new().causal() } else { Attention::new() };
        let specs = [0, 1, 2, 3, 4].map(spec);
        let traced = trace(
            |[q, k, v, g, b]: [Tensor; 5]| {
                let attend = |q: Tensor, k: Tensor, v: Tensor, b: Tensor| match bias {
                    Bias::None => q.attention(k, v, options),
                    Bias::Full | Bias::Keys => q.attention_with_bias(k, v, b, options),
                };
                let y = attend(q, k, v, b);
                let wrt = if bias == Bias::Full { vec![q, k, v, b] } else { vec![q, k, v] };
                let grads = grad(wrt, |x| (attend(x[0], x[1], x[2], x.get(3).copied().unwrap_or(b)) * g).sum(..));
                [vec![y], grads].concat()
            },
            specs,
        );
        traced.expect("a good program").module().clone()
    }
}

/// What primitives give, in `f64`.
fn reference(graph: &Graph, inputs: &[Array]) -> Vec<Array> {
    let mut graph = graph.clone();
    let target = Target { attends: false, ..Target::generic() };
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    runner::run(&mut graph, pipeline::GRAPH, &mut cx, &mut Silent, None).expect("a good program");
    let (entry, _) = graph.entry().expect("it has an entry");
    eval(&graph, entry, &inputs.iter().collect::<Vec<_>>(), &[], Precision::Reference).expect("it runs").outputs
}

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

/// Scores here are below 8, and rows below 600 long.
fn bound(dtype: DType) -> Bound {
    match dtype {
        DType::BF16 => Bound { relative: 4e-2, absolute: 4e-2 },
        DType::F16 => Bound { relative: 6e-3, absolute: 6e-3 },
        DType::F64
        | DType::F32
        | DType::I64
        | DType::I32
        | DType::I16
        | DType::I8
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::U8
        | DType::Bool => Bound { relative: 3e-6, absolute: 3e-6 },
    }
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
        let with = |mark: &str| texts.iter().filter(|text| text.contains(mark)).count();
        assert_eq!(with("weights_0["), 3, "{case:?}");
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
