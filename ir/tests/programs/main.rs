//! Kernel programs: their text there and back, planted violations, hostile texts.

mod attend;
mod loops;

use graver_ir::kernel::text::{parse, print, print_kernel};
use graver_ir::kernel::{Place, Program, verify};
use graver_ir::{DType, Scalar};

const SAMPLE: &str = include_str!("sample.gir");

fn sample() -> Program {
    parse(SAMPLE).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_text_goes_there_and_back() {
    let program = sample();
    assert_eq!(print(&program), SAMPLE.replace(" strides [8, 1]", ""));
    assert_eq!(parse(&print(&program)), Ok(program));
    assert_eq!(parse("program 1"), Ok(Program::default()));
    assert!(SAMPLE.contains(print_kernel(&sample().kernels[1]).strip_prefix("kernel ").expect("a kernel")));
}

#[test]
fn peculiar_nans_keep_their_bits() {
    let mut program = sample();
    let graver_ir::kernel::KernelBody::Nest(nest) = &mut program.kernels[0].body else { panic!("k0 is a nest") };
    let nan = Scalar::from_bits(DType::F32, 0x7ff8_0000_2000_0000).expect("a NaN");
    nest.stages[0].body.insts[6].kind = graver_ir::kernel::InstKind::Const(nan);
    assert!(print(&program).contains("const nan(0x7ff8000020000000)"));
    assert_eq!(parse(&print(&program)), Ok(program));
}

/// Replaces the first `from` by `to`, which must violate this invariant.
fn plant(invariant: &str, from: &str, to: &str) {
    assert!(SAMPLE.contains(from), "{from}");
    let error = parse(&SAMPLE.replacen(from, to, 1)).expect_err(invariant).to_string();
    assert!(error.contains(&format!("{invariant}: ")), "{invariant}: {error}");
}

#[test]
fn broken_bodies_are_found() {
    plant("K1", "max(%1, %3)", "max(%1, %4)");
    plant("K1", "store p2[a0] = %0", "store p2[a0] = %9");
    plant("K1", "reduce max(%7)", "reduce max(%8)");
    plant("K1", "    yield %0", "    yield %1");
    plant("K5", "%4: f32 = max(%1, %3)", "%4: f32 = max(%0, %2)");
    plant("K5", "%4: f32 = max(%1, %3)", "%4: f64 = max(%1, %3)");
    plant("K5", "%5: bool = is_nan(%4)", "%5: f32 = is_nan(%4)");
    plant("K5", "%0: f16 = load", "%0: f32 = load");
    plant("K5", "%6: f32 = bitcast(%5)", "%6: f64 = bitcast(%5)");
    plant("K5", "check(%6, %1)", "check(%5, %1)");
    plant("K5", "philox(%0, %1, %2, %3, %4)", "philox(%0, %1, %2, %4, %4)");
    plant("K5", "philox(%0, %1, %2, %3, %4)", "philox(%0, %1, %2, %3, %3)");
    plant("K5", "%0: f32 = reduced(0, 0)", "%0: f32 = acc");
    plant("K6", "%1: u32 = load p0[1]", "%1: u32 = load p0[0]");
    plant("K7", "load p0[a0, a1]", "load p0[a0]");
    plant("K7", "%1: f32 = relu(%0)", "%1: f32 = load p2[a0, a1]");
    plant("K7", "load p0[%3, 0]", "load p0[%0, 0]");
    plant("K8", "load p0[a0, a1]", "load p0[a0, a1 + 1]");
    plant("K8", "load p0[a0, a1]", "load p0[a0 + 1, a1]");
    plant("K8", "store p1[a0] = %0", "store p1[a0 - 1] = %0");
    plant("K9", "index 8*a0 + 3", "index 8*a1 + 3");
    plant("K9", "load p0[a0, a2]", "load p0[a0, a1]");
    plant("K22", "check(%6, %1) t0", "check(%6, %1) t2");
}

#[test]
fn broken_kernels_are_found() {
    plant("K2", "over [0] keep [0]", "over [0, 2] keep [0, 2]");
    plant("K2", "scatter [batch] free []", "scatter [batch] free [1]");
    plant("K10", "over [0, 1] keep [0]", "over [0] keep [0, 1]");
    plant("K10", "over [0] keep [0]", "over [0] keep []");
    plant("K10", "arg max(%7): i64", "arg max(%7): i64 store p2[a0] = %7");
    plant("K11", "reduced(0, 1)", "reduced(1, 1)");
    plant("K11", "reduced(0, 1)", "reduced(0, 2)");
    plant("K11", "over [0] keep [0]", "over [1] keep [1]");
    plant("K12", "arg max(%7): i64", "arg max(%7): i32");
    plant("K12", "reduce max(%7): f32", "reduce max(%7): f64");
    plant("K12", "reduce max(%7): f32", "reduce sum(%5): bool");
    plant("K13", "store p2[a0] = %0", "store p0[a0, 0] = %0");
    plant("K13", "store p2[a0] = %0", "store p9[a0] = %0");
    plant("K7", "store p2[a0] = %0", "store p2[a0, 0] = %0");
    plant("K14", "m [0] n [1] k [2]", "m [0] n [1] k [1, 2]");
    plant("K14", "m [0] n [1] k [2]", "m [0] n [] k [2]");
    plant("K14", "acc f32", "acc f64");
    plant("K15", "when %2", "when %1");
    plant("K15", "read p0: i64[batch],\n  update", "update p0: i64[batch],\n  update");
    plant("K13", "update p1: f32[8]", "write p1: f32[8]");
    plant("K16", "strides [0]", "strides [0, 1]");
}

#[test]
fn broken_entries_are_found() {
    plant("K3", "launch k4(b5, b6)", "launch k5(b5, b6)");
    plant("K3", "launch k4(b5, b6)", "launch k4(b5)");
    plant("K3", "launch k4(b5, b6)", "launch k4(b0, b6)");
    plant("K4", "launch k4(b5, b6)", "launch k4(b99, b6)");
    plant("K4", "launch k4(b5, b6)", "launch k4(b5 + 1, b6)");
    plant("K4", "launch k4(b5, b6)", "launch k4(b5 + -1, b6)");
    plant("K17", "launch k4(b6, b9)", "launch k4(b6, b6)");
    plant("K17", "arena 8*batch + 32", "arena 8*batch + 4");
    plant("K17", "arena 8*batch + 32", "arena 8*batch - 28");
    plant("K18", "input 1", "input 0");
    plant("K18", "output 0", "output 1");
    plant("K18", "output b2", "output b3");
    plant("K18", "const c0\n", "const c1\n");
    plant("K18", "const c0\n", "const c2\n");
    plant("K18", "buffer b4: f32[8] = state \"w\"", "buffer b4: f32[8] = state \"rng\"");
    plant("K19", "arena 8*batch\n", "arena 8*batch + 2\n");
    plant("K19", "arena 8*batch\n", "arena 16*batch + 128\n");
    plant("K19", "arena 8*batch\n", "arena -8\n");
    plant("K20", "launch k4(b5, b6)", "launch k4(b4, b5)");
    plant("K20", "launch k4(b5, b6)\n", "");
    plant("K21", "  launch k0(b0", "  launch k4(b5, b4)\n  launch k0(b0");
}

#[test]
fn broken_programs_are_found() {
    plant("K22", "entry @main", "entry @main arena 0 {}\nentry @main");
    plant("K24", "state \"rng\": u32[4] rng", "state \"rng\": u32[4] rng\nstate \"rng\": u32[4] rng");
    plant("K24", "state \"rng\": u32[4] rng", "state \"rng\": u32[seq] buffer");
    let mut program = sample();
    program.kernels[3] = program.kernels[4].clone();
    assert!(verify(&program).expect_err("k3 is k4").to_string().contains("K22: "));
    program = sample();
    program.symbols.pop();
    let error = verify(&program).expect_err("seq is not declared").to_string();
    assert!(error.contains("K23: "), "{error}");
    program = sample();
    program.symbols.reverse();
    assert!(verify(&program).expect_err("out of order").to_string().contains("K23: "));
    program = sample();
    program.entries[0].buffers[2].place = Place::State(graver_ir::StateId(7));
    assert!(verify(&program).expect_err("no such state").to_string().contains("K18: "));
}

#[test]
fn texts_that_are_none_say_where() {
    let check = |from: &str, to: &str, says: &str| {
        let error = parse(&SAMPLE.replacen(from, to, 1)).expect_err(says).to_string();
        assert!(error.starts_with("<text>:") && error.contains(says), "expected {says}, got {error}");
    };
    check("program 1", "program 2", "version 2");
    check("kernel k1", "kernel k2", "expected `k1`, found `k2`");
    check(
        "contract [batch",
        "contrat [batch",
        "expected `nest`, `contract`, `scatter`, `sort`, `prefix` or `attend`, found `contrat`",
    );
    check("load p0[a0, a1]", "load p0[a0, a2]", "there is no loop axis `a2`");
    check("load p0[a0, a1]", "load p7[a0, a1]", "no such argument");
    check("m [0]", "m [32]", "at most 32 axes");
    check("fill -inf", "fill 1e99", "out of the range of f16");
    check("cast(%0)", "cast(%0, %0)", "takes 1 values, got 2");
    check("state \"w\"\n", "state \"v\"\n", "there is no state `v`");
    check("%1: f32 = cast", "%2: f32 = cast", "expected `%1`, found `%2`");
    check("relu(%0)", "rely(%0)", "expected an instruction, found `rely`");
    let axes = ["n"; 33].join(", ");
    check("nest [batch, 8]", &format!("nest [{}]", axes.replace('n', "batch")), "at most 32 axes");
}

#[test]
fn truncated_and_mutated_texts_are_errors_or_programs() {
    let end = SAMPLE.find("entry").expect("there is one");
    for cut in 0..SAMPLE.len() - 2 {
        let whole_kernel = cut <= end && (SAMPLE[..cut].trim_end().ends_with('}') || !SAMPLE[..cut].contains("kernel"));
        assert!(parse(&SAMPLE[..cut]).is_err() || whole_kernel, "{cut}");
    }
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let pieces = ["0", "-", "9223372036854775807", "a0", "%1", "[", "}", "\"", "floordiv(", "batch", ",", "f32", "p1", "b0"];
    for _ in 0..1500 {
        let mut mutant = SAMPLE.to_owned();
        for _ in 0..=random(3) {
            let from = random(mutant.len());
            mutant.replace_range(from..(from + random(5)).min(mutant.len()), pieces[random(pieces.len())]);
        }
        if let Ok(program) = parse(&mutant) {
            assert_eq!(parse(&print(&program)), Ok(program));
        }
    }
}

/// Products of many symbolic axes must not be multiplied out to see whether an index is inside.
#[test]
fn indices_of_many_axes_take_no_time() {
    let axes = vec!["batch + seq"; 32].join(", ");
    let product = (0..32).map(|axis| format!("a{axis}")).collect::<Vec<_>>().join("*");
    let set = (0..32).map(|axis| axis.to_string()).collect::<Vec<_>>().join(", ");
    let text = format!(
        "program 1\nsym batch: 0..=8\nsym seq: 0..=8\nkernel k0 \"x\" (write p0: f32[batch]) nest [{axes}] {{\nstage over [{set}] keep [{set}] {{\n\
         %0: f32 = const 0.0\nstore p0[{product}] = %0\n}}\n}}"
    );
    assert!(parse(&text).is_ok());
}

/// Rows in order, the greatest first, from a position that is known at run time.
const SORTED: &str = "program 1

sym n: 0..=7

kernel k0 \"sort\" (
  read p0: f32[9, 4],
  read p1: i64[],
  write p2: i64[n, 4],
) sort [n, 4] along 1 descending {
    %0: i64 = load p1[]
    %1: f32 = load p0[%0 + a0, a1] clamp
    place p2[a0, a1] = %1
}

";

#[test]
fn broken_sorts_are_found() {
    let program = parse(SORTED).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(print(&program).trim(), SORTED.trim());
    let plant = |invariant: &str, from: &str, to: &str| {
        assert!(SORTED.contains(from), "{from}");
        let error = parse(&SORTED.replacen(from, to, 1)).expect_err(invariant).to_string();
        assert!(error.contains(&format!("{invariant}: ")), "{invariant}: {error}");
    };
    plant("K28", "along 1", "along 2");
    plant("K28", "write p2: i64", "write p2: i32");
    plant("K28", "    place p2[a0, a1] = %1", "    %2: f16 = cast(%1)\n    place p2[a0, a1] = %2");
    plant("K28", "read p0", "update p0");
    plant("K13", "write p2", "read p2");
    plant("K7", "load p0[%0 + a0, a1]", "load p0[%0 + a0]");
}

/// A prefix from the last element on, of what is stored in 16 bits.
const PREFIX: &str = "program 1

sym n: 0..=7

kernel k0 \"prefix\" (
  read p0: f16[9, n],
  write p1: f16[9, n],
) prefix [9, n] along 1 {
    %0: f16 = load p0[a0, n - a1 - 1]
    %1: f32 = cast(%0)
    sum p1[a0, n - a1 - 1] = %1
}

";

#[test]
fn broken_prefixes_are_found() {
    let program = parse(PREFIX).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(print(&program).trim(), PREFIX.trim());
    let plant = |invariant: &str, from: &str, to: &str| {
        assert!(PREFIX.contains(from), "{from}");
        let error = parse(&PREFIX.replacen(from, to, 1)).expect_err(invariant).to_string();
        assert!(error.contains(&format!("{invariant}: ")), "{invariant}: {error}");
    };
    plant("K30", "along 1", "along 2");
    plant("K30", "    sum p1[a0, n - a1 - 1] = %1", "    sum p1[a0, n - a1 - 1] = %0");
    plant("K30", "    sum p1[a0, n - a1 - 1] = %1", "    %2: bool = gt(%1, %1)\n    prod p1[a0, n - a1 - 1] = %2");
    plant("K30", "read p0", "update p0");
    plant("K13", "write p1", "read p1");
    plant("K8", "sum p1[a0, n - a1 - 1]", "sum p1[a0, n - a1]");
}

/// Positions and numbers of 64 bits without a sign, of which kernels know the bits alone.
const UNSIGNED: &str = "program 1

sym n: 0..=7

kernel k0 \"scatter_add\" (
  read p0: u64[n],
  update p1: u64[8],
) scatter [n] free [] {
    %0: u64 = load p0[a0]
    %1: i64 = cast(%0)
    %2: i64 = const -1
    add p1[%1] = %2
}

";

#[test]
fn kernels_do_not_see_the_sign_of_u64() {
    let program = parse(UNSIGNED).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(print(&program).trim(), UNSIGNED.trim());
    let plant = |invariant: &str, from: &str, to: &str| {
        assert!(UNSIGNED.contains(from), "{from}");
        let error = parse(&UNSIGNED.replacen(from, to, 1)).expect_err(invariant).to_string();
        assert!(error.contains(&format!("{invariant}: ")), "{invariant}: {error}");
    };
    plant("K15", "add p1", "max p1");
    plant("K5", "%2: i64 = const -1", "%2: f32 = cast(%0)");
    plant("K5", "%2: i64 = const -1", "%2: u64 = add(%0, %0)");
    plant("K13", "%2: i64 = const -1", "%2: f32 = const 1.0");
}
