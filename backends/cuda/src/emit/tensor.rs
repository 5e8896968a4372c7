//! Contractions of 16-bit floats by tensor instructions: a warp's tiles of 16 x 8 x 16, sums in `f32`. Tiles of both sides lie in
//! shared memory with `k` innermost, twice: the next ones are copied while the present ones are multiplied. Eight elements are read at
//! once, along `k` or along a side's own axis.

use graver_ir::kernel::{Access, Body, Bounds, Contract, InstKind, Side, ValueId};
use graver_ir::{DType, Dim, Scalar, ScalarFn};

use super::body::Given;
use super::contract::{Operand, Tiling};
use super::cx::{Cx, stored};
use super::nest::known_offset;

/// Threads of a block: four warps, two by two.
pub(super) const THREADS: i64 = 128;
/// Rows and columns of a block's tile; a warp has a quarter.
pub(super) const TILE: i64 = 64;
/// Positions of `k` in a tile.
const DEPTH: i64 = 32;
/// A row of a tile in shared memory, in elements: eight more than it holds, so that a warp's rows lie in different banks.
const PITCH: i64 = DEPTH + 8;
/// Elements that are copied at once.
const CHUNK: i64 = 8;
/// Rows, columns and terms from which tiles pay.
const LEAST: i64 = 8;

/// The type of both sides, if tensor instructions multiply it and the sizes are worth it.
pub(super) fn dtype(contract: &Contract) -> Option<DType> {
    let [a, b] = [&contract.a, &contract.b].map(element);
    let (a, b) = (a?, b?);
    let (ty, other) = (contract.a.body.dtype(a), contract.b.body.dtype(b));
    let large = [contract.m, contract.n, contract.k].into_iter().all(|axes| {
        let size: Dim = axes.iter().map(|axis| contract.axes[axis].clone()).product();
        size.as_const().is_none_or(|size| size >= LEAST)
    });
    (ty == other && large && contract.acc == DType::F32).then_some(ty)
}

/// A side that is a 16-bit value widened, times a constant.
#[derive(Clone, Copy)]
pub(super) struct Widened {
    pub(super) dtype: DType,
    pub(super) value: ValueId,
    pub(super) factor: Option<Scalar>,
}

impl Widened {
    pub(super) fn of(side: &Side) -> Option<Self> {
        let body = &side.body;
        let widened = |cast: ValueId, factor| {
            let InstKind::Cast(value) = body.inst(cast).kind else { return None };
            let dtype = body.dtype(value);
            matches!(dtype, DType::F16 | DType::BF16).then_some(Self { dtype, value, factor })
        };
        let InstKind::Map(ScalarFn::Mul, operands) = &body.inst(side.value).kind else { return widened(side.value, None) };
        let &[x, y] = operands.as_slice() else { return None };
        let times = |cast: ValueId, by: ValueId| {
            let InstKind::Const(factor) = body.inst(by).kind else { return None };
            widened(cast, Some(factor))
        };
        times(x, y).or_else(|| times(y, x))
    }
}

/// The 16-bit value that a side widens, if its last step is that.
fn element(side: &Side) -> Option<ValueId> {
    let InstKind::Cast(value) = side.body.inst(side.value).kind else { return None };
    matches!(side.body.dtype(value), DType::F16 | DType::BF16).then_some(value)
}

/// Emits the kernel; gives the number of tiles.
pub(super) fn emit(cx: &mut Cx<'_>, tiling: &Tiling<'_>, dtype: DType) -> Dim {
    let ty = stored(dtype);
    cx.line("const i32 thread = gr_thread(), lane = thread % 32, warp = thread / 32;");
    cx.line("const i32 group = lane / 4, pair = lane % 4 * 2, warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;");
    for operand in [&tiling.rows, &tiling.columns] {
        let slots = 2 * TILE * PITCH;
        let place = cx.take_shared(usize::try_from(slots).expect("few slots") * dtype.size());
        cx.line(format!("GR_LOCAL({ty}) {}_tile = gr_local<{ty}>(shared, {place}, {slots});", operand.name));
    }
    let tiles = tiling.open_tiles(cx, [TILE, TILE], DEPTH);
    cx.line("float sum[2][4][4] = {};");
    cx.line(format!("const idx steps = (k_end - k_begin + {}) / {DEPTH};", DEPTH - 1));
    // One step ahead: the copies of the step after the next barrier are under way while this one is multiplied.
    cx.open("for (idx step = -1; step < steps; step++)");
    cx.line(format!("const idx k_first = k_begin + (step + 1) * {DEPTH};"));
    cx.line(format!("const i32 half = (i32)((step + 1) & 1) * {};", TILE * PITCH));
    cx.open("if (step + 1 < steps)");
    load(cx, tiling, &tiling.rows, ty);
    load(cx, tiling, &tiling.columns, ty);
    cx.close();
    cx.line("gr_copy_commit();");
    cx.line("if (step < 0) continue;");
    cx.line("gr_copy_wait<1>();");
    cx.sync();
    multiply(cx, dtype);
    cx.sync();
    cx.close();
    cx.line("gr_copy_wait<0>();");
    epilogue(cx, tiling);
    tiling.close_tiles(cx);
    tiles
}

/// One side's tile at `k_first`; zeros outside.
fn load(cx: &mut Cx<'_>, tiling: &Tiling<'_>, operand: &Operand<'_>, ty: &str) {
    if let Some(access) = chunks(cx, tiling, operand) {
        let arg = access.arg;
        cx.open(format!("if (gr_address(gr_at(p{arg}, 0, 0)) % 16 == 0)"));
        load_chunks(cx, tiling, operand, access);
        cx.close();
        cx.open("else");
        load_elements(cx, tiling, operand, ty);
        cx.close();
    } else if let Some(access) = own_chunks(cx, tiling, operand) {
        load_turned(cx, tiling, operand, access, ty);
    } else {
        load_elements(cx, tiling, operand, ty);
    }
}

/// The load of a side that has eight neighbours at once along its own last axis, all inside or all outside.
fn own_chunks<'a>(cx: &Cx<'_>, tiling: &Tiling<'_>, operand: &Operand<'a>) -> Option<&'a Access> {
    let InstKind::Load(access) = &operand.side.body.inst(element(operand.side)?).kind else { return None };
    let axis = *operand.axes.last()?;
    let (slope, rest) = known_offset(cx, access.arg, &access.index)?.along(axis)?;
    let whole = rest.known_multiple() % CHUNK == 0 && tiling.contract.axes[axis].known_multiple() % CHUNK == 0;
    (slope.is(1) && whole && access.bounds == Bounds::Proven).then_some(access)
}

/// Reads eight neighbours of the side's own at once, and turns them: `k` is innermost in shared memory. Two threads read 32 bytes of one
/// `k`, and those of a warp write to different banks, two at a time.
fn load_turned(cx: &mut Cx<'_>, tiling: &Tiling<'_>, operand: &Operand<'_>, access: &Access, ty: &str) {
    let (name, arg) = (operand.name, access.arg);
    cx.open_unrolled("e", TILE * DEPTH / CHUNK / THREADS);
    cx.line(format!(
        "const i32 place = e * {THREADS} + thread, own = (place % 2 + place / {} * 2) * {CHUNK}, k = place / 2 % {DEPTH};",
        2 * DEPTH
    ));
    cx.line(format!("gr_pack<{ty}, {CHUNK}> turned;"));
    cx.line("turned.quad = gr_quad{{0, 0, 0, 0}};");
    cx.open(format!("if ({name}_first + own < {name}_count && k_first + k < k_end)"));
    bind(cx, tiling, operand);
    let offset = cx.offset(arg, &access.index, &[]);
    cx.line(format!("turned = gr_read<{ty}, {CHUNK}>(gr_at(p{arg}, {offset}, {CHUNK}));"));
    cx.unbind(&operand.axes);
    cx.unbind(&tiling.k);
    cx.close();
    cx.unrolled("j", CHUNK, format!("{name}_tile[half + (own + j) * {PITCH} + k] = turned.at[j];"));
    cx.close();
}

/// The load of a side whose neighbours along `k` are copied as they are, eight at once.
fn chunks<'a>(cx: &Cx<'_>, tiling: &Tiling<'_>, operand: &Operand<'a>) -> Option<&'a Access> {
    let body: &Body = &operand.side.body;
    let InstKind::Load(access) = &body.inst(element(operand.side)?).kind else { return None };
    let axis = *tiling.k.last()?;
    let (slope, rest) = known_offset(cx, access.arg, &access.index)?.along(axis)?;
    let whole = slope.is(1) && rest.known_multiple() % CHUNK == 0 && tiling.contract.axes[axis].known_multiple() % CHUNK == 0;
    let zero = match access.bounds {
        Bounds::Proven => true,
        // Inside or outside together: where `k` occurs, the position is inside.
        Bounds::Fill(fill) => {
            let shape = &cx.arg(access.arg).shape;
            let alike = access.index.iter().zip(shape).all(|(index, size)| match index {
                graver_ir::kernel::Index::At(dim) => dim.axes().iter().all(|var| var.id as usize != axis) || dim.is_below(size),
                graver_ir::kernel::Index::Value(..) => false,
            });
            alike && fill.is_zero() && fill.as_f64().is_sign_positive()
        }
        Bounds::Clamp => false,
    };
    (whole && zero).then_some(access)
}

fn load_chunks(cx: &mut Cx<'_>, tiling: &Tiling<'_>, operand: &Operand<'_>, access: &Access) {
    let (name, arg, across) = (operand.name, access.arg, DEPTH / CHUNK);
    cx.open_unrolled("e", TILE * across / THREADS);
    cx.line(format!("const i32 place = e * {THREADS} + thread, own = place / {across}, k = place % {across} * {CHUNK};"));
    cx.line(format!("void* const to = gr_at({name}_tile, half + own * {PITCH} + k, {CHUNK});"));
    cx.line("bool copied = false;");
    cx.open(format!("if ({name}_first + own < {name}_count && k_first + k < k_end)"));
    bind(cx, tiling, operand);
    let inside = if access.bounds == Bounds::Proven { None } else { cx.inside(arg, &access.index, &[]) };
    let offset = cx.offset(arg, &access.index, &[]);
    cx.line(format!("copied = {};", inside.unwrap_or_else(|| "true".to_owned())));
    cx.line(format!("if (copied) gr_copy16(to, gr_at(p{arg}, {offset}, {CHUNK}));"));
    cx.unbind(&operand.axes);
    cx.unbind(&tiling.k);
    cx.close();
    cx.line("if (!copied) gr_write16(to, gr_quad{{0, 0, 0, 0}});");
    cx.close();
}

fn load_elements(cx: &mut Cx<'_>, tiling: &Tiling<'_>, operand: &Operand<'_>, ty: &str) {
    let name = operand.name;
    cx.open(format!("for (i32 e = 0; e < {}; e++)", TILE * DEPTH / THREADS));
    cx.line(format!("const i32 place = e * {THREADS} + thread;"));
    // Neighbouring threads read neighbours in memory.
    cx.line(if operand.along_own {
        format!("const i32 own = place % {TILE}, k = place / {TILE};")
    } else {
        format!("const i32 own = place / {DEPTH}, k = place % {DEPTH};")
    });
    cx.line("float element = 0.0f;");
    cx.open(format!("if ({name}_first + own < {name}_count && k_first + k < k_end)"));
    bind(cx, tiling, operand);
    let values = cx.body(&operand.side.body, Given::Nothing);
    cx.line(format!("element = {};", values[operand.side.value.index()]));
    cx.unbind(&operand.axes);
    cx.unbind(&tiling.k);
    cx.close();
    cx.line(format!("{name}_tile[half + own * {PITCH} + k] = gr_put<{ty}>(element);"));
    cx.close();
}

fn bind(cx: &mut Cx<'_>, tiling: &Tiling<'_>, operand: &Operand<'_>) {
    let own = cx.define("idx", "own", format!("{}_first + own", operand.name));
    cx.bind_digits(&operand.axes, &tiling.contract.axes, &own);
    let k = cx.define("idx", "k", "k_first + k");
    cx.bind_digits(&tiling.k, &tiling.contract.axes, &k);
}

/// The tiles that the last barrier completed: fragments as PTX lays them out, two elements a register.
fn multiply(cx: &mut Cx<'_>, dtype: DType) {
    let name = dtype.name();
    cx.line(format!("const i32 ready = (i32)(step & 1) * {};", TILE * PITCH));
    cx.line("GR_UNROLL");
    cx.open(format!("for (i32 k = 0; k < {DEPTH}; k += 16)"));
    cx.line("u32 a[2][4], b[4][2];");
    cx.open_unrolled("i", 2);
    cx.open_unrolled("r", 4);
    cx.line("const i32 row = warp_row + i * 16 + group + r % 2 * 8, at = k + pair + r / 2 * 8;");
    cx.line(format!("a[i][r] = gr_pair_of(gr_at(rows_tile, ready + row * {PITCH} + at, 2));"));
    cx.close();
    cx.close();
    cx.open_unrolled("j", 4);
    cx.open_unrolled("r", 2);
    cx.line("const i32 column = warp_column + j * 8 + group, at = k + pair + r * 8;");
    cx.line(format!("b[j][r] = gr_pair_of(gr_at(columns_tile, ready + column * {PITCH} + at, 2));"));
    cx.close();
    cx.close();
    cx.open_unrolled("i", 2);
    cx.unrolled("j", 4, format!("gr_mma_{name}(sum[i][j], a[i], b[j]);"));
    cx.close();
    cx.close();
}

/// Element `e` of a fragment: rows `group` and `group + 8`, columns `pair` and `pair + 1`.
fn epilogue(cx: &mut Cx<'_>, tiling: &Tiling<'_>) {
    let loops = [
        (&tiling.rows, "i", 2, "e / 2", "warp_row + i * 16 + group + e / 2 * 8"),
        (&tiling.columns, "j", 4, "e % 2", "warp_column + j * 8 + pair + e % 2"),
    ];
    for (_, variable, count, ..) in loops {
        cx.open_unrolled(variable, count);
    }
    cx.open_unrolled("e", 4);
    let mut owns = Vec::new();
    for (operand, .., place) in loops {
        let own = cx.define("idx", "own", format!("{}_first + {place}", operand.name));
        cx.line(format!("if ({own} >= {}_count) continue;", operand.name));
        cx.bind_digits(&operand.axes, &tiling.contract.axes, &own);
        owns.push(own);
    }
    tiling.store(cx, "sum[i][j][e]", [&owns[0], &owns[1]]);
    for (operand, ..) in loops {
        cx.unbind(&operand.axes);
    }
    (0..3).for_each(|_| cx.close());
}
