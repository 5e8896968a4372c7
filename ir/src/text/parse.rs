//! Text to modules.

use std::collections::BTreeMap;

use super::lex::Token;
use super::value::{Parsed, Parser, Value as _};
use super::{VERSION, attrs};
use crate::dim::{MAX_SIZE, Symbol};
use crate::error::{Diag, Error};
use crate::graph::Value;
use crate::location::{Loc, Place};
use crate::module::{FuncId, FuncResult, Function, Module, Role, Sink, StateDecl, StateId, StateKind};
use crate::op::{Call, If, Op, Scan};
use crate::ty::Type;
use crate::verify::verify;

/// The module that a text describes.
///
/// # Errors
/// What was expected where, as `<text>:line:column`; what inference says against an operation; an invariant that
/// [`verify`] finds violated.
///
/// ```
/// let text = "graver 1\n\nfunc @main(\n  %0: f32[] = arg \"x\",\n) {\n  %1 = exp(%0) : f32[]\n  return %1\n}\n";
/// let module = graver_ir::text::parse(text)?;
/// assert_eq!(graver_ir::text::print(&module), text);
/// # Ok::<(), graver_ir::Error>(())
/// ```
pub fn parse(text: &str) -> Result<Module, Error> {
    let mut input = Parser::new(text);
    let module = module(&mut input)?;
    verify(&module)?;
    Ok(module)
}

fn module(input: &mut Parser<'_>) -> Parsed<Module> {
    header(input, "graver", VERSION)?;
    symbols(input)?;
    let mut module = Module { state: states(input)?, ..Module::default() };
    let slots = module.state.iter().zip(0..).map(|(decl, id)| (decl.path.clone(), StateId(id))).collect();
    function_names(input)?;
    while input.peek() != Token::End {
        let function = function(input, &slots)?;
        module.add(function);
    }
    Ok(module)
}

/// `graver 1`
pub(crate) fn header(input: &mut Parser<'_>, word: &str, version: u32) -> Parsed<()> {
    input.word(word)?;
    let at = input.place();
    let found = u32::parse(input)?;
    if found == version {
        Ok(())
    } else {
        Err(input.fail(at, format!("this is a text of version {found}; only version {version} can be read")))
    }
}

/// The symbols, which are known from here on.
pub(crate) fn symbols(input: &mut Parser<'_>) -> Parsed<()> {
    while input.eat_word("sym") {
        let at = input.place();
        let name = input.name("the name of a symbol")?;
        input.mark(':')?;
        let range = input.place();
        let lo = i64::parse(input)?;
        ['.', '.', '='].into_iter().try_for_each(|mark| input.mark(mark))?;
        let hi = i64::parse(input)?;
        let multiple = if input.eat_word("multiple") { i64::parse(input)? } else { 1 };
        if !(0 <= lo && lo <= hi && hi <= MAX_SIZE && multiple >= 1) {
            return Err(input.fail(range, format!("a symbol's range lies inside 0..={MAX_SIZE}, its divisor is 1 or more")));
        }
        if input.symbols.insert(name.clone(), Symbol::ranged(name.clone(), lo, hi, multiple)).is_some() {
            return Err(input.fail(at, format!("the symbol `{name}` is declared twice")));
        }
    }
    Ok(())
}

/// The slots of the state.
pub(crate) fn states(input: &mut Parser<'_>) -> Parsed<Vec<StateDecl>> {
    let mut decls = Vec::new();
    while input.eat_word("state") {
        let path = input.quoted()?;
        input.mark(':')?;
        decls.push(StateDecl { path, ty: Type::parse(input)?, kind: StateKind::parse(input)? });
    }
    Ok(decls)
}

/// Notes the functions of the rest of the text, because calls may stand before their callees.
fn function_names(input: &mut Parser<'_>) -> Parsed<()> {
    let mut ahead = input.clone();
    let mut count = 0;
    while ahead.peek() != Token::End {
        if !(ahead.eat_word("func") && ahead.eat('@')) {
            ahead.next();
            continue;
        }
        let at = ahead.place();
        let name = ahead.name("the name of a function")?;
        if input.functions.insert(name.clone(), FuncId(count)).is_some() {
            return Err(input.fail(at, format!("the function `{name}` is there twice")));
        }
        count += 1;
    }
    Ok(())
}

type Slots = BTreeMap<String, StateId>;

/// What values of a function were made so far.
struct Body<'s> {
    function: Function,
    slots: &'s Slots,
    values: Vec<Value>,
}

fn function(input: &mut Parser<'_>, slots: &Slots) -> Parsed<Function> {
    input.word("func")?;
    input.mark('@')?;
    let name = input.name("the name of a function")?;
    let mut body = Body { function: Function::new(name), slots, values: Vec::new() };
    input.mark('(')?;
    input.list(')', |input| body.param(input))?;
    input.mark('{')?;
    while !input.eat_word("return") {
        body.node(input)?;
    }
    body.results(input)?;
    input.mark('}')?;
    Ok(body.function)
}

impl Body<'_> {
    /// `%0: f32[batch, 784] = arg "images"`
    fn param(&mut self, input: &mut Parser<'_>) -> Parsed<()> {
        self.defined(input)?;
        input.mark(':')?;
        let ty = Type::parse(input)?;
        input.mark('=')?;
        let role = if input.eat_word("arg") {
            Role::Arg(input.quoted()?)
        } else if input.eat_word("state") {
            Role::State(self.slot(input)?)
        } else {
            return Err(input.expected("`arg` or `state`"));
        };
        let node = self.function.add_param(ty, role, loc(input)?);
        self.values.push(node.into());
        Ok(())
    }

    /// `%2 = add(%0, %1) : f32[batch, 784]`
    fn node(&mut self, input: &mut Parser<'_>) -> Parsed<()> {
        let results = self.left_side(input)?;
        let at = input.place();
        let name = input.name("an operation or `return`")?;
        input.mark('(')?;
        let args = input.list(')', |input| self.used(input))?;
        if args.len() > usize::from(u16::MAX) {
            return Err(input.fail(at, "an operation has fewer than 65536 operands"));
        }
        let mut op = attrs::parse(&name, input)?.ok_or_else(|| input.fail(at, format!("there is no operation `{name}`")))?;
        let types_at = input.place();
        let types = types(input, results)?;
        if matches!(op, Op::Param(_)) {
            return Err(input.fail(at, "a parameter stands between the parentheses of its function"));
        }
        if let Op::Call(Call { results, .. }) | Op::If(If { results, .. }) | Op::Scan(Scan { results, .. }) = &mut op {
            results.clone_from(&types);
        }
        let id = self.function.graph.add(op, &args, Loc::UNKNOWN).map_err(|diag| moved(input, at, diag))?;
        let inferred = &self.function.graph.node(id).outs;
        if *inferred != types {
            let (inferred, types) = (list(inferred), list(&types));
            return Err(input.fail(types_at, format!("`{name}` gives {inferred}, the text says {types}")));
        }
        self.values.extend((0..=u16::MAX).take(types.len()).map(|out| id.out(out)));
        self.function.graph.set_loc(id, loc(input)?);
        Ok(())
    }

    /// `%2, %3 =`, or `_ =` where there are no results; how many.
    fn left_side(&mut self, input: &mut Parser<'_>) -> Parsed<usize> {
        let mut results = 0;
        if !input.eat_word("_") {
            loop {
                if results == usize::from(u16::MAX) {
                    return Err(input.expected("fewer than 65536 results"));
                }
                self.number(input, self.values.len() + results)?;
                results += 1;
                if !input.eat(',') {
                    break;
                }
            }
        }
        input.mark('=')?;
        Ok(results)
    }

    /// `%5, update "fc.weight" = %6`
    fn results(&mut self, input: &mut Parser<'_>) -> Parsed<()> {
        if input.peek() == Token::Mark('}') {
            return Ok(());
        }
        loop {
            let sink = if input.eat_word("update") {
                let slot = self.slot(input)?;
                input.mark('=')?;
                Sink::Update(slot)
            } else {
                Sink::Out
            };
            let value = self.used(input)?;
            self.function.results.push(FuncResult { value, sink });
            if !input.eat(',') {
                return Ok(());
            }
        }
    }

    /// The number of the next value.
    fn defined(&self, input: &mut Parser<'_>) -> Parsed<()> {
        self.number(input, self.values.len())
    }

    /// `%7`, which must be this number: values are numbered in order.
    fn number(&self, input: &mut Parser<'_>, expected: usize) -> Parsed<()> {
        if input.peek() == Token::Mark('%') {
            let at = input.place();
            input.next();
            let found = usize::parse(input)?;
            let right = found == expected;
            return if right { Ok(()) } else { Err(input.fail(at, format!("expected `%{expected}`, found `%{found}`"))) };
        }
        Err(input.expected(&format!("`%{expected}`, `return` or `_`")))
    }

    fn used(&self, input: &mut Parser<'_>) -> Parsed<Value> {
        let at = input.place();
        if !input.eat('%') {
            return Err(input.expected("a value, as `%0`"));
        }
        let number = usize::parse(input)?;
        let value = self.values.get(number).copied();
        value.ok_or_else(|| input.fail(at, format!("`%{number}` is not defined before this place")))
    }

    fn slot(&self, input: &mut Parser<'_>) -> Parsed<StateId> {
        let at = input.place();
        let path = input.quoted()?;
        self.slots.get(&path).copied().ok_or_else(|| input.fail(at, format!("there is no state `{path}`")))
    }
}

/// ` : f32[], i64[]`, one type a result.
fn types(input: &mut Parser<'_>, results: usize) -> Parsed<Vec<Type>> {
    let mut types = Vec::new();
    for place in 0..results {
        input.mark(if place == 0 { ':' } else { ',' })?;
        types.push(Type::parse(input)?);
    }
    Ok(types)
}

fn list(types: &[Type]) -> String {
    types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ")
}

/// What inference says, at the place in the text.
fn moved(input: &Parser<'_>, at: usize, diag: Diag) -> Diag {
    let place = input.fail(at, diag.message);
    Diag { op: diag.op, help: diag.help, ..place }
}

/// `loc("src/main.rs":4:5 "encoder.0", "src/lib.rs":7:1)`, or nothing.
pub(crate) fn loc(input: &mut Parser<'_>) -> Parsed<Loc> {
    if !input.eat_word("loc") {
        return Ok(Loc::UNKNOWN);
    }
    let at = input.place();
    input.mark('(')?;
    let chain = input.list(')', place)?;
    Loc::chain(chain).map_err(|message| input.fail(at, message))
}

fn place(input: &mut Parser<'_>) -> Parsed<Place> {
    let file = input.quoted()?;
    input.mark(':')?;
    let line = u32::parse(input)?;
    input.mark(':')?;
    let column = u32::parse(input)?;
    let scope = if matches!(input.peek(), Token::Quoted(_)) { input.quoted()? } else { String::new() };
    Ok(Place { file, line, column, scope, caller: Loc::UNKNOWN })
}
