//! Windows over spatial axes: their geometry, which convolutions share, and pooling.

use graver_ir::op::{ReduceKind, Window, WindowAxis};
use graver_ir::{DType, Dim, Op, ScalarFn, Shape, Value};

use super::Values;
use super::index::set_rows;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, wrong};

/// The windows along one spatial axis.
pub(super) struct Spatial {
    pub(super) stride: i64,
    pub(super) dilation: i64,
    pub(super) size: i64,
    pub(super) low: Dim,
    pub(super) high: Dim,
}

impl Spatial {
    /// The elements from a window's first to its last.
    fn reach(&self) -> i64 {
        (self.size - 1).saturating_mul(self.dilation).saturating_add(1)
    }
}

/// How padding is found where it is not said.
pub(super) fn auto_pad(n: &Node<'_>) -> Result<String> {
    let auto = n.text("auto_pad", "NOTSET");
    match auto.as_str() {
        "" | "NOTSET" | "SAME_UPPER" | "SAME_LOWER" | "VALID" => Ok(auto),
        other => wrong(format!("`auto_pad` is `{other}`, and must be NOTSET, SAME_UPPER, SAME_LOWER or VALID")),
    }
}

/// The windows that a node's attributes describe: `strides, dilations, pads, auto_pad`.
pub(super) fn spatial(n: &Node<'_>, x: Value, sizes: &[i64]) -> Result<Vec<Spatial>> {
    let (shape, count) = (n.b.shape(x), sizes.len());
    let one = |name: &str| n.ints(name).filter(|list| !list.is_empty()).unwrap_or_else(|| vec![1; count]);
    let (strides, dilations) = (one("strides"), one("dilations"));
    let pads = n.ints("pads").filter(|list| !list.is_empty()).unwrap_or_else(|| vec![0; 2 * count]);
    let lengths = [strides.len(), dilations.len(), pads.len() / 2, shape.rank().saturating_sub(2)];
    if lengths != [count; 4] || sizes.iter().chain(&strides).chain(&dilations).any(|number| *number < 1) {
        return wrong(format!("windows {sizes:?} by {strides:?}, dilated {dilations:?}, padded {pads:?}, over {}", n.b.ty(x)));
    }
    let auto = auto_pad(n)?;
    let axis = |place: usize| {
        let (stride, dilation, size) = (strides[place], dilations[place], sizes[place]);
        let mut axis = Spatial { stride, dilation, size, low: Dim::from(pads[place]), high: Dim::from(pads[place + count]) };
        match auto.as_str() {
            "SAME_UPPER" | "SAME_LOWER" => {
                let (own, stride) = (&shape[place + 2], Dim::from(stride));
                let last = (own.ceil_div(&stride) - Dim::ONE) * stride;
                let total = (last + Dim::from(axis.reach()) - own).max_with(&Dim::ZERO);
                let half = total.floor_div(&Dim::from(2));
                let rest = &total - &half;
                (axis.low, axis.high) = if auto == "SAME_UPPER" { (half, rest) } else { (rest, half) };
            }
            "VALID" => (axis.low, axis.high) = (Dim::ZERO, Dim::ZERO),
            _ => {}
        }
        axis
    };
    Ok((0..count).map(axis).collect())
}

/// A pooling's windows, with the padding that rounding up adds to the explicit one.
struct Pool {
    axes: Vec<WindowAxis>,
    /// The padding that the attributes ask for.
    asked: Vec<(Dim, Dim)>,
}

fn pool(n: &Node<'_>, x: Value) -> Result<Pool> {
    let Some(sizes) = n.ints("kernel_shape") else { return wrong("it has no `kernel_shape`") };
    let spatial = spatial(n, x, &sizes)?;
    let (shape, ceil) = (n.b.shape(x), n.flag("ceil_mode", false));
    let mut axes = vec![WindowAxis::IDENTITY; 2];
    for (place, axis) in spatial.iter().enumerate() {
        let own = &shape[place + 2];
        let asked = [&axis.low, &axis.high].map(Dim::as_const);
        if asked.into_iter().flatten().any(|pad| !(0..axis.reach()).contains(&pad)) {
            let [low, high] = asked.map(Option::unwrap_or_default);
            return wrong(format!(
                "the padding {low} and {high} of axis {} must be less than its windows' {}",
                place + 2,
                axis.reach()
            ));
        }
        let mut high = axis.high.clone();
        if ceil {
            let (stride, reach) = (Dim::from(axis.stride), Dim::from(axis.reach()));
            let windows = (own + &axis.low + &high - &reach).ceil_div(&stride) + Dim::ONE;
            // No window begins in the upper padding.
            let begun = (own + &axis.low - Dim::ONE).floor_div(&stride) + Dim::ONE;
            let last = (windows.min_with(&begun) - Dim::ONE) * stride;
            high = (last + reach - own - &axis.low).max_with(&Dim::ZERO);
        }
        axes.push(WindowAxis { size: axis.size, stride: axis.stride, dilation: axis.dilation, low: axis.low.clone(), high });
    }
    Ok(Pool { axes, asked: spatial.into_iter().map(|axis| (axis.low, axis.high)).collect() })
}

fn over(b: &mut Builder, kind: ReduceKind, x: Value, axes: Vec<WindowAxis>) -> Result<Value> {
    b.emit(Op::Window(Window { kind, axes }), &[x])
}

pub(super) fn max_pool(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let pool = pool(n, x)?;
    let y = over(n.b, ReduceKind::Max, x, pool.axes.clone())?;
    if !n.gives(1) {
        return Ok(vec![y]);
    }
    let column_major = n.flag("storage_order", false);
    let places = places(n.b, x, &pool.axes, column_major)?;
    Ok(vec![y, places])
}

/// Where in the operand every window's greatest element is, as one number.
fn places(b: &mut Builder, x: Value, axes: &[WindowAxis], column_major: bool) -> Result<Value> {
    let window = Window { kind: ReduceKind::Max, axes: axes.to_vec() };
    let inside = b.emit(Op::WindowArg(window), &[x])?;
    let mut rest = b.cast(inside, DType::I64)?;
    let (shape, windows) = (b.shape(x), b.shape(rest));
    let mut strides = shape.strides();
    if column_major {
        let mut stride = Dim::ONE;
        for axis in 2..shape.rank() {
            strides[axis] = stride.clone();
            stride = stride * &shape[axis];
        }
    }
    let mut place = b.constant(graver_ir::Array::scalar(0i64))?;
    for axis in (0..axes.len()).rev() {
        #[expect(clippy::cast_precision_loss, reason = "windows are small")]
        let (size, stride, dilation) = (axes[axis].size as f64, axes[axis].stride as f64, axes[axis].dilation as f64);
        let own = b.with(ScalarFn::Rem, rest, size)?;
        rest = b.with(ScalarFn::Div, rest, size)?;
        let first = b.iota(DType::I64, &windows, axis)?;
        let first = b.with(ScalarFn::Mul, first, stride)?;
        let own = b.with(ScalarFn::Mul, own, dilation)?;
        let low = b.size(&axes[axis].low, DType::I64)?;
        let along = b.add(first, own)?;
        let along = b.sub(along, low)?;
        let stride = b.size(&strides[axis], DType::I64)?;
        let along = b.mul(along, stride)?;
        place = b.add(place, along)?;
    }
    Ok(place)
}

pub(super) fn average_pool(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let (pool, counted) = (pool(n, x)?, n.flag("count_include_pad", false));
    let unpadded = pool.axes.iter().all(|axis| axis.low.is(0) && axis.high.is(0));
    let whole: i64 = pool.axes.iter().map(|axis| axis.size).fold(1, i64::saturating_mul);
    let y = n.b.wide(&[x], |b, args| {
        let sum = over(b, ReduceKind::Sum, args[0], pool.axes.clone())?;
        if unpadded {
            #[expect(clippy::cast_precision_loss, reason = "windows are small")]
            return b.with(ScalarFn::Div, sum, whole as f64);
        }
        let count = members(b, args[0], &pool, counted)?;
        b.div(sum, count)
    })?;
    Ok(vec![y])
}

/// How many elements each window has; explicit padding counts if asked, what rounding up adds never does.
fn members(b: &mut Builder, x: Value, pool: &Pool, counted: bool) -> Result<Value> {
    let (mut shape, mut axes) = (b.shape(x), pool.axes.clone());
    (shape.0[0], shape.0[1]) = (Dim::ONE, Dim::ONE);
    if counted {
        for (place, (low, high)) in pool.asked.iter().enumerate() {
            let axis = place + 2;
            shape.0[axis] = &shape.0[axis] + low + high;
            axes[axis].low = Dim::ZERO;
            axes[axis].high = (&axes[axis].high - high).max_with(&Dim::ZERO);
        }
    }
    let one = b.number(b.dtype(x), 1.0)?;
    let ones = b.fill(one, &shape)?;
    over(b, ReduceKind::Sum, ones, axes)
}

pub(super) fn lp_pool(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let pool = pool(n, x)?;
    let order = norm_order(n);
    let y = n.b.wide(&[x], |b, args| {
        let powers = powers(b, args[0], order)?;
        let sum = over(b, ReduceKind::Sum, powers, pool.axes)?;
        root(b, sum, order)
    })?;
    Ok(vec![y])
}

/// The attribute was a float at first.
fn norm_order(n: &Node<'_>) -> f64 {
    if n.version < 2 {
        return n.float("p", 2.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "an exponent is small")]
    let whole = n.int("p", 2) as f64;
    whole
}

/// `|x|^p`
#[expect(clippy::float_cmp, reason = "exactly these exponents have their own forms")]
pub(super) fn powers(b: &mut Builder, x: Value, order: f64) -> Result<Value> {
    if order == 2.0 {
        return b.mul(x, x);
    }
    let size = b.map(ScalarFn::Abs, &[x])?;
    if order == 1.0 { Ok(size) } else { b.with(ScalarFn::Pow, size, order) }
}

/// `x^(1/p)`
#[expect(clippy::float_cmp, reason = "exactly these exponents have their own forms")]
pub(super) fn root(b: &mut Builder, x: Value, order: f64) -> Result<Value> {
    if order == 2.0 {
        return b.map(ScalarFn::Sqrt, &[x]);
    }
    if order == 1.0 { Ok(x) } else { b.with(ScalarFn::Pow, x, 1.0 / order) }
}

fn spatial_axes(n: &Node<'_>, x: Value) -> Result<Vec<usize>> {
    let rank = n.b.rank(x);
    if rank < 2 { wrong(format!("takes [n, c, ..], got {}", n.b.ty(x))) } else { Ok((2..rank).collect()) }
}

pub(super) fn global_average_pool(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let axes = spatial_axes(n, x)?;
    Ok(vec![n.b.mean(x, &axes, true)?])
}

pub(super) fn global_max_pool(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let axes = spatial_axes(n, x)?;
    Ok(vec![n.b.reduce(ReduceKind::Max, x, &axes, true)?])
}

pub(super) fn global_lp_pool(n: &mut Node<'_>) -> Values {
    let x = n.arg(0)?;
    let (axes, order) = (spatial_axes(n, x)?, norm_order(n));
    let y = n.b.wide(&[x], |b, args| {
        let powers = powers(b, args[0], order)?;
        let sum = b.reduce(ReduceKind::Sum, powers, &axes, true)?;
        root(b, sum, order)
    })?;
    Ok(vec![y])
}

/// Every value at its place in an image of zeros.
pub(super) fn max_unpool(n: &mut Node<'_>) -> Values {
    let (x, place) = (n.arg(0)?, n.arg(1)?);
    let own = n.b.shape(x);
    let natural = unpooled(n, x)?;
    let asked = if n.opt(2).is_some() { Shape(n.dims(2, "the output's shape")?) } else { natural.clone() };
    let elements = |shape: &Shape| shape.numel();
    let zero = n.b.number(n.b.dtype(x), 0.0)?;
    let (rows, count) = (Shape(vec![elements(&natural), Dim::ONE]), elements(&own));
    let empty = n.b.fill(zero, &rows)?;
    let (place, update) = (n.b.reshape(place, [count.clone()])?, n.b.reshape(x, [count, Dim::ONE])?);
    let flat = set_rows(n.b, empty, place, update)?;
    let mut y = n.b.reshape(flat, natural.0.clone())?;
    for axis in 2..natural.rank() {
        let more = &asked[axis] - &natural[axis];
        y = n.b.pad(y, axis, &Dim::ZERO, &more, zero)?;
    }
    Ok(vec![y])
}

/// The least operand of the pooling.
fn unpooled(n: &Node<'_>, x: Value) -> Result<Shape> {
    let Some(sizes) = n.ints("kernel_shape") else { return wrong("it has no `kernel_shape`") };
    let mut shape = n.b.shape(x);
    let axes = spatial(n, x, &sizes)?;
    for (place, axis) in axes.iter().enumerate() {
        let count = &shape[place + 2] - Dim::ONE;
        shape.0[place + 2] = count * Dim::from(axis.stride) + Dim::from(axis.reach()) - &axis.low - &axis.high;
    }
    Ok(shape)
}
