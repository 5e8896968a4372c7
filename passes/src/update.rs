//! Kernels that write where they read: whether every point reads only the element that it writes, and the kernel with one
//! argument for both.
//!
//! A point here is a position of a nest's axes, in all stages: a stage may read what a later one overwrites at the same
//! point, since stages that are fused run in order. Never changes what a kernel computes.

use std::collections::BTreeMap;

use graver_ir::dim::Dim;
use graver_ir::kernel::{
    Access, Arg, Body, Bounds, BufferId, Contract, Index, Inst, InstKind, Kernel, KernelBody, KernelId, Launch, Mode, Nest,
    Prefix, Program, Stage, Store,
};

/// Redirects launches, making every kernel that this takes once.
#[derive(Default)]
pub(crate) struct Redirect {
    /// By kernel, what it reads and what it writes; `None` where that is not possible. Looked up, never iterated.
    known: BTreeMap<(KernelId, Vec<usize>, usize), Option<KernelId>>,
}

/// What makes a launch write elsewhere.
pub(crate) struct Redirected {
    to: BufferId,
    written: usize,
    read: Vec<usize>,
    /// If another than before.
    kernel: Option<KernelId>,
}

impl Redirected {
    pub(crate) fn apply(self, launch: &mut Launch) {
        launch.args[self.written].buffer = self.to;
        launch.kernel = self.kernel.unwrap_or(launch.kernel);
        let mut arg = 0;
        launch.args.retain(|_| {
            arg += 1;
            !self.read.contains(&(arg - 1))
        });
    }
}

impl Redirect {
    /// How the launch comes to write `to` instead of `from`; if the kernel reads `to`, only at the element that it writes.
    ///
    /// `None` if the kernel reads more of `to`, or it cannot be told.
    pub(crate) fn launch(&mut self, program: &mut Program, launch: &Launch, from: BufferId, to: BufferId) -> Option<Redirected> {
        let written = launch.args.iter().position(|view| view.buffer == from)?;
        let read: Vec<usize> = (0..launch.args.len()).filter(|arg| launch.args[*arg].buffer == to).collect();
        let aligned = |arg: &usize| launch.args[*arg].offset == launch.args[written].offset;
        if !read.iter().all(aligned) {
            return None;
        }
        let kernel = if read.is_empty() { None } else { Some(self.kernel(program, launch.kernel, &read, written)?) };
        Some(Redirected { to, written, read, kernel })
    }

    fn kernel(&mut self, program: &mut Program, kernel: KernelId, read: &[usize], written: usize) -> Option<KernelId> {
        let make = || in_place(program.kernel(kernel), read, written).map(|kernel| program.intern(kernel));
        *self.known.entry((kernel, read.to_vec(), written)).or_insert_with(make)
    }
}

/// The kernel with the arguments `read` (all of them the same memory) and `written` as one, which is updated in place. The
/// other arguments keep their order; the merged one takes the place of `written`.
fn in_place(kernel: &Kernel, read: &[usize], written: usize) -> Option<Kernel> {
    let target = kernel.args.get(written)?;
    let only_read = |arg: &usize| kernel.args[*arg].dtype == target.dtype && kernel.args[*arg].mode == Mode::Read;
    let merge = Merge { args: &kernel.args, read, written };
    if target.mode != Mode::Write || !read.iter().all(only_read) {
        return None;
    }
    let body = merge.body(&kernel.body)?;
    let mut args = kernel.args.clone();
    args[written].mode = Mode::Update;
    let args = (0..args.len()).filter(|arg| !read.contains(arg)).map(|arg| args[arg].clone()).collect();
    Some(Kernel { name: kernel.name.clone(), args, body })
}

/// Arguments of a kernel that become one.
struct Merge<'a> {
    args: &'a [Arg],
    read: &'a [usize],
    written: usize,
}

impl Merge<'_> {
    /// The body over the merged arguments, if every point reads of them only the element that it writes.
    fn body(&self, body: &KernelBody) -> Option<KernelBody> {
        match body {
            KernelBody::Nest(nest) => self.nest(nest).map(KernelBody::Nest),
            KernelBody::Contract(contract) => self.contract(contract).map(KernelBody::Contract),
            // An addition comes at a run-time position, before or after any other point's reads.
            KernelBody::Scatter(_) => None,
            // Positions are stored while others are still compared.
            KernelBody::Sort(_) => None,
            KernelBody::Prefix(prefix) => self.prefix(prefix).map(KernelBody::Prefix),
            // A row of columns and what is summed are read by all rows.
            KernelBody::Attend(_) => None,
        }
    }

    /// Reads come in the stage that stores or before it, over the same axes.
    fn nest(&self, nest: &Nest) -> Option<Nest> {
        let stores = |stage: &Stage| stage.stores.iter().any(|store| store.arg == self.written);
        let mut storing = nest.stages.iter().enumerate().filter(|(_, stage)| stores(stage));
        let (Some((last, at)), None) = (storing.next(), storing.next()) else { return None };
        let store = self.store(&at.stores)?;
        let stage = |(place, stage): (usize, &Stage)| {
            let seen = (place <= last && stage.over == at.over).then_some(store);
            Some(Stage { body: self.inner(&stage.body, seen)?, stores: self.stores(&stage.stores), ..stage.clone() })
        };
        Some(Nest { axes: nest.axes.clone(), stages: nest.stages.iter().enumerate().map(stage).collect::<Option<_>>()? })
    }

    /// The sides are read by many points: only the epilogue may read.
    fn contract(&self, contract: &Contract) -> Option<Contract> {
        let mut merged = contract.clone();
        merged.a.body = self.inner(&contract.a.body, None)?;
        merged.b.body = self.inner(&contract.b.body, None)?;
        merged.epilogue = self.inner(&contract.epilogue, Some(self.store(&contract.stores)?))?;
        merged.stores = self.stores(&contract.stores);
        Some(merged)
    }

    /// What is read at a point is no longer needed once that is stored: what is before it is carried along.
    fn prefix(&self, prefix: &Prefix) -> Option<Prefix> {
        let to = (prefix.to.arg == self.written).then_some(&prefix.to)?;
        let to_own = Store { arg: self.number(to.arg), ..to.clone() };
        Some(Prefix { body: self.inner(&prefix.body, Some(to))?, to: to_own, ..prefix.clone() })
    }

    /// The only store to the argument that is written.
    fn store<'a>(&self, stores: &'a [Store]) -> Option<&'a Store> {
        let mut own = stores.iter().filter(|store| store.arg == self.written);
        own.next().filter(|_| own.next().is_none())
    }

    /// The body with its one read of the merged arguments, if any, at the store's element. Two would be equal instructions.
    fn inner(&self, body: &Body, store: Option<&Store>) -> Option<Body> {
        let own: Vec<&Access> = body.loads().map(|(_, access)| access).filter(|access| self.read.contains(&access.arg)).collect();
        let allowed = match (own.as_slice(), store) {
            ([], _) => true,
            ([access], Some(store)) => self.is_at(access, store),
            (_, Some(_) | None) => false,
        };
        allowed.then(|| {
            let mut body = body.clone();
            body.insts.iter_mut().for_each(|inst| self.inst(inst, store));
            body
        })
    }

    /// Whether an access is always to the element that is stored: the shapes may differ, the places in memory may not.
    fn is_at(&self, access: &Access, store: &Store) -> bool {
        let (read, stored) = (self.place(access.arg, &access.index), self.place(store.arg, &store.index));
        access.bounds == Bounds::Proven && read.is_some() && read == stored
    }

    /// The distance from the view's first element.
    fn place(&self, arg: usize, index: &[Index]) -> Option<Dim> {
        let term = |(index, stride): (&Index, &Dim)| match index {
            Index::At(dim) => Some(dim * stride),
            Index::Value(..) => None,
        };
        index.iter().zip(&self.args[arg].strides).map(term).sum()
    }

    fn inst(&self, inst: &mut Inst, store: Option<&Store>) {
        if let InstKind::Load(access) = &mut inst.kind {
            if let (true, Some(store)) = (self.read.contains(&access.arg), store) {
                access.index.clone_from(&store.index);
            }
            access.arg = self.number(access.arg);
        }
    }

    fn stores(&self, stores: &[Store]) -> Vec<Store> {
        stores.iter().map(|store| Store { arg: self.number(store.arg), ..store.clone() }).collect()
    }

    /// What an argument is called after the merge.
    fn number(&self, arg: usize) -> usize {
        let arg = if self.read.contains(&arg) { self.written } else { arg };
        arg - self.read.iter().filter(|gone| **gone < arg).count()
    }
}
