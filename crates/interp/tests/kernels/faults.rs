//! Faults of a compiler that a strict run finds: planted one by one.

use graver_interp::Checks;
use graver_ir::kernel::{Arg, AxisSet, Body, Bounds, KernelBody, Mode, Nest, Stage, View};
use graver_ir::{Array, DType, Dim};

use crate::{Build, array, load, store, vars};

/// A copy of four elements: where it reads and stores, and as what.
struct Copy {
    from: Dim,
    to: Dim,
    /// What an argument that is both read and stored to does.
    in_place: Option<Mode>,
    /// Where the argument that is stored to begins.
    offset: i64,
    checks: Checks,
}

fn axis() -> Dim {
    vars(&[Dim::from(4)])[0].clone()
}

fn sound() -> Copy {
    Copy { from: axis(), to: axis(), in_place: None, offset: 0, checks: Checks::Strict }
}

impl Copy {
    fn run(&self) -> Result<Vec<Array>, String> {
        let axes = [Dim::from(4)];
        let mut build = Build { checks: self.checks, ..Build::default() };
        let x = build.input("x", DType::I32, &axes);
        let y = build.output(DType::I32, &axes);
        let mut body = Body::default();
        let value = load(&mut body, 0, DType::I32, std::slice::from_ref(&self.from), Bounds::Proven);
        let arg = |mode| Arg::dense(DType::I32, axes.to_vec(), mode);
        let view = |buffer, offset: i64| View { buffer, offset: Dim::from(offset) };
        let (views, out) = match self.in_place {
            None => (vec![(arg(Mode::Read), view(x, 0)), (arg(Mode::Write), view(y, self.offset))], 1),
            Some(mode) => (vec![(arg(mode), view(x, 0))], 0),
        };
        let all = AxisSet::first(1);
        let stores = vec![store(out, std::slice::from_ref(&self.to), value)];
        let stage = Stage { over: all, keep: all, body, reductions: vec![], stores };
        build.launch_views("copy", views, KernelBody::Nest(Nest { axes: axes.to_vec(), stages: vec![stage] }));
        build.run(&[&array(&[4], &[1i32, 2, 3, 4])], &[]).map(|(outputs, _)| outputs)
    }

    #[track_caller]
    fn finds(&self, expected: &str) {
        assert_eq!(self.run(), Err(expected.to_owned()));
    }
}

#[test]
fn a_sound_copy_is_sound() {
    assert_eq!(sound().run(), Ok(vec![array(&[4], &[1i32, 2, 3, 4])]));
}

#[test]
fn accesses_outside() {
    Copy { from: axis() + Dim::ONE, ..sound() }
        .finds("kernel copy: argument 0: position [4] is outside of [4], though said to be inside");
    Copy { to: axis() - Dim::ONE, ..sound() }.finds("kernel copy: argument 1: a store at [-1] is outside of [4]");
    Copy { offset: 1, ..sound() }.finds("kernel copy: argument 1: the view 4..20 leaves buffer 1 at 0..16");
    Copy { offset: -1, checks: Checks::Bounds, ..sound() }
        .finds("kernel copy: argument 1: the view of buffer 1 leaves it at [0]");
}

#[test]
fn two_points_at_one_place() {
    let halved = axis().floor_div(&Dim::from(2));
    Copy { to: halved.clone(), ..sound() }.finds("kernel copy: argument 1 at [0]: points [0] and [1] store at one place");
    let lenient = Copy { to: halved, checks: Checks::Bounds, ..sound() }.run().expect("nothing else is wrong");
    assert_eq!(lenient[0].as_slice::<i32>().map(|x| &x[..2]), Some([2, 4].as_slice()));
}

#[test]
fn points_that_depend_on_their_order() {
    let (left, right) = (axis().modulo(&Dim::from(2)), Dim::from(3) - axis());
    let updating = || Copy { in_place: Some(Mode::Update), ..sound() };
    Copy { from: left, ..updating() }.finds("kernel copy: argument 0 at [0]: point [2] reads what point [0] writes");
    Copy { to: right, ..updating() }.finds("kernel copy: argument 0 at [2]: point [2] reads what point [1] writes");
    let (first, last) = (Dim::ZERO, Dim::from(3) - axis());
    Copy { from: first, to: last, ..updating() }
        .finds("kernel copy: argument 0 at [0]: point [3] writes what several points read");
}

#[test]
fn arguments_used_as_what_they_are_not() {
    Copy { in_place: Some(Mode::Read), ..sound() }.finds("kernel copy: argument 0 is stored to, though only read");
    Copy { in_place: Some(Mode::Write), ..sound() }.finds("kernel copy: argument 0 at [0]: is read, though only written");
}

/// One launch that reads three elements of a buffer and writes three.
#[test]
fn arguments_that_overlap() {
    let axes = [Dim::from(3)];
    let at = vars(&axes);
    let run = |offset: i64, stride: i64| {
        let mut build = Build { arena: 64, ..Build::default() };
        let x = build.arena(0, DType::I32, &[Dim::from(7)]);
        let mut body = Body::default();
        let value = load(&mut body, 0, DType::I32, &at, Bounds::Proven);
        let arg = |mode| Arg { dtype: DType::I32, shape: axes.to_vec(), strides: vec![Dim::from(stride)], mode };
        let views = [(Mode::Read, 0), (Mode::Write, offset)]
            .map(|(mode, offset)| (arg(mode), View { buffer: x, offset: Dim::from(offset) }));
        let all = AxisSet::first(1);
        let stage = Stage { over: all, keep: all, body, reductions: vec![], stores: vec![store(1, &at, value)] };
        let body = KernelBody::Nest(Nest { axes: axes.to_vec(), stages: vec![stage] });
        build.launch_views("shift", views.to_vec(), body);
        build.run(&[], &[]).expect_err("the buffer was never written")
    };
    let overlap = "kernel shift: arguments 0 and 1 overlap (buffers 0 and 0), and one is written";
    let unwritten = "kernel shift: argument 0 at [0]: buffer 0 is read before it is written, at byte 0 of the arena";
    assert_eq!(run(2, 1), overlap);
    assert_eq!(run(3, 1), unwritten);
    assert_eq!(run(1, 2), unwritten, "interleaved elements are apart");
    assert_eq!(run(2, 2), overlap);
}
