//! Scalar bodies at one point.

use graver_ir::kernel::{Body, Bounds, Index, Inst, InstKind, Store, TrapId, ValueId};
use graver_ir::op::ScatterKind;
use graver_ir::philox::philox_word;
use graver_ir::{DType, Diag, ScalarFn, Sizes};

use super::expr::Expr;
use super::launch::Running;
use super::memory::{decode, encode};
use crate::graph::key_words;
use crate::noise::function_rounds;
use crate::scalar::{Num, Precision, apply_num, cast_num, finish};

/// A body for given sizes.
pub(super) struct Code {
    steps: Vec<Step>,
}

struct Step {
    what: What,
    dtype: DType,
}

enum What {
    Const(Num),
    Index(Expr),
    Load { arg: usize, index: Vec<Position>, bounds: Bounds },
    Map { function: ScalarFn, operands: Vec<usize>, last: DType },
    Cast { value: usize, from: DType },
    Bitcast { value: usize, from: DType },
    Reduced { stage: usize, slot: usize },
    Acc,
    Check { ok: usize, value: usize, trap: TrapId },
    Philox { key: [usize; 4], position: usize, stream: u32 },
}

/// A position along one axis of an argument.
enum Position {
    At(Expr),
    Value(usize, Expr),
}

/// What is computed at one point, in memory that points share.
#[derive(Default)]
pub(super) struct Scratch {
    values: Vec<Num>,
    index: Vec<i64>,
}

impl Scratch {
    /// The value of an instruction that has run.
    pub(super) fn value(&self, id: ValueId) -> Num {
        self.values[id.index()]
    }

    /// Finds the positions of an access at a point.
    fn find(&mut self, index: &[Position], point: &[i64]) -> Result<(), Diag> {
        self.index.clear();
        for position in index {
            self.index.push(match position {
                Position::At(expr) => expr.at(point)?,
                Position::Value(value, expr) => {
                    let value = self.values[*value].int();
                    value.checked_add(expr.at(point)?).ok_or_else(|| Diag::new(format!("the position {value} is too large")))?
                }
            });
        }
        Ok(())
    }
}

/// What a body knows besides memory.
pub(super) struct Frame<'a> {
    /// One position an axis of the kernel.
    pub(super) point: &'a [i64],
    /// The sum of products, in an epilogue.
    pub(super) acc: Option<Num>,
    /// The reductions of earlier stages at this point.
    pub(super) reduced: &'a dyn Fn(usize, usize) -> Result<Num, Diag>,
}

impl<'a> Frame<'a> {
    /// A point of a body that neither reduces nor accumulates.
    pub(super) fn plain(point: &'a [i64]) -> Self {
        Self { point, acc: None, reduced: &|_, _| Err(Diag::new("there is no earlier stage")) }
    }
}

impl Code {
    pub(super) fn new(body: &Body, sizes: &Sizes) -> Result<Self, Diag> {
        let step = |inst: &Inst| Ok(Step { what: what(body, inst, sizes)?, dtype: inst.dtype });
        Ok(Self { steps: body.insts.iter().map(step).collect::<Result<_, Diag>>()? })
    }

    /// The value of every instruction at a point. The first check that does not hold ends the run.
    pub(super) fn run(&self, frame: &Frame<'_>, running: &mut Running<'_>, scratch: &mut Scratch) -> Result<(), Diag> {
        scratch.values.clear();
        for step in &self.steps {
            let value = step.run(frame, running, scratch)?;
            scratch.values.push(value);
        }
        Ok(())
    }
}

fn what(body: &Body, inst: &Inst, sizes: &Sizes) -> Result<What, Diag> {
    Ok(match &inst.kind {
        InstKind::Const(scalar) => What::Const(Num::of(*scalar)),
        InstKind::Index(dim) => What::Index(Expr::new(dim, sizes)?),
        InstKind::Load(access) => What::Load { arg: access.arg, index: positions(&access.index, sizes)?, bounds: access.bounds },
        InstKind::Map(function, operands) => What::Map {
            function: *function,
            operands: operands.iter().map(|operand| operand.index()).collect(),
            last: body.dtype(*operands.last().ok_or_else(|| Diag::new(format!("{function} has no operand")))?),
        },
        InstKind::Cast(value) => What::Cast { value: value.index(), from: body.dtype(*value) },
        InstKind::Bitcast(value) => What::Bitcast { value: value.index(), from: body.dtype(*value) },
        InstKind::Reduced { stage, slot } => What::Reduced { stage: *stage, slot: *slot },
        InstKind::Acc => What::Acc,
        InstKind::Check { ok, value, trap } => What::Check { ok: ok.index(), value: value.index(), trap: *trap },
        InstKind::Philox { key, position, stream } => {
            What::Philox { key: key.map(ValueId::index), position: position.index(), stream: *stream }
        }
    })
}

/// The positions of an access or a store.
fn positions(index: &[Index], sizes: &Sizes) -> Result<Vec<Position>, Diag> {
    let position = |index: &Index| {
        Ok(match index {
            Index::At(dim) => Position::At(Expr::new(dim, sizes)?),
            Index::Value(value, dim) => Position::Value(value.index(), Expr::new(dim, sizes)?),
        })
    };
    index.iter().map(position).collect()
}

impl Step {
    fn run(&self, frame: &Frame<'_>, running: &mut Running<'_>, scratch: &mut Scratch) -> Result<Num, Diag> {
        let values = &scratch.values;
        Ok(match &self.what {
            What::Const(value) => *value,
            What::Index(expr) => Num::Int(expr.at(frame.point)?),
            What::Load { arg, index, bounds } => {
                scratch.find(index, frame.point)?;
                running.load(*arg, &mut scratch.index, *bounds, frame.point)?
            }
            What::Map { function, operands, last } => {
                let mut of = [Num::Int(0); 3];
                of.iter_mut().zip(operands).for_each(|(to, operand)| *to = values[*operand]);
                let value = finish(self.dtype, Precision::Typed, apply_num(*function, *last, &of[..operands.len()]));
                if function_rounds(*function) { running.rounded(value, self.dtype) } else { value }
            }
            What::Cast { value, from } => cast_num(values[*value], *from, self.dtype, Precision::Typed),
            What::Bitcast { value, from } => decode(self.dtype, &encode(*from, values[*value])),
            What::Reduced { stage, slot } => (frame.reduced)(*stage, *slot)?,
            What::Acc => {
                let sum = frame.acc.ok_or_else(|| Diag::new("there is no sum of products outside of an epilogue"))?;
                running.rounded(sum, self.dtype)
            }
            What::Check { ok, value, trap } => {
                if values[*ok].int() == 0 {
                    running.trapped = Some(*trap);
                    return Err(Diag::new("a check does not hold"));
                }
                values[*value]
            }
            What::Philox { key, position, stream } => {
                let position = u64::try_from(values[*position].int()).map_err(|_| Diag::new("a random position is negative"))?;
                Num::Int(i64::from(philox_word(key_words(&key.map(|word| values[word].int())), position, *stream)))
            }
        })
    }
}

/// A store for given sizes.
pub(super) struct Put {
    arg: usize,
    index: Vec<Position>,
    value: usize,
}

impl Put {
    pub(super) fn new(store: &Store, sizes: &Sizes) -> Result<Self, Diag> {
        Ok(Self { arg: store.arg, index: positions(&store.index, sizes)?, value: store.value.index() })
    }

    pub(super) fn all(stores: &[Store], sizes: &Sizes) -> Result<Vec<Self>, Diag> {
        stores.iter().map(|store| Self::new(store, sizes)).collect()
    }

    /// Stores the value at its place.
    pub(super) fn store(&self, point: &[i64], running: &mut Running<'_>, scratch: &mut Scratch) -> Result<(), Diag> {
        let value = scratch.values[self.value];
        self.store_value(value, point, running, scratch)
    }

    /// Stores another value at its place.
    pub(super) fn store_value(
        &self,
        value: Num,
        point: &[i64],
        running: &mut Running<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Diag> {
        scratch.find(&self.index, point)?;
        running.store(self.arg, &scratch.index, value, point)
    }

    /// Combines the value with what is at its place, if that is inside.
    pub(super) fn combine(
        &self,
        kind: ScatterKind,
        point: &[i64],
        running: &mut Running<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Diag> {
        scratch.find(&self.index, point)?;
        running.combine(kind, self.arg, &scratch.index, scratch.values[self.value])
    }
}
