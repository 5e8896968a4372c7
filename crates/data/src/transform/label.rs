//! Transforms of labels.

use graver_ir::{Array, Diag};

use super::Transform;
use crate::elements;
use crate::key::Key;

/// Integer labels `[..]` as `f32[.., classes]` with 1 at the label and 0 elsewhere.
///
/// ```
/// use graver_data::{Key, OneHot, Transform};
/// use graver_ir::Array;
/// let y = OneHot(3).apply(Array::from_vec([2], vec![2i64, 0])?, Key::default())?;
/// assert_eq!(y.to_f64(), [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneHot(
    /// The number of classes.
    pub usize,
);

impl Transform for OneHot {
    fn apply(&self, x: Array, _key: Key) -> Result<Array, Diag> {
        if !x.dtype().is_int() {
            return Err(Diag::new(format!("takes integer labels, got {}", x.ty())).op("one_hot"));
        }
        let shape: Vec<usize> = x.shape().iter().chain([&self.0]).copied().collect();
        let mut hot = vec![0f32; elements("one_hot", &shape)?];
        for position in 0..x.numel() {
            let label = x.get(position).as_i64();
            let Some(class) = usize::try_from(label).ok().filter(|class| *class < self.0) else {
                return Err(Diag::new(format!("the label {label} is not one of {} classes", self.0)).op("one_hot"));
            };
            hot[position * self.0 + class] = 1.0;
        }
        Array::from_vec(shape, hot)
    }
}
