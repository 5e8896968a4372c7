//! Words: neighbours along `k` in 32 bits, two of 16 or four of 8, whose products one instruction adds up. What is packed takes less, and
//! sums take fewer instructions.
//!
//! A panel is `[k / depth][own]` words, or `[own][k / depth]`. What is beyond `k`, up to what the instruction takes at once, is zero.

use graver_ir::kernel::{Body, InstKind, Side, ValueId};
use graver_ir::{DType, Dim, ScalarFn};

use super::super::body::Nothing;
use super::super::cx::Cx;
use super::Tiling;
use super::pack::{Panel, Span, upper_half};
use super::sides::Operand;
use crate::how::Dots;
use crate::vector::{Binary, Compare, Elem, Load, Pairs, Pattern, TABLE_LANES, TileDot, Transpose, Val};

/// Bytes of a word.
pub(super) const WORD: i64 = 4;
/// Words of `k` that are turned at once.
const STRIP: i64 = 64;
/// Rows of a tile of AMX, and columns, and words of `k`.
pub(super) const LINES: i64 = 16;

/// By what words are multiplied.
#[derive(Clone, Copy, Debug)]
pub(super) enum Words {
    /// A vector of them by one.
    Vectors(Pairs),
    /// Sixteen rows by as many columns, of as many.
    Tiles(TileDot),
}

impl Words {
    /// Of what 16 bits hold, or 8: where both sides are, and the machine is asked for more than the level.
    pub(super) fn of(cx: &Cx<'_>, elem: Elem, rows: &Side, columns: &Side) -> Option<Self> {
        let (dots, sides) = (cx.how.dots, [rows, columns]);
        match elem {
            Elem::I32 => {
                let bytes = sides.map(|side| byte(&side.body, side.value).map(|(_, signed)| signed));
                if let ([Some(rows), Some(columns)], true) = (bytes, dots.may_use_tiles()) {
                    return Some(Self::Tiles(TileDot::Bytes { signed: [rows, columns] }));
                }
                let pairs = if dots == Dots::Plain { Pairs::I16 } else { Pairs::I16Fused };
                sides.iter().all(|side| fits(&side.body, side.value)).then_some(Self::Vectors(pairs))
            }
            Elem::F32 if sides.iter().all(|side| half(&side.body, side.value).is_some()) => match dots {
                Dots::Plain | Dots::Vnni => None,
                Dots::Bf16 => Some(Self::Vectors(Pairs::Bf16)),
                Dots::Amx => dots.may_use_tiles().then_some(Self::Tiles(TileDot::Bf16)),
            },
            Elem::F32 | Elem::F64 | Elem::I64 | Elem::U32 | Elem::U8 | Elem::Bool => None,
        }
    }

    /// The operand, packed in words.
    pub(super) fn packed(self, operand: Operand<'_>) -> Operand<'_> {
        let Side { body, value } = operand.side;
        let packed = match self {
            Self::Vectors(Pairs::I16 | Pairs::I16Fused) => (*value, DType::I16),
            Self::Vectors(Pairs::Bf16) | Self::Tiles(TileDot::Bf16) => (half(body, *value).expect("both sides are"), DType::BF16),
            Self::Tiles(TileDot::Bytes { .. }) => {
                let (value, signed) = byte(body, *value).expect("both sides are");
                (value, if signed { DType::I8 } else { DType::U8 })
            }
        };
        Operand { packed, ..operand }
    }

    /// Elements of a word.
    pub(super) const fn depth(self) -> i64 {
        match self {
            Self::Vectors(_) | Self::Tiles(TileDot::Bf16) => 2,
            Self::Tiles(TileDot::Bytes { .. }) => 4,
        }
    }

    /// How many times as many products as of `f32` an instruction makes, more or less.
    pub(super) const fn products(self) -> i64 {
        match self {
            Self::Vectors(_) => 2,
            Self::Tiles(TileDot::Bf16) => 8,
            Self::Tiles(TileDot::Bytes { .. }) => 16,
        }
    }

    /// Words that an instruction takes at once.
    pub(super) const fn at_once(self) -> i64 {
        match self {
            Self::Vectors(_) => 1,
            Self::Tiles(_) => LINES,
        }
    }
}

/// The byte that a whole number of 32 bits is, and whether it has a sign.
fn byte(body: &Body, value: ValueId) -> Option<(ValueId, bool)> {
    let inst = &body.insts[value.index()];
    match (inst.dtype, &inst.kind) {
        (DType::I8, _) => Some((value, true)),
        (DType::U8, _) => Some((value, false)),
        (DType::I32, InstKind::Cast(from)) => byte(body, *from),
        _ => None,
    }
}

/// The `bf16` that a float of 32 bits is.
fn half(body: &Body, value: ValueId) -> Option<ValueId> {
    let inst = &body.insts[value.index()];
    if inst.dtype == DType::BF16 {
        return Some(value);
    }
    if let InstKind::Cast(from) = inst.kind { half(body, from).filter(|_| inst.dtype == DType::F32) } else { None }
}

/// Whether a whole number is one of `i16`.
fn fits(body: &Body, value: ValueId) -> bool {
    range(body, value).is_some_and(|(low, high)| low >= i64::from(i16::MIN) && high <= i64::from(i16::MAX))
}

/// Between what a whole number lies, as far as its making tells.
fn range(body: &Body, value: ValueId) -> Option<(i64, i64)> {
    let mut ranges: Vec<Option<(i64, i64)>> = Vec::new();
    for inst in &body.insts[..=value.index()] {
        let of = |value: ValueId| ranges[value.index()];
        let made = match &inst.kind {
            InstKind::Const(scalar) => of_type(scalar.dtype()).map(|_| (scalar.as_i64(), scalar.as_i64())),
            InstKind::Cast(from) => of(*from),
            InstKind::Map(function, operands) => {
                let ranges: Option<Vec<(i64, i64)>> = operands.iter().map(|operand| of(*operand)).collect();
                ranges.and_then(|ranges| of_map(*function, &ranges))
            }
            InstKind::Load(_) | InstKind::Index(_) | InstKind::Bitcast(_) | InstKind::Reduced { .. } | InstKind::Acc => None,
            InstKind::Check { .. } | InstKind::Philox { .. } => None,
        };
        // What leaves the type wraps: it is anywhere in it.
        let own = of_type(inst.dtype);
        ranges.push(own.map(|own| made.filter(|made| made.0 >= own.0 && made.1 <= own.1).unwrap_or(own)));
    }
    ranges[value.index()]
}

/// What a type holds, of those whose sums and differences 64 bits hold.
fn of_type(dtype: DType) -> Option<(i64, i64)> {
    match dtype {
        DType::I8 => Some((i8::MIN.into(), i8::MAX.into())),
        DType::U8 => Some((0, u8::MAX.into())),
        DType::I16 => Some((i16::MIN.into(), i16::MAX.into())),
        DType::U16 => Some((0, u16::MAX.into())),
        DType::I32 => Some((i32::MIN.into(), i32::MAX.into())),
        DType::U32 => Some((0, u32::MAX.into())),
        DType::Bool => Some((0, 1)),
        DType::F64 | DType::F32 | DType::F16 | DType::BF16 | DType::I64 | DType::U64 => None,
    }
}

/// Of what lies in these ranges, unless it leaves the type.
fn of_map(function: ScalarFn, ranges: &[(i64, i64)]) -> Option<(i64, i64)> {
    match (function, ranges) {
        (ScalarFn::Neg, [(low, high)]) => Some((-high, -low)),
        (ScalarFn::Relu, [(low, high)]) => Some(((*low).max(0), (*high).max(0))),
        (ScalarFn::Add, [x, y]) => Some((x.0 + y.0, x.1 + y.1)),
        (ScalarFn::Sub, [x, y]) => Some((x.0 - y.1, x.1 - y.0)),
        (ScalarFn::Max, [x, y]) => Some((x.0.max(y.0), x.1.max(y.1))),
        (ScalarFn::Min, [x, y]) => Some((x.0.min(y.0), x.1.min(y.1))),
        (ScalarFn::Select, [_, x, y]) => Some((x.0.min(y.0), x.1.max(y.1))),
        // Of the operands that are not negative, none is exceeded.
        (ScalarFn::And, [(0.., high), _] | [_, (0.., high)]) => Some((0, *high)),
        (ScalarFn::Shr, [(0.., high), _]) => Some((0, *high)),
        _ => None,
    }
}

impl Tiling<'_> {
    /// The work of so many products: a vector unit does some sixteen operations while a body does one.
    pub(super) fn work(&self, products: &Dim) -> Dim {
        products.floor_div(&Dim::from(8 * self.words.map_or(1, Words::products)))
    }

    /// Elements of `k` in a step of the tiles.
    pub(super) fn depth(&self) -> i64 {
        self.words.map_or(1, Words::depth)
    }

    /// What `k` is filled up to a multiple of.
    pub(super) fn multiple(&self) -> i64 {
        self.words.map_or(1, |words| words.depth() * words.at_once())
    }

    /// How often an instruction takes so many elements of `k`.
    pub(super) fn steps(&self, cx: &mut Cx<'_>, elements: Val) -> Val {
        let multiple = self.multiple();
        if multiple == 1 {
            return elements;
        }
        let (less, multiple) = (cx.b.int(multiple - 1), cx.b.int(multiple));
        let filled = cx.b.add(elements, less);
        cx.b.binary(Binary::Div, filled, multiple)
    }

    /// Where an element goes that is packed along `k`, from its row or column on, in elements.
    pub(super) fn place_of_k(&self, k_stride: &Dim) -> Dim {
        let (number, depth) = (self.number(&self.k), Dim::from(self.depth()));
        if self.words.is_none() || k_stride.is(1) {
            return number * k_stride;
        }
        number.floor_div(&depth) * k_stride * &depth + number.modulo(&depth)
    }

    /// Clears what is beyond the last element, up to what an instruction takes at once.
    pub(super) fn clear(&self, cx: &mut Cx<'_>, panel: &Panel, (begin, end): (Val, Val), last: Val) {
        let (multiple, depth) = (self.multiple(), cx.b.int(self.depth()));
        if cx.b.as_int(last).is_some_and(|last| last % multiple == 0) {
            return;
        }
        let steps = self.steps(cx, last);
        let (from, multiple) = (cx.b.binary(Binary::Div, last, depth), cx.b.int(multiple / self.depth()));
        let to = cx.b.mul(steps, multiple);
        let (own_bytes, k_bytes) =
            (cx.value(&(&panel.own_stride * Dim::from(WORD))), cx.value(&(&panel.k_stride * Dim::from(WORD))));
        let none = cx.b.number(Elem::I32, 0);
        let words = cx.b.open_loop(from, to, 1, Vec::new());
        let place = cx.b.mul(words.var, k_bytes);
        let line = cx.b.add(panel.base, place);
        let owns = cx.b.open_loop(begin, end, 1, Vec::new());
        let place = cx.b.sub(owns.var, begin);
        let place = cx.b.mul(place, own_bytes);
        let ptr = cx.b.add(line, place);
        cx.b.store(ptr, DType::I32, Pattern::One, none);
        cx.b.close_loop(owns, Vec::new());
        cx.b.close_loop(words, Vec::new());
    }

    /// Packs along the axis along which elements are read, a strip at a time, and turns squares of words to where they go.
    pub(super) fn pack_turned(
        &self,
        cx: &mut Cx<'_>,
        operand: &Operand<'_>,
        panel: &Panel,
        (begin, end): (Val, Val),
        span: Option<Span>,
    ) {
        let side = i64::try_from(TABLE_LANES).expect("few lanes");
        let scratch = cx.take_scratch(&Dim::from(side * STRIP * WORD));
        let zero = cx.b.int(0);
        let all = span.unwrap_or_else(|| Span { begin: zero, end: cx.value(&self.count(&self.k)) });
        let owns = cx.b.open_loop(begin, end, side, Vec::new());
        let width = cx.b.int(side);
        let own_end = cx.b.add(owns.var, width);
        let own_end = cx.b.binary(Binary::Min, own_end, end);
        let strips = cx.b.open_loop(all.begin, all.end, STRIP * self.depth(), Vec::new());
        let length = cx.b.int(STRIP * self.depth());
        let strip_end = cx.b.add(strips.var, length);
        let strip = Span { begin: strips.var, end: cx.b.binary(Binary::Min, strip_end, all.end) };
        let (own_stride, k_stride) = if operand.along_own { (1, side) } else { (STRIP, 1) };
        let small = Panel { base: scratch, own_stride: Dim::from(own_stride), k_stride: Dim::from(k_stride) };
        self.pack(cx, operand, &small, owns.var, own_end, Some(strip));
        let elements = cx.b.sub(strip.end, strip.begin);
        let (steps, at_once) = (self.steps(cx, elements), cx.b.int(self.multiple() / self.depth()));
        let words = cx.b.mul(steps, at_once);
        let (own_bytes, k_bytes) =
            (cx.value(&(&panel.own_stride * Dim::from(WORD))), cx.value(&(&panel.k_stride * Dim::from(WORD))));
        let (depth, own) = (cx.b.int(self.depth()), cx.b.sub(owns.var, begin));
        let (first, place) = (cx.b.binary(Binary::Div, strip.begin, depth), cx.b.mul(own, own_bytes));
        let base = cx.b.add(panel.base, place);
        let squares = cx.b.open_loop(zero, words, side, Vec::new());
        let left = cx.b.sub(words, squares.var);
        let (count, owns_here) = (cx.b.binary(Binary::Min, left, width), cx.b.sub(own_end, owns.var));
        let word = cx.b.add(first, squares.var);
        let place = cx.b.mul(word, k_bytes);
        let to = cx.b.add(base, place);
        let from_bytes = cx.b.int(k_stride * WORD);
        let place = cx.b.mul(squares.var, from_bytes);
        let from = cx.b.add(scratch, place);
        let lines = cx.b.int(own_stride.max(k_stride) * WORD);
        cx.b.transpose(if operand.along_own {
            Transpose { from, from_stride: lines, to, to_stride: own_bytes, rows: count, columns: owns_here }
        } else {
            Transpose { from, from_stride: lines, to, to_stride: k_bytes, rows: owns_here, columns: count }
        });
        cx.b.close_loop(squares, Vec::new());
        cx.b.close_loop(strips, Vec::new());
        cx.b.close_loop(owns, Vec::new());
    }

    /// Evaluates elements, of rows or columns that are over lanes, and stores them in their parts of words. The first of a word clears the
    /// others, which are added to it then.
    pub(super) fn element_of_word(&self, cx: &mut Cx<'_>, operand: &Operand<'_>, base: Val, panel: &Panel, own: &Dim) {
        let values = cx.body(&operand.side.body, &mut Nothing);
        let (value, dtype) = operand.packed;
        let value = cx.b.lanes(values[value.index()]);
        let bits = 8 * i32::try_from(operand.bytes()).expect("few bytes");
        let part = if dtype == DType::BF16 {
            upper_half(cx, value)
        } else {
            let (value, low) = (cx.b.cast(value, Elem::U32), cx.b.number(Elem::U32, (1 << bits) - 1));
            cx.b.and(value, low)
        };
        let (number, depth) = (self.number(&self.k), Dim::from(self.depth()));
        let offset = number.floor_div(&depth) * &panel.k_stride + own;
        let (ptr, pattern) = cx.place(base, &offset, None, DType::U32);
        let before = cx.b.load_now(Load { ptr, dtype: DType::U32, pattern, mask: None });
        let (place, zero, bits) = (cx.value(&number.modulo(&depth)), cx.b.int(0), cx.b.int(bits.into()));
        let amount = cx.b.mul(place, bits);
        let amount = cx.b.cast(amount, Elem::U32);
        let shifted = cx.b.binary(Binary::Shl, part, amount);
        let more = cx.b.or(before, shifted);
        let is_first = cx.b.compare(Compare::Eq, place, zero);
        let word = cx.b.select(is_first, part, more);
        cx.b.store(ptr, DType::U32, pattern, word);
    }
}
