//! The state of a call that a fault ends: as it was, or nothing to go on from, as on a GPU.

use std::sync::Arc;

use graver_ir::Array;
use graver_ir::kernel::{Program, text};
use graver_runtime::{Executable, Invocation, Slot};

use super::tests::planted;
use super::{Shim, ShimExecutable};
use crate::emit::emit;

/// A result, then two slots of the state, each by a launch of its own.
const PROGRAM: &str = "program 1

state \"first\": i32[4] buffer
state \"second\": i32[4] buffer

kernel k0 \"double\" (
  read p0: i32[4],
  write p1: i32[4],
) nest [4] {
  stage over [0] keep [0] {
    %0: i32 = load p0[a0]
    %1: i32 = add(%0, %0)
    store p1[a0] = %1
  }
}

kernel k1 \"add\" (
  read p0: i32[4],
  update p1: i32[4],
) nest [4] {
  stage over [0] keep [0] {
    %0: i32 = load p0[a0]
    %1: i32 = load p1[a0]
    %2: i32 = add(%0, %1)
    store p1[a0] = %2
  }
}

kernel k2 \"sub\" (
  read p0: i32[4],
  update p1: i32[4],
) nest [4] {
  stage over [0] keep [0] {
    %0: i32 = load p0[a0]
    %1: i32 = load p1[a0]
    %2: i32 = sub(%1, %0)
    store p1[a0] = %2
  }
}

entry @main arena 0 {
  buffer b0: i32[4] = input 0
  buffer b1: i32[4] = output 0
  buffer b2: i32[4] = state \"first\"
  buffer b3: i32[4] = state \"second\"
  input b0 \"x\"
  output b1
  launch k0(b0, b1)
  launch k1(b0, b2)
  launch k2(b0, b3)
}
";

/// The program, one of whose kernels reads outside.
fn compiled(shim: &Shim, faulty: Option<usize>) -> ShimExecutable {
    let program: Program = text::parse(PROGRAM).unwrap_or_else(|error| panic!("{error}"));
    let mut kernels: Vec<_> = program.kernels.iter().map(emit).collect();
    if let Some(faulty) = faulty {
        kernels[faulty] = planted(&kernels[faulty], "gr_at(p0, ", "gr_at(p0, 4 + ", false);
    }
    kernels.iter().for_each(|kernel| shim.compiler.ask(kernel));
    ShimExecutable { program: Arc::new(program), kernels, shim: shim.clone() }
}

fn run(executable: &dyn Executable, state: &mut [Array; 2]) -> Result<Vec<Array>, String> {
    let (x, mut workspace) = (array([1, 2, 3, 4]), executable.workspace());
    let mut slots = state.each_mut().map(Slot::Write);
    let call = Invocation { entry: 0, inputs: &[&x], state: &mut slots, workspace: &mut workspace };
    executable.run(call).map_err(|error| error.to_string())
}

fn array(values: [i32; 4]) -> Array {
    Array::from_vec([4], values.to_vec()).expect("four")
}

#[test]
fn a_call_that_faults_leaves_its_state_as_it_was_or_undefined() {
    let shim = Shim::new(&std::env::temp_dir().join("graver-shim-tests")).expect("a C++ compiler");
    let whole: Arc<dyn Executable> = Arc::new(compiled(&shim, None));
    let mut state = [array([0; 4]), array([10; 4])];
    // Before anything of it is written.
    let error = run(&compiled(&shim, Some(0)), &mut state).expect_err("it reads outside");
    assert!(error.contains("elements from ") && !error.contains("undefined"), "{error}");
    assert_eq!(state, [array([0; 4]), array([10; 4])]);
    assert_eq!(run(whole.as_ref(), &mut state).expect("nothing is wrong"), [array([2, 4, 6, 8])]);
    assert_eq!(state, [array([1, 2, 3, 4]), array([9, 8, 7, 6])]);
    // In the midst of it: also of one slot nobody knows how far a kernel came.
    for faulty in [1, 2] {
        let error = run(&compiled(&shim, Some(faulty)), &mut state).expect_err("it reads outside");
        assert!(error.contains("elements from ") && error.contains("undefined now: set it anew"), "{error}");
        for slot in &state {
            let error = slot.fetch().expect_err("nobody knows it").to_string();
            assert!(error.contains("is undefined: a call of `main` failed between its writes to the state"), "{error}");
        }
        let error = run(whole.as_ref(), &mut state).expect_err("there is nothing to go on from");
        assert!(error.contains("`first` is undefined"), "{error}");
        state[0] = array([0; 4]);
        assert!(run(whole.as_ref(), &mut state).expect_err("that is not all").contains("`second` is undefined"));
        state = [array([0; 4]), array([10; 4])];
        run(whole.as_ref(), &mut state).expect("all is set anew");
        assert_eq!(state, [array([1, 2, 3, 4]), array([9, 8, 7, 6])]);
    }
}
