//! A cache of keys and values: tokens seen one by one are tokens seen at once, and a step writes what is new and nothing else.

use std::sync::Arc;

use graver_interp::Interp;
use graver_ir::kernel::{KernelBody, Mode, Place, Program, launches};
use graver_nn::{Init, KvCache, Mask, MultiHeadAttention, Rotary};
use graver_trace::{Array, DType, Device, Module, Size, Tensor, scalar, spec, step, symbol};

use crate::common::{close, floats, ramp};

const CAPACITY: usize = 8;
const WIDTH: usize = 3;

#[derive(Module)]
struct Attending {
    cache: KvCache,
}

impl Attending {
    fn new() -> Self {
        Self { cache: KvCache::new(2, 1, CAPACITY, WIDTH, DType::F32) }
    }

    /// What the last of `x: [2, t, 3]` sees of everything so far.
    fn last(&self, x: Tensor, past: Size) -> Tensor {
        let x = x.unsqueeze(1);
        let (keys, values) = self.cache.extend(x * 2.0, x + 1.0, past);
        let seen = x.attention(keys, values, graver_trace::Attention::new().causal());
        seen.select(2, -1)
    }
}

fn device() -> Device {
    Device::new(Arc::new(Interp::default()))
}

/// `[2, 6, 3]`, and the part of it from one position to another.
fn text() -> Vec<f64> {
    ramp(2 * 6 * WIDTH)
}

fn part(from: usize, to: usize) -> Array {
    let text = text();
    let rows = [0, 1].map(|row| text[(row * 6 + from) * WIDTH..(row * 6 + to) * WIDTH].to_vec());
    floats([2, to - from, WIDTH], rows.concat())
}

/// Softmax attention of the last position, in `f64`.
fn reference(count: usize) -> Vec<f64> {
    let x = part(0, count).to_f64();
    let row = |row: usize, position: usize| &x[(row * count + position) * WIDTH..][..WIDTH];
    let of = |batch: usize| -> Vec<f64> {
        let query = row(batch, count - 1);
        let score = |position: usize| -> f64 {
            row(batch, position).iter().zip(query).map(|(k, q)| 2.0 * k * q).sum::<f64>() / (WIDTH as f64).sqrt()
        };
        let weights: Vec<f64> = (0..count).map(|position| score(position).exp()).collect();
        let all: f64 = weights.iter().sum();
        (0..WIDTH)
            .map(|axis| (0..count).map(|position| weights[position] / all * (row(batch, position)[axis] + 1.0)).sum())
            .collect()
    };
    [of(0), of(1)].concat()
}

/// How many elements of the state each launch that writes it stores.
fn stored(program: &Program) -> Vec<i64> {
    let mut counts = Vec::new();
    for launch in launches(&program.entries[0].steps) {
        let kernel = program.kernel(launch.kernel);
        for (view, arg) in launch.args.iter().zip(&kernel.args) {
            let place = &program.entries[0].buffer(view.buffer).place;
            if arg.mode != Mode::Read && matches!(place, Place::State(_)) {
                let KernelBody::Nest(nest) = &kernel.body else { panic!("{} writes the state", kernel.name) };
                let count = nest.axes.iter().product::<graver_ir::Dim>();
                counts.push(count.eval(&[("prompt".to_owned(), 3)].into()).expect("sizes are known"));
            }
        }
    }
    counts
}

#[test]
fn one_by_one_is_all_at_once_and_writes_what_is_new() {
    let model = Attending::new();
    let prompt = spec::<f32>((2, symbol("prompt", 1..=CAPACITY), WIDTH));
    let prefill = step(prompt, |x| model.last(x, 0.into())).model("", &model).eval().compile(&device()).expect("compiles");
    assert_eq!(stored(prefill.program()), [2 * 3 * 3; 2]);

    let one = (spec::<f32>((2, 1, WIDTH)), spec::<bool>([symbol("length", 1..=CAPACITY)]));
    let decode =
        step(one, |(x, all)| model.last(x, all.dim(0) - 1)).model("", &model).eval().compile(&device()).expect("compiles");
    assert_eq!(stored(decode.program()), [2 * 3; 2]);

    let ((prefill, state), (decode, _)) = (prefill.split(), decode.split());
    let (mut state, mut seen) = prefill.call(state, &part(0, 3)).expect("runs");
    close(&seen, &reference(3), 1e-6);
    for length in 4..=6 {
        let all = Array::from_vec([length], vec![true; length]).expect("as many");
        (state, seen) = decode.call(state, (&part(length - 1, length), &all)).expect("runs");
        close(&seen, &reference(length), 1e-6);
    }
    let kept = state.at("cache.keys").expect("a slot").to_f64();
    assert!(kept[6 * WIDTH..8 * WIDTH].iter().all(|x| *x == 0.0), "what was not reached stays as it was");
}

/// The length as a value: a mask does what a size did.
#[test]
fn a_length_that_is_a_value() {
    let model = Attending::new();
    let inputs = (spec::<f32>((2, 1, WIDTH)), spec::<i32>(()));
    let decode = step(inputs, |(x, past)| {
        let x = x.unsqueeze(1);
        let (keys, values) = model.cache.extend_at(x * 2.0, x + 1.0, past);
        let after = graver_trace::arange(CAPACITY, DType::I32).gt(past);
        let bias = after.where_(scalar(f32::NEG_INFINITY), scalar(0.0f32));
        x.attention_with_bias(keys, values, bias, graver_trace::Attention::new()).select(2, -1)
    });
    let decode = decode.model("", &model).eval().compile(&device()).expect("compiles");
    assert_eq!(stored(decode.program()), [2 * 3; 2]);
    let (decode, mut state) = decode.split();
    for past in 0..6 {
        let at = Array::scalar(i32::try_from(past).expect("small"));
        let (next, seen) = decode.call(state, (&part(past, past + 1), &at)).expect("runs");
        close(&seen, &reference(past + 1), 1e-6);
        state = next;
    }
    // One more than there is room for: an error, and the state as it was.
    let before = state.at("cache.keys").expect("a slot").clone();
    let at = Array::scalar(i32::try_from(CAPACITY).expect("small"));
    let (state, error) = decode.call(state, (&part(0, 1), &at)).expect_err("there is no room");
    assert!(error.to_string().contains("dynamic_update: a block of 1 along axis 2 leaves f32[2, 1, 8, 3]"), "{error}");
    assert_eq!(state.at("cache.keys"), Some(&before));
}

#[test]
fn a_prompt_that_may_not_fit_is_an_error_of_tracing() {
    let model = Attending::new();
    let prompt = spec::<f32>((2, "prompt", WIDTH));
    let error = step(prompt, |x| model.last(x, 0.into())).model("", &model).trace().expect_err("it may not fit").to_string();
    assert!(error.contains("a block of prompt along axis 2 of f32[2, 1, 8, 3] is not known to fit"), "{error}");
}

/// Shared heads and turned positions: a layer that goes on from a cache, two positions at a time, gives what it gives for all at once.
#[test]
fn a_layer_goes_on_from_a_cache() {
    let attention = MultiHeadAttention::new(8, 4).kv_heads(2).rotary(Rotary::new(2, 100.0)).init(&mut Init::seed(3));
    let cache = attention.cache(2, CAPACITY);
    assert_eq!(cache.keys.value().shape(), [2, 2, CAPACITY, 2]);
    let x = |from: usize, to: usize| {
        let rows = [0, 1].map(|row| ramp(2 * 6 * 8)[(row * 6 + from) * 8..(row * 6 + to) * 8].to_vec());
        floats([2, to - from, 8], rows.concat())
    };
    let whole = crate::common::run(|x| attention.forward(x, Mask::causal()), spec::<f32>((2, "time", 8)), &x(0, 6));
    let whole = whole.expect("a good model").to_f64();

    let inputs = (spec::<f32>((2, 2, 8)), spec::<bool>([symbol("length", 2..=CAPACITY)]));
    let go_on = step(inputs, |(x, all)| attention.forward_from(Some(cache.after(all.dim(0) - 2)), x, Mask::causal()));
    let models = go_on.model("", &attention).model("cache", &cache);
    let (go_on, mut state) = models.eval().compile(&device()).expect("compiles").split();
    for past in [0, 2, 4] {
        let all = Array::from_vec([past + 2], vec![true; past + 2]).expect("as many");
        let (next, y) = go_on.call(state, (&x(past, past + 2), &all)).expect("runs");
        let expected = [0, 1].map(|row| whole[(row * 6 + past) * 8..(row * 6 + past + 2) * 8].to_vec());
        close(&y, &expected.concat(), 1e-6);
        state = next;
    }
}
