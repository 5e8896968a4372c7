//! What is timed: elements, rows, products of matrices, a training step; and how far results are from sums in `f64`.

use std::cell::RefCell;
use std::rc::Rc;

use graver::prelude::*;
use graver::trace::{named_slot, step};

#[path = "../../../graver/examples/digits/model.rs"]
mod model;

use model::Cnn;

/// A program and its sizes.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) sizes: &'static [usize],
    pub(crate) build: fn(&Device, &mut Random, &[usize]) -> Result<Ready, Error>,
}

/// A compiled program over its own numbers.
pub(crate) struct Ready {
    pub(crate) call: Box<dyn FnMut() -> Result<(), Error>>,
    /// Calls that are checked, the first ones.
    pub(crate) checked: usize,
    /// The largest error of what they left, in its bound.
    pub(crate) error: Box<dyn Fn() -> Result<f64, Error>>,
    pub(crate) work: Work,
}

/// What a call does at least.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    /// Bytes read and written.
    pub(crate) bytes: f64,
    /// Operations in `f32`.
    pub(crate) f32: f64,
    /// Operations of `bf16`, summed in `f32`.
    pub(crate) bf16: f64,
}

pub(crate) fn all() -> [Case; 6] {
    [
        Case { name: "elementwise", sizes: &[1 << 26], build: elementwise },
        Case { name: "softmax of rows", sizes: &[16_384, 4096], build: softmax },
        Case { name: "long sums", sizes: &[8, 1 << 23], build: long_sums },
        Case { name: "product, f32", sizes: &[4096, 4096, 4096], build: product_f32 },
        Case { name: "product, bf16", sizes: &[8192, 8192, 8192], build: product_bf16 },
        Case { name: "digits step", sizes: &[64], build: digits },
    ]
}

/// Numbers that differ from run to run (Steele et al., 2014, "Fast splittable pseudorandom number generators").
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// From -1 to 1.
    fn number(&mut self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "24 bits are exact")]
        let unit = (self.next() >> 40) as f32 / (1u32 << 23) as f32;
        unit - 1.0
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count as u64).expect("below a size")
    }

    fn array(&mut self, dtype: DType, shape: &[usize]) -> Result<Array, Error> {
        let values = (0..shape.iter().product()).map(|_| self.number()).collect();
        Ok(Array::from_vec(shape, values)?.cast(dtype))
    }

    /// Some positions of a result.
    fn sample(&mut self, count: usize) -> Vec<usize> {
        (0..count.min(256)).map(|_| self.below(count)).collect()
    }
}

/// Ways in which a GPU is given the calls of one program, one after the other: launch by launch, as it is recorded, and as a graph.
const WAYS: usize = 3;

/// The largest error; NaN is larger than all.
pub(crate) fn largest(errors: impl IntoIterator<Item = f64>) -> f64 {
    errors.into_iter().fold(0.0, |most, error| if error.is_nan() { f64::INFINITY } else { most.max(error) })
}

/// A step that leaves `f` of operands as its state `result`, and how far that is at some places from `expected(place)`, which gives a
/// value and its bound.
fn over_state(
    device: &Device,
    operands: Vec<Array>,
    result: Array,
    work: Work,
    f: impl Fn(&[Tensor]) -> Tensor,
    places: Vec<usize>,
    expected: impl Fn(&[Vec<f64>], usize) -> (f64, f64) + 'static,
) -> Result<Ready, Error> {
    let known: Vec<Vec<f64>> = operands.iter().map(Array::to_f64).collect();
    let given = operands.clone();
    let traced = step(spec::<f32>([1]), move |tick: Tensor| {
        let slot = |(number, array): (usize, &Array)| named_slot(&format!("operand{number}"), || array.clone()).get();
        let operands: Vec<Tensor> = given.iter().enumerate().map(slot).collect();
        named_slot("result", || result.clone()).set(f(&operands));
        tick
    });
    let step = Rc::new(RefCell::new(traced.compile(device)?));
    let tick = Array::from_vec([1], vec![0.0f32])?;
    let called = Rc::clone(&step);
    let call = move || called.borrow_mut().run(&tick).map(drop);
    let error = move || {
        let step = step.borrow();
        let got = step.state().at("optim.result").ok_or_else(|| Error::new("the step has a result"))?;
        let errors = places.iter().map(|place| {
            let (value, bound) = expected(&known, *place);
            (got.get(*place).as_f64() - value).abs() / bound
        });
        Ok(largest(errors))
    };
    Ok(Ready { call: Box::new(call), checked: WAYS, error: Box::new(error), work })
}

fn elementwise(device: &Device, random: &mut Random, sizes: &[usize]) -> Result<Ready, Error> {
    let count = sizes[0];
    let (x, result) = (random.array(DType::F32, &[count])?, Array::zeroed(DType::F32, [count])?);
    let work = Work { bytes: 8.0 * count as f64, ..Work::default() };
    let expected = |known: &[Vec<f64>], place: usize| {
        let x = known[0][place];
        let y = x.tanh() * 0.5 + x;
        (y, 1e-6)
    };
    over_state(device, vec![x], result, work, |x| x[0].tanh() * 0.5 + x[0], random.sample(count), expected)
}

fn softmax(device: &Device, random: &mut Random, sizes: &[usize]) -> Result<Ready, Error> {
    let (count, width) = (sizes[0] * sizes[1], sizes[1]);
    let (x, result) = (random.array(DType::F32, sizes)?, Array::zeroed(DType::F32, sizes)?);
    let expected = move |known: &[Vec<f64>], place: usize| {
        let row = &known[0][place / width * width..][..width];
        let y = known[0][place].exp() / row.iter().map(|x| x.exp()).sum::<f64>();
        (y, 1e-5 * y)
    };
    let work = Work { bytes: 8.0 * count as f64, ..Work::default() };
    over_state(device, vec![x], result, work, |x| x[0].softmax(-1), random.sample(count), expected)
}

fn long_sums(device: &Device, random: &mut Random, sizes: &[usize]) -> Result<Ready, Error> {
    let (rows, width) = (sizes[0], sizes[1]);
    let (x, result) = (random.array(DType::F32, sizes)?, Array::zeroed(DType::F32, [rows])?);
    let work = Work { bytes: 4.0 * (rows * width) as f64, ..Work::default() };
    let expected = move |known: &[Vec<f64>], place: usize| {
        let row = &known[0][place * width..][..width];
        (row.iter().sum(), 1e-6 * row.iter().map(|x| x.abs()).sum::<f64>())
    };
    over_state(device, vec![x], result, work, |x| x[0].sum(1), (0..rows).collect(), expected)
}

fn product_f32(device: &Device, random: &mut Random, sizes: &[usize]) -> Result<Ready, Error> {
    product(device, random, sizes, DType::F32)
}

fn product_bf16(device: &Device, random: &mut Random, sizes: &[usize]) -> Result<Ready, Error> {
    product(device, random, sizes, DType::BF16)
}

fn product(device: &Device, random: &mut Random, sizes: &[usize], dtype: DType) -> Result<Ready, Error> {
    let [m, n, depth] = sizes[..] else { return Err(Error::new("a product has three sizes")) };
    let operands = vec![random.array(dtype, &[m, depth])?, random.array(dtype, &[depth, n])?];
    let operations = 2.0 * (m * n) as f64 * depth as f64;
    let work = Work { bytes: (dtype.size() * (m * depth + depth * n + m * n)) as f64, ..Work::default() };
    let work = if dtype == DType::F32 { Work { f32: operations, ..work } } else { Work { bf16: operations, ..work } };
    let expected = move |known: &[Vec<f64>], place: usize| {
        let (row, column) = (place / n, place % n);
        let terms = || (0..depth).map(|k| known[0][row * depth + k] * known[1][k * n + column]);
        let (value, magnitude) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
        let rounding = if dtype == DType::F32 { 0.0 } else { value.abs() * 2f64.powi(-8) };
        (value, magnitude * depth as f64 * 2f64.powi(-24) + rounding)
    };
    let result = Array::zeroed(dtype, [m, n])?;
    over_state(device, operands, result, work, |x| x[0].matmul(x[1]), random.sample(m * n), expected)
}

/// Steps of the digits example that are checked, and how far their losses may be from those in `f64`, as a share of them. On the CPU the
/// farthest was 3.0e-5 of 100 seeds with 4 images, and 2.0e-5 of 20 with 64.
pub(crate) const STEPS: usize = 32;
const LOSS: f64 = 1e-4;

/// The step of the digits example: the losses of the first steps beside those of the same network in `f64` on the CPU.
fn digits(device: &Device, random: &mut Random, sizes: &[usize]) -> Result<Ready, Error> {
    let (seed, batch) = (random.next(), sizes[0]);
    let model = Cnn::new(&mut Init::seed(seed));
    let mut exact = Cnn::new(&mut Init::seed(seed).dtype(DType::F64));
    exact.load_state_dict(&model.state_dict())?;
    let labels = (0..batch).map(|_| random.below(10) as i64).collect();
    let (x, y) = (random.array(DType::F32, &[batch, 1, 24, 24])?, Array::from_vec([batch], labels)?);
    let exact_x = x.cast(DType::F64);
    let (mut own, mut exact) = (model.training(0.01, device)?, exact.training(0.01, &cpu())?);
    let losses = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&losses);
    let work = step_work(&model, &x, &y);
    let call = move || {
        let loss = own.run((&x, &y))?.item()?;
        let mut seen = seen.borrow_mut();
        // Beyond these it is time that is asked for.
        if seen.len() < STEPS {
            seen.push((loss, exact.run((&exact_x, &y))?.item()?));
        }
        Ok(())
    };
    let error = move || {
        let losses = losses.borrow();
        let errors = losses.iter().map(|(got, expected)| (got - expected).abs() / (LOSS * expected.abs()));
        Ok(largest(errors))
    };
    Ok(Ready { call: Box::new(call), checked: STEPS, error: Box::new(error), work })
}

/// What a step does at least: for every weight and place where it is applied a product and a sum, forward and in both derivatives, but for
/// the first layer's by the images; and parameters and momenta are read and written, images and labels read.
fn step_work(model: &Cnn, images: &Array, labels: &Array) -> Work {
    let parameters = model.state_dict().arrays;
    let batch = labels.numel() as f64;
    let applied = |name: &str, places: usize| batch * (parameters[name].numel() * places) as f64;
    let first = applied("conv1.weight", 24 * 24);
    let all = first + applied("conv2.weight", 12 * 12) + applied("fc1.weight", 1) + applied("fc2.weight", 1);
    let state: usize = 2 * parameters.values().map(|array| array.bytes().len()).sum::<usize>();
    let bytes = 2 * state + images.bytes().len() + labels.bytes().len();
    Work { bytes: bytes as f64, f32: 2.0 * (3.0 * all - first), bf16: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the script checks on a GPU holds on the CPU, at sizes that take no time; and what is wrong is told.
    #[test]
    fn every_case_is_within_its_bound_on_the_cpu() {
        let small: [&[usize]; 6] = [&[1000], &[5, 300], &[3, 40_000], &[33, 20, 65], &[16, 40, 64], &[4]];
        for (case, sizes) in all().iter().zip(small) {
            let mut ready = (case.build)(&cpu_with_threads(1), &mut Random::new(7), sizes).expect("it compiles");
            (0..ready.checked).for_each(|_| (ready.call)().expect("it runs"));
            let error = (ready.error)().expect("it has results");
            assert!(error <= 1.0, "{}: {error}", case.name);
        }
        assert_eq!([largest([0.5, 0.25]), largest([f64::NAN, 0.5])], [0.5, f64::INFINITY]);
        let wrong = |_: &[Vec<f64>], _: usize| (1.0, 1e-6);
        let zeros = || Array::zeroed(DType::F32, [4]).expect("four");
        let mut ready = over_state(&cpu_with_threads(1), vec![zeros()], zeros(), Work::default(), |x| x[0], vec![0, 3], wrong)
            .expect("it compiles");
        (ready.call)().expect("it runs");
        assert!((ready.error)().expect("it has results") > 1.0);
    }
}
