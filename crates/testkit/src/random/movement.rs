//! Random movements: numbers stay as they are.

use graver_ir::op::{Broadcast, PadAxis, Perm, SliceAxis};
use graver_ir::{Dim, Op, Shape};

use super::numbers::Numbers;
use super::{Gen, Known, MAX_ELEMENTS, Recipe, scalar};

pub(super) const RECIPES: &[Recipe] = &[flatten, split, permute, broadcast, slice, pad, concat, reverse];

fn moved(g: &mut Gen<'_>, op: Op, x: &Known) -> Option<()> {
    g.emit(op, &[x.value], x.numbers).map(drop)
}

fn numel(x: &Known) -> usize {
    x.sizes().into_iter().product()
}

/// Two neighbouring axes become one, or an axis of one is added.
fn flatten(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|_| true)?;
    let mut dims = x.ty.shape.0.clone();
    if dims.len() > 1 {
        let axis = g.rng.below(dims.len() - 1);
        let inner = dims.remove(axis + 1);
        dims[axis] = &dims[axis] * inner;
    } else {
        dims.insert(g.rng.below(dims.len() + 1), Dim::ONE);
    }
    moved(g, Op::Reshape(Shape(dims)), &x)
}

/// An axis of a size that 2 or 3 divides becomes two.
fn split(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0 && x.rank() < 4)?;
    let axis = g.rng.below(x.rank());
    let by = *g.rng.pick(&[2i64, 3]);
    let mut dims = x.ty.shape.0.clone();
    if dims[axis].is(0) || dims[axis].known_multiple() % by != 0 {
        return None;
    }
    dims[axis] = dims[axis].floor_div(&Dim::from(by));
    dims.insert(axis + 1, Dim::from(by));
    moved(g, Op::Reshape(Shape(dims)), &x)
}

fn permute(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 1)?;
    let mut axes: Vec<usize> = (0..x.rank()).collect();
    g.rng.shuffle(&mut axes);
    moved(g, Op::Permute(Perm::new(axes).expect("a shuffled range")), &x)
}

/// A new axis, whose size is a number or that of an axis that there is.
fn broadcast(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() < 4)?;
    let place = g.rng.below(x.rank() + 1);
    let other = g.any(|y| y.rank() > 0)?;
    let size = if g.rng.once_in(2) { Dim::from(g.rng.below(4)) } else { g.rng.pick(&other.ty.shape).clone() };
    let mut shape = x.ty.shape.clone();
    shape.0.insert(place, size);
    if crate::concrete(&shape).iter().product::<usize>() > MAX_ELEMENTS {
        return None;
    }
    let axes = (0..=x.rank()).filter(|axis| *axis != place).collect();
    moved(g, Op::Broadcast(Broadcast { shape, axes }), &x)
}

/// Of axes with a number as size a part, of others everything, or every second element.
fn slice(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0)?;
    let axes = x.ty.shape.0.clone().into_iter().map(|dim| match dim.as_const() {
        Some(size) => {
            let (step, start) = (g.rng.int(1, 2), g.rng.int(0, size));
            let most = (size - start + step - 1) / step;
            SliceAxis { start: Dim::from(start), size: Dim::from(g.rng.int(most.min(1), most)), step }
        }
        None if g.rng.once_in(3) => SliceAxis { start: Dim::ZERO, size: dim.floor_div(&Dim::from(2)), step: 2 },
        None => SliceAxis { start: Dim::ZERO, size: dim, step: 1 },
    });
    let axes = axes.collect();
    moved(g, Op::Slice(axes), &x)
}

fn pad(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0 && numel(x) < MAX_ELEMENTS / 10)?;
    let padded = g.rng.below(x.rank());
    let axes = (0..x.rank()).map(|axis| {
        let mut amount = |most| if axis == padded { g.rng.int(0, most) } else { 0 };
        let (low, high, interior) = (amount(2), amount(2), amount(1));
        PadAxis { low: Dim::from(low), high: Dim::from(high), interior }
    });
    let axes = axes.collect();
    let value = g.b.constant(scalar(x.dtype(), 1.0));
    g.ops += 1;
    let numbers = x.numbers.either(Numbers::constant(x.dtype(), 1.0));
    g.emit(Op::Pad(axes), &[x.value, value], numbers).map(drop)
}

fn concat(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0 && numel(x) < MAX_ELEMENTS / 2)?;
    let y = g.alike(&x, |_| true)?;
    let axis = g.rng.below(x.rank());
    g.emit(Op::Concat(axis), &[x.value, y.value], x.numbers.either(y.numbers)).map(drop)
}

fn reverse(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|x| x.rank() > 0)?;
    let axes = (0..x.rank()).filter(|_| g.rng.once_in(2)).collect();
    moved(g, Op::Reverse(axes), &x)
}
