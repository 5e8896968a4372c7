//! Branches and loops of kernel programs: their text there and back, planted violations.

use graver_ir::kernel::text::{parse, print};
use graver_ir::kernel::{Step, Trip, verify};

const SAMPLE: &str = include_str!("loops.gir");

#[test]
fn the_text_goes_there_and_back() {
    let program = parse(SAMPLE).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(print(&program), SAMPLE);
    assert_eq!(parse(&print(&program)), Ok(program.clone()));
    let json = graver_ir::json::print_program(&program);
    assert_eq!(graver_ir::json::parse_program(&json), Ok(program));
}

/// Replaces the first `from` by `to`, which must violate this invariant.
fn plant(invariant: &str, from: &str, to: &str) {
    assert!(SAMPLE.contains(from), "{from}");
    let error = parse(&SAMPLE.replacen(from, to, 1)).expect_err(invariant).to_string();
    assert!(error.contains(&format!("{invariant}: ")), "{invariant}: {error}");
}

#[test]
fn broken_steps_are_found() {
    // An iteration leaves the buffers, one too far.
    plant("K4", "b2 + 4*step)", "b2 + 4*length + 4*step)");
    plant("K20", "  launch k0(b0, b4)\n  loop", "  loop");
    // What one arm alone writes is not there afterwards.
    plant(
        "K20",
        "    launch k0(b4, b3)\n  } else {\n    launch k0(b7, b3)\n  }\n  launch k0(b4, b9)",
        "    launch k0(b4, b3)\n  } else {\n  }\n  launch k0(b3, b9)",
    );
    plant("K21", "    launch k3(b7, b8)\n", "    launch k3(b7, b8)\n    launch k0(b8, b9)\n");
    plant("K25", "  if b6 {", "  if b4 {");
    plant("K25", "while b6 most", "while b7 most");
    plant("K26", "b2 + 4*step)", "b2 + 4*step*step)");
    plant("K26", "b2 + 4*step)", "b2 + 4*floordiv(step, 2))");
    plant("K27", "carry (b4 b5)", "carry (b4 b4)");
    plant("K27", "carry (b4 b5)", "carry (b4 b2)");
    plant("K27", "carry (b7 b8)", "carry (b4 b8)");
    plant("K27", "    launch k3(b7, b8)\n", "    launch k3(b7, b5)\n");
    plant("K20", "    launch k3(b7, b8)\n", "    launch k3(b8, b8)\n");
}

#[test]
fn counters_are_those_of_their_loops() {
    let mut program = parse(SAMPLE).expect("the sample is right");
    let Step::Loop(of) = &mut program.entries[0].steps[1] else { panic!("the second step is a loop") };
    of.trip = Trip::Times(7.into());
    assert!(verify(&program).expect_err("the counter has another range").to_string().contains("K26: "));
    let taken = SAMPLE.replacen("loop inner while", "loop length while", 1);
    assert!(parse(&taken).expect_err("a symbol").to_string().contains("the counter `length` is a symbol already"));
    let outside = SAMPLE.replacen("launch k0(b4, b7)", "launch k0(b4 + step, b7)", 1);
    assert!(parse(&outside).expect_err("no loop").to_string().contains("the symbol `step` is not declared"));
    let deep = format!("{}{}", "if b6 {\n".repeat(400), "} else {\n}\n".repeat(400));
    let deep = SAMPLE.replacen("  launch k0(b0, b4)\n", &format!("  launch k0(b0, b4)\n{deep}"), 1);
    assert!(parse(&deep).expect_err("too deep").to_string().contains("inside of one another"));
}
