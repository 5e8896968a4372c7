//! Where the operations of a block are, if they are nodes of a model file: `model.onnx:57:1 (MatMul /layers.3/MatMul)`.
//!
//! Every node is a line of its own, so copies of a layer share no lines as traced ones do: their numbers go on by equal steps. What is kept
//! once has the place of one copy, and how its numbers grow from each copy to the next: line 57, `#+14 MatMul /layers.<3+1>/MatMul`. A call says
//! which copy it is, counted from that one, `#-2 ..`, and then everything is where it was. What grows by unequal steps in a name is `*`;
//! lines that do are no series.

use graver_ir::{Loc, Place};

/// Numbers of more digits are text.
const DIGITS: usize = 9;

/// Whether the place is a node's: an operation and its name, where a module path has no spaces.
pub(crate) fn is_node(place: &Place) -> bool {
    place.scope.contains(' ')
}

/// Whether the place, or one that called it, is a node's.
pub(crate) fn is_of_nodes(loc: &Loc) -> bool {
    std::iter::successors(loc.place(), |place| place.caller.place()).any(is_node)
}

/// An operation's places in copies, each with its distance from the first one listed.
type Copies<'a, 'l> = &'a [(i64, &'l Loc)];

/// The place of one operation in all copies; `None` if they are [no series](is_series).
pub(crate) fn series(copies: Copies<'_, '_>) -> Option<Loc> {
    let Some(places) = known(copies)? else { return Some(Loc::UNKNOWN) };
    let first = places[0].1;
    let (step, caller) = (line_step(&places)?, series(&callers(&places))?);
    let name = name(&places.iter().map(|(copy, place)| (*copy, place.scope.as_str())).collect::<Vec<_>>());
    Some(Loc::new(Place { scope: format!("#{step:+} {name}"), caller, ..first.clone() }))
}

/// Whether files and columns are the same, and lines go on by equal steps, those of callers too.
pub(crate) fn is_series(copies: Copies<'_, '_>) -> bool {
    match known(copies) {
        None => false,
        Some(None) => true,
        Some(Some(places)) => line_step(&places).is_some() && is_series(&callers(&places)),
    }
}

/// The places if all are known, and `Some(None)` if none is.
fn known<'l>(copies: Copies<'_, 'l>) -> Option<Option<Vec<(i64, &'l Place)>>> {
    let places: Vec<(i64, &Place)> = copies.iter().filter_map(|(copy, loc)| Some((*copy, loc.place()?))).collect();
    if places.is_empty() { Some(None) } else { (places.len() == copies.len()).then_some(Some(places)) }
}

fn line_step(places: &[(i64, &Place)]) -> Option<i64> {
    let is_beside = |(_, place): &(i64, &Place)| (&place.file, place.column) == (&places[0].1.file, places[0].1.column);
    if !places.iter().all(is_beside) {
        return None;
    }
    step(places.iter().map(|(copy, place)| (*copy, i64::from(place.line))))
}

fn callers<'l>(places: &[(i64, &'l Place)]) -> Vec<(i64, &'l Loc)> {
    places.iter().map(|(copy, place)| (*copy, &place.caller)).collect()
}

/// The place of a call of this copy.
pub(crate) fn of_copy(loc: &Loc, copy: i64) -> Loc {
    let Some(place) = loc.place() else { return Loc::UNKNOWN };
    Loc::new(Place { scope: format!("#{copy:+} {}", place.scope), ..place.clone() })
}

/// The place of an operation of a block in one call of it.
pub(crate) fn of_call(own: &Loc, call: &Loc) -> Loc {
    match call.place().and_then(|place| marked(&place.scope)) {
        Some((copy, _)) => in_copy(own, copy),
        None => own.of_call(call),
    }
}

fn in_copy(own: &Loc, copy: i64) -> Loc {
    let Some(place) = own.place() else { return Loc::UNKNOWN };
    let caller = in_copy(&place.caller, copy);
    let of_series = || {
        let (step, name) = marked(&place.scope)?;
        let line = u32::try_from(term(place.line.into(), step, copy)?).ok()?;
        Some(Place { line, scope: filled(name, copy), caller: caller.clone(), ..place.clone() })
    };
    Loc::new(of_series().unwrap_or_else(|| Place { caller: caller.clone(), ..place.clone() }))
}

/// `#+14 name`: the number and the name.
fn marked(scope: &str) -> Option<(i64, &str)> {
    let (number, name) = scope.strip_prefix('#')?.split_once(' ')?;
    Some((number.parse().ok()?, name))
}

fn term(start: i64, step: i64, copy: i64) -> Option<i64> {
    start.checked_add(step.checked_mul(copy)?)
}

/// What the numbers of copies grow by from each to the next, from the first one listed; `None` if they do so by unequal steps.
fn step(numbers: impl Iterator<Item = (i64, i64)> + Clone) -> Option<i64> {
    let mut others = numbers.clone();
    let (at, start) = others.next()?;
    let Some((copy, number)) = others.next() else { return Some(0) };
    let step = (number - start).checked_div(copy - at)?;
    numbers.into_iter().all(|(copy, number)| term(start, step, copy - at) == Some(number)).then_some(step)
}

/// A name with `<3+1>` for numbers that grow by equal steps and `*` for others that differ; where more than numbers differs, with
/// the operation alone.
fn name(copies: &[(i64, &str)]) -> String {
    let first = copies[0].1;
    let all: Vec<Vec<&str>> = copies.iter().map(|(_, name)| parts(name)).collect();
    let count = all[0].len();
    let is_plain = copies.iter().all(|(_, name)| !name.contains(['<', '>']));
    let merged = |place: usize| {
        let part = all[0][place];
        if all.iter().all(|parts| parts[place] == part) {
            return Some(part.to_owned());
        }
        if !all.iter().all(|parts| parts[place].bytes().all(|byte| byte.is_ascii_digit())) {
            return None;
        }
        let numbers: Option<Vec<i64>> = all.iter().map(|parts| number(parts[place])).collect();
        let step = numbers.and_then(|numbers| step(copies.iter().map(|(copy, _)| *copy).zip(numbers)));
        Some(step.map_or_else(|| "*".to_owned(), |step| format!("<{part}{step:+}>")))
    };
    let agrees = is_plain && all.iter().all(|parts| parts.len() == count);
    let merged: Option<String> = if agrees { (0..count).map(merged).collect() } else { None };
    merged.unwrap_or_else(|| {
        let op = |name: &'_ str| name.split(' ').next().unwrap_or_default().to_owned();
        let is_same = copies.iter().all(|(_, name)| op(name) == op(first));
        if is_same { format!("{} *", op(first)) } else { "*".to_owned() }
    })
}

/// Numbers, and what is between them.
fn parts(name: &str) -> Vec<&str> {
    let mut start = 0;
    let pieces = name.as_bytes().chunk_by(|x, y| x.is_ascii_digit() == y.is_ascii_digit());
    let part = |piece: &[u8]| {
        start += piece.len();
        &name[start - piece.len()..start]
    };
    pieces.map(part).collect()
}

/// A number that is written as it is read.
fn number(part: &str) -> Option<i64> {
    let is_padded = part.len() > 1 && part.starts_with('0');
    if part.len() > DIGITS || is_padded { None } else { part.parse().ok() }
}

/// The name in one copy.
fn filled(name: &str, copy: i64) -> String {
    let (mut filled, mut rest) = (String::new(), name);
    while let Some((before, (series, after))) =
        rest.split_once('<').and_then(|(before, rest)| Some((before, rest.split_once('>')?)))
    {
        filled.push_str(before);
        let number = || {
            let (start, step) = series.split_at_checked(series.rfind(['+', '-'])?)?;
            term(start.parse().ok()?, step.parse().ok()?, copy)
        };
        filled.push_str(&number().map_or_else(|| format!("<{series}>"), |number| number.to_string()));
        rest = after;
    }
    filled + rest
}
