//! Contractions over tiles in shared memory. Loading a tile evaluates the sides' bodies, so windows and transposed operands are
//! loaded like any other. The sum over `k` goes in order, one term after the other, whatever the tiles; where these are few and `k` is
//! long, in shares whose sums a second phase adds in order (`cut`).

use graver_ir::Dim;
use graver_ir::kernel::{AxisSet, Contract, Index, Side};

use super::body::Given;
use super::cx::{Cx, computed};
use super::nest::{self, known_offset};
use super::{Emitted, Part, cut, finish, tensor};

/// Positions of `k` in a tile.
const DEPTH: i64 = 16;
/// Elements of the result that a thread has along each direction at most.
const EACH: i64 = 4;
/// Threads along each direction.
pub(super) const SIDE: i64 = 16;

pub(super) fn emit(mut cx: Cx<'_>, contract: &Contract) -> Emitted {
    let Some(mut tiling) = Tiling::new(&cx, contract) else { return nest::emit(cx, &contract.as_nest()) };
    let dtype = tensor::dtype(contract);
    let (threads, tile) = match dtype {
        Some(_) => (tensor::THREADS, [tensor::TILE; 2]),
        None => (SIDE * SIDE, [tiling.rows.extent(), tiling.columns.extent()]),
    };
    tiling.shares = cut::shares(&tiling, tile);
    let blocks = match dtype {
        Some(dtype) => tensor::emit(&mut cx, &tiling, dtype),
        None => tiling.emit(&mut cx),
    };
    if tiling.shares.is_some() {
        let kernel = cx.kernel;
        return cut::finish(Part { cx, threads, blocks }, kernel, &tiling);
    }
    finish(cx, threads, blocks)
}

/// Who is what in the tiles.
pub(super) struct Tiling<'a> {
    pub(super) contract: &'a Contract,
    /// The side whose positions are far apart in the result.
    pub(super) rows: Operand<'a>,
    /// The side whose positions are neighbours in the result.
    pub(super) columns: Operand<'a>,
    pub(super) batch: Vec<usize>,
    /// The order of summation: the innermost last.
    pub(super) k: Vec<usize>,
    /// How many sums each sum is cut into.
    pub(super) shares: Option<Dim>,
}

/// A side and its own axes, in the order in which the result's rows or columns are numbered.
pub(super) struct Operand<'a> {
    pub(super) name: &'static str,
    pub(super) side: &'a Side,
    pub(super) axes: Vec<usize>,
    /// Elements that a thread has of them.
    each: i64,
    /// Whether it is contiguous along the last of its own axes, rather than along `k`.
    pub(super) along_own: bool,
}

impl Operand<'_> {
    /// Of a tile.
    fn extent(&self) -> i64 {
        self.each * SIDE
    }

    /// A tile's row of `k` in shared memory: one more than it holds, so that columns of it lie in different banks.
    fn pitch(&self) -> i64 {
        self.extent() + 1
    }
}

impl<'a> Tiling<'a> {
    fn new(cx: &Cx<'_>, contract: &'a Contract) -> Option<Self> {
        let size = |set: AxisSet| -> Dim { set.iter().map(|axis| contract.axes[axis].clone()).product() };
        let short = |set: AxisSet| size(set).as_const().is_some_and(|size| size <= 1);
        // A vector is as well done by rows and columns.
        if short(contract.m) || short(contract.n) || short(contract.k) {
            return None;
        }
        let contiguous = |set: AxisSet| {
            let store = contract.stores.first()?;
            set.iter().find(|axis| slope_is_one(cx, store.arg, &store.index, *axis) && !contract.axes[*axis].is(1))
        };
        let swapped = contiguous(contract.n).is_none() && contiguous(contract.m).is_some();
        let (a, b) = ((&contract.a, contract.m), (&contract.b, contract.n));
        let (row, column) = if swapped { (b, a) } else { (a, b) };
        let mut k: Vec<usize> = contract.k.iter().collect();
        if let Some(best) = k.iter().copied().max_by_key(|axis| contiguous_loads(cx, contract, row.0, *axis)) {
            k.retain(|axis| *axis != best);
            k.push(best);
        }
        let operand = |name: &'static str, (side, own): (&'a Side, AxisSet), last: Option<usize>| {
            let best = own.iter().max_by_key(|axis| contiguous_loads(cx, contract, side, *axis));
            let last = last.or(best);
            let axes: Vec<usize> = own.iter().filter(|axis| Some(*axis) != last).chain(last).collect();
            let loads = |axis: Option<&usize>| axis.map_or(0, |axis| contiguous_loads(cx, contract, side, *axis));
            let along_own = loads(axes.last()) > loads(k.last());
            let each = size(own).as_const().map_or(EACH, |size| ((size + SIDE - 1) / SIDE).clamp(1, EACH));
            Operand { name, side, axes, each, along_own }
        };
        let rows = operand("rows", row, None);
        let columns = operand("columns", column, contiguous(column.1));
        Some(Self { contract, rows, columns, batch: contract.batch.iter().collect(), k, shares: None })
    }

    pub(super) fn count(&self, axes: &[usize]) -> Dim {
        axes.iter().map(|axis| self.contract.axes[*axis].clone()).product()
    }

    /// Tiles of so many rows and columns, by direction.
    pub(super) fn tiles(&self, [rows, columns]: [i64; 2]) -> [Dim; 3] {
        let tiles_of = |operand: &Operand<'_>, extent: i64| self.count(&operand.axes).ceil_div(&Dim::from(extent));
        [self.count(&self.batch), tiles_of(&self.rows, rows), tiles_of(&self.columns, columns)]
    }

    /// Opens the loop over tiles of so many rows and columns, and over shares of `k`, in steps of `depth`; gives their number.
    pub(super) fn open_tiles(&self, cx: &mut Cx<'_>, tile @ [rows, columns]: [i64; 2], depth: i64) -> Dim {
        let [batch, down, across] = self.tiles(tile);
        let tiles = batch * &down * &across * self.shares.as_ref().unwrap_or(&Dim::ONE);
        let total = cx.dim(&tiles);
        let [m, n, k] = [&self.rows.axes, &self.columns.axes, &self.k].map(|axes| cx.dim(&self.count(axes)));
        cx.line(format!("const idx rows_count = {m}, columns_count = {n}, depth = {k};"));
        match &self.shares {
            None => {
                cx.open(format!("for (idx tile = gr_block(); tile < {total}; tile += gr_blocks())"));
                cx.line("const idx k_begin = 0, k_end = depth;");
            }
            Some(shares) => {
                let shares = cx.dim(shares);
                cx.line(format!("const idx steps_of_all = gr_quotient<idx>(depth + {}, {depth});", depth - 1));
                cx.line(format!("const idx span = gr_quotient<idx>(steps_of_all + {shares} - 1, {shares}) * {depth};"));
                cx.open(format!("for (idx unit = gr_block(); unit < {total}; unit += gr_blocks())"));
                cx.line(format!("const idx tile = gr_quotient<idx>(unit, {shares}), share = unit - tile * {shares};"));
                cx.line("const idx k_begin = share * span, k_end = gr_lesser<idx>(k_begin + span, depth);");
            }
        }
        let across = cx.dim(&across);
        let line = cx.define("idx", "line", format!("gr_quotient<idx>(tile, {across})"));
        cx.line(format!("const idx columns_first = (tile - {line} * {across}) * {columns};"));
        let down = cx.dim(&down);
        cx.line(format!("const idx batch = gr_quotient<idx>({line}, {down});"));
        cx.line(format!("const idx rows_first = ({line} - batch * {down}) * {rows};"));
        cx.bind_digits(&self.batch, &self.contract.axes, "batch");
        tiles
    }

    /// What becomes of a sum whose row and column are bound: the epilogue, or the sum of a share for another phase.
    pub(super) fn store(&self, cx: &mut Cx<'_>, sum: &str, [row, column]: [&str; 2]) {
        if self.shares.is_some() {
            let place = cut::place(cx, self, ["share", "batch", row, column]);
            cx.line(format!("{place} = {sum};"));
            return;
        }
        let values = cx.body(&self.contract.epilogue, Given::Acc(sum));
        self.contract.stores.iter().for_each(|store| cx.store(store, &values));
    }

    pub(super) fn close_tiles(&self, cx: &mut Cx<'_>) {
        cx.unbind(&self.batch);
        cx.close();
    }

    /// Emits the kernel; gives the number of tiles.
    fn emit(&self, cx: &mut Cx<'_>) -> Dim {
        cx.line("const i32 thread = gr_thread();");
        cx.line(format!("const i32 row = thread / {SIDE}, column = thread % {SIDE};"));
        let tile_of = |cx: &mut Cx<'_>, operand: &Operand<'_>| {
            let (ty, slots) = (computed(self.contract.acc), DEPTH * operand.pitch());
            let place = cx.take_shared(usize::try_from(slots).expect("few slots") * self.contract.acc.size());
            cx.line(format!("GR_LOCAL({ty}) {}_tile = gr_local<{ty}>(shared, {place}, {slots});", operand.name));
        };
        tile_of(cx, &self.rows);
        tile_of(cx, &self.columns);
        let tiles = self.open_tiles(cx, [self.rows.extent(), self.columns.extent()], DEPTH);
        self.sum(cx);
        self.epilogue(cx);
        self.close_tiles(cx);
        tiles
    }

    /// The tile's sums: `sum[i][j]` is at row `i * SIDE + row` and column `j * SIDE + column`.
    fn sum(&self, cx: &mut Cx<'_>) {
        let ty = computed(self.contract.acc);
        let (rows, columns) = (self.rows.each, self.columns.each);
        cx.line(format!("{ty} sum[{rows}][{columns}] = {{}};"));
        cx.open(format!("for (idx k_first = k_begin; k_first < k_end; k_first += {DEPTH})"));
        self.load(cx, &self.rows);
        self.load(cx, &self.columns);
        cx.sync();
        cx.open_unrolled("k", DEPTH);
        for (operand, place) in [(&self.rows, "row"), (&self.columns, "column")] {
            let (name, each, pitch) = (operand.name, operand.each, operand.pitch());
            cx.line(format!("{ty} {name}[{each}];"));
            cx.unrolled("i", each, format!("{name}[i] = {name}_tile[k * {pitch} + i * {SIDE} + {place}];"));
        }
        cx.open_unrolled("i", rows);
        cx.unrolled("j", columns, "sum[i][j] = gr_mad(rows[i], columns[j], sum[i][j]);");
        cx.close();
        cx.close();
        cx.sync();
        cx.close();
    }

    /// A tile of a side from its body; zeros outside.
    fn load(&self, cx: &mut Cx<'_>, operand: &Operand<'_>) {
        let (name, extent, pitch) = (operand.name, operand.extent(), operand.pitch());
        let threads = SIDE * SIDE;
        cx.open_unrolled("e", extent * DEPTH / threads);
        // Neighbouring threads read neighbours in memory.
        cx.line(format!("const i32 place = e * {threads} + thread;"));
        let (own, k) = if operand.along_own {
            (format!("place % {extent}"), format!("place / {extent}"))
        } else {
            (format!("place / {DEPTH}"), format!("place % {DEPTH}"))
        };
        cx.line(format!("const i32 own = {own}, k = {k};"));
        let ty = computed(self.contract.acc);
        cx.line(format!("{ty} element = ({ty})0;"));
        cx.open(format!("if ({name}_first + own < {name}_count && k_first + k < k_end)"));
        let own = cx.define("idx", "own", format!("{name}_first + own"));
        cx.bind_digits(&operand.axes, &self.contract.axes, &own);
        let k = cx.define("idx", "k", "k_first + k");
        cx.bind_digits(&self.k, &self.contract.axes, &k);
        let values = cx.body(&operand.side.body, Given::Nothing);
        cx.line(format!("element = {};", values[operand.side.value.index()]));
        cx.unbind(&operand.axes);
        cx.unbind(&self.k);
        cx.close();
        cx.line(format!("{name}_tile[k * {pitch} + own] = element;"));
        cx.close();
    }

    fn epilogue(&self, cx: &mut Cx<'_>) {
        let mut owns = Vec::new();
        for (operand, variable, place) in [(&self.rows, "i", "row"), (&self.columns, "j", "column")] {
            let (name, each) = (operand.name, operand.each);
            cx.open_unrolled(variable, each);
            let own = cx.define("idx", "own", format!("{name}_first + {variable} * {SIDE} + {place}"));
            cx.line(format!("if ({own} >= {name}_count) continue;"));
            cx.bind_digits(&operand.axes, &self.contract.axes, &own);
            owns.push(own);
        }
        self.store(cx, "sum[i][j]", [&owns[0], &owns[1]]);
        cx.unbind(&self.rows.axes);
        cx.unbind(&self.columns.axes);
        cx.close();
        cx.close();
    }
}

/// Loads of a side that are contiguous along an axis; more where it is long.
fn contiguous_loads(cx: &Cx<'_>, contract: &Contract, side: &Side, axis: usize) -> i64 {
    let short = contract.axes[axis].as_const().is_some_and(|size| size < 4);
    let loads = side.body.loads().filter(|(_, access)| slope_is_one(cx, access.arg, &access.index, axis)).count();
    i64::try_from(loads).unwrap_or(0) * if short { 1 } else { 4 }
}

fn slope_is_one(cx: &Cx<'_>, arg: usize, index: &[Index], axis: usize) -> bool {
    let offset = known_offset(cx, arg, index);
    offset.and_then(|offset| offset.along(axis)).is_some_and(|(slope, _)| slope.is(1))
}
