//! An axis whose size, or whose result's size, is a symbol: places and weights are computed by the program, in `f64`.

use graver_ir::op::GatherAxes;
use graver_ir::{DType, Dim, Op, ScalarFn, Value};

use super::{Mode, Rule, Scale};
use crate::build::Builder;
use crate::problem::{Result, unsupported, wrong};

/// An axis, its numbers as scalars.
struct Line {
    size: Value,
    scale: Value,
    /// `size * scale`, which may be no whole number.
    length: Value,
    out: Value,
}

pub(super) fn along(b: &mut Builder, x: Value, axis: usize, out: &Dim, scale: Scale, rule: &Rule) -> Result<Value> {
    let size = b.along(x, axis)?;
    if rule.antialias || rule.exclude_outside {
        return unsupported(format!("resizing {size} elements to {out} by weights that depend on the sizes"));
    }
    let (own, outs) = (b.size(&size, DType::F64)?, b.size(out, DType::F64)?);
    let scale = match scale {
        Scale::Is(scale) => b.number(DType::F64, scale)?,
        Scale::OfSizes => b.div(outs, own)?,
    };
    let line = Line { size: own, scale, length: b.mul(own, scale)?, out: outs };
    let place = b.count(DType::F64, out)?;
    let at = coordinate(b, &line, place, &rule.coordinates)?;
    if rule.mode == Mode::Nearest {
        let at = nearest(b, at, &rule.nearest)?;
        return tap(b, x, axis, at, line.size);
    }
    let low = b.map(ScalarFn::Floor, &[at])?;
    let ratio = b.sub(at, low)?;
    let offsets = if rule.mode == Mode::Cubic { -1..3 } else { 0..2 };
    let mut sum: Option<Value> = None;
    for offset in offsets {
        let weight = if rule.mode == Mode::Cubic { cubic(b, ratio, offset, rule.cubic)? } else { linear(b, ratio, offset)? };
        let place = b.with(ScalarFn::Add, low, f64::from(offset))?;
        let element = tap(b, x, axis, place, line.size)?;
        let weight = b.cast(weight, b.dtype(element))?;
        let weight = b.unsqueeze(weight, &(1..b.rank(x) - axis).collect::<Vec<_>>())?;
        let term = b.mul(element, weight)?;
        sum = Some(match sum {
            Some(sum) => b.add(sum, term)?,
            None => term,
        });
    }
    sum.map_or_else(|| wrong("no elements"), Ok)
}

/// The elements at places, of which those outside are the first and the last.
fn tap(b: &mut Builder, x: Value, axis: usize, place: Value, size: Value) -> Result<Value> {
    let last = b.with(ScalarFn::Sub, size, 1.0)?;
    let place = b.with(ScalarFn::Max, place, 0.0)?;
    let place = b.map(ScalarFn::Min, &[place, last])?;
    let place = b.cast(place, DType::I64)?;
    b.emit(Op::Gather(GatherAxes { axis, batch: 0 }), &[x, place])
}

/// Where the elements of the result lie in the operand.
fn coordinate(b: &mut Builder, line: &Line, x: Value, rule: &str) -> Result<Value> {
    let half = |b: &mut Builder, less: f64| -> Result<Value> {
        let middle = b.with(ScalarFn::Add, x, 0.5)?;
        let at = b.div(middle, line.scale)?;
        b.with(ScalarFn::Sub, at, less)
    };
    match rule {
        "half_pixel" => half(b, 0.5),
        "tf_half_pixel_for_nn" => half(b, 0.0),
        "asymmetric" => b.div(x, line.scale),
        "pytorch_half_pixel" => {
            let (at, alone) = (half(b, 0.5)?, b.number(DType::F64, -0.5)?);
            let one = b.with(ScalarFn::Eq, line.length, 1.0)?;
            b.select(one, alone, at)
        }
        "align_corners" => {
            let (last, gaps) = (b.with(ScalarFn::Sub, line.size, 1.0)?, b.with(ScalarFn::Sub, line.length, 1.0)?);
            let along = b.mul(x, last)?;
            let at = b.div(along, gaps)?;
            let (one, zero) = (b.with(ScalarFn::Eq, line.length, 1.0)?, b.number(DType::F64, 0.0)?);
            b.select(one, zero, at)
        }
        "half_pixel_symmetric" => {
            let share = b.div(line.out, line.length)?;
            let rest = b.from(ScalarFn::Sub, 1.0, share)?;
            let middle = b.with(ScalarFn::Div, line.size, 2.0)?;
            let offset = b.mul(middle, rest)?;
            let at = half(b, 0.5)?;
            b.add(offset, at)
        }
        other => unsupported(format!("the coordinates `{other}` of sizes that are symbols")),
    }
}

fn nearest(b: &mut Builder, at: Value, mode: &str) -> Result<Value> {
    let (function, offset) = match mode {
        "round_prefer_floor" => (ScalarFn::Ceil, -0.5),
        "round_prefer_ceil" => (ScalarFn::Floor, 0.5),
        "floor" => (ScalarFn::Floor, 0.0),
        "ceil" => (ScalarFn::Ceil, 0.0),
        other => return wrong(format!("the nearest mode `{other}`")),
    };
    let at = b.with(ScalarFn::Add, at, offset)?;
    b.map(function, &[at])
}

fn linear(b: &mut Builder, ratio: Value, offset: i32) -> Result<Value> {
    if offset == 1 { Ok(ratio) } else { b.from(ScalarFn::Sub, 1.0, ratio) }
}

/// Keys (1981), "Cubic convolution interpolation for digital image processing".
fn cubic(b: &mut Builder, ratio: Value, offset: i32, a: f64) -> Result<Value> {
    let distance = match offset {
        -1 => b.with(ScalarFn::Add, ratio, 1.0)?,
        0 => ratio,
        1 => b.from(ScalarFn::Sub, 1.0, ratio)?,
        _ => b.from(ScalarFn::Sub, 2.0, ratio)?,
    };
    let is_near = offset == 0 || offset == 1;
    let coefficients = if is_near { [a + 2.0, -(a + 3.0), 0.0, 1.0] } else { [a, -5.0 * a, 8.0 * a, -4.0 * a] };
    let mut y = b.with(ScalarFn::Mul, distance, coefficients[0])?;
    for coefficient in &coefficients[1..3] {
        let sum = b.with(ScalarFn::Add, y, *coefficient)?;
        y = b.mul(sum, distance)?;
    }
    b.with(ScalarFn::Add, y, coefficients[3])
}
