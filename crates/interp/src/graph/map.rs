//! Maps: a scalar function at every element.

use graver_ir::{DTypeKind, Diag, ScalarFn};

use super::Out;
use crate::dense::{Data, Dense};
use crate::kernel::{decode, encode};
use crate::scalar::{Num, Precision, cast_num, on_floats, on_ints};

/// The function at every element.
pub(super) fn function(function: ScalarFn, args: &[&Dense], out: Out) -> Result<Dense, Diag> {
    check_divisor(function, args)?;
    let data = match args {
        [condition, x, y] => select(condition.data.ints(), &x.data, &y.data),
        [x] => map2(function, x, x, &out),
        [x, y] => map2(function, x, y, &out),
        _ => unreachable!("typed: functions have one to three operands"),
    };
    Ok(out.of(data))
}

/// Every element converted.
pub(super) fn cast(x: &Dense, out: Out, precision: Precision) -> Dense {
    let values = (0..x.data.len()).map(|position| cast_num(x.data.get(position), x.dtype, out.dtype, precision));
    let data = collect(values, &out);
    out.of(data)
}

/// The bits of every element as the result's type.
pub(super) fn bitcast(x: &Dense, out: Out) -> Dense {
    let values = (0..x.data.len()).map(|position| decode(out.dtype, &encode(x.dtype, x.data.get(position))));
    let data = collect(values, &out);
    out.of(data)
}

/// Integer division by zero is an error of the call.
fn check_divisor(function: ScalarFn, args: &[&Dense]) -> Result<(), Diag> {
    let (ScalarFn::Div | ScalarFn::Rem, [_, divisor]) = (function, args) else { return Ok(()) };
    match &divisor.data {
        Data::Int(divisors) if divisors.contains(&0) => {
            Err(Diag::new(format!("an element of the divisor {} is zero", divisor.ty())))
        }
        Data::Int(_) | Data::Float(_) => Ok(()),
    }
}

fn map2(function: ScalarFn, x: &Dense, y: &Dense, out: &Out) -> Data {
    match (&x.data, &y.data) {
        (Data::Float(xs), Data::Float(ys)) => collect(xs.iter().zip(ys).map(|(x, y)| on_floats(function, *x, *y)), out),
        (Data::Int(xs), Data::Int(ys)) => Data::Int(xs.iter().zip(ys).map(|(a, b)| on_ints(function, x.dtype, *a, *b)).collect()),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("typed: operands are of one type"),
    }
}

fn select(condition: &[i64], x: &Data, y: &Data) -> Data {
    match (x, y) {
        (Data::Float(x), Data::Float(y)) => Data::Float(choose(condition, x, y)),
        (Data::Int(x), Data::Int(y)) => Data::Int(choose(condition, x, y)),
        (Data::Float(_), Data::Int(_)) | (Data::Int(_), Data::Float(_)) => unreachable!("typed: operands are of one type"),
    }
}

fn choose<T: Copy>(condition: &[i64], x: &[T], y: &[T]) -> Vec<T> {
    condition.iter().zip(x.iter().zip(y)).map(|(condition, (x, y))| if *condition != 0 { *x } else { *y }).collect()
}

/// Values as elements of the result's type, neither rounded nor wrapped.
pub(super) fn collect(values: impl Iterator<Item = Num>, out: &Out) -> Data {
    match out.dtype.kind() {
        DTypeKind::Float => Data::Float(values.map(Num::float).collect()),
        DTypeKind::Signed | DTypeKind::Unsigned | DTypeKind::Bool => Data::Int(values.map(Num::int).collect()),
    }
}
