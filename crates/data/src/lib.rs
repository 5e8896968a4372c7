//! Datasets, loaders, transforms and metrics.
//!
//! Data is [`Array`](graver_ir::Array)s on the host; nothing here traces or compiles. Three rules hold everywhere:
//!
//! - **What comes from outside is hostile.** Files, labels and users' datasets give a [`Diag`], never a panic,
//!   and memory is bounded before it is taken.
//! - **Order and chance are functions of seeds.** The batches of an epoch depend on the seed, the epoch and the position
//!   alone, whichever thread made them and when; see [`Key`].
//! - **Metrics count.** They hold sums and counts, not samples, so that any split into batches gives the same result.
//!
//! ```
//! use graver_data::{DataLoader, Dataset, Scale, ToF32, Transform, digits};
//!
//! let (train, _test) = digits();
//! let train = train.transform(ToF32.then(Scale(1.0 / 16.0)));
//! let loader = DataLoader::new(train, 32)?.shuffle(7);
//! for batch in loader.epoch(0) {
//!     let (images, labels) = batch?;
//!     assert_eq!(images.shape()[1..], [1, 8, 8]);
//!     assert_eq!(labels.shape(), &images.shape()[..1]);
//! }
//! # Ok::<(), graver_ir::Diag>(())
//! ```

pub mod csv;
mod dataset;
mod digits;
mod file;
mod item;
mod key;
mod loader;

pub mod metrics;
pub mod npy;
mod transform;

pub use dataset::{Columns, Concat, Dataset, InMemory, Map, Subset, Transformed};
pub use digits::{Digits, digits};
pub use file::Limit;
pub use item::{Fields, Item, stack};
pub use key::Key;
pub use loader::{DataLoader, Epoch, Position};
pub use transform::{Chain, Interpolation, OneHot, RandomCrop, RandomFlip, Resize, Scale, Standardise, ToF32, Transform};

use graver_ir::Diag;

/// No array that is made here has more elements: an absurd size is an error before memory is taken for it.
const MAX_ELEMENTS: usize = 1 << 32;

/// The number of elements of a shape.
fn elements(op: &str, shape: &[usize]) -> Result<usize, Diag> {
    let numel = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    numel
        .filter(|numel| *numel <= MAX_ELEMENTS)
        .ok_or_else(|| Diag::new(format!("an array of shape {shape:?} is too large")).op(op))
}

/// The programs of the guide's chapter.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/data.md")]
struct Guide;
