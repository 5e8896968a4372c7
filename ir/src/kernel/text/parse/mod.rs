//! Text to kernel programs.

mod body;
mod entry;
mod kernel;

use super::VERSION;
use crate::array::Array;
use crate::error::Error;
use crate::kernel::{Program, Trap};
use crate::module::StateId;
use crate::text::lex::Token;
use crate::text::parse::{header, loc, states, symbols};
use crate::text::value::{Parsed, Parser, Value as _};
use entry::entry;
use kernel::kernel;

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
