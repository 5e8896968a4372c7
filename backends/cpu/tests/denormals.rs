//! What becomes of denormals, kept and flushed, at every level: results, the modes of threads, and that nothing else changes.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]

mod levels;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use graver_conformance::{SEEDS, networks, random_programs};
use graver_cpu::{Cpu, Denormals, Parallel, Pool};
use graver_ir::op::{Extreme, ReduceKind};
use graver_ir::{Array, DType, Module, Scalar, ScalarFn};
use graver_passes::{Silent, pipeline};
use graver_runtime::{Backend, Invocation};
use graver_testkit::Build;

fn ran(cpu: &Cpu, module: &Module, inputs: &[Array]) -> Result<Vec<Array>, String> {
    let program = pipeline::compile(module.clone(), &cpu.describe(), &mut Silent).expect("it compiles");
    let executable = cpu.compile(Arc::new(program)).expect("it compiles");
    let inputs: Vec<&Array> = inputs.iter().collect();
    let call = Invocation { entry: 0, inputs: &inputs, state: &mut [], workspace: &mut executable.workspace() };
    executable.run(call).map_err(|error| error.to_string())
}

fn results(cpu: &Cpu, module: &Module, inputs: &[Array]) -> Vec<Array> {
    ran(cpu, module, inputs).expect("it runs")
}

fn flushing(cpu: &Cpu) -> Cpu {
    cpu.clone().with_denormals(Denormals::Flushed).expect("the architecture can")
}

/// The least normal number of what a type is computed in: every binary16 is a normal `f32`.
fn least(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::MIN_POSITIVE,
        DType::F32 | DType::BF16 => f64::from(f32::MIN_POSITIVE),
        DType::F16 | DType::I64 | DType::I32 | DType::I16 | DType::I8 => 0.0,
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => 0.0,
    }
}

fn is_denormal(x: Scalar) -> bool {
    x.as_f64() != 0.0 && x.as_f64().abs() < least(x.dtype())
}

fn flushed(x: Scalar) -> Scalar {
    if is_denormal(x) { Scalar::float(x.dtype(), 0f64.copysign(x.as_f64())) } else { x }
}

fn all_flushed(x: &Array) -> Array {
    Array::from_fn(x.dtype(), x.shape(), |place| flushed(x.get(place)))
}

/// The same bits, or both NaN.
fn alike(x: Scalar, y: Scalar) -> bool {
    x.bits() == y.bits() || (x.dtype().is_float() && x.as_f64().is_nan() && y.as_f64().is_nan())
}

/// What a function does with denormals where they are flushed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// It takes zeros for them, and gives zeros for them.
    Zeros,
    /// It moves bits.
    Bits,
    /// It compares as if they were zeros, and may give one where it would give a zero.
    Chooses,
    /// Any of these, as the size of the operand, or the system's library, decides.
    Any,
}

const BITS: [ScalarFn; 3] = [ScalarFn::Neg, ScalarFn::Abs, ScalarFn::Select];
const CHOOSES: [ScalarFn; 3] = [ScalarFn::Max, ScalarFn::Min, ScalarFn::Relu];
const ANY: [ScalarFn; 2] = [ScalarFn::Log1p, ScalarFn::Rem];
/// Functions of `f64` that the library has.
const LIBRARY: [ScalarFn; 9] = [
    ScalarFn::Exp,
    ScalarFn::Expm1,
    ScalarFn::Log,
    ScalarFn::Sin,
    ScalarFn::Cos,
    ScalarFn::Tanh,
    ScalarFn::Erf,
    ScalarFn::Pow,
    ScalarFn::Sigmoid,
];

fn way(function: ScalarFn, dtype: DType) -> Way {
    if BITS.contains(&function) {
        Way::Bits
    } else if CHOOSES.contains(&function) {
        Way::Chooses
    } else if ANY.contains(&function) || (dtype == DType::F64 && LIBRARY.contains(&function)) {
        Way::Any
    } else {
        Way::Zeros
    }
}

fn way_of_cast(from: DType, to: DType) -> Way {
    let is_word = |dtype: DType| matches!(dtype, DType::F32 | DType::BF16);
    if from == to || (is_word(from) && is_word(to)) { Way::Bits } else { Way::Zeros }
}

/// The way of a sample of special values.
fn way_of(name: &str) -> Option<Way> {
    let dtype = |name: &str| DType::ALL.into_iter().find(|dtype| dtype.to_string() == name).expect("a type's name");
    match name.split('/').collect::<Vec<_>>()[..] {
        ["cast", from, to, "special"] => Some(way_of_cast(dtype(from), dtype(to))),
        [function, of, "special"] => Some(way(function.parse().ok()?, dtype(of))),
        _ => None,
    }
}

impl Way {
    /// Whether it gives `got` where denormals are flushed; `kept` is what is given where they are not, `of_zeros` the same of zeros in their place.
    fn gives(self, got: Scalar, kept: Scalar, of_zeros: Scalar) -> bool {
        match self {
            Self::Zeros => alike(flushed(of_zeros), got),
            Self::Bits => alike(kept, got),
            Self::Chooses => alike(of_zeros, got) || flushed(got).as_f64() == of_zeros.as_f64(),
            Self::Any => [kept, of_zeros].into_iter().any(|x| alike(x, got) || alike(flushed(x), got)),
        }
    }
}

#[test]
fn every_function_and_cast_at_every_type() {
    let samples = graver_testkit::samples();
    let mut seen = 0;
    for kept in levels::cpus(1) {
        for (sample, way) in samples.iter().filter_map(|sample| Some((sample, way_of(&sample.name)?))) {
            let zeros: Vec<Array> = sample.inputs.iter().map(all_flushed).collect();
            let of = |cpu: &Cpu, inputs: &[Array]| results(cpu, &sample.module, inputs).remove(0);
            let (given, of_zeros) = (of(&kept, &sample.inputs), of(&kept, &zeros));
            let got = of(&flushing(&kept), &sample.inputs);
            for place in 0..got.numel() {
                let (got, kept, of_zeros) = (got.get(place), given.get(place), of_zeros.get(place));
                assert!(
                    way.gives(got, kept, of_zeros),
                    "{}: {got:?}, kept {kept:?}, of zeros {of_zeros:?}, {way:?}",
                    sample.name
                );
                seen += usize::from(!alike(got, kept));
            }
        }
    }
    assert!(seen > 1000, "{seen} results show it");
}

/// What is computed between operands and results needs no denormals, where these are none.
#[test]
fn functions_of_normal_numbers_are_the_same() {
    let words = (0..1 << 16).map(|high: u32| f32::from_bits(high << 16 | high.wrapping_mul(0x9e37) & 0xffff));
    let words: Vec<f32> = words.filter(|x| x.is_normal()).collect();
    let inputs = [Array::from_vec([words.len()], words).expect("sizes agree")];
    for (function, dtype) in ScalarFn::ALL.iter().flat_map(|function| [(*function, DType::F32), (*function, DType::F64)]) {
        if function.arity() > 1 || function.infer(&[dtype]).is_err() {
            continue;
        }
        let mut b = Build::new("function");
        let x = b.arg("x", DType::F32, [inputs[0].numel()]);
        let x = b.cast(dtype, x);
        let y = b.map(function, [x]);
        let module = b.finish([y]);
        for cpu in levels::cpus(1) {
            let [kept, got] = [&cpu, &flushing(&cpu)].map(|cpu| results(cpu, &module, &inputs).remove(0));
            let wrong = (0..got.numel()).find(|place| !alike(flushed(kept.get(*place)), got.get(*place)));
            let why = wrong.map(|place| (inputs[0].get(place), kept.get(place), got.get(place)));
            assert!(why.is_none(), "{function} of {dtype}, {}: {why:?}", cpu.isa());
        }
    }
}

/// `x` and `y` everywhere, and what is expected everywhere, kept and flushed.
fn everywhere(module: &Module, inputs: &[Array], expected: [&[f64]; 2]) {
    for cpu in levels::cpus(2) {
        for (cpu, expected) in [cpu.clone(), flushing(&cpu)].iter().zip(expected) {
            for (got, expected) in results(cpu, module, inputs).iter().zip(expected) {
                let expected = Scalar::float(got.dtype(), *expected).as_f64();
                let close = got.to_f64().iter().all(|got| (got - expected).abs() <= 1e-3 * expected.abs());
                assert!(close, "{cpu:?}: {:?} instead of {expected}", got.get(0));
            }
        }
    }
}

fn full(shape: &[usize], dtype: DType, value: f64) -> Array {
    Array::full(shape.to_vec(), Scalar::float(dtype, value))
}

#[test]
fn products_and_sums() {
    for (dtype, tiny, small, large) in [(DType::F32, 1e-40, 1e-20, 1e30), (DType::F64, 1e-310, 1e-155, 1e300)] {
        for [m, k, n] in [[70, 64, 50], [1, 300, 200], [3, 5, 7], [64, 2000, 8]] {
            let mut b = Build::new("product");
            let (x, y) = (b.arg("x", dtype, [m, k]), b.arg("y", dtype, [k, n]));
            let product = b.matmul(x, y);
            let module = b.finish([product]);
            let terms = f64::from(u32::try_from(k).expect("few"));
            let of = |x: f64, y: f64| [full(&[m, k], dtype, x), full(&[k, n], dtype, y)];
            everywhere(&module, &of(tiny, large), [&[tiny * large * terms], &[0.0]]);
            everywhere(&module, &of(large, tiny), [&[tiny * large * terms], &[0.0]]);
            if tiny * terms < least(dtype) {
                everywhere(&module, &of(small, small), [&[small * small * terms], &[0.0]]);
            }
        }
        let mut b = Build::new("reductions");
        let x = b.arg("x", dtype, [40usize, 30]);
        let both = b.reduce(ReduceKind::Sum, x, [0, 1]);
        let (columns, rows) = (b.reduce(ReduceKind::Sum, x, [0]), b.reduce(ReduceKind::Sum, x, [1]));
        let module = b.finish([both, columns, rows]);
        everywhere(&module, &[full(&[40, 30], dtype, tiny)], [&[tiny * 1200.0, tiny * 40.0, tiny * 30.0], &[0.0; 3]]);
    }
}

/// Elements that are moved are the same bits.
#[test]
fn what_moves_keeps_its_bits() {
    let values: Vec<f32> = (0..200u32).map(|place| f32::from_bits(1 + 40_009 * place)).collect();
    let x = Array::from_vec([20, 10], values.clone()).expect("sizes agree");
    let index = Array::from_vec([3], vec![7i64, 0, 19]).expect("sizes agree");
    let mut b = Build::new("moves");
    let (of, at) = (b.arg("x", DType::F32, [20usize, 10]), b.arg("index", DType::I64, [3usize]));
    let (rows, across) = (b.gather(of, at, 0, 0), b.permute(of, [1, 0]));
    let (twice, back) = (b.concat(0, [of, of]), b.reverse(of, [0, 1]));
    let module = b.finish([rows, across, twice, back]);
    for cpu in levels::cpus(2) {
        let [kept, got] = [&cpu, &flushing(&cpu)].map(|cpu| results(cpu, &module, &[x.clone(), index.clone()]));
        assert!(is_denormal(kept[0].get(0)));
        assert_eq!(kept, got, "level {}", cpu.isa());
        assert_eq!(kept[3].as_slice::<f32>().map(|back| back[199]), Some(values[0]));
    }
}

/// What is compared is compared as zeros: equal ones stay in their order, and the first of equal extremes is chosen.
#[test]
fn orders_and_extremes() {
    let mut b = Build::new("orders");
    let x = b.arg("x", DType::F32, [4usize]);
    let (order, most) = (b.sort(x, 0, false), b.arg_reduce(Extreme::Max, x, 0));
    let module = b.finish([order, most]);
    let x = Array::from_vec([4], vec![2e-40f32, -1e-40, 3e-40, 0.0]).expect("sizes agree");
    for cpu in levels::cpus(1) {
        let of = |cpu: &Cpu| results(cpu, &module, std::slice::from_ref(&x)).iter().map(Array::to_f64).collect::<Vec<_>>();
        assert_eq!(of(&cpu), [vec![1.0, 3.0, 0.0, 2.0], vec![2.0]], "level {}", cpu.isa());
        assert_eq!(of(&flushing(&cpu)), [vec![0.0, 1.0, 2.0, 3.0], vec![0.0]], "level {}", cpu.isa());
    }
}

/// The mode that this thread computes in, without what it notes.
fn mode() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut word = 0u32;
        // SAFETY: it writes the four bytes of the number.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        u64::from(word & !0x3f)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let word: u64;
        // SAFETY: it reads a register.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }
}

/// Threads that a caller lends, which look at their modes.
#[derive(Debug)]
struct Lent {
    pool: Pool,
    own: u64,
    looked: AtomicUsize,
}

impl Lent {
    fn new(threads: usize) -> Self {
        Self { pool: Pool::new(threads), own: mode(), looked: AtomicUsize::new(0) }
    }

    fn look(&self) {
        assert_eq!(mode(), self.own, "a thread is left in the mode of compiled code");
        self.looked.fetch_add(1, Ordering::Relaxed);
    }
}

impl Parallel for Lent {
    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn run(&self, parts: usize, task: &(dyn Fn(usize) + Sync)) {
        self.look();
        self.pool.run(parts, &|part| {
            self.look();
            task(part);
            self.look();
        });
        self.look();
    }
}

/// `x / y` of whole numbers, which may fail, and `u * v`.
fn quotients_and_products() -> Module {
    let mut b = Build::new("both");
    let [x, y] = ["x", "y"].map(|name| b.arg(name, DType::I32, [1usize << 20]));
    let [u, v] = ["u", "v"].map(|name| b.arg(name, DType::F32, [1usize << 20]));
    let (quotient, product) = (b.map(ScalarFn::Div, [x, y]), b.map(ScalarFn::Mul, [u, v]));
    b.finish([quotient, product])
}

#[test]
fn threads_have_their_own_modes_again() {
    let (module, count) = (quotients_and_products(), 1usize << 20);
    let floats = [full(&[count], DType::F32, 1e-20), full(&[count], DType::F32, -1e-20)];
    let with = |divisor: i32| {
        let whole = [7, divisor].map(|value| Array::full([count], Scalar::int(DType::I32, i64::from(value))));
        [&whole[..], &floats[..]].concat()
    };
    let before = mode();
    for (threads, cpu) in (1..=3).flat_map(|threads| levels::cpus(1).into_iter().map(move |cpu| (threads, cpu))) {
        let lent = Arc::new(Lent::new(threads));
        let pool: Arc<dyn Parallel> = lent.clone();
        let cpu = flushing(&Cpu::with_threads(pool).with_isa(cpu.isa()).expect("the machine runs it"));
        let got = results(&cpu, &module, &with(2));
        assert_eq!(got, [full(&[count], DType::F32, 3.0).cast(DType::I32), full(&[count], DType::F32, -0.0)]);
        assert_eq!(got[1].as_slice::<f32>().map(|products| products[0].is_sign_negative()), Some(true));
        let error = ran(&cpu, &module, &with(0)).expect_err("a division by zero");
        assert!(error.contains("zero"), "{error}");
        assert_eq!(mode(), before, "after calls of which one failed");
        assert!(threads == 1 || lent.looked.load(Ordering::Relaxed) >= 2 * (2 + 2 * threads), "the lent threads did the work");
    }
}

/// Whatever the caller's mode is, results are the same, for any number of threads, and the mode is the caller's again.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_callers_own_mode_does_not_matter() {
    let module = quotients_and_products();
    let of = |value: f32| {
        Array::from_fn(DType::F32, [1 << 20], |place| Scalar::float(DType::F32, f64::from(value) / (1 + place) as f64))
    };
    let whole = Array::full([1 << 20], Scalar::int(DType::I32, 3));
    let inputs = [whole.clone(), whole, of(1e-18), of(1e-18)];
    // Towards positive infinity, flushed.
    let (own, other) = (u32::try_from(mode()).expect("it is a word"), 0x1f80u32 | 2 << 13 | 1 << 15 | 1 << 6);
    for cpu in levels::cpus(1) {
        for denormals in Denormals::ALL {
            let of = |threads: usize| Cpu::new(threads).with_isa(cpu.isa()).and_then(|cpu| cpu.with_denormals(denormals));
            let expected = results(&of(1).expect("it can"), &module, &inputs);
            for threads in 1..=3 {
                let cpu = of(threads).expect("it can");
                // SAFETY: it reads the four bytes of the number. Until the mode is the thread's own again, compiled code alone computes with floats.
                unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const other, options(nostack)) };
                let (got, after) = (ran(&cpu, &module, &inputs), mode());
                // SAFETY: as above.
                unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const own, options(nostack)) };
                assert_eq!(after, u64::from(other), "{threads} threads, denormals {denormals}");
                assert!(got.as_ref() == Ok(&expected), "{threads} threads, denormals {denormals}, level {}", cpu.isa());
            }
        }
    }
}

/// What holds of ordinary numbers holds where denormals are flushed, for any number of threads.
#[test]
fn programs_and_nets_are_within_their_bounds() {
    let of = |threads: usize| flushing(&Cpu::new(threads));
    random_programs(&of(1), &[&of(3)], 0..SEEDS);
    networks(&of(2), &[&of(3)]);
}

#[test]
fn denormals_are_kept_by_default_and_debug_tells() {
    let cpu = Cpu::new(1);
    assert_eq!(cpu.denormals(), Denormals::Kept, "nobody loses numbers who does not ask for it");
    let flushing = flushing(&cpu);
    assert!(format!("{cpu:?}").contains("denormals: Kept") && format!("{flushing:?}").contains("denormals: Flushed"));
    let program = Arc::new(pipeline::compile(quotients_and_products(), &cpu.describe(), &mut Silent).expect("it compiles"));
    let executables = [cpu, flushing].map(|cpu| format!("{:?}", cpu.compile(Arc::clone(&program)).expect("it compiles")));
    assert!(executables[0].ends_with("denormals kept)") && executables[1].ends_with("denormals flushed)"), "{executables:?}");
    for denormals in Denormals::ALL {
        assert_eq!(denormals.name().parse(), Ok(denormals));
    }
    assert!("gone".parse::<Denormals>().expect_err("neither").contains("kept or flushed"));
}
