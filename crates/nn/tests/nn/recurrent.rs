//! LSTM and GRU against loops written by hand in `f64`: values, and gradients by central differences.

use graver_nn::{Gru, Init, Lstm};
use graver_trace::{Array, DType, Module, grad, spec};

use crate::common::{close, doubles, error, ramp, run};

const TIME: usize = 5;
const BATCH: usize = 2;
const INPUTS: usize = 3;
const HIDDEN: usize = 4;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `W v + b` of a row-major matrix.
fn affine(weight: &Array, bias: &Array, v: &[f64]) -> Vec<f64> {
    let (weight, bias) = (weight.to_f64(), bias.to_f64());
    let row = |row: usize| (0..v.len()).map(|k| weight[row * v.len() + k] * v[k]).sum::<f64>() + bias[row];
    (0..bias.len()).map(row).collect()
}

/// The parameter of a name.
fn value(module: &dyn Module, name: &str) -> Array {
    let mut found = module.params().into_iter().filter(|(path, _)| path == name);
    found.next().unwrap_or_else(|| panic!("no parameter `{name}`")).1.value()
}

/// A step of one example: from `(h, c)` and the gates' products to `(h, c)`.
type Cell = fn(&[f64], &[f64], &[f64], &[f64]) -> (Vec<f64>, Vec<f64>);

fn lstm_cell(h: &[f64], c: &[f64], of_x: &[f64], of_h: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = h.len();
    let gate = |gate: usize, j: usize| of_x[gate * n + j] + of_h[gate * n + j];
    let c: Vec<f64> = (0..n).map(|j| sigmoid(gate(1, j)) * c[j] + sigmoid(gate(0, j)) * gate(2, j).tanh()).collect();
    ((0..n).map(|j| sigmoid(gate(3, j)) * c[j].tanh()).collect(), c)
}

fn gru_cell(h: &[f64], _: &[f64], of_x: &[f64], of_h: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = h.len();
    let both = |gate: usize, j: usize| sigmoid(of_x[gate * n + j] + of_h[gate * n + j]);
    let new = |j: usize| (of_x[2 * n + j] + both(0, j) * of_h[2 * n + j]).tanh();
    ((0..n).map(|j| (1.0 - both(1, j)) * new(j) + both(1, j) * h[j]).collect(), vec![0.0; n])
}

/// `[time][batch][features]` through every layer in both directions; also the last hidden and cell states.
fn reference(module: &dyn Module, cell: Cell, xs: &[f64], layers: usize) -> [Vec<f64>; 3] {
    let mut x: Vec<Vec<Vec<f64>>> =
        (0..TIME).map(|t| (0..BATCH).map(|b| xs[(t * BATCH + b) * INPUTS..][..INPUTS].to_vec()).collect()).collect();
    let (mut hs, mut cs) = (Vec::new(), Vec::new());
    for layer in 0..layers {
        let mut next = vec![vec![Vec::new(); BATCH]; TIME];
        for suffix in ["", "_reverse"] {
            let of = |name: &str| value(module, &format!("{name}_l{layer}{suffix}"));
            let (ih, hh, b_ih, b_hh) = (of("weight_ih"), of("weight_hh"), of("bias_ih"), of("bias_hh"));
            for b in 0..BATCH {
                let (mut h, mut c) = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
                let order: Vec<usize> = if suffix.is_empty() { (0..TIME).collect() } else { (0..TIME).rev().collect() };
                for t in order {
                    (h, c) = cell(&h, &c, &affine(&ih, &b_ih, &x[t][b]), &affine(&hh, &b_hh, &h));
                    next[t][b].extend(&h);
                }
                hs.extend(h);
                cs.extend(c);
            }
        }
        x = next;
    }
    [x.into_iter().flatten().flatten().collect(), hs, cs]
}

fn input() -> Array {
    doubles([TIME, BATCH, INPUTS], ramp(TIME * BATCH * INPUTS))
}

#[test]
fn an_lstm_is_its_equations() {
    let lstm = Lstm::new(INPUTS, HIDDEN).layers(2).bidirectional(true).init(&mut Init::seed(3).dtype(DType::F64));
    let x = input();
    let (y, (h, c)) = run(|x| lstm.forward(x), spec::<f64>(("t", "b", INPUTS)), &x).expect("it runs");
    let [expected, hidden, cells] = reference(&lstm, lstm_cell, &x.to_f64(), 2);
    assert_eq!((y.shape(), h.shape()), (&[TIME, BATCH, 2 * HIDDEN][..], &[4, BATCH, HIDDEN][..]));
    close(&y, &expected, 1e-12);
    close(&h, &hidden, 1e-12);
    close(&c, &cells, 1e-12);
}

#[test]
fn a_gru_is_its_equations() {
    let gru = Gru::new(INPUTS, HIDDEN).layers(2).bidirectional(true).init(&mut Init::seed(4).dtype(DType::F64));
    let x = input();
    let (y, h) = run(|x| gru.forward(x), spec::<f64>(("t", "b", INPUTS)), &x).expect("it runs");
    let [expected, hidden, _] = reference(&gru, gru_cell, &x.to_f64(), 2);
    close(&y, &expected, 1e-12);
    close(&h, &hidden, 1e-12);
}

#[test]
fn gradients_of_parameters_are_central_differences() {
    let lstm = Lstm::new(INPUTS, HIDDEN).bidirectional(true).init(&mut Init::seed(5).dtype(DType::F64));
    let gru = Gru::new(INPUTS, HIDDEN).bidirectional(true).init(&mut Init::seed(6).dtype(DType::F64));
    check(&lstm, lstm_cell, |x| grad(&lstm, |m| m.forward(x).0.square().sum(..)));
    check(&gru, gru_cell, |x| grad(&gru, |m| m.forward(x).0.square().sum(..)));
}

fn check(module: &dyn Module, cell: Cell, grads: impl FnOnce(graver_trace::Tensor) -> graver_trace::Grads) {
    let x = input();
    let grads = run(grads, spec::<f64>(("t", "b", INPUTS)), &x).expect("it runs");
    let loss = || reference(module, cell, &x.to_f64(), 1)[0].iter().map(|y| y * y).sum::<f64>();
    for ((path, param), (_, gradient)) in module.params().into_iter().zip(&grads) {
        let start = param.value();
        let moved = |place: usize, by: f64| {
            let mut values = start.to_f64();
            values[place] += by;
            param.set_value(Array::from_vec(start.shape().to_vec(), values).expect("as many")).expect("of its type");
            loss()
        };
        for place in (0..start.numel()).step_by(5) {
            let difference = (moved(place, 1e-5) - moved(place, -1e-5)) / 2e-5;
            let got = gradient.to_f64()[place];
            assert!((got - difference).abs() < 1e-7 * (1.0 + difference.abs()), "{path}[{place}]: {got}, {difference}");
        }
        param.set_value(start).expect("of its type");
    }
}

#[test]
fn names_shapes_and_layouts_are_the_usual_ones() {
    let gru = Gru::new(INPUTS, HIDDEN).layers(2).bidirectional(true).bias(false).batch_first(true).init(&mut Init::seed(0));
    let shapes: Vec<String> = gru.params().iter().map(|(path, p)| format!("{path} {:?}", p.value().shape())).collect();
    let expected = [
        "weight_ih_l0 [12, 3]",
        "weight_hh_l0 [12, 4]",
        "weight_ih_l0_reverse [12, 3]",
        "weight_hh_l0_reverse [12, 4]",
        "weight_ih_l1 [12, 8]",
        "weight_hh_l1 [12, 4]",
        "weight_ih_l1_reverse [12, 8]",
        "weight_hh_l1_reverse [12, 4]",
    ];
    assert_eq!(shapes, expected);
    let lstm = Lstm::new(INPUTS, HIDDEN).batch_first(true).init(&mut Init::seed(3).dtype(DType::F64));
    let x = input();
    let both = |x: graver_trace::Tensor| {
        let (whole, last) = lstm.forward(x.transpose(0, 1));
        let (first, state) = lstm.forward(x.narrow(0, 0, 2).transpose(0, 1));
        let (second, after) = lstm.forward_from(x.narrow(0, 2, TIME - 2).transpose(0, 1), state);
        (whole, graver_trace::concat(&[first, second], 1), last.0, after.0)
    };
    let (whole, parts, last, after) = run(both, spec::<f64>([TIME, BATCH, INPUTS]), &x).expect("it runs");
    close(&whole, &parts.to_f64(), 1e-12);
    close(&last, &after.to_f64(), 1e-12);
    let wrong = error(|x| lstm.forward(x).0, spec::<f64>((BATCH, "t", 7)));
    assert!(wrong.contains("matmul"), "{wrong}");
}

#[test]
fn no_layers_are_an_error() {
    let input = || spec::<f64>(("time", "batch", INPUTS));
    let (lstm, gru) = (Lstm::new(INPUTS, HIDDEN).layers(0), Gru::new(INPUTS, HIDDEN).layers(0));
    let (lstm, gru) = (lstm.init(&mut Init::seed(0)), gru.init(&mut Init::seed(0)));
    for found in [error(|x| lstm.forward(x).0, input()), error(|x| gru.forward(x).1, input())] {
        assert!(found.contains("tests/nn/recurrent.rs:"), "{found}");
        assert!(found.ends_with("recurrent: there are 0 layers, and nothing to give back; `.layers(1)` or more"), "{found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}
