//! The transforms of Winograd's minimal filtering of three taps (Winograd, 1980, "Arithmetic Complexity of Computations"; Lavin and
//! Gray, 2016, "Fast Algorithms for Convolutional Neural Networks"): `y = A^T ((G g) . (B^T d))`, in two dimensions once along each.

use super::super::super::cx::Cx;
use crate::vector::{Builder, Val};

/// The taps of a window along an axis.
pub(super) const TAPS: i64 = 3;

/// A matrix, row by row.
type Matrix = &'static [&'static [f32]];

/// The matrices for so many results along an axis, each of rows.
///
/// The gradient of a window is the same with what windows are multiplied by and results changed over: as many elements of the cotangent as there were results
/// are multiplied by the patch, to three taps.
#[derive(Debug)]
pub(super) struct Transform {
    /// `B^T`, of a patch of the image.
    pub(super) image: Matrix,
    /// `G`, of a window of weights.
    pub(super) weights: Matrix,
    /// `A^T`, of sums of products, to results.
    pub(super) results: Matrix,
    /// `G`, of the results' cotangent.
    pub(super) cotangent: Matrix,
    /// `A^T`, of sums of products, to the taps of a window.
    pub(super) taps: Matrix,
}

/// Two results along an axis: nine products become four.
pub(super) const TWO: Transform = Transform {
    image: &[&[1.0, 0.0, -1.0, 0.0], &[0.0, 1.0, 1.0, 0.0], &[0.0, -1.0, 1.0, 0.0], &[0.0, 1.0, 0.0, -1.0]],
    weights: &[&[1.0, 0.0, 0.0], &[0.5, 0.5, 0.5], &[0.5, -0.5, 0.5], &[0.0, 0.0, 1.0]],
    results: &[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, -1.0]],
    cotangent: &[&[1.0, 0.0], &[0.5, 0.5], &[0.5, -0.5], &[0.0, 1.0]],
    taps: &[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, 0.0], &[0.0, 1.0, 1.0, -1.0]],
};

/// Four results along an axis: nine products become two and a quarter.
pub(super) const FOUR: Transform = Transform {
    image: &[
        &[4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
        &[0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
        &[0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
        &[0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
        &[0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
        &[0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
    ],
    weights: &[
        &[0.25, 0.0, 0.0],
        &[-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        &[-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        &[1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        &[1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        &[0.0, 0.0, 1.0],
    ],
    results: &[
        &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        &[0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        &[0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        &[0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
    ],
    cotangent: &[
        &[0.25, 0.0, 0.0, 0.0],
        &[-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        &[-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0, 1.0 / 6.0],
        &[1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0, 1.0 / 3.0],
        &[1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0, -1.0 / 3.0],
        &[0.0, 0.0, 0.0, 1.0],
    ],
    taps: &[&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, 2.0, -2.0, 0.0], &[0.0, 1.0, 1.0, 4.0, 4.0, 1.0]],
};

impl Transform {
    /// Positions of a patch along an axis.
    pub(super) fn patch(&self) -> i64 {
        i64::try_from(self.image.len()).expect("a small patch")
    }

    /// Elements of a transformed patch.
    pub(super) fn elements(&self) -> i64 {
        self.patch() * self.patch()
    }

    /// Results along an axis.
    pub(super) fn outputs(&self) -> i64 {
        i64::try_from(self.results.len()).expect("few results")
    }
}

/// `matrix x matrix^T`, row-major, where `at` gives the element of `x` in a row and a column.
pub(super) fn both_ways(cx: &mut Cx<'_>, matrix: Matrix, at: &mut dyn FnMut(&mut Cx<'_>, i64, i64) -> Val) -> Vec<Val> {
    let mut columns = Vec::new();
    for (column, _) in (0..).zip(matrix[0]) {
        let elements: Vec<Val> = (0..).zip(matrix[0]).map(|(row, _)| at(cx, row, column)).collect();
        columns.push(product(&mut cx.b, matrix, &elements));
    }
    let row = |row: usize| columns.iter().map(|column| column[row]).collect::<Vec<Val>>();
    (0..matrix.len()).flat_map(|number| product(&mut cx.b, matrix, &row(number))).collect()
}

/// `matrix x`
fn product(b: &mut Builder, matrix: Matrix, x: &[Val]) -> Vec<Val> {
    matrix.iter().map(|row| combination(b, row, x)).collect()
}

/// The sum of `x`, so often each. What counts once comes first: it begins the sum.
fn combination(b: &mut Builder, factors: &[f32], x: &[Val]) -> Val {
    let terms = || factors.iter().copied().zip(x.iter().copied()).filter(|(factor, _)| *factor != 0.0);
    let (once, others) = (terms().filter(|(factor, _)| *factor == 1.0), terms().filter(|(factor, _)| *factor != 1.0));
    let mut sum: Option<Val> = None;
    for (factor, x) in once.chain(others) {
        sum = Some(match sum {
            None if factor == 1.0 => x,
            Some(sum) if factor == 1.0 => b.add(sum, x),
            Some(sum) if factor == -1.0 => b.sub(sum, x),
            sum => {
                let factor = b.f32(factor);
                match sum {
                    None => b.mul(x, factor),
                    Some(sum) => b.fma(x, factor, sum),
                }
            }
        });
    }
    sum.expect("no row of a transform is empty")
}
