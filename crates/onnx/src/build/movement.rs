//! Elements moved: shapes, orders of axes, parts, padding, positions.

use graver_ir::op::{GatherAxes, Iota, PadAxis, Perm, SliceAxis};
use graver_ir::{DType, Diag, Dim, Op, ScalarFn, Shape, Value};

use super::{Builder, agree};
use crate::known::Known;
use crate::problem::{Result, wrong};

impl Builder {
    pub(crate) fn reshape(&mut self, x: Value, shape: impl Into<Vec<Dim>>) -> Result<Value> {
        let shape = Shape(shape.into());
        if self.ty(x).shape == shape { Ok(x) } else { self.emit(Op::Reshape(shape), &[x]) }
    }

    pub(crate) fn permute(&mut self, x: Value, axes: Vec<usize>) -> Result<Value> {
        let perm = Perm::new(axes).map_err(Diag::new)?;
        if perm.is_identity() && perm.axes().len() == self.rank(x) { Ok(x) } else { self.emit(Op::Permute(perm), &[x]) }
    }

    /// Two axes exchanged.
    pub(crate) fn swap(&mut self, x: Value, one: usize, other: usize) -> Result<Value> {
        self.along(x, one.max(other))?;
        let mut axes: Vec<usize> = (0..self.rank(x)).collect();
        axes.swap(one, other);
        self.permute(x, axes)
    }

    /// Axes of size one put in, so that the result has them at these places.
    pub(crate) fn unsqueeze(&mut self, x: Value, axes: &[usize]) -> Result<Value> {
        let mut shape = self.shape(x).0;
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        for axis in axes {
            if axis > shape.len() {
                return wrong(format!("axis {axis} of a result of rank {}", shape.len()));
            }
            shape.insert(axis, Dim::ONE);
        }
        self.reshape(x, shape)
    }

    /// A part of one axis.
    pub(crate) fn part(&mut self, x: Value, axis: usize, start: &Dim, size: &Dim) -> Result<Value> {
        let axes = self.whole(x);
        self.slice(x, axis, axes, SliceAxis { start: start.clone(), size: size.clone(), step: 1 })
    }

    fn slice(&mut self, x: Value, axis: usize, mut axes: Vec<SliceAxis>, range: SliceAxis) -> Result<Value> {
        self.along(x, axis)?;
        if axes[axis] == range {
            return Ok(x);
        }
        axes[axis] = range;
        self.emit(Op::Slice(axes), &[x])
    }

    /// The slice that takes everything.
    pub(crate) fn whole(&self, x: Value) -> Vec<SliceAxis> {
        self.ty(x).shape.iter().map(|size| SliceAxis { start: Dim::ZERO, size: size.clone(), step: 1 }).collect()
    }

    pub(crate) fn concat(&mut self, axis: usize, parts: &[Value]) -> Result<Value> {
        if let [one] = parts {
            return Ok(*one);
        }
        for pair in parts.windows(2) {
            let [first, second] = [pair[0], pair[1]].map(|part| self.shape(part).without(&[axis]));
            first.iter().zip(second.iter()).try_for_each(|(x, y)| agree(x, y))?;
        }
        self.emit(Op::Concat(axis), parts)
    }

    /// Constant padding of one axis.
    pub(crate) fn pad(&mut self, x: Value, axis: usize, low: &Dim, high: &Dim, value: Value) -> Result<Value> {
        self.along(x, axis)?;
        if low.is(0) && high.is(0) {
            return Ok(x);
        }
        let none = PadAxis { low: Dim::ZERO, high: Dim::ZERO, interior: 0 };
        let mut axes = vec![none; self.rank(x)];
        axes[axis] = PadAxis { low: low.clone(), high: high.clone(), interior: 0 };
        self.emit(Op::Pad(axes), &[x, value])
    }

    // ---- index

    /// Positions along one axis.
    pub(crate) fn iota(&mut self, dtype: DType, shape: &Shape, axis: usize) -> Result<Value> {
        self.emit(Op::Iota(Iota { dtype, shape: shape.clone(), axis }), &[])
    }

    /// `0..size` as a vector.
    pub(crate) fn count(&mut self, dtype: DType, size: &Dim) -> Result<Value> {
        self.iota(dtype, &Shape(vec![size.clone()]), 0)
    }

    /// Elements at positions, which count from the end where they are negative.
    pub(crate) fn gather(&mut self, x: Value, index: Value, axis: usize, batch: usize) -> Result<Value> {
        let size = self.along(x, axis)?;
        let index = self.positions(index, &size)?;
        self.emit(Op::Gather(GatherAxes { axis, batch }), &[x, index])
    }

    /// Positions that may count from the end, as positions.
    pub(crate) fn positions(&mut self, index: Value, size: &Dim) -> Result<Value> {
        if !self.dtype(index).is_int() {
            return wrong(format!("positions are integers, got {}", self.ty(index)));
        }
        if let Some(known) = self.known(index).and_then(Known::dims)
            && known.iter().all(Dim::is_nonneg)
        {
            return Ok(index);
        }
        let index = self.cast(index, DType::I64)?;
        let size = self.size(size, DType::I64)?;
        let negative = self.with(ScalarFn::Lt, index, 0.0)?;
        let wrapped = self.add(index, size)?;
        self.select(negative, wrapped, index)
    }
}
