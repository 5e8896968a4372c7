//! What the user is told of a data-dependent failure: which check failed, and by which element of an argument, where that can be told.
//!
//! A status word says no more than which check it was. The elements of the call's arguments are looked at again, on the host: a kernel does
//! nothing for it. Where a check depends on what kernels compute, no element is named. Nothing is run here.

use std::collections::BTreeSet;

use graver_ir::kernel::{Access, Body, Index, InstKind, Kernel, Launch, Place, Program, ValueId, launches};
use graver_ir::{Array, DType, Diag, Dim, Scalar, ScalarFn, Sizes, unravel};

/// A call that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed<'a> {
    /// The program.
    pub program: &'a Program,
    /// The entry.
    pub entry: usize,
    /// The sizes of its symbols.
    pub sizes: &'a Sizes,
    /// What it was given.
    pub inputs: &'a [&'a Array],
}

/// What the user is told of a check, by its position among the program's.
///
/// # Panics
/// If the program has no such trap.
#[must_use]
pub fn failure(call: Failed<'_>, trap: usize) -> Diag {
    let of = call.program.traps.get(trap).expect("K22: a kernel reports traps of its program");
    let culprit = launches(&call.program.entries[call.entry].steps).into_iter().find_map(|launch| call.culprit(launch, trap));
    let sizes = call.named(&of.message).map(|text| format!(", where {text}")).unwrap_or_default();
    let element = culprit.map(|text| format!(": {text}")).unwrap_or_default();
    Diag::new(format!("{}{sizes}{element}", of.message)).at(&of.loc)
}

impl Failed<'_> {
    /// The values of the sizes that a message names.
    fn named(&self, message: &str) -> Option<String> {
        let words: BTreeSet<&str> = message.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let named = self.sizes.iter().filter(|(name, _)| words.contains(name.as_str()));
        let all: Vec<String> = named.map(|(name, size)| format!("{name} is {size}")).collect();
        (!all.is_empty()).then(|| all.join(" and "))
    }

    /// The first element of an argument by which a check of a launch does not hold.
    fn culprit(&self, launch: &Launch, trap: usize) -> Option<String> {
        let kernel = self.program.kernel(launch.kernel);
        kernel.body.bodies().into_iter().find_map(|body| {
            let check = body.insts.iter().find_map(|inst| {
                let InstKind::Check { ok, trap: of, value: _ } = &inst.kind else { return None };
                (of.0 as usize == trap).then_some(*ok)
            })?;
            let (load, access) = only_load(body, check)?;
            let input = self.whole_input(kernel, launch, access)?;
            let (_, name) = &self.program.entries[self.entry].inputs[input];
            // Elements that cannot be read any more are not looked at again.
            let array = self.inputs[input].fetch().ok()?;
            if array.dtype().is_float() {
                return None;
            }
            let fails = |position: &usize| {
                let element = array.get(*position).as_i64();
                Evaluation { body, sizes: self.sizes, load, element }.of(check) == Some(0)
            };
            let position = (0..array.numel()).find(fails)?;
            let (place, element) = (unravel(position, array.shape()), array.get(position).as_i64());
            Some(format!("`{name}` has {element} at {place:?}"))
        })
    }

    /// The input whose elements an access reads, each at one point or more, and no other.
    fn whole_input(&self, kernel: &Kernel, launch: &Launch, access: &Access) -> Option<usize> {
        let (arg, view) = (&kernel.args[access.arg], &launch.args[access.arg]);
        let mut axes = BTreeSet::new();
        let each = access.index.iter().zip(&arg.shape).all(|(index, size)| match index {
            Index::At(dim) => match dim.axes().as_slice() {
                [] => size.is(1) && dim.is(0),
                [axis] => *dim == Dim::axis(axis.id, size) && axes.insert(axis.id),
                _ => false,
            },
            Index::Value(..) => false,
        });
        let mut step = Dim::ONE;
        let dense = arg.shape.iter().zip(&arg.strides).rev().all(|(size, stride)| {
            let fits = size.is(1) || *stride == step;
            step = &step * size;
            fits
        });
        let Place::Input(input) = self.program.entries[self.entry].buffer(view.buffer).place else { return None };
        let same = step.eval(self.sizes).ok().and_then(|count| usize::try_from(count).ok()) == Some(self.inputs[input].numel());
        (each && dense && same && view.offset.is(0)).then_some(input)
    }
}

/// The only element of an argument that a value depends on.
fn only_load(body: &Body, value: ValueId) -> Option<(ValueId, &Access)> {
    let (mut stack, mut seen, mut found) = (vec![value], BTreeSet::new(), None);
    while let Some(value) = stack.pop() {
        if !seen.insert(value) {
            continue;
        }
        match &body.inst(value).kind {
            InstKind::Load(access) if found.is_none() => found = Some((value, access)),
            InstKind::Const(_) | InstKind::Index(_) => {}
            InstKind::Map(_, args) => stack.extend(args),
            InstKind::Cast(x) => stack.push(*x),
            InstKind::Load(_)
            | InstKind::Bitcast(_)
            | InstKind::Reduced { .. }
            | InstKind::Acc
            | InstKind::Check { .. }
            | InstKind::Philox { .. } => return None,
        }
    }
    found
}

/// A body's integers, where one element is known.
struct Evaluation<'a> {
    body: &'a Body,
    sizes: &'a Sizes,
    load: ValueId,
    element: i64,
}

impl Evaluation<'_> {
    /// The value, if it is an integer of few kinds of functions.
    fn of(&self, value: ValueId) -> Option<i64> {
        if value == self.load {
            return Some(self.element);
        }
        let inst = self.body.inst(value);
        match &inst.kind {
            InstKind::Const(scalar) => (!scalar.dtype().is_float()).then(|| scalar.as_i64()),
            InstKind::Index(dim) => dim.eval(self.sizes).ok(),
            InstKind::Cast(x) => self.of(*x).and_then(|x| held(inst.dtype, x)),
            InstKind::Map(function, args) => {
                let args = args.iter().map(|arg| self.of(*arg)).collect::<Option<Vec<i64>>>()?;
                apply(*function, &args, inst.dtype)
            }
            InstKind::Load(_)
            | InstKind::Bitcast(_)
            | InstKind::Reduced { .. }
            | InstKind::Acc
            | InstKind::Check { .. }
            | InstKind::Philox { .. } => None,
        }
    }
}

/// An integer that its type holds.
fn held(dtype: DType, x: i64) -> Option<i64> {
    (dtype.is_int() && Scalar::int(dtype, x).as_i64() == x).then_some(x)
}

fn apply(function: ScalarFn, args: &[i64], dtype: DType) -> Option<i64> {
    let truth = |holds: bool| Some(i64::from(holds));
    match (function, args) {
        (ScalarFn::And, [x, y]) => Some(x & y),
        (ScalarFn::Or, [x, y]) => Some(x | y),
        (ScalarFn::Eq, [x, y]) => truth(x == y),
        (ScalarFn::Ne, [x, y]) => truth(x != y),
        (ScalarFn::Lt, [x, y]) => truth(x < y),
        (ScalarFn::Le, [x, y]) => truth(x <= y),
        (ScalarFn::Gt, [x, y]) => truth(x > y),
        (ScalarFn::Ge, [x, y]) => truth(x >= y),
        (ScalarFn::Add, [x, y]) => x.checked_add(*y).and_then(|sum| held(dtype, sum)),
        (ScalarFn::Sub, [x, y]) => x.checked_sub(*y).and_then(|difference| held(dtype, difference)),
        (ScalarFn::Max, [x, y]) => Some(*x.max(y)),
        (ScalarFn::Min, [x, y]) => Some(*x.min(y)),
        (ScalarFn::Select, [condition, x, y]) => Some(if *condition == 0 { *y } else { *x }),
        _ => None,
    }
}
