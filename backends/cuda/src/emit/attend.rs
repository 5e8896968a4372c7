//! Attention: a block takes a tile of rows and goes through tiles of columns. The products of both are in registers, weights made of
//! them in shared memory, the rows' sums in registers again; no row of weights is ever whole. A softmax carries the greatest score and
//! the sum of every row along, and scales what was summed before (Milakov and Gimelshein, 2018, "Online normalizer calculation for
//! softmax"; Dao et al., 2022, "FlashAttention"). Tiles in which nothing counts are passed over. Tiles depend on sizes alone.

use graver_ir::kernel::{Attend, AxisSet, Side, Store};
use graver_ir::{DType, Dim};

use super::attend_tensor::Tensor;
use super::body::Given;
use super::contract::SIDE;
use super::cx::{Cx, computed, stored};
use super::{Emitted, finish, nest};

/// Threads of a block: `SIDE` along rows, `SIDE` along columns, those of a row neighbours.
pub(super) const THREADS: i64 = SIDE * SIDE;
/// Columns of a tile.
pub(super) const COLUMNS: i64 = 64;
/// Positions that are multiplied out of one piece of shared memory.
const DEPTH: i64 = 16;
/// Sums that a thread has at most.
const MOST_SUMS: i64 = 64;
/// A row of weights in shared memory: one more than a tile has, so that columns of it lie in different banks.
pub(super) const PITCH: i64 = COLUMNS + 1;

pub(super) fn emit(mut cx: Cx<'_>, attend: &Attend) -> Emitted {
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
        Some(Self {
            attend,
            batch: attend.batch.iter().collect(),
            column,
            outer: attend.columns.minus(AxisSet::EMPTY.with(column)).iter().collect(),
            rows,
            tensor: Tensor::new(attend, rows, &widths),
            widths,
            acc: computed(attend.acc),
        })
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
        let (acc, size) = (self.acc, self.attend.acc.size());
        let take = |cx: &mut Cx<'_>, name: &str, slots: i64, place: Option<usize>| {
            let bytes = usize::try_from(slots).expect("few slots") * size;
            let place = place.unwrap_or_else(|| cx.take_shared(bytes));
            cx.shared = cx.shared.max(place + bytes);
            cx.line(format!("GR_LOCAL({acc}) {name} = gr_local<{acc}>(shared, {place}, {slots});"));
            place
        };
        for number in 0..self.weights() {
            take(cx, &format!("weights_{number}"), self.rows * PITCH, None);
        }
        self.tensor_memory(cx);
        // Pieces of products and of sums are never there at once.
        let start = cx.shared.next_multiple_of(16);
        match self.tensor.products {
            Some(dtype) => self.tensor_pieces(cx, start, &[("rows_half", dtype, self.rows), ("columns_half", dtype, COLUMNS)]),
            None => {
                take(cx, "rows_piece", DEPTH * (self.rows + 1), None);
                take(cx, "columns_piece", DEPTH * PITCH, None);
            }
        }
        let widest = self.widths.iter().copied().max().unwrap_or(1);
        match self.tensor.sums {
            Some(dtype) => self.tensor_pieces(cx, start, &[("sums_half", dtype, widest)]),
            None => drop(take(cx, "sums_piece", DEPTH * (widest + 1), Some(start))),
        }
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

    /// The products of a tile of rows and one of columns: `product_p[i][j]`.
    fn product(&self, cx: &mut Cx<'_>, number: usize) {
        let product = &self.attend.products[number];
        let (acc, each, across) = (self.acc, self.each(), COLUMNS / SIDE);
        let depth = cx.dim(self.size(product.k));
        cx.line(format!("{acc} product_{number}[{each}][{across}] = {{}};"));
        cx.open(format!("for (idx k_first = 0; k_first < {depth}; k_first += {DEPTH})"));
        // What was read of these pieces is read by now.
        cx.sync();
        self.piece(cx, &product.rows, ("rows", self.attend.rows, self.rows), (product.k, &depth));
        self.piece(cx, &product.columns, ("columns", self.column, COLUMNS), (product.k, &depth));
        cx.sync();
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 k = 0; k < {DEPTH}; k++)"));
        for (name, count, place, pitch) in [("rows", each, "row", self.rows + 1), ("columns", across, "column", PITCH)] {
            cx.line(format!("{acc} {name}[{count}];"));
            cx.line("GR_UNROLL");
            cx.line(format!("for (i32 i = 0; i < {count}; i++) {name}[i] = {name}_piece[k * {pitch} + i * {SIDE} + {place}];"));
        }
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 i = 0; i < {each}; i++)"));
        cx.line("GR_UNROLL");
        cx.line(format!(
            "for (i32 j = 0; j < {across}; j++) product_{number}[i][j] = gr_mad(rows[i], columns[j], product_{number}[i][j]);"
        ));
        cx.close();
        cx.close();
        cx.close();
    }

    /// `DEPTH` positions of `k` of one side of a product; zeros outside.
    fn piece(&self, cx: &mut Cx<'_>, side: &Side, (name, axis, extent): (&str, usize, i64), (k, depth): (usize, &str)) {
        let place = format!("place % {DEPTH} * {} + place / {DEPTH}", extent + 1);
        let condition = format!("{name}_first + own < {name}_count && k_first + k < {depth}");
        let bound = [(axis, format!("{name}_first + own")), (k, "k_first + k".to_owned())];
        let digits = format!("const i32 own = place / {DEPTH}, k = place % {DEPTH};");
        self.load(cx, side, (&format!("{name}_piece"), ""), (extent * DEPTH, &digits, &place), &condition, &bound);
    }

    /// Elements of a side, one after the other by `digits` of their number, to `place`.
    pub(super) fn load(
        &self,
        cx: &mut Cx<'_>,
        side: &Side,
        (piece, put): (&str, &str),
        (count, digits, place): (i64, &str, &str),
        condition: &str,
        bound: &[(usize, String)],
    ) {
        let acc = self.acc;
        cx.open(format!("for (i32 place = thread; place < {count}; place += {THREADS})"));
        cx.line(digits);
        cx.line(format!("{acc} element = ({acc})0;"));
        cx.open(format!("if ({condition})"));
        for (axis, position) in bound {
            let at = cx.define("idx", "a", position);
            cx.at[*axis] = Some(at);
        }
        let values = cx.body(&side.body, Given::Nothing);
        cx.line(format!("element = {};", values[side.value.index()]));
        bound.iter().for_each(|(axis, _)| cx.unbind(&[*axis]));
        cx.close();
        cx.line(format!("{piece}[{place}] = {put}(element);"));
        cx.close();
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
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 i = 0; i < {each}; i++)"));
        for number in 0..values.len() {
            cx.line(format!("{acc} weight_{number}[{across}];"));
        }
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 j = 0; j < {across}; j++)"));
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
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 j = 0; j < {across}; j++)"));
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
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 j = 0; j < {across}; j++)"));
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
            cx.line("GR_UNROLL");
            cx.line(format!(
                "for (i32 f = 0; f < {0}; f++) sum_{sum}[i][f] = gr_mul(sum_{sum}[i][f], factor);",
                self.spread(sum)
            ));
        }
    }

    /// A tile's weights times what is summed, added to the rows' sums.
    fn sum(&self, cx: &mut Cx<'_>, number: usize) {
        let sum = &self.attend.sums[number];
        let (acc, each, width, spread) = (self.acc, self.each(), self.widths[number], self.spread(number));
        let weights = if self.weights() == 1 { 0 } else { number };
        cx.open(format!("for (i32 c_first = 0; c_first < {COLUMNS} && columns_first + c_first < end; c_first += {DEPTH})"));
        cx.sync();
        let digits = format!("const i32 c = place / {width}, f = place % {width};");
        let bound = [(self.column, "columns_first + c_first + c".to_owned()), (sum.free, "f".to_owned())];
        let place = format!("c * {} + f", width + 1);
        let condition = "columns_first + c_first + c < columns_count";
        self.load(cx, &sum.side, ("sums_piece", ""), (DEPTH * width, &digits, &place), condition, &bound);
        cx.sync();
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 c = 0; c < {DEPTH}; c++)"));
        cx.line(format!("{acc} weight[{each}], side[{spread}];"));
        cx.line("GR_UNROLL");
        cx.line(format!(
            "for (i32 i = 0; i < {each}; i++) weight[i] = weights_{weights}[(i * {SIDE} + row) * {PITCH} + c_first + c];"
        ));
        cx.line("GR_UNROLL");
        let inside = if width % SIDE == 0 { String::new() } else { format!("f * {SIDE} + column >= {width} ? ({acc})0 : ") };
        cx.line(format!(
            "for (i32 f = 0; f < {spread}; f++) side[f] = {inside}sums_piece[c * {} + f * {SIDE} + column];",
            width + 1
        ));
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 i = 0; i < {each}; i++)"));
        cx.line("GR_UNROLL");
        cx.line(format!(
            "for (i32 f = 0; f < {spread}; f++) sum_{number}[i][f] = gr_mad(weight[i], side[f], sum_{number}[i][f]);"
        ));
        cx.close();
        cx.close();
        cx.close();
    }

    /// The results of a tile of rows.
    fn end(&self, cx: &mut Cx<'_>) {
        let (acc, each, rows) = (self.acc, self.each(), self.attend.rows);
        let columns: Dim = self.attend.columns.iter().map(|axis| self.size(axis).clone()).product();
        let columns = cx.dim(&columns);
        if self.tensor.sums.is_some() {
            self.tensor_end(cx);
        }
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 i = 0; i < {each}; i++)"));
        let at = cx.define("idx", "a", format!("rows_first + i * {SIDE} + row"));
        cx.line(format!("if ({at} >= rows_count) continue;"));
        cx.at[rows] = Some(at);
        for (number, sum) in self.attend.sums.iter().enumerate() {
            let (width, spread) = (self.widths[number], self.spread(number));
            cx.line("GR_UNROLL");
            cx.open(format!("for (i32 f = 0; f < {spread}; f++)"));
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
