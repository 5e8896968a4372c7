//! The vector IR: what a kernel does, loop by loop, at any vector width.
//!
//! Structured code in SSA form. A value is one element ([`Width::One`]) or one element a lane ([`Width::Lanes`]). How many
//! lanes there are, and how many registers a value of 8-byte elements takes, is the emitter's: nothing here says four.
//! Consecutive points are visited by a [`Sweep`], whose tail (masked, or one lane at a time) is the emitter's too.
//! Nothing of any code generator is here.
//!
//! Invariants, held by [`verify`]:
//! - V1: a value is defined once, before its uses, in a block that encloses them.
//! - V2: operands have the types that their operation asks for.
//! - V3: a sweep holds no sweep.
//! - V4: a value of [`Width::Lanes`] that is used inside of a sweep and defined outside is alike in every lane or made of the lanes' numbers
//!   (of [`Op::Iota`], 0 where an emitter visits lanes one at a time), and of nothing that was loaded a lane each; unless all of the
//!   sweep's points are lanes of one vector: those of a vector that is whole, or whose tail is under a mask ([`ALONE_LANES`]).

mod build;
mod special;
mod text;
mod verify;

use std::collections::BTreeSet;

use graver_ir::{DType, Scalar};

pub(crate) use build::Builder;
pub(crate) use special::{Pairs, TABLE_LANES, Tile, TileDot, Transpose};
pub(crate) use verify::verify;

/// A value, by position among the types of its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Val(pub(crate) u32);

impl Val {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an element is in registers. 16-bit floats, and narrow integers but `u8`, are a matter of loads and stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Elem {
    F64,
    F32,
    /// Also addresses and indices.
    I64,
    I32,
    U32,
    U8,
    /// A truth value; in vectors, a mask.
    Bool,
}

/// One element, or one a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Width {
    One,
    Lanes,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ty {
    pub(crate) elem: Elem,
    pub(crate) width: Width,
}

/// The type of addresses and indices.
pub(crate) const INDEX: Ty = Ty { elem: Elem::I64, width: Width::One };

impl Elem {
    /// What an element of this type is in registers.
    pub(crate) const fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self::F64,
            DType::F32 | DType::F16 | DType::BF16 => Self::F32,
            DType::I64 | DType::U64 => Self::I64,
            DType::I32 | DType::I16 | DType::I8 => Self::I32,
            DType::U32 | DType::U16 => Self::U32,
            DType::U8 => Self::U8,
            DType::Bool => Self::Bool,
        }
    }

    pub(crate) const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32)
    }

    /// The type that is stored without a conversion.
    pub(crate) const fn dtype(self) -> DType {
        match self {
            Self::F64 => DType::F64,
            Self::F32 => DType::F32,
            Self::I64 => DType::I64,
            Self::I32 => DType::I32,
            Self::U32 => DType::U32,
            Self::U8 => DType::U8,
            Self::Bool => DType::Bool,
        }
    }
}

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Unary {
    Neg,
    Abs,
    Sqrt,
    Floor,
    Ceil,
    Trunc,
    /// To nearest, ties to even.
    Nearest,
    /// Every bit; logical for bool.
    Not,
}

/// A function of two values of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    /// Integers truncate; 0 where the divisor is.
    Div,
    /// Of integers; 0 where the divisor is.
    Rem,
    /// The lesser; NaN where either is.
    Min,
    /// The greater; NaN where either is.
    Max,
    /// The second where the first is not below it or either is NaN: one instruction.
    MinFast,
    /// The second where the first is not above it or either is NaN: one instruction.
    MaxFast,
    And,
    Or,
    Xor,
    /// 0 where the amount is not below the width.
    Shl,
    /// Arithmetic for signed; the sign's fill where the amount is not below the width.
    Shr,
    /// The high half of the product of two `u32`.
    MulHigh,
    /// `x * 2^y` of `f32`, `y` a whole number of at most 250; where that is denormal, perhaps rounded twice.
    Scale,
}

/// A shift by a number below the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Shift {
    Left,
    /// Filled with zeros.
    Logical,
    /// Filled with the sign.
    Arithmetic,
}

/// An outermost lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Edge {
    First,
    Last,
}

/// A comparison, signed or not by type; ordered but for `Ne`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A function of the run-time library, called lane by lane: what has no expansion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Helper {
    ExpF64,
    Expm1F64,
    LogF64,
    Log1pF64,
    SinF64,
    CosF64,
    TanhF64,
    ErfF64,
    PowF64,
    RemF64,
    RemF32,
    SinF32,
    CosF32,
}

/// How the lanes of a load or store lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Pattern {
    /// One element.
    One,
    /// Neighbours.
    Contiguous,
    /// This many bytes apart, from lane to lane.
    Strided(Val),
    /// At these byte offsets, an `i64` a lane.
    Scattered(Val),
}

/// A constant; its bits as its type stores them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Const {
    pub(crate) elem: Elem,
    pub(crate) bits: u64,
}

/// An operation that gives a value. None has an effect; all but loads may be executed though the program would not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Const(Const),
    /// The address of an argument's first element.
    Arg(usize),
    /// A symbol's size.
    Dim(usize),
    /// The first and the last plus one of the parallel points to compute.
    Begin,
    End,
    /// The address of this thread's scratch memory, 64-byte aligned, the first [`GUARD_BYTES`] of which hold nothing.
    Scratch,
    /// The same in every lane.
    Splat(Val),
    /// The number of the lane, as `i64`.
    Iota,
    Unary(Unary, Val),
    Binary(Binary, Val, Val),
    Shift(Shift, Val, u8),
    /// `x * y + z`, rounded once where the machine can.
    Fma(Val, Val, Val),
    /// `x.0 * y.0 + x.1 * y.1 + z`, a lane each: `x` and `y` are words of pairs, loaded as `f32`, `z` is of the sums' type.
    Dot(Pairs, Val, Val, Val),
    Compare(Compare, Val, Val),
    Select(Val, Val, Val),
    /// Converted: float to integer saturates, NaN gives 0; integers wrap; to bool: `!= 0`.
    Cast(Val, Elem),
    /// The same bits.
    Bitcast(Val, Elem),
    /// An `f32` rounded to a 16-bit float, and kept as `f32`.
    Round(Val, DType),
    /// The lanes of the first value, so many further up, or down where that is negative; lanes that none of them comes to are the second's, which is
    /// alike in all. Not of truth values, nor in sweeps.
    Slide(Val, Val, i8),
    /// The element of an outermost lane. Not of truth values, nor in sweeps.
    Edge(Val, Edge),
    /// The float of these bits at the place that the low five bits of an `i32` say. Only of emitters whose vectors have [`TABLE_LANES`].
    LookUp(Val, &'static [u32; 32]),
    /// An element or one a lane, converted from its stored type.
    Load(Load),
    Call(Helper, Vec<Val>),
    /// `value`, but the helper's answer where `mask` holds, which is rare.
    Patch {
        mask: Val,
        value: Val,
        helper: Helper,
        arg: Val,
    },
}

/// Lanes of the vectors whose emitter visits what is left of a sweep one lane at a time. That of others visits it under a mask.
pub(crate) const ALONE_LANES: usize = 4;

/// How many elements of four bytes lanes may be apart for all that lies between to be read as whole vectors, of [`TABLE_LANES`].
pub(crate) const NEAR: std::ops::RangeInclusive<usize> = 2..=4;

/// Bytes at the start of scratch memory that may be read in place of elements that do not exist.
pub(crate) const GUARD_BYTES: i64 = 256;

/// A load.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load {
    pub(crate) ptr: Val,
    pub(crate) dtype: DType,
    pub(crate) pattern: Pattern,
    /// Where false, nothing is read and the element is 0.
    pub(crate) mask: Option<Val>,
}

/// Code in order.
pub(crate) type Block = Vec<Stmt>;

/// One thing that a block does.
#[derive(Clone, Debug)]
pub(crate) enum Stmt {
    Let(Val, Op),
    Store(Store),
    /// Where `ok` is false, the status word is set to the trap's position plus one unless it is set.
    Trap {
        ok: Val,
        trap: u32,
    },
    /// What lies at this address, which need not be anything, will be read soon.
    Prefetch(Val),
    /// Only of emitters whose vectors have [`TABLE_LANES`].
    Transpose(Transpose),
    /// Only of functions that ask for AMX by name.
    Tile(Tile),
    If {
        cond: Val,
        then: Block,
    },
    Loop(Loop),
    Sweep(Sweep),
}

/// Whether what is stored will be read soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caches {
    /// It goes to a cache.
    Kept,
    /// It goes past the caches to memory, where it is whole vectors of 4-byte elements, at multiples of their size.
    Passed,
}

/// A store, converted to its stored type.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) ptr: Val,
    pub(crate) dtype: DType,
    pub(crate) pattern: Pattern,
    pub(crate) value: Val,
    /// What lies between the elements of `value`, one after each, where that is more than one: two vectors of neighbours. Not truth values.
    pub(crate) between: Option<Val>,
    pub(crate) caches: Caches,
}

/// `for var in (begin..end).step_by(step)`, with values carried from one iteration to the next.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    pub(crate) var: Val,
    pub(crate) begin: Val,
    pub(crate) end: Val,
    pub(crate) step: i64,
    pub(crate) carried: Vec<Carried>,
    pub(crate) body: Block,
}

/// A value carried by a loop.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    pub(crate) init: Val,
    /// In the body.
    pub(crate) param: Val,
    /// Of the body, for the next iteration.
    pub(crate) next: Val,
    /// After the loop.
    pub(crate) result: Val,
}

/// Every point of `begin..end`, a lane each; in the body, `var` is the point of the first lane.
///
/// Reductions are combined over all points by a tree that depends on `end - begin` only.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    pub(crate) var: Val,
    pub(crate) begin: Val,
    pub(crate) end: Val,
    /// How many vectors are handled at once, where there are enough points.
    pub(crate) unroll: usize,
    pub(crate) reductions: Vec<Fold>,
    pub(crate) body: Block,
}

/// How points are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Combine {
    Sum,
    Prod,
    Max,
    Min,
    /// As [`Binary::MaxFast`], of what has no NaN, or where NaN may be passed over.
    MaxFast,
    /// The greatest and its position: the first of equals, and NaN wins.
    ArgMax,
    /// The least and its position.
    ArgMin,
}

/// A reduction of a sweep.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) combine: Combine,
    /// Of the body.
    pub(crate) value: Val,
    /// Of the body; `i64`, for positions.
    pub(crate) position: Option<Val>,
    /// After the sweep, one element.
    pub(crate) result: Val,
    /// After the sweep, for positions.
    pub(crate) result_position: Option<Val>,
}

/// A function over a range of parallel points.
#[derive(Clone, Debug, Default)]
pub(crate) struct Func {
    pub(crate) name: String,
    /// The type of every value.
    pub(crate) types: Vec<Ty>,
    pub(crate) body: Block,
}

impl Func {
    pub(crate) fn ty(&self, value: Val) -> Ty {
        self.types[value.index()]
    }

    /// The symbols on whose sizes it depends, by their places in the program's list.
    pub(crate) fn dims(&self) -> BTreeSet<usize> {
        let mut dims = BTreeSet::new();
        note_dims(&self.body, &mut dims);
        dims
    }
}

fn note_dims(block: &Block, dims: &mut BTreeSet<usize>) {
    for stmt in block {
        match stmt {
            Stmt::Let(_, Op::Dim(dim)) => {
                dims.insert(*dim);
            }
            Stmt::Let(..) | Stmt::Store(_) | Stmt::Trap { .. } => {}
            Stmt::Prefetch(_) | Stmt::Transpose(_) | Stmt::Tile(_) => {}
            Stmt::If { then, .. } => note_dims(then, dims),
            Stmt::Loop(inner) => note_dims(&inner.body, dims),
            Stmt::Sweep(sweep) => note_dims(&sweep.body, dims),
        }
    }
}

impl Op {
    /// The values that it uses.
    pub(crate) fn operands(&self) -> Vec<Val> {
        match self {
            Self::Const(_) | Self::Arg(_) | Self::Dim(_) | Self::Begin | Self::End | Self::Scratch | Self::Iota => Vec::new(),
            Self::Splat(x)
            | Self::Unary(_, x)
            | Self::Shift(_, x, _)
            | Self::Cast(x, _)
            | Self::Bitcast(x, _)
            | Self::LookUp(x, _)
            | Self::Edge(x, _)
            | Self::Round(x, _) => vec![*x],
            Self::Binary(_, x, y) | Self::Compare(_, x, y) | Self::Slide(x, y, _) => vec![*x, *y],
            Self::Fma(x, y, z) | Self::Dot(_, x, y, z) | Self::Select(x, y, z) => vec![*x, *y, *z],
            Self::Load(load) => [load.ptr].into_iter().chain(load.pattern.operand()).chain(load.mask).collect(),
            Self::Call(_, args) => args.clone(),
            Self::Patch { mask, value, arg, .. } => vec![*mask, *value, *arg],
        }
    }
}

impl Pattern {
    pub(crate) const fn operand(self) -> Option<Val> {
        match self {
            Self::One | Self::Contiguous => None,
            Self::Strided(x) | Self::Scattered(x) => Some(x),
        }
    }

    pub(crate) const fn width(self) -> Width {
        match self {
            Self::One => Width::One,
            Self::Contiguous | Self::Strided(_) | Self::Scattered(_) => Width::Lanes,
        }
    }
}

impl Combine {
    /// The bits of the value that changes nothing.
    pub(crate) fn identity(self, elem: Elem) -> u64 {
        let dtype = elem.dtype();
        bits(match self {
            Self::Sum => Scalar::zero(dtype),
            Self::Prod => Scalar::one(dtype),
            Self::Max | Self::MaxFast | Self::ArgMax => Scalar::lowest(dtype),
            Self::Min | Self::ArgMin => Scalar::highest(dtype),
        })
    }
}

/// The bits of a constant as its type stores them.
pub(crate) fn bits(scalar: Scalar) -> u64 {
    match Elem::of(scalar.dtype()) {
        Elem::F64 => scalar.as_f64().to_bits(),
        #[expect(clippy::cast_possible_truncation, reason = "exact: the value was rounded")]
        Elem::F32 => u64::from((scalar.as_f64() as f32).to_bits()),
        Elem::I64 => scalar.bits(),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the two's complement of a value in range")]
        Elem::I32 | Elem::U32 => u64::from(scalar.as_i64() as u32),
        Elem::U8 | Elem::Bool => scalar.as_i64().cast_unsigned(),
    }
}
