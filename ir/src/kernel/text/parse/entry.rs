//! An entry: its buffers and steps.

use std::collections::BTreeMap;

use super::{numbered, word_id};
use crate::dim::{Dim, MAX_DEPTH};
use crate::dtype::DType;
use crate::kernel::{Branch, Buffer, BufferId, Carry, Entry, KernelId, Launch, Loop, Place, Step, Trip, View};
use crate::location::Loc;
use crate::module::StateId;
use crate::text::lex::Token;
use crate::text::parse::loc;
use crate::text::value::{Parsed, Parser, Value as _};
use crate::ty::Shape;

/// Slots of the state by path.
type Slots = BTreeMap<String, StateId>;

pub(super) fn entry(input: &mut Parser<'_>, slots: &Slots) -> Parsed<Entry> {
    input.mark('@')?;
    let name = input.name("the name of an entry")?;
    input.word("arena")?;
    let arena = Dim::parse(input)?;
    let mut entry = Entry { name, buffers: Vec::new(), inputs: Vec::new(), outputs: Vec::new(), steps: Vec::new(), arena };
    input.mark('{')?;
    while input.eat_word("buffer") {
        numbered(input, "b", entry.buffers.len())?;
        input.mark(':')?;
        entry.buffers.push(buffer(input, slots)?);
    }
    while input.eat_word("input") {
        let id = BufferId(word_id(input, "b", "a buffer")?);
        entry.inputs.push((id, input.quoted()?));
    }
    while input.eat_word("output") {
        entry.outputs.push(BufferId(word_id(input, "b", "a buffer")?));
    }
    entry.steps = steps(input, MAX_DEPTH)?;
    input.mark('}')?;
    Ok(entry)
}

/// `f32[batch, 784] = input 0`
fn buffer(input: &mut Parser<'_>, slots: &Slots) -> Parsed<Buffer> {
    let dtype = DType::parse(input)?;
    let shape = Shape::parse(input)?;
    input.mark('=')?;
    let place = place(input, slots)?;
    Ok(Buffer { place, dtype, shape: shape.0, loc: loc(input)? })
}

fn place(input: &mut Parser<'_>, slots: &Slots) -> Parsed<Place> {
    if input.eat_word("input") {
        usize::parse(input).map(Place::Input)
    } else if input.eat_word("output") {
        usize::parse(input).map(Place::Output)
    } else if input.eat_word("state") {
        let at = input.place();
        let path = input.quoted()?;
        let slot = slots.get(&path).ok_or_else(|| input.fail(at, format!("there is no state `{path}`")))?;
        Ok(Place::State(*slot))
    } else if input.eat_word("const") {
        word_id(input, "c", "a constant").map(|id| Place::Const(id as usize))
    } else if input.eat_word("arena") {
        Dim::parse(input).map(Place::Arena)
    } else if input.eat_word("unplaced") {
        Ok(Place::Unplaced)
    } else {
        Err(input.expected("`input`, `output`, `state`, `const`, `arena` or `unplaced`"))
    }
}

/// Steps as far as there are any, with `depth` more levels allowed.
fn steps(input: &mut Parser<'_>, depth: usize) -> Parsed<Vec<Step>> {
    if depth == 0 {
        return Err(input.expected(&format!("at most {MAX_DEPTH} steps inside of one another")));
    }
    let mut steps = Vec::new();
    loop {
        if input.eat_word("launch") {
            steps.push(Step::Launch(launch(input)?));
        } else if input.eat_word("if") {
            let cond = view(input)?;
            let then = block(input, depth)?;
            input.word("else")?;
            steps.push(Step::If(Branch { cond, then, otherwise: block(input, depth)? }));
        } else if input.eat_word("loop") {
            steps.push(Step::Loop(repeat(input, depth)?));
        } else {
            return Ok(steps);
        }
    }
}

fn block(input: &mut Parser<'_>, depth: usize) -> Parsed<Vec<Step>> {
    input.mark('{')?;
    let inner = steps(input, depth - 1)?;
    input.mark('}')?;
    Ok(inner)
}

/// `step times length carry (b3 b4) { .. }`, `step while b5 most 8 test { .. } do { .. }`
fn repeat(input: &mut Parser<'_>, depth: usize) -> Parsed<Loop> {
    let at = input.place();
    let name = input.name("the name of a counter")?;
    if input.symbols.contains_key(&name) {
        return Err(input.fail(at, format!("the counter `{name}` is a symbol already")));
    }
    let mut trip = if input.eat_word("while") {
        let holds = view(input)?;
        let most = if input.eat_word("most") { Some(Dim::parse(input)?) } else { None };
        Trip::While { test: Vec::new(), holds, most }
    } else {
        input.word("times")?;
        Trip::Times(Dim::parse(input)?)
    };
    let counter = trip.counter(name.clone());
    let mut carry = Vec::new();
    if input.eat_word("carry") {
        input.mark('(')?;
        carry = input.list(')', |input| {
            let now = BufferId(word_id(input, "b", "a buffer")?);
            Ok(Carry { now, next: BufferId(word_id(input, "b", "a buffer")?) })
        })?;
    }
    input.symbols.insert(name.clone(), counter.clone());
    if let Some(test) = trip.test_mut() {
        input.word("test")?;
        *test = block(input, depth)?;
        input.word("do")?;
    }
    let body = block(input, depth)?;
    input.symbols.remove(&name);
    Ok(Loop { trip, counter, carry, body })
}

/// `b1 + 16`
fn view(input: &mut Parser<'_>) -> Parsed<View> {
    let buffer = BufferId(word_id(input, "b", "a buffer")?);
    let offset = if input.eat('+') { Dim::parse(input)? } else { Dim::ZERO };
    Ok(View { buffer, offset })
}

/// `k0(b0, b1 + 16) for loc("src/main.rs":4:5), loc()`
fn launch(input: &mut Parser<'_>) -> Parsed<Launch> {
    let kernel = KernelId(word_id(input, "k", "a kernel")?);
    input.mark('(')?;
    let args = input.list(')', view)?;
    let mut locs: Vec<Loc> = Vec::new();
    if input.eat_word("for") {
        loop {
            if input.peek() != Token::Word("loc") {
                return Err(input.expected("`loc`"));
            }
            locs.push(loc(input)?);
            if !input.eat(',') {
                break;
            }
        }
    }
    Ok(Launch { kernel, args, locs })
}
