//! Checks one kernel: K2, K10 to K16, K28 to K30.

use super::attend;
use super::body::{self, Scope, converts_unsigned};
use super::note;
use super::program::{no_axes, wrong_dim};
use crate::dim::{Dim, MAX_NODES};
use crate::dtype::DType;
use crate::error::Diag;
use crate::kernel::{
    Arg, AxisSet, Body, Bounds, Combine, Contract, Index, Kernel, KernelBody, Mode, Nest, Prefix, Program, Reduction, Scatter,
    Side, Sort, Stage, Store, ValueId,
};
use crate::op::{Extreme, ReduceKind, ScatterKind};
use crate::ty::Shape;
use crate::verify::Findings;

pub(super) fn check(program: &Program, id: usize, kernel: &Kernel, found: &mut Findings) {
    let place = format!("k{id} `{}`", kernel.name);
    for (position, arg) in kernel.args.iter().enumerate() {
        note(found, || format!("{place}, p{position}"), wrong_arg(program, arg));
    }
    let axes = kernel.body.axes();
    found.require(axes.len() <= AxisSet::MAX, || Diag::new(format!("K2: {place} has {} axes", axes.len())));
    for axis in axes {
        note(found, || format!("{place}, axes"), wrong_dim(program, axis, &no_axes));
    }
    let over = AxisSet::first(axes.len().min(AxisSet::MAX));
    let scope = Scope { program, kernel, place, axes, over, reduced: Vec::new(), acc: None };
    match &kernel.body {
        KernelBody::Nest(of) => nest(scope, of, found),
        KernelBody::Contract(of) => contract(&scope, of, found),
        KernelBody::Scatter(of) => scatter(&scope, of, found),
        KernelBody::Sort(of) => sort(&scope, of, found),
        KernelBody::Prefix(of) => prefix(&scope, of, found),
        KernelBody::Attend(of) => attend::check(&scope, of, found),
    }
}

fn wrong_arg(program: &Program, arg: &Arg) -> Option<String> {
    if arg.shape.len() != arg.strides.len() {
        return Some(format!("K16: {} sizes and {} strides", arg.shape.len(), arg.strides.len()));
    }
    let wrong = arg.shape.iter().chain(&arg.strides).find_map(|dim| wrong_dim(program, dim, &no_axes));
    let simple = arg.shape.iter().zip(&arg.strides).all(|(size, stride)| size.term_count() * stride.term_count() <= MAX_NODES);
    let wrong = wrong.or_else(|| (!simple).then(|| "K16: an axis whose length has too many terms".to_owned()));
    wrong.or_else(|| (!Shape(arg.shape.clone()).is_valid()).then(|| format!("K16: the shape {:?}", arg.shape)))
}

fn nest<'a>(mut scope: Scope<'a>, nest: &'a Nest, found: &mut Findings) {
    let (all, place) = (scope.over, scope.place.clone());
    for (position, stage) in nest.stages.iter().enumerate() {
        scope.over = stage.over;
        scope.place = format!("{place}, stage {position}");
        scope.require(found, all.contains_all(stage.over), "K2: visits an axis that there is not");
        scope.require(found, stage.over.contains_all(stage.keep), "K10: keeps an axis that it does not visit");
        scope.require(found, !stage.reductions.is_empty() || stage.keep == stage.over, "K10: drops axes and reduces nothing");
        scope.require(found, stage.reductions.is_empty() || stage.stores.is_empty(), "K10: reduces and stores");
        self::stage(&scope, stage, found);
        scope.reduced.push((stage.keep, &stage.reductions));
    }
}

fn stage(scope: &Scope<'_>, stage: &Stage, found: &mut Findings) {
    body::check(scope, &stage.body, found);
    for of in &stage.reductions {
        let wrong = wrong_reduction(&stage.body, of);
        scope.note(found, wrong);
    }
    stores(scope, &stage.body, &stage.stores, found);
}

fn wrong_reduction(body: &Body, reduction: &Reduction) -> Option<String> {
    let Some(value) = body.insts.get(reduction.value.index()) else {
        return Some(format!("K1: reduces %{}, which is no instruction", reduction.value.0));
    };
    let (dtype, kind) = match reduction.combine {
        Combine::Reduce(kind) => (value.dtype, kind),
        Combine::Arg(Extreme::Max) => (DType::I64, ReduceKind::Max),
        Combine::Arg(Extreme::Min) => (DType::I64, ReduceKind::Min),
    };
    if let Some(wrong) = wrong_combination(kind, value.dtype) {
        return Some(format!("K12: {wrong}"));
    }
    (reduction.dtype != dtype).then(|| format!("K12: the type is {}, it must be {dtype}", reduction.dtype))
}

/// Sums and products of numbers, extremes of anything, in a type that is computed in.
fn wrong_combination(kind: ReduceKind, dtype: DType) -> Option<String> {
    let numbers = matches!(kind, ReduceKind::Sum | ReduceKind::Prod);
    (dtype != dtype.compute() || (numbers && dtype == DType::Bool)).then(|| format!("combines values of type {dtype}"))
}

fn stores(scope: &Scope<'_>, body: &Body, stores: &[Store], found: &mut Findings) {
    for store in stores {
        let wrong = wrong_store(scope, body, store, &[Mode::Write, Mode::Update], Bounds::Proven);
        scope.note(found, wrong);
    }
}

pub(super) fn wrong_store(scope: &Scope<'_>, body: &Body, store: &Store, modes: &[Mode], bounds: Bounds) -> Option<String> {
    let Some(arg) = scope.kernel.args.get(store.arg) else { return Some(format!("K13: there is no argument p{}", store.arg)) };
    if !modes.contains(&arg.mode) {
        return Some(format!("K13: p{} is used as {:?}", store.arg, arg.mode));
    }
    let value = missing(body, store.value).map(|value| format!("K1: stores {value}"));
    let dtype =
        || body.insts.get(store.value.index()).map(|inst| inst.dtype).filter(|dtype| converts_unsigned(*dtype, arg.dtype));
    let value =
        value.or_else(|| dtype().map(|dtype| format!("K13: stores {dtype} as {}, of which one is only stored", arg.dtype)));
    value.or_else(|| scope.wrong_index(body, arg, &store.index, bounds))
}

/// A value that is no instruction.
pub(super) fn missing(body: &Body, value: ValueId) -> Option<String> {
    (value.index() >= body.insts.len()).then(|| format!("%{}, which is no instruction", value.0))
}

fn contract(scope: &Scope<'_>, contract: &Contract, found: &mut Findings) {
    let Contract { batch, m, n, k, .. } = *contract;
    let roles = [batch, m, n, k];
    let union = roles.into_iter().fold(AxisSet::EMPTY, AxisSet::union);
    let once = roles.iter().map(|axes| axes.len()).sum::<usize>() == union.len();
    scope.require(found, once && union == scope.over, "K14: an axis has no role, or two");
    scope.require(
        found,
        contract.acc == contract.acc.compute() && contract.acc != DType::Bool,
        format!("K14: sums in {}", contract.acc),
    );
    side(&within(scope, "side a", batch.union(m).union(k), None), &contract.a, contract.acc, found);
    side(&within(scope, "side b", batch.union(n).union(k), None), &contract.b, contract.acc, found);
    let epilogue = within(scope, "epilogue", batch.union(m).union(n), Some(contract.acc));
    body::check(&epilogue, &contract.epilogue, found);
    stores(&epilogue, &contract.epilogue, &contract.stores, found);
}

pub(super) fn within<'a>(scope: &Scope<'a>, part: &str, over: AxisSet, acc: Option<DType>) -> Scope<'a> {
    let Scope { program, kernel, axes, .. } = *scope;
    Scope { program, kernel, place: format!("{}, {part}", scope.place), axes, over, reduced: Vec::new(), acc }
}

pub(super) fn side(scope: &Scope<'_>, side: &Side, acc: DType, found: &mut Findings) {
    body::check(scope, &side.body, found);
    let missing = missing(&side.body, side.value);
    scope.require(found, missing.is_none(), format!("K1: gives {}", missing.unwrap_or_default()));
    let dtype = side.body.insts.get(side.value.index()).map_or(acc, |inst| inst.dtype);
    scope.require(found, dtype == acc, format!("K14: gives {dtype}, the sum is in {acc}"));
}

fn scatter(scope: &Scope<'_>, scatter: &Scatter, found: &mut Findings) {
    scope.require(found, scope.over.contains_all(scatter.free), "K2: an axis that there is not is free");
    body::check(scope, &scatter.body, found);
    // A position outside adds nothing, so none has to be inside.
    let wrong = wrong_store(scope, &scatter.body, &scatter.to, &[Mode::Update], Bounds::Clamp);
    scope.note(found, wrong);
    let is_unsigned = scope.kernel.args.get(scatter.to.arg).is_some_and(|arg| arg.dtype == DType::U64);
    let compares = matches!(scatter.kind, ScatterKind::Max | ScatterKind::Min);
    scope.require(found, !(is_unsigned && compares), "K15: compares in u64, which is only stored");
    let written = scope.kernel.args.iter().filter(|arg| arg.mode != Mode::Read).count();
    scope.require(found, written <= 1, "K15: writes more than its target");
    if let Some(when) = scatter.when {
        let dtype = scatter.body.insts.get(when.index()).map(|inst| inst.dtype);
        scope.require(found, dtype == Some(DType::Bool), format!("K15: the condition %{} is no bool", when.0));
    }
}

fn sort(scope: &Scope<'_>, sort: &Sort, found: &mut Findings) {
    scope.require(found, sort.axis < sort.axes.len(), "K28: sorts along an axis that there is not");
    body::check(scope, &sort.body, found);
    let wrong = wrong_store(scope, &sort.body, &sort.to, &[Mode::Write], Bounds::Proven);
    scope.note(found, wrong);
    let dtype = scope.kernel.args.get(sort.to.arg).map(|arg| arg.dtype);
    scope.require(found, dtype == Some(DType::I64), "K28: positions are i64");
    let key = sort.body.insts.get(sort.to.value.index()).map(|inst| inst.dtype);
    scope.require(found, key.is_none_or(|key| key == key.compute()), "K28: compares in a type that is only stored");
    scope.require(found, sort.to.index.iter().all(Index::is_known), "K28: a place is computed");
    let written = scope.kernel.args.iter().filter(|arg| arg.mode != Mode::Read).count();
    scope.require(found, written <= 1, "K28: writes more than its positions");
}

fn prefix(scope: &Scope<'_>, prefix: &Prefix, found: &mut Findings) {
    scope.require(found, prefix.axis < prefix.axes.len(), "K30: combines along an axis that there is not");
    body::check(scope, &prefix.body, found);
    let wrong = wrong_store(scope, &prefix.body, &prefix.to, &[Mode::Write, Mode::Update], Bounds::Proven);
    scope.note(found, wrong);
    if let Some(value) = prefix.body.insts.get(prefix.to.value.index()) {
        let wrong = wrong_combination(prefix.kind, value.dtype);
        scope.require(found, wrong.is_none(), format!("K30: {}", wrong.unwrap_or_default()));
    }
    scope.require(found, prefix.to.index.iter().all(Index::is_known), "K30: a place is computed");
    let written = scope.kernel.args.iter().filter(|arg| arg.mode != Mode::Read).count();
    scope.require(found, written <= 1, "K30: writes more than what is combined");
}

/// One more than the greatest distance of an element from the first: 0 dims for no axis give 1.
pub(super) fn extent(arg: &Arg) -> Dim {
    let reach = |(size, stride): (&Dim, &Dim)| (size - Dim::ONE) * stride;
    arg.shape.iter().zip(&arg.strides).map(reach).sum::<Dim>() + Dim::ONE
}
