//! Attention as a kernel, forward and backward: masked, with biases and shared heads, of sizes around those of tiles, in every type that has
//! one; near what its primitives give in `f64`.

use graver_interp::{Precision, eval};
use graver_ir::{Array, DType, Module, Scalar, Target};
use graver_passes::{Cx, Silent, pipeline, runner};
use graver_runtime::Backend;
use graver_testkit::{Bound, check_close};
use graver_trace::{Attention, Tensor, grad, spec_of, trace};

use crate::{Compiled, report};

/// Attention and its derivatives of every case.
///
/// # Panics
/// If any leaves its bounds, or has other bits on one of the backends in `alike`.
pub fn attentions(backend: &dyn Backend, alike: &[&dyn Backend]) {
    let cases: Vec<(Case, Module)> = cases().into_iter().map(|case| (case, case.graph(true))).collect();
    let compiled: Vec<_> = cases.iter().map(|(_, module)| Compiled::new(module, backend, alike)).collect();
    let wrong = cases.iter().zip(compiled).filter_map(|((case, module), compiled)| {
        let inputs = case.inputs();
        let results = compiled.and_then(|compiled| compiled.run(&inputs, &[]));
        let outcome = results.and_then(|results| case.check(&reference(module, &inputs), &results));
        outcome.err().map(|error| format!("{case:?}: {error}"))
    });
    report("attentions", &wrong.collect::<Vec<_>>());
}

/// A program of each case, by name.
pub(crate) fn modules() -> Vec<(String, Module)> {
    cases().iter().enumerate().map(|(number, case)| (format!("attention/{number}"), case.graph(true))).collect()
}

/// An attention of `[batch, heads, queries, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Of queries, keys and values alike.
    pub batch: usize,
    /// Of queries.
    pub heads: usize,
    /// Heads of keys.
    pub shared: usize,
    /// How many.
    pub queries: usize,
    /// How many.
    pub keys: usize,
    /// Of queries and keys.
    pub width: usize,
    /// Of values.
    pub value_width: usize,
    /// Whether keys that come later do not count.
    pub causal: bool,
    /// What is added to scores.
    pub bias: Bias,
    /// Of all operands.
    pub dtype: DType,
}

/// What is added to scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// Nothing.
    None,
    /// For every head, query and key.
    Full,
    /// Minus infinity for some keys, of every batch its own.
    Keys,
}

/// A small one, whose operands are alike.
pub const PLAIN: Case = Case {
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
#[must_use]
pub fn cases() -> Vec<Case> {
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
        // Few heads of keys, odd numbers of both, everything at once.
        Case {
            dtype: DType::BF16,
            batch: 1,
            heads: 4,
            shared: 1,
            queries: 19,
            keys: 83,
            width: 32,
            value_width: 64,
            ..causal(PLAIN)
        },
        Case {
            dtype: DType::F16,
            heads: 6,
            shared: 3,
            queries: 37,
            keys: 53,
            width: 40,
            value_width: 48,
            bias: Bias::Full,
            ..causal(PLAIN)
        },
    ]
}

/// Numbers below 1, which differ from place to place.
#[must_use]
pub fn numbers(dtype: DType, shape: &[usize], seed: usize) -> Array {
    let value = |place: usize| ((place * 37 + seed * 101 + place / 11 * 5) % 127) as f64 / 64.0 - 1.0;
    Array::from_fn(dtype, shape, |place| Scalar::float(dtype, value(place)))
}

impl Case {
    /// Queries, keys, values, a cotangent of the result, and a bias.
    #[must_use]
    pub fn inputs(&self) -> Vec<Array> {
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

    /// Whether results are near what primitives give. A query that sees no key gives the values NaN where its shares are written out, and
    /// nothing in a kernel.
    ///
    /// # Errors
    /// Which is not, and where.
    ///
    /// # Panics
    /// If what a query that sees nothing gives is not finite.
    pub fn check(&self, expected: &[Array], results: &[Array]) -> Result<(), String> {
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
    ///
    /// # Panics
    /// Never: it is well typed.
    #[must_use]
    pub fn graph(&self, symbolic: bool) -> Module {
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
///
/// # Panics
/// If the program is none of attention.
#[must_use]
pub fn reference(graph: &Module, inputs: &[Array]) -> Vec<Array> {
    let mut graph = graph.clone();
    let target = Target { attends: false, ..Target::generic() };
    let mut cx = Cx { target: &target, remarks: Vec::new() };
    runner::run(&mut graph, pipeline::GRAPH, &mut cx, &mut Silent, None).expect("a good program");
    let (entry, _) = graph.entry().expect("it has an entry");
    eval(&graph, entry, &inputs.iter().collect::<Vec<_>>(), &[], Precision::Reference).expect("it runs").outputs
}

/// How far results may be off: scores here are below 8, and rows below 600 long.
#[must_use]
pub fn bound(dtype: DType) -> Bound {
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
