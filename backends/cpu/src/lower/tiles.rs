//! Nests of which some accesses are contiguous along the axis over lanes and others along another one: in tiles of both. What lies
//! across is transposed in registers, square by square, into scratch memory before a tile is visited, or out of it afterwards.

use graver_ir::kernel::{Access, Body, Bounds, Index, InstKind, Nest, Store, ValueId};
use graver_ir::{DType, Dim};

use super::body::{Given, Nothing};
use super::cx::{At, Cx};
use super::loops::bind;
use super::nest::{block, stage_work};
use super::{Lowered, Phase};
use crate::vector::{Binary, Elem, Load, Op, Pattern, TABLE_LANES, Transpose, Val};

/// Lanes of a tile.
const WIDE: i64 = 64;
/// Its rows.
const HIGH: i64 = 16;
/// Bytes of a row of a tile.
const LINE: i64 = WIDE * 4;
/// Elements of a square.
const SQUARE: i64 = HIGH;

/// What lies across, of the only stage: loads by their values' numbers, and stores by theirs.
pub(super) struct Across {
    loads: Vec<usize>,
    stores: Vec<usize>,
}

impl Across {
    /// Whether an access lies across, and may be transposed.
    fn is(cx: &Cx<'_>, (arg, index): (usize, &[Index]), [lane, row]: [usize; 2]) -> bool {
        let arg = cx.arg(arg);
        let words = matches!(arg.dtype, DType::F32 | DType::I32 | DType::U32);
        if !words || index.iter().any(|index| matches!(index, Index::Value(..))) {
            return false;
        }
        let offset: Dim = index.iter().zip(&arg.strides).map(|(index, stride)| index.dim() * stride).sum();
        let along = |axis: usize| offset.along(axis).map(|(slope, _)| slope);
        let (over_lanes, over_rows) = (along(lane), along(row));
        over_rows.is_some_and(|slope| slope.is(1)) && over_lanes.is_some_and(|slope| !slope.is(0) && !slope.is(1))
    }

    /// What lies across of a nest whose outer axes these are; `None` if that is nothing, or the nest is of another kind.
    pub(super) fn find(cx: &Cx<'_>, nest: &Nest, axes: [usize; 2]) -> Option<Self> {
        let [stage] = nest.stages.as_slice() else { return None };
        if cx.lanes != TABLE_LANES || !stage.reductions.is_empty() {
            return None;
        }
        let is_load = |(value, access): (ValueId, &Access)| {
            let proven = matches!(access.bounds, Bounds::Proven);
            (proven && Self::is(cx, (access.arg, &access.index), axes)).then_some(value.index())
        };
        let loads: Vec<usize> = stage.body.loads().filter_map(is_load).collect();
        let is_store = |store: &Store| Self::is(cx, (store.arg, &store.index), axes);
        let stores: Vec<usize> = (0..stage.stores.len()).filter(|place| is_store(&stage.stores[*place])).collect();
        (!loads.is_empty() || !stores.is_empty()).then_some(Self { loads, stores })
    }
}

/// The nest in tiles of the axes `[lane, row]`, one after the other along rows; `rest` are its other axes.
pub(super) fn lower(mut cx: Cx<'_>, nest: &Nest, across: &Across, [lane, row]: [usize; 2], rest: &[usize]) -> Lowered {
    let stage = &nest.stages[0];
    let mut points: Vec<Dim> = rest.iter().map(|axis| nest.axes[*axis].clone()).collect();
    points.extend([nest.axes[lane].ceil_div(&Dim::from(WIDE)), nest.axes[row].ceil_div(&Dim::from(HIGH))]);
    let mut tiles = |count: usize| (0..count).map(|_| cx.take_scratch(&Dim::from(LINE * HIGH))).collect::<Vec<Val>>();
    let (loaded, stored) = (tiles(across.loads.len()), tiles(across.stores.len()));
    cx.parallel(&points, &mut |cx, digits| {
        bind(cx, rest, digits);
        let one = cx.b.int(1);
        let [lanes, rows] = [(lane, rest.len(), WIDE), (row, rest.len() + 1, HIGH)].map(|(axis, place, length)| {
            let next = cx.b.add(digits[place], one);
            block(cx, digits[place], next, length, &nest.axes[axis])
        });
        let tile = Tile { nest, across, axes: [lane, row], lanes, rows };
        for (value, to) in across.loads.iter().zip(&loaded) {
            let InstKind::Load(access) = &stage.body.insts[*value].kind else { unreachable!("a load was found") };
            tile.fetch_next(cx, access);
            tile.squares(cx, (access.arg, &access.index), *to, Way::In);
        }
        tile.visit(cx, &loaded, &stored);
        for (place, from) in across.stores.iter().zip(&stored) {
            let store = &stage.stores[*place];
            tile.squares(cx, (store.arg, &store.index), *from, Way::Out);
        }
    });
    let phase =
        Phase { func: cx.b.finish(), extent: points.iter().product(), scratch: cx.scratch, work: stage_work(nest, stage) };
    Lowered::new(vec![phase], Dim::ZERO)
}

/// Where a square goes: into a tile, or out of it.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

/// A tile that is being visited.
struct Tile<'a> {
    nest: &'a Nest,
    across: &'a Across,
    /// Over lanes, and of rows.
    axes: [usize; 2],
    /// Where its lanes begin and end.
    lanes: (Val, Val),
    rows: (Val, Val),
}

impl Tile<'_> {
    /// Has what lies across in the next tile be fetched: a cache line a lane, which are more places than the machine would follow.
    fn fetch_next(&self, cx: &mut Cx<'_>, access: &Access) {
        let [lane, row] = self.axes;
        let open = cx.b.open_loop(self.lanes.0, self.lanes.1, 1, Vec::new());
        let high = cx.b.int(HIGH);
        (cx.at[lane], cx.at[row]) = (At::One(open.var), At::One(cx.b.add(self.rows.0, high)));
        let (offset, _) = cx.offset(access.arg, &access.index, &[]);
        let base = cx.b.op(Op::Arg(access.arg));
        let (ptr, _) = cx.place(base, &offset, None, cx.arg(access.arg).dtype);
        (cx.at[lane], cx.at[row]) = (At::Unbound, At::Unbound);
        cx.b.prefetch(ptr);
        cx.b.close_loop(open, Vec::new());
    }

    /// Copies what lies across into or out of scratch memory: elements `[lane][row]` there are `[row][lane]` here.
    fn squares(&self, cx: &mut Cx<'_>, (arg, index): (usize, &[Index]), tile: Val, way: Way) {
        let [lane, row] = self.axes;
        let dtype = cx.arg(arg).dtype;
        let open = cx.b.open_loop(self.lanes.0, self.lanes.1, SQUARE, Vec::new());
        (cx.at[lane], cx.at[row]) = (At::One(open.var), At::One(self.rows.0));
        let (offset, _) = cx.offset(arg, index, &[]);
        let base = cx.b.op(Op::Arg(arg));
        let (there, _) = cx.place(base, &offset, None, dtype);
        (cx.at[lane], cx.at[row]) = (At::Unbound, At::Unbound);
        let slope = offset.along(lane).expect("what lies across is linear in lanes").0;
        let (stride, line) = (cx.value(&(slope * Dim::from(dtype.size()))), cx.b.int(LINE));
        let (four, left) = (cx.b.int(4), cx.b.sub(open.var, self.lanes.0));
        let left = cx.b.mul(left, four);
        let here = cx.b.add(tile, left);
        let (lanes, rows) = (cx.b.sub(self.lanes.1, open.var), cx.b.sub(self.rows.1, self.rows.0));
        let lanes_of_square = cx.b.int(SQUARE);
        let lanes = cx.b.binary(Binary::Min, lanes, lanes_of_square);
        cx.b.transpose(match way {
            Way::In => Transpose { from: there, from_stride: stride, to: here, to_stride: line, rows: lanes, columns: rows },
            Way::Out => Transpose { from: here, from_stride: line, to: there, to_stride: stride, rows, columns: lanes },
        });
        cx.b.close_loop(open, Vec::new());
    }

    /// Every point, row by row.
    fn visit(&self, cx: &mut Cx<'_>, loaded: &[Val], stored: &[Val]) {
        let ([lane, row], stage) = (self.axes, &self.nest.stages[0]);
        let open = cx.b.open_loop(self.rows.0, self.rows.1, 1, Vec::new());
        cx.at[row] = At::One(open.var);
        // From a tile's beginning to where lane 0 would be in this row.
        let (line, four) = (cx.b.int(LINE), cx.b.int(4));
        let number = cx.b.sub(open.var, self.rows.0);
        let (down, left) = (cx.b.mul(number, line), cx.b.mul(self.lanes.0, four));
        let shift = cx.b.sub(down, left);
        let [loaded, stored] =
            [loaded, stored].map(|tiles| tiles.iter().map(|tile| cx.b.add(*tile, shift)).collect::<Vec<Val>>());
        let mut given = Lines { across: self.across, body: &stage.body, lines: loaded };
        cx.ahead = Some((row, HIGH));
        cx.swept(lane, self.lanes.0, self.lanes.1, 1, &mut |cx| {
            let values = cx.body(&stage.body, &mut given);
            for (place, store) in stage.stores.iter().enumerate() {
                let Some(tile) = self.across.stores.iter().position(|across| *across == place) else {
                    cx.store(store, &values);
                    continue;
                };
                let dtype = cx.arg(store.arg).dtype;
                let (value, ptr) = (cx.b.cast(values[store.value.index()], Elem::of(dtype)), in_line(cx, stored[tile]));
                cx.b.store(ptr, dtype, Pattern::Contiguous, value);
            }
        });
        cx.ahead = None;
        cx.at[row] = At::Unbound;
        cx.b.close_loop(open, Vec::new());
    }
}

/// Loads that were transposed: where each one's row of the tile is.
struct Lines<'a> {
    across: &'a Across,
    body: &'a Body,
    lines: Vec<Val>,
}

impl Given for Lines<'_> {
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> Val {
        Nothing.reduced(cx, stage, slot)
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        Nothing.acc(cx)
    }

    fn known(&mut self, cx: &mut Cx<'_>, value: usize) -> Option<Val> {
        let tile = self.across.loads.iter().position(|load| *load == value)?;
        let ptr = in_line(cx, self.lines[tile]);
        let dtype = self.body.insts[value].dtype;
        Some(cx.b.load_now(Load { ptr, dtype, pattern: Pattern::Contiguous, mask: None }))
    }
}

/// The lanes' place in a row of which lane 0 would be at `line`.
fn in_line(cx: &mut Cx<'_>, line: Val) -> Val {
    let Some(At::Lane(first)) = cx.lane_axis().map(|axis| cx.at[axis]) else { unreachable!("a sweep is open") };
    let four = cx.b.int(4);
    let bytes = cx.b.mul(first, four);
    cx.b.add(line, bytes)
}
