//! Elements that are chosen by values, so that sizes depend on values: these must be known at import, and the choice is made there.

use std::collections::BTreeMap;

use graver_ir::{Array, Value};

use super::Values;
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

/// The most elements that are compared with one another.
const MANY: usize = 1 << 14;

/// The elements of an operand, not too many to compare.
fn few(n: &Node<'_>, place: usize, what: &str) -> Result<Array> {
    let array = n.b.array(n.arg(place)?, what)?;
    if array.numel() > MANY { unsupported(format!("{what}: more than {MANY} elements to choose from")) } else { Ok(array) }
}

fn positions(places: &[usize]) -> Vec<i64> {
    places.iter().map(|place| i64::try_from(*place).unwrap_or(i64::MAX)).collect()
}

fn vector(n: &mut Node<'_>, places: &[usize]) -> Result<Value> {
    n.b.integers(&positions(places))
}

/// The positions of elements that are not zero, a column each.
pub(super) fn non_zero(n: &mut Node<'_>) -> Values {
    let array = n.b.array(n.arg(0)?, "the elements")?;
    let found: Vec<usize> = (0..array.numel()).filter(|place| !array.get(*place).is_zero()).collect();
    let mut rows = Vec::new();
    let mut stride = array.numel();
    for size in array.shape() {
        stride = stride.checked_div(*size).unwrap_or(0);
        rows.extend(found.iter().map(|place| place.checked_div(stride).unwrap_or(0) % size));
    }
    let rows = Array::from_vec([array.shape().len(), found.len()], positions(&rows))?;
    Ok(vec![n.b.constant(rows)?])
}

/// The slices of an axis, or the elements, for which a condition holds.
pub(super) fn compress(n: &mut Node<'_>) -> Values {
    let (x, condition) = (n.arg(0)?, n.b.array(n.arg(1)?, "the condition")?);
    let kept: Vec<usize> = (0..condition.numel()).filter(|place| !condition.get(*place).is_zero()).collect();
    let (x, axis) = if n.has("axis") {
        (x, n.axis(n.int("axis", 0), n.b.rank(x))?)
    } else {
        let numel = n.b.shape(x).numel();
        (n.b.reshape(x, [numel])?, 0)
    };
    let kept = vector(n, &kept)?;
    Ok(vec![n.b.gather(x, kept, axis, 0)?])
}

/// A number whose order is that of an element: NaN last.
fn order(array: &Array, place: usize) -> i64 {
    if !array.dtype().is_float() {
        return array.get(place).as_i64();
    }
    let value = array.get(place).as_f64();
    let bits = if value.is_nan() { i64::MAX } else { (value + 0.0).to_bits().cast_signed() };
    // The order of floats below zero is that of their sizes, backwards.
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

/// Each slice of an axis, or element, once: the slices, where each is first, which one each slice is, how many there are.
pub(super) fn unique(n: &mut Node<'_>) -> Values {
    let array = few(n, 0, "the elements")?;
    let x = n.arg(0)?;
    let (x, axis) = if n.has("axis") {
        (x, n.axis(n.int("axis", 0), n.b.rank(x))?)
    } else {
        let numel = n.b.shape(x).numel();
        (n.b.reshape(x, [numel])?, 0)
    };
    let Some(shape) = n.b.shape(x).as_const() else { return unsupported("slices whose number is a symbol") };
    let (count, inner): (usize, usize) = (shape[axis], shape[axis + 1..].iter().product());
    let outer: usize = shape[..axis].iter().product();
    let key = |slice: usize| -> Vec<i64> {
        let rows = (0..outer).flat_map(|row| (0..inner).map(move |column| (row * count + slice) * inner + column));
        rows.map(|place| order(&array, place)).collect()
    };
    let mut first: BTreeMap<Vec<i64>, usize> = BTreeMap::new();
    let keys: Vec<Vec<i64>> = (0..count).map(key).collect();
    for (slice, key) in keys.iter().enumerate() {
        first.entry(key.clone()).or_insert(slice);
    }
    let mut chosen: Vec<usize> = first.values().copied().collect();
    if !n.flag("sorted", true) {
        chosen.sort_unstable();
    }
    let group: BTreeMap<usize, usize> = chosen.iter().enumerate().map(|(group, slice)| (*slice, group)).collect();
    let inverse: Vec<usize> = keys.iter().map(|key| group[&first[key]]).collect();
    let counts: Vec<usize> = (0..chosen.len()).map(|group| inverse.iter().filter(|other| **other == group).count()).collect();
    let first = vector(n, &chosen)?;
    let (inverse, counts) = (vector(n, &inverse)?, vector(n, &counts)?);
    Ok(vec![n.b.gather(x, first, axis, 0)?, first, inverse, counts])
}

/// A box by its corners.
struct Rectangle {
    top: f64,
    left: f64,
    bottom: f64,
    right: f64,
}

impl Rectangle {
    fn of(array: &Array, row: usize, centre: bool) -> Self {
        let [a, b, c, d] = [0, 1, 2, 3].map(|column| array.get(4 * row + column).as_f64());
        if centre {
            return Self { top: b - d / 2.0, left: a - c / 2.0, bottom: b + d / 2.0, right: a + c / 2.0 };
        }
        Self { top: a.min(c), left: b.min(d), bottom: a.max(c), right: b.max(d) }
    }

    fn area(&self) -> f64 {
        (self.bottom - self.top) * (self.right - self.left)
    }

    /// The share of both that is common.
    fn overlap(&self, other: &Self) -> f64 {
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        let width = self.right.min(other.right) - self.left.max(other.left);
        let common = height.max(0.0) * width.max(0.0);
        let all = self.area() + other.area() - common;
        if all > 0.0 { common / all } else { 0.0 }
    }
}

/// The boxes of each picture and class with the best scores that overlap none with a better one.
pub(super) fn non_max_suppression(n: &mut Node<'_>) -> Values {
    let (boxes, scores) = (few(n, 0, "the boxes")?, few(n, 1, "the scores")?);
    let ([batch, count, 4], [_, classes, _]) = (boxes.shape(), scores.shape()) else {
        return wrong(format!("boxes {} and scores {}", boxes.ty(), scores.ty()));
    };
    let (batch, count, classes) = (*batch, *count, *classes);
    if scores.shape() != [batch, classes, count] {
        return wrong(format!("boxes {} and scores {}", boxes.ty(), scores.ty()));
    }
    let one = |place: usize, what: &str| -> Result<Option<f64>> {
        if n.opt(place).is_some() { Ok(n.floats_of(place, what)?.first().copied()) } else { Ok(None) }
    };
    let most = match n.opt(2) {
        Some(_) => n.integers(2, "the most boxes")?.first().copied().unwrap_or(0),
        None => 0,
    };
    let (limit, least) = (one(3, "the overlap")?.unwrap_or(0.0), one(4, "the least score")?);
    let centre = n.flag("center_point_box", false);
    let mut rows: Vec<usize> = Vec::new();
    for picture in 0..batch {
        let boxes: Vec<Rectangle> = (0..count).map(|row| Rectangle::of(&boxes, picture * count + row, centre)).collect();
        for class in 0..classes {
            let score = |row: &usize| scores.get((picture * classes + class) * count + row).as_f64();
            let mut open: Vec<usize> = (0..count).filter(|row| least.is_none_or(|least| score(row) > least)).collect();
            open.sort_by(|x, y| score(y).total_cmp(&score(x)));
            let mut kept: Vec<usize> = Vec::new();
            for row in open {
                if i64::try_from(kept.len()).is_ok_and(|kept| kept >= most) {
                    break;
                }
                if kept.iter().all(|other| boxes[row].overlap(&boxes[*other]) <= limit) {
                    kept.push(row);
                    rows.extend([picture, class, row]);
                }
            }
        }
    }
    Ok(vec![n.b.constant(Array::from_vec([rows.len() / 3, 3], positions(&rows))?)?])
}
