//! Few sums that are long, in parts: exact, of whole numbers, at every level, and the same for any number of threads.

mod levels;

use std::sync::Arc;

use graver_cpu::Cpu;
use graver_ir::op::{Conv, ConvAxis, DotAxes};
use graver_ir::{Array, DType, Dim, Module, Op, Scalar, ScalarFn, Symbol};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Executable, Invocation, Stage};
use graver_testkit::{Build, Rng};

/// The weights' gradient of a convolution of signals `[batch, length, channels]` by windows of three, padded by one, plus the weights `[outputs, channels, 3]`:
/// the rest of what an optimiser does.
struct Signals {
    batch: usize,
    length: usize,
    channels: usize,
    outputs: usize,
}

impl Signals {
    fn module(&self, batch: Dim) -> Module {
        let of = |last: usize| vec![batch.clone(), Dim::from(self.length), Dim::from(last)];
        let mut b = Build::new("gradient");
        let weights = [self.outputs, self.channels, 3];
        let (x, w, g) = (
            b.arg("x", DType::F32, of(self.channels)),
            b.arg("w", DType::F32, weights),
            b.arg("g", DType::F32, of(self.outputs)),
        );
        // Products of another kernel: nothing is kept packed that a call computes.
        let once = |b: &mut Build, x, size: usize| {
            let one = |place: usize| Scalar::int(DType::F32, i64::from(place / size == place % size));
            let identity = b.constant(Array::from_fn(DType::F32, [size, size], one));
            b.dot(x, identity, DotAxes { lhs_contract: vec![2], rhs_contract: vec![0], ..DotAxes::default() })
        };
        let (x, g) = (once(&mut b, x, self.channels), once(&mut b, g, self.outputs));
        let axis = ConvAxis { stride: 1, low: Dim::ONE, high: Dim::ONE, kernel_dilation: 1, input_dilation: 1 };
        let conv = Conv {
            input: vec![0, 2, 1],
            kernel: vec![0, 1, 2],
            output: vec![0, 2, 1],
            axes: vec![axis],
            groups: 1,
            batch_groups: 1,
        };
        let y = b.add(Op::Conv(conv), &[x, w]);
        let derivative = b.vjp(&[y], &[g], &[w])[0];
        let sum = b.map(ScalarFn::Add, [w, derivative]);
        b.finish([sum])
    }

    fn inputs(&self, rng: &mut Rng) -> Vec<Array> {
        let Self { batch, length, channels, outputs } = *self;
        let mut integers = |shape: &[usize]| Array::from_fn(DType::F32, shape, |_| Scalar::int(DType::F32, rng.int(-3, 3)));
        vec![integers(&[batch, length, channels]), integers(&[outputs, channels, 3]), integers(&[batch, length, outputs])]
    }

    fn expected(&self, inputs: &[Array]) -> Vec<f64> {
        let [x, w, g] = [0, 1, 2].map(|place: usize| inputs[place].to_f64());
        let Self { batch, length, channels, outputs } = *self;
        let mut sums = w;
        for (sample, place) in (0..batch).flat_map(|sample| (0..length).map(move |place| (sample, place))) {
            for tap in 0..3 {
                let Some(at) = (place + tap).checked_sub(1).filter(|at| *at < length) else { continue };
                let x = &x[(sample * length + at) * channels..][..channels];
                let g = &g[(sample * length + place) * outputs..][..outputs];
                for (output, g) in g.iter().enumerate() {
                    for (channel, x) in x.iter().enumerate() {
                        sums[(output * channels + channel) * 3 + tap] += g * x;
                    }
                }
            }
        }
        sums
    }
}

fn compile(cpu: &Cpu, module: &Module) -> Arc<dyn Executable> {
    let program = pipeline::compile(module.clone(), &cpu.describe(), &mut Silent).expect("it compiles");
    cpu.compile(Arc::new(program)).expect("it compiles")
}

fn run(executable: &dyn Executable, inputs: &[Array]) -> Array {
    let (inputs, mut workspace) = (inputs.iter().collect::<Vec<_>>(), executable.workspace());
    let call = Invocation { entry: 0, inputs: &inputs, state: &mut [], workspace: &mut workspace };
    executable.run(call).expect("it runs").swap_remove(0)
}

/// The functions of the kernel of the gradient, by the last parts of their names.
fn functions(executable: &dyn Executable) -> Vec<String> {
    let texts = (0..executable.program().kernels.len()).filter_map(|kernel| executable.dump(kernel, Stage::Vector));
    let name = |line: &str| Some(line.strip_prefix("func ")?.split([' ', '(']).next()?.to_owned());
    texts.flat_map(|text| text.lines().filter_map(name).collect::<Vec<_>>()).collect()
}

fn check(module: &Module, calls: &[Signals], in_parts: bool) {
    let mut rng = Rng::named("parts");
    for cpu in levels::cpus(1) {
        let isa = cpu.isa();
        let alone = compile(&cpu, module);
        let found = functions(alone.as_ref());
        assert_eq!(found.iter().any(|name| name.ends_with(".results")), in_parts, "{isa}: {found:?}");
        for signals in calls {
            let inputs = signals.inputs(&mut rng);
            let got = run(alone.as_ref(), &inputs);
            assert!(got.to_f64() == signals.expected(&inputs), "{isa}, {} signals", signals.batch);
            for threads in [2, 3] {
                let many = compile(&Cpu::new(threads).with_isa(isa).expect("the machine runs it"), module);
                assert!(run(many.as_ref(), &inputs).bytes() == got.bytes(), "{isa}: other bits on {threads} threads");
            }
        }
    }
}

/// A number of signals that is known at the call: none, so few that there are parts without any, and a last chunk that is none.
#[test]
fn few_sums_that_are_long_are_summed_in_parts() {
    let of = |batch: usize| Signals { batch, length: 331, channels: 37, outputs: 29 };
    let batch = Dim::sym(&Symbol::ranged("batch", 0, 1 << 12, 1));
    check(&of(1).module(batch), &[0, 1, 5, 64].map(of), true);
    check(&of(90).module(Dim::from(90)), &[of(90)], true);
    check(&of(3).module(Dim::from(3)), &[of(3)], false);
}

/// Sums that are many are no parts of anything.
#[test]
fn many_sums_are_summed_whole() {
    let many = Signals { batch: 90, length: 103, channels: 237, outputs: 229 };
    let found = functions(compile(&Cpu::new(1), &many.module(Dim::from(90))).as_ref());
    assert!(!found.iter().any(|name| name.ends_with(".results")), "{found:?}");
}

/// `[outputs, channels, 3]` is one run of `3 channels` elements, whichever of its axes vectors go along: whole tiles are stored from registers, where runs
/// of three would be stored one by one.
#[test]
fn results_that_go_on_from_one_axis_to_the_next_are_one_run() {
    let few = |batch: usize| Signals { batch, length: 19, channels: 237, outputs: 229 };
    check(&few(2).module(Dim::from(2)), &[few(2)], false);
    for (cpu, tile) in levels::cpus(1).into_iter().zip([10, 12, 24]) {
        let executable = compile(&cpu, &few(2).module(Dim::from(2)));
        let mut texts = (0..executable.program().kernels.len()).filter_map(|kernel| executable.dump(kernel, Stage::Vector));
        let text = texts.rfind(|text| text.contains("func conv")).expect("the gradient is a kernel");
        let stores = text.lines().filter(|line| line.trim_start().starts_with("store f32 contiguous")).count();
        assert!(stores >= 2 * tile, "{}: {stores} stores of sums that wait and of results:\n{text}", cpu.isa());
    }
}
