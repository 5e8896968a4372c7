//! Mistakes of lowering: kernels that are well formed, or nearly, and compute something else.

use graver_ir::dim::Atom;
use graver_ir::kernel::{
    Access, Arg, Attend, AxisSet, Body, Bounds, Combine, Contract, Index, Inst, InstKind, Kernel, KernelBody, Mode,
};
use graver_ir::kernel::{Nest, Program, Scatter, Stage, Store};
use graver_ir::op::{Extreme, ReduceKind};
use graver_ir::{Dim, Scalar, ScalarFn};

use super::{COMPILED, Compiled, Fault, all_are_caught};

const FAULTS: &[Fault<Program>] = &[
    Fault {
        name: "an access is one off, and clamped",
        plant: |p| any_load(p, |load, args| shifted(load, args, Some(Bounds::Clamp))),
    },
    Fault { name: "an access is one off, and said to be inside", plant: |p| any_load(p, |load, args| shifted(load, args, None)) },
    Fault { name: "two positions of an access are exchanged", plant: |p| any_load(p, |load, _| exchanged(&mut load.index)) },
    Fault { name: "another value is outside", plant: |p| any_load(p, |load, _| other_fill(load)) },
    Fault { name: "outside is the nearest element", plant: |p| any_load(p, |load, _| bounded(load, Bounds::Clamp)) },
    Fault { name: "outside is said not to be reached", plant: |p| any_load(p, |load, _| bounded(load, Bounds::Proven)) },
    Fault { name: "two positions of a store are exchanged", plant: |p| any_store(p, |store| exchanged(&mut store.index)) },
    Fault { name: "an access is mirrored", plant: |p| any_load(p, |load, args| mirrored(&mut load.index, &args[load.arg])) },
    Fault { name: "a store is mirrored", plant: |p| any_store_of(p, |store, args| mirrored(&mut store.index, &args[store.arg])) },
    Fault { name: "a store is one off", plant: |p| any_store(p, store_shifted) },
    Fault { name: "a check is removed", plant: |p| any_inst(p, check_removed) },
    Fault { name: "the operands of sub are swapped", plant: |p| any_inst(p, sub_swapped) },
    Fault { name: "a random stream is another", plant: |p| any_inst(p, stream_moved) },
    Fault { name: "a sum is a max", plant: |p| any_stage(p, sum_is_max) },
    Fault { name: "the greatest is the least", plant: |p| any_stage(p, arg_max_is_min) },
    Fault { name: "a reduction keeps an axis less", plant: |p| any_stage(p, kept_less) },
    Fault { name: "a reduction keeps an axis more", plant: |p| any_stage(p, kept_more) },
    Fault { name: "a stage does not visit an axis", plant: |p| any_stage(p, visits_less) },
    Fault { name: "a stage reads a reduction that is not there", plant: |p| any_inst(p, other_slot) },
    Fault { name: "a side of a contraction is one off", plant: side_shifted },
    Fault { name: "an epilogue ignores the sum", plant: |p| any_contract(p, |of| any(&mut of.epilogue, sum_ignored)) },
    Fault { name: "a contraction leaves out its last products", plant: |p| any_contract(p, sums_less) },
    Fault { name: "an order is the other way round", plant: |p| any_kernel(p, other_way) },
    Fault { name: "a prefix begins at the other end", plant: |p| any_kernel(p, other_end) },
    Fault { name: "a prefix combines in another way", plant: |p| any_kernel(p, other_kind) },
    Fault { name: "additions go to one place further", plant: |p| any_scatter(p, added_further) },
    Fault { name: "an axis has one point less, its uses have not", plant: axis_shorter },
    Fault { name: "an axis has one point less", plant: |p| any_kernel(p, last_point_missed) },
    Fault { name: "two strides of an argument are exchanged", plant: |p| any_arg(p, strides_exchanged) },
    Fault { name: "what is updated is said to be written only", plant: |p| any_arg(p, update_is_write) },
];

#[test]
fn faults_in_kernels_are_caught() {
    all_are_caught(FAULTS, &COMPILED, |compiled| &compiled.program, Compiled::judge);
}

fn any_kernel(program: &mut Program, plant: impl Fn(&mut Kernel) -> bool) -> bool {
    program.kernels.iter_mut().any(plant)
}

fn any_stage(program: &mut Program, plant: fn(&mut Stage) -> bool) -> bool {
    any_kernel(program, |kernel| match &mut kernel.body {
        KernelBody::Nest(Nest { stages, .. }) => stages.iter_mut().any(plant),
        KernelBody::Contract(_)
        | KernelBody::Scatter(_)
        | KernelBody::Sort(_)
        | KernelBody::Prefix(_)
        | KernelBody::Attend(_) => false,
    })
}

fn any_contract(program: &mut Program, plant: fn(&mut Contract) -> bool) -> bool {
    any_kernel(program, |kernel| match &mut kernel.body {
        KernelBody::Contract(contract) => plant(contract),
        KernelBody::Nest(_) | KernelBody::Scatter(_) | KernelBody::Sort(_) | KernelBody::Prefix(_) | KernelBody::Attend(_) => {
            false
        }
    })
}

fn any_scatter(program: &mut Program, plant: fn(&mut Scatter) -> bool) -> bool {
    any_kernel(program, |kernel| match &mut kernel.body {
        KernelBody::Scatter(scatter) => plant(scatter),
        KernelBody::Nest(_) | KernelBody::Contract(_) | KernelBody::Sort(_) | KernelBody::Prefix(_) | KernelBody::Attend(_) => {
            false
        }
    })
}

fn any_arg(program: &mut Program, plant: fn(&mut Arg) -> bool) -> bool {
    any_kernel(program, |kernel| kernel.args.iter_mut().any(plant))
}

fn bodies(body: &mut KernelBody) -> Vec<&mut Body> {
    match body {
        KernelBody::Nest(nest) => nest.stages.iter_mut().map(|stage| &mut stage.body).collect(),
        KernelBody::Contract(contract) => vec![&mut contract.a.body, &mut contract.b.body, &mut contract.epilogue],
        KernelBody::Scatter(scatter) => vec![&mut scatter.body],
        KernelBody::Sort(sort) => vec![&mut sort.body],
        KernelBody::Prefix(prefix) => vec![&mut prefix.body],
        KernelBody::Attend(attend) => attend_bodies(attend),
    }
}

fn attend_bodies(attend: &mut Attend) -> Vec<&mut Body> {
    let sides = attend.products.iter_mut().flat_map(|product| [&mut product.rows.body, &mut product.columns.body]);
    sides
        .chain([&mut attend.weights])
        .chain(attend.sums.iter_mut().chain(&mut attend.across).map(|sum| &mut sum.side.body))
        .collect()
}

fn any(body: &mut Body, plant: fn(&mut Inst) -> bool) -> bool {
    body.insts.iter_mut().any(plant)
}

fn any_inst(program: &mut Program, plant: fn(&mut Inst) -> bool) -> bool {
    any_kernel(program, |kernel| bodies(&mut kernel.body).into_iter().any(|body| any(body, plant)))
}

fn any_load(program: &mut Program, plant: fn(&mut Access, &[Arg]) -> bool) -> bool {
    any_kernel(program, |kernel| bodies(&mut kernel.body).into_iter().any(|body| load_in(body, &kernel.args, plant)))
}

fn load_in(body: &mut Body, args: &[Arg], plant: fn(&mut Access, &[Arg]) -> bool) -> bool {
    body.insts.iter_mut().any(|inst| if let InstKind::Load(load) = &mut inst.kind { plant(load, args) } else { false })
}

fn any_store(program: &mut Program, plant: fn(&mut Store) -> bool) -> bool {
    any_kernel(program, |kernel| stores(&mut kernel.body).into_iter().any(plant))
}

fn any_store_of(program: &mut Program, plant: fn(&mut Store, &[Arg]) -> bool) -> bool {
    any_kernel(program, |kernel| stores(&mut kernel.body).into_iter().any(|store| plant(store, &kernel.args)))
}

fn stores(body: &mut KernelBody) -> Vec<&mut Store> {
    match body {
        KernelBody::Nest(nest) => nest.stages.iter_mut().flat_map(|stage| &mut stage.stores).collect(),
        KernelBody::Contract(contract) => contract.stores.iter_mut().collect(),
        KernelBody::Scatter(scatter) => vec![&mut scatter.to],
        KernelBody::Sort(sort) => vec![&mut sort.to],
        KernelBody::Prefix(prefix) => vec![&mut prefix.to],
        KernelBody::Attend(attend) => attend.sums.iter_mut().chain(&mut attend.across).map(|sum| &mut sum.to).collect(),
    }
}

/// Moves the first position along an axis that has others.
fn shifted(load: &mut Access, args: &[Arg], bounds: Option<Bounds>) -> bool {
    let sizes = &args[load.arg].shape;
    let has_others = |size: &Dim| (size - Dim::ONE).is_positive();
    let found = load.index.iter_mut().zip(sizes).any(|(index, size)| match index {
        Index::At(dim) if has_others(size) => {
            *dim = &*dim + Dim::ONE;
            true
        }
        Index::At(_) | Index::Value(..) => false,
    });
    load.bounds = bounds.filter(|_| found).unwrap_or(load.bounds);
    found
}

/// Counts the first axis that has others from its end.
fn mirrored(index: &mut [Index], arg: &Arg) -> bool {
    index.iter_mut().zip(&arg.shape).any(|(index, size)| match index {
        Index::At(dim) if (size - Dim::from(2)).is_nonneg() => {
            *dim = size - Dim::ONE - &*dim;
            true
        }
        Index::At(_) | Index::Value(..) => false,
    })
}

fn exchanged(index: &mut [Index]) -> bool {
    let other = (1..index.len()).find(|place| index[*place] != index[0]);
    other.inspect(|other| index.swap(0, *other)).is_some()
}

fn other_fill(load: &mut Access) -> bool {
    let Bounds::Fill(value) = load.bounds else { return false };
    load.bounds = Bounds::Fill(if value.is_one() { Scalar::zero(value.dtype()) } else { Scalar::one(value.dtype()) });
    true
}

fn bounded(load: &mut Access, bounds: Bounds) -> bool {
    let fills = matches!(load.bounds, Bounds::Fill(_));
    load.bounds = if fills { bounds } else { load.bounds };
    fills
}

fn store_shifted(store: &mut Store) -> bool {
    let Some(Index::At(dim)) = store.index.first_mut() else { return false };
    *dim = &*dim + Dim::ONE;
    true
}

fn check_removed(inst: &mut Inst) -> bool {
    let InstKind::Check { value, .. } = inst.kind else { return false };
    inst.kind = InstKind::Cast(value);
    true
}

fn sub_swapped(inst: &mut Inst) -> bool {
    let InstKind::Map(ScalarFn::Sub, operands) = &mut inst.kind else { return false };
    operands.reverse();
    true
}

fn stream_moved(inst: &mut Inst) -> bool {
    let InstKind::Philox { stream, .. } = &mut inst.kind else { return false };
    *stream += 1;
    true
}

fn sum_is_max(stage: &mut Stage) -> bool {
    let sum = stage.reductions.iter_mut().find(|reduction| reduction.combine == Combine::Reduce(ReduceKind::Sum));
    sum.map(|sum| sum.combine = Combine::Reduce(ReduceKind::Max)).is_some()
}

fn arg_max_is_min(stage: &mut Stage) -> bool {
    let max = stage.reductions.iter_mut().find(|reduction| reduction.combine == Combine::Arg(Extreme::Max));
    max.map(|max| max.combine = Combine::Arg(Extreme::Min)).is_some()
}

fn without_first(axes: AxisSet) -> AxisSet {
    axes.iter().skip(1).collect()
}

fn kept_less(stage: &mut Stage) -> bool {
    let fits = !stage.reductions.is_empty() && !stage.keep.is_empty();
    stage.keep = if fits { without_first(stage.keep) } else { stage.keep };
    fits
}

fn kept_more(stage: &mut Stage) -> bool {
    let Some(axis) = stage.over.minus(stage.keep).iter().next() else { return false };
    stage.keep = stage.keep.with(axis);
    true
}

fn visits_less(stage: &mut Stage) -> bool {
    let fits = stage.reductions.is_empty() && !stage.over.is_empty();
    stage.over = if fits { without_first(stage.over) } else { stage.over };
    stage.keep = if fits { stage.over } else { stage.keep };
    fits
}

fn other_slot(inst: &mut Inst) -> bool {
    let InstKind::Reduced { slot, .. } = &mut inst.kind else { return false };
    *slot = 1 - (*slot).min(1);
    true
}

fn side_shifted(program: &mut Program) -> bool {
    any_kernel(program, |kernel| match &mut kernel.body {
        KernelBody::Contract(contract) => {
            load_in(&mut contract.a.body, &kernel.args, |load, args| shifted(load, args, Some(Bounds::Clamp)))
        }
        KernelBody::Nest(_) | KernelBody::Scatter(_) | KernelBody::Sort(_) | KernelBody::Prefix(_) | KernelBody::Attend(_) => {
            false
        }
    })
}

fn sum_ignored(inst: &mut Inst) -> bool {
    let fits = inst.kind == InstKind::Acc;
    if fits {
        inst.kind = InstKind::Const(Scalar::zero(inst.dtype));
    }
    fits
}

/// The summed axis has one point less: the last product is missing.
fn sums_less(contract: &mut Contract) -> bool {
    let axis = contract.k.iter().find(|axis| contract.axes[*axis].is_positive());
    axis.is_some_and(|axis| shorter(&mut contract.axes[axis]))
}

fn other_way(kernel: &mut Kernel) -> bool {
    let KernelBody::Sort(sort) = &mut kernel.body else { return false };
    sort.descending = !sort.descending;
    true
}

fn other_end(kernel: &mut Kernel) -> bool {
    let KernelBody::Prefix(prefix) = &mut kernel.body else { return false };
    prefix.reverse = !prefix.reverse;
    true
}

fn other_kind(kernel: &mut Kernel) -> bool {
    let KernelBody::Prefix(prefix) = &mut kernel.body else { return false };
    prefix.kind = if prefix.kind == ReduceKind::Max { ReduceKind::Min } else { ReduceKind::Max };
    true
}

fn added_further(scatter: &mut Scatter) -> bool {
    let at = scatter.to.index.iter_mut().find_map(|index| match index {
        Index::At(dim) => Some(dim),
        Index::Value(..) => None,
    });
    at.map(|dim| *dim = &*dim + Dim::ONE).is_some()
}

fn axes(body: &mut KernelBody) -> &mut Vec<Dim> {
    match body {
        KernelBody::Nest(nest) => &mut nest.axes,
        KernelBody::Contract(contract) => &mut contract.axes,
        KernelBody::Scatter(scatter) => &mut scatter.axes,
        KernelBody::Sort(sort) => &mut sort.axes,
        KernelBody::Prefix(prefix) => &mut prefix.axes,
        KernelBody::Attend(attend) => &mut attend.axes,
    }
}

fn axis_shorter(program: &mut Program) -> bool {
    any_kernel(program, |kernel| axes(&mut kernel.body).first_mut().is_some_and(shorter))
}

fn shorter(size: &mut Dim) -> bool {
    *size = &*size - Dim::ONE;
    true
}

/// As a kernel would be that counts its first axis wrong, and consistently so: the last point is left out.
fn last_point_missed(kernel: &mut Kernel) -> bool {
    let Some(id) = axes(&mut kernel.body).iter().position(|size| (size - Dim::from(3)).is_nonneg()) else { return false };
    let size = &mut axes(&mut kernel.body)[id];
    shorter(size);
    let axis = Dim::axis(u32::try_from(id).expect("few axes"), size);
    let replace = |atom: &Atom| match atom {
        Atom::Axis(variable) if variable.id as usize == id => Some(axis.clone()),
        Atom::Axis(_) | Atom::Sym(_) | Atom::FloorDiv(..) | Atom::Mod(..) | Atom::Min(..) | Atom::Max(..) => None,
    };
    for dim in positions(&mut kernel.body) {
        *dim = dim.substitute(&replace);
    }
    true
}

/// Every expression over axes.
fn positions(body: &mut KernelBody) -> Vec<&mut Dim> {
    fn at(index: &mut [Index]) -> impl Iterator<Item = &mut Dim> {
        index.iter_mut().filter_map(|index| if let Index::At(dim) = index { Some(dim) } else { None })
    }
    fn within(body: &mut Body) -> impl Iterator<Item = &mut Dim> {
        body.insts.iter_mut().flat_map(|inst| match &mut inst.kind {
            InstKind::Load(load) => at(&mut load.index).collect(),
            InstKind::Index(dim) => vec![dim],
            InstKind::Const(_)
            | InstKind::Map(..)
            | InstKind::Cast(_)
            | InstKind::Bitcast(_)
            | InstKind::Reduced { .. }
            | InstKind::Acc
            | InstKind::Check { .. }
            | InstKind::Philox { .. } => Vec::new(),
        })
    }
    match body {
        KernelBody::Nest(nest) => nest
            .stages
            .iter_mut()
            .flat_map(|stage| within(&mut stage.body).chain(stage.stores.iter_mut().flat_map(|store| at(&mut store.index))))
            .collect(),
        KernelBody::Contract(contract) => {
            let bodies = [&mut contract.a.body, &mut contract.b.body, &mut contract.epilogue].into_iter().flat_map(within);
            bodies.chain(contract.stores.iter_mut().flat_map(|store| at(&mut store.index))).collect()
        }
        KernelBody::Scatter(scatter) => within(&mut scatter.body).chain(at(&mut scatter.to.index)).collect(),
        KernelBody::Sort(sort) => within(&mut sort.body).chain(at(&mut sort.to.index)).collect(),
        KernelBody::Prefix(prefix) => within(&mut prefix.body).chain(at(&mut prefix.to.index)).collect(),
        KernelBody::Attend(attend) => {
            let Attend { products, weights, sums, across, softmax, keep, .. } = attend;
            let sides = products.iter_mut().flat_map(|product| [&mut product.rows.body, &mut product.columns.body]);
            let log_sum =
                softmax.iter_mut().filter_map(|softmax| softmax.log_sum.as_mut()).flat_map(|store| at(&mut store.index));
            let inner = sides.chain([weights]).flat_map(within).chain(keep).chain(log_sum);
            let sums = sums.iter_mut().chain(across);
            inner.chain(sums.flat_map(|sum| within(&mut sum.side.body).chain(at(&mut sum.to.index)))).collect()
        }
    }
}

fn strides_exchanged(arg: &mut Arg) -> bool {
    let other = (1..arg.strides.len()).find(|place| arg.strides[*place] != arg.strides[0]);
    other.inspect(|other| arg.strides.swap(0, *other)).is_some()
}

fn update_is_write(arg: &mut Arg) -> bool {
    let fits = arg.mode == Mode::Update;
    arg.mode = if fits { Mode::Write } else { arg.mode };
    fits
}
