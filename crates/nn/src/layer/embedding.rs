//! Tables of vectors.

use graver_ir::Scalar;
use graver_trace::{Array, DType, Module, Param, Tensor, enter};

use crate::init::{Fill, Init};
use crate::storage::{Storage, kept, rows_of, times_transposed};

/// Rows of a table for integer ids: `[..]` to `[.., width]`. An id out of range is an error of the call.
///
/// Parameter: `weight: [entries, width]`, the transpose of which may serve as the last layer's weight: [`Param::tie`],
/// [`Embedding::scores`]; `scale` where [`Embedding::stored`] gave it one ([`Storage`]).
///
/// ```
/// use graver_nn::{Embedding, Init, Linear};
/// let tokens = Embedding::new(1000, 64).init(&mut Init::seed(0));
/// let head = Linear { weight: tokens.weight.tie(), bias: None, scale: None };
/// assert_eq!(head.weight.id(), tokens.weight.id());
/// ```
#[derive(Debug, Module)]
pub struct Embedding {
    /// `[entries, width]`
    pub weight: Param,
    /// `[entries]` or `[entries, groups]`: by what a weight of integers is multiplied.
    pub scale: Option<Param>,
    #[module(skip)]
    padding: Option<i64>,
    /// What rows are given as.
    #[module(skip)]
    dtype: DType,
}

/// What an [`Embedding`] is before it has values.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct EmbeddingOptions {
    entries: usize,
    width: usize,
    padding: Option<usize>,
}

impl Embedding {
    /// So many vectors of a width.
    #[expect(clippy::new_ret_no_self, reason = "a layer exists once it has values; until then it is options")]
    pub const fn new(entries: usize, width: usize) -> EmbeddingOptions {
        EmbeddingOptions { entries, width, padding: None }
    }

    /// The rows at `ids`.
    #[must_use]
    #[track_caller]
    pub fn forward(&self, ids: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        let rows = rows_of(&self.weight, self.scale.as_ref(), ids, self.dtype);
        match self.padding {
            Some(padding) => ids.ne(padding).unsqueeze(-1).where_(rows, rows.stop_gradient()),
            None => rows,
        }
    }

    /// The product of each vector with every row: `[.., width]` to `[.., entries]`, as by a last layer whose weight is tied to the table.
    #[must_use]
    #[track_caller]
    pub fn scores(&self, x: Tensor) -> Tensor {
        let _scope = enter(self, crate::SOURCES);
        times_transposed(x, &self.weight, self.scale.as_ref())
    }

    /// The table kept in fewer bits, for use without training: a table that is tied to other weights is so no longer. Rows are of the same type as
    /// before.
    #[must_use]
    pub fn stored(self, storage: Storage) -> Self {
        let (weight, scale) = kept(&self.weight.value(), storage);
        Self { weight, scale, ..self }
    }
}

impl EmbeddingOptions {
    /// The row of this id is 0 at first and gets no gradient.
    pub const fn padding(mut self, id: usize) -> Self {
        self.padding = Some(id);
        self
    }

    /// The table with normal values of mean 0 and variance 1, as PyTorch's.
    ///
    /// # Panics
    /// If the padding's id is not an entry.
    #[track_caller]
    pub fn init(self, init: &mut Init) -> Embedding {
        self.init_with(init, Fill::Normal { mean: 0.0, std: 1.0 })
    }

    /// The table with values of this distribution.
    ///
    /// # Panics
    /// If the padding's id is not an entry.
    #[track_caller]
    pub fn init_with(self, init: &mut Init, weight: Fill) -> Embedding {
        let mut weight = init.param(weight, [self.entries, self.width]);
        let table = weight.value();
        if let Some(row) = self.padding {
            assert!(row < self.entries, "the padding's id {row} is not among {} entries", self.entries);
            if table.shape() == [self.entries, self.width] {
                weight = Param::new(without_row(&table, row * self.width..(row + 1) * self.width));
            }
        }
        Embedding { weight, scale: None, padding: self.padding.and_then(|id| i64::try_from(id).ok()), dtype: table.dtype() }
    }
}

fn without_row(table: &Array, row: std::ops::Range<usize>) -> Array {
    let zero = Scalar::zero(table.dtype());
    Array::from_fn(table.dtype(), table.shape(), |place| if row.contains(&place) { zero } else { table.get(place) })
}
