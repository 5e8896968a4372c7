//! Shapes and tensor types.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::dim::{Dim, MAX_NODES, MAX_SIZE};
use crate::dtype::DType;

/// The most axes that a tensor may have.
pub const MAX_RANK: usize = 64;

/// The sizes of a tensor, outermost first. Rank 0 is a scalar.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawShape")]
pub struct Shape(pub Vec<Dim>);

/// A shape as it is read, which no tensor may have.
#[derive(Deserialize)]
struct RawShape(Vec<Dim>);

impl TryFrom<RawShape> for Shape {
    type Error = String;

    fn try_from(raw: RawShape) -> Result<Self, String> {
        let shape = Self(raw.0);
        if shape.is_valid() { Ok(shape) } else { Err("no tensor has this shape: a size is negative, or too large".to_owned()) }
    }
}

impl Shape {
    /// The shape of a scalar.
    pub const SCALAR: Self = Self(Vec::new());

    /// A shape of these sizes.
    pub fn new<D: Into<Dim>>(dims: impl IntoIterator<Item = D>) -> Self {
        Self(dims.into_iter().map(Into::into).collect())
    }

    /// The number of axes.
    #[must_use]
    pub const fn rank(&self) -> usize {
        self.0.len()
    }

    /// The number of elements.
    #[must_use]
    pub fn numel(&self) -> Dim {
        self.0.iter().product()
    }

    /// Row-major strides in elements.
    #[must_use]
    pub fn strides(&self) -> Vec<Dim> {
        let mut strides = vec![Dim::ONE; self.rank()];
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = &strides[axis] * &self.0[axis];
        }
        strides
    }

    /// The sizes as numbers, if all are.
    #[must_use]
    pub fn as_const(&self) -> Option<Vec<usize>> {
        self.0.iter().map(|dim| dim.as_const().and_then(|size| usize::try_from(size).ok())).collect()
    }

    /// The shape without these axes.
    #[must_use]
    pub fn without(&self, axes: &[usize]) -> Self {
        Self(self.0.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, dim)| dim.clone()).collect())
    }

    /// Whether a tensor of this shape can exist: no negative size, at most [`MAX_SIZE`] elements where that is known, at
    /// most [`MAX_RANK`] axes, and sizes simple enough that their product can be written down.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let possible = |dim: &Dim| dim.bounds().hi >= 0 && dim.as_const().is_none_or(|size| (0..=MAX_SIZE).contains(&size));
        let known: i64 = self.0.iter().filter_map(Dim::as_const).filter(|size| *size > 0).fold(1, i64::saturating_mul);
        let terms = self.0.iter().map(|dim| dim.term_count().max(1)).fold(1, usize::saturating_mul);
        let simple = self.rank() <= MAX_RANK && terms <= MAX_NODES && self.0.iter().all(Dim::is_small);
        simple && self.0.iter().all(possible) && known <= MAX_SIZE
    }
}

impl Deref for Shape {
    type Target = [Dim];

    fn deref(&self) -> &[Dim] {
        &self.0
    }
}

impl From<Vec<Dim>> for Shape {
    fn from(dims: Vec<Dim>) -> Self {
        Self(dims)
    }
}

impl fmt::Display for Shape {
    /// `[batch, 24, 24]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, dim) in self.0.iter().enumerate() {
            if axis > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// The type of a tensor: element type and shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Type {
    /// The element type.
    pub dtype: DType,
    /// The sizes.
    pub shape: Shape,
}

impl Type {
    /// A tensor type.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// The type of a scalar.
    #[must_use]
    pub const fn scalar(dtype: DType) -> Self {
        Self { dtype, shape: Shape::SCALAR }
    }

    /// The same shape with another element type.
    #[must_use]
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self { dtype, shape: self.shape.clone() }
    }

    /// The number of axes.
    #[must_use]
    pub const fn rank(&self) -> usize {
        self.shape.rank()
    }

    /// Bytes of a dense tensor of this type.
    #[must_use]
    pub fn bytes(&self) -> Dim {
        self.shape.numel() * Dim::from(self.dtype.size())
    }
}

impl fmt::Display for Type {
    /// `f32[batch, 10]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
