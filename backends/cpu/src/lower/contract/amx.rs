//! Tiles of AMX: sums of 16 x 16 words, two by two, over packed panels.

use super::super::cx::Cx;
use super::Tiling;
use super::plan::Plan;
use super::tile::{Block, Column, Place};
use super::words::{LINES, WORD, Words};
use crate::vector::{Compare, Tile, TileDot, Unary, Val};

/// The first of the tiles that hold rows, and columns; those before hold sums, row by row.
const ROWS: u8 = 4;
const COLUMNS: u8 = 6;
/// Tiles side by side.
const ACROSS: u8 = 2;

impl Tiling<'_> {
    /// Code that may use tiles.
    pub(super) fn with_tiles(&self, cx: &mut Cx<'_>, code: impl FnOnce(&mut Cx<'_>)) {
        let has_tiles = matches!(self.words, Some(Words::Tiles(_)));
        if has_tiles {
            cx.b.tile(Tile::Configure);
        }
        code(cx);
        if has_tiles {
            cx.b.tile(Tile::Release);
        }
    }
}

impl Plan {
    /// The sums of a tile after this chunk, in memory, where those before it may wait.
    pub(super) fn sums_of_tiles(
        &self,
        cx: &mut Cx<'_>,
        tiling: &Tiling<'_>,
        dot: TileDot,
        (block, at): (&Block, &Place),
        column: &Column,
        (sums, may_wait): (Val, bool),
    ) {
        let down = u8::try_from(at.height / LINES).expect("few tiles");
        let all = move || (0..down).flat_map(|y| (0..ACROSS).map(move |x| (y, x)));
        let line = cx.b.int(self.width * WORD);
        let place = |cx: &mut Cx<'_>, y: u8, x: u8| {
            let offset = cx.b.int((i64::from(y) * self.width + i64::from(x)) * LINES * WORD);
            cx.b.add(sums, offset)
        };
        let first = cx.b.compare(Compare::Eq, column.span.begin, column.all.begin);
        if may_wait {
            let open = cx.b.open_if(first);
            all().for_each(|(y, x)| cx.b.tile(Tile::Zero(y * ACROSS + x)));
            cx.b.close_if(open);
            let later = cx.b.unary(Unary::Not, first);
            let open = cx.b.open_if(later);
            for (y, x) in all() {
                let ptr = place(cx, y, x);
                cx.b.tile(Tile::Load { tile: y * ACROSS + x, ptr, stride: line });
            }
            cx.b.close_if(open);
        } else {
            all().for_each(|(y, x)| cx.b.tile(Tile::Zero(y * ACROSS + x)));
        }
        self.steps_of_tiles(cx, tiling, dot, (block, at), column, down);
        for (y, x) in all() {
            let ptr = place(cx, y, x);
            cx.b.tile(Tile::Store { tile: y * ACROSS + x, ptr, stride: line });
        }
    }

    /// Steps of as many words of `k` as a tile has lines.
    fn steps_of_tiles(
        &self,
        cx: &mut Cx<'_>,
        tiling: &Tiling<'_>,
        dot: TileDot,
        (block, at): (&Block, &Place),
        column: &Column,
        down: u8,
    ) {
        let (row_stride, _) = self.row_strides(tiling);
        let (row_line, column_line) = (cx.b.int(row_stride * WORD), cx.b.int(self.width * WORD));
        let place = cx.b.sub(at.row, block.begin);
        let offset = cx.b.mul(place, row_line);
        let rows = cx.b.add(block.rows, offset);
        let elements = cx.b.sub(column.span.end, column.span.begin);
        let (zero, steps) = (cx.b.int(0), tiling.steps(cx, elements));
        let open = cx.b.open_loop(zero, steps, 1, Vec::new());
        let (row_step, column_step) = (cx.b.int(LINES * WORD), cx.b.int(LINES * self.width * WORD));
        let (row_offset, column_offset) = (cx.b.mul(open.var, row_step), cx.b.mul(open.var, column_step));
        let (rows, columns) = (cx.b.add(rows, row_offset), cx.b.add(column.packed, column_offset));
        for y in 0..down {
            let offset = cx.b.int(i64::from(y) * LINES * row_stride * WORD);
            let ptr = cx.b.add(rows, offset);
            cx.b.tile(Tile::Load { tile: ROWS + y, ptr, stride: row_line });
        }
        for x in 0..ACROSS {
            let offset = cx.b.int(i64::from(x) * LINES * WORD);
            let ptr = cx.b.add(columns, offset);
            cx.b.tile(Tile::Load { tile: COLUMNS + x, ptr, stride: column_line });
        }
        for y in 0..down {
            for x in 0..ACROSS {
                cx.b.tile(Tile::Dot { dot, sum: y * ACROSS + x, rows: ROWS + y, columns: COLUMNS + x });
            }
        }
        cx.b.close_loop(open, Vec::new());
    }
}
