//! Random loops and branches.
//!
//! What a loop carries is known to stay within what is known of its start: an iteration leaves a value of which nothing else is known.

use graver_ir::op::{If, Scan, While, slice_of, stack_of};
use graver_ir::{DType, Dim, Op, ScalarFn, Type};

use super::control::{define, define_with, stand_in};
use super::numbers::Numbers;
use super::{Gen, Known, MAX_ELEMENTS};

/// A new function over the slices of a value, with something that is carried and something that is closed over.
pub(super) fn scan(g: &mut Gen<'_>) -> Option<()> {
    let xs = g.any(|x| x.rank() > 0)?;
    let (start, closed) = (g.any(|x| x.rank() < 3)?, g.any(|_| true)?);
    let slice = Known { ty: slice_of(&xs.ty), ..xs.clone() };
    let (body, results) = define_with(g, &[start.clone(), slice, closed.clone()], |g| vec![kept(g)])?;
    let trip = xs.ty.shape[0].clone();
    let stacked = |known: &Known| Known { ty: stack_of(&trip, &known.ty), ..known.clone() };
    let results: Vec<Known> = results[..1].iter().cloned().chain(results[1..].iter().map(stacked)).collect();
    if results.iter().any(|known| known.sizes().iter().product::<usize>() > MAX_ELEMENTS) {
        return None;
    }
    let types = results.iter().map(|known| known.ty.clone()).collect();
    let op = Scan { body, trip, carried: 1, scanned: 1, reverse: g.rng.once_in(2), at_once: false, results: types };
    add(g, Op::Scan(op), &[&start, &xs, &closed], &results);
    Some(())
}

/// A new function applied up to four times: as often as a number says that is carried too.
pub(super) fn repeat(g: &mut Gen<'_>) -> Option<()> {
    let (start, closed) = (g.any(|_| true)?, g.any(|_| true)?);
    let count = f64::from(u8::try_from(g.rng.below(5)).expect("few"));
    let left = counter(g, count);
    let params = [start.clone(), left.clone(), closed.clone()];
    let body = |g: &mut Gen<'_>| {
        let (kept, left) = (kept(g), g.values[1].value);
        let one = g.b.scalar(DType::I64, 1.0);
        let left = Known { value: g.b.map(ScalarFn::Sub, [left, one]), ..g.values[1].clone() };
        vec![kept, left]
    };
    let (body, results) = define_with(g, &params, body)?;
    g.b.keep_results(body, 2);
    let types: Vec<Type> = params.iter().map(|param| param.ty.clone()).collect();
    let cond = g.b.func(&format!("any_left{}", body.0), |b| {
        let args: Vec<_> = types.iter().map(|ty| b.arg("x", ty.dtype, &ty.shape)).collect();
        let zero = b.scalar(DType::I64, 0.0);
        vec![b.map(ScalarFn::Gt, [args[1], zero])]
    });
    // Bounded, so that it has a derivative.
    let most = Some(Dim::from(g.rng.below(6)));
    let op = While { cond, body, carried: 2, most };
    add(g, Op::While(op), &[&start, &left, &closed], &results[..2]);
    Some(())
}

/// A new function, or another one that calls it with something else.
pub(super) fn branch(g: &mut Gen<'_>) -> Option<()> {
    let params: Vec<Known> = (0..=g.rng.below(2)).filter_map(|_| g.any(|_| true)).collect();
    let holds = g.any(|x| x.dtype() == DType::Bool && x.rank() == 0);
    let holds = holds.unwrap_or_else(|| {
        let value = f64::from(u8::from(g.rng.once_in(2)));
        let numbers = Numbers::constant(DType::Bool, value);
        Known { value: g.b.scalar(DType::Bool, value), ty: Type::scalar(DType::Bool), numbers }
    });
    let (then, results) = define(g, &params)?;
    let types: Vec<Type> = results.iter().map(|known| known.ty.clone()).collect();
    let order: Vec<usize> = (0..params.len()).map(|place| place_of_stand_in(g, &params, place)).collect();
    let otherwise = g.b.func(&format!("otherwise{}", then.0), |b| {
        let args: Vec<_> = params.iter().map(|param| b.arg("x", param.dtype(), &param.ty.shape)).collect();
        let args: Vec<_> = order.iter().map(|place| args[*place]).collect();
        b.call(then, &args)
    });
    let op = If { then, otherwise, results: types };
    let operands: Vec<&Known> = std::iter::once(&holds).chain(&params).collect();
    add(g, Op::If(op), &operands, &results);
    Some(())
}

/// A parameter for which everything holds that holds for this one.
fn place_of_stand_in(g: &mut Gen<'_>, params: &[Known], place: usize) -> usize {
    let own = &params[place];
    let fits = |other: &usize| params[*other].ty == own.ty && params[*other].numbers.is_within(&own.numbers);
    let fitting: Vec<usize> = (0..params.len()).filter(fits).collect();
    *g.rng.pick(&fitting)
}

/// What an iteration leaves for the first parameter: itself or a value that is as good.
fn kept(g: &mut Gen<'_>) -> Known {
    let first = g.values[0].clone();
    stand_in(g, &first)
}

/// A number of iterations that are left.
fn counter(g: &mut Gen<'_>, count: f64) -> Known {
    let numbers = Numbers::constant(DType::I64, 4.0);
    Known { value: g.b.scalar(DType::I64, count), ty: Type::scalar(DType::I64), numbers }
}

fn add(g: &mut Gen<'_>, op: Op, operands: &[&Known], results: &[Known]) {
    let args: Vec<_> = operands.iter().map(|known| known.value).collect();
    let outs = g.b.add_many(op, &args);
    g.ops += 1;
    g.values.extend(outs.into_iter().zip(results).map(|(value, known)| Known { value, ..known.clone() }));
}
