//! Elements computed: scalar functions, reductions, contractions.

use graver_ir::op::{DotAxes, Reduce, ReduceKind};
use graver_ir::{DType, Dim, Op, ScalarFn, Shape, Value};

use super::{Builder, agree, common};
use crate::problem::{Result, wrong};

impl Builder {
    pub(crate) fn cast(&mut self, x: Value, dtype: DType) -> Result<Value> {
        if self.dtype(x) == dtype { Ok(x) } else { self.emit(Op::Cast(dtype), &[x]) }
    }

    /// Floats of 16 bits as they are computed: a sum, a square or a count of them overflows where what is made of it does not.
    pub(crate) fn widened(&mut self, x: Value) -> Result<Value> {
        let dtype = self.dtype(x);
        self.cast(x, if dtype.is_float() { dtype.compute() } else { dtype })
    }

    /// A function of operands as they are computed; its result has the element type of the first.
    pub(crate) fn wide(&mut self, args: &[Value], of: impl FnOnce(&mut Self, &[Value]) -> Result<Value>) -> Result<Value> {
        let args_wide = args.iter().map(|arg| self.widened(*arg)).collect::<Result<Vec<Value>>>()?;
        let y = of(self, &args_wide)?;
        self.cast(y, self.dtype(args[0]))
    }

    /// A scalar function of operands that are broadcast together.
    pub(crate) fn map(&mut self, function: ScalarFn, args: &[Value]) -> Result<Value> {
        let args = self.together(args)?;
        self.emit(Op::Map(function), &args)
    }

    /// `f(x, number)`
    pub(crate) fn with(&mut self, function: ScalarFn, x: Value, value: f64) -> Result<Value> {
        let value = self.number(self.dtype(x), value)?;
        self.map(function, &[x, value])
    }

    /// `f(number, x)`
    pub(crate) fn from(&mut self, function: ScalarFn, value: f64, x: Value) -> Result<Value> {
        let value = self.number(self.dtype(x), value)?;
        self.map(function, &[value, x])
    }

    pub(crate) fn add(&mut self, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Add, &[x, y])
    }

    pub(crate) fn sub(&mut self, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Sub, &[x, y])
    }

    pub(crate) fn mul(&mut self, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Mul, &[x, y])
    }

    pub(crate) fn div(&mut self, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Div, &[x, y])
    }

    pub(crate) fn select(&mut self, condition: Value, x: Value, y: Value) -> Result<Value> {
        self.map(ScalarFn::Select, &[condition, x, y])
    }

    // ---- reduce

    /// A reduction whose axes stay with size one, or vanish.
    pub(crate) fn reduce(&mut self, kind: ReduceKind, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        let mut axes = axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        let mut shape = self.shape(x).0;
        let reduced = self.emit(Op::Reduce(Reduce { kind, axes: axes.clone() }), &[x])?;
        if !keep {
            return Ok(reduced);
        }
        axes.into_iter().for_each(|axis| shape[axis] = Dim::ONE);
        self.reshape(reduced, shape)
    }

    /// Computed as wide as the elements are.
    pub(crate) fn mean(&mut self, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        let dtype = self.dtype(x);
        let x = self.widened(x)?;
        let count: Dim = axes.iter().map(|axis| self.along(x, *axis)).product::<Result<Dim>>()?;
        let sum = self.reduce(ReduceKind::Sum, x, axes, keep)?;
        let count = self.size(&count, self.dtype(x))?;
        let mean = self.div(sum, count)?;
        self.cast(mean, dtype)
    }

    // ---- contract

    pub(crate) fn dot(&mut self, x: Value, y: Value, axes: DotAxes) -> Result<Value> {
        for (left, right) in axes.lhs_contract.iter().zip(&axes.rhs_contract) {
            agree(&self.along(x, *left)?, &self.along(y, *right)?)?;
        }
        self.emit(Op::Dot(axes), &[x, y])
    }

    /// NumPy's `matmul`: the last two axes are contracted, those before are broadcast; vectors are rows or columns.
    pub(crate) fn matmul(&mut self, x: Value, y: Value) -> Result<Value> {
        let (left, right) = (self.rank(x), self.rank(y));
        if left == 0 || right == 0 {
            return wrong(format!("multiplies matrices, got {} and {}", self.ty(x), self.ty(y)));
        }
        let x2 = if left == 1 { self.unsqueeze(x, &[0])? } else { x };
        let y2 = if right == 1 { self.unsqueeze(y, &[1])? } else { y };
        let z = self.matrices(x2, y2)?;
        let rank = self.rank(z);
        let gone: Vec<usize> = (left == 1).then(|| rank - 2).into_iter().chain((right == 1).then(|| rank - 1)).collect();
        let shape = self.shape(z).without(&gone);
        self.reshape(z, shape.0)
    }

    fn matrices(&mut self, x: Value, y: Value) -> Result<Value> {
        let (xs, ys) = (self.shape(x), self.shape(y));
        let (xn, yn) = (xs.rank() - 2, ys.rank() - 2);
        if yn == 0 {
            let axes = DotAxes { lhs_contract: vec![xn + 1], rhs_contract: vec![0], ..DotAxes::default() };
            return self.dot(x, y, axes);
        }
        let batch = common(&[Shape(xs[..xn].to_vec()), Shape(ys[..yn].to_vec())])?;
        let with = |matrix: &[Dim]| Shape(batch.iter().chain(matrix).cloned().collect());
        let (x, y) = (self.stretch(x, &with(&xs[xn..]))?, self.stretch(y, &with(&ys[yn..]))?);
        let lead: Vec<usize> = (0..batch.rank()).collect();
        let n = lead.len();
        self.dot(x, y, DotAxes { lhs_batch: lead.clone(), rhs_batch: lead, lhs_contract: vec![n + 1], rhs_contract: vec![n] })
    }
}
