//! Contractions: both sides as tables, then sums of products, each with its epilogue.

use graver_ir::kernel::{AxisSet, Contract, Side};
use graver_ir::{DType, Diag};

use super::body::{Code, Frame, Put, Scratch};
use super::expr::sizes_of;
use super::launch::Running;
use super::points::{count, each, position};
use crate::scalar::{Num, Precision, finish};

/// Runs a contraction. Products are summed in `f64` or `i64`, and the sum is rounded once.
pub(super) fn run(contract: &Contract, running: &mut Running<'_>) -> Result<(), Diag> {
    let axes = sizes_of(&contract.axes, running.sizes)?;
    let a = Table::new(&contract.a, contract.batch.union(contract.m), contract.k, &axes, running)?;
    let b = Table::new(&contract.b, contract.batch.union(contract.n), contract.k, &axes, running)?;
    let code = Code::new(&contract.epilogue, running.sizes)?;
    let puts = Put::all(&contract.stores, running.sizes)?;
    let mut scratch = Scratch::default();
    each(contract.batch.union(contract.m).union(contract.n), &axes, |point| {
        let acc = Some(sum(contract.acc, a.row(&axes, point)?, b.row(&axes, point)?));
        code.run(&Frame { acc, ..Frame::plain(point) }, running, &mut scratch)?;
        puts.iter().try_for_each(|put| put.store(point, running, &mut scratch))
    })
}

/// The elements of a side: a row over the summed axes for every point of the others.
struct Table {
    outer: AxisSet,
    row: usize,
    elements: Vec<Num>,
}

impl Table {
    fn new(side: &Side, outer: AxisSet, k: AxisSet, axes: &[i64], running: &mut Running<'_>) -> Result<Self, Diag> {
        let code = Code::new(&side.body, running.sizes)?;
        let (row, zero) = (count(k, axes), Num::Int(0));
        let mut elements = vec![zero; count(outer, axes) * row];
        let mut scratch = Scratch::default();
        each(outer.union(k), axes, |point| {
            code.run(&Frame::plain(point), running, &mut scratch)?;
            elements[position(outer, axes, point)? * row + position(k, axes, point)?] = scratch.value(side.value);
            Ok(())
        })?;
        Ok(Self { outer, row, elements })
    }

    fn row(&self, axes: &[i64], point: &[i64]) -> Result<&[Num], Diag> {
        Ok(&self.elements[position(self.outer, axes, point)? * self.row..][..self.row])
    }
}

fn sum(acc: DType, a: &[Num], b: &[Num]) -> Num {
    let pairs = a.iter().zip(b);
    let sum = if acc.is_float() {
        Num::Float(pairs.map(|(x, y)| x.float() * y.float()).sum())
    } else {
        Num::Int(pairs.fold(0, |sum: i64, (x, y)| sum.wrapping_add(x.int().wrapping_mul(y.int()))))
    };
    finish(acc, Precision::Typed, sum)
}
