//! Writes what depends on the sign of `u64` in `i64`, in which kernels compute it: order, quotients, shifts to the right, and floats.
//!
//! Sums, products, bits and movement are the same in both and stay as they are, as do the types of values between operations. Changes no
//! value. Afterwards no `u64` is compared, divided, shifted to the right, or converted from or to a float.

use graver_ir::{DType, Error, Function, Graph, Module, NodeId, Op, Scalar, ScalarFn, Type, Value};

use crate::build::Build;
use crate::{Changed, Cx, Pass};

/// The pass.
pub(crate) const PASS: Pass =
    Pass { name: "legalize", about: "Writes what depends on the sign of u64 in i64, in which kernels compute it.", run };

fn run(module: &mut Module, _cx: &mut Cx<'_>) -> Result<Changed, Error> {
    let mut changed = Changed::No;
    for function in module.functions.values_mut() {
        for node in function.graph.topo_of(|node| is_of_u64(&function.graph, node)) {
            changed = changed.or(rewrite(function, node));
        }
    }
    Ok(changed)
}

fn is_of_u64(graph: &Graph, node: NodeId) -> bool {
    let is_u64 = |ty: &Type| ty.dtype == DType::U64;
    graph.node(node).outs.iter().any(is_u64) || graph.args(node).iter().any(|arg| is_u64(graph.ty(*arg)))
}

/// A node, and new ones around it.
struct Site<'a> {
    b: Build<'a>,
    op: Op,
    args: Vec<Value>,
    dtype: DType,
}

/// The value of a node in other operations, if it is one of those.
type Rule = fn(&mut Site<'_>) -> Option<Value>;

const RULES: &[Rule] = &[compared, quotient, remainder, shifted_right, itself, sign, as_float, of_float];

fn rewrite(function: &mut Function, node: NodeId) -> Changed {
    let (op, args) = (function.graph.op(node).clone(), function.graph.args(node).to_vec());
    let loc = function.graph.loc(node).clone();
    let [ty] = function.graph.node(node).outs.as_slice() else { return Changed::No };
    let dtype = ty.dtype;
    let mut site = Site { b: Build::at(&mut function.graph, &loc), op, args, dtype };
    let Some(new) = RULES.iter().find_map(|rule| rule(&mut site)) else { return Changed::No };
    function.replace(node.into(), new);
    function.graph.remove(node);
    Changed::Yes
}

impl Site<'_> {
    fn dtype(&self, value: Value) -> DType {
        self.b.ty(value).dtype
    }

    /// The operands of a map of this function on `u64`, as `i64`.
    fn operands(&mut self, function: ScalarFn) -> Option<Vec<Value>> {
        let is_met = self.op == Op::Map(function) && self.dtype(self.args[0]) == DType::U64;
        let args = self.args.clone();
        is_met.then(|| args.into_iter().map(|arg| self.bits(arg, DType::I64)).collect())
    }

    fn bits(&mut self, x: Value, dtype: DType) -> Value {
        self.b.add(Op::Bitcast(dtype), &[x]).expect("both have 8 bytes")
    }

    fn unsigned(&mut self, x: Value) -> Value {
        self.bits(x, DType::U64)
    }

    fn cast(&mut self, x: Value, dtype: DType) -> Value {
        if self.dtype(x) == dtype { x } else { self.b.add(Op::Cast(dtype), &[x]).expect("any type becomes any other") }
    }

    /// The constant everywhere, of the shape and type of `x`.
    fn like(&mut self, x: Value, value: i64) -> Value {
        let ty = self.b.ty(x).clone();
        self.b.full(&ty.shape, Scalar::int(ty.dtype, value))
    }

    fn map(&mut self, function: ScalarFn, x: Value, y: Value) -> Value {
        self.b.map(function, &[x, y])
    }

    fn with(&mut self, function: ScalarFn, x: Value, number: i64) -> Value {
        let y = self.like(x, number);
        self.map(function, x, y)
    }

    fn select(&mut self, condition: Value, x: Value, y: Value) -> Value {
        self.b.map(ScalarFn::Select, &[condition, x, y])
    }

    /// The highest bit turned over: the order of `u64` becomes that of `i64`, and that of `i64` that of `u64`.
    fn turned(&mut self, x: Value) -> Value {
        self.with(ScalarFn::Xor, x, i64::MIN)
    }

    /// `x / 2` of the bits of a `u64`, which is no negative number.
    fn half(&mut self, x: Value) -> Value {
        let half = self.with(ScalarFn::Shr, x, 1);
        self.with(ScalarFn::And, half, i64::MAX)
    }

    /// Whether `x >= y` of the bits of `u64`.
    fn at_least(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = (self.turned(x), self.turned(y));
        self.map(ScalarFn::Ge, x, y)
    }

    /// `x / y` of the bits of `u64`: half of `x` by `y`, twice, which is one too little at most. A divisor with the highest bit goes in once or not at all.
    fn divided(&mut self, x: Value, y: Value) -> Value {
        let half = self.half(x);
        let half = self.map(ScalarFn::Div, half, y);
        let twice = self.with(ScalarFn::Shl, half, 1);
        let product = self.b.mul(twice, y);
        let rest = self.map(ScalarFn::Sub, x, product);
        let more = self.at_least(rest, y);
        let more = self.cast(more, DType::I64);
        let quotient = self.b.sum_of(twice, more);
        let (is_great, once) = (self.with(ScalarFn::Lt, y, 0), self.at_least(x, y));
        let once = self.cast(once, DType::I64);
        self.select(is_great, once, quotient)
    }

    /// `x % y` of the bits of `u64`: of twice what half of `x` leaves and the last bit, which is less than `2 * y`. A divisor with the
    /// highest bit is taken away once or not at all.
    fn rest(&mut self, x: Value, y: Value) -> Value {
        let half = self.half(x);
        let half = self.map(ScalarFn::Rem, half, y);
        let (twice, last) = (self.with(ScalarFn::Shl, half, 1), self.with(ScalarFn::And, x, 1));
        let twice = self.map(ScalarFn::Or, twice, last);
        let is_great = self.with(ScalarFn::Lt, y, 0);
        let from = self.select(is_great, x, twice);
        let (more, less) = (self.at_least(from, y), self.map(ScalarFn::Sub, from, y));
        self.select(more, less, from)
    }
}

/// `f(x, ..) = turned(f(turned(x), ..))` of what looks at the order of elements.
fn compared(site: &mut Site<'_>) -> Option<Value> {
    (site.op.compares() && site.dtype(site.args[0]) == DType::U64).then_some(())?;
    let mut args = site.args.clone();
    for (slot, arg) in args.iter_mut().enumerate() {
        if site.op.is_compared(slot) {
            let x = site.bits(*arg, DType::I64);
            *arg = site.turned(x);
        }
    }
    let result = site.b.add(site.op.clone(), &args).expect("what compares u64 compares i64");
    if site.dtype != DType::U64 {
        return Some(result);
    }
    let result = site.turned(result);
    Some(site.unsigned(result))
}

/// `x / y`.
fn quotient(site: &mut Site<'_>) -> Option<Value> {
    let operands = site.operands(ScalarFn::Div)?;
    let quotient = site.divided(operands[0], operands[1]);
    Some(site.unsigned(quotient))
}

/// `x % y`.
fn remainder(site: &mut Site<'_>) -> Option<Value> {
    let operands = site.operands(ScalarFn::Rem)?;
    let rest = site.rest(operands[0], operands[1]);
    Some(site.unsigned(rest))
}

/// `x >> y = (x / 2) >> (y - 1)`, `x >> 0 = x`.
fn shifted_right(site: &mut Site<'_>) -> Option<Value> {
    let operands = site.operands(ScalarFn::Shr)?;
    let (half, less) = (site.half(operands[0]), site.with(ScalarFn::Sub, operands[1], 1));
    let shifted = site.map(ScalarFn::Shr, half, less);
    let stays = site.with(ScalarFn::Eq, operands[1], 0);
    let result = site.select(stays, operands[0], shifted);
    Some(site.unsigned(result))
}

/// `|x| = x`, `relu(x) = x`.
fn itself(site: &mut Site<'_>) -> Option<Value> {
    let is_met = matches!(site.op, Op::Map(ScalarFn::Abs | ScalarFn::Relu));
    is_met.then(|| site.args[0])
}

/// `sign(x) = x != 0`.
fn sign(site: &mut Site<'_>) -> Option<Value> {
    let operands = site.operands(ScalarFn::Sign)?;
    let sign = site.with(ScalarFn::Ne, operands[0], 0);
    Some(site.cast(sign, DType::U64))
}

/// With the highest bit, twice the float of the half, whose last bit says whether any is lost: rounded once.
fn as_float(site: &mut Site<'_>) -> Option<Value> {
    let Op::Cast(dtype) = site.op else { return None };
    (dtype.is_float() && site.dtype(site.args[0]) == DType::U64).then_some(())?;
    let x = site.bits(site.args[0], DType::I64);
    let (half, last) = (site.half(x), site.with(ScalarFn::And, x, 1));
    let half = site.map(ScalarFn::Or, half, last);
    let (half, whole) = (site.cast(half, dtype.compute()), site.cast(x, dtype.compute()));
    let twice = site.b.sum_of(half, half);
    let is_great = site.with(ScalarFn::Lt, x, 0);
    let float = site.select(is_great, twice, whole);
    Some(site.cast(float, dtype))
}

/// From `2^63` on, what is above it with the highest bit; below 0, and of NaN, 0.
fn of_float(site: &mut Site<'_>) -> Option<Value> {
    let from = site.dtype(*site.args.first()?);
    (site.op == Op::Cast(DType::U64) && from.is_float()).then_some(())?;
    let x = site.cast(site.args[0], from.compute());
    let limit = site.b.like(x, 2f64.powi(63));
    let (is_great, above) = (site.map(ScalarFn::Ge, x, limit), site.map(ScalarFn::Sub, x, limit));
    let (low, high) = (site.cast(x, DType::I64), site.cast(above, DType::I64));
    let (low, high) = (site.with(ScalarFn::Max, low, 0), site.turned(high));
    let result = site.select(is_great, high, low);
    Some(site.unsigned(result))
}
