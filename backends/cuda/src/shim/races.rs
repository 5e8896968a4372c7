//! Kernels of the suite under the thread sanitizer: of every way in which threads hand values on, the smallest that has it.

use std::collections::BTreeMap;

use graver_conformance::programs;
use graver_ir::kernel::{Arg, Kernel};
use graver_ir::{Dim, Sizes, Symbol};
use graver_runtime::evaluated;

use super::compiler::Racing;
use super::tests::races_of;
use crate::emit::{Emitted, emit};

/// What only the text of such a kernel holds.
const WAYS: &[(&str, &str)] = &[
    ("a warp a row", "gr_of_warp<"),
    ("a block a row", "% 32 == 0, 0, 1, 8)"),
    ("columns", "thread, true, thread % 32, 32, 8)"),
    ("the position of an extreme, in a warp", "gr_arg_of_warp<"),
    ("transposes", "_first + row + e"),
    ("shares of rows and columns", "from = share"),
    ("shares of k", "k_begin = share"),
    ("tiles", "gr_mad("),
    ("tensor instructions of bf16", "gr_mma_bf16("),
    ("tensor instructions of f16", "gr_mma_f16("),
    ("rows in registers", "row1["),
    ("asynchronous copies", "gr_copy16("),
    ("a running softmax", "factor = gr_exp("),
    ("sorted lines", "t / half * 2 * half"),
];

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
    let programs = programs(&crate::describe());
    let mut least: BTreeMap<&str, (usize, Emitted, Vec<usize>)> = BTreeMap::new();
    for kernel in programs.iter().flat_map(|(_, program)| &program.kernels) {
        let emitted = emit(kernel);
        let Some(elements) = elements(kernel, &sizes(&emitted)) else { continue };
        let size = elements.iter().sum();
        if emitted.phases.iter().any(|phase| phase.barriers) {
            for (way, _) in WAYS.iter().filter(|(_, mark)| emitted.text.contains(mark)) {
                if least.get(way).is_none_or(|(known, ..)| size < *known) {
                    least.insert(way, (size, emitted.clone(), elements.clone()));
                }
            }
        }
    }
    let missing: Vec<&str> = WAYS.iter().map(|(way, _)| *way).filter(|way| !least.contains_key(way)).collect();
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
