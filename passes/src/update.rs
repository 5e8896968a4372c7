//! Kernels that write where they read: whether every point reads only the element that it writes, and the kernel with one
//! argument for both.

use graver_ir::kernel::{Access, Body, Bounds, Index, Inst, InstKind, Kernel, KernelBody, Mode, Stage, Store};

/// The kernel with the arguments `read` (all of them the same memory) and `written` as one, which is updated in place. The
/// other arguments keep their order; the merged one takes the place of `written`.
///
/// `None` if some point reads another element than the one it writes, or it cannot be told.
pub(crate) fn in_place(kernel: &Kernel, read: &[usize], written: usize) -> Option<Kernel> {
    let target = kernel.args.get(written)?;
    let same_view = |arg: &usize| {
        let other = &kernel.args[*arg];
        other.dtype == target.dtype && other.shape == target.shape && other.strides == target.strides && other.mode == Mode::Read
    };
    if target.mode != Mode::Write || !read.iter().all(same_view) || !reads_what_it_writes(&kernel.body, read, written) {
        return None;
    }
    let mut merged = kernel.clone();
    merged.args[written].mode = Mode::Update;
    let place = |arg: usize| {
        let arg = if read.contains(&arg) { written } else { arg };
        arg - read.iter().filter(|gone| **gone < arg).count()
    };
    renumber(&mut merged.body, &place);
    merged.args = (0..kernel.args.len()).filter(|arg| !read.contains(arg)).map(|arg| merged.args[arg].clone()).collect();
    Some(merged)
}

/// Whether the kernel may set the status word.
pub(crate) fn may_fail(kernel: &Kernel) -> bool {
    let checks = |inst: &Inst| matches!(inst.kind, InstKind::Check { .. });
    bodies(&kernel.body).into_iter().any(|body| body.insts.iter().any(checks))
}

fn bodies(body: &KernelBody) -> Vec<&Body> {
    match body {
        KernelBody::Nest(nest) => nest.stages.iter().map(|stage| &stage.body).collect(),
        KernelBody::Contract(contract) => vec![&contract.a.body, &contract.b.body, &contract.epilogue],
        KernelBody::Scatter(scatter) => vec![&scatter.body],
    }
}

fn reads_what_it_writes(body: &KernelBody, read: &[usize], written: usize) -> bool {
    let untouched = |body: &Body| body.loads().all(|(_, access)| !read.contains(&access.arg));
    match body {
        KernelBody::Nest(nest) => {
            let own = |stage: &Stage| match stage.stores.iter().find(|store| store.arg == written) {
                Some(store) => loads_at(&stage.body, read, store),
                None => untouched(&stage.body),
            };
            nest.stages.iter().all(own)
        }
        KernelBody::Contract(contract) => {
            let store = contract.stores.iter().find(|store| store.arg == written);
            let sides = untouched(&contract.a.body) && untouched(&contract.b.body);
            sides && store.is_some_and(|store| loads_at(&contract.epilogue, read, store))
        }
        KernelBody::Scatter(_) => false,
    }
}

/// Whether the body loads these arguments at the store's index alone.
fn loads_at(body: &Body, read: &[usize], store: &Store) -> bool {
    let at_store = |access: &Access| {
        let exact = access.index.iter().all(|index| matches!(index, Index::At(_)));
        exact && access.bounds == Bounds::Proven && access.index == store.index
    };
    body.loads().filter(|(_, access)| read.contains(&access.arg)).all(|(_, access)| at_store(access))
}

fn renumber(body: &mut KernelBody, place: &dyn Fn(usize) -> usize) {
    let in_body = |body: &mut Body| {
        for inst in &mut body.insts {
            if let InstKind::Load(access) = &mut inst.kind {
                access.arg = place(access.arg);
            }
        }
    };
    let in_stores = |stores: &mut Vec<Store>| stores.iter_mut().for_each(|store| store.arg = place(store.arg));
    match body {
        KernelBody::Nest(nest) => {
            for stage in &mut nest.stages {
                in_body(&mut stage.body);
                in_stores(&mut stage.stores);
            }
        }
        KernelBody::Contract(contract) => {
            for body in [&mut contract.a.body, &mut contract.b.body, &mut contract.epilogue] {
                in_body(body);
            }
            in_stores(&mut contract.stores);
        }
        KernelBody::Scatter(scatter) => {
            in_body(&mut scatter.body);
            scatter.add.arg = place(scatter.add.arg);
        }
    }
}
