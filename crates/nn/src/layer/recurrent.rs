//! Recurrent layers: [`Lstm`] and [`Gru`], of several layers and both directions.
//!
//! Parameters have PyTorch's names, shapes and order of gates: `weight_ih_l0: [gates * hidden, inputs]`, `weight_hh_l0: [gates * hidden,
//! hidden]`, `bias_ih_l0`, `bias_hh_l0`, then `_l1`, and `_reverse` for the other direction. Time is the first axis unless
//! `batch_first` says otherwise. A layer is one scan, whatever the length; sequences of a batch are equally long.

use graver_trace::{Diag, Module, Param, Tensor, Walk, concat, enter, fail, scan, scan_back, stack, zeros};

use crate::init::{Fill, Init};

/// One direction of one layer.
#[derive(Debug)]
pub struct RecurrentWeights {
    /// `[gates * hidden, inputs]`
    pub weight_ih: Param,
    /// `[gates * hidden, hidden]`
    pub weight_hh: Param,
    /// For the input's product and for the hidden value's, `[gates * hidden]` each.
    pub bias: Option<[Param; 2]>,
}

impl RecurrentWeights {
    /// `x W_ih^T + b_ih` and `h W_hh^T + b_hh`.
    #[track_caller]
    fn products(&self, x: Tensor, h: Tensor) -> (Tensor, Tensor) {
        let (of_x, of_h) = (x.matmul(self.weight_ih.get().t()), h.matmul(self.weight_hh.get().t()));
        match &self.bias {
            Some([ih, hh]) => (of_x + ih, of_h + hh),
            None => (of_x, of_h),
        }
    }
}

/// What recurrent layers are before they have values.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct RecurrentOptions<L> {
    inputs: usize,
    hidden: usize,
    layers: usize,
    bias: bool,
    bidirectional: bool,
    batch_first: bool,
    dropout: f64,
    make: fn(Stack) -> L,
    gates: usize,
}

impl<L> RecurrentOptions<L> {
    const fn new(inputs: usize, hidden: usize, gates: usize, make: fn(Stack) -> L) -> Self {
        Self { inputs, hidden, layers: 1, bias: true, bidirectional: false, batch_first: false, dropout: 0.0, make, gates }
    }

    /// How many layers, each over the results of the one before; one by default. Programs with none do not compile.
    pub const fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Whether there are biases; there are by default.
    pub const fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Whether each layer also runs from the last step to the first, its results beside the others; it does not by default.
    pub const fn bidirectional(mut self, bidirectional: bool) -> Self {
        self.bidirectional = bidirectional;
        self
    }

    /// Whether inputs and results are `[batch, time, features]`; `[time, batch, features]` by default. States do not change.
    pub const fn batch_first(mut self, batch_first: bool) -> Self {
        self.batch_first = batch_first;
        self
    }

    /// The probability of dropping results between layers in training; 0 by default.
    pub const fn dropout(mut self, probability: f64) -> Self {
        self.dropout = probability;
        self
    }

    /// The layer with PyTorch's default values: uniform within `1 / sqrt(hidden)` of 0.
    pub fn init(self, init: &mut Init) -> L {
        let directions = if self.bidirectional { 2 } else { 1 };
        let rows = self.gates.saturating_mul(self.hidden);
        let mut param = |shape: &[usize]| init.param(Fill::default_bias(self.hidden), shape);
        let mut weights = Vec::new();
        for layer in 0..self.layers {
            let inputs = if layer == 0 { self.inputs } else { self.hidden.saturating_mul(directions) };
            for _ in 0..directions {
                let (weight_ih, weight_hh) = (param(&[rows, inputs]), param(&[rows, self.hidden]));
                let bias = self.bias.then(|| [param(&[rows]), param(&[rows])]);
                weights.push(RecurrentWeights { weight_ih, weight_hh, bias });
            }
        }
        let Self { hidden, bidirectional, batch_first, dropout, .. } = self;
        (self.make)(Stack { weights, hidden, bidirectional, batch_first, dropout })
    }
}

/// The layers of a recurrent module.
#[derive(Debug)]
struct Stack {
    /// Layer by layer; of each the forward direction first.
    weights: Vec<RecurrentWeights>,
    hidden: usize,
    bidirectional: bool,
    batch_first: bool,
    dropout: f64,
}

impl Stack {
    fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    fn visit(&self, walk: &mut Walk<'_>) {
        for (place, weights) in self.weights.iter().enumerate() {
            let (layer, backwards) = (place / self.directions(), place % self.directions() == 1);
            let name = |what: &str| format!("{what}_l{layer}{}", if backwards { "_reverse" } else { "" });
            walk.field(&name("weight_ih"), &weights.weight_ih);
            walk.field(&name("weight_hh"), &weights.weight_hh);
            for (what, bias) in ["bias_ih", "bias_hh"].into_iter().zip(weights.bias.iter().flatten()) {
                walk.field(&name(what), bias);
            }
        }
    }

    /// What a layer gives that has no layers inside.
    #[track_caller]
    fn refused(&self) -> Option<Tensor> {
        let none =
            || fail(Diag::new("there are 0 layers, and nothing to give back").op("recurrent").help("`.layers(1)` or more"));
        self.weights.is_empty().then(none)
    }

    /// The input with time first.
    #[track_caller]
    fn in_time(&self, x: Tensor) -> Tensor {
        if self.batch_first { x.transpose(0, 1) } else { x }
    }

    /// A state of zeros for an input with time first.
    #[track_caller]
    fn start(&self, x: Tensor) -> Tensor {
        zeros((self.weights.len(), x.dim(1), self.hidden), x.dtype())
    }

    /// Every layer and direction; `run` is one of them: its number, whether it runs backwards, its input. It gives what it stacks.
    #[track_caller]
    fn run(&self, x: Tensor, mut run: impl FnMut(usize, bool, Tensor) -> Tensor) -> Tensor {
        let mut x = self.in_time(x);
        for layer in 0..self.weights.len() / self.directions() {
            if layer > 0 {
                x = x.dropout(self.dropout);
            }
            let first = layer * self.directions();
            let ys: Vec<Tensor> = (0..self.directions()).map(|direction| run(first + direction, direction == 1, x)).collect();
            x = if let [y] = ys[..] { y } else { concat(&ys, -1) };
        }
        // Exchanging twice is nothing.
        self.in_time(x)
    }
}

/// One direction over the steps of `x`.
#[track_caller]
fn over_time<C: graver_trace::Tree>(
    backwards: bool,
    start: C,
    x: Tensor,
    cell: impl FnOnce(C, Tensor) -> (C, Tensor),
) -> (C, Tensor) {
    if backwards { scan_back(start, x, cell) } else { scan(start, x, cell) }
}

/// A long short-term memory (Hochreiter and Schmidhuber, 1997, with a forget gate): gates `i, f, g, o`.
///
/// `i, f, o = sigmoid(..)`, `g = tanh(..)`, `c = f c + i g`, `h = o tanh(c)`.
///
/// ```
/// use graver_nn::{Init, Lstm};
/// use graver_trace::{Module, spec, trace};
/// let lstm = Lstm::new(8, 16).layers(2).init(&mut Init::seed(0));
/// assert_eq!(lstm.params()[0].0, "weight_ih_l0");
/// let traced = trace(|x| lstm.forward(x).0, spec::<f32>(("time", "batch", 8)))?;
/// let (_, main) = traced.module().entry().expect("a traced module has an entry");
/// assert_eq!(main.result_types()[0].to_string(), "f32[time, batch, 16]");
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[derive(Debug)]
pub struct Lstm {
    stack: Stack,
}

impl Lstm {
    /// From so many features to so many.
    pub const fn new(inputs: usize, hidden: usize) -> RecurrentOptions<Self> {
        RecurrentOptions::new(inputs, hidden, 4, |stack| Self { stack })
    }

    /// The results of the last layer at every step, and the hidden and the cell state of every layer and direction after the last
    /// step, `[layers * directions, batch, hidden]` each. Starts from zeros.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> (Tensor, (Tensor, Tensor)) {
        let _scope = enter(self, crate::SOURCES);
        let zeros = self.stack.start(self.stack.in_time(x));
        self.forward_from(x, (zeros, zeros))
    }

    /// As [`Lstm::forward`], from a hidden and a cell state.
    #[must_use]
    #[track_caller]
    pub fn forward_from(&self, x: Tensor, (h, c): (Tensor, Tensor)) -> (Tensor, (Tensor, Tensor)) {
        let _scope = enter(self, crate::SOURCES);
        if let Some(refused) = self.stack.refused() {
            return (refused, (refused, refused));
        }
        let (mut hidden, mut cells) = (Vec::new(), Vec::new());
        let y = self.stack.run(x, |place, backwards, x| {
            let weights = &self.stack.weights[place];
            let start = (h.select(0, place), c.select(0, place));
            let ((h, c), y) = over_time(backwards, start, x, |(h, c), x| {
                let (of_x, of_h) = weights.products(x, h);
                let gates = (of_x + of_h).chunk(4, -1);
                let c = gates[1].sigmoid() * c + gates[0].sigmoid() * gates[2].tanh();
                let h = gates[3].sigmoid() * c.tanh();
                ((h, c), h)
            });
            hidden.push(h);
            cells.push(c);
            y
        });
        (y, (stack(&hidden, 0), stack(&cells, 0)))
    }
}

impl Module for Lstm {
    fn visit(&self, walk: &mut Walk<'_>) {
        self.stack.visit(walk);
    }
}

/// A gated recurrent unit (Cho et al., 2014, as in cuDNN): gates `r, z, n`.
///
/// `r, z = sigmoid(..)`, `n = tanh(x W_in^T + b_in + r (h W_hn^T + b_hn))`, `h = (1 - z) n + z h`.
///
/// ```
/// use graver_nn::{Gru, Init};
/// use graver_trace::{spec, trace};
/// let gru = Gru::new(8, 16).bidirectional(true).batch_first(true).init(&mut Init::seed(0));
/// let traced = trace(|x| gru.forward(x).0, spec::<f32>(("batch", "time", 8)))?;
/// let (_, main) = traced.module().entry().expect("a traced module has an entry");
/// assert_eq!(main.result_types()[0].to_string(), "f32[batch, time, 32]");
/// # Ok::<(), graver_trace::Error>(())
/// ```
#[derive(Debug)]
pub struct Gru {
    stack: Stack,
}

impl Gru {
    /// From so many features to so many.
    pub const fn new(inputs: usize, hidden: usize) -> RecurrentOptions<Self> {
        RecurrentOptions::new(inputs, hidden, 3, |stack| Self { stack })
    }

    /// The results of the last layer at every step, and the hidden state of every layer and direction after the last step,
    /// `[layers * directions, batch, hidden]`. Starts from zeros.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, x: Tensor) -> (Tensor, Tensor) {
        let _scope = enter(self, crate::SOURCES);
        self.forward_from(x, self.stack.start(self.stack.in_time(x)))
    }

    /// As [`Gru::forward`], from a hidden state.
    #[must_use]
    #[track_caller]
    pub fn forward_from(&self, x: Tensor, h: Tensor) -> (Tensor, Tensor) {
        let _scope = enter(self, crate::SOURCES);
        if let Some(refused) = self.stack.refused() {
            return (refused, refused);
        }
        let mut hidden = Vec::new();
        let y = self.stack.run(x, |place, backwards, x| {
            let weights = &self.stack.weights[place];
            let (h, y) = over_time(backwards, h.select(0, place), x, |h, x| {
                let (of_x, of_h) = weights.products(x, h);
                let (of_x, of_h) = (of_x.chunk(3, -1), of_h.chunk(3, -1));
                let (reset, keep) = ((of_x[0] + of_h[0]).sigmoid(), (of_x[1] + of_h[1]).sigmoid());
                let new = (of_x[2] + reset * of_h[2]).tanh();
                let h = new + keep * (h - new);
                (h, h)
            });
            hidden.push(h);
            y
        });
        (y, stack(&hidden, 0))
    }
}

impl Module for Gru {
    fn visit(&self, walk: &mut Walk<'_>) {
        self.stack.visit(walk);
    }
}
