//! Kernel programs to text.

use super::VERSION;
use crate::kernel::{
    Access, Arg, Attend, Body, Bounds, Branch, Buffer, Carry, Combine, Contract, Entry, InstKind, Kernel, KernelBody, Launch,
    Loop, Nest, Place, Prefix, Program, Reduction, Scatter, Side, Sort, Stage, Step, Store, Trip, ValueId, View,
};
use crate::name::{Name, Quoted};
use crate::op::ScatterKind;
use crate::text::constant::print_scalar;
use crate::text::print::{loc, states, symbols};
use crate::text::value::{Printer, Value as _};
use crate::ty::Shape;

/// The text of a program.
#[must_use]
pub fn print(program: &Program) -> String {
    let mut out = Printer::new(None);
    out.put(format_args!("program {VERSION}\n"));
    symbols(program.symbols.clone(), &mut out);
    states(&program.state, &mut out);
    gap(program.consts.is_empty(), &mut out);
    for (id, array) in program.consts.iter().enumerate() {
        out.put(format_args!("const c{id} = "));
        array.print(&mut out);
        out.put("\n");
    }
    gap(program.traps.is_empty(), &mut out);
    for (id, trap) in program.traps.iter().enumerate() {
        out.put(format_args!("trap t{id} {}", Quoted(&trap.message)));
        loc(&trap.loc, &mut out);
        out.put("\n");
    }
    for (id, of) in program.kernels.iter().enumerate() {
        out.put(format_args!("\nkernel k{id} "));
        kernel(of, &mut out);
    }
    for of in &program.entries {
        out.put("\n");
        entry(program, of, &mut out);
    }
    out.text
}

/// The text of one kernel: what a backend puts above its code.
#[must_use]
pub fn print_kernel(of: &Kernel) -> String {
    let mut out = Printer::new(None);
    out.put("kernel ");
    kernel(of, &mut out);
    out.text
}

fn gap(empty: bool, out: &mut Printer<'_>) {
    if !empty {
        out.put("\n");
    }
}

fn kernel(kernel: &Kernel, out: &mut Printer<'_>) {
    out.put(format_args!("{} (", Quoted(&kernel.name)));
    for (id, of) in kernel.args.iter().enumerate() {
        arg(id, of, out);
    }
    out.put(if kernel.args.is_empty() { ") " } else { "\n) " });
    match &kernel.body {
        KernelBody::Nest(of) => nest(of, out),
        KernelBody::Contract(of) => contract(of, out),
        KernelBody::Scatter(of) => scatter(of, out),
        KernelBody::Sort(of) => sort(of, out),
        KernelBody::Prefix(of) => prefix(of, out),
        KernelBody::Attend(of) => attend(of, out),
    }
}

/// `read p0: f32[batch, 784] strides [1, batch]`
fn arg(id: usize, arg: &Arg, out: &mut Printer<'_>) {
    out.put("\n  ");
    arg.mode.print(out);
    out.put(format_args!(" p{id}: {}", arg.dtype));
    arg.shape.print(out);
    if Shape(arg.shape.clone()).strides() != arg.strides {
        out.put(" strides ");
        arg.strides.print(out);
    }
    out.put(",");
}

fn nest(nest: &Nest, out: &mut Printer<'_>) {
    out.put("nest ");
    nest.axes.print(out);
    out.put(" {\n");
    for of in &nest.stages {
        stage(of, out);
    }
    out.put("}\n");
}

fn stage(stage: &Stage, out: &mut Printer<'_>) {
    out.put("  stage over ");
    stage.over.print(out);
    out.put(" keep ");
    stage.keep.print(out);
    out.put(" {\n");
    body(&stage.body, out);
    for of in &stage.reductions {
        reduction(of, out);
    }
    stores(&stage.stores, out);
    out.put("  }\n");
}

/// `reduce sum(%0): f32`, `arg max(%0): i64`
fn reduction(reduction: &Reduction, out: &mut Printer<'_>) {
    match reduction.combine {
        Combine::Reduce(kind) => out.put(format_args!("    reduce {}(", kind.name())),
        Combine::Arg(kind) => out.put(format_args!("    arg {}(", kind.name())),
    }
    reduction.value.print(out);
    out.put(format_args!("): {}\n", reduction.dtype));
}

fn stores(stores: &[Store], out: &mut Printer<'_>) {
    for of in stores {
        out.put("    store ");
        store(of, out);
        out.put("\n");
    }
}

/// `p2[a0, %1] = %3`
fn store(store: &Store, out: &mut Printer<'_>) {
    out.put(format_args!("p{}", store.arg));
    store.index.print(out);
    out.put(" = ");
    store.value.print(out);
}

fn contract(contract: &Contract, out: &mut Printer<'_>) {
    out.put("contract ");
    contract.axes.print(out);
    for (role, axes) in [("batch", contract.batch), ("m", contract.m), ("n", contract.n), ("k", contract.k)] {
        out.put(format_args!(" {role} "));
        axes.print(out);
    }
    out.put(format_args!(" acc {} {{\n", contract.acc));
    side("a", &contract.a, out);
    side("b", &contract.b, out);
    out.put("  epilogue {\n");
    body(&contract.epilogue, out);
    stores(&contract.stores, out);
    out.put("  }\n}\n");
}

fn side(name: &str, side: &Side, out: &mut Printer<'_>) {
    out.put(format_args!("  side {name} {{\n"));
    body(&side.body, out);
    out.put("    yield ");
    side.value.print(out);
    out.put("\n  }\n");
}

fn scatter(scatter: &Scatter, out: &mut Printer<'_>) {
    out.put("scatter ");
    scatter.axes.print(out);
    out.put(" free ");
    scatter.free.print(out);
    out.put(" {\n");
    body(&scatter.body, out);
    out.put(format_args!("    {} ", word(scatter.kind)));
    store(&scatter.to, out);
    if let Some(when) = scatter.when {
        out.put(" when ");
        when.print(out);
    }
    out.put("\n}\n");
}

fn sort(sort: &Sort, out: &mut Printer<'_>) {
    out.put("sort ");
    sort.axes.print(out);
    out.put(format_args!(" along {}{} {{\n", sort.axis, if sort.descending { " descending" } else { "" }));
    body(&sort.body, out);
    out.put("    place ");
    store(&sort.to, out);
    out.put("\n}\n");
}

fn prefix(prefix: &Prefix, out: &mut Printer<'_>) {
    out.put("prefix ");
    prefix.axes.print(out);
    out.put(format_args!(" along {}{} {{\n", prefix.axis, if prefix.reverse { " reverse" } else { "" }));
    body(&prefix.body, out);
    out.put(format_args!("    {} ", prefix.kind.name()));
    store(&prefix.to, out);
    out.put("\n}\n");
}

fn attend(attend: &Attend, out: &mut Printer<'_>) {
    out.put("attend ");
    attend.axes.print(out);
    out.put(" batch ");
    attend.batch.print(out);
    out.put(format_args!(" rows {} columns ", attend.rows));
    attend.columns.print(out);
    out.put(format_args!(" acc {} {{\n", attend.acc));
    for product in &attend.products {
        out.put(format_args!("  product over {} {{\n", product.k));
        side("rows", &product.rows, out);
        side("columns", &product.columns, out);
        out.put("  }\n");
    }
    out.put("  weights {\n");
    body(&attend.weights, out);
    out.put("  }\n");
    if let Some(softmax) = &attend.softmax {
        out.put("  softmax ");
        softmax.score.print(out);
        if let Some(to) = &softmax.log_sum {
            out.put(" log sum ");
            store(to, out);
        }
        out.put("\n");
    }
    for keep in &attend.keep {
        out.put(format_args!("  keep {keep}\n"));
    }
    for (word, sums) in [("sum", &attend.sums), ("across", &attend.across)] {
        for sum in sums {
            out.put(format_args!("  {word} free {} ", sum.free));
            store(&sum.to, out);
            out.put(" {\n");
            side("summed", &sum.side, out);
            out.put("  }\n");
        }
    }
    out.put("}\n");
}

/// `add` of `scatter_add`.
pub(super) fn word(kind: ScatterKind) -> &'static str {
    kind.name().trim_start_matches("scatter_")
}

/// `%2: f32 = mul(%0, %1)`, one a line.
fn body(body: &Body, out: &mut Printer<'_>) {
    for (id, inst) in body.insts.iter().enumerate() {
        out.put(format_args!("    %{id}: {} = ", inst.dtype));
        kind(&inst.kind, out);
        out.put("\n");
    }
}

fn kind(kind: &InstKind, out: &mut Printer<'_>) {
    match kind {
        InstKind::Const(scalar) => {
            out.put("const ");
            print_scalar(*scalar, out);
        }
        InstKind::Index(dim) => out.put(format_args!("index {dim}")),
        InstKind::Load(access) => load(access, out),
        InstKind::Map(function, args) => call(function.name(), args, out),
        InstKind::Cast(value) => call("cast", &[*value], out),
        InstKind::Bitcast(value) => call("bitcast", &[*value], out),
        InstKind::Reduced { stage, slot } => out.put(format_args!("reduced({stage}, {slot})")),
        InstKind::Acc => out.put("acc"),
        InstKind::Check { ok, value, trap } => {
            call("check", &[*ok, *value], out);
            out.put(format_args!(" t{}", trap.0));
        }
        InstKind::Philox { key: [a, b, c, d], position, stream } => {
            call("philox", &[*a, *b, *c, *d, *position], out);
            out.put(format_args!(" stream {stream}"));
        }
    }
}

fn call(name: &str, args: &[ValueId], out: &mut Printer<'_>) {
    out.put(format_args!("{name}("));
    out.list(args, |out, arg| arg.print(out));
    out.put(")");
}

/// `load p0[a0, %1] fill 0.0`
fn load(access: &Access, out: &mut Printer<'_>) {
    out.put(format_args!("load p{}", access.arg));
    access.index.print(out);
    match access.bounds {
        Bounds::Proven => {}
        Bounds::Fill(scalar) => {
            out.put(" fill ");
            print_scalar(scalar, out);
        }
        Bounds::Clamp => out.put(" clamp"),
    }
}

fn entry(program: &Program, entry: &Entry, out: &mut Printer<'_>) {
    out.put(format_args!("entry @{} arena {} {{\n", Name(&entry.name), entry.arena));
    for (id, of) in entry.buffers.iter().enumerate() {
        buffer(program, id, of, out);
    }
    for (id, name) in &entry.inputs {
        out.put(format_args!("  input b{} {}\n", id.0, Quoted(name)));
    }
    for id in &entry.outputs {
        out.put(format_args!("  output b{}\n", id.0));
    }
    steps(&entry.steps, 1, out);
    out.put("}\n");
}

/// `buffer b0: f32[batch, 784] = input 0`
fn buffer(program: &Program, id: usize, buffer: &Buffer, out: &mut Printer<'_>) {
    out.put(format_args!("  buffer b{id}: {}", buffer.dtype));
    buffer.shape.print(out);
    out.put(" = ");
    match &buffer.place {
        Place::Input(position) => out.put(format_args!("input {position}")),
        Place::Output(position) => out.put(format_args!("output {position}")),
        Place::State(id) => match program.state.get(id.0 as usize) {
            Some(decl) => out.put(format_args!("state {}", Quoted(&decl.path))),
            None => out.put(format_args!("state ?{}", id.0)),
        },
        Place::Const(position) => out.put(format_args!("const c{position}")),
        Place::Arena(offset) => out.put(format_args!("arena {offset}")),
        Place::Unplaced => out.put("unplaced"),
    }
    loc(&buffer.loc, out);
    out.put("\n");
}

/// One step a line, indented by the number of steps around.
fn steps(steps: &[Step], depth: usize, out: &mut Printer<'_>) {
    for step in steps {
        out.put("  ".repeat(depth));
        match step {
            Step::Launch(of) => launch(of, out),
            Step::If(of) => branch(of, depth, out),
            Step::Loop(of) => repeat(of, depth, out),
        }
    }
}

/// `if b3 { .. } else { .. }`
fn branch(branch: &Branch, depth: usize, out: &mut Printer<'_>) {
    out.put("if ");
    view(&branch.cond, out);
    block(&branch.then, depth, out);
    out.put(" else");
    block(&branch.otherwise, depth, out);
    out.put("\n");
}

/// `loop step times length carry (b3 b4) { .. }`, `loop step while b5 most 8 test { .. } do { .. }`
fn repeat(of: &Loop, depth: usize, out: &mut Printer<'_>) {
    out.put(format_args!("loop {} ", of.counter));
    match &of.trip {
        Trip::Times(trip) => out.put(format_args!("times {trip}")),
        Trip::While { holds, most, .. } => {
            out.put("while ");
            view(holds, out);
            if let Some(most) = most {
                out.put(format_args!(" most {most}"));
            }
        }
    }
    if !of.carry.is_empty() {
        out.put(" carry (");
        out.list(&of.carry, |out, Carry { now, next }| out.put(format_args!("b{} b{}", now.0, next.0)));
        out.put(")");
    }
    if let Trip::While { test, .. } = &of.trip {
        out.put(" test");
        block(test, depth, out);
        out.put(" do");
    }
    block(&of.body, depth, out);
    out.put("\n");
}

fn block(inner: &[Step], depth: usize, out: &mut Printer<'_>) {
    out.put(" {\n");
    steps(inner, depth + 1, out);
    out.put("  ".repeat(depth));
    out.put("}");
}

/// `b1 + 16`
fn view(view: &View, out: &mut Printer<'_>) {
    out.put(format_args!("b{}", view.buffer.0));
    if !view.offset.is(0) {
        out.put(format_args!(" + {}", view.offset));
    }
}

/// `launch k0(b0, b1 + 16) for loc("src/main.rs":4:5), loc()`
fn launch(launch: &Launch, out: &mut Printer<'_>) {
    out.put(format_args!("launch k{}(", launch.kernel.0));
    out.list(&launch.args, |out, of| view(of, out));
    out.put(")");
    for (position, of) in launch.locs.iter().enumerate() {
        out.put(if position == 0 { " for" } else { "," });
        if of.place().is_none() {
            out.put(" loc()");
        }
        loc(of, out);
    }
    out.put("\n");
}
