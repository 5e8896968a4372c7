//! What kernels are made of, each with its text in both directions.

use crate::dim::Dim;
use crate::kernel::{AxisSet, Index, Mode, ValueId};
use crate::text::lex::Token;
use crate::text::value::{Parsed, Parser, Printer, Value, Words, one_of};

impl Value for ValueId {
    /// `%3`
    fn print(&self, out: &mut Printer<'_>) {
        out.put(format_args!("%{}", self.0));
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        if !input.eat('%') {
            return Err(input.expected("a value, as `%0`"));
        }
        u32::parse(input).map(Self)
    }
}

impl Value for Index {
    /// `2*a0 + 1`, `%3` or `%3 + a0`
    fn print(&self, out: &mut Printer<'_>) {
        match self {
            Self::At(dim) => dim.print(out),
            Self::Value(value, dim) => {
                value.print(out);
                if !dim.is(0) {
                    out.put(" + ");
                    dim.print(out);
                }
            }
        }
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        if input.peek() != Token::Mark('%') {
            return Dim::parse(input).map(Self::At);
        }
        let value = ValueId::parse(input)?;
        let dim = if input.eat('+') { Dim::parse(input)? } else { Dim::ZERO };
        Ok(Self::Value(value, dim))
    }
}

impl Value for AxisSet {
    /// `[0, 2]`
    fn print(&self, out: &mut Printer<'_>) {
        out.put("[");
        out.list(self.iter(), |out, axis| out.put(axis));
        out.put("]");
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        input.mark('[')?;
        let axes = input.list(']', |input| {
            let at = input.place();
            let axis = usize::parse(input)?;
            if axis < Self::MAX { Ok(axis) } else { Err(input.fail(at, format!("a kernel has at most {} axes", Self::MAX))) }
        })?;
        Ok(axes.into_iter().collect())
    }
}

impl Words for Mode {
    const WHAT: &'static str = "how an argument is used";

    fn words() -> Vec<(&'static str, Self)> {
        vec![("read", Self::Read), ("write", Self::Write), ("update", Self::Update)]
    }
}

impl Value for Mode {
    fn print(&self, out: &mut Printer<'_>) {
        out.put(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Update => "update",
        });
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        one_of(input)
    }
}
