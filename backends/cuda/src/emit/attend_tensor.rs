//! Attention of 16-bit floats by tensor instructions: products of tiles, and sums by weights. A warp has sixteen rows and some columns;
//! fragments go through shared memory where threads share rows otherwise. A weight is a sum of two 16-bit floats, so that sums are what
//! they are in `f32` to 16 bits at least.

use graver_ir::DType;
use graver_ir::kernel::{Attend, Side};

use super::attend::{COLUMNS, PITCH, Plan, THREADS};
use super::body::constant;
use super::contract::SIDE;
use super::cx::{Cx, stored};
use super::tensor::Widened;

/// Positions of `k`, or columns of weights, in a piece.
const DEPTH: i64 = 32;
/// A row of a piece in shared memory: eight more than it holds, so that a warp's rows lie in different banks.
const PIECE: i64 = DEPTH + 8;

/// What tensor instructions do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tensor {
    /// The type of the products' sides.
    pub(super) products: Option<DType>,
    /// The type of what is summed.
    pub(super) sums: Option<DType>,
}

/// The side without its constant factor.
fn halves(side: &Side) -> Side {
    let widened = Widened::of(side).expect("only such sides are multiplied here");
    Side { value: widened.value, ..side.clone() }
}

/// The text of what these sides' factors multiply by.
fn factor(sides: &[&Side]) -> String {
    let factors = sides.iter().filter_map(|side| Widened::of(side)?.factor);
    factors.map(|factor| format!("{} * ", constant(factor))).collect()
}

/// Warps beside one another, each with columns of its own.
const fn across(rows: i64) -> i64 {
    THREADS / 32 / (rows / 16)
}

impl Tensor {
    /// All sides must be of one 16-bit type. Halves hold shares, but not what derivatives make of them, which may be too large or too small.
    pub(super) fn new(attend: &Attend, rows: i64, widths: &[i64]) -> Self {
        let dtype = |side: &Side| Widened::of(side).map(|widened| widened.dtype);
        let one = |mut types: Box<dyn Iterator<Item = Option<DType>> + '_>| {
            let first = types.next()??;
            types.all(|ty| ty == Some(first)).then_some(first)
        };
        let products = attend.products.iter().flat_map(|product| [dtype(&product.rows), dtype(&product.columns)]);
        let sums = attend.sums.iter().map(|sum| dtype(&sum.side));
        let even = widths.iter().all(|width| width % (8 * across(rows)) == 0);
        let holds = |ty: &DType| *ty == DType::BF16 || attend.softmax.is_some();
        Self { products: one(Box::new(products)), sums: one(Box::new(sums)).filter(holds).filter(|_| even) }
    }
}

impl Plan<'_> {
    fn warps_down(&self) -> i64 {
        self.rows / 16
    }

    /// Fragments that a warp has of a sum.
    fn fragments(&self, sum: usize) -> i64 {
        self.widths[sum] / 8 / across(self.rows)
    }

    /// The variables that tell a thread its fragments, and shared memory for what a row's sums are scaled by.
    pub(super) fn tensor_memory(&self, cx: &mut Cx<'_>) {
        if self.tensor.products.is_none() && self.tensor.sums.is_none() {
            return;
        }
        let down = self.warps_down();
        cx.line("const i32 group = thread % 32 / 4, pair = thread % 4 * 2;");
        cx.line(format!("const i32 warp_row = thread / 32 % {down} * 16, warp_across = thread / 32 / {down};"));
        if self.tensor.sums.is_some() && self.attend.softmax.is_some() {
            let place = cx.take_shared(usize::try_from(4 * self.rows).expect("few rows"));
            cx.line(format!("GR_LOCAL(float) factors = gr_local<float>(shared, {place}, {});", self.rows));
        }
    }

    /// Shared memory from a place on for pieces of so many rows.
    pub(super) fn tensor_pieces(&self, cx: &mut Cx<'_>, start: usize, pieces: &[(&str, DType, i64)]) {
        let mut place = start;
        for (name, dtype, rows) in pieces {
            let (ty, slots) = (stored(*dtype), rows * PIECE);
            cx.line(format!("GR_LOCAL({ty}) {name} = gr_local<{ty}>(shared, {place}, {slots});"));
            place += usize::try_from(slots).expect("few slots") * dtype.size();
        }
        cx.shared = cx.shared.max(place);
    }

    /// As `product`: the fragments of `sum over k`, then `product_p[i][j]` by way of the weights' memory.
    pub(super) fn tensor_product(&self, cx: &mut Cx<'_>, number: usize, dtype: DType) {
        let product = &self.attend.products[number];
        let (each, columns, fragments) = (self.each(), COLUMNS / SIDE, COLUMNS / 8 / across(self.rows));
        let (depth, put) = (cx.dim(self.size(product.k)), format!("gr_put<{}>", stored(dtype)));
        cx.line(format!("float part_{number}[{fragments}][4] = {{}};"));
        cx.open(format!("for (idx k_first = 0; k_first < {depth}; k_first += {DEPTH})"));
        // What was read of these pieces is read by now.
        cx.sync();
        let sides = [("rows", &product.rows, self.attend.rows, self.rows), ("columns", &product.columns, self.column, COLUMNS)];
        for (name, side, axis, extent) in sides {
            let place = format!("own * {PIECE} + k");
            let condition = format!("{name}_first + own < {name}_count && k_first + k < {depth}");
            let bound = [(axis, format!("{name}_first + own")), (product.k, "k_first + k".to_owned())];
            let digits = format!("const i32 own = place / {DEPTH}, k = place % {DEPTH};");
            self.load(cx, &halves(side), (&format!("{name}_half"), &put), (extent * DEPTH, &digits, &place), &condition, &bound);
        }
        cx.sync();
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 k = 0; k < {DEPTH}; k += 16)"));
        cx.line("u32 a[4];");
        cx.line("GR_UNROLL");
        cx.line(format!(
            "for (i32 r = 0; r < 4; r++) a[r] = gr_pair_of(&rows_half[(warp_row + group + r % 2 * 8) * {PIECE} + k + pair + r / 2 * 8]);"
        ));
        self.multiply(cx, "columns_half", "k", (fragments, dtype), &[("a", &format!("part_{number}"))]);
        cx.close();
        cx.close();
        // What was read of the weights is read by now, unless there was no piece.
        if self.size(product.k).as_const().is_none_or(|size| size == 0) {
            cx.sync();
        }
        self.spill(cx, &format!("part_{number}"), fragments, 0);
        cx.sync();
        cx.line(format!("float product_{number}[{each}][{columns}];"));
        cx.line("GR_UNROLL");
        cx.line(format!(
            "for (i32 i = 0; i < {each}; i++) for (i32 j = 0; j < {columns}; j++) product_{number}[i][j] = {}weights_0[(i * {SIDE} + row) * {PITCH} + j * {SIDE} + column];",
            factor(&[&product.rows, &product.columns])
        ));
    }

    /// Multiplies left fragments by those of a piece at an offset, added to fragments of the result.
    fn multiply(&self, cx: &mut Cx<'_>, piece: &str, at: &str, (fragments, dtype): (i64, DType), pairs: &[(&str, &str)]) {
        let own = 8 * fragments;
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 j = 0; j < {fragments}; j++)"));
        cx.line("u32 b[2];");
        cx.line("GR_UNROLL");
        cx.line(format!(
            "for (i32 r = 0; r < 2; r++) b[r] = gr_pair_of(&{piece}[(warp_across * {own} + j * 8 + group) * {PIECE} + {at} + pair + r * 8]);"
        ));
        pairs.iter().for_each(|(a, to)| cx.line(format!("gr_mma_{}({to}[j], {a}, b);", dtype.name())));
        cx.close();
    }

    /// Fragments to the weights' memory, those of columns from `first` on that it has room for.
    fn spill(&self, cx: &mut Cx<'_>, part: &str, fragments: i64, first: i64) {
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 j = 0; j < {fragments}; j++)"));
        cx.line("GR_UNROLL");
        cx.open("for (i32 e = 0; e < 4; e++)");
        cx.line(format!("const i32 at = warp_across * {} + j * 8 + pair + e % 2 - {first};", 8 * fragments));
        cx.line(format!(
            "if (at >= 0 && at < {COLUMNS}) weights_0[(warp_row + group + e / 2 * 8) * {PITCH} + at] = {part}[j][e];"
        ));
        cx.close();
        cx.close();
    }

    /// Nothing is summed yet.
    pub(super) fn tensor_begin(&self, cx: &mut Cx<'_>) {
        for sum in 0..self.widths.len() {
            cx.line(format!("float part_sum_{sum}[{}][4] = {{}};", self.fragments(sum)));
        }
    }

    /// As `sum`, in fragments; with a softmax, what was summed before is scaled first.
    pub(super) fn tensor_sum(&self, cx: &mut Cx<'_>, number: usize, dtype: DType) {
        let sum = &self.attend.sums[number];
        let (width, fragments, ty) = (self.widths[number], self.fragments(number), stored(dtype));
        let weights = if self.weights() == 1 { 0 } else { number };
        if self.attend.softmax.is_some() {
            cx.sync();
            cx.line("GR_UNROLL");
            cx.line(format!(
                "for (i32 j = 0; j < {fragments}; j++) for (i32 e = 0; e < 4; e++) part_sum_{number}[j][e] = gr_mul(part_sum_{number}[j][e], factors[warp_row + group + e / 2 * 8]);"
            ));
        }
        cx.open(format!("for (i32 c_first = 0; c_first < {COLUMNS} && columns_first + c_first < end; c_first += {DEPTH})"));
        cx.sync();
        let digits = format!("const i32 c = place / {width}, f = place % {width};");
        let bound = [(self.column, "columns_first + c_first + c".to_owned()), (sum.free, "f".to_owned())];
        let condition = "columns_first + c_first + c < columns_count";
        let place = format!("f * {PIECE} + c");
        self.load(
            cx,
            &halves(&sum.side),
            ("sums_half", &format!("gr_put<{ty}>")),
            (DEPTH * width, &digits, &place),
            condition,
            &bound,
        );
        cx.sync();
        cx.line("GR_UNROLL");
        cx.open(format!("for (i32 c = 0; c < {DEPTH}; c += 16)"));
        cx.line("u32 high[4], low[4];");
        cx.line("GR_UNROLL");
        cx.open("for (i32 r = 0; r < 4; r++)");
        cx.line(format!("const i32 at = (warp_row + group + r % 2 * 8) * {PITCH} + c_first + c + pair + r / 2 * 8;"));
        cx.line(format!("gr_split<{ty}>(weights_{weights}[at], weights_{weights}[at + 1], &high[r], &low[r]);"));
        cx.close();
        let part = format!("part_sum_{number}");
        self.multiply(cx, "sums_half", "c", (fragments, dtype), &[("high", &part), ("low", &part)]);
        cx.close();
        cx.close();
    }

    /// The sums as threads share rows otherwise: `sum_s[i][f]`.
    pub(super) fn tensor_end(&self, cx: &mut Cx<'_>) {
        let each = self.each();
        for (number, width) in self.widths.iter().enumerate() {
            cx.line(format!("float sum_{number}[{each}][{}];", self.spread(number)));
            for first in (0..*width).step_by(usize::try_from(COLUMNS).expect("few columns")) {
                cx.sync();
                self.spill(cx, &format!("part_sum_{number}"), self.fragments(number), first);
                cx.sync();
                let count = (width - first).min(COLUMNS) / SIDE;
                cx.line("GR_UNROLL");
                cx.line(format!(
                    "for (i32 i = 0; i < {each}; i++) for (i32 f = 0; f < {count}; f++) sum_{number}[i][{} + f] = {}weights_0[(i * {SIDE} + row) * {PITCH} + f * {SIDE} + column];",
                    first / SIDE,
                    factor(&[&self.attend.sums[number].side])
                ));
            }
        }
    }
}
