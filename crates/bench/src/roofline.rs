//! Where a call's time goes: kernel by kernel, beside the least time for its operations and its bytes.
//!
//! Operations and bytes are read off the kernel: what every point computes, and every element of its arguments once. Bytes that
//! a cache holds move faster than memory's rate, so that small kernels may exceed what is called possible here.

use std::time::Duration;

use graver::ir::kernel::{Attend, Body, Buffer, Index, Kernel, KernelBody, Mode, Place, Program, launches};
use graver::ir::{Dim, Sizes};
use graver::prelude::*;

use crate::cases::Runs;
use crate::machine::Limits;

/// Calls of which each launch's fastest is taken.
const CALLS: usize = 20;

/// Prints the table, the slowest kernel first.
pub(crate) fn print(case: &mut dyn Runs, limits: Limits) -> Result<(), Error> {
    let mut least: Vec<(usize, Duration)> = Vec::new();
    for _ in 0..CALLS {
        let launches = case.profile()?.launches;
        least.resize(launches.len(), (0, Duration::MAX));
        for (place, launch) in launches.iter().enumerate() {
            least[place] = (launch.kernel, least[place].1.min(launch.took));
        }
    }
    let sizes = case.facts()?.sizes;
    let program = case.program();
    let mut lines: Vec<Line> = (0..program.kernels.len()).map(|kernel| Line::new(program, kernel, &least, &sizes)).collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.took));
    let total: Duration = lines.iter().map(|line| line.took).sum();
    println!(
        "limits: {:.1} GFLOP/s, {:.1} GB/s copied; {:.1} us in {} launches",
        limits.flops / 1e9,
        limits.bytes / 1e9,
        micros(total),
        least.len()
    );
    println!("{:>10} {:>6} {:>6} {:>10} {:>6} {:>10} {:>10}  kernel", "us", "share", "times", "floor us", "of it", "MFLOP", "MB");
    for line in lines.iter().filter(|line| line.times > 0) {
        line.print(limits, total);
    }
    Ok(())
}

/// Operations of a call, and bytes that it must move: arguments, results and constants once.
pub(crate) fn work(program: &Program, sizes: &Sizes) -> (f64, f64) {
    let entry = &program.entries[0];
    let flops = launches(&entry.steps).iter().map(|launch| flops(program.kernel(launch.kernel), sizes)).sum();
    let of = |place: &Place| match place {
        Place::Const(_) | Place::Input(_) | Place::Output(_) | Place::State(_) => true,
        Place::Arena(_) | Place::Unplaced => false,
    };
    let elements = |buffer: &Buffer| buffer.shape.iter().map(|dim| value(dim, sizes)).product::<f64>();
    let moved = entry.buffers.iter().filter(|buffer| of(&buffer.place));
    (flops, moved.map(|buffer| elements(buffer) * buffer.dtype.size() as f64).sum())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A kernel with all its launches.
struct Line {
    name: String,
    times: usize,
    took: Duration,
    flops: f64,
    bytes: f64,
}

impl Line {
    fn new(program: &Program, number: usize, launches: &[(usize, Duration)], sizes: &Sizes) -> Self {
        let own = || launches.iter().filter(|(kernel, _)| *kernel == number);
        let (times, kernel) = (own().count(), &program.kernels[number]);
        let work = |of: f64| of * times as f64;
        Self {
            name: format!("{number} {} {}", kernel.name, axes(kernel, sizes)),
            times,
            took: own().map(|(_, took)| took).sum(),
            flops: work(flops(kernel, sizes)),
            bytes: work(bytes(kernel, sizes)),
        }
    }

    fn print(&self, limits: Limits, total: Duration) {
        let floor = limits.floor(self.flops, self.bytes);
        println!(
            "{:>10.1} {:>5.1}% {:>6} {:>10.1} {:>5.0}% {:>10.2} {:>10.3}  {}",
            micros(self.took),
            100.0 * self.took.as_secs_f64() / total.as_secs_f64(),
            self.times,
            micros(floor),
            100.0 * floor.as_secs_f64() / self.took.as_secs_f64(),
            self.flops / 1e6,
            self.bytes / 1e6,
            self.name,
        );
    }
}

fn value(dim: &Dim, sizes: &Sizes) -> f64 {
    dim.eval(sizes).map_or(0.0, |value| value as f64)
}

fn points(axes: &[Dim], set: impl Iterator<Item = usize>, sizes: &Sizes) -> f64 {
    set.map(|axis| value(&axes[axis], sizes)).product()
}

fn axes(kernel: &Kernel, sizes: &Sizes) -> String {
    let list = |axes: &[Dim]| axes.iter().map(|axis| value(axis, sizes).to_string()).collect::<Vec<_>>().join("x");
    list(kernel.body.axes())
}

/// Operations: two a product of a contraction, one an instruction of a nest that computes.
fn flops(kernel: &Kernel, sizes: &Sizes) -> f64 {
    match &kernel.body {
        KernelBody::Nest(nest) => {
            let stage = |stage: &graver::ir::kernel::Stage| points(&nest.axes, stage.over.iter(), sizes) * computing(&stage.body);
            nest.stages.iter().map(stage).sum()
        }
        KernelBody::Contract(contract) => 2.0 * points(&contract.axes, 0..contract.axes.len(), sizes),
        KernelBody::Prefix(prefix) => points(&prefix.axes, 0..prefix.axes.len(), sizes) * (1.0 + computing(&prefix.body)),
        KernelBody::Scatter(_) | KernelBody::Sort(_) => 0.0,
        KernelBody::Attend(attend) => attend_flops(attend, sizes),
    }
}

/// Two operations a product of every product and sum, at the points that count: where an expression decides, half of them.
fn attend_flops(attend: &Attend, sizes: &Sizes) -> f64 {
    let matrix = points(&attend.axes, attend.matrix().iter(), sizes) / if attend.keep.is_empty() { 1.0 } else { 2.0 };
    let inner = attend.products.iter().map(|product| product.k).chain(attend.all_sums().map(|(sum, _)| sum.free));
    inner.map(|axis| 2.0 * matrix * value(&attend.axes[axis], sizes)).sum()
}

fn computing(body: &Body) -> f64 {
    body.insts.len() as f64 - body.loads().count() as f64
}

/// Every element of every argument once; of one that is only accessed at run-time positions, no more than there are points.
fn bytes(kernel: &Kernel, sizes: &Sizes) -> f64 {
    let elements = |shape: &[Dim]| shape.iter().map(|dim| value(dim, sizes)).product::<f64>();
    let all = kernel.args.iter().enumerate().map(|(place, arg)| {
        let all = elements(&arg.shape);
        let touched = if is_by_value(kernel, place) { all.min(elements(kernel.body.axes())) } else { all };
        let moved = touched * arg.dtype.size() as f64;
        match arg.mode {
            Mode::Read | Mode::Write => moved,
            Mode::Update => 2.0 * moved,
        }
    });
    all.sum()
}

/// Whether an argument is accessed at positions alone that are known when it runs: how much of it is not known here.
fn is_by_value(kernel: &Kernel, arg: usize) -> bool {
    let bodies = kernel.body.bodies();
    let loads = bodies.iter().flat_map(|body| body.loads()).map(|(_, access)| (access.arg, &access.index));
    let stores = kernel.body.stores().into_iter().map(|store| (store.arg, &store.index));
    let mut own = loads.chain(stores).filter(|(of, _)| *of == arg);
    own.all(|(_, index)| index.iter().any(|index| matches!(index, Index::Value(..))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<const N: usize>(f: impl FnOnce([Tensor; N]) -> Tensor, spec: [graver::trace::TensorSpec; N]) -> Vec<f64> {
        let compiled = compile(f, spec, &graver::cpu_with_threads(1)).expect("it compiles");
        compiled.kernels().iter().map(|kernel| bytes(kernel, &Sizes::new())).collect()
    }

    #[test]
    fn what_is_read_at_run_time_positions_counts_once_a_point() {
        let [table, ids] = [spec::<f32>([100, 8]), spec::<i64>([5])];
        let rows = bytes_of(|[table, ids]| table.embedding(ids), [table.clone(), ids.clone()]);
        assert_eq!(rows, [8.0 * 5.0 + 2.0 * 4.0 * 40.0]);
        // Rows are read whole for their sums, and once more at their labels.
        let losses = bytes_of(|[x, labels]| x.cross_entropy(labels), [spec::<f32>([5, 100]), ids.clone()]);
        assert_eq!(losses, [4.0 * 500.0 + 8.0 * 5.0 + 4.0 * 5.0, 4.0 * 5.0 + 4.0]);
        let added = |[x, ids, rows]: [Tensor; 3]| x.index_add(0, ids, rows);
        let added = bytes_of(added, [table, ids, spec::<f32>([5, 8])]);
        assert_eq!(added.last(), Some(&(8.0 * 5.0 + 4.0 * 40.0 + 2.0 * 4.0 * 40.0)));
    }
}
