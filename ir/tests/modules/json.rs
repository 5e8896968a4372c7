//! Modules and programs as JSON there and back, and JSON that nobody should have written.

use graver_ir::kernel::{self, Program};
use graver_ir::{Array, DType, Dim, Loc, Module, Scalar, Symbol, dot, json};

use crate::everything::{everything, sample};

#[test]
fn modules_go_there_and_back() {
    for module in [everything(), sample(), Module::default()] {
        let text = json::print(&module);
        let read = json::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert!(module.eq_with_locs(&read));
        assert_eq!(json::print(&read), text);
    }
}

#[test]
fn programs_go_there_and_back() {
    let program = kernel::text::parse(include_str!("../programs/sample.gir")).expect("the sample is sound");
    assert_eq!(json::parse_program(&json::print_program(&program)), Ok(program));
    assert_eq!(json::parse_program(&json::print_program(&Program::default())), Ok(Program::default()));
}

/// Replaces a piece of the small module's JSON, which must be refused with these words.
fn check(from: &str, to: &str, says: &str) {
    let text = json::print(&sample());
    assert!(text.contains(from), "{from}\n{text}");
    let error = json::parse(&text.replacen(from, to, 1)).expect_err(says).to_string();
    assert!(error.contains(says), "expected {says}, got {error}");
}

#[test]
fn broken_modules_are_refused() {
    check("\"graver\":1", "\"graver\":2", "version 2");
    check("\"args\":[0]", "\"args\":[7]", "node 0 uses what is not before it");
    check("\"args\":[0]", "\"args\":[1]", "f32[10, 784] has 7840 elements");
    check("\"results\":[[5,", "\"results\":[[99,", "there is no value 99");
    check("{\"Update\":0}", "{\"Update\":7}", "I7");
}

#[test]
fn truncated_json_is_refused() {
    let text = json::print(&sample());
    for cut in 0..text.len() {
        assert!(json::parse(&text[..cut]).is_err(), "{cut}");
    }
}

fn refuses<T: serde::de::DeserializeOwned>(text: &str, says: &str) {
    let error = serde_json::from_str::<T>(text).err().unwrap_or_else(|| panic!("{text} is refused")).to_string();
    assert!(error.contains(says), "expected {says}, got {error}");
}

#[test]
fn what_arithmetic_never_makes_is_no_size() {
    let n = r#"{"Sym":{"name":"n","lo":0,"hi":8,"multiple":1}}"#;
    let poly = |terms: &str| format!(r#"{{"Poly":[{terms}]}}"#);
    let term = |atoms: &str, coeff: i64| format!(r#"{{"atoms":[{atoms}],"coeff":{coeff}}}"#);
    let good: Dim = serde_json::from_str(&poly(&term(n, 2))).expect("2*n");
    assert_eq!(good.to_string(), "2*n");
    refuses::<Dim>(&poly(&term(n, 0)), "canonical");
    refuses::<Dim>(&poly(&term("", 3)), "canonical");
    refuses::<Dim>(&poly(&format!("{},{}", term(n, 1), term(n, 1))), "canonical");
    let one = r#"{"Const":1}"#;
    refuses::<Dim>(&poly(&term(&format!(r#"{{"FloorDiv":[{},{{"Const":0}}]}}"#, poly(&term(n, 1))), 1)), "canonical");
    refuses::<Dim>(&poly(&term(&format!(r#"{{"Mod":[{},{one}]}}"#, poly(&term(n, 1))), 1)), "canonical");
    refuses::<Dim>(&poly(&term(&format!(r#"{{"Axis":{{"id":0,"size":{one}}}}}"#), 1)), "canonical");
    refuses::<Dim>(&poly(&term(&vec![n; 1000].join(","), 1)), "too many parts");
    refuses::<Symbol>(r#"{"name":"n","lo":9,"hi":8,"multiple":1}"#, "impossible range");
    refuses::<Symbol>(r#"{"name":"n","lo":0,"hi":8,"multiple":0}"#, "impossible range");
    let deep =
        |levels: usize| format!("{}{one}{}", r#"{"Poly":[{"coeff":1,"atoms":[{"Min":["#.repeat(levels), r"]}]}]}".repeat(levels));
    refuses::<Dim>(&deep(100_000), "recursion limit");
}

#[test]
fn constants_keep_their_bits_and_hostile_ones_are_refused() {
    let nan = Array::from_vec([2], vec![f32::from_bits(0x7fc0_1234), f32::NEG_INFINITY]).expect("two elements");
    let text = serde_json::to_string(&nan).expect("serializes");
    assert_eq!(serde_json::from_str::<Array>(&text).expect("reads"), nan);
    refuses::<Array>(r#"{"dtype":"F32","shape":[4294967296,4294967296],"base64":""}"#, "cannot be made of 0 bytes");
    refuses::<Array>(r#"{"dtype":"Bool","shape":[1],"base64":"Ag=="}"#, "0 or 1");
    refuses::<Array>(r#"{"dtype":"U8","shape":[1],"base64":"Ah=="}"#, "no base64");
    refuses::<Scalar>(r#"{"dtype":"U8","bits":256}"#, "are no u8");
    refuses::<Scalar>(r#"{"dtype":"Bool","bits":2}"#, "are no bool");
    assert!(Scalar::from_bits(DType::F16, 0.1f64.to_bits()).is_none(), "0.1 is no f16");
    let chain = vec![r#"{"file":"x","line":1,"column":1}"#; 1000].join(",");
    refuses::<Loc>(&format!("[{chain}]"), "more than 64 places");
}

#[test]
fn graphviz_labels_are_escaped() {
    let text = dot::print(&everything());
    assert!(text.contains(r#"label="callee \"quoted\"\n";"#), "{text}");
    insta::assert_snapshot!(dot::print(&sample()));
}
