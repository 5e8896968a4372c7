//! Values that a later stage computes again: where they are dear, a stage that combines its points leaves them in scratch memory,
//! one a point, and the later one reads them there.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::kernel::{AxisSet, Body, InstKind, Nest, ValueId};
use graver_ir::{DType, Dim, ScalarFn};

use super::cx::Cx;
use crate::vector::{Load, Pattern, Val};

/// Points of a stage whose values wait, at most, where that is known: as many as caches hold.
const MOST: i64 = 1 << 16;

/// What is left and found, by stage.
#[derive(Default)]
pub(super) struct Memos {
    /// Values of a body that are left, and as which memo.
    left: Vec<Vec<(usize, usize)>>,
    /// Values of a body that are found, and as which memo.
    found: Vec<BTreeMap<usize, usize>>,
    /// By memo: the distance from the first, over the axes of its points, and how many there are.
    places: Vec<(Dim, Dim)>,
    /// By memo, once its memory is taken.
    rooms: Vec<Option<Val>>,
}

impl Memos {
    /// What the stages of a nest compute again, if the axis over lanes is an inner one of theirs, `lanes`.
    pub(super) fn find(nest: &Nest, outer: AxisSet, lanes: &[Option<usize>]) -> Self {
        let count = nest.stages.len();
        let mut memos = Self { left: vec![Vec::new(); count], found: vec![BTreeMap::new(); count], ..Self::default() };
        for later in 1..count {
            // A stage that stores may change what is loaded after it.
            let first = (0..later).rev().take_while(|stage| nest.stages[*stage].stores.is_empty()).last();
            for earlier in first.map_or(0..0, |first| first..later) {
                memos.between(nest, outer, lanes, [earlier, later]);
            }
        }
        memos
    }

    fn between(&mut self, nest: &Nest, outer: AxisSet, lanes: &[Option<usize>], [earlier, later]: [usize; 2]) {
        let (from, to) = (&nest.stages[earlier], &nest.stages[later]);
        let Some(lane) = lanes[earlier].filter(|lane| lanes[later] == Some(*lane)) else { return };
        let inner = from.over.minus(outer);
        let few = inner.iter().map(|axis| nest.axes[axis].clone()).product::<Dim>().as_const().is_none_or(|count| count <= MOST);
        if from.over != to.over || !from.keep.minus(outer).is_empty() || !few {
            return;
        }
        let (axes, mut covered) = (to.body.axes(), BTreeSet::new());
        for value in (0..to.body.insts.len()).rev() {
            if covered.contains(&value) || self.found[later].contains_key(&value) {
                covered.extend(to.body.insts[value].kind.operands().iter().map(|operand| operand.index()));
                continue;
            }
            let wanted = to.body.insts[value].dtype == DType::F32 && axes[value].contains(lane) && is_dear(&to.body, value);
            let same = || (0..from.body.insts.len()).find(|other| alike((&from.body, *other), (&to.body, value)));
            if let Some(other) = wanted.then(same).flatten() {
                let memo = self.memo(nest, inner, lane, (earlier, other));
                self.found[later].insert(value, memo);
                covered.extend(to.body.insts[value].kind.operands().iter().map(|operand| operand.index()));
            }
        }
    }

    /// The memo of a value of a stage.
    fn memo(&mut self, nest: &Nest, inner: AxisSet, lane: usize, (stage, value): (usize, usize)) -> usize {
        if let Some((_, memo)) = self.left[stage].iter().find(|(left, _)| *left == value) {
            return *memo;
        }
        let (mut offset, mut count) = (Dim::ZERO, Dim::ONE);
        for axis in [lane].into_iter().chain(inner.iter().filter(|axis| *axis != lane)) {
            offset = offset + Dim::axis(u32::try_from(axis).expect("few axes"), &nest.axes[axis]) * &count;
            count = count * &nest.axes[axis];
        }
        let memo = self.places.len();
        self.places.push((offset, count));
        self.rooms.push(None);
        self.left[stage].push((value, memo));
        memo
    }

    /// Leaves what later stages want of a body.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_>, stage: usize, values: &[Val]) {
        for (value, memo) in self.left.get(stage).cloned().unwrap_or_default() {
            let (ptr, pattern) = self.place(cx, memo);
            cx.b.store(ptr, DType::F32, pattern, values[value]);
        }
    }

    /// A value of a body that an earlier stage has left.
    pub(super) fn known(&mut self, cx: &mut Cx<'_>, stage: usize, value: usize) -> Option<Val> {
        let memo = *self.found.get(stage)?.get(&value)?;
        let (ptr, pattern) = self.place(cx, memo);
        Some(cx.b.load_now(Load { ptr, dtype: DType::F32, pattern, mask: None }))
    }

    fn place(&mut self, cx: &mut Cx<'_>, memo: usize) -> (Val, Pattern) {
        let (offset, count) = self.places[memo].clone();
        let base = self.rooms[memo].unwrap_or_else(|| cx.take_scratch(&(count * Dim::from(DType::F32.size()))));
        self.rooms[memo] = Some(base);
        cx.place(base, &offset, None, DType::F32)
    }
}

/// Whether computing a value takes longer than a store and a load, and has no effect.
fn is_dear(body: &Body, value: usize) -> bool {
    let insts = tree(body, value);
    let has = |test: fn(&InstKind) -> bool| insts.iter().any(|value| test(&body.insts[*value].kind));
    has(|kind| matches!(kind, InstKind::Map(function, _) if is_slow(*function)))
        && !has(|kind| matches!(kind, InstKind::Check { .. }))
}

/// Whether some function of a body is many instructions.
pub(super) fn has_slow(body: &Body) -> bool {
    body.insts.iter().any(|inst| matches!(inst.kind, InstKind::Map(function, _) if is_slow(function)))
}

/// Functions that are many instructions.
fn is_slow(function: ScalarFn) -> bool {
    use ScalarFn::{Cos, Erf, Exp, Expm1, Log, Log1p, Pow, Sigmoid, Sin, Tanh};
    matches!(function, Cos | Erf | Exp | Expm1 | Log | Log1p | Pow | Sigmoid | Sin | Tanh)
}

/// A value and all that it is computed from.
fn tree(body: &Body, value: usize) -> BTreeSet<usize> {
    let (mut found, mut open) = (BTreeSet::new(), vec![value]);
    while let Some(value) = open.pop() {
        if found.insert(value) {
            open.extend(body.insts[value].kind.operands().iter().map(|operand| operand.index()));
        }
    }
    found
}

/// Whether two values are computed alike.
fn alike((x, a): (&Body, usize), (y, b): (&Body, usize)) -> bool {
    let (a, b) = (&x.insts[a], &y.insts[b]);
    let bare = |kind: &InstKind| kind.clone().map_operands(|_| ValueId(0));
    let (left, right) = (a.kind.operands(), b.kind.operands());
    a.dtype == b.dtype
        && left.len() == right.len()
        && bare(&a.kind) == bare(&b.kind)
        && left.iter().zip(&right).all(|(a, b)| alike((x, a.index()), (y, b.index())))
}
