//! What the models beside the tests have in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use graver_onnx::proto::NodeProto;

/// Every operation, from the page that a test holds.
const PAGE: &str = include_str!("../../../../docs/onnx-ops.md");

fn models(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("kept beside the tests").flatten().map(|entry| entry.path());
    let of = |path: PathBuf| if path.is_dir() { models(&path) } else { vec![path] };
    entries.flat_map(of).filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect()
}

/// The operations of nodes and of the bodies in them.
fn collect(nodes: &[NodeProto], found: &mut BTreeSet<String>) {
    for node in nodes {
        found.insert(node.op_type.clone());
        node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).for_each(|body| collect(&body.node, found));
    }
}

/// What they compute is held by tests of the command.
#[test]
fn every_operation_is_in_a_model() {
    let mut found = BTreeSet::new();
    for path in models(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")) {
        let model = graver_onnx::read_file(&path).expect("kept beside the tests");
        model.functions.iter().for_each(|function| collect(&function.node, &mut found));
        collect(&model.graph.expect("a model has a graph").node, &mut found);
    }
    let table: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(table.len() > 170, "{}", table.len());
    let missing: Vec<&&str> = table.iter().filter(|op| !found.contains(**op)).collect();
    assert!(missing.is_empty(), "no model has {missing:?}; tests/operators/make.py makes small ones");
}
