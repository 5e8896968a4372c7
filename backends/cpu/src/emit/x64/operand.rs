//! What instructions are about: registers as they are named, places in memory, and conditions of the flags.

use iced_x86::OpKind;
use regalloc2::{RegClass, VReg};

/// General registers.
pub(super) const GENERAL: RegClass = RegClass::Int;
/// Vector registers.
pub(super) const VECTOR: RegClass = RegClass::Float;
/// Mask registers.
pub(super) const MASK: RegClass = RegClass::Vector;

/// How an instruction names a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    R64,
    R32,
    R16,
    R8,
    Xmm,
    Ymm,
    Zmm,
    K,
}

impl View {
    pub(super) const fn class(self) -> RegClass {
        match self {
            Self::R64 | Self::R32 | Self::R16 | Self::R8 => GENERAL,
            Self::Xmm | Self::Ymm | Self::Zmm => VECTOR,
            Self::K => MASK,
        }
    }
}

/// What an address starts from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base<R> {
    None,
    Reg(R),
    /// The function's own memory on the stack.
    Frame,
    /// The function's constants.
    Pool,
}

/// A place in memory; registers are virtual ones before they are put into an instruction, and positions among its operands
/// then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mem<R = VReg> {
    pub(super) base: Base<R>,
    pub(super) index: Option<(R, View)>,
    pub(super) scale: u8,
    pub(super) disp: i64,
    /// One element that every lane sees.
    pub(super) broadcast: bool,
}

impl Mem {
    pub(super) const fn at(base: VReg) -> Self {
        Self { base: Base::Reg(base), index: None, scale: 1, disp: 0, broadcast: false }
    }

    pub(super) const fn frame(offset: i64) -> Self {
        Self { base: Base::Frame, index: None, scale: 1, disp: offset, broadcast: false }
    }

    pub(super) const fn pool(offset: i64, broadcast: bool) -> Self {
        Self { base: Base::Pool, index: None, scale: 1, disp: offset, broadcast }
    }

    pub(super) const fn plus(self, bytes: i64) -> Self {
        Self { disp: self.disp + bytes, ..self }
    }
}

/// A register or a place in memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Src {
    Reg(VReg),
    Mem(Mem),
}

/// An operand as it is encoded; registers by position among the allocator's operands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arg {
    Reg(u8, View),
    Mem(Mem<u8>),
    Imm(OpKind, i64),
    /// One of AMX, by number.
    Tile(u8),
}

/// A condition of the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cond {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Below,
    BelowEqual,
    Above,
    AboveEqual,
}

impl Cond {
    pub(super) const fn inverse(self) -> Self {
        match self {
            Self::Equal => Self::NotEqual,
            Self::NotEqual => Self::Equal,
            Self::Less => Self::GreaterEqual,
            Self::LessEqual => Self::Greater,
            Self::Greater => Self::LessEqual,
            Self::GreaterEqual => Self::Less,
            Self::Below => Self::AboveEqual,
            Self::BelowEqual => Self::Above,
            Self::Above => Self::BelowEqual,
            Self::AboveEqual => Self::Below,
        }
    }
}
