//! The arena, the state and the outputs.

use graver_interp::Checks;
use graver_ir::kernel::{AxisSet, Body, Bounds, BufferId, InstKind, KernelBody, Mode, Nest, Place, Stage, Trap, TrapId};
use graver_ir::{Array, DType, Dim, Loc, Scalar, ScalarFn, Shape, StateDecl, StateKind, Type};
use graver_runtime::Slot;

use crate::{Build, array, constant, load, map, store, vars};

const SIZE: [Dim; 1] = [Dim::ONE];

/// `y = x + 1` over buffers of two elements.
fn increment(build: &mut Build, x: BufferId, y: BufferId) {
    let axes = [Dim::from(2)];
    let at = vars(&axes);
    let mut body = Body::default();
    let value = load(&mut body, 0, DType::F32, &at, Bounds::Proven);
    let one = constant(&mut body, Scalar::one(DType::F32));
    let sum = map(&mut body, ScalarFn::Add, DType::F32, &[value, one]);
    let args = if x == y { vec![(x, Mode::Update)] } else { vec![(x, Mode::Read), (y, Mode::Write)] };
    let all = AxisSet::first(1);
    let stage = Stage { over: all, keep: all, body, reductions: vec![], stores: vec![store(args.len() - 1, &at, sum)] };
    build.launch("increment", &args, KernelBody::Nest(Nest { axes: axes.to_vec(), stages: vec![stage] }));
}

/// Three increments through two arena buffers at these offsets; the first is read again at the end if `late`.
fn chain(offsets: [i64; 2], late: bool) -> Build {
    let two = [Dim::from(2)];
    let mut build = Build { arena: 16, ..Build::default() };
    let x = build.input("x", DType::F32, &two);
    let [a, b] = offsets.map(|offset| build.arena(offset, DType::F32, &two));
    let y = build.output(DType::F32, &two);
    increment(&mut build, x, a);
    increment(&mut build, x, b);
    increment(&mut build, if late { a } else { b }, y);
    build
}

#[test]
fn buffers_share_the_arena() {
    let x = array(&[2], &[1f32, 2.0]);
    let expected = [array(&[2], &[3f32, 4.0])];
    chain([0, 8], true).check(&[&x], &expected);
    chain([4, 4], false).check(&[&x], &expected);
}

#[test]
fn a_plan_that_shares_too_early_is_found() {
    let x = array(&[2], &[1f32, 2.0]);
    let message = "kernel increment: argument 0 at [0]: buffer 1 is read after buffer 2 overwrote it, at byte 4 of the arena";
    chain([4, 4], true).check_error(&[&x], message);
    chain([0, 4], true).check_error(
        &[&x],
        "kernel increment: argument 0 at [1]: buffer 1 is read after buffer 2 overwrote it, at byte 4 of the arena",
    );
}

#[test]
fn a_buffer_must_fit_the_arena() {
    let x = array(&[2], &[1f32, 2.0]);
    chain([0, 12], true).check_error(&[&x], "buffer 2 of 8 bytes at 12 does not fit the 16 bytes of the arena");
    chain([0, 6], true).check_error(&[&x], "buffer 2 of 8 bytes at 6 does not fit the 16 bytes of the arena");
}

#[test]
fn outputs_must_be_written() {
    let mut build = Build::default();
    build.output(DType::F32, &SIZE);
    build.check_error(&[], "buffer 0 is read before it is written, at byte 0 of output 0");
    build.checks = Checks::Bounds;
    build.check(&[], &[array(&[1], &[f32::from_bits(0xA5A5_A5A5)])]);
}

#[test]
fn constants_are_read() {
    let mut build = Build::default();
    build.program.consts = vec![array(&[2], &[7f32, 8.0])];
    let constant = build.buffer(Place::Const(0), DType::F32, &[Dim::from(2)]);
    let y = build.output(DType::F32, &[Dim::from(2)]);
    increment(&mut build, constant, y);
    build.check(&[], &[array(&[2], &[8f32, 9.0])]);
}

fn slot() -> StateDecl {
    StateDecl { path: "count".to_owned(), ty: Type::new(DType::F32, Shape::new([2])), kind: StateKind::Buffer }
}

#[test]
fn state_is_updated_in_place() {
    let mut build = Build::default();
    let count = build.state(slot());
    increment(&mut build, count, count);
    increment(&mut build, count, count);
    let (_, state) = build.run(&[], &[array(&[2], &[5f32, 6.0])]).expect("a sound program");
    assert_eq!(state, [array(&[2], &[7f32, 8.0])]);
    assert_eq!(build.run(&[], &[]), Err("the state has 1 slots, got 0".to_owned()));
    let wrong = [array(&[2], &[0i32; 2])];
    assert_eq!(build.run(&[], &wrong), Err("the state `count` must be f32[2], got i32[2]".to_owned()));
}

#[test]
fn state_lent_for_reading_is_not_written() {
    let mut build = Build::default();
    let count = build.state(slot());
    let lent = array(&[2], &[5f32, 6.0]);
    let y = build.output(DType::F32, &[Dim::from(2)]);
    increment(&mut build, count, y);
    assert_eq!(build.run_slots(&[], &mut [Slot::Read(&lent)]), Ok(vec![array(&[2], &[6f32, 7.0])]));
    increment(&mut build, count, count);
    let refused = "the state `count` is written, but lent for reading".to_owned();
    assert_eq!(build.run_slots(&[], &mut [Slot::Read(&lent)]), Err(refused));
}

#[test]
fn a_failed_call_leaves_the_state() {
    let mut build = Build::default();
    let count = build.state(slot());
    let y = build.output(DType::F32, &SIZE);
    increment(&mut build, count, count);
    build.program.traps = vec![Trap { loc: Loc::UNKNOWN, message: "never".to_owned() }];
    let mut body = Body::default();
    let no = constant(&mut body, Scalar::bool(false));
    let value = constant(&mut body, Scalar::one(DType::F32));
    let value = body.push(InstKind::Check { ok: no, value, trap: TrapId(0) }, DType::F32);
    let stage = Stage {
        over: AxisSet::EMPTY,
        keep: AxisSet::EMPTY,
        body,
        reductions: vec![],
        stores: vec![store(0, &[Dim::ZERO], value)],
    };
    build.launch("fail", &[(y, Mode::Write)], KernelBody::Nest(Nest { axes: vec![], stages: vec![stage] }));
    let mut state: Array = array(&[2], &[5f32, 6.0]);
    let found = build.run_slots(&[], &mut [Slot::Write(&mut state)]);
    let fault = "kernel fail: may fail when the state is written already".to_owned();
    assert_eq!((found, &state), (Err(fault), &array(&[2], &[5f32, 6.0])));
    build.checks = Checks::Bounds;
    let found = build.run_slots(&[], &mut [Slot::Write(&mut state)]);
    assert_eq!((found, state), (Err("never".to_owned()), array(&[2], &[5f32, 6.0])));
}
