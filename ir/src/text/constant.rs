//! Constants: scalars, small arrays element by element, large ones as base64 of their little-endian bytes.

use super::lex::Token;
use super::value::{Parsed, Parser, Printer, Value};
use crate::array::Array;
use crate::base64;
use crate::dtype::{DType, DTypeKind, Scalar};
use crate::ty::Type;

/// The most elements that are written one by one.
const INLINE: usize = 16;

impl Value for Array {
    /// `f32[2] [1.0, 2.5]` or `f32[1000] base64 "..."`
    fn print(&self, out: &mut Printer<'_>) {
        self.ty().print(out);
        if self.numel() <= INLINE && (0..self.numel()).all(|position| is_plain(self.get(position))) {
            out.put(" [");
            out.list(0..self.numel(), |out, position| out.put(self.get(position)));
            out.put("]");
        } else {
            out.put(" base64 \"");
            base64::encode(self.bytes(), &mut out.text);
            out.put("\"");
        }
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        let at = input.place();
        let ty = Type::parse(input)?;
        let shape = ty.shape.as_const().ok_or_else(|| input.fail(at, "the sizes of a constant are numbers"))?;
        let made = if input.eat_word("base64") {
            let Token::Quoted(digits) = input.peek() else { return Err(input.expected("a quoted string")) };
            let bytes = base64::decode(digits).ok_or_else(|| input.expected("base64 digits"))?;
            input.next();
            Self::from_bytes(ty.dtype, shape, &bytes)
        } else if input.eat('[') {
            let items = input.list(']', |input| scalar(input, ty.dtype))?;
            Self::from_scalars(ty.dtype, shape, &items)
        } else {
            return Err(input.expected("`[` or `base64`"));
        };
        made.map_err(|diag| input.fail(at, diag.message))
    }
}

/// Whether the text of the scalar reads back as the same bits: all but the NaNs that say more than NaN.
fn is_plain(scalar: Scalar) -> bool {
    !(scalar.dtype().is_float() && scalar.as_f64().is_nan()) || scalar == Scalar::float(scalar.dtype(), f64::NAN)
}

/// Writes a scalar, a peculiar NaN by its bits: `nan(0x7ff8000000000001)`.
pub(crate) fn print_scalar(scalar: Scalar, out: &mut Printer<'_>) {
    out.put(scalar);
    if !is_plain(scalar) {
        out.put(format_args!("(0x{:x})", scalar.bits()));
    }
}

/// Reads a scalar of a known type.
pub(crate) fn scalar(input: &mut Parser<'_>, dtype: DType) -> Parsed<Scalar> {
    match dtype.kind() {
        DTypeKind::Float => float(input, dtype),
        DTypeKind::Signed | DTypeKind::Unsigned => {
            let at = input.place();
            let value = i128::parse(input)?;
            let scalar = Scalar::from_i128(dtype, value);
            if scalar.as_i128() == value { Ok(scalar) } else { Err(input.fail(at, format!("{value} is no {dtype}"))) }
        }
        DTypeKind::Bool if input.eat_word("true") => Ok(Scalar::bool(true)),
        DTypeKind::Bool if input.eat_word("false") => Ok(Scalar::bool(false)),
        DTypeKind::Bool => Err(input.expected("`true` or `false`")),
    }
}

fn float(input: &mut Parser<'_>, dtype: DType) -> Parsed<Scalar> {
    let at = input.place();
    let negative = input.eat('-');
    let magnitude = match input.peek() {
        Token::Word("nan") => {
            input.next();
            return nan(input, dtype);
        }
        Token::Word("inf") => Some(f64::INFINITY),
        // Digits of f32 are read as f32: by way of f64 they would be rounded twice.
        Token::Number(digits) if dtype == DType::F64 => digits.parse().ok().filter(|x: &f64| x.is_finite()),
        Token::Number(digits) => digits.parse::<f32>().ok().filter(|x| x.is_finite()).map(f64::from),
        Token::Word(_) | Token::Quoted(_) | Token::Unclosed | Token::Mark(_) | Token::End => {
            return Err(input.expected(&format!("a number of type {dtype}")));
        }
    };
    input.next();
    let magnitude = magnitude.ok_or_else(|| input.fail(at, format!("the number is out of the range of {dtype}")))?;
    Ok(Scalar::float(dtype, if negative { -magnitude } else { magnitude }))
}

/// What follows `nan`: nothing, or bits between parentheses.
fn nan(input: &mut Parser<'_>, dtype: DType) -> Parsed<Scalar> {
    if !input.eat('(') {
        return Ok(Scalar::float(dtype, f64::NAN));
    }
    let at = input.place();
    let Token::Number("0") = input.next() else { return Err(input.fail(at, "expected `0x` and the bits of a NaN")) };
    let word = input.name("the bits of a NaN")?;
    let bits = word.strip_prefix('x').and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let scalar = bits.filter(|bits| f64::from_bits(*bits).is_nan()).and_then(|bits| Scalar::from_bits(dtype, bits));
    input.mark(')')?;
    scalar.ok_or_else(|| input.fail(at, format!("these bits are no NaN of {dtype}")))
}
