//! Attention and its derivatives: axes and their roles, the sides as operands that are read where they lie, and weights.

use graver_ir::dim::Dim;
use graver_ir::kernel::{
    Arg, Attend as Kernel, AxisSet, Body, Index, InstKind, KernelBody, Mode, Product, Side, Softmax, Store, Sum, ValueId,
};
use graver_ir::op::{Attend, AttendPart};
use graver_ir::{DType, NodeId, ScalarFn, Value};

use super::point::{Point, at as exact};
use super::region::{Region, Source, axes_in, axis_of};
use super::stores::under_reshapes;

/// What everything is computed in.
const ACC: DType = DType::F32;

/// The kernel of the region's only attention.
pub(super) fn lower(region: &mut Region<'_>, call: NodeId, of: Attend) -> KernelBody {
    let operands = Operands::of(region, call, of);
    let places = Places::new(region, &operands, of);
    let lowering = Lowering { call, operands, places };
    let kernel = match of.part {
        AttendPart::Forward => lowering.forward(region),
        AttendPart::Queries => lowering.queries(region),
        AttendPart::Keys => lowering.keys(region, 0).0,
        AttendPart::Backward => lowering.backward(region),
    };
    KernelBody::Attend(Kernel { axes: region.axes.clone(), ..kernel })
}

/// What the call is given.
struct Operands {
    q: Value,
    k: Value,
    v: Value,
    bias: Option<Value>,
    /// The cotangent, the logarithms of sums, and `delta`, in a derivative.
    given: Option<[Value; 3]>,
}

impl Operands {
    fn of(region: &Region<'_>, call: NodeId, of: Attend) -> Self {
        let args = region.graph().args(call);
        let (given, plain) = match of.part {
            AttendPart::Forward => (None, args.len()),
            AttendPart::Backward | AttendPart::Queries | AttendPart::Keys => {
                let plain = args.len() - 3;
                (Some([args[plain], args[plain + 1], args[plain + 2]]), plain)
            }
        };
        Self { q: args[0], k: args[1], v: args[2], bias: args[3..plain].first().copied(), given }
    }
}

/// Where everything is at a point of the kernel's axes.
struct Places {
    batch: AxisSet,
    /// The axis of heads that share keys, if there is one.
    shared: Option<usize>,
    /// The lead of queries, and of keys: indices of all axes but the last two.
    queries_lead: Vec<Dim>,
    keys_lead: Vec<Dim>,
    query: Own,
    key: Own,
    /// The width of queries and keys, and that of values.
    width: Dim,
    value_width: Dim,
    keep: Vec<Dim>,
}

impl Places {
    fn new(region: &mut Region<'_>, operands: &Operands, of: Attend) -> Self {
        let graph = region.graph();
        let [q, k, v] = [operands.q, operands.k, operands.v].map(|value| &graph.ty(value).shape);
        let rank = q.rank();
        let (mut queries_lead, mut keys_lead, mut shared) = (Vec::new(), Vec::new(), None);
        for (own, common) in q[..rank - 2].iter().zip(&k[..rank - 2]) {
            let place = region.axis(common);
            if own == common {
                queries_lead.push(place.clone());
            } else {
                let group = own.exact_div(common).expect("heads that share keys are as many for each");
                shared = Some(region.axes.len());
                region.axes.push(group.clone());
                queries_lead.push(&place * &group + axis_of(region.axes.len() - 1, &group));
            }
            keys_lead.push(place);
        }
        let (queries, keys) = (q[rank - 2].clone(), k[rank - 2].clone());
        // Columns come after what is shared, so that neighbours are neighbours along them.
        let (query, key) = match of.part {
            AttendPart::Forward | AttendPart::Queries => {
                let query = Own::new(region, &queries);
                (query, Own::new(region, &keys))
            }
            AttendPart::Backward | AttendPart::Keys => {
                let key = Own::new(region, &keys);
                (Own::new(region, &queries), key)
            }
        };
        let (width, value_width) = (q[rank - 1].clone(), v[rank - 1].clone());
        // The last query sees every key.
        let keep = if of.causal { vec![&keys - &queries + &query.place - &key.place] } else { Vec::new() };
        let batch = axes_in(queries_lead.iter().chain(&keys_lead));
        Self { batch, shared, queries_lead, keys_lead, query, key, width, value_width, keep }
    }

    fn at_query(&self, last: Option<&Dim>) -> Vec<Index> {
        exact(self.queries_lead.iter().chain([&self.query.place]).chain(last).cloned())
    }

    fn at_key(&self, last: &Dim) -> Vec<Index> {
        exact(self.keys_lead.iter().chain([&self.key.place, last]).cloned())
    }
}

struct Lowering {
    call: NodeId,
    operands: Operands,
    places: Places,
}

/// An axis of the kernel, be it of one step, and where it stands.
struct Own {
    axis: usize,
    place: Dim,
}

impl Own {
    fn new(region: &mut Region<'_>, size: &Dim) -> Self {
        region.axes.push(size.clone());
        let axis = region.axes.len() - 1;
        Self { axis, place: axis_of(axis, size) }
    }
}

impl Lowering {
    fn forward(&self, region: &mut Region<'_>) -> Kernel {
        let scores = self.scores(region, false);
        let (weights, score) = self.score(region);
        let log_sum = self.result(1, region).map(|position| {
            let index = self.places.at_query(None);
            self.store(region, position, index, score)
        });
        let sums = self.result(0, region).map(|position| {
            let own = Own::new(region, &self.places.value_width);
            let side = side(region, self.operands.v, &self.places.at_key(&own.place));
            let to = self.store(region, position, self.places.at_query(Some(&own.place)), score);
            Sum { free: own.axis, side, to }
        });
        let softmax = Some(Softmax { score, log_sum });
        Kernel { products: vec![scores], weights: weights.body, softmax, sums: sums.into_iter().collect(), ..self.kernel(false) }
    }

    fn queries(&self, region: &mut Region<'_>) -> Kernel {
        let products = vec![self.scores(region, false), self.cotangents(region, false)];
        let (weights, [_, change]) = self.changes(region);
        let sums = self.by_keys(region, change).into_iter().collect();
        Kernel { products, weights: weights.body, sums, ..self.kernel(false) }
    }

    /// The first result: what the changes of scores make of keys, for each query.
    fn by_keys(&self, region: &mut Region<'_>, change: ValueId) -> Option<Sum> {
        let position = self.result(0, region)?;
        let own = Own::new(region, &self.places.width);
        let side = side(region, self.operands.k, &self.places.at_key(&own.place));
        let to = self.store(region, position, self.places.at_query(Some(&own.place)), change);
        Some(Sum { free: own.axis, side, to })
    }

    /// Those of keys and values, with that of queries as a sum over rows.
    fn backward(&self, region: &mut Region<'_>) -> Kernel {
        let (keys, change) = self.keys(region, 1);
        let across = self.by_keys(region, change).into_iter().collect();
        Kernel { across, ..keys }
    }

    /// `first`: the first of the two results. With the weight that the change of a score is.
    fn keys(&self, region: &mut Region<'_>, first: u16) -> (Kernel, ValueId) {
        let products = vec![self.scores(region, true), self.cotangents(region, true)];
        let (weights, [share, change]) = self.changes(region);
        let [cotangent, ..] = self.given();
        let places = &self.places;
        let each = [(first, self.operands.q, &places.width, change), (first + 1, cotangent, &places.value_width, share)];
        let sum = |(out, summed, size, weight): (u16, Value, &Dim, ValueId)| {
            let position = self.result(out, region)?;
            let own = Own::new(region, size);
            let side = side(region, summed, &places.at_query(Some(&own.place)));
            let to = self.store(region, position, places.at_key(&own.place), weight);
            Some(Sum { free: own.axis, side, to })
        };
        let sums = each.into_iter().filter_map(sum).collect();
        (Kernel { products, weights: weights.body, sums, ..self.kernel(true) }, change)
    }

    /// All but what differs. `by_keys`: rows are keys.
    fn kernel(&self, by_keys: bool) -> Kernel {
        let (query, key) = (self.places.query.axis, self.places.key.axis);
        let (rows, columns) = if by_keys { (key, query) } else { (query, key) };
        let shared: AxisSet = self.places.shared.filter(|_| by_keys).into_iter().collect();
        Kernel {
            axes: Vec::new(),
            batch: self.places.batch.minus(shared),
            rows,
            columns: shared.with(columns),
            products: Vec::new(),
            weights: Body::default(),
            softmax: None,
            keep: self.places.keep.clone(),
            sums: Vec::new(),
            across: Vec::new(),
            acc: ACC,
        }
    }

    fn given(&self) -> [Value; 3] {
        self.operands.given.expect("a derivative is given a cotangent")
    }

    /// `q k^T`
    fn scores(&self, region: &mut Region<'_>, by_keys: bool) -> Product {
        self.product(region, &self.places.width, [self.operands.q, self.operands.k], by_keys)
    }

    /// `g v^T`
    fn cotangents(&self, region: &mut Region<'_>, by_keys: bool) -> Product {
        let [cotangent, ..] = self.given();
        self.product(region, &self.places.value_width, [cotangent, self.operands.v], by_keys)
    }

    /// Of an operand that has queries and one that has keys.
    fn product(&self, region: &mut Region<'_>, width: &Dim, [of_query, of_key]: [Value; 2], by_keys: bool) -> Product {
        let own = Own::new(region, width);
        let of_query = side(region, of_query, &self.places.at_query(Some(&own.place)));
        let of_key = side(region, of_key, &self.places.at_key(&own.place));
        let (rows, columns) = if by_keys { (of_key, of_query) } else { (of_query, of_key) };
        Product { k: own.axis, rows, columns }
    }

    /// The first product with the bias.
    fn score(&self, region: &mut Region<'_>) -> (Point, ValueId) {
        let mut at = Point::default();
        let mut score = at.body.push(InstKind::Reduced { stage: 0, slot: 0 }, ACC);
        if let Some(bias) = self.operands.bias {
            let shape = &region.graph().ty(bias).shape;
            let full: Vec<&Dim> =
                self.places.queries_lead.iter().chain([&self.places.query.place, &self.places.key.place]).collect();
            let own = full[full.len() - shape.rank()..].iter().zip(shape.iter());
            let index = exact(own.map(|(place, size)| if size.is(1) { Dim::ZERO } else { (*place).clone() }));
            let bias = region.pull(&mut at, bias, &index);
            score = at.map(ScalarFn::Add, &[score, bias]);
        }
        (at, score)
    }

    /// The share of a key, and the derivative of the loss with respect to its score: `share * (g v^T - delta)`.
    fn changes(&self, region: &mut Region<'_>) -> (Point, [ValueId; 2]) {
        let [_, log_sum, delta] = self.given();
        let (mut at, score) = self.score(region);
        let index = self.places.at_query(None);
        let log_sum = region.pull(&mut at, log_sum, &index);
        let delta = region.pull(&mut at, delta, &index);
        let below = at.map(ScalarFn::Sub, &[score, log_sum]);
        let share = at.map(ScalarFn::Exp, &[below]);
        let product = at.body.push(InstKind::Reduced { stage: 1, slot: 0 }, ACC);
        let change = at.map(ScalarFn::Sub, &[product, delta]);
        let change = at.map(ScalarFn::Mul, &[share, change]);
        (at, [share, change])
    }

    /// Which result of the region a result of the call is.
    fn result(&self, out: u16, region: &Region<'_>) -> Option<usize> {
        let results = &region.function.results;
        results.iter().position(|result| under_reshapes(region.graph(), result.value) == self.call.out(out))
    }

    fn store(&self, region: &mut Region<'_>, position: usize, index: Vec<Index>, value: ValueId) -> Store {
        let result = under_reshapes(region.graph(), region.function.results[position].value);
        let ty = region.graph().ty(result).clone();
        let arg = region.arg(Source::Result(position), Arg::dense(ty.dtype, ty.shape.0, Mode::Write));
        Store { arg, index, value }
    }
}

fn side(region: &mut Region<'_>, operand: Value, index: &[Index]) -> Side {
    let mut at = Point::default();
    let value = region.pull(&mut at, operand, index);
    Side { body: at.body, value }
}
