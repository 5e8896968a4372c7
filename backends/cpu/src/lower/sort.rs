//! Elements in order, by merging: runs of one element, then of two, and so on, between two places of a thread's memory. Lines are parallel.
//! What is compared is computed once and moves with its position; a merge has no branches.

use graver_ir::kernel::Sort;
use graver_ir::{DType, Dim};

use super::body::Nothing;
use super::cx::{At, Cx};
use super::{Lowered, Phase};
use crate::vector::{Binary, Compare, Elem, Load, Op, Pattern, Unary, Val};

pub(super) fn lower(mut cx: Cx<'_>, sort: &Sort) -> Lowered {
    let lines: Vec<usize> = (0..sort.axes.len()).filter(|axis| *axis != sort.axis).collect();
    let sizes: Vec<Dim> = lines.iter().map(|axis| sort.axes[*axis].clone()).collect();
    let memory = Memory::take(&mut cx, sort);
    if lines.is_empty() {
        line(&mut cx, sort, &memory);
    } else {
        cx.parallel(&sizes, &mut |cx, digits| {
            for (axis, digit) in lines.iter().zip(digits) {
                cx.at[*axis] = At::One(*digit);
            }
            line(cx, sort, &memory);
        });
    }
    let levels = i64::from(levels(&sort.axes[sort.axis]));
    let work = sort.axes.iter().product::<Dim>() * Dim::from(sort.body.insts.len() + 8) * Dim::from(levels.min(20) + 1);
    let phase = Phase { func: cx.b.finish(), extent: sizes.iter().product(), scratch: cx.scratch, work };
    Lowered::new(vec![phase], Dim::ZERO)
}

/// How often runs are merged in pairs, whatever the size.
fn levels(size: &Dim) -> u32 {
    let last = u64::try_from(size.bounds().hi - 1).unwrap_or(0);
    u64::BITS - last.leading_zeros()
}

/// Twice the values of a line with their positions.
struct Memory {
    key: DType,
    keys: [Val; 2],
    positions: [Val; 2],
}

impl Memory {
    fn take(cx: &mut Cx<'_>, sort: &Sort) -> Self {
        let (key, size) = (sort.body.dtype(sort.to.value), &sort.axes[sort.axis]);
        let mut take = |dtype: DType| [(); 2].map(|()| cx.take_scratch(&(size * Dim::from(dtype.size()))));
        Self { key, keys: take(key), positions: take(DType::I64) }
    }
}

fn line(cx: &mut Cx<'_>, sort: &Sort, memory: &Memory) {
    let (zero, size) = (cx.b.int(0), cx.value(&sort.axes[sort.axis]));
    let open = cx.b.open_loop(zero, size, 1, Vec::new());
    cx.at[sort.axis] = At::One(open.var);
    let values = cx.body(&sort.body, &mut Nothing);
    put(cx, memory.keys[0], memory.key, open.var, values[sort.to.value.index()]);
    put(cx, memory.positions[0], DType::I64, open.var, open.var);
    cx.at[sort.axis] = At::Unbound;
    cx.b.close_loop(open, Vec::new());
    let positions = merged(cx, sort, memory, size);
    let open = cx.b.open_loop(zero, size, 1, Vec::new());
    cx.at[sort.axis] = At::One(open.var);
    let position = get(cx, positions, DType::I64, open.var);
    let (offset, extra) = cx.offset(sort.to.arg, &sort.to.index, &[]);
    let base = cx.b.op(Op::Arg(sort.to.arg));
    let (ptr, _) = cx.place(base, &offset, extra, DType::I64);
    cx.b.store(ptr, DType::I64, Pattern::One, position);
    cx.at[sort.axis] = At::Unbound;
    cx.b.close_loop(open, Vec::new());
}

/// All levels; where the positions are in the end. A level whose runs are as long as the line does nothing.
fn merged(cx: &mut Cx<'_>, sort: &Sort, memory: &Memory, size: Val) -> Val {
    let (zero, one, two) = (cx.b.int(0), cx.b.int(1), cx.b.int(2));
    let levels = cx.b.int(i64::from(levels(&sort.axes[sort.axis])));
    let ([keys, other_keys], [positions, other_positions]) = (memory.keys, memory.positions);
    let open = cx.b.open_loop(zero, levels, 1, vec![one, keys, other_keys, positions, other_positions]);
    let [run, keys, to_keys, positions, to_positions] = open.params[..] else { unreachable!("five values are carried") };
    let (pair, active) = (cx.b.mul(run, two), cx.b.compare(Compare::Lt, run, size));
    let (last, less) = (cx.b.add(size, pair), cx.b.int(-1));
    let last = cx.b.add(last, less);
    let pairs = cx.b.binary(Binary::Div, last, pair);
    let pairs = cx.b.select(active, pairs, zero);
    let each = cx.b.open_loop(zero, pairs, 1, Vec::new());
    let from = cx.b.mul(each.var, pair);
    let (middle, end) = (cx.b.add(from, run), cx.b.add(from, pair));
    let (middle, end) = (cx.b.binary(Binary::Min, middle, size), cx.b.binary(Binary::Min, end, size));
    let now = Level { keys, to_keys, positions, to_positions };
    merge(cx, sort, memory.key, &now, (from, middle, end));
    cx.b.close_loop(each, Vec::new());
    let next = [(to_keys, keys), (keys, to_keys), (to_positions, positions), (positions, to_positions)];
    let next = next.map(|(then, otherwise)| cx.b.select(active, then, otherwise));
    cx.b.close_loop(open, [&[pair], &next[..]].concat())[3]
}

/// Where a level reads and writes.
struct Level {
    keys: Val,
    to_keys: Val,
    positions: Val,
    to_positions: Val,
}

/// Two neighbouring runs become one: of the next of each, the second's only if it comes strictly before.
fn merge(cx: &mut Cx<'_>, sort: &Sort, key: DType, level: &Level, (from, middle, end): (Val, Val, Val)) {
    let less = cx.b.int(-1);
    let open = cx.b.open_loop(from, end, 1, vec![from, middle]);
    let [first, second] = open.params[..] else { unreachable!("two values are carried") };
    let (has_first, has_second) = (cx.b.compare(Compare::Lt, first, middle), cx.b.compare(Compare::Lt, second, end));
    // The second run may be at its end, which may be the end of all.
    let last = cx.b.add(end, less);
    let there = cx.b.binary(Binary::Min, second, last);
    let first_there = cx.b.binary(Binary::Min, first, last);
    let (x, y) = (get(cx, level.keys, key, first_there), get(cx, level.keys, key, there));
    let (before, no_first) = (comes_before(cx, sort, y, x), cx.b.unary(Unary::Not, has_first));
    let wins = cx.b.or(before, no_first);
    let takes = cx.b.and(has_second, wins);
    let (value, source) = (cx.b.select(takes, y, x), cx.b.select(takes, there, first_there));
    put(cx, level.to_keys, key, open.var, value);
    let position = get(cx, level.positions, DType::I64, source);
    put(cx, level.to_positions, DType::I64, open.var, position);
    let (step, one) = (cx.b.cast(takes, Elem::I64), cx.b.int(1));
    let stays = cx.b.sub(one, step);
    let next = vec![cx.b.add(first, stays), cx.b.add(second, step)];
    cx.b.close_loop(open, next);
}

/// Whether `y` comes strictly before `x`; NaN comes last.
fn comes_before(cx: &mut Cx<'_>, sort: &Sort, y: Val, x: Val) -> Val {
    let order = if sort.descending { Compare::Gt } else { Compare::Lt };
    if cx.b.ty(x).elem == Elem::Bool {
        let (y, x) = (cx.b.cast(y, Elem::I64), cx.b.cast(x, Elem::I64));
        return cx.b.compare(order, y, x);
    }
    let before = cx.b.compare(order, y, x);
    if !cx.b.ty(x).elem.is_float() {
        return before;
    }
    let (nan, number) = (cx.b.compare(Compare::Ne, x, x), cx.b.compare(Compare::Eq, y, y));
    let ends = cx.b.and(nan, number);
    cx.b.or(before, ends)
}

fn element(cx: &mut Cx<'_>, base: Val, dtype: DType, place: Val) -> Val {
    let bytes = cx.value(&Dim::from(dtype.size()));
    let offset = cx.b.mul(place, bytes);
    cx.b.add(base, offset)
}

fn get(cx: &mut Cx<'_>, base: Val, dtype: DType, place: Val) -> Val {
    let ptr = element(cx, base, dtype, place);
    cx.b.load_now(Load { ptr, dtype, pattern: Pattern::One, mask: None })
}

fn put(cx: &mut Cx<'_>, base: Val, dtype: DType, place: Val, value: Val) {
    let ptr = element(cx, base, dtype, place);
    cx.b.store(ptr, dtype, Pattern::One, value);
}
