//! Which columns count: a range for every row, and for a block of rows one that holds all of them.

use graver_ir::Dim;
use graver_ir::kernel::Attend;

use super::super::super::cx::{At, Cx};
use crate::vector::{Binary, Val};

/// An expression that is at least 0 where a point counts, `rest` plus or minus the column.
pub(super) struct Keep {
    rest: Dim,
    /// Whether the column is added.
    rises: bool,
    /// Whether the rest is greatest at the last row.
    by_last: bool,
    rows: usize,
}

impl Keep {
    /// `None` where it is of another form.
    pub(super) fn of(keep: &Dim, attend: &Attend) -> Option<Self> {
        let (slope, rest) = keep.along(super::column(attend))?;
        let rises = match slope.as_const()? {
            1 => true,
            -1 => false,
            _ => return None,
        };
        let (by_row, _) = rest.along(attend.rows)?;
        Some(Self { rest, rises, by_last: by_row.as_const()? > 0, rows: attend.rows })
    }

    /// Narrows a range of columns to those that count in the row where the axes stand.
    fn narrow(&self, cx: &mut Cx<'_>, (begin, end): (Val, Val)) -> (Val, Val) {
        let (rest, zero, one) = (cx.value(&self.rest), cx.b.int(0), cx.b.int(1));
        if self.rises {
            let first = cx.b.sub(zero, rest);
            (cx.b.binary(Binary::Max, begin, first), end)
        } else {
            let limit = cx.b.add(rest, one);
            (begin, cx.b.binary(Binary::Min, end, limit))
        }
    }

    /// The columns of a range that count in the row where the axes stand: between both ends, perhaps none.
    pub(super) fn of_row(all: &[Self], cx: &mut Cx<'_>, (begin, end): (Val, Val)) -> (Val, Val) {
        let (first, last) = all.iter().fold((begin, end), |range, keep| keep.narrow(cx, range));
        let first = cx.b.binary(Binary::Min, first, end);
        (first, cx.b.binary(Binary::Max, last, first))
    }

    /// The columns of a range that count in some row of `begin..end`.
    pub(super) fn of_block(all: &[Self], cx: &mut Cx<'_>, rows: (Val, Val), range: (Val, Val)) -> (Val, Val) {
        all.iter().fold(range, |range, keep| {
            let one = cx.b.int(1);
            let row = if keep.by_last { cx.b.sub(rows.1, one) } else { rows.0 };
            cx.at[keep.rows] = At::One(row);
            keep.narrow(cx, range)
        })
    }
}
