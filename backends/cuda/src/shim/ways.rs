//! The ways in which kernels of the suite are run: that each of them occurs, and of those in which threads hand values on, the smallest
//! kernel under the thread sanitizer.

use std::collections::BTreeMap;

use graver_conformance::programs;
use graver_ir::kernel::{Arg, Kernel, text};
use graver_ir::{Dim, Sizes, Symbol};
use graver_runtime::evaluated;

use super::compiler::Racing;
use super::faults::results_in_memory;
use super::tests::races_of;
use crate::emit::{Emitted, emit};

/// A way to run a kernel, and whether its threads hand values on to one another, so that it is run under the thread sanitizer.
struct Way {
    name: &'static str,
    /// What only the text of such a kernel holds.
    mark: &'static str,
    hands_on: bool,
}

const fn apart(name: &'static str, mark: &'static str) -> Way {
    Way { name, mark, hands_on: false }
}

const fn together(name: &'static str, mark: &'static str) -> Way {
    Way { name, mark, hands_on: true }
}

/// Every way.
const WAYS: &[Way] = &[
    apart("16 bytes at once", "gr_read<"),
    apart("16 bytes at once, without rows", "gr_read_some<"),
    apart("16 bytes of an operand whose k is not innermost", "turned.at[j]"),
    apart("chunks of points that threads take in turns", "(idx start"),
    together("a warp a row", "gr_of_warp<"),
    together("a block a row", "% 32 == 0, 0, 1, 8)"),
    together("columns", "thread, true, thread % 32, 32, 8)"),
    together("the position of an extreme, in a warp", "gr_arg_of_warp<"),
    together("the position of an extreme, in a block", "gr_arg_of_team<"),
    together("transposes", "_first + row + e"),
    together("shares of rows and columns", "from = share"),
    together("shares of k", "k_begin = share"),
    together("tiles", "gr_mad("),
    together("tensor instructions of bf16", "gr_mma_bf16("),
    together("tensor instructions of f16", "gr_mma_f16("),
    together("results in memory", "const i64 room"),
    together("rows in registers", "row1["),
    apart("rows of 16 bytes a thread", "> row1["),
    apart("rows in shared memory", "GR_DYNAMIC("),
    together("asynchronous copies", "gr_copy16("),
    together("a running softmax", "factor = gr_exp("),
    // Under the sanitizer in `faults.rs`: those of the suite are large.
    apart("sums of attention by tensor instructions", "gr_split<"),
    together("sorted lines", "t / half * 2 * half"),
    together("what is before a thread", "gr_of_earlier<"),
    together("parts of lines", "part = unit %"),
    apart("a line a thread", "i64 line = gr_block()"),
    apart("shares of a scatter", "== owner"),
    apart("checks", "gr_check("),
    apart("random bits", "gr_philox("),
    apart("narrow positions", "typedef i32 idx"),
    apart("wide positions", "typedef i64 idx"),
];

/// The suite's, and those with results in memory, which only attention to values wider than 512 has, and none of the suite's is.
fn kernels() -> Vec<Kernel> {
    let more = results_in_memory().map(|program| text::parse(&program).unwrap_or_else(|error| panic!("{error}")));
    let suite = programs(&crate::describe()).into_iter().map(|(_, program)| program);
    suite.chain(more).flat_map(|program| program.kernels).collect()
}

#[test]
fn the_suite_runs_kernels_in_every_way() {
    let all: String = kernels().iter().map(|kernel| emit(kernel).text).collect();
    let missing: Vec<&str> = WAYS.iter().filter(|way| !all.contains(way.mark)).map(|way| way.name).collect();
    assert!(missing.is_empty(), "no kernel of the suite is run by {missing:?}");
}

/// About how large what has no known size is made.
const SIZE: i64 = 70;

/// Sizes of a kernel's symbols.
fn sizes(kernel: &Emitted) -> Sizes {
    let size = |symbol: &Symbol| {
        let decl = symbol.decl();
        let size = ((SIZE + decl.multiple - 1) / decl.multiple * decl.multiple).clamp(decl.lo, decl.hi);
        (symbol.name().to_owned(), size)
    };
    kernel.symbols.iter().map(size).collect()
}

/// Elements of each argument, if there are few.
fn elements(kernel: &Kernel, sizes: &Sizes) -> Option<Vec<usize>> {
    let reach = |arg: &Arg| {
        let last: Dim = arg.shape.iter().zip(&arg.strides).map(|(size, stride)| (size - Dim::ONE) * stride).sum();
        evaluated(&(last + Dim::ONE), sizes).ok()
    };
    kernel.args.iter().map(reach).collect::<Option<Vec<usize>>>().filter(|elements| elements.iter().sum::<usize>() < 1 << 20)
}

#[test]
fn kernels_of_the_suite_have_no_races() {
    let mut least: BTreeMap<&str, (usize, Emitted, Vec<usize>)> = BTreeMap::new();
    for kernel in &kernels() {
        let emitted = emit(kernel);
        let Some(elements) = elements(kernel, &sizes(&emitted)) else { continue };
        let size = elements.iter().sum();
        if emitted.phases.iter().any(|phase| phase.barriers) {
            for way in WAYS.iter().filter(|way| way.hands_on && emitted.text.contains(way.mark)) {
                if least.get(way.name).is_none_or(|(known, ..)| size < *known) {
                    least.insert(way.name, (size, emitted.clone(), elements.clone()));
                }
            }
        }
    }
    let ways = WAYS.iter().filter(|way| way.hands_on).map(|way| way.name);
    let missing: Vec<&str> = ways.filter(|way| !least.contains_key(way)).collect();
    assert!(missing.is_empty(), "no kernel is run by {missing:?}");
    let kernels: BTreeMap<&str, Racing<'_>> = least
        .values()
        .map(|(_, kernel, elements)| {
            let sizes = sizes(kernel);
            let sizes = kernel.symbols.iter().map(|symbol| sizes[symbol.name()]).collect();
            (kernel.name.as_str(), Racing { kernel, elements: elements.clone(), sizes })
        })
        .collect();
    let kernels: Vec<Racing<'_>> = kernels.into_values().collect();
    assert!(kernels.len() > 8, "{} kernels", kernels.len());
    assert_eq!(races_of(&kernels), None);
}
