//! Counts of the runs of integers that a pool lists.

use graver_ir::op::{DotAxes, ReduceKind};
use graver_ir::{Array, DType, Dim, Scalar, ScalarFn, Shape, Value};

use super::Values;
use crate::build::Builder;
use crate::node::Node;
use crate::problem::{Result, unsupported, wrong};

/// The most grams of a pool, and the most skips: each is an operation or an element of one.
const MOST: usize = 1 << 16;

/// Grams of one length.
struct Grams {
    length: usize,
    /// Row by row.
    items: Vec<i64>,
    /// The column of the result that counts each gram.
    columns: Vec<usize>,
}

/// `[rows, columns]`: how often each gram of the pool is in a row, whose elements may lie up to some skips apart.
pub(super) fn tf_idf(n: &mut Node<'_>) -> Values {
    if n.has("pool_strings") {
        return unsupported("grams of strings");
    }
    let x = n.arg(0)?;
    let shape = n.b.shape(x);
    let rows = match shape.rank() {
        1 => n.b.unsqueeze(x, &[0])?,
        2 => x,
        _ => return wrong(format!("takes rows of integers, got {}", n.b.ty(x))),
    };
    let Some(length) = n.b.shape(rows)[1].as_const() else { return unsupported("rows whose length is a symbol") };
    let rows = n.b.cast(rows, DType::I64)?;
    let (pool, columns) = pool(n)?;
    let skips = usize::try_from(n.int("max_skip_count", 0)).unwrap_or(MOST);
    if skips >= MOST {
        return wrong(format!("{skips} skips"));
    }
    let zero = n.b.number(DType::F32, 0.0)?;
    let mut counts = n.b.fill(zero, &Shape(vec![n.b.shape(rows)[0].clone(), Dim::from(columns)]))?;
    for grams in &pool {
        // Skips make no difference to single elements, and none to rows that have no more elements.
        for step in 1..=if grams.length == 1 { 1 } else { skips + 1 } {
            let span = i64::try_from((grams.length - 1).saturating_mul(step)).unwrap_or(i64::MAX);
            if span >= length {
                break;
            }
            let found = found(n.b, rows, grams, step, length - span)?;
            let found = spread(n.b, found, grams, columns)?;
            counts = n.b.add(counts, found)?;
        }
    }
    let y = weighted(n, counts)?;
    Ok(vec![if shape.rank() == 1 { n.b.reshape(y, [Dim::from(columns)])? } else { y }])
}

/// The grams whose lengths are asked for, and the number of columns.
fn pool(n: &Node<'_>) -> Result<(Vec<Grams>, usize)> {
    let list = |name: &str| n.ints(name).unwrap_or_default();
    let (items, starts, columns) = (list("pool_int64s"), list("ngram_counts"), list("ngram_indexes"));
    let columns: Option<Vec<usize>> = columns.iter().map(|column| usize::try_from(*column).ok()).collect();
    let columns = columns.filter(|columns| columns.len() <= MOST && columns.iter().all(|column| *column < MOST));
    let Some(columns) = columns else { return wrong(format!("positions of grams are from 0 to {MOST}")) };
    let Some(width) = columns.iter().max().map(|last| last + 1) else { return wrong("no grams are counted") };
    let (least, most) = (n.int("min_gram_length", 1), n.int("max_gram_length", 1));
    let (mut pool, mut gram) = (Vec::new(), 0);
    for (place, start) in starts.iter().enumerate() {
        let length = place + 1;
        let end = starts.get(length).copied().unwrap_or(i64::try_from(items.len()).unwrap_or(i64::MAX));
        let own = usize::try_from(*start).ok().zip(usize::try_from(end).ok()).and_then(|(start, end)| items.get(start..end));
        let Some(own) = own.filter(|own| own.len() % length == 0) else {
            return wrong(format!("grams of {length} from {start} to {end} in a pool of {}", items.len()));
        };
        let Some(columns) = columns.get(gram..gram + own.len() / length) else {
            return wrong(format!("{} positions for more grams", columns.len()));
        };
        gram += columns.len();
        let asked = i64::try_from(length).is_ok_and(|length| (least..=most).contains(&length));
        if asked && !own.is_empty() {
            pool.push(Grams { length, items: own.to_vec(), columns: columns.to_vec() });
        }
    }
    Ok((pool, width))
}

/// `[rows, grams]`: at how many of the first `places` places each gram begins, with elements `step` apart.
fn found(b: &mut Builder, rows: Value, grams: &Grams, step: usize, places: i64) -> Result<Value> {
    let mut all: Option<Value> = None;
    for place in 0..grams.length {
        let own = b.part(rows, 1, &Dim::from(place * step), &Dim::from(places))?;
        let own = b.unsqueeze(own, &[2])?;
        let wanted: Vec<i64> = grams.items.iter().skip(place).step_by(grams.length).copied().collect();
        let wanted = b.integers(&wanted)?;
        let equal = b.map(ScalarFn::Eq, &[own, wanted])?;
        all = Some(match all {
            Some(all) => b.map(ScalarFn::And, &[all, equal])?,
            None => equal,
        });
    }
    let Some(all) = all else { return wrong("a gram of no elements") };
    let ones = b.cast(all, DType::F32)?;
    b.reduce(ReduceKind::Sum, ones, &[1], false)
}

/// `[rows, grams]` as `[rows, columns]`.
fn spread(b: &mut Builder, found: Value, grams: &Grams, columns: usize) -> Result<Value> {
    let mut own = vec![Scalar::zero(DType::F32); grams.columns.len() * columns];
    for (gram, column) in grams.columns.iter().enumerate() {
        own[gram * columns + column] = Scalar::one(DType::F32);
    }
    let own = b.constant(Array::from_scalars(DType::F32, [grams.columns.len(), columns], &own)?)?;
    b.dot(found, own, DotAxes { lhs_contract: vec![1], rhs_contract: vec![0], ..DotAxes::default() })
}

fn weighted(n: &mut Node<'_>, counts: Value) -> Result<Value> {
    let mode = n.text("mode", "");
    let counts = match mode.as_str() {
        "TF" => return Ok(counts),
        "IDF" => n.b.with(ScalarFn::Min, counts, 1.0)?,
        "TFIDF" => counts,
        other => return wrong(format!("the mode `{other}`")),
    };
    let Some(weights) = n.floats("weights").filter(|weights| !weights.is_empty()) else { return Ok(counts) };
    let weights = n.b.constant(Array::from_vec([weights.len()], weights)?)?;
    n.b.mul(counts, weights)
}
