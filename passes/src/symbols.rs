//! The symbols of a program.

use std::collections::BTreeMap;

use graver_ir::Symbol;
use graver_ir::dim::Dim;
use graver_ir::kernel::{Body, Index, InstKind, Kernel, KernelBody, Program, Step, Trip};

/// Every symbol that occurs in kernels or buffers, by name.
pub(crate) fn of(program: &Program) -> Vec<Symbol> {
    let mut found = BTreeMap::new();
    let mut note = |dim: &Dim| {
        // Most are numbers.
        if dim.as_const().is_some() {
            return;
        }
        for symbol in dim.symbols() {
            if !found.contains_key(symbol.name()) {
                found.insert(symbol.name().to_owned(), symbol);
            }
        }
    };
    for buffer in program.entries.iter().flat_map(|entry| &entry.buffers) {
        buffer.shape.iter().for_each(&mut note);
    }
    for step in program.entries.iter().flat_map(|entry| &entry.steps) {
        in_step(step, &mut note);
    }
    for kernel in &program.kernels {
        in_kernel(kernel, &mut note);
    }
    found.into_values().collect()
}

/// How often loops run. Offsets have no symbols but those of buffers, and counters, which are no symbols of the program.
fn in_step(step: &Step, note: &mut dyn FnMut(&Dim)) {
    if let Step::Loop(of) = step {
        match &of.trip {
            Trip::Times(trip) | Trip::While { most: Some(trip), .. } => note(trip),
            Trip::While { most: None, .. } => {}
        }
    }
    step.inner().into_iter().flatten().for_each(|inner| in_step(inner, note));
}

fn in_kernel(kernel: &Kernel, note: &mut dyn FnMut(&Dim)) {
    for arg in &kernel.args {
        arg.shape.iter().chain(&arg.strides).for_each(&mut *note);
    }
    kernel.body.axes().iter().for_each(&mut *note);
    if let KernelBody::Attend(attend) = &kernel.body {
        attend.keep.iter().for_each(&mut *note);
    }
    for body in kernel.body.bodies() {
        in_body(body, note);
    }
    for index in kernel.body.stores().into_iter().flat_map(|store| &store.index) {
        in_index(index, note);
    }
}

fn in_body(body: &Body, note: &mut dyn FnMut(&Dim)) {
    for inst in &body.insts {
        if let InstKind::Index(dim) = &inst.kind {
            note(dim);
        }
    }
    for index in body.loads().flat_map(|(_, access)| &access.index) {
        in_index(index, note);
    }
}

fn in_index(index: &Index, note: &mut dyn FnMut(&Dim)) {
    note(index.dim());
}
