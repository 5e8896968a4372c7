//! What only some machines do: sums of several products at once, and squares and tiles of words.

use super::{Elem, Val};

/// What two neighbours of 16 bits in a word are, the first in the lower half, and in what their products are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Pairs {
    /// `i16` in `i32`; sums wrap.
    I16,
    /// As [`Pairs::I16`], in one instruction of AVX-512 VNNI.
    I16Fused,
    /// `bf16` in `f32`, in one instruction of AVX-512 BF16: the second product is added first, each sum is rounded to nearest, and denormals are
    /// zeros.
    Bf16,
}

impl Pairs {
    /// What sums are.
    pub(crate) const fn elem(self) -> Elem {
        match self {
            Self::I16 | Self::I16Fused => Elem::I32,
            Self::Bf16 => Elem::F32,
        }
    }
}

/// Lanes of vectors that hold half of a table, so that one instruction looks up a place a lane.
pub(crate) const TABLE_LANES: usize = 16;

/// `to[column][row] = from[row][column]`: elements of 4 bytes that are neighbours along columns there and along rows here; of lines, it is
/// so many bytes from one to the next. Not in a sweep.
#[derive(Clone, Debug)]
pub(crate) struct Transpose {
    pub(crate) from: Val,
    pub(crate) from_stride: Val,
    pub(crate) to: Val,
    pub(crate) to_stride: Val,
    /// At most [`TABLE_LANES`], as columns.
    pub(crate) rows: Val,
    pub(crate) columns: Val,
}

impl Transpose {
    /// The values that it uses.
    pub(crate) fn operands(&self) -> [Val; 6] {
        [self.from, self.from_stride, self.to, self.to_stride, self.rows, self.columns]
    }
}

/// What is done with a tile of AMX, of which there are eight: sixteen lines of 64 bytes. Not in a sweep. Tiles exist from
/// [`Tile::Configure`], after which they are zero, to [`Tile::Release`].
#[derive(Clone, Debug)]
pub(crate) enum Tile {
    Configure,
    Release,
    Zero(u8),
    /// From memory, lines so many bytes apart.
    Load {
        tile: u8,
        ptr: Val,
        stride: Val,
    },
    Store {
        tile: u8,
        ptr: Val,
        stride: Val,
    },
    /// To each of the sum's 16 x 16 words, the products of a line of rows and of as many lines of columns: word `i` of a row with
    /// line `i`, element by element of the words.
    Dot {
        dot: TileDot,
        sum: u8,
        rows: u8,
        columns: u8,
    },
}

/// What words of tiles are, and in what products are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TileDot {
    /// Two `bf16`, in `f32`; denormals are zeros.
    Bf16,
    /// Four bytes, in `i32`; sums wrap.
    Bytes {
        /// Those of rows, and those of columns.
        signed: [bool; 2],
    },
}

impl Tile {
    /// The values that it uses.
    pub(crate) fn operands(&self) -> Vec<Val> {
        match *self {
            Self::Load { ptr, stride, .. } | Self::Store { ptr, stride, .. } => vec![ptr, stride],
            Self::Configure | Self::Release | Self::Zero(_) | Self::Dot { .. } => Vec::new(),
        }
    }
}
