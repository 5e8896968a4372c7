//! Running: what is checked before, failures that data cause, state, workspaces, and dumps.

use std::sync::Arc;

use graver_cpu::Cpu;
use graver_ir::kernel::AxisSet;
use graver_ir::kernel::{
    Access, Arg, Body, Bounds, Buffer, BufferId, Entry, Index, InstKind, Kernel, KernelBody, KernelId, Launch, Mode, Nest, Place,
    Program, Stage as Sweep, Step, Store, Trap, TrapId, View,
};
use graver_ir::{Array, DType, Dim, Loc, ScalarFn, StateDecl, StateId, StateKind, Symbol, Type};
use graver_runtime::{Backend, Executable, Invocation, Slot, Stage};

/// `state = x` where every element of `x` is positive, and an error otherwise; also gives `x + x`.
fn program() -> Program {
    let n = Symbol::ranged("n", 0, 4, 1);
    let size = Dim::sym(&n);
    let at = vec![Index::At(Dim::axis(0, &size))];
    let arg = |mode| Arg::dense(DType::F32, vec![size.clone()], mode);
    let load = InstKind::Load(Access { arg: 0, index: at.clone(), bounds: Bounds::Proven });
    let kernel = |name: &str, body: Body, value| Kernel {
        name: name.to_owned(),
        args: vec![arg(Mode::Read), arg(Mode::Write)],
        body: KernelBody::Nest(Nest {
            axes: vec![size.clone()],
            stages: vec![Sweep {
                over: AxisSet::first(1),
                keep: AxisSet::first(1),
                body,
                reductions: vec![],
                stores: vec![Store { arg: 1, index: at.clone(), value }],
            }],
        }),
    };
    let mut double = Body::default();
    let x = double.push(load.clone(), DType::F32);
    let zero = double.push(InstKind::Const(graver_ir::Scalar::zero(DType::F32)), DType::F32);
    let ok = double.push(InstKind::Map(ScalarFn::Gt, vec![x, zero]), DType::Bool);
    let checked = double.push(InstKind::Check { ok, value: x, trap: TrapId(0) }, DType::F32);
    let sum = double.push(InstKind::Map(ScalarFn::Add, vec![checked, checked]), DType::F32);
    let mut copy = Body::default();
    let value = copy.push(load, DType::F32);
    let buffer = |place| Buffer { place, dtype: DType::F32, shape: vec![size.clone()], loc: Loc::UNKNOWN };
    let four = Buffer { shape: vec![Dim::from(4)], ..buffer(Place::State(StateId(0))) };
    let view = |buffer| View { buffer: BufferId(buffer), offset: Dim::ZERO };
    let launch = |kernel, to| Step::Launch(Launch { kernel: KernelId(kernel), args: vec![view(0), view(to)], locs: vec![] });
    Program {
        symbols: vec![n.clone()],
        state: vec![StateDecl {
            path: "last".to_owned(),
            ty: Type::new(DType::F32, vec![Dim::from(4)]),
            kind: StateKind::Buffer,
        }],
        kernels: vec![kernel("double", double, sum), kernel("copy", copy, value)],
        traps: vec![Trap { loc: Loc::UNKNOWN, message: "an element is not positive".to_owned() }],
        entries: vec![Entry {
            name: "main".to_owned(),
            buffers: vec![buffer(Place::Input(0)), buffer(Place::Output(0)), four],
            inputs: vec![(BufferId(0), "x".to_owned())],
            outputs: vec![BufferId(1)],
            steps: vec![launch(0, 1), launch(1, 2)],
            arena: Dim::ZERO,
        }],
        ..Program::default()
    }
}

fn compiled() -> Arc<dyn Executable> {
    Cpu::new(2).compile(Arc::new(program())).expect("it compiles")
}

fn floats(values: &[f32]) -> Array {
    Array::from_vec([values.len()], values.to_vec()).expect("sizes agree")
}

fn run(executable: &dyn Executable, x: &Array, state: &mut Array) -> Result<Vec<Array>, String> {
    let mut workspace = executable.workspace();
    let mut state = [Slot::Write(state)];
    let call = Invocation { entry: 0, inputs: &[x], state: &mut state, workspace: &mut workspace };
    executable.run(call).map_err(|error| error.to_string())
}

#[test]
fn a_failed_call_leaves_the_state_as_it_was() {
    let executable = compiled();
    let mut state = floats(&[9.0; 4]);
    let outcome = run(executable.as_ref(), &floats(&[1.0, 2.0, -1.0]), &mut state);
    assert_eq!(outcome, Err("an element is not positive".to_owned()));
    assert_eq!(state, floats(&[9.0; 4]));
    let outcome = run(executable.as_ref(), &floats(&[1.0, 2.0, 3.0]), &mut state);
    assert_eq!(outcome, Ok(vec![floats(&[2.0, 4.0, 6.0])]));
    assert_eq!(state, floats(&[1.0, 2.0, 3.0, 9.0]));
    assert_eq!(run(executable.as_ref(), &floats(&[]), &mut state), Ok(vec![floats(&[])]));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let executable = compiled();
    let mut state = floats(&[0.0; 4]);
    let too_many = run(executable.as_ref(), &floats(&[1.0; 5]), &mut state).expect_err("out of range");
    assert!(too_many.contains("n = 5"), "{too_many}");
    let wrong_type = Array::from_vec([1], vec![1i32]).expect("sizes agree");
    assert!(run(executable.as_ref(), &wrong_type, &mut state).is_err());
    assert!(run(executable.as_ref(), &floats(&[1.0]), &mut floats(&[0.0; 3])).is_err());
    let mut workspace = executable.workspace();
    let (x, lent) = (floats(&[1.0]), floats(&[0.0; 4]));
    let call = Invocation { entry: 0, inputs: &[&x], state: &mut [Slot::Read(&lent)], workspace: &mut workspace };
    let error = executable.run(call).expect_err("it is written").to_string();
    assert_eq!(error, "`last` is written by this call, but lent for reading");
}

/// Which the verifier lets pass: a kernel reads a symbol that no input of the entry gives a size.
#[test]
fn a_symbol_without_a_size_is_an_error() {
    let mut program = program();
    let other = Symbol::ranged("other", 0, 4, 1);
    let KernelBody::Nest(nest) = &mut program.kernels[1].body else { unreachable!("it is a nest") };
    let stage = &mut nest.stages[0];
    let mut body = Body::default();
    let position = body.push(InstKind::Index(Dim::sym(&other)), DType::I64);
    let value = body.push(InstKind::Cast(position), DType::F32);
    (stage.body, stage.stores[0].value) = (body, value);
    program.symbols.push(other);
    let executable = Cpu::new(1).compile(Arc::new(program)).expect("it compiles");
    let error = run(executable.as_ref(), &floats(&[1.0, 2.0]), &mut floats(&[0.0; 4])).expect_err("nobody knows it");
    assert!(error.contains("other"), "{error}");
}

#[test]
fn one_workspace_serves_many_sizes() {
    let executable = compiled();
    let mut workspace = executable.workspace();
    let mut state = floats(&[0.0; 4]);
    for size in [1, 4, 2, 1, 0, 3] {
        let x = floats(&vec![2.0; size]);
        let call = Invocation { entry: 0, inputs: &[&x], state: &mut [Slot::Write(&mut state)], workspace: &mut workspace };
        assert_eq!(executable.run(call).expect("it runs"), [floats(&vec![4.0; size])]);
    }
}

/// It has another's memory, and what was bound to sizes of another's.
#[test]
fn the_workspace_of_another_executable_is_refused() {
    let (executable, other, x) = (compiled(), compiled(), floats(&[1.0]));
    let mut state = floats(&[0.0; 4]);
    for mut workspace in [other.workspace(), graver_runtime::Workspace::default()] {
        let call = Invocation { entry: 0, inputs: &[&x], state: &mut [Slot::Write(&mut state)], workspace: &mut workspace };
        let error = executable.run(call).expect_err("another's").to_string();
        assert!(error.contains("the workspace is of") && error.contains("and this is another one, of `"), "{error}");
    }
    assert_eq!(state, floats(&[0.0; 4]));
}

#[test]
fn every_stage_is_shown() {
    let executable = compiled();
    insta::assert_snapshot!("double", executable.dump(0, Stage::Vector).expect("there is a kernel"));
    let clif = executable.dump(0, Stage::Clif).expect("there is a kernel");
    assert!(clif.contains("fadd"), "{clif}");
    let asm = executable.dump(0, Stage::Asm).expect("there is a kernel");
    assert!(!asm.is_empty());
    assert_eq!(executable.dump(2, Stage::Vector), None);
    assert_eq!(executable.compile_times().len(), 2);
}

/// Results whose memory is used again are not those that a caller still has.
#[test]
fn a_result_that_is_kept_stays_as_it_was() {
    let mut b = graver_testkit::Build::new("neg");
    let x = b.arg("x", DType::F32, [200, 200]);
    let y = b.map(ScalarFn::Neg, [x]);
    let cpu = Cpu::new(2);
    let program = graver_passes::pipeline::compile(b.finish([y]), &cpu.describe(), &mut graver_passes::Silent);
    let executable = cpu.compile(Arc::new(program.expect("it compiles"))).expect("it compiles");
    let mut workspace = executable.workspace();
    let mut call = |value: f64| {
        let x = Array::full([200, 200], graver_ir::Scalar::float(DType::F32, value));
        let call = Invocation { entry: 0, inputs: &[&x], state: &mut [], workspace: &mut workspace };
        executable.run(call).expect("it runs").remove(0)
    };
    let kept = call(1.0);
    let place = call(2.0).bytes().as_ptr();
    let again = call(3.0);
    assert_eq!(again.bytes().as_ptr(), place, "what is dropped is used again");
    // Each is held until the next is there.
    let mut last = call(4.0);
    let places: Vec<*const u8> = (0..6).map(|_| std::mem::replace(&mut last, call(5.0)).bytes().as_ptr()).collect();
    assert_eq!(places[2..4], places[4..6], "two take turns");
    assert!(kept.to_f64().iter().all(|x| *x == -1.0) && again.to_f64().iter().all(|x| *x == -3.0));
}
