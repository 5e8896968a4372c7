//! What attributes are made of, each with its text in both directions: numbers, words, sizes, shapes, types, lists.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::lex::{Lexer, Token, unescape};
use crate::dim::{Dim, MAX_DEPTH, MAX_NODES, Symbol};
use crate::dtype::DType;
use crate::error::Diag;
use crate::module::{FuncId, Module, StateKind};
use crate::name::{Name, Quoted};
use crate::op::{Composite, Extreme, Perm, ReduceKind};
use crate::ty::{Shape, Type};

/// What reading gives.
pub(crate) type Parsed<T> = Result<T, Diag>;

/// A text being written, and what names in it mean.
pub(crate) struct Printer<'a> {
    pub(crate) text: String,
    pub(crate) module: Option<&'a Module>,
}

/// A text being read, and what names in it mean.
#[derive(Clone)]
pub(crate) struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    /// The place of `token`.
    at: usize,
    pub(crate) symbols: BTreeMap<String, Symbol>,
    pub(crate) functions: BTreeMap<String, FuncId>,
    /// The sizes of loop axes: `a0`, `a1`, ..
    pub(crate) axes: Vec<Dim>,
}

/// Something with a text.
pub(crate) trait Value: Sized {
    /// Writes it.
    fn print(&self, out: &mut Printer<'_>);
    /// Reads it.
    fn parse(input: &mut Parser<'_>) -> Parsed<Self>;
}

impl<'a> Printer<'a> {
    pub(crate) fn new(module: Option<&'a Module>) -> Self {
        Self { text: String::new(), module }
    }

    pub(crate) fn put(&mut self, text: impl std::fmt::Display) {
        write!(self.text, "{text}").expect("writing to a string does not fail");
    }

    /// Items with `, ` between them.
    pub(crate) fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut print: impl FnMut(&mut Self, T)) {
        for (position, item) in items.into_iter().enumerate() {
            if position > 0 {
                self.put(", ");
            }
            print(self, item);
        }
    }
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut lexer = Lexer::new(text);
        let (token, at) = lexer.next();
        Self { lexer, token, at, symbols: BTreeMap::new(), functions: BTreeMap::new(), axes: Vec::new() }
    }

    pub(crate) fn peek(&self) -> Token<'a> {
        self.token
    }

    /// The place of the next token.
    pub(crate) fn place(&self) -> usize {
        self.at
    }

    pub(crate) fn next(&mut self) -> Token<'a> {
        let token = self.token;
        (self.token, self.at) = self.lexer.next();
        token
    }

    /// An error at a place.
    pub(crate) fn fail(&self, at: usize, message: impl Into<String>) -> Diag {
        self.lexer.diag(at, message)
    }

    /// What was expected at the next token.
    pub(crate) fn expected(&self, what: &str) -> Diag {
        let found = match self.token {
            Token::Word(text) | Token::Number(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
            Token::Quoted(text) => format!("`\"{}\"`", text.chars().take(40).collect::<String>()),
            Token::Unclosed => "a `\"` that is not closed".to_owned(),
            Token::Mark(char) => format!("`{}`", char.escape_debug()),
            Token::End => "the end".to_owned(),
        };
        self.fail(self.at, format!("expected {what}, found {found}"))
    }

    pub(crate) fn eat(&mut self, mark: char) -> bool {
        let is = self.token == Token::Mark(mark);
        if is {
            self.next();
        }
        is
    }

    pub(crate) fn eat_word(&mut self, word: &str) -> bool {
        let is = self.token == Token::Word(word);
        if is {
            self.next();
        }
        is
    }

    pub(crate) fn mark(&mut self, mark: char) -> Parsed<()> {
        if self.eat(mark) { Ok(()) } else { Err(self.expected(&format!("`{mark}`"))) }
    }

    pub(crate) fn word(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word) { Ok(()) } else { Err(self.expected(&format!("`{word}`"))) }
    }

    /// A quoted string.
    pub(crate) fn quoted(&mut self) -> Parsed<String> {
        let Token::Quoted(raw) = self.token else { return Err(self.expected("a quoted string")) };
        let string = unescape(raw).map_err(|message| self.fail(self.at, message))?;
        self.next();
        Ok(string)
    }

    /// A word or a quoted string.
    pub(crate) fn name(&mut self, what: &str) -> Parsed<String> {
        match self.token {
            Token::Word(word) => {
                self.next();
                Ok(word.to_owned())
            }
            Token::Quoted(_) => self.quoted(),
            Token::Number(_) | Token::Unclosed | Token::Mark(_) | Token::End => Err(self.expected(what)),
        }
    }

    /// `items` until `end`, with commas between them and perhaps one after the last.
    pub(crate) fn list<T>(&mut self, end: char, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.eat(end) {
            items.push(item(self)?);
            if !self.eat(',') && self.token != Token::Mark(end) {
                return Err(self.expected(&format!("`,` or `{end}`")));
            }
        }
        Ok(items)
    }
}

macro_rules! integers {
    ($($ty:ident)*) => {$(
        impl Value for $ty {
            fn print(&self, out: &mut Printer<'_>) {
                out.put(self);
            }

            fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
                let at = input.place();
                let sign = if input.eat('-') { "-" } else { "" };
                let Token::Number(digits) = input.peek() else { return Err(input.expected("an integer")) };
                let value = format!("{sign}{digits}").parse();
                input.next();
                value.map_err(|_| input.fail(at, format!("{sign}{digits} is no {}", stringify!($ty))))
            }
        }
    )*};
}

integers!(i128 i64 u64 u32 u16 usize);

/// A closed set of words.
pub(crate) trait Words: Copy + 'static {
    /// What is named, in messages.
    const WHAT: &'static str;
    /// Every one with its word.
    fn words() -> Vec<(&'static str, Self)>;
}

macro_rules! words {
    ($($ty:ident $what:literal $all:expr;)*) => {$(
        impl Words for $ty {
            const WHAT: &'static str = $what;
            fn words() -> Vec<(&'static str, Self)> {
                $all.into_iter().map(|x| (x.name(), x)).collect()
            }
        }
        impl Value for $ty {
            fn print(&self, out: &mut Printer<'_>) {
                out.put(self.name());
            }
            fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
                one_of(input)
            }
        }
    )*};
}

words! {
    DType "an element type" DType::ALL;
    ReduceKind "a way to reduce" ReduceKind::ALL;
    Extreme "an extreme" Extreme::ALL;
    Composite "a tag" Composite::ALL;
    StateKind "a kind of state" StateKind::ALL;
}

impl Words for bool {
    const WHAT: &'static str = "whether";

    fn words() -> Vec<(&'static str, Self)> {
        vec![("true", true), ("false", false)]
    }
}

impl Value for bool {
    fn print(&self, out: &mut Printer<'_>) {
        out.put(self);
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        one_of(input)
    }
}

/// One of the words.
pub(crate) fn one_of<T: Words>(input: &mut Parser<'_>) -> Parsed<T> {
    let words = T::words();
    let found = words.iter().find(|(word, _)| input.peek() == Token::Word(word));
    let Some((_, value)) = found else {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        return Err(input.expected(&format!("{} ({})", T::WHAT, all.join(", "))));
    };
    input.next();
    Ok(*value)
}

impl Value for String {
    fn print(&self, out: &mut Printer<'_>) {
        out.put(Quoted(self));
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        input.quoted()
    }
}

impl<T: Value> Value for Vec<T> {
    fn print(&self, out: &mut Printer<'_>) {
        out.put("[");
        out.list(self, |out, item| item.print(out));
        out.put("]");
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        input.mark('[')?;
        input.list(']', T::parse)
    }
}

impl Value for Perm {
    fn print(&self, out: &mut Printer<'_>) {
        out.put("[");
        out.list(self.axes(), |out, axis| out.put(axis));
        out.put("]");
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        let at = input.place();
        Self::new(Vec::parse(input)?).map_err(|message| input.fail(at, message))
    }
}

impl Value for FuncId {
    /// `@name`; a function that there is not is `@?7`, which does not parse.
    fn print(&self, out: &mut Printer<'_>) {
        match out.module.and_then(|module| module.functions.get(self)) {
            Some(function) => out.put(format_args!("@{}", Name(&function.name))),
            None => out.put(format_args!("@?{}", self.0)),
        }
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        input.mark('@')?;
        let at = input.place();
        let name = input.name("the name of a function")?;
        input.functions.get(&name).copied().ok_or_else(|| input.fail(at, format!("there is no function `{name}`")))
    }
}

impl Value for Type {
    fn print(&self, out: &mut Printer<'_>) {
        out.put(self);
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        Ok(Self { dtype: DType::parse(input)?, shape: Shape::parse(input)? })
    }
}

impl Value for Shape {
    fn print(&self, out: &mut Printer<'_>) {
        out.put(self);
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        let at = input.place();
        let shape = Self(Vec::parse(input)?);
        if shape.is_valid() {
            Ok(shape)
        } else {
            Err(input.fail(at, "no tensor has this shape: a size is negative, or too large"))
        }
    }
}

impl Value for Dim {
    fn print(&self, out: &mut Printer<'_>) {
        out.put(self);
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        sum(input, MAX_DEPTH)
    }
}

/// `- 2*x*y + floordiv(x, 4) - 1`, with `depth` more levels allowed.
fn sum(input: &mut Parser<'_>, depth: usize) -> Parsed<Dim> {
    let at = input.place();
    let mut terms = Vec::new();
    let mut negative = input.eat('-');
    loop {
        let product = product(input, negative, depth)?;
        terms.extend(product.terms());
        if terms.len() > MAX_NODES {
            return Err(input.fail(at, format!("a size of more than {MAX_NODES} terms")));
        }
        negative = match input.peek() {
            Token::Mark('+') => false,
            Token::Mark('-') => true,
            Token::Mark(_) | Token::Word(_) | Token::Number(_) | Token::Quoted(_) | Token::Unclosed | Token::End => break,
        };
        input.next();
    }
    let sum = Dim::from_terms(terms);
    if sum.is_small() { Ok(sum) } else { Err(input.fail(at, format!("a size of more than {MAX_NODES} parts"))) }
}

fn product(input: &mut Parser<'_>, negative: bool, depth: usize) -> Parsed<Dim> {
    let at = input.place();
    let mut product = factor(input, negative, depth)?;
    while input.eat('*') {
        let factor = factor(input, false, depth)?;
        if product.term_count().max(1).saturating_mul(factor.term_count()) > MAX_NODES {
            return Err(input.fail(at, format!("a size of more than {MAX_NODES} terms")));
        }
        product = product * factor;
        if !product.is_small() {
            return Err(input.fail(at, format!("a size of more than {MAX_NODES} parts")));
        }
    }
    Ok(product)
}

fn factor(input: &mut Parser<'_>, negative: bool, depth: usize) -> Parsed<Dim> {
    let sign = |dim: Dim| if negative { -dim } else { dim };
    if depth == 0 {
        return Err(input.expected(&format!("at most {MAX_DEPTH} nested operations")));
    }
    match input.peek() {
        Token::Number(_) => integer(input, negative),
        Token::Mark('(') => {
            input.next();
            let inner = sum(input, depth - 1)?;
            input.mark(')')?;
            Ok(sign(inner))
        }
        Token::Word(word) => {
            let at = input.place();
            input.next();
            if input.peek() == Token::Mark('(') {
                function(input, (word, at), depth).map(sign)
            } else {
                variable(input, word, at).map(sign)
            }
        }
        Token::Quoted(_) => {
            let at = input.place();
            let name = input.quoted()?;
            symbol(input, &name, at).map(sign)
        }
        Token::Mark(_) | Token::Unclosed | Token::End => Err(input.expected("a size")),
    }
}

/// With its sign, because `-2^63` is a number and `2^63` is none.
fn integer(input: &mut Parser<'_>, negative: bool) -> Parsed<Dim> {
    let at = input.place();
    let magnitude = i128::from(u64::parse(input)?);
    let value = i64::try_from(if negative { -magnitude } else { magnitude });
    value.map(Dim::from).map_err(|_| input.fail(at, "a number of more than 64 bits"))
}

fn variable(input: &Parser<'_>, word: &str, at: usize) -> Parsed<Dim> {
    let axis = word.strip_prefix('a').and_then(|digits| digits.parse::<u32>().ok());
    match axis {
        Some(id) => match input.axes.get(id as usize) {
            Some(size) => Ok(Dim::axis(id, size)),
            None => Err(input.fail(at, format!("there is no loop axis `{word}` here"))),
        },
        None => symbol(input, word, at),
    }
}

fn symbol(input: &Parser<'_>, name: &str, at: usize) -> Parsed<Dim> {
    let symbol = input.symbols.get(name).map(Dim::sym);
    symbol.ok_or_else(|| input.fail(at, format!("the symbol `{name}` is not declared")))
}

fn function(input: &mut Parser<'_>, (name, at): (&str, usize), depth: usize) -> Parsed<Dim> {
    input.mark('(')?;
    let x = sum(input, depth - 1)?;
    input.mark(',')?;
    let y = sum(input, depth - 1)?;
    input.mark(')')?;
    let divides = matches!(name, "floordiv" | "ceildiv" | "mod");
    if divides && y.bounds().hi < 1 {
        return Err(input.fail(at, format!("`{name}` by {y}, which is not positive")));
    }
    match name {
        "floordiv" => Ok(x.floor_div(&y)),
        "ceildiv" => Ok(x.ceil_div(&y)),
        "mod" => Ok(x.modulo(&y)),
        "min" => Ok(x.min_with(&y)),
        "max" => Ok(x.max_with(&y)),
        _ => Err(input.fail(at, format!("expected floordiv, ceildiv, mod, min or max, found `{name}`"))),
    }
}
