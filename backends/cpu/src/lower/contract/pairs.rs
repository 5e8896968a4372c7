//! Pairs: two neighbours along `k` in a word, of 16 bits each, whose products a vector instruction adds up in one lane. What is packed
//! takes half the bytes, and sums take half the instructions.
//!
//! A panel is `[k / 2][own]` words, or `[own][k / 2]`; an odd last element's neighbour is zero.

use graver_ir::kernel::{Body, Bounds, Contract, InstKind, ValueId};
use graver_ir::{DType, Dim, Scalar, ScalarFn};

use super::super::body::Nothing;
use super::super::cx::Cx;
use super::Tiling;
use super::pack::Panel;
use super::sides::Operand;
use crate::how::Dots;
use crate::vector::{Compare, Elem, Load, Pairs, Pattern, Shift, Val};

/// Elements in a word.
pub(super) const PAIR: i64 = 2;
/// Bytes of a word.
const WORD: i64 = 4;

/// The pairs that sums can be made of: where both sides are of what 16 bits hold.
pub(super) fn of(cx: &Cx<'_>, contract: &Contract, elem: Elem) -> Option<Pairs> {
    let sides = [&contract.a, &contract.b];
    match elem {
        Elem::I32 if sides.iter().all(|side| fits(&side.body, side.value)) => {
            Some(if cx.how.dots.has_words() { Pairs::I16Fused } else { Pairs::I16 })
        }
        Elem::F32 if cx.how.dots == Dots::Bf16 && sides.iter().all(|side| widened(&side.body, side.value).is_some()) => {
            Some(Pairs::Bf16)
        }
        Elem::F32 | Elem::F64 | Elem::I64 | Elem::I32 | Elem::U32 | Elem::U8 | Elem::Bool => None,
    }
}

/// The operand, packed in 16 bits.
pub(super) fn packed<'a>(operand: Operand<'a>, pairs: Pairs) -> Operand<'a> {
    let side = operand.side;
    let value = match pairs {
        Pairs::I16 | Pairs::I16Fused => side.value,
        Pairs::Bf16 => widened(&side.body, side.value).expect("sums are made of pairs where both sides were `bf16`"),
    };
    Operand { packed: (value, pairs.dtype()), ..operand }
}

/// The `bf16` that a value is, in another type.
fn widened(body: &Body, value: ValueId) -> Option<ValueId> {
    let inst = &body.insts[value.index()];
    match inst.kind {
        _ if inst.dtype == DType::BF16 => Some(value),
        InstKind::Cast(from) if inst.dtype == DType::F32 => widened(body, from),
        _ => None,
    }
}

/// Whether a whole number is one of `i16`.
fn fits(body: &Body, value: ValueId) -> bool {
    range(body, value).is_some_and(|(low, high)| low >= i64::from(i16::MIN) && high <= i64::from(i16::MAX))
}

/// Between what a whole number lies, as far as its making tells.
fn range(body: &Body, value: ValueId) -> Option<(i64, i64)> {
    let inst = &body.insts[value.index()];
    let own = of_type(inst.dtype)?;
    let within = |(low, high): (i64, i64)| (low >= own.0 && high <= own.1).then_some((low, high));
    match &inst.kind {
        InstKind::Const(scalar) => exact(scalar),
        InstKind::Load(access) => match &access.bounds {
            Bounds::Proven | Bounds::Clamp | Bounds::Fill(_) => Some(own),
        },
        InstKind::Cast(from) => range(body, *from).and_then(within).or(Some(own)),
        InstKind::Map(function, operands) => {
            let ranges: Option<Vec<(i64, i64)>> = operands.iter().map(|operand| range(body, *operand)).collect();
            of_map(*function, &ranges?).and_then(within).or(Some(own))
        }
        InstKind::Index(_) | InstKind::Bitcast(_) | InstKind::Reduced { .. } | InstKind::Acc => Some(own),
        InstKind::Check { .. } | InstKind::Philox { .. } => Some(own),
    }
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

fn exact(scalar: &Scalar) -> Option<(i64, i64)> {
    of_type(scalar.dtype())?;
    let value = scalar.as_i64();
    Some((value, value))
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
    /// Elements of `k` in a step of the tiles.
    pub(super) fn depth(&self) -> i64 {
        if self.pairs.is_some() { PAIR } else { 1 }
    }

    /// Steps of the tiles that so many elements of `k` are.
    pub(super) fn steps(&self, cx: &mut Cx<'_>, elements: Val) -> Val {
        if self.pairs.is_none() {
            return elements;
        }
        let one = cx.b.int(1);
        let more = cx.b.add(elements, one);
        cx.b.shift(Shift::Logical, more, 1)
    }

    /// Where an element goes that is packed along `k`, from its row or column on, in elements.
    pub(super) fn place_of_k(&self, k_stride: &Dim) -> Dim {
        let number = self.number(&self.k);
        if self.pairs.is_none() || k_stride.is(1) {
            return number * k_stride;
        }
        let pair = Dim::from(PAIR);
        number.floor_div(&pair) * k_stride * &pair + number.modulo(&pair)
    }

    /// The neighbour of an odd last element, of a row or column that is packed at `base`, is zero.
    pub(super) fn clear_last(&self, cx: &mut Cx<'_>, base: Val, k_stride: &Dim, end: Val) {
        let (one, zero, none) = (cx.b.int(1), cx.b.int(0), cx.b.number(Elem::I32, 0));
        let odd = cx.b.and(end, one);
        let is_odd = cx.b.compare(Compare::Ne, odd, zero);
        let open = cx.b.open_if(is_odd);
        let word = cx.b.shift(Shift::Logical, end, 1);
        let bytes = cx.value(&(k_stride * Dim::from(WORD)));
        let offset = cx.b.mul(word, bytes);
        let ptr = cx.b.add(base, offset);
        cx.b.store(ptr, DType::I32, Pattern::One, none);
        cx.b.close_if(open);
    }

    /// Evaluates elements, of rows or columns that are over lanes, and stores them in their halves of words. The first of a pair clears the
    /// second, which is added to it then.
    pub(super) fn element_of_pair(&self, cx: &mut Cx<'_>, operand: &Operand<'_>, base: Val, panel: &Panel, own: &Dim) {
        let values = cx.body(&operand.side.body, &mut Nothing);
        let (value, dtype) = operand.packed;
        let value = cx.b.lanes(values[value.index()]);
        let half = if dtype == DType::BF16 {
            let bits = cx.b.bitcast(value, Elem::U32);
            cx.b.shift(Shift::Logical, bits, 16)
        } else {
            let (value, low) = (cx.b.cast(value, Elem::U32), cx.b.number(Elem::U32, 0xffff));
            cx.b.and(value, low)
        };
        let (number, pair) = (self.number(&self.k), Dim::from(PAIR));
        let offset = number.floor_div(&pair) * &panel.k_stride + own;
        let (ptr, pattern) = cx.place(base, &offset, None, DType::U32);
        let first = cx.b.load_now(Load { ptr, dtype: DType::U32, pattern, mask: None });
        let second = cx.b.shift(Shift::Left, half, 16);
        let both = cx.b.or(first, second);
        let (odd, zero) = (cx.value(&number.modulo(&pair)), cx.b.int(0));
        let is_second = cx.b.compare(Compare::Ne, odd, zero);
        let word = cx.b.select(is_second, both, half);
        cx.b.store(ptr, DType::U32, pattern, word);
    }
}
