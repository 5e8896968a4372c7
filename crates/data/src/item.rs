//! Items and how a batch is made of them.

use graver_ir::{Array, Diag};

use crate::elements;

/// What a dataset gives for an index, and what a batch of it is.
///
/// Arrays and numbers are stacked along a new first axis; tuples of items become tuples of batches.
pub trait Item: Send + Sized + 'static {
    /// A batch of items.
    type Batch: Send + 'static;

    /// Puts items together.
    ///
    /// # Errors
    /// If there are none, or they differ in shape or element type.
    fn collate(items: Vec<Self>) -> Result<Self::Batch, Diag>;
}

/// An item made of arrays, which transforms can change.
pub trait Fields: Item {
    /// The arrays in order: inputs first, targets last.
    fn fields(&mut self) -> Vec<&mut Array>;
}

impl Item for Array {
    type Batch = Self;

    fn collate(items: Vec<Self>) -> Result<Self, Diag> {
        stack(&items)
    }
}

impl Fields for Array {
    fn fields(&mut self) -> Vec<&mut Array> {
        vec![self]
    }
}

macro_rules! numbers {
    ($($ty:ty),*) => {
        $(impl Item for $ty {
            type Batch = Array;

            fn collate(items: Vec<Self>) -> Result<Array, Diag> {
                not_empty(items.len())?;
                Array::from_vec([items.len()], items)
            }
        })*
    };
}
numbers!(f64, f32, i64, i32, i16, i8, u32, u16, u8, bool);

macro_rules! tuples {
    ($($name:ident $place:tt),*) => {
        impl<$($name: Item),*> Item for ($($name,)*) {
            type Batch = ($($name::Batch,)*);

            fn collate(items: Vec<Self>) -> Result<Self::Batch, Diag> {
                let mut columns = ($(Vec::<$name>::with_capacity(items.len()),)*);
                for item in items {
                    $(columns.$place.push(item.$place);)*
                }
                Ok(($($name::collate(columns.$place)?,)*))
            }
        }

        impl Fields for ($(tuples!(@array $name),)*) {
            fn fields(&mut self) -> Vec<&mut Array> {
                vec![$(&mut self.$place),*]
            }
        }
    };
    (@array $name:ident) => { Array };
}
tuples!(A 0);
tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);

fn not_empty(len: usize) -> Result<(), Diag> {
    if len > 0 { Ok(()) } else { Err(Diag::new("no items to make a batch of").op("batch")) }
}

/// Arrays of one type along a new first axis: `[..]` each to `[n, ..]`.
///
/// ```
/// use graver_data::stack;
/// use graver_ir::Array;
/// let rows = [Array::from_vec([2], vec![1, 2])?, Array::from_vec([2], vec![3, 4])?];
/// assert_eq!(stack(&rows)?, Array::from_vec([2, 2], vec![1, 2, 3, 4])?);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
///
/// # Errors
/// If there are none, or they differ in shape or element type.
pub fn stack(items: &[Array]) -> Result<Array, Diag> {
    not_empty(items.len())?;
    let first = &items[0];
    if let Some((place, other)) = items.iter().enumerate().find(|(_, item)| item.ty() != first.ty()) {
        let message = format!("items of a batch differ: item 0 is {}, item {place} is {}", first.ty(), other.ty());
        return Err(Diag::new(message).op("batch").help("resize, crop or pad them to one size"));
    }
    let shape: Vec<usize> = [items.len()].iter().chain(first.shape()).copied().collect();
    elements("batch", &shape)?;
    let bytes: Vec<u8> = items.iter().flat_map(|item| item.bytes()).copied().collect();
    Array::from_bytes(first.dtype(), shape, &bytes)
}
