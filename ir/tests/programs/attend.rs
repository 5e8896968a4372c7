//! Attention: its text there and back, planted violations, and what it means as a nest.

use graver_ir::kernel::KernelBody;
use graver_ir::kernel::text::{parse, print};

const SAMPLE: &str = include_str!("attend.gir");

#[test]
fn the_text_goes_there_and_back() {
    let program = parse(SAMPLE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(print(&program).trim(), SAMPLE.trim());
    let json = graver_ir::json::print_program(&program);
    assert_eq!(graver_ir::json::parse_program(&json), Ok(program));
}

#[test]
fn broken_attentions_are_found() {
    let plant = |invariant: &str, from: &str, to: &str| {
        assert!(SAMPLE.contains(from), "{from}");
        let error = parse(&SAMPLE.replacen(from, to, 1)).expect_err(invariant).to_string();
        assert!(error.contains(&format!("{invariant}: ")), "{invariant}: {error}");
    };
    plant("K29", "columns [3]", "columns [2, 3]");
    plant("K29", "columns [3]", "columns []");
    plant("K29", "rows 2", "rows 40");
    plant("K29", "product over 4", "product over 5");
    plant("K29", "acc f32", "acc i32");
    plant("K29", "[2*a0 + a1, a2, a5] = %2", "[2*a0 + a1, a2, a5] = %0");
    plant("K29", "log sum p3[2*a0 + a1, a2] = %2", "log sum p3[2*a0 + a1, a2] = %1");
    plant("K1", "softmax %2 log", "softmax %7 log");
    plant("K9", "keep -l + s + a2 - a3", "keep a4");
    plant("K29", "  across free 6", "  across free 5");
    plant("K29", "  keep -l + s - a1 + a3", "  softmax %0\n  keep -l + s - a1 + a3");
    // What is summed over rows has no column, and its result no row.
    plant("K9", "load p1[a0, a1, a6]", "load p1[a0, a3, a6]");
    plant("K9", "p3[2*a0 + a2, a3, a6]", "p3[2*a0 + a2, a1, a6]");
    // A row has no column, and a column no row.
    plant("K9", "load p0[2*a0 + a1, a2, a4]", "load p0[2*a0 + a1, a3, a4]");
    plant("K9", "load p1[a0, a3, a5]", "load p1[a0, a2, a5]");
    plant("K9", "p3[2*a0 + a1, a2]", "p3[2*a0 + a1, a3]");
    plant("K8", "load p0[2*a0 + a1, a2, a4]", "load p0[2*a0 + a1, a2, a4 + 8]");
    plant("K11", "reduced(0, 0)", "reduced(1, 0)");
    plant("K13", "write p4", "read p4");
    plant(
        "K14",
        "    %0: f32 = load p1[a0, a3, a4]\n    yield %0",
        "    %0: f32 = load p1[a0, a3, a4]\n    %1: f64 = cast(%0)\n    yield %1",
    );
}

#[test]
fn as_a_nest_it_is_a_good_kernel() {
    let mut program = parse(SAMPLE).unwrap_or_else(|error| panic!("{error}"));
    // A product, two of the softmax, a sum, and two results; a product, two sums, and two results.
    for (kernel, stages) in program.kernels.iter_mut().zip([6, 5]) {
        let KernelBody::Attend(attend) = &kernel.body else { panic!("every kernel is an attention") };
        let nest = attend.as_nest();
        assert_eq!(nest.stages.len(), stages, "{}", kernel.name);
        kernel.body = KernelBody::Nest(nest);
    }
    graver_ir::kernel::verify(&program).unwrap_or_else(|error| panic!("{error}"));
}
