//! Where elements of dense arrays are.

/// The index of a row-major position, one number an axis; no size is 0.
///
/// ```
/// assert_eq!(graver_ir::unravel(5, &[2, 3]), [1, 2]);
/// ```
#[must_use]
pub fn unravel(position: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = position;
    let mut index = vec![0; shape.len()];
    for (place, size) in index.iter_mut().zip(shape).rev() {
        *place = rest % size;
        rest /= size;
    }
    index
}
