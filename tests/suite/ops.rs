//! The matrix of operations, element types and devices, as the samples ran: `docs/ops.md`. A gap is a failing test.
//!
//! To write the page again: `GRAVER_BLESS=1 cargo test --workspace --test suite ops::every_operation`; what NVRTC compiles, where it is
//! there, with `-- --ignored`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use graver_cpu::Cpu;
use graver_cuda::{Nvrtc, Shim};
use graver_interp::Interp;
use graver_ir::DType::{self, BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
use graver_ir::{Op, ScalarFn};
use graver_passes::{Silent, pipeline};
use graver_runtime::Backend;

use crate::cases::{Case, cases};
use crate::tidy::root;

const FLOATS: &[DType] = &[F64, F32, F16, BF16];
const NUMBERS: &[DType] = &[F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8];
const ALL: &[DType] = &[F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, Bool];

/// The least that must run, but for scalar functions, whose type rules say it: the element type of the first operand, or of the result if there is none.
const LEAST: &[(&str, &[DType])] = &[
    ("cast", ALL),
    ("bitcast", &[F64, F32, I64, I32, I16, I8, U64, U32, U16, U8, Bool]),
    ("const", ALL),
    ("size", &[I64]),
    ("iota", NUMBERS),
    ("gather", ALL),
    ("scatter_set", ALL),
    ("scatter_add", NUMBERS),
    ("scatter_mul", NUMBERS),
    ("scatter_max", NUMBERS),
    ("scatter_min", NUMBERS),
    ("dynamic_slice", ALL),
    ("dynamic_update", ALL),
    ("sort", ALL),
    ("reshape", ALL),
    ("permute", ALL),
    ("broadcast", ALL),
    ("slice", ALL),
    ("pad", ALL),
    ("concat", ALL),
    ("reverse", ALL),
    ("reduce", ALL),
    ("arg_reduce", ALL),
    ("prefix", ALL),
    ("window", ALL),
    ("window_arg", ALL),
    ("window_take", ALL),
    ("window_put", NUMBERS),
    ("dot", NUMBERS),
    ("conv", NUMBERS),
    ("philox", &[U32]),
    ("param", ALL),
    ("alias", ALL),
    ("stop_gradient", ALL),
    ("call", FLOATS),
    ("if", ALL),
    ("while", ALL),
    ("scan", ALL),
];

type Ran = BTreeMap<String, BTreeSet<DType>>;

/// What ran on a device, by operation and element type.
///
/// # Panics
/// If a case fails, or gives something else: another case of the same operation and type would hide it.
fn ran(backend: &dyn Backend, cases: &[Case]) -> Ran {
    let (mut ran, mut wrong) = (Ran::new(), Vec::new());
    // All first: a device may compile many programs at once.
    let compiled: Vec<_> =
        cases.iter().map(|case| case.compile(backend).and_then(|program| backend.compile(Arc::new(program)))).collect();
    for (case, executable) in cases.iter().zip(compiled) {
        let got = executable.and_then(|executable| case.run_compiled(&mut case.state.clone(), executable.as_ref()));
        let judged = got.map_err(|error| format!("{}: {error}", case.name)).and_then(|got| case.judge(&case.reference(), &got));
        wrong.extend(judged.err());
        note(&mut ran, case);
    }
    let name = backend.describe().name;
    assert!(wrong.is_empty(), "{} of {} cases on {name}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    ran
}

/// Every operation of a case.
fn note(ran: &mut Ran, case: &Case) {
    case.module.functions.values().for_each(|function| {
        for id in function.graph.nodes() {
            let of = function.graph.args(id).first().copied().unwrap_or_else(|| id.into());
            let of = if matches!(function.graph.op(id), Op::Map(ScalarFn::Select) | Op::If(_)) { id.into() } else { of };
            ran.entry(function.graph.op(id).name().to_owned()).or_default().insert(function.graph.ty(of).dtype);
        }
    });
}

fn least() -> Vec<(String, Vec<DType>)> {
    let admitted = |function: ScalarFn| {
        let operands =
            |dtype| if function == ScalarFn::Select { vec![Bool, dtype, dtype] } else { vec![dtype; function.arity()] };
        DType::ALL.into_iter().filter(move |dtype| function.infer(&operands(*dtype)).is_ok()).collect::<Vec<_>>()
    };
    let functions = ScalarFn::ALL.iter().map(|function| (function.name().to_owned(), admitted(*function)));
    functions.chain(LEAST.iter().map(|(name, dtypes)| ((*name).to_owned(), dtypes.to_vec()))).collect()
}

/// CUDA kernels on the CPU.
pub(crate) fn shim() -> Shim {
    Shim::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim")).expect("a C++ compiler")
}

fn page(devices: &[(&str, Ran)]) -> String {
    let mut page = String::from(
        "# Operations\n\nWhich operation ran with which element type on which device, as the tests found it: `i` the interpreter of kernels, `c` the CPU, `s` CUDA kernels on the CPU through the shim;\n\
         and `n` what NVRTC compiled to machine code of a GPU (`sm_90a`). A dot where the operation does not take the type. This page is written by tests and held by them.\n\n| operation |",
    );
    DType::ALL.iter().for_each(|dtype| write!(page, " {dtype} |").expect("memory takes it"));
    page.push_str("\n|---|");
    page.push_str(&"---|".repeat(DType::ALL.len()));
    for (name, dtypes) in least() {
        write!(page, "\n| `{name}` |").expect("memory takes it");
        for dtype in DType::ALL {
            let has = |ran: &Ran| ran.get(&name).is_some_and(|dtypes| dtypes.contains(&dtype));
            let cell: String = devices.iter().filter(|(_, ran)| has(ran)).map(|(letter, _)| *letter).collect();
            let cell = if dtypes.contains(&dtype) { cell } else { "·".to_owned() };
            write!(page, " {cell} |").expect("memory takes it");
        }
    }
    page + "\n"
}

/// What the page says of a device.
fn told(letter: &str) -> Ran {
    let page = std::fs::read_to_string(root().join("docs/ops.md")).unwrap_or_default();
    let (mut told, mut columns) = (Ran::new(), Vec::<DType>::new());
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if cells.get(1) == Some(&"operation") {
            // By name: the page may be older than an element type.
            columns = cells[2..].iter().filter_map(|cell| cell.parse().ok()).collect();
        }
        let Some(name) = cells.get(1).and_then(|name| name.strip_prefix('`')?.strip_suffix('`')) else { continue };
        let dtypes = columns.iter().zip(&cells[2..]).filter(|(_, cell)| cell.contains(letter));
        told.insert(name.to_owned(), dtypes.map(|(dtype, _)| *dtype).collect());
    }
    told
}

/// Nothing is missing on any of these devices, and the page says so of all.
fn hold(found: &[&str], devices: &[(&str, Ran)]) {
    for (letter, ran) in devices.iter().filter(|(letter, _)| found.contains(letter)) {
        for (name, dtypes) in least() {
            let missing: Vec<&DType> =
                dtypes.iter().filter(|dtype| !ran.get(&name).is_some_and(|ran| ran.contains(dtype))).collect();
            assert!(missing.is_empty(), "`{name}` did not run on `{letter}` with {missing:?}");
        }
        let (listed, derivatives) = (least(), ["vjp", "jvp"]);
        let all = |name: &str| listed.iter().any(|(known, _)| known == name) || derivatives.contains(&name);
        let unlisted: Vec<&String> = ran.keys().filter(|name| !all(name)).collect();
        assert!(unlisted.is_empty(), "not of the table: {unlisted:?}");
    }
    let (path, written) = (root().join("docs/ops.md"), page(devices));
    if std::env::var_os("GRAVER_BLESS").is_some() {
        std::fs::write(&path, &written).expect("the project's folder is writable");
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(held == written, "docs/ops.md is not what ran; write it again with GRAVER_BLESS=1\n{written}");
}

#[test]
fn every_operation_runs_with_every_type_that_it_takes() {
    let cases = cases();
    let [i, c, s] = [ran(&Interp::default(), &cases), ran(&Cpu::new(1), &cases), ran(&shim(), &cases)];
    hold(&["i", "c", "s"], &[("i", i), ("c", c), ("s", s), ("n", told("n"))]);
}

#[test]
#[ignore = "NVRTC comes from backends/cuda/setup-nvrtc.sh"]
fn every_operation_is_compiled_by_nvrtc_with_every_type_that_it_takes() {
    let (nvrtc, target) = (Nvrtc::find().expect("NVRTC"), graver_cuda::describe());
    let compiled = |case: &Case| pipeline::compile(case.module.clone(), &target, &mut Silent).ok();
    let (mut made, mut ran, mut programs) = (cases(), Ran::new(), Vec::new());
    made.retain(|case| compiled(case).map(|program| programs.push(program)).is_some());
    let usages = nvrtc.usage(&programs, "sm_90a").expect("every kernel compiles");
    assert!(usages.values().all(|usage| usage.registers > 0), "every kernel is told of");
    made.iter().for_each(|case| note(&mut ran, case));
    hold(&["n"], &[("i", told("i")), ("c", told("c")), ("s", told("s")), ("n", ran)]);
}
