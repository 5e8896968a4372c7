//! Random names, calls and state updates.

use graver_ir::op::Call;
use graver_ir::{DType, FuncId, Op, ScalarFn, Shape, StateId, StateKind, Type};

use super::numbers::Numbers;
use super::{Gen, Known, Recipe, loops};

pub(super) const RECIPES: &[Recipe] = &[alias, call, call, loops::scan, loops::repeat, loops::branch];

fn alias(g: &mut Gen<'_>) -> Option<()> {
    let x = g.any(|_| true)?;
    let op = if g.rng.once_in(2) { Op::Alias } else { Op::StopGradient };
    g.emit(op, &[x.value], x.numbers).map(drop)
}

/// A new function of one or two values that there are, called once or twice. Callees call on.
fn call(g: &mut Gen<'_>) -> Option<()> {
    let params: Vec<Known> = (0..=g.rng.below(2)).filter_map(|_| g.any(|_| true)).collect();
    let (func, results) = define(g, &params)?;
    apply(g, func, &params, &results);
    if g.rng.once_in(2) {
        let args: Vec<Known> = params.iter().map(|param| stand_in(g, param)).collect();
        apply(g, func, &args, &results);
    }
    Some(())
}

/// A value for which everything holds that holds for the parameter.
pub(super) fn stand_in(g: &mut Gen<'_>, param: &Known) -> Known {
    g.any(|x| x.ty == param.ty && x.numbers.is_within(&param.numbers)).unwrap_or_else(|| param.clone())
}

fn apply(g: &mut Gen<'_>, func: FuncId, args: &[Known], results: &[Known]) {
    let operands: Vec<_> = args.iter().map(|arg| arg.value).collect();
    let types: Vec<Type> = results.iter().map(|result| result.ty.clone()).collect();
    let outs = g.b.add_many(Op::Call(Call { func, tag: None, vjp: None, results: types }), &operands);
    g.ops += 1;
    g.values.extend(outs.into_iter().zip(results).map(|(value, result)| Known { value, ..result.clone() }));
}

pub(super) fn define(g: &mut Gen<'_>, params: &[Known]) -> Option<(FuncId, Vec<Known>)> {
    define_with(g, params, |_| Vec::new())
}

/// A function with these results before the others; `first` sees the parameters first among the values.
pub(super) fn define_with(
    g: &mut Gen<'_>,
    params: &[Known],
    first: impl FnOnce(&mut Gen<'_>) -> Vec<Known>,
) -> Option<(FuncId, Vec<Known>)> {
    if params.is_empty() || g.ops > 30 {
        return None;
    }
    let (mut results, mut ops) = (Vec::new(), 0);
    let name = format!("f{}", g.rng.bits() >> 32);
    let rng = &mut *g.rng;
    let func = g.b.func(&name, |b| {
        let inside = |param: &Known| Known { value: b.arg("x", param.dtype(), &param.ty.shape), ..param.clone() };
        let values = params.iter().map(inside).collect();
        let target = 2 + rng.below(5);
        let mut callee = Gen { b, rng, values, inputs: None, ops: 0 };
        callee.grow(target);
        results = first(&mut callee);
        results.extend(callee.results());
        ops = callee.ops;
        results.iter().map(|result| result.value).collect()
    });
    g.ops += ops;
    Some((func, results))
}

impl Gen<'_> {
    /// Up to two slots of parameters or buffers and a random key, as values.
    pub(super) fn states(&mut self) -> Vec<(StateId, Known)> {
        let mut slots = Vec::new();
        for slot in 0..self.rng.below(3) {
            let kind = *self.rng.pick(&[StateKind::Param, StateKind::Buffer, StateKind::Slot]);
            let dtype = *self.rng.pick(&[DType::F32, DType::F64, DType::BF16, DType::I64]);
            let shape = self.rng.pick(&[Shape::new([3]), Shape::new([3, 5]), Shape::SCALAR, Shape::new([0, 3])]).clone();
            let (id, value) = self.b.state(&format!("layers.{slot}.weight"), kind, dtype, &shape);
            let max = if dtype.is_float() { 2.0 } else { 3.0 };
            let grain = Some(if dtype.is_float() { 0.25 } else { 1.0 });
            slots.push((id, Known { value, ty: Type::new(dtype, shape), numbers: Numbers { max, error: 0.0, grain } }));
        }
        if self.rng.once_in(3) {
            let (id, value) = self.b.state("rng", StateKind::Rng, DType::U32, [4]);
            let ty = Type::new(DType::U32, Shape::new([4]));
            slots.push((id, Known { value, ty, numbers: Numbers::discrete(DType::U32) }));
        }
        self.values.extend(slots.iter().map(|(_, known)| known.clone()));
        slots
    }

    /// Most slots become some other value of their type; their old values stay in use.
    pub(super) fn updates(&mut self, slots: Vec<(StateId, Known)>) -> Vec<(StateId, Known)> {
        let mut updates = Vec::new();
        for (slot, old) in slots {
            if self.rng.once_in(4) {
                continue;
            }
            let other = self.any(|x| x.ty == old.ty).unwrap_or_else(|| old.clone());
            let numbers = old.numbers.add(other.numbers, old.dtype());
            let new = self.emit(Op::Map(ScalarFn::Add), &[old.value, other.value], numbers);
            updates.push((slot, new.unwrap_or(old)));
        }
        updates
    }
}
