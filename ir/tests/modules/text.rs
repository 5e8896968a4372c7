//! The text of modules: every operation and element type there and back.

use graver_ir::{Module, ScalarFn, structural_hash, text, verify};

use crate::everything::{everything, number, sample};

fn check(module: &Module) {
    let text = text::print(module);
    let read = text::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(module.eq_with_locs(&read), "{text}");
    assert_eq!(text::print(&read), text);
    assert_eq!(structural_hash(module), structural_hash(&read));
}

#[test]
fn everything_goes_there_and_back() {
    let module = everything();
    verify(&module).unwrap_or_else(|error| panic!("{error}"));
    check(&module);
    check(&Module::default());
}

#[test]
fn everything_is_everything() {
    let module = everything();
    let main = module.entry().expect("not empty").1;
    let seen: std::collections::BTreeSet<usize> = main.graph.nodes().map(|id| number(main.graph.op(id))).collect();
    assert!(seen.into_iter().eq(0..37));
    let functions: Vec<&str> = main.graph.nodes().map(|id| main.graph.op(id).name()).collect();
    assert!(ScalarFn::ALL.iter().all(|function| functions.contains(&function.name())));
}

#[test]
fn a_small_text_reads_well() {
    check(&sample());
    insta::assert_snapshot!(text::print(&sample()));
}
