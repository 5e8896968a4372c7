//! Attention of 16-bit floats by tensor instructions: products of tiles, and sums by weights. A warp has sixteen rows and some columns;
//! fragments go through shared memory where threads share rows otherwise. A weight is a sum of two 16-bit floats, so that sums are what
//! they are in `f32` to 16 bits at least.

use graver_ir::DType;
use graver_ir::kernel::{Attend, Side};

use super::attend::{COLUMNS, PITCH, Plan, THREADS};
use super::attend_piece::pitch;
use super::body::constant;
use super::contract::SIDE;
use super::cx::{Cx, stored};
use super::tensor::Widened;

/// What tensor instructions do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tensor {
    /// The type of the products' sides.
    pub(super) products: Option<DType>,
    /// The type of what is summed.
    pub(super) sums: Option<DType>,
}

/// The side without its constant factor.
pub(super) fn halves(side: &Side) -> Side {
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

    /// As `product`: the fragments of `sum over k`, then `product_p[i][j]` by way of the weights' memory.
    pub(super) fn tensor_product(&self, cx: &mut Cx<'_>, number: usize, dtype: DType) {
        let product = &self.attend.products[number];
        let (each, columns, fragments) = (self.each(), COLUMNS / SIDE, COLUMNS / 8 / across(self.rows));
        let (pieces, steps, depth) = (self.product_pieces(cx, number), self.steps(cx, Some(number)), self.depth(dtype));
        let pitch = pitch(depth, dtype);
        cx.line(format!("float part_{number}[{fragments}][4] = {{}};"));
        self.through(cx, &pieces, (&steps, depth), |cx| {
            cx.line("GR_UNROLL");
            cx.open(format!("for (i32 k = 0; k < {depth}; k += 16)"));
            cx.line("u32 a[4];");
            cx.unrolled("r", 4, format!(
                "a[r] = gr_pair_of(gr_at(rows_piece, rows_piece_ready + (warp_row + group + r % 2 * 8) * {pitch} + k + pair + r / 2 * 8, 2));"
            ));
            let own = format!("warp_across * {} + j * 8 + group", 8 * fragments);
            let b = format!(
                "GR_UNROLL\nfor (i32 r = 0; r < 2; r++) b[r] = gr_pair_of(gr_at(columns_piece, columns_piece_ready + ({own}) * {pitch} + k + pair + r * 8, 2));"
            );
            multiply(cx, &b, (fragments, dtype), &[("a", &format!("part_{number}"))]);
            cx.close();
        });
        // What was read of the weights is read by now, unless there was no piece.
        if self.size(product.k).as_const().is_none_or(|size| size == 0) {
            cx.sync();
        }
        self.spill(cx, &format!("part_{number}"), fragments, 0);
        cx.sync();
        cx.line(format!("float product_{number}[{each}][{columns}];"));
        cx.unrolled("i", each, format!(
            "for (i32 j = 0; j < {columns}; j++) product_{number}[i][j] = {}weights_0[(i * {SIDE} + row) * {PITCH} + j * {SIDE} + column];",
            factor(&[&product.rows, &product.columns])
        ));
    }

    /// Fragments to the weights' memory, those of columns from `first` on that it has room for.
    fn spill(&self, cx: &mut Cx<'_>, part: &str, fragments: i64, first: i64) {
        cx.open_unrolled("j", fragments);
        cx.open_unrolled("e", 4);
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
        let (fragments, ty) = (self.fragments(number), stored(dtype));
        let weights = if self.weights() == 1 { 0 } else { number };
        if self.attend.softmax.is_some() {
            cx.sync();
            cx.unrolled("j", fragments, format!(
                "for (i32 e = 0; e < 4; e++) part_sum_{number}[j][e] = gr_mul(part_sum_{number}[j][e], factors[warp_row + group + e / 2 * 8]);"
            ));
        }
        let (piece, steps, depth) = (self.sum_piece(number), self.steps(cx, None), self.depth(dtype));
        let pitch = pitch(self.widths[number], dtype);
        self.through(cx, &[piece], (&steps, depth), |cx| {
            cx.line("GR_UNROLL");
            cx.open(format!("for (i32 c = 0; c < {depth}; c += 16)"));
            cx.line("u32 high[4], low[4];");
            cx.open_unrolled("r", 4);
            cx.line(format!("const i32 at = (warp_row + group + r % 2 * 8) * {PITCH} + first + c + pair + r / 2 * 8;"));
            cx.line(format!("gr_split<{ty}>(weights_{weights}[at], weights_{weights}[at + 1], &high[r], &low[r]);"));
            cx.close();
            let (part, own) = (format!("part_sum_{number}"), format!("warp_across * {} + j * 8", 8 * fragments));
            let b = format!("gr_read_turned(b, gr_at(sums_piece, sums_piece_ready + (c + thread % 16) * {pitch} + {own}, 8));");
            multiply(cx, &b, (fragments, dtype), &[("high", &part), ("low", &part)]);
            cx.close();
        });
        cx.sync();
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
                cx.unrolled("i", each, format!(
                    "for (i32 f = 0; f < {count}; f++) sum_{number}[i][{} + f] = {}weights_0[(i * {SIDE} + row) * {PITCH} + f * {SIDE} + column];",
                    first / SIDE,
                    factor(&[&self.attend.sums[number].side])
                ));
            }
        }
    }
}

/// Multiplies left fragments by those that a text reads, added to fragments of the result.
fn multiply(cx: &mut Cx<'_>, read: &str, (fragments, dtype): (i64, DType), pairs: &[(&str, &str)]) {
    cx.open_unrolled("j", fragments);
    cx.line("u32 b[2];");
    read.lines().for_each(|line| cx.line(line));
    pairs.iter().for_each(|(a, to)| cx.line(format!("gr_mma_{}({to}[j], {a}, b);", dtype.name())));
    cx.close();
}
