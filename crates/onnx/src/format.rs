//! Element types that are only stored: 8-bit and smaller floats, integers of a few bits. Their elements are codes in bytes, which are
//! moved as they are and converted to be computed with.

use graver_ir::op::{GatherAxes, ReduceKind};
use graver_ir::{Array, DType, Dim, Op, Scalar, ScalarFn, Value, bf16};

use crate::build::Builder;
use crate::problem::{Problem, Result, unsupported, wrong};
use crate::tensor;

/// An element type of ONNX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// One of the graph language.
    Plain(DType),
    /// One that is stored as codes.
    Coded(Format),
}

/// What codes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub(crate) name: &'static str,
    number: i64,
    /// Bits of a code in a file.
    pub(crate) bits: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Signed,
    Unsigned,
    /// Sign, exponent and mantissa.
    Float {
        mantissa: usize,
        bias: i32,
        special: Special,
    },
    /// An exponent alone, with a bias of 127; all ones are NaN.
    Power,
}

/// Codes of a float that are no finite numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Special {
    /// The highest exponent: infinity, and NaN.
    Ieee,
    /// The highest code is NaN.
    Last,
    /// The code of minus zero is NaN.
    MinusZero,
    None,
}

const fn format(number: i64, name: &'static str, bits: usize, kind: Kind) -> Format {
    Format { name, number, bits, kind }
}

const fn float(mantissa: usize, bias: i32, special: Special) -> Kind {
    Kind::Float { mantissa, bias, special }
}

const FORMATS: [Format; 10] = [
    format(17, "float8e4m3fn", 8, float(3, 7, Special::Last)),
    format(18, "float8e4m3fnuz", 8, float(3, 8, Special::MinusZero)),
    format(19, "float8e5m2", 8, float(2, 15, Special::Ieee)),
    format(20, "float8e5m2fnuz", 8, float(2, 16, Special::MinusZero)),
    format(21, "uint4", 4, Kind::Unsigned),
    format(22, "int4", 4, Kind::Signed),
    format(23, "float4e2m1", 4, float(1, 1, Special::None)),
    format(24, "float8e8m0", 8, Kind::Power),
    format(25, "uint2", 2, Kind::Unsigned),
    format(26, "int2", 2, Kind::Signed),
];

impl Element {
    /// The element type of a number in an ONNX file.
    pub(crate) fn of(number: i64) -> Result<Self> {
        match FORMATS.iter().find(|format| format.number == number) {
            Some(format) => Ok(Self::Coded(*format)),
            None => tensor::dtype(number).map(Self::Plain),
        }
    }

    /// The numbers that elements are which are kept as this type is: codes of 8 and fewer bits one a byte, `bfloat16` as itself or as its
    /// bits in `u16`.
    #[must_use]
    pub fn numbers(self, kept: &Array) -> Vec<f64> {
        match self {
            Self::Plain(DType::BF16) if kept.dtype() == DType::U16 => {
                let bits = kept.to_f64().into_iter();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "elements of u16")]
                bits.map(|bits| f64::from(bf16::from_bits(bits as u16))).collect()
            }
            Self::Plain(_) => kept.to_f64(),
            Self::Coded(format) => match format.kind {
                Kind::Signed | Kind::Unsigned => kept.to_f64(),
                Kind::Float { .. } | Kind::Power => {
                    let codes = kept.bytes().iter().map(|code| usize::from(*code) & ((1 << format.bits) - 1));
                    codes.map(|code| format.value(code)).collect()
                }
            },
        }
    }

    /// As messages call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain(dtype) => dtype.name(),
            Self::Coded(format) => format.name,
        }
    }

    /// What elements are kept in.
    pub(crate) const fn stored(self) -> DType {
        match self {
            Self::Plain(dtype) => dtype,
            Self::Coded(format) => match format.kind {
                Kind::Signed => DType::I8,
                Kind::Unsigned | Kind::Float { .. } | Kind::Power => DType::U8,
            },
        }
    }

    /// The least and the greatest integer, if these are integers of up to 16 bits.
    pub(crate) const fn range(self) -> Option<(i32, i32)> {
        match self {
            Self::Plain(DType::U8) => Some((0, 0xff)),
            Self::Plain(DType::I8) => Some((-0x80, 0x7f)),
            Self::Plain(DType::U16) => Some((0, 0xffff)),
            Self::Plain(DType::I16) => Some((-0x8000, 0x7fff)),
            Self::Coded(Format { kind: Kind::Signed, bits, .. }) => Some((-(1 << (bits - 1)), (1 << (bits - 1)) - 1)),
            Self::Coded(Format { kind: Kind::Unsigned, bits, .. }) => Some((0, (1 << bits) - 1)),
            Self::Plain(_) | Self::Coded(_) => None,
        }
    }
}

/// How a number becomes a code that is not exactly it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rounding {
    /// What is too great becomes the greatest finite number, not infinity or NaN.
    pub(crate) saturate: bool,
    pub(crate) way: Way,
}

/// Where powers of two are rounded to; other floats go to the nearest, of two the even one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
    Nearest,
}

impl Format {
    /// The code's number.
    fn value(self, code: usize) -> f64 {
        match self.kind {
            Kind::Signed | Kind::Unsigned => code as f64,
            Kind::Power if code == 0xff => f64::NAN,
            Kind::Power => 2f64.powi(i32::try_from(code).unwrap_or(0) - 127),
            Kind::Float { mantissa, bias, special } => {
                let sign = 1 << (self.bits - 1);
                let (size, scale) = (code & (sign - 1), 1 << mantissa);
                let (exponent, rest) = (size >> mantissa, size & (scale - 1));
                let highest = (sign - 1) >> mantissa;
                let infinite = special == Special::Ieee && exponent == highest && rest == 0;
                let none = match special {
                    Special::Ieee => exponent == highest && rest != 0,
                    Special::Last => size == sign - 1,
                    Special::MinusZero => code == sign,
                    Special::None => false,
                };
                let whole = if exponent == 0 { rest } else { rest + scale };
                let power = i32::try_from(exponent.max(1)).unwrap_or(0) - bias - i32::try_from(mantissa).unwrap_or(0);
                let value = match (infinite, none) {
                    (true, _) => f64::INFINITY,
                    (false, true) => f64::NAN,
                    (false, false) => whole as f64 * 2f64.powi(power),
                };
                if code & sign == 0 { value } else { -value }
            }
        }
    }

    /// Whether the code 0 is the number 0.
    pub(crate) fn has_zero(self) -> bool {
        self.kind != Kind::Power
    }

    /// The finite numbers that are not below zero, in order: each is its place's code.
    fn sizes(self) -> Vec<f64> {
        (0..1usize << self.bits)
            .map(|code| self.value(code))
            .take_while(|value| value.is_finite() && value.is_sign_positive())
            .collect()
    }

    /// A code that is no number, or the greatest.
    fn beyond(self) -> usize {
        let codes = 0..1usize << self.bits;
        let infinity = codes.clone().find(|code| self.value(*code).is_infinite());
        infinity.or_else(|| codes.clone().find(|code| self.value(*code).is_nan())).unwrap_or(self.sizes().len() - 1)
    }
}

/// The least `f32` from which on a number is rounded to the size behind each of these, the last to what is beyond them.
fn bounds(format: Format, sizes: &[f64], way: Way) -> Vec<f32> {
    let beyond = 2.0 * sizes[sizes.len() - 1] - sizes[sizes.len() - 2];
    let behind = sizes[1..].iter().copied().chain([beyond]);
    let power = format.kind == Kind::Power;
    let bound = |(place, (size, behind)): (usize, (f64, f64))| {
        let (bound, inclusive) = match way {
            Way::Up if power => (size, false),
            Way::Down if power => (behind, true),
            Way::Up | Way::Down | Way::Nearest => (f64::midpoint(size, behind), power || place % 2 == 1),
        };
        #[expect(clippy::cast_possible_truncation, reason = "sizes and what is in their middle have few bits")]
        let bound = bound as f32;
        if inclusive { bound } else { bound.next_up() }
    };
    sizes.iter().copied().zip(behind).enumerate().map(bound).collect()
}

impl Builder {
    /// A value's elements as they are computed with.
    pub(crate) fn decoded(&mut self, x: Value) -> Result<Value> {
        let Some(format) = self.format(x) else { return Ok(x) };
        if matches!(format.kind, Kind::Signed | Kind::Unsigned) {
            // A result of its own: the operand keeps its format.
            return self.cast(x, DType::I32);
        }
        let values: Vec<Scalar> = (0..1usize << format.bits).map(|code| Scalar::float(DType::F32, format.value(code))).collect();
        let table = self.constant(Array::from_scalars(DType::F32, [values.len()], &values)?)?;
        let index = self.cast(x, DType::I64)?;
        self.emit(Op::Gather(GatherAxes { axis: 0, batch: 0 }), &[table, index])
    }

    /// A value as elements of another type.
    pub(crate) fn converted(&mut self, x: Value, to: Element, rounding: Rounding) -> Result<Value> {
        match (self.format(x), to) {
            (None, Element::Plain(dtype)) => self.cast(x, dtype),
            (Some(from), Element::Coded(format)) if from == format => Ok(x),
            (Some(_), Element::Plain(dtype)) => {
                let x = self.decoded(x)?;
                self.cast(x, dtype)
            }
            (_, Element::Coded(format)) => {
                let x = self.decoded(x)?;
                let y = match format.kind {
                    Kind::Signed | Kind::Unsigned => self.wrapped(x, format)?,
                    Kind::Float { .. } | Kind::Power => self.rounded(x, format, rounding)?,
                };
                let y = self.cast(y, to.stored())?;
                self.mark(y, format);
                Ok(y)
            }
        }
    }

    /// The low bits of integers.
    fn wrapped(&mut self, x: Value, format: Format) -> Result<Value> {
        let x = self.cast(x, DType::I32)?;
        let values = 1i64 << format.bits;
        if format.kind == Kind::Unsigned {
            let mask = self.constant(Array::full([], Scalar::int(DType::I32, values - 1)))?;
            return self.map(ScalarFn::And, &[x, mask]);
        }
        let above = self.constant(Array::full([], Scalar::int(DType::I32, 32 - i64::try_from(format.bits).unwrap_or(0))))?;
        let high = self.map(ScalarFn::Shl, &[x, above])?;
        self.map(ScalarFn::Shr, &[high, above])
    }

    /// The codes of the numbers that are nearest: as many bounds as a number reaches, and its sign.
    fn rounded(&mut self, x: Value, format: Format, rounding: Rounding) -> Result<Value> {
        let x = self.cast(x, DType::F32)?;
        let sizes = format.sizes();
        let size = self.map(ScalarFn::Abs, &[x])?;
        let mut bounds = bounds(format, &sizes, rounding.way);
        let beyond = format.beyond();
        let last = bounds.pop();
        let mut code = {
            let bounds = self.constant(Array::from_vec([bounds.len()], bounds)?)?;
            let rank = self.rank(size);
            let size = self.unsqueeze(size, &[rank])?;
            let reached = self.map(ScalarFn::Ge, &[size, bounds])?;
            let reached = self.cast(reached, DType::I32)?;
            self.reduce(ReduceKind::Sum, reached, &[rank], false)?
        };
        let number =
            |b: &mut Self, code: usize| b.constant(Array::full([], Scalar::int(DType::I32, i64::try_from(code).unwrap_or(0))));
        if let Some(last) = last.filter(|_| !rounding.saturate && beyond >= sizes.len()) {
            let (over, beyond) = (self.with(ScalarFn::Ge, size, f64::from(last))?, number(self, beyond)?);
            code = self.select(over, beyond, code)?;
        }
        if let Kind::Float { special, .. } = format.kind {
            let below = self.with(ScalarFn::Lt, x, 0.0)?;
            let reciprocal = self.from(ScalarFn::Div, 1.0, x)?;
            let minus_zero = self.with(ScalarFn::Lt, reciprocal, 0.0)?;
            let mut negative = self.map(ScalarFn::Or, &[below, minus_zero])?;
            if special == Special::MinusZero {
                let some = self.with(ScalarFn::Gt, code, 0.0)?;
                negative = self.map(ScalarFn::And, &[negative, some])?;
            }
            let sign = number(self, 1 << (format.bits - 1))?;
            let signed = self.map(ScalarFn::Or, &[code, sign])?;
            code = self.select(negative, signed, code)?;
        }
        let nan = (0..1usize << format.bits).find(|code| format.value(*code).is_nan());
        let Some(nan) = nan else { return Ok(code) };
        let (none, nan) = (self.map(ScalarFn::IsNan, &[x])?, number(self, nan)?);
        self.select(none, nan, code)
    }
}

/// Operations that move elements of their first operands, whatever these mean.
const MOVES: [&str; 17] = [
    "Concat",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Operations that know what codes mean.
const CONVERTS: [&str; 8] = ["Cast", "CastLike", "DequantizeLinear", "IsInf", "IsNaN", "QuantizeLinear", "Shape", "Size"];

/// The format of the results of an operation that moves elements; an error for one that computes with codes.
pub(crate) fn through(b: &Builder, op: &str, args: &[Option<Value>]) -> Result<Option<Format>> {
    let format = |arg: &Option<Value>| arg.and_then(|arg| b.format(arg));
    let Some(found) = args.iter().find_map(format) else { return Ok(None) };
    if CONVERTS.contains(&op) {
        return Ok(None);
    }
    let among = |places: &[Option<Value>]| places.iter().filter(|arg| arg.is_some()).all(|arg| format(arg) == Some(found));
    let all = match op {
        "Concat" => among(args),
        // The value of new elements.
        "Pad" => among(args.get(2..3).unwrap_or(&[])),
        _ => true,
    };
    if MOVES.contains(&op) && all && args.first().and_then(format) == Some(found) {
        return Ok(Some(found));
    }
    unsupported(format!("elements of {}, which are only moved and converted", found.name))
}

/// Codes of a file, one after the other from the lowest bits of each byte on.
pub(crate) fn unpacked(format: Format, shape: Vec<usize>, bytes: &[u8]) -> Result<Array> {
    let numel: usize = shape.iter().product();
    if bytes.len() != (numel * format.bits).div_ceil(8) {
        return wrong(format!("{} bytes for {numel} elements of {}", bytes.len(), format.name));
    }
    let (per, dtype) = (8 / format.bits, Element::Coded(format).stored());
    let code = |place: usize| -> i64 {
        let code = (i64::from(bytes[place / per]) >> (format.bits * (place % per))) & ((1 << format.bits) - 1);
        let negative = format.kind == Kind::Signed && code >> (format.bits - 1) == 1;
        if negative { code - (1 << format.bits) } else { code }
    };
    let codes: Vec<Scalar> = (0..numel).map(|place| Scalar::int(dtype, code(place))).collect();
    Array::from_scalars(dtype, shape, &codes).map_err(Problem::from)
}

/// Whether a size is what a block of so many elements covers.
pub(crate) fn covers(blocks: &Dim, block: i64, size: &Dim) -> bool {
    *blocks == size.ceil_div(&Dim::from(block))
}
