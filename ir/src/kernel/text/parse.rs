//! Text to kernel programs.

use std::collections::BTreeMap;

use super::VERSION;
use super::print::word;
use crate::array::Array;
use crate::dim::{Dim, MAX_DEPTH};
use crate::dtype::DType;
use crate::error::Error;
use crate::kernel::{
    Access, Arg, Attend, AxisSet, Body, Bounds, Branch, Buffer, BufferId, Carry, Combine, Contract, Entry, Index, Inst, InstKind,
    Kernel, KernelBody, KernelId, Launch, Loop, Mode, Nest, Place, Product, Program, Reduction, Scatter, Side, Softmax, Sort,
    Stage, Step, Store, Sum, Trap, TrapId, Trip, ValueId, View,
};
use crate::location::Loc;
use crate::module::StateId;
use crate::op::{Extreme, ReduceKind, ScatterKind};
use crate::scalar::ScalarFn;
use crate::text::constant::scalar;
use crate::text::lex::Token;
use crate::text::parse::{header, loc, states, symbols};
use crate::text::value::{Parsed, Parser, Value as _};
use crate::ty::Shape;

/// The program that a text describes.
///
/// # Errors
/// What was expected where, as `<text>:line:column`; an invariant that [`crate::kernel::verify`] finds violated.
pub fn parse(text: &str) -> Result<Program, Error> {
    let mut input = Parser::new(text);
    let program = program(&mut input)?;
    crate::kernel::verify(&program)?;
    Ok(program)
}

fn program(input: &mut Parser<'_>) -> Parsed<Program> {
    header(input, "program", VERSION)?;
    symbols(input)?;
    let mut program = Program { symbols: input.symbols.values().cloned().collect(), ..Program::default() };
    program.state = states(input)?;
    while input.eat_word("const") {
        numbered(input, "c", program.consts.len())?;
        input.mark('=')?;
        program.consts.push(Array::parse(input)?);
    }
    while input.eat_word("trap") {
        numbered(input, "t", program.traps.len())?;
        program.traps.push(Trap { message: input.quoted()?, loc: loc(input)? });
    }
    while input.eat_word("kernel") {
        numbered(input, "k", program.kernels.len())?;
        program.kernels.push(kernel(input)?);
    }
    let slots = program.state.iter().zip(0..).map(|(decl, id)| (decl.path.clone(), StateId(id))).collect();
    while input.eat_word("entry") {
        program.entries.push(entry(input, &slots)?);
    }
    if input.peek() == Token::End { Ok(program) } else { Err(input.expected("`kernel`, `entry` or the end")) }
}

/// `c3`: a word of this letter and a number.
fn word_id(input: &mut Parser<'_>, letter: &str, what: &str) -> Parsed<u32> {
    let digits = if let Token::Word(word) = input.peek() { word.strip_prefix(letter) } else { None };
    let id = digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| input.expected(&format!("{what}, as `{letter}0`")))?;
    input.next();
    Ok(id)
}

/// `c3`, which must be this number: things are numbered in order.
fn numbered(input: &mut Parser<'_>, letter: &str, expected: usize) -> Parsed<()> {
    let name = format!("{letter}{expected}");
    if input.eat_word(&name) { Ok(()) } else { Err(input.expected(&format!("`{name}`"))) }
}

fn kernel(input: &mut Parser<'_>) -> Parsed<Kernel> {
    let name = input.quoted()?;
    input.mark('(')?;
    let mut args = Vec::new();
    input.list(')', |input| {
        args.push(arg(input, args.len())?);
        Ok(())
    })?;
    let body = if input.eat_word("nest") {
        KernelBody::Nest(nest(input, &args)?)
    } else if input.eat_word("contract") {
        KernelBody::Contract(contract(input, &args)?)
    } else if input.eat_word("scatter") {
        KernelBody::Scatter(scatter(input, &args)?)
    } else if input.eat_word("sort") {
        KernelBody::Sort(sort(input, &args)?)
    } else if input.eat_word("attend") {
        KernelBody::Attend(attend(input, &args)?)
    } else {
        return Err(input.expected("`nest`, `contract`, `scatter`, `sort` or `attend`"));
    };
    input.axes.clear();
    Ok(Kernel { name, args, body })
}

/// `read p0: f32[batch, 784] strides [1, batch]`
fn arg(input: &mut Parser<'_>, id: usize) -> Parsed<Arg> {
    let mode = Mode::parse(input)?;
    numbered(input, "p", id)?;
    input.mark(':')?;
    let dtype = DType::parse(input)?;
    let shape = Shape::parse(input)?;
    let strides = if input.eat_word("strides") { Vec::parse(input)? } else { shape.strides() };
    Ok(Arg { dtype, shape: shape.0, strides, mode })
}

/// The axes' sizes, which `a0`, `a1`, .. have from here on.
fn axes(input: &mut Parser<'_>) -> Parsed<Vec<Dim>> {
    let at = input.place();
    let axes = Vec::<Dim>::parse(input)?;
    if axes.len() > AxisSet::MAX {
        return Err(input.fail(at, format!("a kernel has at most {} axes", AxisSet::MAX)));
    }
    input.axes.clone_from(&axes);
    Ok(axes)
}

fn nest(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Nest> {
    let axes = axes(input)?;
    let mut stages = Vec::new();
    input.mark('{')?;
    while !input.eat('}') {
        stages.push(stage(input, args)?);
    }
    Ok(Nest { axes, stages })
}

fn stage(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Stage> {
    input.word("stage")?;
    let over = named_set(input, "over")?;
    let keep = named_set(input, "keep")?;
    input.mark('{')?;
    let body = body(input, args)?;
    let mut reductions = Vec::new();
    while let Some(reduction) = reduction(input)? {
        reductions.push(reduction);
    }
    let stores = stores(input)?;
    input.mark('}')?;
    Ok(Stage { over, keep, body, reductions, stores })
}

fn named_set(input: &mut Parser<'_>, word: &str) -> Parsed<AxisSet> {
    input.word(word)?;
    AxisSet::parse(input)
}

/// `reduce sum(%0): f32`, `arg max(%0): i64`
fn reduction(input: &mut Parser<'_>) -> Parsed<Option<Reduction>> {
    let combine = if input.eat_word("reduce") {
        Combine::Reduce(ReduceKind::parse(input)?)
    } else if input.eat_word("arg") {
        Combine::Arg(Extreme::parse(input)?)
    } else {
        return Ok(None);
    };
    input.mark('(')?;
    let value = ValueId::parse(input)?;
    input.mark(')')?;
    input.mark(':')?;
    Ok(Some(Reduction { combine, value, dtype: DType::parse(input)? }))
}

fn stores(input: &mut Parser<'_>) -> Parsed<Vec<Store>> {
    let mut stores = Vec::new();
    while input.eat_word("store") {
        stores.push(store(input)?);
    }
    Ok(stores)
}

/// `p2[a0, %1] = %3`
fn store(input: &mut Parser<'_>) -> Parsed<Store> {
    let arg = word_id(input, "p", "an argument")? as usize;
    let index = Vec::<Index>::parse(input)?;
    input.mark('=')?;
    Ok(Store { arg, index, value: ValueId::parse(input)? })
}

fn contract(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Contract> {
    let axes = axes(input)?;
    let batch = named_set(input, "batch")?;
    let (m, n, k) = (named_set(input, "m")?, named_set(input, "n")?, named_set(input, "k")?);
    input.word("acc")?;
    let acc = DType::parse(input)?;
    input.mark('{')?;
    let (a, b) = (side(input, "a", args)?, side(input, "b", args)?);
    input.word("epilogue")?;
    input.mark('{')?;
    let epilogue = body(input, args)?;
    let stores = stores(input)?;
    input.mark('}')?;
    input.mark('}')?;
    Ok(Contract { axes, batch, m, n, k, a, b, acc, epilogue, stores })
}

fn side(input: &mut Parser<'_>, name: &str, args: &[Arg]) -> Parsed<Side> {
    input.word("side")?;
    input.word(name)?;
    input.mark('{')?;
    let body = body(input, args)?;
    input.word("yield")?;
    let value = ValueId::parse(input)?;
    input.mark('}')?;
    Ok(Side { body, value })
}

fn scatter(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Scatter> {
    let axes = axes(input)?;
    let free = named_set(input, "free")?;
    input.mark('{')?;
    let body = body(input, args)?;
    let Some(kind) = ScatterKind::ALL.into_iter().find(|kind| input.eat_word(word(*kind))) else {
        return Err(input.expected("`set`, `add`, `mul`, `max` or `min`"));
    };
    let to = store(input)?;
    let when = if input.eat_word("when") { Some(ValueId::parse(input)?) } else { None };
    input.mark('}')?;
    Ok(Scatter { axes, free, body, kind, to, when })
}

fn sort(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Sort> {
    let axes = axes(input)?;
    input.word("along")?;
    let axis = usize::parse(input)?;
    let descending = input.eat_word("descending");
    input.mark('{')?;
    let body = body(input, args)?;
    input.word("place")?;
    let to = store(input)?;
    input.mark('}')?;
    Ok(Sort { axes, axis, descending, body, to })
}

fn attend(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Attend> {
    let axes = axes(input)?;
    let batch = named_set(input, "batch")?;
    input.word("rows")?;
    let rows = usize::parse(input)?;
    let columns = named_set(input, "columns")?;
    input.word("acc")?;
    let acc = DType::parse(input)?;
    input.mark('{')?;
    let mut products = Vec::new();
    while input.eat_word("product") {
        products.push(product(input, args)?);
    }
    input.word("weights")?;
    input.mark('{')?;
    let weights = body(input, args)?;
    input.mark('}')?;
    let softmax = if input.eat_word("softmax") { Some(softmax(input)?) } else { None };
    let (mut keep, mut sums, mut across) = (Vec::new(), Vec::new(), Vec::new());
    while input.eat_word("keep") {
        keep.push(Dim::parse(input)?);
    }
    while input.eat_word("sum") {
        sums.push(sum(input, args)?);
    }
    while input.eat_word("across") {
        across.push(sum(input, args)?);
    }
    input.mark('}')?;
    Ok(Attend { axes, batch, rows, columns, products, weights, softmax, keep, sums, across, acc })
}

fn product(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Product> {
    input.word("over")?;
    let k = usize::parse(input)?;
    input.mark('{')?;
    let (rows, columns) = (side(input, "rows", args)?, side(input, "columns", args)?);
    input.mark('}')?;
    Ok(Product { k, rows, columns })
}

fn softmax(input: &mut Parser<'_>) -> Parsed<Softmax> {
    let score = ValueId::parse(input)?;
    let log_sum = if input.eat_word("log") {
        input.word("sum")?;
        Some(store(input)?)
    } else {
        None
    };
    Ok(Softmax { score, log_sum })
}

fn sum(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Sum> {
    input.word("free")?;
    let free = usize::parse(input)?;
    let to = store(input)?;
    input.mark('{')?;
    let side = side(input, "summed", args)?;
    input.mark('}')?;
    Ok(Sum { free, side, to })
}

/// `%2: f32 = mul(%0, %1)`, one a line.
fn body(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Body> {
    let mut insts = Vec::new();
    while input.eat('%') {
        let at = input.place();
        let id = usize::parse(input)?;
        if id != insts.len() {
            return Err(input.fail(at, format!("expected `%{}`, found `%{id}`", insts.len())));
        }
        input.mark(':')?;
        let dtype = DType::parse(input)?;
        input.mark('=')?;
        insts.push(Inst { kind: kind(input, dtype, args)?, dtype });
    }
    Ok(Body { insts })
}

fn kind(input: &mut Parser<'_>, dtype: DType, args: &[Arg]) -> Parsed<InstKind> {
    let Token::Word(name) = input.peek() else { return Err(input.expected("an instruction")) };
    if let Ok(function) = name.parse::<ScalarFn>() {
        input.next();
        return Ok(InstKind::Map(function, operands(input)?));
    }
    let at = input.place();
    input.next();
    match name {
        "const" => Ok(InstKind::Const(scalar(input, dtype)?)),
        "index" => Ok(InstKind::Index(Dim::parse(input)?)),
        "load" => Ok(InstKind::Load(load(input, args)?)),
        "cast" => exactly(input).map(|[value]| InstKind::Cast(value)),
        "bitcast" => exactly(input).map(|[value]| InstKind::Bitcast(value)),
        "reduced" => reduced(input),
        "acc" => Ok(InstKind::Acc),
        "check" => {
            let [ok, value] = exactly(input)?;
            Ok(InstKind::Check { ok, value, trap: TrapId(word_id(input, "t", "a trap")?) })
        }
        "philox" => {
            let [a, b, c, d, position] = exactly(input)?;
            input.word("stream")?;
            Ok(InstKind::Philox { key: [a, b, c, d], position, stream: u32::parse(input)? })
        }
        _ => Err(input.fail(at, format!("expected an instruction, found `{name}`"))),
    }
}

fn operands(input: &mut Parser<'_>) -> Parsed<Vec<ValueId>> {
    input.mark('(')?;
    input.list(')', ValueId::parse)
}

fn exactly<const N: usize>(input: &mut Parser<'_>) -> Parsed<[ValueId; N]> {
    let at = input.place();
    let values = operands(input)?;
    let count = values.len();
    values.try_into().map_err(|_| input.fail(at, format!("takes {N} values, got {count}")))
}

/// `reduced(0, 1)`
fn reduced(input: &mut Parser<'_>) -> Parsed<InstKind> {
    input.mark('(')?;
    let stage = usize::parse(input)?;
    input.mark(',')?;
    let slot = usize::parse(input)?;
    input.mark(')')?;
    Ok(InstKind::Reduced { stage, slot })
}

/// `load p0[a0, %1] fill 0.0`
fn load(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Access> {
    let at = input.place();
    let arg = word_id(input, "p", "an argument")? as usize;
    let dtype = args.get(arg).map(|arg| arg.dtype).ok_or_else(|| input.fail(at, "the kernel has no such argument"))?;
    let index = Vec::<Index>::parse(input)?;
    let bounds = if input.eat_word("fill") {
        Bounds::Fill(scalar(input, dtype)?)
    } else if input.eat_word("clamp") {
        Bounds::Clamp
    } else {
        Bounds::Proven
    };
    Ok(Access { arg, index, bounds })
}

type Slots = BTreeMap<String, StateId>;

fn entry(input: &mut Parser<'_>, slots: &Slots) -> Parsed<Entry> {
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
