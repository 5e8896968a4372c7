//! Nests: maps, rows, positions, strided views, bounds, conversions.

use graver_ir::kernel::{
    Access, Arg, AxisSet, Body, Bounds, Combine, Index, InstKind, KernelBody, Mode, Nest, Reduction, Stage, Trap, TrapId, View,
};
use graver_ir::op::{Extreme, ReduceKind};
use graver_ir::philox::philox4x32_10;
use graver_ir::{DType, Dim, Loc, Place, Scalar, ScalarFn, bf16};

use crate::{Build, array, constant, load, map, store, sym, vars};

/// A stage that maps every point of `rank` axes.
fn mapping(rank: usize, body: Body, stores: Vec<graver_ir::kernel::Store>) -> Stage {
    Stage { over: AxisSet::first(rank), keep: AxisSet::first(rank), body, reductions: Vec::new(), stores }
}

fn reducing(rank: usize, keep: usize, body: Body, reductions: Vec<Reduction>) -> Stage {
    Stage { over: AxisSet::first(rank), keep: AxisSet::first(keep), body, reductions, stores: Vec::new() }
}

fn nest(axes: &[Dim], stages: Vec<Stage>) -> KernelBody {
    KernelBody::Nest(Nest { axes: axes.to_vec(), stages })
}

#[test]
fn a_map_over_a_symbolic_size() {
    let axes = [sym("n"), Dim::from(2)];
    let at = vars(&axes);
    let mut build = Build::default();
    let (x, y) = (build.input("x", DType::F32, &axes), build.input("y", DType::F32, &axes[1..]));
    let z = build.output(DType::F32, &axes);
    let mut body = Body::default();
    let left = load(&mut body, 0, DType::F32, &at, Bounds::Proven);
    let right = load(&mut body, 1, DType::F32, &at[1..], Bounds::Proven);
    let sum = map(&mut body, ScalarFn::Add, DType::F32, &[left, right]);
    let stage = mapping(2, body, vec![store(2, &at, sum)]);
    build.launch("add", &[(x, Mode::Read), (y, Mode::Read), (z, Mode::Write)], nest(&axes, vec![stage]));
    let y = array(&[2], &[10f32, 20.0]);
    build.check(&[&array(&[2, 2], &[1f32, 2.0, 3.0, 4.0]), &y], &[array(&[2, 2], &[11f32, 22.0, 13.0, 24.0])]);
    build.check(&[&array::<f32>(&[0, 2], &[]), &y], &[array::<f32>(&[0, 2], &[])]);
    build.check_error(&[&y, &y], "`x` must be f32[n, 2], got f32[2]");
}

/// The rows of a softmax in three stages: maximum, sum of exponentials, quotient.
#[test]
fn stages_read_the_reductions_of_earlier_ones() {
    let axes = [Dim::from(2), Dim::from(3)];
    let at = vars(&axes);
    let mut build = Build::default();
    let (x, y) = (build.input("x", DType::F32, &axes), build.output(DType::F32, &axes));
    let reduced = |body: &mut Body, stage| body.push(InstKind::Reduced { stage, slot: 0 }, DType::F32);
    let reduction = |value, kind| Reduction { combine: Combine::Reduce(kind), value, dtype: DType::F32 };
    let exponential = |body: &mut Body| {
        let x = load(body, 0, DType::F32, &at, Bounds::Proven);
        let greatest = reduced(body, 0);
        let difference = map(body, ScalarFn::Sub, DType::F32, &[x, greatest]);
        map(body, ScalarFn::Exp, DType::F32, &[difference])
    };
    let (mut greatest, mut sum, mut quotient) = (Body::default(), Body::default(), Body::default());
    let x0 = load(&mut greatest, 0, DType::F32, &at, Bounds::Proven);
    let e1 = exponential(&mut sum);
    let e2 = exponential(&mut quotient);
    let total = reduced(&mut quotient, 1);
    let result = map(&mut quotient, ScalarFn::Div, DType::F32, &[e2, total]);
    let stages = vec![
        reducing(2, 1, greatest, vec![reduction(x0, ReduceKind::Max)]),
        reducing(2, 1, sum, vec![reduction(e1, ReduceKind::Sum)]),
        mapping(2, quotient, vec![store(1, &at, result)]),
    ];
    build.launch("softmax", &[(x, Mode::Read), (y, Mode::Write)], nest(&axes, stages));
    let ln2 = std::f32::consts::LN_2;
    let x = array(&[2, 3], &[0f32, ln2, 0.0, 1000.0, 1000.0, f32::NEG_INFINITY]);
    build.check(&[&x], &[array(&[2, 3], &[0.25f32, 0.5, 0.25, 0.5, 0.5, 0.0])]);
}

#[test]
fn several_reductions_of_one_stage_and_nothing_reduced() {
    let axes = [Dim::from(2), sym("n")];
    let at = vars(&axes);
    let mut build = Build::default();
    let x = build.input("x", DType::F32, &axes);
    let outs = [build.output(DType::F32, &axes[..1]), build.output(DType::I64, &axes[..1])];
    let mut body = Body::default();
    let value = load(&mut body, 0, DType::F32, &at, Bounds::Proven);
    let least = Reduction { combine: Combine::Reduce(ReduceKind::Min), value, dtype: DType::F32 };
    let first = Reduction { combine: Combine::Arg(Extreme::Min), value, dtype: DType::I64 };
    let mut results = Body::default();
    let lo = results.push(InstKind::Reduced { stage: 0, slot: 0 }, DType::F32);
    let place = results.push(InstKind::Reduced { stage: 0, slot: 1 }, DType::I64);
    let stages = vec![
        reducing(2, 1, body, vec![least, first]),
        mapping(1, results, vec![store(1, &at[..1], lo), store(2, &at[..1], place)]),
    ];
    build.launch("min", &[(x, Mode::Read), (outs[0], Mode::Write), (outs[1], Mode::Write)], nest(&axes, stages));
    let nan = f32::NAN;
    let x = array(&[2, 4], &[3f32, -1.0, 5.0, -1.0, 0.0, nan, -9.0, nan]);
    build.check(&[&x], &[array(&[2], &[-1f32, nan]), array(&[2], &[1i64, 1])]);
    let nothing = [array(&[2], &[f32::INFINITY; 2]), array(&[2], &[0i64; 2])];
    build.check(&[&array::<f32>(&[2, 0], &[])], &nothing);
}

/// `y[i] = x[i - 1] + x[clamped i + 1]`, where 9 is before the first.
#[test]
fn accesses_outside_fill_or_clamp() {
    let axes = [Dim::from(3)];
    let at = vars(&axes);
    let mut build = Build::default();
    let (x, y) = (build.input("x", DType::I32, &axes), build.output(DType::I32, &axes));
    let mut body = Body::default();
    let fill = Bounds::Fill(Scalar::int(DType::I32, 9));
    let before = load(&mut body, 0, DType::I32, &[&at[0] - Dim::ONE], fill);
    let after = load(&mut body, 0, DType::I32, &[&at[0] + Dim::ONE], Bounds::Clamp);
    let sum = map(&mut body, ScalarFn::Add, DType::I32, &[before, after]);
    let stage = mapping(1, body, vec![store(1, &at, sum)]);
    build.launch("neighbours", &[(x, Mode::Read), (y, Mode::Write)], nest(&axes, vec![stage]));
    build.check(&[&array(&[3], &[100i32, 200, 300])], &[array(&[3], &[209i32, 400, 500])]);
}

/// A transposed read, and two writes into the columns of one buffer.
#[test]
fn views_are_strided_parts_of_buffers() {
    let (two, three) = (Dim::from(2), Dim::from(3));
    let axes = [two.clone(), three.clone()];
    let at = vars(&axes);
    let mut build = Build::default();
    let x = build.input("x", DType::F32, &[three.clone(), two.clone()]);
    let joined = build.output(DType::F32, &[two.clone(), Dim::from(6)]);
    let transposed = Arg { dtype: DType::F32, shape: axes.to_vec(), strides: vec![Dim::ONE, two], mode: Mode::Read };
    let part = Arg { dtype: DType::F32, shape: axes.to_vec(), strides: vec![Dim::from(6), Dim::ONE], mode: Mode::Write };
    let view = |buffer, offset: i64| View { buffer, offset: Dim::from(offset) };
    let mut body = Body::default();
    let value = load(&mut body, 0, DType::F32, &at, Bounds::Proven);
    let negative = map(&mut body, ScalarFn::Neg, DType::F32, &[value]);
    let stage = mapping(2, body, vec![store(1, &at, value), store(2, &at, negative)]);
    let views = vec![(transposed, view(x, 0)), (part.clone(), view(joined, 0)), (part, view(joined, 3))];
    build.launch_views("join", views, nest(&axes, vec![stage]));
    let x = array(&[3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let expected = [1f32, 3.0, 5.0, -1.0, -3.0, -5.0, 2.0, 4.0, 6.0, -2.0, -4.0, -6.0];
    build.check(&[&x], &[array(&[2, 6], &expected)]);
}

#[test]
fn narrow_floats_round_where_they_are_stored() {
    let axes = [Dim::from(2)];
    let at = vars(&axes);
    let mut build = Build::default();
    let x = build.input("x", DType::BF16, &axes);
    let (y, bits) = (build.output(DType::BF16, &axes), build.output(DType::U32, &axes));
    let mut body = Body::default();
    let narrow = load(&mut body, 0, DType::BF16, &at, Bounds::Proven);
    let wide = body.push(InstKind::Cast(narrow), DType::F32);
    let one = constant(&mut body, Scalar::one(DType::F32));
    let sum = map(&mut body, ScalarFn::Add, DType::F32, &[wide, one]);
    let back = map(&mut body, ScalarFn::Sub, DType::F32, &[sum, one]);
    let pattern = body.push(InstKind::Bitcast(sum), DType::U32);
    let stage = mapping(1, body, vec![store(1, &at, back), store(2, &at, pattern)]);
    build.launch("round", &[(x, Mode::Read), (y, Mode::Write), (bits, Mode::Write)], nest(&axes, vec![stage]));
    let x = array(&[2], &[256f32, 1.0].map(bf16::from_f32));
    build.check(&[&x], &[x.clone(), array(&[2], &[257f32.to_bits(), 2f32.to_bits()])]);
}

#[test]
fn random_words_are_those_of_the_graph() {
    let axes = [Dim::from(5)];
    let at = vars(&axes);
    let mut build = Build::default();
    let key = build.input("key", DType::U32, &[Dim::from(4)]);
    let y = build.output(DType::U32, &axes);
    let mut body = Body::default();
    let key_words = [0, 1, 2, 3].map(|word| load(&mut body, 0, DType::U32, &[Dim::from(word)], Bounds::Proven));
    let position = body.push(InstKind::Index(at[0].clone()), DType::I64);
    let word = body.push(InstKind::Philox { key: key_words, position, stream: 3 }, DType::U32);
    let stage = mapping(1, body, vec![store(1, &at, word)]);
    build.launch("bits", &[(key, Mode::Read), (y, Mode::Write)], nest(&axes, vec![stage]));
    let [first, second] = [0, 1].map(|block| philox4x32_10([block, 3, 7, 8], [5, 6]));
    let expected = [first[0], first[1], first[2], first[3], second[0]];
    build.check(&[&array(&[4], &[5u32, 6, 7, 8])], &[array(&[5], &expected)]);
}

/// A gather: the position is checked, and clamped so that nothing outside is read.
#[test]
fn a_check_that_fails_is_told_in_the_users_words() {
    let axes = [Dim::from(3)];
    let at = vars(&axes);
    let mut build = Build::default();
    let (x, index) = (build.input("x", DType::F32, &[Dim::from(2)]), build.input("index", DType::I64, &axes));
    let y = build.output(DType::F32, &axes);
    let place = Place { file: "model.rs".to_owned(), line: 4, column: 1, ..Place::default() };
    build.program.traps = vec![
        Trap { loc: Loc::UNKNOWN, message: "gather: below".to_owned() },
        Trap { loc: Loc::new(place), message: "gather: above".to_owned() },
    ];
    let mut body = Body::default();
    let position = load(&mut body, 1, DType::I64, &at, Bounds::Proven);
    let [zero, size] = [0, 2].map(|x| constant(&mut body, Scalar::int(DType::I64, x)));
    let above = map(&mut body, ScalarFn::Lt, DType::Bool, &[position, size]);
    let below = map(&mut body, ScalarFn::Ge, DType::Bool, &[position, zero]);
    let checked = body.push(InstKind::Check { ok: below, value: position, trap: TrapId(0) }, DType::I64);
    let checked = body.push(InstKind::Check { ok: above, value: checked, trap: TrapId(1) }, DType::I64);
    let access = Access { arg: 0, index: vec![Index::Value(checked, Dim::ZERO)], bounds: Bounds::Clamp };
    let value = body.push(InstKind::Load(access), DType::F32);
    let stage = mapping(1, body, vec![store(2, &at, value)]);
    build.launch("pick", &[(x, Mode::Read), (index, Mode::Read), (y, Mode::Write)], nest(&axes, vec![stage]));
    let x = array(&[2], &[1f32, 2.0]);
    build.check(&[&x, &array(&[3], &[1i64, 0, 1])], &[array(&[3], &[2f32, 1.0, 2.0])]);
    build.check_error(&[&x, &array(&[3], &[1i64, 2, -1])], "model.rs:4:1: gather: above: `index` has 2 at [1]");
    build.check_error(&[&x, &array(&[3], &[1i64, -1, 2])], "gather: below: `index` has -1 at [1]");
}
