//! Contractions as loop nests: the product of the sides summed in one stage, the epilogue in the next. What is too small or
//! too odd for tiles goes this way in a backend.

use super::body::{Body, Index, InstKind, ValueId};
use super::contract::Contract;
use super::nest::{Combine, Nest, Reduction, Stage};
use crate::op::ReduceKind;
use crate::scalar::ScalarFn;

impl Contract {
    /// The same sums as a nest of two stages.
    #[must_use]
    pub fn as_nest(&self) -> Nest {
        let kept = self.batch.union(self.m).union(self.n);
        let mut body = Body::default();
        let a = append(&mut body, &self.a.body)[self.a.value.index()];
        let b = append(&mut body, &self.b.body)[self.b.value.index()];
        let value = body.push(InstKind::Map(ScalarFn::Mul, vec![a, b]), self.acc);
        let reduction = Reduction { combine: Combine::Reduce(ReduceKind::Sum), value, dtype: self.acc };
        let sum = Stage { over: kept.union(self.k), keep: kept, body, reductions: vec![reduction], stores: Vec::new() };
        let mut epilogue = Body::default();
        let values = append(&mut epilogue, &self.epilogue);
        let mut stores = self.stores.clone();
        for store in &mut stores {
            store.value = values[store.value.index()];
            store.index.iter_mut().for_each(|index| moved(index, &values));
        }
        let stores = Stage { over: kept, keep: kept, body: epilogue, reductions: Vec::new(), stores };
        Nest { axes: self.axes.clone(), stages: vec![sum, stores] }
    }
}

/// Adds a body's instructions to another; gives where each went. The sum of products is stage 0's.
pub(super) fn append(to: &mut Body, from: &Body) -> Vec<ValueId> {
    let mut places: Vec<ValueId> = Vec::new();
    for inst in &from.insts {
        let at = |value: &ValueId| places[value.index()];
        let kind = match &inst.kind {
            InstKind::Const(scalar) => InstKind::Const(*scalar),
            InstKind::Index(dim) => InstKind::Index(dim.clone()),
            InstKind::Load(access) => {
                let mut access = access.clone();
                access.index.iter_mut().for_each(|index| moved(index, &places));
                InstKind::Load(access)
            }
            InstKind::Map(function, operands) => InstKind::Map(*function, operands.iter().map(at).collect()),
            InstKind::Cast(x) => InstKind::Cast(at(x)),
            InstKind::Bitcast(x) => InstKind::Bitcast(at(x)),
            InstKind::Reduced { stage, slot } => InstKind::Reduced { stage: *stage, slot: *slot },
            InstKind::Acc => InstKind::Reduced { stage: 0, slot: 0 },
            InstKind::Check { ok, value, trap } => InstKind::Check { ok: at(ok), value: at(value), trap: *trap },
            InstKind::Philox { key, position, stream } => {
                InstKind::Philox { key: (*key).map(|word| at(&word)), position: at(position), stream: *stream }
            }
        };
        places.push(to.push(kind, inst.dtype));
    }
    places
}

fn moved(index: &mut Index, places: &[ValueId]) {
    if let Index::Value(value, _) = index {
        *value = places[value.index()];
    }
}
