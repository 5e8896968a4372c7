//! Few rows against a side that is large: nothing is packed, since every element is used as often as there are rows. The large
//! side is read where it lies, in the order of its memory, each element once.
//!
//! Along its own axis: a point is a range of `k` and of columns, whose sums stay in a first-level cache while several rows of the
//! large side go by at once; a second phase adds up the ranges of `k`. Along `k`: a point is a column, whose products go over
//! lanes. Ranges depend on sizes alone.

mod dots;

use graver_ir::kernel::{AxisSet, Contract, Side};
use graver_ir::{DType, Dim};

use super::super::body::{Given, Nothing};
use super::super::cx::{At, Cx};
use super::super::{Lowered, Phase};
use super::sides::slope;
use super::tile::{bind, epilogue};
use crate::vector::{Binary, Elem, Load, Pattern, Val};

/// So many rows are few.
const FEW: i64 = 4;
/// Columns at least, and `k` at least.
const MANY: i64 = 64;
/// Columns of a point.
const COLUMNS: i64 = 1024;
/// Ranges of `k`, where columns are not points enough.
const RANGES: i64 = 8;
/// `k` of a range at least.
const RANGE: i64 = 64;

/// Who is what.
pub(super) struct Stream<'a> {
    contract: &'a Contract,
    few: (&'a Side, Vec<usize>),
    many: (&'a Side, Vec<usize>),
    k: Vec<usize>,
    batch: Vec<usize>,
    rows: i64,
    elem: Elem,
    along_own: bool,
}

impl<'a> Stream<'a> {
    /// For a side of few rows.
    pub(super) fn new(cx: &Cx<'_>, contract: &'a Contract, elem: Elem) -> Option<Self> {
        [false, true].into_iter().find_map(|swapped| {
            let few = if swapped { contract.n } else { contract.m };
            let rows = few.iter().map(|axis| contract.axes[axis].as_const()).product::<Option<i64>>()?;
            Self::of(cx, contract, elem, (swapped, rows)).filter(|_| (1..=FEW).contains(&rows))
        })
    }

    /// For one row of a side whose number of rows is not known, with that number. What is kept packed had better be read so.
    pub(super) fn of_one(cx: &Cx<'_>, contract: &'a Contract, elem: Elem, lasting: &[bool]) -> Option<(Self, Dim)> {
        let count = |set: AxisSet| set.iter().map(|axis| contract.axes[axis].clone()).product::<Dim>();
        let (m, n) = (count(contract.m), count(contract.n));
        let (rows, swapped) = match (m.as_const(), n.as_const()) {
            (None, Some(_)) => (m, false),
            (Some(_), None) => (n, true),
            (None, None) | (Some(_), Some(_)) => return None,
        };
        let stream = Self::of(cx, contract, elem, (swapped, 1))?;
        let kept = stream.many.0.body.loads().all(|(_, access)| lasting[access.arg]);
        (!kept).then_some((stream, rows))
    }

    /// `None` unless the large side's elements are neighbours along its last own axis or along the last of `k`, and many.
    fn of(cx: &Cx<'_>, contract: &'a Contract, elem: Elem, (swapped, rows): (bool, i64)) -> Option<Self> {
        let (a, b) = ((&contract.a, contract.m), (&contract.b, contract.n));
        let ((few, few_axes), (many, many_axes)) = if swapped { (b, a) } else { (a, b) };
        let nominal = |set: AxisSet| set.iter().map(|axis| contract.axes[axis].nominal()).fold(1, i64::saturating_mul);
        if nominal(many_axes) < MANY || nominal(contract.k) < MANY {
            return None;
        }
        let along = |set: AxisSet| {
            let neighbours = |axis: &usize| {
                let mut slopes = many.body.loads().map(|(_, access)| slope(cx, access.arg, &access.index, *axis));
                slopes.all(|slope| slope.is_some_and(|slope| slope.is(0) || slope.is(1)))
            };
            let long = |axis: &usize| {
                contract.axes[*axis].nominal() >= MANY || set == contract.k && vectors(cx, contract, *axis).is_some()
            };
            let last = set.iter().filter(long).find(neighbours)?;
            Some(set.iter().filter(|axis| *axis != last).chain([last]).collect::<Vec<usize>>())
        };
        let order = |set: AxisSet| set.iter().collect::<Vec<usize>>();
        let (own, k) = (along(many_axes), along(contract.k));
        let along_own = own.is_some();
        if !along_own && k.is_none() {
            return None;
        }
        Some(Self {
            contract,
            few: (few, order(few_axes)),
            many: (many, own.unwrap_or_else(|| order(many_axes))),
            k: k.unwrap_or_else(|| order(contract.k)),
            batch: order(contract.batch),
            rows,
            elem,
            along_own,
        })
    }

    pub(super) fn lower(&self, cx: Cx<'_>) -> Lowered {
        if !self.along_own {
            return Lowered::new(vec![self.dots(cx)], Dim::ZERO);
        }
        let sums = self.sums(cx.again("sums"));
        let shared = self.count(&self.batch) * self.count(&self.many.1) * Dim::from(self.ranges() * self.rows * self.bytes());
        Lowered::new(vec![sums, self.finish(cx)], shared)
    }

    fn count(&self, axes: &[usize]) -> Dim {
        axes.iter().map(|axis| self.contract.axes[*axis].clone()).product()
    }

    fn sizes(&self, cx: &mut Cx<'_>, axes: &[usize]) -> Vec<Val> {
        axes.iter().map(|axis| cx.value(&self.contract.axes[*axis])).collect()
    }

    fn bytes(&self) -> i64 {
        i64::try_from(self.elem.dtype().size()).expect("few bytes")
    }

    fn dtype(&self) -> DType {
        self.elem.dtype()
    }

    fn work(&self, columns: &Dim) -> Dim {
        // What counts is memory: a thread more is worth it early.
        self.count(&self.batch) * columns * self.count(&self.k) * Dim::from(self.many.0.body.insts.len() + 1)
    }

    /// The element of a side where its axes stand.
    fn element(cx: &mut Cx<'_>, side: &Side) -> Val {
        cx.body(&side.body, &mut Nothing)[side.value.index()]
    }

    /// An element of the large side, while the one so many positions further along an axis is fetched: each row of it is a new stretch of memory, which
    /// the machine fetches ahead only once it has seen some of it.
    fn fetched(&self, cx: &mut Cx<'_>, axis: usize, further: i64) -> Val {
        cx.ahead = Some((axis, further));
        let element = Self::element(cx, self.many.0);
        cx.ahead = None;
        element
    }

    /// The elements of all rows where `k` stands.
    fn row_elements(&self, cx: &mut Cx<'_>) -> Vec<Val> {
        let each = |row: i64| {
            self.bind_row(cx, row);
            Self::element(cx, self.few.0)
        };
        (0..self.rows).map(each).collect()
    }

    fn bind_row(&self, cx: &mut Cx<'_>, row: i64) {
        let sizes: Vec<i64> = self.few.1.iter().map(|axis| self.contract.axes[*axis].as_const().unwrap_or(1)).collect();
        let mut rest = row;
        for (axis, size) in self.few.1.iter().zip(sizes).rev() {
            cx.at[*axis] = At::One(cx.b.int(rest % size));
            rest /= size;
        }
    }

    // ---- along the large side's own axis

    /// Into how many ranges `k` is cut.
    fn ranges(&self) -> i64 {
        let columns = self.count(&self.many.1).as_const().unwrap_or(0);
        let most = self.count(&self.k).as_const().map_or(RANGES, |k| (k / RANGE).clamp(1, RANGES));
        if columns >= RANGES * COLUMNS { 1 } else { most }
    }

    /// Columns are cut along the axis over lanes: the lane axis, the axes before it, and how many blocks there are.
    fn blocks(&self) -> (usize, &[usize], Dim) {
        let (lane, outer) = self.many.1.split_last().expect("the large side has an axis of its own");
        (*lane, outer, self.contract.axes[*lane].ceil_div(&Dim::from(COLUMNS)))
    }

    /// The body at every point of the batch, of the outer axes of columns, and of these numbers with a block of columns.
    fn points(&self, cx: &mut Cx<'_>, ranges: Option<i64>, body: &mut Point<'_>) -> Dim {
        let (lane, outer, blocks) = self.blocks();
        let bound: Vec<usize> = self.batch.iter().chain(outer).copied().collect();
        let mut digits: Vec<Dim> = bound.iter().map(|axis| self.contract.axes[*axis].clone()).collect();
        digits.extend([Dim::from(ranges.unwrap_or(1)), blocks]);
        cx.parallel(&digits, &mut |cx, digits| {
            let [outer @ .., range, block] = digits else { unreachable!("a range and a block are the last digits") };
            bind(cx, &bound, outer);
            let (width, columns) = (cx.b.int(COLUMNS), cx.value(&self.contract.axes[lane]));
            let begin = cx.b.mul(*block, width);
            let end = cx.b.add(begin, width);
            let end = cx.b.binary(Binary::Min, end, columns);
            body(cx, *range, (begin, end));
        });
        digits.iter().product()
    }

    /// The first phase: the sums of every range of `k`.
    fn sums(&self, mut cx: Cx<'_>) -> Phase {
        let (lane, ..) = self.blocks();
        // As many products as there are registers for, and no more streams than are recognised as such.
        let steps = (i64::try_from(cx.lanes).expect("few lanes").max(8) / self.rows).clamp(1, 8);
        let length = self.count(&self.k).ceil_div(&Dim::from(self.ranges() * steps)) * Dim::from(steps);
        let extent = self.points(&mut cx, Some(self.ranges()), &mut |cx, range, (begin, end)| {
            let (length, k) = (cx.value(&length), cx.value(&self.count(&self.k)));
            let first = cx.b.mul(range, length);
            let first = cx.b.binary(Binary::Min, first, k);
            let last = cx.b.add(first, length);
            let last = cx.b.binary(Binary::Min, last, k);
            let zero = cx.b.number(self.elem, 0);
            cx.swept(lane, begin, end, 1, &mut |cx| {
                for row in 0..self.rows {
                    let (ptr, pattern) = self.place(cx, range, row);
                    cx.b.store(ptr, self.dtype(), pattern, zero);
                }
            });
            let sizes = self.sizes(cx, &self.k);
            let mut digits = cx.digits(first, &sizes);
            let all = cx.b.sub(last, first);
            let step = cx.b.int(steps);
            let tail = cx.b.binary(Binary::Rem, all, step);
            let whole = cx.b.sub(last, tail);
            for (from, to, count) in [(first, whole, steps), (whole, last, 1)] {
                let open = cx.b.open_loop(from, to, count, digits);
                let next = self.step(cx, (range, begin, end), open.params.clone(), count);
                digits = cx.b.close_loop(open, next);
            }
        });
        let work = self.work(&self.count(&self.many.1));
        Phase { func: cx.b.finish(), extent, scratch: cx.scratch, work }
    }

    /// Adds so many steps of `k` to the sums of a block; gives the digits of the next.
    fn step(&self, cx: &mut Cx<'_>, (range, begin, end): (Val, Val, Val), mut digits: Vec<Val>, count: i64) -> Vec<Val> {
        let sizes = self.sizes(cx, &self.k);
        let (lane, ..) = self.blocks();
        let mut steps = Vec::new();
        for _ in 0..count {
            bind(cx, &self.k, &digits);
            let elements = self.row_elements(cx);
            let next = cx.next_digits(&digits, &sizes);
            steps.push((std::mem::replace(&mut digits, next), elements));
        }
        cx.swept(lane, begin, end, 1, &mut |cx| {
            let mut sums = Vec::new();
            for row in 0..self.rows {
                let (ptr, pattern) = self.place(cx, range, row);
                sums.push((ptr, pattern, cx.b.load_now(Load { ptr, dtype: self.dtype(), pattern, mask: None })));
            }
            for (digits, elements) in &steps {
                bind(cx, &self.k, digits);
                let column = self.fetched(cx, *self.k.last().expect("there is k"), count);
                for ((.., sum), element) in sums.iter_mut().zip(elements) {
                    *sum = cx.b.fma(*element, column, *sum);
                }
            }
            for (ptr, pattern, sum) in sums {
                cx.b.store(ptr, self.dtype(), pattern, sum);
            }
        });
        digits
    }

    /// Where the sum of a range and a row lies, at this point of the batch and the columns.
    fn place(&self, cx: &mut Cx<'_>, range: Val, row: i64) -> (Val, Pattern) {
        let shared = cx.shared();
        let columns = self.count(&self.many.1);
        let number = cx.value(&(self.number(&self.batch) * Dim::from(self.ranges())));
        let number = cx.b.add(number, range);
        let bytes = cx.value(&(&columns * Dim::from(self.rows * self.bytes())));
        let offset = cx.b.mul(number, bytes);
        let row = cx.value(&(&columns * Dim::from(row * self.bytes())));
        let base = cx.b.add(shared, offset);
        let base = cx.b.add(base, row);
        cx.place(base, &self.number(&self.many.1), None, self.dtype())
    }

    /// The row-major number of a point over some axes.
    fn number(&self, axes: &[usize]) -> Dim {
        super::number(&self.contract.axes, axes)
    }

    /// The second phase: the sum over all ranges, and the epilogue.
    fn finish(&self, mut cx: Cx<'_>) -> Phase {
        let (lane, ..) = self.blocks();
        let extent = self.points(&mut cx, None, &mut |cx, _, (begin, end)| {
            for row in 0..self.rows {
                self.bind_row(cx, row);
                cx.swept(lane, begin, end, 1, &mut |cx| epilogue(cx, self.contract, &mut Ranges { stream: self, row }));
            }
        });
        let results = self.count(&self.batch) * self.count(&self.many.1) * Dim::from(self.rows);
        let work = results * Dim::from(self.ranges() + 1);
        Phase { func: cx.b.finish(), extent, scratch: cx.scratch, work }
    }
}

/// What is done with a range of `k` and a block of columns, from its first to its last.
type Point<'p> = dyn FnMut(&mut Cx<'_>, Val, (Val, Val)) + 'p;

/// Of how many vectors an axis is, if it is of whole ones.
fn vectors(cx: &Cx<'_>, contract: &Contract, axis: usize) -> Option<i64> {
    let lanes = i64::try_from(cx.lanes).expect("few lanes");
    contract.axes[axis].as_const().filter(|size| *size > 0 && size % lanes == 0).map(|size| size / lanes)
}

/// The sums of all ranges of `k`, in memory.
struct Ranges<'a> {
    stream: &'a Stream<'a>,
    row: i64,
}

impl Given for Ranges<'_> {
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> Val {
        Nothing.reduced(cx, stage, slot)
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        let part = |range: i64| {
            let range = cx.b.int(range);
            let (ptr, pattern) = self.stream.place(cx, range, self.row);
            cx.b.load_now(Load { ptr, dtype: self.stream.dtype(), pattern, mask: None })
        };
        let parts: Vec<Val> = (0..self.stream.ranges()).map(part).collect();
        parts.into_iter().reduce(|sum, part| cx.b.add(sum, part)).expect("there is a range")
    }
}
