//! Masks that hide from a query what comes after it. Attention that knows of them does not compute what they hide.
//!
//! A mask is read as conditions that must all hold, each a comparison of positions, a constant, or anything else. It may hide more than what
//! comes later where it hides with minus infinity: with a number, rows that see no key would be other means of values.

use graver_ir::op::{Broadcast, SliceAxis};
use graver_ir::{Array, DType, Dim, Graph, Op, Scalar, ScalarFn, Shape, Value};

use super::attention::{Bias, HIDDEN};
use crate::simplify::splat;

/// Which axis of the scores an axis of a value is; none for an axis of one element.
type View = Vec<Option<usize>>;

/// That a value (in its own axes) holds, or that it does not.
struct Condition {
    value: Value,
    view: View,
    holds: bool,
}

/// The scores that masks are for.
struct Scores<'a> {
    graph: &'a Graph,
    rank: usize,
    /// The places of the query and of the key, as loop axes.
    query: Dim,
    key: Dim,
    /// How much later the last query is than as many keys.
    lead: Dim,
}

/// What remains of a bias of scores of this shape that hides, among others, every key that is later than its query, the last of both being
/// at the same time; nothing if it does not.
pub(super) fn without_later(graph: &Graph, bias: &Bias, shape: &Shape) -> Option<Vec<Bias>> {
    let rank = shape.rank();
    let (queries, keys) = (&shape[rank - 2], &shape[rank - 1]);
    let lead = keys - queries;
    // Every query sees a key.
    lead.is_nonneg().then_some(())?;
    let scores = Scores { graph, rank, query: Dim::axis(0, queries), key: Dim::axis(1, keys), lead };
    let view = (0..rank).map(|axis| (!shape[axis].is(1)).then_some(axis)).collect();
    let (conditions, number) = match *bias {
        Bias::Hidden(mask, number) => (scores.conditions(mask, view, true), number),
        Bias::HiddenBy(mask, number) => (scores.conditions(mask, view, false), number),
        Bias::Added(value) => scores.added(value, view)?,
        Bias::Unless { .. } => return None,
    };
    let (later, rest): (Vec<Condition>, Vec<Condition>) = conditions.into_iter().partition(|found| scores.is_not_later(found));
    let in_order = |found: &Condition| found.view.iter().flatten().is_sorted();
    let as_well = number.as_f64() == f64::NEG_INFINITY && rest.iter().all(in_order);
    let enough = !later.is_empty() && (rest.is_empty() || as_well);
    let left = |Condition { value, view, holds }| Bias::Unless { value, axes: view, holds, number };
    enough.then(|| rest.into_iter().map(left).collect())
}

impl Scores<'_> {
    /// The conditions under which a mask holds, or does not.
    fn conditions(&self, mask: Value, view: View, holds: bool) -> Vec<Condition> {
        let (mut found, mut open) = (Vec::new(), vec![Condition { value: mask, view, holds }]);
        while let Some(Condition { value, view, holds }) = open.pop() {
            let args = self.graph.args(value.node);
            let of = |place: usize, holds: bool| Condition { value: args[place], view: view.clone(), holds };
            let op = self.graph.op(value.node);
            let is_both = if holds { ScalarFn::And } else { ScalarFn::Or };
            if matches!(op, Op::Map(function) if *function == is_both) {
                open.extend([of(1, holds), of(0, holds)]);
            } else if matches!(op, Op::Map(ScalarFn::Not)) {
                open.push(of(0, !holds));
            } else if matches!(op, Op::Cast(DType::Bool)) {
                open.push(of(0, holds));
            } else if matches!(op, Op::Map(ScalarFn::Select))
                && let [Some(yes), Some(no)] = [1, 2].map(|place: usize| splat(self.graph, args[place]))
                && yes.is_zero() != no.is_zero()
            {
                open.push(of(0, holds != yes.is_zero()));
            } else if let Some((value, view)) = self.moved(value, &view) {
                open.push(Condition { value, view, holds });
            } else if splat(self.graph, value).is_none_or(|all| all.is_zero() == holds) {
                found.push(Condition { value, view, holds });
            } // Else it holds everywhere, which says nothing.
        }
        found
    }

    /// The conditions under which a bias is 0, which elsewhere is a number that hides.
    fn added(&self, value: Value, view: View) -> Option<(Vec<Condition>, Scalar)> {
        if let Some((from, view)) = self.moved(value, &view) {
            return self.added(from, view);
        }
        let hides = |number: Scalar| number.as_f64() <= HIDDEN;
        let args = self.graph.args(value.node);
        if let Op::Const(array) = self.graph.op(value.node) {
            let number = (0..array.numel()).map(|place| array.get(place)).find(|number| !number.is_zero())?;
            let two = (0..array.numel()).all(|place| array.get(place).is_zero() || array.get(place) == number);
            let hides = array.dtype().is_float() && two && hides(number);
            return hides.then(|| (vec![Condition { value, view, holds: false }], number));
        }
        matches!(self.graph.op(value.node), Op::Map(ScalarFn::Select)).then_some(())?;
        let (yes, no) = (splat(self.graph, args[1])?, splat(self.graph, args[2])?);
        if yes.is_zero() && hides(no) {
            Some((self.conditions(args[0], view, true), no))
        } else if no.is_zero() && hides(yes) {
            Some((self.conditions(args[0], view, false), yes))
        } else {
            None
        }
    }

    /// What a value is a movement of, with its axes, where each axis stays one axis.
    fn moved(&self, x: Value, view: &View) -> Option<(Value, View)> {
        let args = self.graph.args(x.node);
        let op = self.graph.op(x.node);
        let view = if let Op::Broadcast(Broadcast { axes, .. }) = op {
            let from = &self.graph.ty(args[0]).shape;
            axes.iter().zip(from.iter()).map(|(axis, size)| view[*axis].filter(|_| !size.is(1))).collect()
        } else if let Op::Permute(perm) = op {
            let mut from = vec![None; view.len()];
            perm.axes().iter().zip(view).for_each(|(axis, own)| from[*axis] = *own);
            from
        } else if let Op::Reshape(to) = op {
            let from = &self.graph.ty(args[0]).shape;
            let wide = |shape: &Shape| (0..shape.rank()).filter(|axis| !shape[*axis].is(1)).collect::<Vec<_>>();
            let (old, new) = (wide(from), wide(to));
            let same = old.iter().map(|axis| &from[*axis]).eq(new.iter().map(|axis| &to[*axis]));
            same.then_some(())?;
            let mut own = vec![None; from.rank()];
            old.iter().zip(&new).for_each(|(old, new)| own[*old] = view[*new]);
            own
        } else {
            return None;
        };
        Some((args[0], view))
    }

    /// Whether the condition is that a key is not later than its query.
    fn is_not_later(&self, condition: &Condition) -> bool {
        let gap = self.gap(condition.value, &condition.view, condition.holds);
        gap.is_some_and(|gap| gap == &(&self.query + &self.lead) - &self.key)
    }

    /// What is at least 0 exactly where a condition holds.
    fn gap(&self, x: Value, view: &View, holds: bool) -> Option<Dim> {
        let args = self.graph.args(x.node);
        let at_least = |place: usize, other: usize| Some(&self.index(args[place], view)? - &self.index(args[other], view)?);
        match (self.graph.op(x.node), holds) {
            (Op::Map(ScalarFn::Le), true) | (Op::Map(ScalarFn::Gt), false) => at_least(1, 0),
            (Op::Map(ScalarFn::Ge), true) | (Op::Map(ScalarFn::Lt), false) => at_least(0, 1),
            (Op::Map(ScalarFn::Lt), true) | (Op::Map(ScalarFn::Ge), false) => Some(&at_least(1, 0)? - &Dim::ONE),
            (Op::Map(ScalarFn::Gt), true) | (Op::Map(ScalarFn::Le), false) => Some(&at_least(0, 1)? - &Dim::ONE),
            (Op::Const(array), _) => self.triangle(array, view, holds, None),
            (Op::Slice(axes), _) => {
                let Op::Const(array) = self.graph.op(args[0].node) else { return None };
                self.triangle(array, view, holds, Some(axes))
            }
            _ => None,
        }
    }

    /// A whole number for each place, as an expression of places.
    fn index(&self, x: Value, view: &View) -> Option<Dim> {
        if let Some((from, view)) = self.moved(x, view) {
            return self.index(from, &view);
        }
        matches!(self.graph.ty(x).dtype, DType::I64 | DType::I32).then_some(())?;
        let args = self.graph.args(x.node);
        let both = || Some((self.index(args[0], view)?, self.index(args[1], view)?));
        let op = self.graph.op(x.node);
        if let Op::Iota(iota) = op {
            self.place(view[iota.axis])
        } else if let Op::Size(size) = op {
            Some(size.clone())
        } else if let Op::Const(_) = op {
            Some(Dim::from(splat(self.graph, x)?.as_i64()))
        } else if let Op::Cast(_) = op {
            self.index(args[0], view)
        } else if let Op::Map(ScalarFn::Add) = op {
            both().map(|(x, y)| &x + &y)
        } else if let Op::Map(ScalarFn::Sub) = op {
            both().map(|(x, y)| &x - &y)
        } else {
            None
        }
    }

    /// The place along an axis of the scores, of queries or of keys.
    fn place(&self, axis: Option<usize>) -> Option<Dim> {
        match axis {
            None => Some(Dim::ZERO),
            Some(axis) if axis + 2 == self.rank => Some(self.query.clone()),
            Some(axis) if axis + 1 == self.rank => Some(self.key.clone()),
            Some(_) => None,
        }
    }

    /// What is at least 0 where a part of a constant is not 0, which is a triangle in its last two axes; or where it is 0.
    fn triangle(&self, array: &Array, view: &View, holds: bool, part: Option<&Vec<SliceAxis>>) -> Option<Dim> {
        let rank = view.len();
        let (row, column) = (rank.checked_sub(2)?, rank.checked_sub(1)?);
        let is_scores = view[row] == Some(self.rank - 2) && view[column] == Some(self.rank - 1);
        let [rows, columns] = [row, column].map(|axis| array.shape()[axis]);
        let counts = |place: usize| array.get(place).is_zero() != holds;
        // The first row tells how many of it count.
        let first = (0..columns).take_while(|place| counts(*place)).count();
        let is_triangle = |place: usize| counts(place) == (place % columns < first + place / columns % rows);
        (is_scores && array.numel() > 0 && (0..array.numel()).all(is_triangle)).then_some(())?;
        let start = |axis: usize| match part {
            None => Some(Dim::ZERO),
            Some(axes) => (axes[axis].step == 1).then(|| axes[axis].start.clone()),
        };
        let (row, column) = (&self.query + &start(row)?, &self.key + &start(column)?);
        Some(&(&row - &column) + &(Dim::from(i64::try_from(first).ok()?) - Dim::ONE))
    }
}
