//! Datasets: items by index, and what is made of datasets.

use graver_ir::{Array, Diag};

use crate::item::{Fields, Item};
use crate::key::Key;
use crate::transform::Transform;

/// Items by index. Reading an item changes nothing, so that threads may read at once.
///
/// ```
/// use graver_data::{Dataset, Key};
/// use graver_ir::Diag;
///
/// struct Squares;
/// impl Dataset for Squares {
///     type Item = (f32, f32);
///     fn len(&self) -> usize { 10 }
///     fn fetch(&self, index: usize, _key: Key) -> Result<(f32, f32), Diag> {
///         let x = index as f32;
///         Ok((x, x * x))
///     }
/// }
/// assert_eq!(Squares.get(3)?, (3.0, 9.0));
/// assert!(Squares.get(10).is_err());
/// # Ok::<(), Diag>(())
/// ```
pub trait Dataset: Send + Sync {
    /// What an index gives.
    type Item: Item;

    /// The number of items.
    fn len(&self) -> usize;

    /// The item at `index`, which is below [`Dataset::len`]. What is random about it is drawn from `key`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn fetch(&self, index: usize, key: Key) -> Result<Self::Item, Diag>;

    /// Whether there are no items.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at `index`, with the chance of a key that is always the same.
    ///
    /// # Errors
    /// If there is no such item, or it cannot be read.
    fn get(&self, index: usize) -> Result<Self::Item, Diag> {
        check_index(index, self.len())?;
        self.fetch(index, Key::default())
    }

    /// Every item changed by a function.
    fn map<U: Item, F>(self, function: F) -> Map<Self, F>
    where
        Self: Sized,
        F: Fn(Self::Item) -> Result<U, Diag> + Send + Sync,
    {
        Map { data: self, function }
    }

    /// The first array of every item transformed: the inputs.
    fn transform<T: Transform>(self, transform: T) -> Transformed<Self, T>
    where
        Self: Sized,
        Self::Item: Fields,
    {
        self.transform_field(0, transform)
    }

    /// One array of every item transformed, 0 being the first.
    fn transform_field<T: Transform>(self, field: usize, transform: T) -> Transformed<Self, T>
    where
        Self: Sized,
        Self::Item: Fields,
    {
        Transformed { data: self, field, transform }
    }

    /// The items at these indices, in this order; an index may occur more than once.
    ///
    /// # Errors
    /// If there is no item at one of them.
    fn subset(self, indices: Vec<usize>) -> Result<Subset<Self>, Diag>
    where
        Self: Sized,
    {
        indices.iter().try_for_each(|index| check_index(*index, self.len()))?;
        Ok(Subset { data: self, indices })
    }

    /// These items, and after them those of another dataset.
    fn concat<D: Dataset<Item = Self::Item>>(self, next: D) -> Concat<Self, D>
    where
        Self: Sized,
    {
        Concat { first: self, second: next }
    }
}

fn check_index(index: usize, len: usize) -> Result<(), Diag> {
    if index < len { Ok(()) } else { Err(Diag::new(format!("there is no item {index} among {len}")).op("dataset")) }
}

/// Arrays whose first axis counts items: `[n, ..]` each.
pub trait Columns: Send + Sync + 'static {
    /// An item: `[..]` each.
    type Row: Item;

    /// The arrays.
    fn arrays(&self) -> Vec<&Array>;

    /// An item of parts, one of each array.
    fn row(&self, parts: Vec<Array>) -> Self::Row;
}

impl Columns for Array {
    type Row = Array;

    fn arrays(&self) -> Vec<&Array> {
        vec![self]
    }

    fn row(&self, parts: Vec<Array>) -> Array {
        let [row] = <[Array; 1]>::try_from(parts).expect("one part an array");
        row
    }
}

macro_rules! columns {
    ($count:literal; $($place:tt $ty:ident),*) => {
        impl Columns for ($($ty,)*) {
            type Row = ($($ty,)*);

            fn arrays(&self) -> Vec<&Array> {
                vec![$(&self.$place),*]
            }

            fn row(&self, parts: Vec<Array>) -> Self::Row {
                <[Array; $count]>::try_from(parts).expect("one part an array").into()
            }
        }
    };
}
columns!(1; 0 Array);
columns!(2; 0 Array, 1 Array);
columns!(3; 0 Array, 1 Array, 2 Array);
columns!(4; 0 Array, 1 Array, 2 Array, 3 Array);

/// A dataset in memory: an array, or a tuple of up to four, whose first axes count items.
///
/// ```
/// use graver_data::{Dataset, InMemory};
/// use graver_ir::Array;
/// let x = Array::from_vec([3, 2], vec![0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0])?;
/// let y = Array::from_vec([3], vec![0i64, 1, 0])?;
/// let data = InMemory::new((x, y))?;
/// let (x, y) = data.get(2)?;
/// assert_eq!((x.to_f64(), y.to_f64()), (vec![4.0, 5.0], vec![0.0]));
/// # Ok::<(), graver_ir::Diag>(())
/// ```
#[derive(Clone, Debug)]
pub struct InMemory<C = (Array, Array)> {
    columns: C,
    len: usize,
}

impl<C: Columns> InMemory<C> {
    /// The items of these arrays.
    ///
    /// # Errors
    /// If an array has no axis, or they count different numbers of items.
    pub fn new(columns: C) -> Result<Self, Diag> {
        let lens: Vec<Option<usize>> = columns.arrays().iter().map(|array| array.shape().first().copied()).collect();
        match lens.first() {
            Some(Some(len)) if lens.iter().all(|other| *other == Some(*len)) => {
                let len = *len;
                Ok(Self { columns, len })
            }
            _ => {
                let types: Vec<String> = columns.arrays().iter().map(|array| array.ty().to_string()).collect();
                Err(Diag::new(format!("first axes must count the same items, got {}", types.join(", "))).op("dataset"))
            }
        }
    }

    /// The arrays.
    #[must_use]
    pub fn columns(&self) -> &C {
        &self.columns
    }
}

impl<C: Columns> Dataset for InMemory<C> {
    type Item = C::Row;

    fn len(&self) -> usize {
        self.len
    }

    fn fetch(&self, index: usize, _key: Key) -> Result<C::Row, Diag> {
        check_index(index, self.len)?;
        let parts = self.columns.arrays().into_iter().map(|array| row(array, index));
        Ok(self.columns.row(parts.collect::<Result<_, _>>()?))
    }
}

/// `x[index]`.
fn row(x: &Array, index: usize) -> Result<Array, Diag> {
    let shape = &x.shape()[1..];
    let len = shape.iter().product::<usize>() * x.dtype().size();
    Array::from_bytes(x.dtype(), shape, &x.bytes()[index * len..][..len])
}

/// Made by [`Dataset::map`].
#[derive(Clone, Debug)]
pub struct Map<D, F> {
    data: D,
    function: F,
}

impl<D, F, U> Dataset for Map<D, F>
where
    D: Dataset,
    U: Item,
    F: Fn(D::Item) -> Result<U, Diag> + Send + Sync,
{
    type Item = U;

    fn len(&self) -> usize {
        self.data.len()
    }

    fn fetch(&self, index: usize, key: Key) -> Result<U, Diag> {
        (self.function)(self.data.fetch(index, key)?)
    }
}

/// Made by [`Dataset::transform`].
#[derive(Clone, Debug)]
pub struct Transformed<D, T> {
    data: D,
    field: usize,
    transform: T,
}

impl<D, T> Dataset for Transformed<D, T>
where
    D: Dataset,
    D::Item: Fields,
    T: Transform,
{
    type Item = D::Item;

    fn len(&self) -> usize {
        self.data.len()
    }

    fn fetch(&self, index: usize, key: Key) -> Result<D::Item, Diag> {
        // The dataset below and the transform draw from different children.
        let mut item = self.data.fetch(index, key.fold(0))?;
        let mut fields = item.fields();
        let count = fields.len();
        let Some(field) = fields.get_mut(self.field) else {
            let message = format!("items have {count} arrays, the transform is for number {}", self.field);
            return Err(Diag::new(message).op("transform"));
        };
        **field = self.transform.apply(field.clone(), key.fold(1))?;
        Ok(item)
    }
}

/// Made by [`Dataset::subset`].
#[derive(Clone, Debug)]
pub struct Subset<D> {
    data: D,
    indices: Vec<usize>,
}

impl<D: Dataset> Dataset for Subset<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn fetch(&self, index: usize, key: Key) -> Result<D::Item, Diag> {
        check_index(index, self.indices.len())?;
        self.data.fetch(self.indices[index], key)
    }
}

/// Made by [`Dataset::concat`].
#[derive(Clone, Debug)]
pub struct Concat<A, B> {
    first: A,
    second: B,
}

impl<A: Dataset, B: Dataset<Item = A::Item>> Dataset for Concat<A, B> {
    type Item = A::Item;

    fn len(&self) -> usize {
        self.first.len().saturating_add(self.second.len())
    }

    fn fetch(&self, index: usize, key: Key) -> Result<A::Item, Diag> {
        match index.checked_sub(self.first.len()) {
            None => self.first.fetch(index, key),
            Some(rest) => self.second.fetch(rest, key),
        }
    }
}
