//! Transforms: an array to an array, composed before data is batched.

mod image;
mod label;
mod number;
mod random;

use graver_ir::{Array, DType, Diag, Scalar};

use crate::key::Key;

pub use image::{Interpolation, Resize};
pub use label::OneHot;
pub use number::{Scale, Standardise, ToF32};
pub use random::{RandomCrop, RandomFlip};

/// A change of one array of an item. Closures `Fn(Array) -> Result<Array, Diag>` are transforms.
///
/// ```
/// use graver_data::{Key, Scale, ToF32, Transform};
/// use graver_ir::Array;
/// let half = ToF32.then(Scale(0.5));
/// let x = half.apply(Array::from_vec([2], vec![1u8, 16])?, Key::default())?;
/// assert_eq!(x.as_slice::<f32>(), Some([0.5, 8.0].as_slice()));
/// # Ok::<(), graver_ir::Diag>(())
/// ```
pub trait Transform: Send + Sync {
    /// The array transformed. What is random about it is drawn from `key`.
    ///
    /// # Errors
    /// If the array is of a type or shape that the transform does not take.
    fn apply(&self, x: Array, key: Key) -> Result<Array, Diag>;

    /// This transform, and after it another.
    fn then<T: Transform>(self, next: T) -> Chain<Self, T>
    where
        Self: Sized,
    {
        Chain { first: self, second: next }
    }
}

impl<F: Fn(Array) -> Result<Array, Diag> + Send + Sync> Transform for F {
    fn apply(&self, x: Array, _key: Key) -> Result<Array, Diag> {
        self(x)
    }
}

/// Made by [`Transform::then`].
#[derive(Clone, Debug, PartialEq)]
pub struct Chain<A, B> {
    first: A,
    second: B,
}

impl<A: Transform, B: Transform> Transform for Chain<A, B> {
    fn apply(&self, x: Array, key: Key) -> Result<Array, Diag> {
        self.second.apply(self.first.apply(x, key.fold(0))?, key.fold(1))
    }
}

/// An array from values in `f64`, rounded to `dtype`.
fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Array {
    Array::from_fn(dtype, shape, |position| Scalar::float(dtype, values[position]))
}

fn check_float(op: &str, x: &Array) -> Result<(), Diag> {
    if x.dtype().is_float() {
        Ok(())
    } else {
        Err(Diag::new(format!("takes floats, got {}", x.ty())).op(op).help("apply ToF32 first"))
    }
}

/// An image: the last two axes are height and width, those before are channels or anything.
struct Image {
    planes: usize,
    height: usize,
    width: usize,
}

impl Image {
    fn of(op: &str, x: &Array) -> Result<Self, Diag> {
        let [before @ .., height, width] = x.shape() else {
            return Err(Diag::new(format!("takes images [.., height, width], got {}", x.ty())).op(op));
        };
        Ok(Self { planes: before.iter().product(), height: *height, width: *width })
    }
}

/// The shape of `x` with another height and width.
fn resized(op: &str, x: &Array, height: usize, width: usize) -> Result<Vec<usize>, Diag> {
    let mut shape = x.shape().to_vec();
    let rank = shape.len();
    shape[rank - 2] = height;
    shape[rank - 1] = width;
    crate::elements(op, &shape)?;
    Ok(shape)
}

/// An array of elements of `x`: for each row-major position of `shape` the position in `x`, or `None` for zero.
fn rearranged(x: &Array, shape: Vec<usize>, from: impl Fn(usize) -> Option<usize>) -> Result<Array, Diag> {
    let (size, bytes) = (x.dtype().size(), x.bytes());
    let numel: usize = shape.iter().product();
    let mut moved = vec![0; numel * size];
    for (position, element) in moved.chunks_exact_mut(size).enumerate() {
        if let Some(source) = from(position) {
            element.copy_from_slice(&bytes[source * size..][..size]);
        }
    }
    Array::from_bytes(x.dtype(), shape, &moved)
}
