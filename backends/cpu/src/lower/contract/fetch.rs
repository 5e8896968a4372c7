//! Columns that are fetched while those before them are multiplied: memory answers meanwhile.

use super::super::cx::Cx;
use super::plan::{LINE, UNROLL};
use crate::vector::{Binary, Val};

/// What a tile asks for while it goes over `k`: from where, how many bytes a step, and lines every [`UNROLL`] steps.
pub(super) struct Fetch {
    from: Val,
    a_step: Val,
    lines: i64,
}

/// A tile among the rows that are against a panel of columns.
pub(super) struct Turn {
    /// Rows before it, and its own.
    pub(super) before: Val,
    pub(super) height: i64,
    /// All rows, and how many they are taken to be while code is made.
    pub(super) rows: Val,
    pub(super) usual: i64,
}

impl Fetch {
    /// A tile's share of what comes next, so many steps of so many bytes, in proportion to its rows: after all of a panel's tiles it is in a second-level cache.
    pub(super) fn share(cx: &mut Cx<'_>, next: Val, (steps, bytes): (Val, i64), turn: &Turn) -> Self {
        let (all, height, one) = (cx.b.int(bytes), cx.b.int(turn.height), cx.b.int(1));
        let all = cx.b.mul(steps, all);
        let a_row = cx.b.binary(Binary::Div, all, turn.rows);
        let before = cx.b.mul(turn.before, a_row);
        let (share, some) = (cx.b.mul(a_row, height), cx.b.binary(Binary::Max, steps, one));
        let a_step = cx.b.binary(Binary::Div, share, some);
        let lines = bytes * UNROLL * turn.height / turn.usual.max(turn.height) / LINE + 1;
        Self { from: cx.b.add(next, before), a_step: cx.b.add(a_step, one), lines }
    }

    /// What is asked for from step `k` on.
    pub(super) fn at(&self, cx: &mut Cx<'_>, k: Val) {
        let offset = cx.b.mul(k, self.a_step);
        let from = cx.b.add(self.from, offset);
        for line in 0..self.lines {
            let offset = cx.b.int(line * LINE);
            let ptr = cx.b.add(from, offset);
            cx.b.prefetch(ptr);
        }
    }
}
