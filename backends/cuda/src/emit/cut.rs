//! Contractions of few tiles and a long `k`: it is cut into shares, whose number is a function of sizes. Blocks take tiles and shares and
//! leave sums in memory; a second phase adds them in order, and does the epilogue. No bit depends on blocks or on time.

use graver_ir::Dim;
use graver_ir::kernel::Kernel;

use super::body::Given;
use super::contract::Tiling;
use super::cx::{Cx, computed};
use super::split::ENOUGH;
use super::{Emitted, Part, THREADS, finish_all};

/// Terms of a share at least, and of a sum that is cut.
const SHARE: i64 = 512;
const LEAST: i64 = 2048;
/// Tiles and shares that keep a GPU busy.
const BUSY: i64 = 128;

/// How many sums each sum is cut into, if that is worth another phase.
pub(super) fn shares(tiling: &Tiling<'_>, tile: [i64; 2]) -> Option<Dim> {
    let tiles: Dim = tiling.tiles(tile).into_iter().product();
    let (most, depth) = (tiles.bounds().hi, tiling.count(&tiling.k));
    if most > ENOUGH || depth.bounds().hi < LEAST || depth.as_const().is_some_and(|depth| depth < LEAST) {
        return None;
    }
    let shares = depth.ceil_div(&Dim::from(SHARE));
    Some(shares.min_with(&Dim::from(BUSY / most.max(1))).max_with(&Dim::ONE))
}

/// Where the sum of a share is, of these numbers.
pub(super) fn place(cx: &mut Cx<'_>, tiling: &Tiling<'_>, [share, batch, row, column]: [&str; 4]) -> String {
    let [batches, rows, columns] =
        [&tiling.batch, &tiling.rows.axes, &tiling.columns.axes].map(|axes| cx.dim(&tiling.count(axes)));
    let (ty, size) = (computed(tiling.contract.acc), tiling.contract.acc.size());
    let line = format!("(((i64){share} * {batches} + {batch}) * {rows} + {row})");
    format!("gr_place<{ty}>(scratch, ({line} * {columns} + {column}) * {size})")
}

/// The kernel of both phases.
pub(super) fn finish<'a>(sums: Part<'a>, kernel: &'a Kernel, tiling: &Tiling<'_>) -> Emitted {
    let shares = tiling.shares.clone().unwrap_or(Dim::ONE);
    let [batch, rows, columns] = [&tiling.batch, &tiling.rows.axes, &tiling.columns.axes].map(|axes| tiling.count(axes));
    let count = batch * &rows * &columns;
    let bytes = &count * &shares * Dim::from(tiling.contract.acc.size());
    let mut cx = Cx::new(kernel);
    let [total, rows, columns, all] = [&count, &rows, &columns, &shares].map(|dim| cx.dim(dim));
    cx.open(format!("for (idx point = gr_block() * {THREADS} + gr_thread(); point < {total}; point += gr_blocks() * {THREADS})"));
    cx.line(format!("const idx line = gr_quotient<idx>(point, {columns}), column = point - line * {columns};"));
    cx.line(format!("const idx batch = gr_quotient<idx>(line, {rows}), row = line - batch * {rows};"));
    let axes = &tiling.contract.axes;
    cx.bind_digits(&tiling.batch, axes, "batch");
    cx.bind_digits(&tiling.rows.axes, axes, "row");
    cx.bind_digits(&tiling.columns.axes, axes, "column");
    let ty = computed(tiling.contract.acc);
    let first = place(&mut cx, tiling, ["0", "batch", "row", "column"]);
    let next = place(&mut cx, tiling, ["share", "batch", "row", "column"]);
    cx.line(format!("{ty} sum = {first};"));
    cx.line(format!("for (i32 share = 1; share < (i32){all}; share++) sum = gr_add(sum, {next});"));
    let values = cx.body(&tiling.contract.epilogue, Given::Acc("sum"));
    tiling.contract.stores.iter().for_each(|store| cx.store(store, &values));
    cx.close();
    finish_all(vec![sums, Part { cx, threads: THREADS, blocks: count.ceil_div(&Dim::from(THREADS)) }], &bytes)
}
