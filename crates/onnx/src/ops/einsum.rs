//! Sums of products over named axes: operands are contracted two by two, from the left.

use graver_ir::op::{DotAxes, ReduceKind};
use graver_ir::{DType, Dim, ScalarFn, Shape, Value};

use crate::build::Builder;
use crate::problem::{Result, wrong};

/// An operand and the names of its axes, none twice.
struct Named {
    x: Value,
    names: Vec<char>,
}

/// The sum over all names that the output has not.
pub(super) fn contract(b: &mut Builder, args: Vec<Value>, names: Vec<Vec<char>>, output: &[char]) -> Result<Value> {
    let mut operands = Vec::new();
    for (x, names) in args.into_iter().zip(names) {
        operands.push(diagonal(b, Named { x, names })?);
    }
    operands.reverse();
    let Some(mut left) = operands.pop() else { return wrong("takes one operand or more") };
    while let Some(right) = operands.pop() {
        let later = |name: &char| output.contains(name) || operands.iter().any(|operand| operand.names.contains(name));
        left = pair(b, left, right, &later)?;
    }
    let left = summed(b, left, &|name| output.contains(name))?;
    let place = |name: &char| left.names.iter().position(|own| own == name);
    match output.iter().map(place).collect::<Option<Vec<usize>>>() {
        Some(order) if order.len() == left.names.len() => b.permute(left.x, order),
        Some(_) | None => wrong("the output names an axis that no operand has, or one twice"),
    }
}

/// A name that is there twice takes the diagonal.
fn diagonal(b: &mut Builder, mut operand: Named) -> Result<Named> {
    while let Some((first, second)) = repeated(&operand.names) {
        let shape = b.shape(operand.x);
        let square = Shape(vec![shape[first].clone(), shape[second].clone()]);
        let (row, column) = (b.iota(DType::I64, &square, 0)?, b.iota(DType::I64, &square, 1)?);
        let mut on = b.map(ScalarFn::Eq, &[row, column])?;
        let mut dims = vec![Dim::ONE; shape.rank()];
        (dims[first], dims[second]) = (shape[first].clone(), shape[second].clone());
        on = b.reshape(on, dims)?;
        let zero = b.number(b.dtype(operand.x), 0.0)?;
        let kept = b.select(on, operand.x, zero)?;
        operand.x = b.reduce(ReduceKind::Sum, kept, &[second], false)?;
        operand.names.remove(second);
    }
    Ok(operand)
}

fn repeated(names: &[char]) -> Option<(usize, usize)> {
    (0..names.len())
        .find_map(|second| names[..second].iter().position(|name| *name == names[second]).map(|first| (first, second)))
}

/// The sum over the names that nobody needs any more.
fn summed(b: &mut Builder, operand: Named, needed: &dyn Fn(&char) -> bool) -> Result<Named> {
    let gone: Vec<usize> = (0..operand.names.len()).filter(|axis| !needed(&operand.names[*axis])).collect();
    if gone.is_empty() {
        return Ok(operand);
    }
    let x = b.reduce(ReduceKind::Sum, operand.x, &gone, false)?;
    Ok(Named { x, names: operand.names.into_iter().filter(|name| needed(name)).collect() })
}

fn pair(b: &mut Builder, left: Named, right: Named, later: &dyn Fn(&char) -> bool) -> Result<Named> {
    let left = summed(b, left, &|name| later(name) || right.names.contains(name))?;
    let right = summed(b, right, &|name| later(name) || left.names.contains(name))?;
    let (mut left, mut right) = (left, right);
    stretch_shared(b, &mut left, &mut right)?;
    let mut axes = DotAxes::default();
    let (mut batch, mut free) = (Vec::new(), Vec::new());
    for (place, name) in left.names.iter().enumerate() {
        match right.names.iter().position(|other| other == name) {
            None => free.push(*name),
            Some(other) if later(name) => {
                batch.push(*name);
                axes.lhs_batch.push(place);
                axes.rhs_batch.push(other);
            }
            Some(other) => {
                axes.lhs_contract.push(place);
                axes.rhs_contract.push(other);
            }
        }
    }
    free.extend(right.names.iter().filter(|name| !left.names.contains(name)));
    let x = b.dot(left.x, right.x, axes)?;
    Ok(Named { x, names: batch.into_iter().chain(free).collect() })
}

/// A shared axis of size one takes the other's size.
fn stretch_shared(b: &mut Builder, left: &mut Named, right: &mut Named) -> Result<()> {
    for (place, name) in left.names.iter().enumerate() {
        let Some(other) = right.names.iter().position(|other| other == name) else { continue };
        let (mut one, mut two) = (b.shape(left.x), b.shape(right.x));
        if one[place] == two[other] {
            continue;
        }
        let common = crate::build::common(&[Shape(vec![one[place].clone()]), Shape(vec![two[other].clone()])])?;
        (one.0[place], two.0[other]) = (common[0].clone(), common[0].clone());
        left.x = b.stretch(left.x, &one)?;
        right.x = b.stretch(right.x, &two)?;
    }
    Ok(())
}
