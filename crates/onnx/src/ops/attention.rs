//! Attention with masks, windows and caches, and what stands around it.

use graver_ir::op::{Broadcast, Composite, ReduceKind};
use graver_ir::{Array, DType, Dim, Op, Scalar, ScalarFn, Shape, Value};

use super::Values;
use super::reduce::softmax;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, wrong};

/// Vaswani et al. (2017), "Attention is all you need".
pub(super) fn attention(n: &mut Node<'_>) -> Values {
    let (q, k, v) = (n.arg(0)?, n.arg(1)?, n.arg(2)?);
    let flat = n.b.rank(q) == 3;
    let (q_heads, kv_heads) = (n.int("q_num_heads", 0), n.int("kv_num_heads", 0));
    let (q, k, v) = (heads(n.b, q, q_heads)?, heads(n.b, k, kv_heads)?, heads(n.b, v, kv_heads)?);
    let (key, value) = (after(n, 4, k)?, after(n, 5, v)?);
    let scale = scale(n, q)?;
    let count = n.b.along(q, 1)?;
    let (k, v) = (repeated(n.b, key, &count)?, repeated(n.b, value, &count)?);
    let mask = mask(n, q, k)?;
    let plain = mask.is_none() && !n.gives(3) && n.float("softcap", 0.0) <= 0.0 && !n.has("softmax_precision");
    let (y, shown) = if plain {
        let y = plain_attention(n.b, q, k, v, scale)?;
        (y, y)
    } else {
        masked_attention(n, [q, k, v], scale, mask)?
    };
    let y = if flat { joined(n.b, y)? } else { y };
    Ok(vec![y, key, value, shown])
}

/// What attention whose scores and shares graphs may change is made of, as wide as it is computed; the graphs are the importer's.
pub(crate) struct Flexible {
    pub(crate) query: Value,
    pub(crate) key: Value,
    pub(crate) value: Value,
    pub(crate) scale: f64,
    /// The type of the result.
    pub(crate) dtype: DType,
}

impl Flexible {
    pub(crate) fn of(n: &mut Node<'_>) -> Result<Self> {
        let (q, k, v) = (n.arg(0)?, n.arg(1)?, n.arg(2)?);
        if n.b.rank(q) != 4 || n.b.rank(k) != 4 || n.b.rank(v) != 4 {
            return wrong(format!("takes [batch, heads, time, width], got {}", n.b.ty(q)));
        }
        let (dtype, count) = (n.b.dtype(q), n.b.shape(q)[1].clone());
        let scale = scale(n, q)?;
        let (k, v) = (repeated(n.b, k, &count)?, repeated(n.b, v, &count)?);
        let wide = n.type_of("softmax_precision")?.unwrap_or(if dtype == DType::F64 { DType::F64 } else { DType::F32 });
        let (query, key, value) = (n.b.cast(q, wide)?, n.b.cast(k, wide)?, n.b.cast(v, wide)?);
        Ok(Self { query, key, value, scale, dtype })
    }

    pub(crate) fn plain(&self, b: &mut Builder) -> Result<Value> {
        let y = plain_attention(b, self.query, self.key, self.value, self.scale)?;
        b.cast(y, self.dtype)
    }

    pub(crate) fn scores(&self, b: &mut Builder) -> Result<Value> {
        let keys = b.swap(self.key, 2, 3)?;
        let scores = b.matmul(self.query, keys)?;
        b.with(ScalarFn::Mul, scores, self.scale)
    }

    /// The values by their shares.
    pub(crate) fn shared(&self, b: &mut Builder, shares: Value) -> Result<Value> {
        let y = b.matmul(shares, self.value)?;
        b.cast(y, self.dtype)
    }
}

/// What scores are multiplied by.
fn scale(n: &Node<'_>, q: Value) -> Result<f64> {
    #[expect(clippy::cast_precision_loss, reason = "a width is far below 2^53")]
    match n.b.along(q, 3)?.as_const() {
        _ if n.has("scale") => Ok(n.float("scale", 1.0)),
        Some(width) => Ok(1.0 / (width as f64).sqrt()),
        None => wrong(format!("the width of {} must be a number", n.b.ty(q))),
    }
}

/// `[batch, time, heads * width]` as `[batch, heads, time, width]`.
fn heads(b: &mut Builder, x: Value, heads: i64) -> Result<Value> {
    let shape = b.shape(x);
    match &shape[..] {
        [_, _, _, _] => Ok(x),
        [batch, time, width] if heads > 0 => {
            let heads = Dim::from(heads);
            let x = b.reshape(x, [batch.clone(), time.clone(), heads.clone(), width.floor_div(&heads)])?;
            b.swap(x, 1, 2)
        }
        _ => wrong(format!("takes [batch, heads, time, width] or flat heads and their number, got {}", b.ty(x))),
    }
}

/// `[batch, heads, time, width]` as `[batch, time, heads * width]`.
fn joined(b: &mut Builder, x: Value) -> Result<Value> {
    let x = b.swap(x, 1, 2)?;
    let shape = b.shape(x);
    b.reshape(x, [shape[0].clone(), shape[1].clone(), &shape[2] * &shape[3]])
}

/// What is there already, and this behind it.
fn after(n: &mut Node<'_>, place: usize, new: Value) -> Result<Value> {
    match n.opt(place) {
        Some(past) => n.b.concat(2, &[past, new]),
        None => Ok(new),
    }
}

/// Each head shared by a group of queries' heads.
fn repeated(b: &mut Builder, x: Value, count: &Dim) -> Result<Value> {
    let shape = b.shape(x);
    b.of_rank(x, 4, "a tensor of heads")?;
    if shape[1] == *count {
        return Ok(x);
    }
    let Some(group) = count.exact_div(&shape[1]) else {
        return wrong(format!("{count} heads of queries share {} of keys", shape[1]));
    };
    let [batch, own, time, width] = &shape[..] else { return wrong("keys and values have four axes") };
    let wide = Shape(vec![batch.clone(), own.clone(), group, time.clone(), width.clone()]);
    let x = b.emit(Op::Broadcast(Broadcast { shape: wide, axes: vec![0, 1, 3, 4] }), &[x])?;
    b.reshape(x, [batch.clone(), count.clone(), time.clone(), width.clone()])
}

/// The composite: every query sees every key.
fn plain_attention(b: &mut Builder, q: Value, k: Value, v: Value, scale: f64) -> Result<Value> {
    b.composite(Composite::Attention, &format!("scale{scale:e}"), &[q, k, v], |b, args| {
        let keys = b.swap(args[1], 2, 3)?;
        let scores = b.matmul(args[0], keys)?;
        let scores = b.with(ScalarFn::Mul, scores, scale)?;
        let shares = softmax(b, scores)?;
        b.matmul(shares, args[2])
    })
}

/// What a query sees of the keys.
struct Mask {
    /// Which keys; of a shape that broadcasts to `[batch, heads, queries, keys]`.
    allowed: Option<Value>,
    /// What is added to the scores.
    bias: Option<Value>,
}

impl Mask {
    fn is_none(&self) -> bool {
        self.allowed.is_none() && self.bias.is_none()
    }

    fn and(&mut self, b: &mut Builder, seen: Value) -> Result<()> {
        self.allowed = Some(match self.allowed {
            Some(allowed) => b.map(ScalarFn::And, &[allowed, seen])?,
            None => seen,
        });
        Ok(())
    }
}

fn mask(n: &mut Node<'_>, q: Value, k: Value) -> Result<Mask> {
    let (queries, keys) = (n.b.along(q, 2)?, n.b.along(k, 2)?);
    let mut mask = Mask { allowed: None, bias: None };
    if let Some(given) = n.opt(3) {
        let boolean = n.b.dtype(given) == DType::Bool;
        let given = padded(n.b, given, &keys)?;
        if boolean { mask.allowed = Some(given) } else { mask.bias = Some(given) }
    }
    let (left, right) = (n.int("left_window_size", -1), n.int("right_window_size", -1));
    let causal = n.flag("is_causal", false);
    let matrix = Shape(vec![queries.clone(), keys.clone()]);
    let key = n.b.iota(DType::I64, &matrix, 1)?;
    let lengths = match n.opt(6) {
        Some(lengths) => {
            let lengths = n.b.cast(lengths, DType::I64)?;
            Some(n.b.unsqueeze(lengths, &[1, 2, 3])?)
        }
        None => None,
    };
    if causal || left >= 0 || right >= 0 {
        let query = n.b.iota(DType::I64, &matrix, 0)?;
        let lead = lead(n, lengths, &queries)?;
        let now = n.b.add(query, lead)?;
        let ahead = n.b.sub(key, now)?;
        let right = if causal { 0 } else { right };
        if right >= 0 {
            let right = n.b.constant(Array::scalar(right))?;
            let seen = n.b.map(ScalarFn::Le, &[ahead, right])?;
            mask.and(n.b, seen)?;
        }
        if left >= 0 {
            let left = n.b.constant(Array::scalar(-left))?;
            let seen = n.b.map(ScalarFn::Ge, &[ahead, left])?;
            mask.and(n.b, seen)?;
        }
    }
    if let Some(lengths) = lengths {
        let seen = n.b.map(ScalarFn::Lt, &[key, lengths])?;
        mask.and(n.b, seen)?;
    }
    Ok(mask)
}

/// How many keys come before the first query.
fn lead(n: &mut Node<'_>, lengths: Option<Value>, queries: &Dim) -> Result<Value> {
    match (n.opt(4), lengths) {
        (Some(past), _) => {
            let past = n.b.along(past, 2)?;
            n.b.size(&past, DType::I64)
        }
        (None, Some(lengths)) => {
            let queries = n.b.size(queries, DType::I64)?;
            n.b.sub(lengths, queries)
        }
        (None, None) => n.b.constant(Array::scalar(0i64)),
    }
}

/// A mask for fewer keys than there are hides the others.
fn padded(b: &mut Builder, mask: Value, keys: &Dim) -> Result<Value> {
    let (rank, dtype) = (b.rank(mask), b.dtype(mask));
    let Some(own) = b.shape(mask).last().cloned() else { return Ok(mask) };
    match (own.as_const(), keys.as_const()) {
        // One column is for every key.
        (Some(own), Some(keys)) if own < keys && own != 1 => {
            let hidden = if dtype == DType::Bool { Scalar::bool(false) } else { Scalar::lowest(dtype) };
            let hidden = b.constant(Array::full([], hidden))?;
            b.pad(mask, rank - 1, &Dim::ZERO, &Dim::from(keys - own), hidden)
        }
        (Some(_) | None, Some(_) | None) => Ok(mask),
    }
}

/// The result, and the scores at the stage that the mode asks for. Rows that see no key are zero.
fn masked_attention(n: &mut Node<'_>, [q, k, v]: [Value; 3], scale: f64, mask: Mask) -> Result<(Value, Value)> {
    let (dtype, cap, mode) = (n.b.dtype(q), n.float("softcap", 0.0), n.int("qk_matmul_output_mode", 0));
    let root = scale.sqrt();
    let (q, k) = (n.b.with(ScalarFn::Mul, q, root)?, n.b.with(ScalarFn::Mul, k, root)?);
    let keys = n.b.swap(k, 2, 3)?;
    let mut scores = n.b.matmul(q, keys)?;
    if cap > 0.0 {
        let small = n.b.with(ScalarFn::Div, scores, cap)?;
        let small = n.b.map(ScalarFn::Tanh, &[small])?;
        scores = n.b.with(ScalarFn::Mul, small, cap)?;
    }
    let mut shown = scores;
    let bias = total_bias(n.b, &mask, dtype)?;
    if let Some(bias) = bias {
        scores = n.b.add(scores, bias)?;
    }
    if mode == 2 {
        shown = scores;
    }
    let precision = n.type_of("softmax_precision")?.unwrap_or(dtype);
    let wide = n.b.cast(scores, precision)?;
    let mut shares = softmax(n.b, wide)?;
    if let Some(bias) = bias {
        let top = n.b.reduce(ReduceKind::Max, bias, &[n.b.rank(bias) - 1], true)?;
        let hidden = n.b.with(ScalarFn::Eq, top, f64::NEG_INFINITY)?;
        let zero = n.b.number(precision, 0.0)?;
        shares = n.b.select(hidden, zero, shares)?;
    }
    let shares = n.b.cast(shares, dtype)?;
    if mode == 3 {
        shown = shares;
    }
    Ok((n.b.matmul(shares, v)?, shown))
}

/// The bias, with minus infinity where a key is not seen.
fn total_bias(b: &mut Builder, mask: &Mask, dtype: DType) -> Result<Option<Value>> {
    let Some(allowed) = mask.allowed else { return Ok(mask.bias) };
    let (zero, never) = (b.number(dtype, 0.0)?, b.number(dtype, f64::NEG_INFINITY)?);
    let bias = mask.bias.unwrap_or(zero);
    b.select(allowed, bias, never).map(Some)
}

/// Su et al. (2021), "RoFormer": pairs of elements rotated by angles that grow with the position.
pub(super) fn rotary_embedding(n: &mut Node<'_>) -> Values {
    let (x, mut cos, mut sin) = (n.arg(0)?, n.arg(1)?, n.arg(2)?);
    let shape = n.b.shape(x);
    let rows = match shape.rank() {
        4 => n.b.swap(x, 1, 2)?,
        _ => {
            let x = heads(n.b, x, n.int("num_heads", 0))?;
            n.b.swap(x, 1, 2)?
        }
    };
    if let Some(positions) = n.opt(3) {
        cos = n.b.gather(cos, positions, 0, 0)?;
        sin = n.b.gather(sin, positions, 0, 0)?;
    }
    let (cos, sin) = (n.b.unsqueeze(cos, &[2])?, n.b.unsqueeze(sin, &[2])?);
    let width = n.b.along(rows, 3)?;
    let turned = match n.int("rotary_embedding_dim", 0) {
        0 => width.clone(),
        some => Dim::from(some),
    };
    let front = n.b.part(rows, 3, &Dim::ZERO, &turned)?;
    let mut y = rotated(n.b, front, cos, sin, n.flag("interleaved", false))?;
    let rest = &width - &turned;
    if !rest.is(0) {
        let back = n.b.part(rows, 3, &turned, &rest)?;
        y = n.b.concat(3, &[y, back])?;
    }
    Ok(vec![if shape.rank() == 4 { n.b.swap(y, 1, 2)? } else { n.b.reshape(y, shape.0)? }])
}

fn rotated(b: &mut Builder, x: Value, cos: Value, sin: Value, interleaved: bool) -> Result<Value> {
    let shape = b.shape(x);
    let half = shape[3].floor_div(&Dim::from(2));
    let two = Dim::from(2);
    let split = if interleaved { [half.clone(), two] } else { [two, half.clone()] };
    let axis = if interleaved { 4 } else { 3 };
    let pairs = b.reshape(x, [&shape[..3], &split].concat())?;
    let mut one = |place: i64| -> Result<Value> {
        let part = b.part(pairs, axis, &Dim::from(place), &Dim::ONE)?;
        b.reshape(part, [&shape[..3], std::slice::from_ref(&half)].concat())
    };
    let (real, imaginary) = (one(0)?, one(1)?);
    let (rc, is) = (b.mul(cos, real)?, b.mul(sin, imaginary)?);
    let (rs, ic) = (b.mul(sin, real)?, b.mul(cos, imaginary)?);
    let (left, right) = (b.sub(rc, is)?, b.add(rs, ic)?);
    let (left, right) = (b.unsqueeze(left, &[axis])?, b.unsqueeze(right, &[axis])?);
    let both = b.concat(axis, &[left, right])?;
    b.reshape(both, shape.0)
}

/// A depthwise convolution of a sequence that begins with the end of the one before.
pub(super) fn causal_conv(n: &mut Node<'_>) -> Values {
    let (x, kernel) = (n.arg(0)?, n.arg(1)?);
    let shape = n.b.shape(x);
    let taps = n.b.shape(kernel).get(2).cloned().unwrap_or(Dim::ONE);
    let (Some(channels), 3) = (shape.get(1).and_then(Dim::as_const), shape.rank()) else {
        return wrong(format!("takes [batch, channels, length], got {}", n.b.ty(x)));
    };
    let kept = &taps - Dim::ONE;
    let past = match n.opt(3) {
        Some(past) => past,
        None => {
            let zero = n.b.number(n.b.dtype(x), 0.0)?;
            n.b.fill(zero, &Shape(vec![shape[0].clone(), shape[1].clone(), kept.clone()]))?
        }
    };
    let whole = n.b.concat(2, &[past, x])?;
    let mut y = super::contract::depthwise(n.b, whole, kernel, channels)?;
    if let Some(bias) = n.opt(2) {
        let bias = n.b.unsqueeze(bias, &[1])?;
        y = n.b.add(y, bias)?;
    }
    if n.text("activation", "none") != "none" {
        let gate = n.b.map(ScalarFn::Sigmoid, &[y])?;
        y = n.b.mul(y, gate)?;
    }
    let present = n.b.part(whole, 2, &shape[2], &kept)?;
    Ok(vec![y, present])
}

/// Rows written into a cache from a position on, which each sample of the batch has.
pub(super) fn tensor_scatter(n: &mut Node<'_>) -> Values {
    let (cache, update) = (n.arg(0)?, n.arg(1)?);
    let shape = n.b.shape(cache);
    let axis = n.axis(n.int("axis", -2), shape.rank())?;
    n.b.of_rank(update, shape.rank(), "the update")?;
    let time = n.b.along(update, axis)?;
    let place = n.b.iota(DType::I64, &Shape(vec![shape[0].clone(), shape[axis].clone()]), 1)?;
    let place = match n.opt(2) {
        Some(first) => {
            let first = n.b.cast(first, DType::I64)?;
            let first = n.b.unsqueeze(first, &[1])?;
            n.b.sub(place, first)?
        }
        None => place,
    };
    // The row of the update that lands at each place of the cache.
    let size = n.b.size(&shape[axis], DType::I64)?;
    let row = if n.text("mode", "linear") == "circular" {
        let rest = n.b.map(ScalarFn::Rem, &[place, size])?;
        let lifted = n.b.add(rest, size)?;
        n.b.map(ScalarFn::Rem, &[lifted, size])?
    } else {
        place
    };
    let count = n.b.size(&time, DType::I64)?;
    let (low, high) = (n.b.with(ScalarFn::Ge, row, 0.0)?, n.b.map(ScalarFn::Lt, &[row, count])?);
    let inside = n.b.map(ScalarFn::And, &[low, high])?;
    let zero = n.b.constant(Array::scalar(0i64))?;
    let row = n.b.select(inside, row, zero)?;
    let rows = n.b.swap(update, 1, axis)?;
    let moved = n.b.gather(rows, row, 1, 1)?;
    let moved = n.b.swap(moved, 1, axis)?;
    let mut dims = vec![Dim::ONE; shape.rank()];
    (dims[0], dims[axis]) = (shape[0].clone(), shape[axis].clone());
    let inside = n.b.reshape(inside, dims)?;
    Ok(vec![n.b.select(inside, moved, cache)?])
}
