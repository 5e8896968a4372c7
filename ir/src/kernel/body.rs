//! Scalar bodies: what a kernel computes at one point of its axes.

use serde::{Deserialize, Serialize};

use super::nest::AxisSet;
use super::program::TrapId;
use crate::dim::Dim;
use crate::dtype::{DType, Scalar};
use crate::scalar::ScalarFn;

/// An instruction of a [`Body`], by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The position.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Straight-line scalar code; an instruction uses only earlier ones, and equal instructions are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Body {
    /// The instructions.
    pub insts: Vec<Inst>,
}

/// An instruction and its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Inst {
    /// What it does.
    pub kind: InstKind,
    /// The type of its value. `f16` and `bf16` occur only at loads, casts and stores: arithmetic is in [`DType::compute`].
    pub dtype: DType,
}

/// What an instruction does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InstKind {
    /// A constant.
    Const(Scalar),
    /// An expression over axes and sizes, as `i64`.
    Index(Dim),
    /// An element of an argument.
    Load(Access),
    /// A function of scalars. Integer division by zero gives 0: a [`InstKind::Check`] tells the user.
    Map(ScalarFn, Vec<ValueId>),
    /// The value converted to this instruction's type.
    Cast(ValueId),
    /// The same bits as this instruction's type, of equal size.
    Bitcast(ValueId),
    /// Result `slot` of the reductions of an earlier stage, at this point's kept axes.
    Reduced {
        /// The stage.
        stage: usize,
        /// Which of its reductions.
        slot: usize,
    },
    /// The sum of products, in a contraction's epilogue.
    Acc,
    /// The value; where `ok` is false the status word is set to `trap` (of several, one is kept, the same for any number of threads).
    Check {
        /// A bool.
        ok: ValueId,
        /// What the instruction gives.
        value: ValueId,
        /// What is reported.
        trap: TrapId,
    },
    /// Word `position mod 4` of Philox4x32-10 with `key` and the counter `[position / 4, stream, step..]`, as [`crate::op::Philox`].
    Philox {
        /// `[key 0, key 1, step low, step high]`, each `u32`.
        key: [ValueId; 4],
        /// An `i64`.
        position: ValueId,
        /// The stream.
        stream: u32,
    },
}

/// An element of an argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Access {
    /// Which argument of the kernel.
    pub arg: usize,
    /// One position an axis of the argument.
    pub index: Vec<Index>,
    /// What holds outside.
    pub bounds: Bounds,
}

/// A position along one axis of an argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Index {
    /// An expression over axes and sizes.
    At(Dim),
    /// An `i64` that the body computes, and an expression that is added to it.
    Value(ValueId, Dim),
}

/// What an access means outside of its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Bounds {
    /// It is proved inside.
    Proven,
    /// This value (of the argument's type) is there; nothing is read.
    Fill(Scalar),
    /// The nearest position inside is read. The argument is not empty.
    Clamp,
}

impl Index {
    /// The expression in it.
    #[must_use]
    pub const fn dim(&self) -> &Dim {
        match self {
            Self::At(dim) | Self::Value(_, dim) => dim,
        }
    }

    /// Whether no body computes it.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        matches!(self, Self::At(_))
    }
}

impl Body {
    /// The instruction, added unless an equal one is there.
    pub fn push(&mut self, kind: InstKind, dtype: DType) -> ValueId {
        let inst = Inst { kind, dtype };
        let place = self.insts.iter().position(|other| *other == inst).unwrap_or_else(|| {
            self.insts.push(inst);
            self.insts.len() - 1
        });
        ValueId(u32::try_from(place).expect("a body has fewer than 2^32 instructions"))
    }

    /// The instruction.
    ///
    /// # Panics
    /// If there is none of this id.
    #[must_use]
    pub fn inst(&self, value: ValueId) -> &Inst {
        self.insts.get(value.index()).expect("K1: a value names an instruction of its body")
    }

    /// The type of a value.
    #[must_use]
    pub fn dtype(&self, value: ValueId) -> DType {
        self.inst(value).dtype
    }

    /// The axes that each instruction depends on, in order.
    #[must_use]
    pub fn axes(&self) -> Vec<AxisSet> {
        let mut axes: Vec<AxisSet> = Vec::new();
        for inst in &self.insts {
            let own = match &inst.kind {
                InstKind::Index(dim) => of_dim(dim),
                InstKind::Load(access) => access.index.iter().map(Index::dim).map(of_dim).fold(AxisSet::EMPTY, AxisSet::union),
                // What these hold differs along every axis that there is.
                InstKind::Reduced { .. } | InstKind::Acc => AxisSet::first(AxisSet::MAX),
                InstKind::Const(_)
                | InstKind::Map(..)
                | InstKind::Cast(_)
                | InstKind::Bitcast(_)
                | InstKind::Check { .. }
                | InstKind::Philox { .. } => AxisSet::EMPTY,
            };
            let operands = inst.kind.operands();
            axes.push(operands.into_iter().map(|operand| axes[operand.index()]).fold(own, AxisSet::union));
        }
        axes
    }

    /// Whether it reports failures.
    #[must_use]
    pub fn has_checks(&self) -> bool {
        self.insts.iter().any(|inst| matches!(inst.kind, InstKind::Check { .. }))
    }

    /// Every access, in order.
    pub fn loads(&self) -> impl Iterator<Item = (ValueId, &Access)> {
        (0u32..).map(ValueId).zip(&self.insts).filter_map(|(id, inst)| match &inst.kind {
            InstKind::Load(access) => Some((id, access)),
            InstKind::Const(_)
            | InstKind::Index(_)
            | InstKind::Map(..)
            | InstKind::Cast(_)
            | InstKind::Bitcast(_)
            | InstKind::Reduced { .. }
            | InstKind::Acc
            | InstKind::Check { .. }
            | InstKind::Philox { .. } => None,
        })
    }
}

impl InstKind {
    /// The same instruction with every operand replaced, in the order of [`InstKind::operands`].
    #[must_use]
    pub fn map_operands(mut self, mut replace: impl FnMut(ValueId) -> ValueId) -> Self {
        match &mut self {
            Self::Const(_) | Self::Index(_) | Self::Reduced { .. } | Self::Acc => {}
            Self::Load(access) => {
                for index in &mut access.index {
                    if let Index::Value(value, _) = index {
                        *value = replace(*value);
                    }
                }
            }
            Self::Map(_, operands) => operands.iter_mut().for_each(|value| *value = replace(*value)),
            Self::Cast(value) | Self::Bitcast(value) => *value = replace(*value),
            Self::Check { ok, value, .. } => (*ok, *value) = (replace(*ok), replace(*value)),
            Self::Philox { key, position, .. } => {
                key.iter_mut().for_each(|value| *value = replace(*value));
                *position = replace(*position);
            }
        }
        self
    }

    /// The instructions that this one uses.
    #[must_use]
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::Const(_) | Self::Index(_) | Self::Reduced { .. } | Self::Acc => Vec::new(),
            Self::Load(access) => access
                .index
                .iter()
                .filter_map(|index| match index {
                    Index::At(_) => None,
                    Index::Value(value, _) => Some(*value),
                })
                .collect(),
            Self::Map(_, operands) => operands.clone(),
            Self::Cast(value) | Self::Bitcast(value) => vec![*value],
            Self::Check { ok, value, .. } => vec![*ok, *value],
            Self::Philox { key, position, .. } => key.iter().copied().chain([*position]).collect(),
        }
    }
}

fn of_dim(dim: &Dim) -> AxisSet {
    dim.axes().iter().map(|axis| axis.id as usize).collect()
}
