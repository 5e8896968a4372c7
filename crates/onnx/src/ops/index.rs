//! Constants, positions as values, and values at positions.

use graver_ir::op::{GatherAxes, Scatter, ScatterKind};
use graver_ir::{Array, DType, Dim, Op, ScalarFn, Shape, Value};

use super::Values;
use super::sparse::dense;
use crate::build::{Builder, same};
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

pub(super) fn constant(n: &mut Node<'_>) -> Values {
    if let Some((array, format)) = n.coded("value")? {
        return Ok(vec![n.b.stored(array, format)?]);
    }
    if let Some(sparse) = n.sparse("sparse_value") {
        return Ok(vec![dense(n.b, &sparse, n.external)?]);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the attribute is a float of 32 bits")]
    let array = if n.has("value_float") {
        Array::scalar(n.float("value_float", 0.0) as f32)
    } else if n.has("value_int") {
        Array::scalar(n.int("value_int", 0))
    } else if let Some(floats) = n.floats("value_floats") {
        Array::from_vec([floats.len()], floats)?
    } else if let Some(ints) = n.ints("value_ints") {
        Array::from_vec([ints.len()], ints)?
    } else {
        return unsupported("a constant of this kind");
    };
    Ok(vec![n.b.constant(array)?])
}

pub(super) fn constant_of_shape(n: &mut Node<'_>) -> Values {
    let shape = Shape(n.dims(0, "the shape")?);
    let (value, format) = n.coded("value")?.unwrap_or_else(|| (Array::scalar(0f32), None));
    if value.numel() != 1 {
        return wrong("the value is one element");
    }
    let value = n.b.constant(value.reshape([])?)?;
    let filled = n.b.fill(value, &shape)?;
    if let Some(format) = format {
        n.b.mark(filled, format);
    }
    Ok(vec![filled])
}

pub(super) fn shape(n: &mut Node<'_>) -> Values {
    let shape = n.shape(0)?;
    let rank = i64::try_from(shape.rank()).unwrap_or(i64::MAX);
    let bound = |at: i64| usize::try_from((if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank)).unwrap_or(0);
    let (start, end) = (bound(n.int("start", 0)), bound(n.int("end", rank)));
    Ok(vec![n.b.sizes(shape.get(start..end).unwrap_or(&[]))?])
}

pub(super) fn size(n: &mut Node<'_>) -> Values {
    let count = n.shape(0)?.numel();
    Ok(vec![n.b.size(&count, DType::I64)?])
}

/// `start, start + delta, ..` below `limit`.
pub(super) fn range(n: &mut Node<'_>) -> Values {
    let (dtype, start) = (n.dtype(0)?, n.arg(0)?);
    let start = n.b.reshape(start, [])?;
    let delta = n.arg(2)?;
    let delta = n.b.reshape(delta, [])?;
    let size = if dtype.is_float() { float_count(n)? } else { count(n)? };
    let place = n.b.count(dtype, &size)?;
    let steps = n.b.mul(place, delta)?;
    Ok(vec![n.b.add(start, steps)?])
}

fn count(n: &Node<'_>) -> Result<Dim> {
    let one = |place: usize, what: &str| -> Result<Dim> {
        match n.dims(place, what)?.as_slice() {
            [dim] => Ok(dim.clone()),
            _ => wrong(format!("{what} is one number")),
        }
    };
    let (start, limit) = (one(0, "the start")?, one(1, "the limit")?);
    let Some(delta) = one(2, "the step")?.as_const() else { return unsupported("a step that is a symbol") };
    let way = match delta.signum() {
        0 => return wrong("a step of 0"),
        1 => limit - start,
        _ => start - limit,
    };
    Ok(way.max_with(&Dim::ZERO).ceil_div(&Dim::from(delta.saturating_abs())))
}

fn float_count(n: &Node<'_>) -> Result<Dim> {
    let one = |place: usize, what: &str| n.floats_of(place, what).map(|list| list.first().copied().unwrap_or(f64::NAN));
    let count = ((one(1, "the limit")? - one(0, "the start")?) / one(2, "the step")?).ceil();
    if count.is_nan() || count >= 1e15 {
        return wrong(format!("{count} elements"));
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked")]
    Ok(Dim::from(count.max(0.0) as i64))
}

pub(super) fn eye_like(n: &mut Node<'_>) -> Values {
    let shape = n.shape(0)?;
    if shape.rank() != 2 {
        return wrong(format!("takes a matrix, got {shape}"));
    }
    let dtype = n.type_of("dtype")?.map_or_else(|| n.dtype(0), Ok)?;
    let (row, column) = (n.b.iota(DType::I64, &shape, 0)?, n.b.iota(DType::I64, &shape, 1)?);
    let offset = n.b.constant(Array::scalar(n.int("k", 0)))?;
    let diagonal = n.b.add(row, offset)?;
    let on = n.b.map(ScalarFn::Eq, &[column, diagonal])?;
    Ok(vec![n.b.cast(on, dtype)?])
}

/// The upper or lower triangle; zero elsewhere.
pub(super) fn trilu(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let shape = n.b.shape(x);
    let Some(lead) = shape.rank().checked_sub(2) else { return wrong(format!("takes matrices, got {shape}")) };
    let matrix = Shape(shape[lead..].to_vec());
    let (row, column) = (n.b.iota(DType::I64, &matrix, 0)?, n.b.iota(DType::I64, &matrix, 1)?);
    let diagonal = match n.opt(1) {
        Some(k) => {
            let k = n.b.reshape(k, [])?;
            n.b.add(row, k)?
        }
        None => row,
    };
    let upper = n.flag("upper", true);
    let kept = n.b.map(if upper { ScalarFn::Ge } else { ScalarFn::Le }, &[column, diagonal])?;
    let zero = n.b.number(n.b.dtype(x), 0.0)?;
    Ok(vec![n.b.select(kept, x, zero)?])
}

pub(super) fn one_hot(n: &mut Node<'_>) -> Values {
    let (index, values) = (n.arg(0)?, n.arg(2)?);
    let depth = n.b.array(n.arg(1)?, "the depth")?;
    if depth.numel() != 1 {
        return wrong("the depth is one number");
    }
    let depth = Dim::from(depth.get(0).as_i64());
    let axis = n.axis(n.int("axis", -1), n.b.rank(index) + 1)?;
    let index = n.b.cast(index, DType::I64)?;
    let index = n.b.positions(index, &depth)?;
    let index = n.b.unsqueeze(index, &[axis])?;
    let mut shape = n.b.shape(index);
    shape.0[axis] = depth;
    let place = n.b.iota(DType::I64, &shape, axis)?;
    let hot = n.b.map(ScalarFn::Eq, &[place, index])?;
    let mut value = |place: i64| -> Result<Value> {
        let part = n.b.part(values, 0, &Dim::from(place), &Dim::ONE)?;
        n.b.reshape(part, [])
    };
    let (off, on) = (value(0)?, value(1)?);
    Ok(vec![n.b.select(hot, on, off)?])
}

pub(super) fn gather(n: &mut Node<'_>) -> Values {
    let (x, index) = (n.arg(0)?, n.arg(1)?);
    let axis = n.axis(n.int("axis", 0), n.b.rank(x))?;
    Ok(vec![n.b.gather(x, index, axis, 0)?])
}

/// Row-major positions of elements whose position along one axis is given and along the others their own; out of range: -1.
fn linear(b: &mut Builder, shape: &Shape, index: Value, axis: usize) -> Result<Value> {
    let (strides, own) = (shape.strides(), b.shape(index));
    let mut place = checked(b, index, &shape[axis])?;
    let outside = b.with(ScalarFn::Lt, place, 0.0)?;
    place = scaled(b, place, &strides[axis])?;
    for other in (0..own.rank()).filter(|other| *other != axis) {
        let along = b.iota(DType::I64, &own, other)?;
        let along = scaled(b, along, &strides[other])?;
        place = b.add(place, along)?;
    }
    let never = b.constant(Array::scalar(-1i64))?;
    b.select(outside, never, place)
}

fn scaled(b: &mut Builder, x: Value, stride: &Dim) -> Result<Value> {
    if stride.is(1) {
        return Ok(x);
    }
    let stride = b.size(stride, DType::I64)?;
    b.mul(x, stride)
}

/// A position that may count from the end; -1 where it is out of range, which is an error of the call where it is used.
fn checked(b: &mut Builder, index: Value, size: &Dim) -> Result<Value> {
    let index = b.positions(index, size)?;
    let index = b.cast(index, DType::I64)?;
    let size = b.size(size, DType::I64)?;
    let inside = b.map(ScalarFn::Lt, &[index, size])?;
    let low = b.with(ScalarFn::Ge, index, 0.0)?;
    let inside = b.map(ScalarFn::And, &[inside, low])?;
    let never = b.constant(Array::scalar(-1i64))?;
    b.select(inside, index, never)
}

fn flat(b: &mut Builder, x: Value) -> Result<Value> {
    let numel = b.shape(x).numel();
    b.reshape(x, [numel])
}

pub(super) fn gather_elements(n: &mut Node<'_>) -> Values {
    let (x, index) = (n.arg(0)?, n.arg(1)?);
    let shape = n.b.shape(x);
    let axis = n.axis(n.int("axis", 0), shape.rank())?;
    if n.b.rank(index) != shape.rank() {
        return wrong(format!("{} at {}", n.b.ty(x), n.b.ty(index)));
    }
    let place = linear(n.b, &shape, index, axis)?;
    let elements = flat(n.b, x)?;
    Ok(vec![n.b.emit(Op::Gather(GatherAxes { axis: 0, batch: 0 }), &[elements, place])?])
}

/// The positions that rows of an index name among the leading axes `shape`; out of range: -1.
fn rows(b: &mut Builder, shape: &Shape, index: Value) -> Result<Value> {
    let (rank, strides) = (b.rank(index), shape.strides());
    let mut place: Option<(Value, Value)> = None;
    for (axis, stride) in strides.iter().enumerate() {
        let one = b.part(index, rank - 1, &Dim::from(axis), &Dim::ONE)?;
        let rest = b.shape(one).without(&[rank - 1]);
        let one = b.reshape(one, rest.0)?;
        let one = checked(b, one, &shape[axis])?;
        let low = b.with(ScalarFn::Lt, one, 0.0)?;
        let one = scaled(b, one, stride)?;
        place = Some(match place {
            None => (one, low),
            Some((sum, outside)) => (b.add(sum, one)?, b.map(ScalarFn::Or, &[outside, low])?),
        });
    }
    let Some((place, outside)) = place else { return unsupported("positions of no axes") };
    let never = b.constant(Array::scalar(-1i64))?;
    b.select(outside, never, place)
}

/// How many axes the rows of an index name.
fn depth(n: &Node<'_>, index: Value, rank: usize) -> Result<usize> {
    let shape = n.b.shape(index);
    let named = shape.last().and_then(Dim::as_const).and_then(|named| usize::try_from(named).ok());
    match named {
        Some(named) if named <= rank => Ok(named),
        Some(_) | None => wrong(format!("rows of {} do not name axes of a tensor of rank {rank}", n.b.ty(index))),
    }
}

pub(super) fn gather_nd(n: &mut Node<'_>) -> Values {
    let (x, index) = (n.arg(0)?, n.arg(1)?);
    let (shape, batch) = (n.b.shape(x), usize::try_from(n.int("batch_dims", 0)).unwrap_or(usize::MAX));
    if batch >= shape.rank() || batch >= n.b.rank(index) {
        return wrong(format!("{batch} batch axes of {} and {}", n.b.ty(x), n.b.ty(index)));
    }
    let named = depth(n, index, shape.rank() - batch)?;
    let place = rows(n.b, &Shape(shape[batch..batch + named].to_vec()), index)?;
    let mut dims = shape[..batch].to_vec();
    dims.push(shape[batch..batch + named].iter().product());
    dims.extend_from_slice(&shape[batch + named..]);
    let elements = n.b.reshape(x, dims)?;
    Ok(vec![n.b.emit(Op::Gather(GatherAxes { axis: batch, batch }), &[elements, place])?])
}

pub(super) fn scatter_nd(n: &mut Node<'_>) -> Values {
    let (x, index, update) = (n.arg(0)?, n.arg(1)?, n.arg(2)?);
    let shape = n.b.shape(x);
    if n.b.rank(index) == 0 {
        return wrong("positions are rows");
    }
    let named = depth(n, index, shape.rank())?;
    let at = n.b.shape(index);
    let taken = Shape([&at[..at.rank() - 1], &shape[named..]].concat());
    same(&taken, &n.b.shape(update), "what the positions name, and the updates")?;
    let place = rows(n.b, &Shape(shape[..named].to_vec()), index)?;
    let (lead, rest) = shape.split_at(named);
    let (lead, rest): (Dim, Dim) = (lead.iter().product(), rest.iter().product());
    let place = flat(n.b, place)?;
    let count = n.b.shape(place)[0].clone();
    let (rows, update) = (n.b.reshape(x, [lead, rest.clone()])?, n.b.reshape(update, [count, rest])?);
    let y = scatter(n, rows, place, update)?;
    Ok(vec![n.b.reshape(y, shape.0)?])
}

pub(super) fn scatter_elements(n: &mut Node<'_>) -> Values {
    let (x, index, update) = (n.arg(0)?, n.arg(1)?, n.arg(2)?);
    let shape = n.b.shape(x);
    let axis = n.axis(n.int("axis", 0), shape.rank())?;
    if n.b.rank(index) != shape.rank() {
        return wrong(format!("{} at {}", n.b.ty(x), n.b.ty(index)));
    }
    same(&n.b.shape(index), &n.b.shape(update), "the positions and the updates")?;
    let place = linear(n.b, &shape, index, axis)?;
    let (place, update) = (flat(n.b, place)?, flat(n.b, update)?);
    let count = n.b.shape(place)[0].clone();
    let (rows, update) = (n.b.reshape(x, [shape.numel(), Dim::ONE])?, n.b.reshape(update, [count, Dim::ONE])?);
    let y = scatter(n, rows, place, update)?;
    Ok(vec![n.b.reshape(y, shape.0)?])
}

/// `rows` with rows of `update` put in or combined.
fn scatter(n: &mut Node<'_>, rows: Value, place: Value, update: Value) -> Result<Value> {
    let kind = match n.text("reduction", "none").as_str() {
        "none" => ScatterKind::Set,
        "add" => ScatterKind::Add,
        "mul" => ScatterKind::Mul,
        "max" => ScatterKind::Max,
        "min" => ScatterKind::Min,
        other => return wrong(format!("the reduction `{other}`")),
    };
    put(n.b, kind, rows, place, update)
}

/// Rows replaced; of several the last.
pub(crate) fn set_rows(b: &mut Builder, rows: Value, place: Value, update: Value) -> Result<Value> {
    put(b, ScatterKind::Set, rows, place, update)
}

fn put(b: &mut Builder, kind: ScatterKind, rows: Value, place: Value, update: Value) -> Result<Value> {
    b.emit(Op::Scatter(Scatter { kind, at: GatherAxes { axis: 0, batch: 0 } }), &[rows, place, update])
}
