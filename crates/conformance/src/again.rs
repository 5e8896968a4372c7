//! The same calls again in one workspace: what a device keeps of a call for the next ones, recorded work among it, changes no result.

use std::sync::Arc;
use std::time::Duration;

use graver_ir::kernel::Program;
use graver_ir::{Array, Diag, Error, Sizes, Target};
use graver_runtime::{Backend, Executable, Invocation, Slot, Stage, Working, Workspace};

/// A backend that does every call three times in one workspace, over the state that the one before left: with its inputs, with their elements
/// in reverse, so that what an earlier call left is not taken for a result, and with its inputs. Each must give the bits that it gives in a
/// workspace of its own, which knows no other call; the first one's results are the call's.
#[derive(Debug)]
pub struct Again<B>(pub B);

impl<B: Backend> Backend for Again<B> {
    fn describe(&self) -> Target {
        self.0.describe()
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        Ok(Arc::new(Calls(self.0.compile(program)?)))
    }
}

#[derive(Debug)]
struct Calls(Arc<dyn Executable>);

/// Results, and the state after them; or what went wrong.
type Outcome = Result<[Vec<Array>; 2], String>;

impl Calls {
    /// The outcomes of some calls one after another, each in a workspace of its own or all in this one.
    fn all(&self, call: &mut Invocation<'_>, inputs: &[&[&Array]], alone: bool) -> Result<Vec<Outcome>, Diag> {
        let mut state: Vec<Array> = call.state.iter().map(|slot| slot.array().clone()).collect();
        let mut outcomes = Vec::new();
        for inputs in inputs {
            let mut own = alone.then(|| self.0.workspace());
            let workspace = own.as_mut().unwrap_or(call.workspace);
            let mut slots: Vec<Slot<'_>> = call.state.iter().zip(&mut state).map(|(slot, array)| lent(slot, array)).collect();
            let results = self.0.run(Invocation { entry: call.entry, inputs, state: &mut slots, workspace });
            outcomes.push(match results {
                Ok(results) => Ok([copies(&results)?, copies(&state)?]),
                Err(error) => Err(error.to_string()),
            });
        }
        Ok(outcomes)
    }
}

/// An array as a slot is lent.
fn lent<'a>(slot: &Slot<'_>, array: &'a mut Array) -> Slot<'a> {
    match slot {
        Slot::Read(_) => Slot::Read(array),
        Slot::Write(_) => Slot::Write(array),
    }
}

/// On the host alone: results on a device are let go of, so that the next call finds their places.
fn copies(arrays: &[Array]) -> Result<Vec<Array>, Diag> {
    arrays.iter().map(|array| Array::from_bytes(array.dtype(), array.shape(), array.fetch()?.bytes())).collect()
}

fn reversed(array: &Array) -> Array {
    let last = array.numel().saturating_sub(1);
    Array::from_fn(array.dtype(), array.shape(), |place| array.get(last - place))
}

impl Executable for Calls {
    fn program(&self) -> &Program {
        self.0.program()
    }

    fn workspace(&self) -> Workspace {
        self.0.workspace()
    }

    fn working_bytes(&self, entry: usize, sizes: &Sizes) -> Result<Working, Error> {
        self.0.working_bytes(entry, sizes)
    }

    fn run(&self, mut call: Invocation<'_>) -> Result<Vec<Array>, Error> {
        let others: Vec<Array> = call.inputs.iter().map(|input| reversed(input)).collect();
        let others: Vec<&Array> = others.iter().collect();
        let inputs = [call.inputs, others.as_slice(), call.inputs];
        let expected = self.all(&mut call, &inputs, true)?;
        let got = self.all(&mut call, &inputs, false)?;
        if let Some(number) = expected.iter().zip(&got).position(|(expected, got)| expected != got) {
            let said = |outcome: &Outcome| outcome.as_ref().err().map_or("bits", String::as_str).to_owned();
            let (expected, got) = (said(&expected[number]), said(&got[number]));
            let number = number + 1;
            return Err(Error::new(format!(
                "call {number} in one workspace gives other {got} than in one of its own, {expected}"
            )));
        }
        let first = got.into_iter().next().expect("there are three");
        let [results, state] = first.map_err(Error::new)?;
        for (slot, array) in call.state.iter_mut().zip(state) {
            if let Slot::Write(slot) = slot {
                **slot = array;
            }
        }
        Ok(results)
    }

    fn compile_times(&self) -> Vec<Duration> {
        self.0.compile_times()
    }

    fn dump(&self, kernel: usize, stage: Stage) -> Option<String> {
        self.0.dump(kernel, stage)
    }
}
