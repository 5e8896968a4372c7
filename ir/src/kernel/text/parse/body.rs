//! The instructions of a body.

use super::word_id;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::{Access, Arg, Body, Bounds, Index, Inst, InstKind, TrapId, ValueId};
use crate::scalar::ScalarFn;
use crate::text::constant::scalar;
use crate::text::lex::Token;
use crate::text::value::{Parsed, Parser, Value as _};

/// `%2: f32 = mul(%0, %1)`, one a line.
pub(super) fn body(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Body> {
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
