//! Attention and its derivatives: products of rows and columns, weights made of them, and sums over columns by these weights.
//! No array has rows and columns both: what is between the products and the sums is never in memory as a whole.

use serde::{Deserialize, Serialize};

use super::as_nest::append;
use super::body::{Body, InstKind, ValueId};
use super::contract::Side;
use super::nest::{AxisSet, Combine, Nest, Reduction, Stage, Store};
use crate::dim::Dim;
use crate::dtype::{DType, Scalar};
use crate::op::ReduceKind;
use crate::scalar::ScalarFn;

/// At every point of `batch` and `rows`, sums over `columns`: `sum over columns of weight * side`; and the other way, at every point of
/// `batch` and `columns`, sums over rows.
///
/// Weights are what a body makes of products, each `sum over k of rows * columns`; with a softmax, they are the shares of scores.
/// Forward, `rows` are queries and there is one product and one sum; the derivatives with respect to queries have a second product, of
/// cotangents and values; with respect to keys and values, `rows` are keys, and there are two sums. All three at once are those two with a sum
/// over keys for every query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attend {
    /// The size of each axis.
    pub axes: Vec<Dim>,
    /// Axes of everything.
    pub batch: AxisSet,
    /// The axis of rows: of one side of each product, and of the results.
    pub rows: usize,
    /// The axes that are summed over: of the other side of each product, and of what is summed. Neighbours along the last are neighbours.
    pub columns: AxisSet,
    /// The products.
    pub products: Vec<Product>,
    /// What a point of `batch`, `rows` and `columns` makes of the products there: `Reduced { stage, slot: 0 }` is one of them, by position.
    pub weights: Body,
    /// Whether weights are shares, and of what.
    pub softmax: Option<Softmax>,
    /// The points that count: all of these are at least 0 there. Elsewhere a weight is 0, a score minus infinity.
    pub keep: Vec<Dim>,
    /// The sums over columns.
    pub sums: Vec<Sum>,
    /// The sums over rows. There are none in a softmax, whose weights are known at the end of a row.
    pub across: Vec<Sum>,
    /// What products and sums are computed in.
    pub acc: DType,
}

/// `sum over k of rows * columns`, at every point of `batch`, rows and columns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Product {
    /// The axis that is summed over.
    pub k: usize,
    /// Over `batch`, `rows` and `k`.
    pub rows: Side,
    /// Over `batch`, `columns` and `k`.
    pub columns: Side,
}

/// The weights of a row are `exp(score) / sum over columns of exp(score)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Softmax {
    /// The score, in the weights' body. All sums are by its shares.
    pub score: ValueId,
    /// Where the logarithm of a row's sum goes, if anywhere; the value is the score.
    pub log_sum: Option<Store>,
}

/// `sum over columns of weight * side`, stored at every point of `batch`, rows and `free`; or over rows, at every point of `batch`, columns and
/// `free`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sum {
    /// The axis of the side that weights have not.
    pub free: usize,
    /// Over `batch`, what is summed over, and `free`.
    pub side: Side,
    /// Where the sum goes; the value is the weight, in the weights' body.
    pub to: Store,
}

impl Attend {
    /// The axes that weights have.
    #[must_use]
    pub fn matrix(&self) -> AxisSet {
        self.batch.with(self.rows).union(self.columns)
    }

    /// The axes that a row's results have.
    #[must_use]
    pub fn row(&self) -> AxisSet {
        self.batch.with(self.rows)
    }

    /// The axes that a column's results have.
    #[must_use]
    pub fn column(&self) -> AxisSet {
        self.batch.union(self.columns)
    }

    /// Every sum, with the axes but `free` that its results have.
    pub fn all_sums(&self) -> impl Iterator<Item = (&Sum, AxisSet)> {
        let (row, column) = (self.row(), self.column());
        self.sums.iter().map(move |sum| (sum, row)).chain(self.across.iter().map(move |sum| (sum, column)))
    }

    /// Every body.
    pub fn bodies(&self) -> impl Iterator<Item = &Body> {
        let products = self.products.iter().flat_map(|product| [&product.rows.body, &product.columns.body]);
        products.chain([&self.weights]).chain(self.sums.iter().chain(&self.across).map(|sum| &sum.side.body))
    }

    /// Every store.
    pub fn stores(&self) -> impl Iterator<Item = &Store> {
        self.softmax
            .iter()
            .filter_map(|softmax| softmax.log_sum.as_ref())
            .chain(self.sums.iter().chain(&self.across).map(|sum| &sum.to))
    }

    /// The same as a nest, with products in its earlier stages: what it means, and what it is where nothing better is known.
    #[must_use]
    pub fn as_nest(&self) -> Nest {
        let mut stages: Vec<Stage> = self.products.iter().map(|product| self.product(product)).collect();
        if let Some(softmax) = &self.softmax {
            let (mut body, scores) = self.kept(softmax.score, Scalar::lowest(self.acc));
            stages.push(self.row_stage(body.clone(), ReduceKind::Max, scores));
            let share = exp_of_score(&mut body, stages.len() - 1, scores, self.acc);
            stages.push(self.row_stage(body, ReduceKind::Sum, share));
        }
        let softmax = stages.len();
        let mut results = Vec::new();
        for (sum, own) in self.all_sums() {
            stages.push(self.sum(sum, own, softmax));
            results.push(self.store(&sum.to, own.with(sum.free), stages.len() - 1));
        }
        if let Some(store) = self.softmax.as_ref().and_then(|softmax| softmax.log_sum.as_ref()) {
            results.push(self.log_sum(store, softmax));
        }
        stages.extend(results);
        Nest { axes: self.axes.clone(), stages }
    }

    fn product(&self, product: &Product) -> Stage {
        let mut body = Body::default();
        let rows = append(&mut body, &product.rows.body)[product.rows.value.index()];
        let columns = append(&mut body, &product.columns.body)[product.columns.value.index()];
        let value = body.push(InstKind::Map(ScalarFn::Mul, vec![rows, columns]), self.acc);
        let reductions = vec![self.reduction(ReduceKind::Sum, value)];
        Stage { over: self.matrix().with(product.k), keep: self.matrix(), body, reductions, stores: Vec::new() }
    }

    fn reduction(&self, kind: ReduceKind, value: ValueId) -> Reduction {
        Reduction { combine: Combine::Reduce(kind), value, dtype: self.acc }
    }

    /// The weights' body, and a value of it where the point counts, else `other`.
    fn kept(&self, value: ValueId, other: Scalar) -> (Body, ValueId) {
        let mut body = self.weights.clone();
        let mut counts = None;
        for keep in &self.keep {
            let position = body.push(InstKind::Index(keep.clone()), DType::I64);
            let zero = body.push(InstKind::Const(Scalar::zero(DType::I64)), DType::I64);
            let holds = body.push(InstKind::Map(ScalarFn::Ge, vec![position, zero]), DType::Bool);
            counts = Some(counts.map_or(holds, |all| body.push(InstKind::Map(ScalarFn::And, vec![all, holds]), DType::Bool)));
        }
        let Some(counts) = counts else { return (body, value) };
        let other = body.push(InstKind::Const(other), self.acc);
        let value = body.push(InstKind::Map(ScalarFn::Select, vec![counts, value, other]), self.acc);
        (body, value)
    }

    /// A reduction over the columns of a row.
    fn row_stage(&self, body: Body, kind: ReduceKind, value: ValueId) -> Stage {
        let reductions = vec![self.reduction(kind, value)];
        Stage { over: self.matrix(), keep: self.row(), body, reductions, stores: Vec::new() }
    }

    /// `softmax`: the number of the stage after the softmax's two, if there is one.
    fn sum(&self, sum: &Sum, own: AxisSet, softmax: usize) -> Stage {
        let other = if self.softmax.is_some() { Scalar::lowest(self.acc) } else { Scalar::zero(self.acc) };
        let (mut body, mut weight) = self.kept(sum.to.value, other);
        if self.softmax.is_some() {
            let share = exp_of_score(&mut body, softmax - 2, weight, self.acc);
            let all = body.push(InstKind::Reduced { stage: softmax - 1, slot: 0 }, self.acc);
            weight = body.push(InstKind::Map(ScalarFn::Div, vec![share, all]), self.acc);
        }
        let side = append(&mut body, &sum.side.body)[sum.side.value.index()];
        let value = body.push(InstKind::Map(ScalarFn::Mul, vec![weight, side]), self.acc);
        let reductions = vec![self.reduction(ReduceKind::Sum, value)];
        Stage { over: self.matrix().with(sum.free), keep: own.with(sum.free), body, reductions, stores: Vec::new() }
    }

    fn store(&self, to: &Store, over: AxisSet, stage: usize) -> Stage {
        let mut body = Body::default();
        let value = body.push(InstKind::Reduced { stage, slot: 0 }, self.acc);
        Stage { over, keep: over, body, reductions: Vec::new(), stores: vec![Store { value, ..to.clone() }] }
    }

    fn log_sum(&self, to: &Store, softmax: usize) -> Stage {
        let mut body = Body::default();
        let most = body.push(InstKind::Reduced { stage: softmax - 2, slot: 0 }, self.acc);
        let sum = body.push(InstKind::Reduced { stage: softmax - 1, slot: 0 }, self.acc);
        let log = body.push(InstKind::Map(ScalarFn::Log, vec![sum]), self.acc);
        let value = body.push(InstKind::Map(ScalarFn::Add, vec![most, log]), self.acc);
        let stores = vec![Store { value, ..to.clone() }];
        Stage { over: self.row(), keep: self.row(), body, reductions: Vec::new(), stores }
    }
}

/// `exp(score - max)`, the maximum being that of a stage.
fn exp_of_score(body: &mut Body, stage: usize, score: ValueId, acc: DType) -> ValueId {
    let most = body.push(InstKind::Reduced { stage, slot: 0 }, acc);
    let below = body.push(InstKind::Map(ScalarFn::Sub, vec![score, most]), acc);
    body.push(InstKind::Map(ScalarFn::Exp, vec![below]), acc)
}
