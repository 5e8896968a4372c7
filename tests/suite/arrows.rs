//! The forbidden arrows: who must not know whom.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::tidy::{root, sources};

/// Each package with the packages that it must never depend on, itself or through others.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("graver-ir", &["graver-"]),
    ("graver-interp", &["graver-passes", "graver-cpu", "graver-cuda", "graver-trace", "cranelift"]),
    ("graver-check", &["graver-cpu", "graver-cuda", "graver-trace", "cranelift"]),
    ("graver-passes", &["graver-check", "graver-cpu", "graver-cuda", "graver-trace", "graver-nn", "cranelift"]),
    ("graver-cpu", &["graver-passes", "graver-trace", "graver-nn", "graver-interp", "graver-cuda"]),
    ("graver-cuda", &["graver-passes", "graver-trace", "graver-nn", "graver-interp", "graver-cpu", "cranelift"]),
    ("graver-runtime", &["graver-passes", "graver-cpu", "graver-cuda", "graver-trace", "cranelift"]),
    ("graver-trace", &["graver-cpu", "graver-cuda", "graver-nn", "cranelift"]),
    ("graver-nn", &["graver-cpu", "graver-cuda", "cranelift"]),
    ("graver-hub", &["graver-cpu", "graver-cuda", "graver-models", "cranelift"]),
    ("graver-models", &["graver-cpu", "graver-cuda", "cranelift"]),
    // Nearly a minute of building, for those alone who want it.
    ("graver", &["graver-hub", "graver-models", "graver-onnx", "tokenizers"]),
    ("graver-onnx", &["graver-passes", "graver-cpu", "graver-cuda", "graver-trace", "cranelift"]),
    ("graver-data", &["graver-passes", "graver-cpu", "graver-cuda", "graver-trace", "cranelift"]),
];

/// Each outside name with the only places whose sources may use it.
const CONFINED: &[(&str, &[&str])] = &[
    ("petgraph", &["ir/src/graph.rs"]),
    ("cranelift", &["backends/cpu/"]),
    ("regalloc2", &["backends/cpu/"]),
    ("iced_x86", &["backends/cpu/"]),
    ("cudarc", &["backends/cuda/"]),
    ("libloading", &["backends/cuda/"]),
    ("memmap2", &["crates/runtime/"]),
    ("hf_hub", &["crates/hub/"]),
    ("minijinja", &["crates/hub/"]),
];

/// Crates that do no IO, and what would be IO.
const PURE: &[&str] = &["ir/src", "crates/interp/src", "passes/src"];
const IO: &[&str] = &["std::fs", "std::net", "std::process", "println!", "eprintln!", "std::env", "std::io"];

fn cargo(args: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO")).args(args).current_dir(root()).output().expect("cargo runs these tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn metadata() -> Value {
    let version = String::from_utf8(cargo(&["-vV"])).expect("cargo prints text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo says its host");
    // Only this platform's packages: the others' were never fetched.
    let metadata = cargo(&["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", host]);
    serde_json::from_slice(&metadata).expect("cargo metadata prints JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().expect("cargo metadata has this text")
}

/// The names of everything that a package is built from, without what only its tests and build scripts use.
fn dependencies(metadata: &Value, name: &str) -> Vec<String> {
    let nodes = metadata["resolve"]["nodes"].as_array().expect("a resolved graph");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let name_of =
        |id: &str| text(packages.iter().find(|p| text(p, "id") == id).expect("every node is a package"), "name").to_owned();
    let start = packages.iter().find(|p| text(p, "name") == name).unwrap_or_else(|| panic!("no package {name}"));
    let (mut found, mut pending) = (Vec::new(), vec![text(start, "id").to_owned()]);
    while let Some(id) = pending.pop() {
        let node = nodes.iter().find(|node| text(node, "id") == id).expect("every dependency is a node");
        for dependency in node["deps"].as_array().expect("a list of dependencies") {
            let kinds = dependency["dep_kinds"].as_array().expect("a list of kinds");
            let id = text(dependency, "pkg").to_owned();
            if kinds.iter().any(|kind| kind["kind"].is_null()) && !found.contains(&id) {
                found.push(id.clone());
                pending.push(id);
            }
        }
    }
    found.iter().map(|id| name_of(id)).collect()
}

#[test]
fn no_package_knows_what_it_must_not() {
    let metadata = metadata();
    for (package, forbidden) in FORBIDDEN {
        let all = dependencies(&metadata, package);
        let broken: Vec<&String> = all.iter().filter(|name| forbidden.iter().any(|prefix| name.starts_with(prefix))).collect();
        assert!(broken.is_empty(), "{package} must not be built from {broken:?}");
    }
}

#[test]
fn the_check_sees_what_is_there() {
    let metadata = metadata();
    assert!(dependencies(&metadata, "graver-cpu").iter().any(|name| name == "cranelift-codegen"), "through cranelift-jit too");
    assert!(dependencies(&metadata, "graver-ir").iter().any(|name| name == "petgraph"));
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix(root()).expect("a source of this project").to_owned()
}

#[test]
fn outside_names_stay_where_they_belong() {
    for (path, source) in sources() {
        let place = relative(&path);
        for (name, homes) in CONFINED {
            let at_home = homes.iter().any(|home| place.starts_with(home)) || place.starts_with("tests");
            let names = source.lines().any(|line| {
                !line.trim_start().starts_with("//") && line.contains(&format!("{name}_")) || line.contains(&format!("{name}::"))
            });
            assert!(at_home || !names, "{} names {name}, which belongs to {homes:?}", place.display());
        }
    }
}

#[test]
fn pure_crates_do_no_io() {
    for (path, source) in sources() {
        let place = relative(&path);
        if !PURE.iter().any(|home| place.starts_with(home)) {
            continue;
        }
        let code = source.split("#[cfg(test)]").next().unwrap_or_default();
        let found: Vec<&&str> = IO
            .iter()
            .filter(|name| code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(**name)))
            .collect();
        assert!(found.is_empty(), "{} does IO: {found:?}", place.display());
    }
}
