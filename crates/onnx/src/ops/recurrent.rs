//! RNN, GRU and LSTM: the operand's projection is one contraction before the loop; one cell a step.

use graver_ir::op::DotAxes;
use graver_ir::{DType, Dim, Op, ScalarFn, Shape, Value};

use super::Values;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Rnn,
    Gru,
    Lstm,
}

impl Cell {
    /// Blocks of the weights, each of the hidden size.
    const fn gates(self) -> i64 {
        match self {
            Self::Rnn => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }

    /// The functions of one direction where the node names none.
    const fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Rnn => &["Tanh"],
            Self::Gru => &["Sigmoid", "Tanh"],
            Self::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }

    /// Values that a step hands to the next: the output, and of an LSTM the cell.
    const fn states(self) -> usize {
        match self {
            Self::Rnn | Self::Gru => 1,
            Self::Lstm => 2,
        }
    }
}

/// An activation with its numbers.
#[derive(Clone, Debug)]
struct Activation {
    name: String,
    alpha: f64,
    beta: f64,
}

/// What is the same for all steps of one direction.
struct Rule {
    cell: Cell,
    hidden: Dim,
    activations: Vec<Activation>,
    clip: Option<f64>,
    /// GRU: the reset gate after the product.
    after_product: bool,
    /// LSTM: the forget gate is what the input gate leaves.
    coupled: bool,
}

/// The weights that a step uses.
#[derive(Clone, Copy)]
struct Weights {
    /// `[gates * hidden, hidden]`
    recurrent: Value,
    /// `[gates * hidden]`
    bias: Option<Value>,
    /// `[3 * hidden]`
    peepholes: Option<Value>,
}

pub(super) fn recurrent(n: &mut Node<'_>, cell: Cell) -> Values {
    let batch_first = n.int("layout", 0) == 1;
    let x = n.arg(0)?;
    let x = if batch_first { n.b.swap(x, 0, 1)? } else { x };
    let shape = n.b.shape(x);
    let weights = n.shape(2)?;
    if shape.rank() != 3 || weights.rank() != 3 {
        return wrong(format!("takes [time, batch, features] and weights of three axes, got {} and {weights}", n.b.ty(x)));
    }
    let direction = n.text("direction", "forward");
    if !["forward", "reverse", "bidirectional"].contains(&direction.as_str()) {
        return wrong(format!("`direction` is `{direction}`, and must be forward, reverse or bidirectional"));
    }
    if n.has("hidden_size") && weights[2].as_const().is_some_and(|hidden| hidden != n.int("hidden_size", 0)) {
        return wrong(format!("`hidden_size` is {}, and the recurrent weights are {weights}", n.int("hidden_size", 0)));
    }
    let count = if direction == "bidirectional" { 2 } else { 1 };
    let (mut outputs, mut states) = (Vec::new(), vec![Vec::new(); cell.states()]);
    for place in 0..count {
        let rule = rule(n, cell, place, weights[2].clone())?;
        let backwards = direction == "reverse" || place == 1;
        let (all, last) = one_direction(n, &rule, x, place, batch_first, backwards)?;
        outputs.push(n.b.unsqueeze(all, &[1])?);
        for (list, state) in states.iter_mut().zip(last) {
            list.push(n.b.unsqueeze(state, &[0])?);
        }
    }
    let mut results = vec![n.b.concat(1, &outputs)?];
    for list in states {
        results.push(n.b.concat(0, &list)?);
    }
    if batch_first {
        results[0] = n.b.permute(results[0], vec![2, 0, 1, 3])?;
        for state in &mut results[1..] {
            *state = n.b.swap(*state, 0, 1)?;
        }
    }
    Ok(results)
}

fn rule(n: &Node<'_>, cell: Cell, place: usize, hidden: Dim) -> Result<Rule> {
    let count = cell.functions().len();
    let own: Vec<String> = cell.functions().iter().map(|name| (*name).to_owned()).collect();
    let names = match n.texts("activations") {
        Some(names) if !names.is_empty() => names.get(place * count..(place + 1) * count).map(<[String]>::to_vec),
        Some(_) | None => Some(own),
    };
    let Some(names) = names else { return wrong(format!("fewer than {count} activations a direction")) };
    // Numbers are listed for the functions that have such, those of the direction before first.
    let before = n.texts("activations").unwrap_or_default().into_iter().take(place * count);
    let (mut alphas, mut betas) = (Vec::new(), Vec::new());
    let mut alpha_of = n.floats("activation_alpha").unwrap_or_default().into_iter().map(f64::from);
    let mut beta_of = n.floats("activation_beta").unwrap_or_default().into_iter().map(f64::from);
    for name in before.chain(names.iter().cloned()) {
        let (alpha, beta) = defaults(&name);
        alphas.push(alpha.map(|default| alpha_of.next().unwrap_or(default)));
        betas.push(beta.map(|default| beta_of.next().unwrap_or(default)));
    }
    let own = alphas.len() - names.len();
    let activation = |(at, name): (usize, String)| Activation {
        name,
        alpha: alphas[own + at].unwrap_or(1.0),
        beta: betas[own + at].unwrap_or(0.0),
    };
    Ok(Rule {
        cell,
        hidden,
        activations: names.into_iter().enumerate().map(activation).collect(),
        clip: n.has("clip").then(|| n.float("clip", 0.0)),
        after_product: n.flag("linear_before_reset", false),
        coupled: n.flag("input_forget", false),
    })
}

/// What the two numbers of a function are where none are given, if it has them.
fn defaults(name: &str) -> (Option<f64>, Option<f64>) {
    match name.to_ascii_lowercase().as_str() {
        "leakyrelu" => (Some(0.01), None),
        "hardsigmoid" => (Some(0.2), Some(0.5)),
        "affine" => (Some(1.0), Some(0.0)),
        "scaledtanh" => (Some(1.0), Some(1.0)),
        "thresholdedrelu" | "elu" => (Some(1.0), None),
        _ => (None, None),
    }
}

fn activate(b: &mut Builder, activation: &Activation, x: Value) -> Result<Value> {
    let Activation { name, alpha, beta } = activation;
    match name.to_ascii_lowercase().as_str() {
        "relu" => b.map(ScalarFn::Relu, &[x]),
        "tanh" => b.map(ScalarFn::Tanh, &[x]),
        "sigmoid" => b.map(ScalarFn::Sigmoid, &[x]),
        "softsign" => super::activation::softsign(b, x),
        "softplus" => super::activation::softplus(b, x),
        "hardsigmoid" => super::activation::ramp(b, x, *alpha, *beta),
        "affine" => {
            let scaled = b.with(ScalarFn::Mul, x, *alpha)?;
            b.with(ScalarFn::Add, scaled, *beta)
        }
        "scaledtanh" => {
            let scaled = b.with(ScalarFn::Mul, x, *beta)?;
            let squashed = b.map(ScalarFn::Tanh, &[scaled])?;
            b.with(ScalarFn::Mul, squashed, *alpha)
        }
        "leakyrelu" => {
            let below = b.with(ScalarFn::Mul, x, *alpha)?;
            super::activation::above(b, x, 0.0, below)
        }
        "thresholdedrelu" => {
            let zero = b.number(b.dtype(x), 0.0)?;
            super::activation::above(b, x, *alpha, zero)
        }
        "elu" => {
            let curve = b.map(ScalarFn::Expm1, &[x])?;
            let below = b.with(ScalarFn::Mul, curve, *alpha)?;
            super::activation::above(b, x, 0.0, below)
        }
        _ => unsupported(format!("the activation `{name}`")),
    }
}

/// The part of an operand that belongs to a direction.
fn of_direction(n: &mut Node<'_>, place: usize, direction: usize) -> Result<Option<Value>> {
    let Some(x) = n.opt(place) else { return Ok(None) };
    let part = n.b.part(x, 0, &Dim::from(direction), &Dim::ONE)?;
    let shape = n.b.shape(part).without(&[0]);
    n.b.reshape(part, shape.0).map(Some)
}

/// The outputs of all steps, in the operand's order, and the last states.
fn one_direction(
    n: &mut Node<'_>,
    rule: &Rule,
    x: Value,
    direction: usize,
    batch_first: bool,
    backwards: bool,
) -> Result<(Value, Vec<Value>)> {
    let shape = n.b.shape(x);
    let (trip, batch, dtype) = (shape[0].clone(), shape[1].clone(), n.b.dtype(x));
    let Some(input) = of_direction(n, 1, direction)? else { return wrong("the weights are missing") };
    let Some(recurrent) = of_direction(n, 2, direction)? else { return wrong("the recurrent weights are missing") };
    let bias = of_direction(n, 3, direction)?;
    let width = &rule.hidden * Dim::from(rule.cell.gates());
    let projected = n.b.dot(x, input, DotAxes { lhs_contract: vec![2], rhs_contract: vec![1], ..DotAxes::default() })?;
    let (mut projected, mut weights) = (projected, Weights { recurrent, bias: None, peepholes: None });
    if let Some(bias) = bias {
        let own = n.b.part(bias, 0, &Dim::ZERO, &width)?;
        projected = n.b.add(projected, own)?;
        weights.bias = Some(n.b.part(bias, 0, &width, &width)?);
    }
    if rule.cell == Cell::Lstm {
        weights.peepholes = of_direction(n, 7, direction)?;
    }
    let mut states = Vec::new();
    for place in 0..rule.cell.states() {
        let given = match n.opt(5 + place) {
            Some(given) if batch_first => {
                let state = n.b.part(given, 1, &Dim::from(direction), &Dim::ONE)?;
                Some(n.b.reshape(state, [batch.clone(), rule.hidden.clone()])?)
            }
            Some(_) => of_direction(n, 5 + place, direction)?,
            None => None,
        };
        states.push(match given {
            Some(given) => given,
            None => {
                let zero = n.b.number(dtype, 0.0)?;
                n.b.fill(zero, &Shape(vec![batch.clone(), rule.hidden.clone()]))?
            }
        });
    }
    let mut scanned = vec![projected];
    if let Some(lengths) = n.opt(4) {
        scanned.push(alive(n.b, lengths, &trip, &batch)?);
    }
    if backwards {
        for x in &mut scanned {
            *x = n.b.emit(Op::Reverse(vec![0]), &[*x])?;
        }
    }
    let shared: Vec<Value> = [Some(weights.recurrent), weights.bias, weights.peepholes].into_iter().flatten().collect();
    let present = (weights.bias.is_some(), weights.peepholes.is_some());
    let (last, stacked) = n.b.scan(&trip, &states, &scanned, &shared, |b, states, slices, shared| {
        let weights = Weights {
            recurrent: shared[0],
            bias: present.0.then(|| shared[1]),
            peepholes: present.1.then(|| shared[shared.len() - 1]),
        };
        step(b, rule, states, slices, &weights)
    })?;
    let all = if backwards { n.b.emit(Op::Reverse(vec![0]), &[stacked])? } else { stacked };
    Ok((all, last))
}

/// Which steps are inside of each sequence: `[time, batch, 1]`.
fn alive(b: &mut Builder, lengths: Value, trip: &Dim, batch: &Dim) -> Result<Value> {
    let time = b.iota(DType::I64, &Shape(vec![trip.clone(), batch.clone()]), 0)?;
    let lengths = b.cast(lengths, DType::I64)?;
    let inside = b.map(ScalarFn::Lt, &[time, lengths])?;
    b.unsqueeze(inside, &[2])
}

/// The next states and the step's output; after a sequence's end the states stay and the output is zero.
fn step(b: &mut Builder, rule: &Rule, states: &[Value], slices: &[Value], weights: &Weights) -> Result<(Vec<Value>, Value)> {
    let next = match rule.cell {
        Cell::Rnn => rnn(b, rule, states[0], slices[0], weights)?,
        Cell::Gru => gru(b, rule, states[0], slices[0], weights)?,
        Cell::Lstm => lstm(b, rule, [states[0], states[1]], slices[0], weights)?,
    };
    let Some(inside) = slices.get(1) else { return Ok((next.clone(), next[0])) };
    let zero = b.number(b.dtype(next[0]), 0.0)?;
    let output = b.select(*inside, next[0], zero)?;
    let kept = next.iter().zip(states).map(|(new, old)| b.select(*inside, *new, *old)).collect::<Result<_>>()?;
    Ok((kept, output))
}

/// `h R^T` for the gates from one on.
fn through(b: &mut Builder, rule: &Rule, h: Value, weights: &Weights, gates: std::ops::Range<i64>) -> Result<Value> {
    let (first, size) = (&rule.hidden * Dim::from(gates.start), &rule.hidden * Dim::from(gates.end - gates.start));
    let matrix = b.part(weights.recurrent, 0, &first, &size)?;
    let y = b.dot(h, matrix, DotAxes { lhs_contract: vec![1], rhs_contract: vec![1], ..DotAxes::default() })?;
    match weights.bias {
        Some(bias) => {
            let bias = b.part(bias, 0, &first, &size)?;
            b.add(y, bias)
        }
        None => Ok(y),
    }
}

/// One gate of many.
fn gate(b: &mut Builder, rule: &Rule, x: Value, place: i64) -> Result<Value> {
    b.part(x, 1, &(&rule.hidden * Dim::from(place)), &rule.hidden)
}

fn clipped(b: &mut Builder, rule: &Rule, x: Value) -> Result<Value> {
    let Some(bound) = rule.clip else { return Ok(x) };
    let x = b.with(ScalarFn::Max, x, -bound)?;
    b.with(ScalarFn::Min, x, bound)
}

fn active(b: &mut Builder, rule: &Rule, function: usize, x: Value) -> Result<Value> {
    let x = clipped(b, rule, x)?;
    activate(b, &rule.activations[function], x)
}

/// Elman (1990), "Finding structure in time".
fn rnn(b: &mut Builder, rule: &Rule, h: Value, x: Value, weights: &Weights) -> Result<Vec<Value>> {
    let recurrent = through(b, rule, h, weights, 0..1)?;
    let sum = b.add(x, recurrent)?;
    Ok(vec![active(b, rule, 0, sum)?])
}

/// Cho et al. (2014), "Learning phrase representations using RNN encoder-decoder".
fn gru(b: &mut Builder, rule: &Rule, h: Value, x: Value, weights: &Weights) -> Result<Vec<Value>> {
    let recurrent = through(b, rule, h, weights, 0..2)?;
    let mut opened = Vec::new();
    for place in 0..2 {
        let (own, back) = (gate(b, rule, x, place)?, gate(b, rule, recurrent, place)?);
        let sum = b.add(own, back)?;
        opened.push(active(b, rule, 0, sum)?);
    }
    let [update, reset] = [opened[0], opened[1]];
    let back = if rule.after_product {
        let product = through(b, rule, h, weights, 2..3)?;
        b.mul(reset, product)?
    } else {
        let kept = b.mul(reset, h)?;
        through(b, rule, kept, weights, 2..3)?
    };
    let own = gate(b, rule, x, 2)?;
    let sum = b.add(own, back)?;
    let candidate = active(b, rule, 1, sum)?;
    let rest = b.from(ScalarFn::Sub, 1.0, update)?;
    let (new, old) = (b.mul(rest, candidate)?, b.mul(update, h)?);
    Ok(vec![b.add(new, old)?])
}

/// Hochreiter and Schmidhuber (1997), "Long short-term memory"; peepholes by Gers et al. (2002).
fn lstm(b: &mut Builder, rule: &Rule, [h, c]: [Value; 2], x: Value, weights: &Weights) -> Result<Vec<Value>> {
    let recurrent = through(b, rule, h, weights, 0..4)?;
    let sum = b.add(x, recurrent)?;
    let peep = |b: &mut Builder, sum: Value, cell: Value, place: i64| -> Result<Value> {
        let Some(peepholes) = weights.peepholes else { return Ok(sum) };
        let weight = b.part(peepholes, 0, &(&rule.hidden * Dim::from(place)), &rule.hidden)?;
        let seen = b.mul(weight, cell)?;
        b.add(sum, seen)
    };
    let own = gate(b, rule, sum, 0)?;
    let own = peep(b, own, c, 0)?;
    let input = active(b, rule, 0, own)?;
    let forget = if rule.coupled {
        b.from(ScalarFn::Sub, 1.0, input)?
    } else {
        let own = gate(b, rule, sum, 2)?;
        let own = peep(b, own, c, 2)?;
        active(b, rule, 0, own)?
    };
    let own = gate(b, rule, sum, 3)?;
    let candidate = active(b, rule, 1, own)?;
    let (old, new) = (b.mul(forget, c)?, b.mul(input, candidate)?);
    let cell = b.add(old, new)?;
    let own = gate(b, rule, sum, 1)?;
    let own = peep(b, own, cell, 1)?;
    let output = active(b, rule, 0, own)?;
    let shown = activate(b, &rule.activations[2], cell)?;
    Ok(vec![b.mul(output, shown)?, cell])
}
