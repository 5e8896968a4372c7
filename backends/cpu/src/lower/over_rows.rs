//! Nests that combine elements within rows and, of what rows compute, elements of all rows, as derivatives of norms do. A block of rows is
//! a parallel point, and goes through all stages row by row, while a row is in a cache; what is combined over rows waits in memory, one
//! number a column. A second phase combines the blocks in order, so that the number of threads does not matter, and runs what follows.

use std::collections::BTreeSet;

use graver_ir::kernel::{AxisSet, InstKind, Nest, Stage};
use graver_ir::{DType, Dim};

use super::body::{Given, Nothing};
use super::columns::identity;
use super::cx::{At, Cx};
use super::loops::bind;
use super::memo::Memos;
use super::nest::{LONGEST_AHEAD, best_lane, block, stage_work};
use super::reduce::{Results, combine, kinds};
use super::{Lowered, Phase};
use crate::vector::{Load, Pattern, Val};

/// Rows of a block.
const ROWS: i64 = 32;
/// Columns of which one parallel point combines what blocks left.
const COLUMNS: i64 = 256;

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Combines elements of a row.
    Within,
    /// Stores once a row.
    Row,
    /// Stores every element.
    Each,
    /// Combines elements of all rows.
    Over,
    /// Stores once a column, after that.
    After,
}

/// Such a nest.
pub(super) struct OverRows<'a> {
    nest: &'a Nest,
    /// By stage.
    roles: Vec<Role>,
    rows: AxisSet,
    columns: AxisSet,
    /// The axis over lanes, one of the columns'.
    lane: usize,
}

impl<'a> OverRows<'a> {
    pub(super) fn find(cx: &Cx<'_>, nest: &'a Nest) -> Option<Self> {
        let reducing = || nest.stages.iter().filter(|stage| !stage.reductions.is_empty());
        let keeps: BTreeSet<AxisSet> = reducing().map(|stage| stage.keep).collect();
        let [x, y]: [AxisSet; 2] = keeps.into_iter().collect::<Vec<_>>().try_into().ok()?;
        let all = x.union(y);
        if x.is_empty() || y.is_empty() || !x.intersection(y).is_empty() || reducing().any(|stage| stage.over != all) {
            return None;
        }
        let lane = best_lane(cx, nest, &nest.stages, all, AxisSet::EMPTY)?;
        let (rows, columns) = if x.contains(lane) { (y, x) } else { (x, y) };
        let roles = nest.stages.iter().map(|stage| role(stage, rows, columns)).collect::<Option<Vec<_>>>()?;
        let found = Self { nest, roles, rows, columns, lane };
        found.in_order().then_some(found)
    }

    /// Whether stages read what is there by then, if those that run once a column run last.
    fn in_order(&self) -> bool {
        let stages = || self.nest.stages.iter().zip(&self.roles);
        let given = |role: Role| if role == Role::After { Role::Over } else { Role::Within };
        let reads = |stage: &Stage, role: Role| {
            let of = |kind: &InstKind| if let InstKind::Reduced { stage, .. } = kind { Some(*stage) } else { None };
            stage.body.insts.iter().filter_map(|inst| of(&inst.kind)).all(|stage| self.roles[stage] == given(role))
        };
        let moves = |(place, after): (usize, &Stage)| {
            let later = || stages().skip(place + 1).filter(|(_, role)| **role != Role::After).map(|(stage, _)| stage);
            let (loads, stores) = (loaded(after), stored(after));
            later().all(|stage| loads.is_disjoint(&stored(stage)) && stores.is_disjoint(&loaded(stage)))
        };
        let mut after = stages().enumerate().filter(|(_, (_, role))| **role == Role::After);
        stages().all(|(stage, role)| reads(stage, *role)) && after.all(|(place, (stage, _))| moves((place, stage)))
    }

    pub(super) fn lower(&self, mut cx: Cx<'_>) -> Lowered {
        let mut after = cx.again("columns");
        let total = self.size(self.rows);
        let count = total.ceil_div(&Dim::from(ROWS));
        let sums = self.sums(&count);
        self.blocks(&mut cx, &total, &sums);
        let stages = || self.nest.stages.iter().zip(&self.roles);
        let work = |after: bool| {
            let own = stages().filter(|(_, role)| (**role == Role::After) == after);
            own.map(|(stage, _)| stage_work(self.nest, stage)).sum::<Dim>()
        };
        let first = Phase { func: cx.b.finish(), extent: count.clone(), scratch: cx.scratch, work: work(false) };
        let extent = self.combined(&mut after, &count, &sums);
        let work = work(true) + &count * self.size(self.columns);
        let second = Phase { func: after.b.finish(), extent, scratch: after.scratch, work };
        Lowered::new(vec![first, second], sums.bytes)
    }

    fn size(&self, axes: AxisSet) -> Dim {
        axes.iter().map(|axis| self.nest.axes[axis].clone()).product()
    }

    /// The columns' axes that are not over lanes.
    fn serial(&self) -> Vec<usize> {
        self.columns.iter().filter(|axis| *axis != self.lane).collect()
    }

    /// Where each block's numbers are.
    fn sums(&self, count: &Dim) -> Sums {
        let (mut column, mut width) = (Dim::ZERO, Dim::ONE);
        for axis in [self.lane].into_iter().chain(self.serial().into_iter().rev()) {
            let size = &self.nest.axes[axis];
            column = column + Dim::axis(u32::try_from(axis).expect("few axes"), size) * &width;
            width = width * size;
        }
        let (mut bytes, mut from) = (Dim::ZERO, Vec::new());
        for (stage, role) in self.nest.stages.iter().zip(&self.roles) {
            let mut slots = Vec::new();
            for reduction in stage.reductions.iter().filter(|_| *role == Role::Over) {
                let dtype = reduction.dtype.compute();
                slots.push((bytes.clone(), dtype));
                bytes = (&bytes + &(count * &width * Dim::from(dtype.size()))).round_up(64);
            }
            from.push(slots);
        }
        Sums { from, column, width, bytes }
    }

    /// A block of rows, one after the other.
    fn blocks(&self, cx: &mut Cx<'_>, total: &Dim, sums: &Sums) {
        let axes: Vec<usize> = self.rows.iter().collect();
        let count = total.ceil_div(&Dim::from(ROWS));
        cx.parallel(&[count], &mut |cx, digits| {
            let (number, one) = (digits[0], cx.b.int(1));
            let next = cx.b.add(number, one);
            let (first, last) = block(cx, number, next, ROWS, total);
            self.start(cx, sums, number);
            let sizes: Vec<Val> = axes.iter().map(|axis| cx.value(&self.nest.axes[*axis])).collect();
            let digits = cx.digits(first, &sizes);
            let open = cx.b.open_loop(first, last, 1, digits);
            let digits = open.params.clone();
            let after = cx.next_digits(&digits, &sizes);
            bind(cx, &axes, &digits);
            self.row(cx, sums, number);
            axes.iter().for_each(|axis| cx.at[*axis] = At::Unbound);
            cx.b.close_loop(open, after);
        });
    }

    /// Every number of a block becomes what changes nothing.
    fn start(&self, cx: &mut Cx<'_>, sums: &Sums, number: Val) {
        cx.nested(&self.nest.axes, &self.serial(), Some(self.lane), 1, &mut |cx| {
            for (place, stage) in self.nest.stages.iter().enumerate().filter(|(place, _)| self.roles[*place] == Role::Over) {
                for (slot, (kind, _)) in kinds(stage).into_iter().enumerate() {
                    let ((ptr, pattern, dtype), value) = (sums.place(cx, (place, slot), number), identity(cx, kind));
                    cx.b.store(ptr, dtype, pattern, value);
                }
            }
        });
    }

    /// A row through all stages; those that visit all of its elements and combine none of them are one sweep.
    fn row(&self, cx: &mut Cx<'_>, sums: &Sums, number: Val) {
        let lanes: Vec<Option<usize>> = self.roles.iter().map(|role| (*role != Role::Row).then_some(self.lane)).collect();
        let mut results = Results::new(Memos::find(self.nest, self.rows, &lanes));
        let ahead = self.ahead();
        let mut place = 0;
        while place < self.roles.len() {
            let stage = &self.nest.stages[place];
            cx.ahead = ahead.filter(|(stage, _)| *stage == place).map(|(_, row)| (row, 1));
            match self.roles[place] {
                Role::Within => {
                    results.push_stage(cx, self.nest, stage, self.rows, Some(self.lane));
                    place += 1;
                }
                Role::Row => {
                    let values = cx.body(&stage.body, &mut results);
                    stage.stores.iter().for_each(|store| cx.store(store, &values));
                    results.push_nothing();
                    place += 1;
                }
                Role::Each | Role::Over | Role::After => {
                    let is_swept = |role: &&Role| matches!(role, Role::Each | Role::Over | Role::After);
                    let count = self.roles[place..].iter().take_while(is_swept).count();
                    self.swept(cx, sums, number, (place, count), &mut results);
                    place += count;
                }
            }
        }
        cx.ahead = None;
    }

    /// The stage that finds the row in a cache, so that the next row's elements can be fetched meanwhile; the axis of rows.
    fn ahead(&self) -> Option<(usize, usize)> {
        let row = self.rows.iter().last().filter(|_| self.size(self.columns).nominal() <= LONGEST_AHEAD)?;
        let within = self.roles.iter().enumerate().filter(|(_, role)| **role == Role::Within);
        within.map(|(place, _)| place).nth(1).map(|place| (place, row))
    }

    fn swept(&self, cx: &mut Cx<'_>, sums: &Sums, number: Val, (first, count): (usize, usize), results: &mut Results) {
        cx.nested(&self.nest.axes, &self.serial(), Some(self.lane), 1, &mut |cx| {
            for place in first..first + count {
                let stage = &self.nest.stages[place];
                if self.roles[place] != Role::After {
                    let values = cx.body(&stage.body, results);
                    stage.stores.iter().for_each(|store| cx.store(store, &values));
                    for (slot, (reduction, (kind, _))) in stage.reductions.iter().zip(kinds(stage)).enumerate() {
                        let (ptr, pattern, dtype) = sums.place(cx, (place, slot), number);
                        let before = cx.b.load_now(Load { ptr, dtype, pattern, mask: None });
                        let now = combine(cx, kind, before, values[reduction.value.index()]);
                        cx.b.store(ptr, dtype, pattern, now);
                    }
                }
                results.push_nothing();
            }
        });
    }

    /// What blocks left, combined in order, and what follows from it; how many parallel points that is.
    fn combined(&self, cx: &mut Cx<'_>, count: &Dim, sums: &Sums) -> Dim {
        let serial = self.serial();
        let mut points: Vec<Dim> = serial.iter().map(|axis| self.nest.axes[*axis].clone()).collect();
        points.push(self.nest.axes[self.lane].ceil_div(&Dim::from(COLUMNS)));
        cx.parallel(&points, &mut |cx, digits| {
            bind(cx, &serial, digits);
            let (number, one) = (digits[serial.len()], cx.b.int(1));
            let next = cx.b.add(number, one);
            let (begin, end) = block(cx, number, next, COLUMNS, &self.nest.axes[self.lane]);
            cx.swept(self.lane, begin, end, 1, &mut |cx| {
                let mut all = Combined(Vec::new());
                for (place, stage) in self.nest.stages.iter().enumerate() {
                    all.0.push(if self.roles[place] == Role::Over { sums.over(cx, (place, stage), count) } else { Vec::new() });
                }
                for (stage, _) in self.nest.stages.iter().zip(&self.roles).filter(|(_, role)| **role == Role::After) {
                    let values = cx.body(&stage.body, &mut all);
                    stage.stores.iter().for_each(|store| cx.store(store, &values));
                }
            });
        });
        points.iter().product()
    }
}

fn role(stage: &Stage, rows: AxisSet, columns: AxisSet) -> Option<Role> {
    if !stage.reductions.is_empty() {
        let has_position = || kinds(stage).iter().any(|(_, has_position)| *has_position);
        let role = if stage.keep == rows { Role::Within } else { Role::Over };
        return (role == Role::Within || !has_position()).then_some(role);
    }
    match stage.over {
        over if over == rows => Some(Role::Row),
        over if over == rows.union(columns) => Some(Role::Each),
        over if columns.contains_all(over) && !over.is_empty() => Some(Role::After),
        _ => None,
    }
}

fn loaded(stage: &Stage) -> BTreeSet<usize> {
    stage.body.loads().map(|(_, access)| access.arg).collect()
}

fn stored(stage: &Stage) -> BTreeSet<usize> {
    stage.stores.iter().map(|store| store.arg).collect()
}

/// What blocks of rows leave in shared memory.
struct Sums {
    /// By stage and slot: from which byte on, a number a column and block.
    from: Vec<Vec<(Dim, DType)>>,
    /// Which column this is.
    column: Dim,
    /// How many columns there are.
    width: Dim,
    bytes: Dim,
}

impl Sums {
    /// Where this column's number of a block is.
    fn place(&self, cx: &mut Cx<'_>, (stage, slot): (usize, usize), number: Val) -> (Val, Pattern, DType) {
        let (from, dtype) = &self.from[stage][slot];
        let (shared, from) = (cx.shared(), cx.value(from));
        let bytes = cx.value(&(&self.width * Dim::from(dtype.size())));
        let offset = cx.b.mul(number, bytes);
        let base = cx.b.add(shared, from);
        let base = cx.b.add(base, offset);
        let (ptr, pattern) = cx.place(base, &self.column, None, *dtype);
        (ptr, pattern, *dtype)
    }

    /// All blocks' numbers of this column.
    fn over(&self, cx: &mut Cx<'_>, (place, stage): (usize, &Stage), count: &Dim) -> Vec<Val> {
        let kinds = kinds(stage);
        let inits = kinds.iter().map(|(kind, _)| identity(cx, *kind)).collect();
        let (zero, count) = (cx.b.int(0), cx.value(count));
        let open = cx.b.open_loop(zero, count, 1, inits);
        let mut next = Vec::new();
        for (slot, (kind, _)) in kinds.iter().enumerate() {
            let (ptr, pattern, dtype) = self.place(cx, (place, slot), open.var);
            let value = cx.b.load(Load { ptr, dtype, pattern, mask: None });
            next.push(combine(cx, *kind, open.params[slot], value));
        }
        cx.b.close_loop(open, next)
    }
}

/// What was combined over rows, by stage and slot.
struct Combined(Vec<Vec<Val>>);

impl Given for Combined {
    fn reduced(&mut self, _: &mut Cx<'_>, stage: usize, slot: usize) -> Val {
        self.0[stage][slot]
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        Nothing.acc(cx)
    }
}
