//! A point of a kernel's axes under evaluation: the body that grows there, and what is known of it already.

use graver_ir::dim::Dim;
use graver_ir::kernel::{Body, Index, InstKind, ValueId};
use graver_ir::{DType, Loc, Scalar, ScalarFn, Value};

use super::region::Region;

/// `0 <= position < limit`, for an index that may leave its range.
pub(super) type Condition = (Dim, Dim);

/// A body, with the values that it has computed.
#[derive(Debug, Default)]
pub(super) struct Point {
    /// The code so far.
    pub(super) body: Body,
    /// The contraction whose sum is at hand here, and its index.
    pub(super) sum: Option<(Value, Vec<Index>)>,
    /// Under what conditions the present value is used. Elsewhere it may be anything, but nothing may be read or reported.
    pub(super) guard: Vec<Condition>,
    known: Vec<Known>,
    /// Positions that are at least 0 and at most this.
    ranges: Vec<(ValueId, Dim)>,
}

#[derive(Debug)]
struct Known {
    value: Value,
    index: Vec<Index>,
    guard: Vec<Condition>,
    result: ValueId,
}

impl Point {
    /// An empty body under a guard.
    pub(super) fn guarded(guard: Vec<Condition>) -> Self {
        Self { guard, ..Self::default() }
    }

    /// The epilogue of a contraction, whose result is at this index.
    pub(super) fn at_sum(contraction: Value, index: Vec<Index>) -> Self {
        Self { sum: Some((contraction, index)), ..Self::default() }
    }

    /// A value that was computed at this index under this guard.
    pub(super) fn known(&self, value: Value, index: &[Index]) -> Option<ValueId> {
        let same = |known: &&Known| known.value == value && known.index == index && known.guard == self.guard;
        self.known.iter().find(same).map(|known| known.result)
    }

    /// Keeps a value for later uses.
    pub(super) fn remember(&mut self, value: Value, index: &[Index], result: ValueId) {
        self.known.push(Known { value, index: index.to_vec(), guard: self.guard.clone(), result });
    }

    /// A constant.
    pub(super) fn constant(&mut self, value: Scalar) -> ValueId {
        self.body.push(InstKind::Const(value), value.dtype())
    }

    /// A function of scalars.
    pub(super) fn map(&mut self, function: ScalarFn, operands: &[ValueId]) -> ValueId {
        let dtypes: Vec<DType> = operands.iter().map(|operand| self.body.dtype(*operand)).collect();
        let dtype = function.infer(&dtypes).expect("the graph's types are checked, and lowering keeps them");
        self.body.push(InstKind::Map(function, operands.to_vec()), dtype)
    }

    /// The value in another type; rounded or wrapped to it where it is computed in a wider one, and then in that one.
    pub(super) fn cast(&mut self, value: ValueId, dtype: DType) -> ValueId {
        let computed = dtype.compute();
        let fits = dtype.size() == computed.size();
        let stored = if fits { value } else { self.retype(value, dtype) };
        self.retype(stored, computed)
    }

    fn retype(&mut self, value: ValueId, dtype: DType) -> ValueId {
        if self.body.dtype(value) == dtype { value } else { self.body.push(InstKind::Cast(value), dtype) }
    }

    /// A position as an `i64`.
    pub(super) fn position(&mut self, index: &Index) -> ValueId {
        match index {
            Index::Value(value, dim) if dim.is(0) => *value,
            Index::Value(value, dim) => {
                let dim = self.position(&Index::At(dim.clone()));
                self.map(ScalarFn::Add, &[*value, dim])
            }
            Index::At(dim) => match dim.as_const() {
                Some(value) => self.constant(Scalar::int(DType::I64, value)),
                None => self.body.push(InstKind::Index(dim.clone()), DType::I64),
            },
        }
    }

    /// A computed position moved to the nearest of `0..=last`, which is not empty; what is read there is proved inside.
    pub(super) fn clamped(&mut self, position: ValueId, last: &Dim) -> ValueId {
        let (zero, high) = (self.constant(Scalar::int(DType::I64, 0)), self.position(&Index::At(last.clone())));
        let low = self.map(ScalarFn::Max, &[position, zero]);
        let value = self.map(ScalarFn::Min, &[low, high]);
        self.ranges.push((value, last.clone()));
        value
    }

    /// Whether an index is inside of a shape at every point.
    pub(super) fn is_inside(&self, index: &[Index], shape: &[Dim]) -> bool {
        index.iter().zip(shape).all(|(index, size)| match index {
            Index::At(dim) => dim.is_below(size),
            Index::Value(value, dim) => {
                let range = self.ranges.iter().find(|(known, _)| known == value);
                range.is_some_and(|(_, last)| dim.is_nonneg() && (size - Dim::ONE - last - dim).is_nonneg())
            }
        })
    }

    /// Whether all conditions hold; `None` if that is proved.
    pub(super) fn test(&mut self, conditions: &[Condition]) -> Option<ValueId> {
        let mut all = None;
        for (position, limit) in conditions {
            for test in self.range_tests(position, limit) {
                all = Some(all.map_or(test, |both| self.map(ScalarFn::And, &[both, test])));
            }
        }
        all
    }

    /// The two halves of `0 <= position < limit`, but for what is proved.
    fn range_tests(&mut self, position: &Dim, limit: &Dim) -> Vec<ValueId> {
        let mut tests = Vec::new();
        let mut at_most = |low: &Dim, high: &Dim| {
            if !(high - low).is_nonneg() {
                let operands = [self.position(&Index::At(low.clone())), self.position(&Index::At(high.clone()))];
                tests.push(self.map(ScalarFn::Le, &operands));
            }
        };
        at_most(&Dim::ZERO, position);
        at_most(position, &(limit - Dim::ONE));
        tests
    }

    /// `value`; where `ok` is false inside the guard, the call fails with the message.
    pub(super) fn check(&mut self, region: &mut Region<'_>, ok: ValueId, value: ValueId, what: (Loc, String)) -> ValueId {
        let guard = self.guard.clone();
        let ok = match self.test(&guard) {
            None => ok,
            Some(inside) => {
                let outside = self.map(ScalarFn::Not, &[inside]);
                self.map(ScalarFn::Or, &[ok, outside])
            }
        };
        let trap = region.trap(what);
        let dtype = self.body.dtype(value);
        self.body.push(InstKind::Check { ok, value, trap }, dtype)
    }
}

/// Positions that are expressions.
pub(super) fn at(dims: impl IntoIterator<Item = Dim>) -> Vec<Index> {
    dims.into_iter().map(Index::At).collect()
}

/// The expression of a position.
///
/// # Panics
/// If it is a run-time value, with which fuse never reaches an op that needs an expression.
pub(super) fn expression(index: &Index) -> &Dim {
    match index {
        Index::At(dim) => dim,
        Index::Value(..) => panic!("L1: only ops that `fuse::reach` admits lie between a gather and the array that it reads"),
    }
}
