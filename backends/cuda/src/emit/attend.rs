//! Attention: a block takes a tile of rows and goes through tiles of columns. The products of both are in registers, weights made of
//! them in shared memory, the rows' sums in registers again; no row of weights is ever whole. A softmax carries the greatest score and
//! the sum of every row along, and scales what was summed before (Milakov and Gimelshein, 2018, "Online normalizer calculation for
//! softmax"; Dao et al., 2022, "FlashAttention"). Tiles in which nothing counts are passed over. Tiles depend on sizes alone.

use std::borrow::Cow;

use graver_ir::kernel::{Attend, AxisSet, Side, Store};
use graver_ir::{DType, Dim};

use super::attend_piece::{self, Extent, Piece};
use super::attend_tensor::{Tensor, halves};
use super::body::Given;
use super::contract::SIDE;
use super::cx::{Cx, computed, stored};
use super::{Emitted, finish, nest};

/// Threads of a block: `SIDE` along rows, `SIDE` along columns, those of a row neighbours.
pub(super) const THREADS: i64 = SIDE * SIDE;
/// Columns of a tile.
pub(super) const COLUMNS: i64 = 64;
/// Bytes of a side's row in one piece of shared memory, or half of that where there is no room.
const DEEP: i64 = 64;
/// Bytes of shared memory that a kernel may declare.
const MOST_SHARED: usize = 48 << 10;
/// Sums that a thread has at most.
const MOST_SUMS: i64 = 64;
/// A row of weights in shared memory: one more than a tile has, so that columns of it lie in different banks.
pub(super) const PITCH: i64 = COLUMNS + 1;

pub(super) fn emit(mut cx: Cx<'_>, attend: &Attend) -> Emitted {
    assert!(attend.across.is_empty(), "a target that attends across no columns is given no such sums");
    let Some(plan) = Plan::new(attend) else { return nest::emit(cx, &attend.as_nest()) };
    let blocks = plan.emit(&mut cx);
    finish(cx, THREADS, blocks)
}

/// How an attention is run.
pub(super) struct Plan<'a> {
    pub(super) attend: &'a Attend,
    batch: Vec<usize>,
    /// The axis of columns along which tiles go.
    pub(super) column: usize,
    /// The other axes of columns.
    outer: Vec<usize>,
    /// Rows of a tile.
    pub(super) rows: i64,
    /// Widths of sums.
    pub(super) widths: Vec<i64>,
    pub(super) tensor: Tensor,
    /// Bytes of a side's row in a piece.
    deep: i64,
    acc: &'static str,
}

impl<'a> Plan<'a> {
    /// `None` where a sum's width is no number, or too large for registers, or in `f64`, which shared memory does not hold.
    fn new(attend: &'a Attend) -> Option<Self> {
        let widths: Vec<i64> = attend.sums.iter().map(|sum| attend.axes[sum.free].as_const()).collect::<Option<_>>()?;
        let column = attend.columns.iter().last().filter(|_| attend.acc == DType::F32)?;
        let sums = |rows: i64| widths.iter().map(|width| (width + SIDE - 1) / SIDE * rows / SIDE).sum::<i64>();
        let rows =
            [64, 32].into_iter().find(|rows| sums(*rows) <= MOST_SUMS / 2).or_else(|| (sums(32) <= MOST_SUMS).then_some(32))?;
        let mut plan = Self {
            attend,
            batch: attend.batch.iter().collect(),
            column,
            outer: attend.columns.minus(AxisSet::EMPTY.with(column)).iter().collect(),
            rows,
            tensor: Tensor::new(attend, rows, &widths),
            widths,
            deep: DEEP,
            acc: computed(attend.acc),
        };
        if plan.shared_bytes() > MOST_SHARED {
            plan.deep /= 2;
        }
        Some(plan)
    }

    pub(super) fn size(&self, axis: usize) -> &Dim {
        &self.attend.axes[axis]
    }

    /// Rows of a tile that a thread has.
    pub(super) fn each(&self) -> i64 {
        self.rows / SIDE
    }

    /// Elements of a row's sum that a thread has.
    pub(super) fn spread(&self, sum: usize) -> i64 {
        (self.widths[sum] + SIDE - 1) / SIDE
    }

    /// The types of products' sides and of what is summed in shared memory.
    pub(super) fn types(&self) -> [DType; 2] {
        [self.tensor.products, self.tensor.sums].map(|dtype| dtype.unwrap_or(self.attend.acc))
    }

    /// Positions of a piece that are multiplied: of `k`, or of columns.
    pub(super) fn depth(&self, dtype: DType) -> i64 {
        self.deep / i64::try_from(dtype.size()).expect("few bytes")
    }

    fn widest(&self) -> i64 {
        self.widths.iter().copied().max().unwrap_or(1)
    }

    /// Bytes of weights, of what rows are scaled by, and of pieces.
    fn shared_bytes(&self) -> usize {
        let [products, sums] = self.types();
        let weights = usize::try_from(self.rows * PITCH).expect("few slots") * 4;
        let deep = self.depth(products);
        let products = attend_piece::bytes(self.rows, deep, products) + attend_piece::bytes(COLUMNS, deep, products);
        let sums = attend_piece::bytes(self.depth(sums), self.widest(), sums);
        self.weights() * weights + usize::try_from(4 * self.rows).expect("few rows") + products.max(sums) + 64
    }

    /// Matrices of weights: with a softmax all sums are by its shares.
    pub(super) fn weights(&self) -> usize {
        if self.attend.softmax.is_some() { 1 } else { self.attend.sums.len() }
    }

    /// Emits the kernel; gives the number of tiles.
    fn emit(&self, cx: &mut Cx<'_>) -> Dim {
        cx.line(format!("const i32 thread = gr_thread(), row = thread / {SIDE}, column = thread % {SIDE};"));
        self.memory(cx);
        let down = self.size(self.attend.rows).ceil_div(&Dim::from(self.rows));
        let batch: Dim = self.batch.iter().map(|axis| self.size(*axis).clone()).product();
        let tiles = &batch * &down;
        let [total, down] = [&tiles, &down].map(|dim| cx.dim(dim));
        let [rows, columns] = [self.attend.rows, self.column].map(|axis| cx.dim(self.size(axis)));
        cx.line(format!("const idx rows_count = {rows}, columns_count = {columns};"));
        cx.open(format!("for (idx tile = gr_block(); tile < {total}; tile += gr_blocks())"));
        cx.line(format!(
            "const idx batch = gr_quotient<idx>(tile, {down}), rows_first = (tile - batch * {down}) * {};",
            self.rows
        ));
        cx.line(format!("const idx rows_last = gr_lesser<idx>(rows_first + {}, rows_count) - 1;", self.rows));
        cx.bind_digits(&self.batch, &self.attend.axes, "batch");
        self.begin(cx);
        self.outer.iter().for_each(|axis| cx.open_axis(*axis, self.size(*axis)));
        self.range(cx);
        cx.open(format!(
            "for (idx columns_first = begin / {COLUMNS} * {COLUMNS}; columns_first < end; columns_first += {COLUMNS})"
        ));
        (0..self.attend.products.len()).for_each(|product| match self.tensor.products {
            Some(dtype) => self.tensor_product(cx, product, dtype),
            None => self.product(cx, product),
        });
        self.weigh(cx);
        (0..self.attend.sums.len()).for_each(|sum| match self.tensor.sums {
            Some(dtype) => self.tensor_sum(cx, sum, dtype),
            None => self.sum(cx, sum),
        });
        cx.close();
        self.outer.iter().rev().for_each(|axis| cx.close_axis(*axis));
        self.end(cx);
        cx.unbind(&self.batch);
        cx.close();
        tiles
    }

    /// Shared memory: weights, and beside them pieces of both sides of a product, or of what is summed.
    fn memory(&self, cx: &mut Cx<'_>) {
        let acc = self.acc;
        for number in 0..self.weights() {
            let slots = self.rows * PITCH;
            let place = cx.take_shared(usize::try_from(slots).expect("few slots") * self.attend.acc.size());
            cx.line(format!("GR_LOCAL({acc}) weights_{number} = gr_local<{acc}>(shared, {place}, {slots});"));
        }
        self.tensor_memory(cx);
        // Pieces of products and of sums are never there at once.
        let start = cx.shared.next_multiple_of(16);
        let pieces = |cx: &mut Cx<'_>, pieces: &[(&str, i64, i64)], dtype: DType| {
            let mut place = start;
            for (name, down, along) in pieces {
                let (ty, slots) = (stored(dtype), 2 * down * attend_piece::pitch(*along, dtype));
                cx.line(format!("GR_LOCAL({ty}) {name} = gr_local<{ty}>(shared, {place}, {slots});"));
                place += attend_piece::bytes(*down, *along, dtype);
            }
            cx.shared = cx.shared.max(place);
        };
        let [products, sums] = self.types();
        let deep = self.depth(products);
        pieces(cx, &[("rows_piece", self.rows, deep), ("columns_piece", COLUMNS, deep)], products);
        pieces(cx, &[("sums_piece", self.depth(sums), self.widest())], sums);
    }

    /// Nothing is summed yet.
    fn begin(&self, cx: &mut Cx<'_>) {
        let (acc, each) = (self.acc, self.each());
        if self.tensor.sums.is_some() {
            self.tensor_begin(cx);
        } else {
            let sums = 0..self.widths.len();
            sums.for_each(|sum| cx.line(format!("{acc} sum_{sum}[{each}][{}] = {{}};", self.spread(sum))));
        }
        if self.attend.softmax.is_some() {
            cx.line(format!("{acc} most[{each}], all[{each}];"));
            cx.line(format!("for (i32 i = 0; i < {each}; i++) most[i] = -gr_infinity<{acc}>(), all[i] = ({acc})0;"));
        }
    }

    /// The columns that count in some row of the tile: `begin..end`.
    fn range(&self, cx: &mut Cx<'_>) {
        cx.line("idx begin = 0, end = columns_count;");
        for keep in &self.attend.keep {
            let Some((slope, rest)) = keep.along(self.column) else { continue };
            let Some((by_row, _)) = rest.along(self.attend.rows) else { continue };
            let (Some(slope @ (1 | -1)), Some(by_row)) = (slope.as_const(), by_row.as_const()) else { continue };
            // Where most columns count.
            cx.at[self.attend.rows] = Some(if by_row > 0 { "rows_last" } else { "rows_first" }.to_owned());
            let rest = cx.dim(&rest);
            cx.unbind(&[self.attend.rows]);
            cx.line(if slope == 1 {
                format!("begin = gr_greater<idx>(begin, -({rest}));")
            } else {
                format!("end = gr_lesser<idx>(end, {rest} + 1);")
            });
        }
    }

    /// Both sides of a product.
    pub(super) fn product_pieces(&self, cx: &mut Cx<'_>, number: usize) -> [Piece<'a>; 2] {
        let (product, [dtype, _]) = (&self.attend.products[number], self.types());
        let depth = cx.dim(self.size(product.k));
        let piece = |name: &'static str, side: &'a Side, (axis, count, what): (usize, i64, &str)| Piece {
            name,
            side: self.tensor.products.map_or(Cow::Borrowed(side), |_| Cow::Owned(halves(side))),
            dtype,
            down: Extent { axis, count, first: format!("{what}_first"), end: format!("{what}_count") },
            along: Extent { axis: product.k, count: self.depth(dtype), first: "first".to_owned(), end: depth.clone() },
        };
        [
            piece("rows_piece", &product.rows, (self.attend.rows, self.rows, "rows")),
            piece("columns_piece", &product.columns, (self.column, COLUMNS, "columns")),
        ]
    }

    /// What is summed.
    pub(super) fn sum_piece(&self, number: usize) -> Piece<'a> {
        let (sum, [_, dtype]) = (&self.attend.sums[number], self.types());
        let (width, count) = (self.widths[number], self.depth(dtype));
        let (first, end) = ("columns_first + first".to_owned(), "columns_count".to_owned());
        Piece {
            name: "sums_piece",
            side: self.tensor.sums.map_or(Cow::Borrowed(&sum.side), |_| Cow::Owned(halves(&sum.side))),
            dtype,
            down: Extent { axis: self.column, count, first, end },
            along: Extent { axis: sum.free, count: width, first: "0".to_owned(), end: width.to_string() },
        }
    }

    /// The steps of a product, and of a sum over the columns of a tile that may count.
    pub(super) fn steps(&self, cx: &mut Cx<'_>, product: Option<usize>) -> String {
        let [products, sums] = self.types();
        match product {
            Some(number) => {
                let k = self.size(self.attend.products[number].k).ceil_div(&Dim::from(self.depth(products)));
                cx.dim(&k)
            }
            None => {
                let depth = self.depth(sums);
                format!("(gr_lesser<idx>(end - columns_first, {COLUMNS}) + {}) / {depth}", depth - 1)
            }
        }
    }

    /// The products of a tile of rows and one of columns: `product_p[i][j]`.
    fn product(&self, cx: &mut Cx<'_>, number: usize) {
        let (acc, each, across) = (self.acc, self.each(), COLUMNS / SIDE);
        let (pieces, steps, [dtype, _]) = (self.product_pieces(cx, number), self.steps(cx, Some(number)), self.types());
        let (depth, chunk) = (self.depth(dtype), attend_piece::chunk(dtype));
        let pitch = attend_piece::pitch(depth, dtype);
        cx.line(format!("{acc} product_{number}[{each}][{across}] = {{}};"));
        self.through(cx, &pieces, (&steps, depth), |cx| {
            // Unrolled, it takes so many registers that a multiprocessor has one block instead of two.
            cx.line("GR_ROLLED");
            cx.open(format!("for (i32 k = 0; k < {depth}; k += {chunk})"));
            for (name, count, place) in [("rows", each, "row"), ("columns", across, "column")] {
                cx.line(format!("gr_pack<{acc}, {chunk}> {name}[{count}];"));
                let at = format!("{name}_piece_ready + (i * {SIDE} + {place}) * {pitch} + k");
                let read = format!("{name}[i] = gr_read_aligned<{acc}, {chunk}>(gr_at({name}_piece, {at}, {chunk}));");
                cx.unrolled("i", count, read);
            }
            cx.open_unrolled("e", chunk);
            cx.open_unrolled("i", each);
            let term = format!("product_{number}[i][j] = gr_mad(rows[i].at[e], columns[j].at[e], product_{number}[i][j]);");
            cx.unrolled("j", across, term);
            (0..3).for_each(|_| cx.close());
        });
        cx.sync();
    }

    /// Products become weights, in shared memory.
    fn weigh(&self, cx: &mut Cx<'_>) {
        let (acc, each, across) = (self.acc, self.each(), COLUMNS / SIDE);
        let softmax = self.attend.softmax.as_ref();
        let values: Vec<usize> = match softmax {
            Some(softmax) => vec![softmax.score.index()],
            None => self.attend.sums.iter().map(|sum| sum.to.value.index()).collect(),
        };
        let nothing = if softmax.is_some() { format!("-gr_infinity<{acc}>()") } else { format!("({acc})0") };
        cx.open_unrolled("i", each);
        for number in 0..values.len() {
            cx.line(format!("{acc} weight_{number}[{across}];"));
        }
        cx.open_unrolled("j", across);
        (0..values.len()).for_each(|number| cx.line(format!("weight_{number}[j] = {nothing};")));
        let row = cx.define("idx", "a", format!("rows_first + i * {SIDE} + row"));
        let column = cx.define("idx", "a", format!("columns_first + j * {SIDE} + column"));
        cx.at[self.attend.rows] = Some(row.clone());
        cx.at[self.column] = Some(column.clone());
        let kept = self.attend.keep.iter().map(|keep| format!("{} >= 0", cx.dim(keep)));
        let counts: Vec<String> =
            [format!("{row} < rows_count"), format!("{column} < columns_count")].into_iter().chain(kept).collect();
        cx.open(format!("if ({})", counts.join(" && ")));
        let products: Vec<String> = (0..self.attend.products.len()).map(|number| format!("product_{number}[i][j]")).collect();
        let computed = cx.body(&self.attend.weights, Given::Products(&products));
        for (number, value) in values.iter().enumerate() {
            cx.line(format!("weight_{number}[j] = {};", computed[*value]));
        }
        cx.close();
        cx.unbind(&[self.attend.rows, self.column]);
        cx.close();
        if softmax.is_some() {
            self.shares(cx);
        }
        cx.open_unrolled("j", across);
        for number in 0..values.len() {
            cx.line(format!("weights_{number}[(i * {SIDE} + row) * {PITCH} + j * {SIDE} + column] = weight_{number}[j];"));
        }
        cx.close();
        cx.close();
    }

    /// Scores of a row become `exp(score - most)`, and what the row carries along follows. A row is half a warp's.
    fn shares(&self, cx: &mut Cx<'_>) {
        let (acc, across) = (self.acc, COLUMNS / SIDE);
        let of_row = |cx: &mut Cx<'_>, value: &str, op: &str| {
            cx.line("GR_UNROLL");
            cx.line(format!(
                "for (i32 lanes = {}; lanes > 0; lanes /= 2) {value} = {op}({value}, gr_shuffle({value}, lanes));",
                SIDE / 2
            ));
        };
        cx.line(format!("const {acc} before = most[i];"));
        cx.line(format!("{acc} greatest = weight_0[0], shared_out = ({acc})0;"));
        cx.line("GR_UNROLL");
        cx.line(format!("for (i32 j = 1; j < {across}; j++) greatest = gr_max(greatest, weight_0[j]);"));
        of_row(cx, "greatest", "gr_max");
        cx.line("most[i] = gr_max(before, greatest);");
        // 0 as long as all scores are minus infinity, whose shares are then 0 and not NaN.
        cx.line(format!("const {acc} shift = most[i] == -gr_infinity<{acc}>() ? ({acc})0 : most[i];"));
        cx.open_unrolled("j", across);
        cx.line("weight_0[j] = gr_exp(gr_sub(weight_0[j], shift));");
        cx.line("shared_out = gr_add(shared_out, weight_0[j]);");
        cx.close();
        of_row(cx, "shared_out", "gr_add");
        cx.line(format!("const {acc} factor = gr_exp(gr_sub(before, shift));"));
        cx.line("all[i] = gr_add(gr_mul(all[i], factor), shared_out);");
        if self.tensor.sums.is_some() {
            cx.line(format!("if (column == 0) factors[i * {SIDE} + row] = factor;"));
            return;
        }
        for sum in 0..self.widths.len() {
            cx.unrolled("f", self.spread(sum), format!("sum_{sum}[i][f] = gr_mul(sum_{sum}[i][f], factor);"));
        }
    }

    /// A tile's weights times what is summed, added to the rows' sums.
    fn sum(&self, cx: &mut Cx<'_>, number: usize) {
        let (acc, each, width, spread) = (self.acc, self.each(), self.widths[number], self.spread(number));
        let weights = if self.weights() == 1 { 0 } else { number };
        let (piece, steps, [_, dtype]) = (self.sum_piece(number), self.steps(cx, None), self.types());
        let (depth, pitch) = (self.depth(dtype), attend_piece::pitch(width, dtype));
        self.through(cx, &[piece], (&steps, depth), |cx| {
            cx.open_unrolled("c", depth);
            cx.line(format!("{acc} weight[{each}], side[{spread}];"));
            cx.unrolled("i", each, format!("weight[i] = weights_{weights}[(i * {SIDE} + row) * {PITCH} + first + c];"));
            let inside = if width % SIDE == 0 { String::new() } else { format!("f * {SIDE} + column >= {width} ? ({acc})0 : ") };
            let at = format!("sums_piece_ready + c * {pitch} + f * {SIDE} + column");
            cx.unrolled("f", spread, format!("side[f] = {inside}sums_piece[{at}];"));
            cx.open_unrolled("i", each);
            cx.unrolled("f", spread, format!("sum_{number}[i][f] = gr_mad(weight[i], side[f], sum_{number}[i][f]);"));
            cx.close();
            cx.close();
        });
        cx.sync();
    }

    /// The results of a tile of rows.
    fn end(&self, cx: &mut Cx<'_>) {
        let (acc, each, rows) = (self.acc, self.each(), self.attend.rows);
        let columns: Dim = self.attend.columns.iter().map(|axis| self.size(axis).clone()).product();
        let columns = cx.dim(&columns);
        if self.tensor.sums.is_some() {
            self.tensor_end(cx);
        }
        cx.open_unrolled("i", each);
        let at = cx.define("idx", "a", format!("rows_first + i * {SIDE} + row"));
        cx.line(format!("if ({at} >= rows_count) continue;"));
        cx.at[rows] = Some(at);
        for (number, sum) in self.attend.sums.iter().enumerate() {
            let (width, spread) = (self.widths[number], self.spread(number));
            cx.open_unrolled("f", spread);
            let free = cx.define("idx", "a", format!("f * {SIDE} + column"));
            if width % SIDE != 0 {
                cx.line(format!("if ({free} >= {width}) continue;"));
            }
            cx.at[sum.free] = Some(free);
            let value = format!("sum_{number}[i][f]");
            // The sum of no columns is 0.
            let value = match self.attend.softmax {
                Some(_) => format!("({columns} == 0 ? {value} : gr_div({value}, all[i]))"),
                None => value,
            };
            put(cx, &sum.to, &value);
            cx.unbind(&[sum.free]);
            cx.close();
        }
        if let Some(to) = self.attend.softmax.as_ref().and_then(|softmax| softmax.log_sum.as_ref()) {
            // As primitives have it: where no score is more than minus infinity, shares are 0 / 0.
            cx.line(format!("{acc} log_sum = gr_add(most[i], gr_log(all[i]));"));
            cx.line(format!("if (most[i] == -gr_infinity<{acc}>() && {columns} != 0) log_sum = gr_nan<{acc}>();"));
            cx.open("if (column == 0)");
            put(cx, to, "log_sum");
            cx.close();
        }
        cx.unbind(&[rows]);
        cx.close();
    }
}

/// Stores an expression where a store has its value.
fn put(cx: &mut Cx<'_>, to: &Store, value: &str) {
    let (offset, ty) = (cx.offset(to.arg, &to.index, &[]), stored(cx.arg(to.arg).dtype));
    cx.line(format!("p{}[{offset}] = gr_put<{ty}>({value});", to.arg));
}
