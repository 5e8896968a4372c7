//! Loops over sequences, which are known while a model is imported: their steps, one after the other.

use graver_ir::{Array, Diag, Scalar, Value};

use super::body::free;
use super::branch::is_sequence;
use super::repeat::carries;
use super::{Flowed, attribute};
use crate::import::{Frame, Importer, MAX_DEPTH, Outcome, Slot, Stopped};
use crate::problem::{Problem, Result, unsupported, wrong};
use crate::proto::{NodeProto, ValueInfoProto};

/// The most steps.
const MAX_STEPS: i64 = 1 << 12;
/// The most elements of all sequences together.
const MAX_LISTED: usize = 1 << 24;

impl Importer<'_> {
    /// Whether a loop carries, or its body uses, a sequence or an optional value.
    pub(super) fn over_sequences(&self, proto: &NodeProto, slots: &[Slot], frame: &Frame) -> Result<bool> {
        let graph = attribute(proto, "body")?;
        let carries = |(slot, input): (&Slot, &ValueInfoProto)| match slot {
            Slot::List(_) => true,
            Slot::Absent => is_sequence(input),
            Slot::Value(_) | Slot::Broken => false,
        };
        if slots.iter().zip(&graph.input).skip(2).any(carries) {
            return Ok(true);
        }
        let used = free(graph, MAX_DEPTH)?;
        Ok(used.iter().any(|name| matches!(frame.find(name), Some(Slot::List(_)))))
    }

    /// The loop's steps as if they stood here. How many there are, and whether there is a next one, must be known.
    pub(super) fn unrolled(&mut self, proto: &NodeProto, slots: &[Slot], frame: &mut Frame) -> Outcome {
        let graph = attribute(proto, "body")?;
        let mut carried = slots.get(2..).unwrap_or(&[]).to_vec();
        carries(graph, carried.len())?;
        let trip = match slots.first() {
            Some(Slot::Value(most)) => Some(self.scalar(*most, "the number of steps")?.as_i64()),
            Some(Slot::List(_) | Slot::Absent | Slot::Broken) | None => None,
        };
        let mut goes_on = match slots.get(1) {
            Some(Slot::Value(condition)) => self.is_true(*condition)?,
            Some(Slot::List(_) | Slot::Absent | Slot::Broken) | None => true,
        };
        let mut stacked: Vec<Vec<Value>> = vec![Vec::new(); graph.output.len() - 1 - carried.len()];
        let mut step = 0;
        while goes_on && trip.is_none_or(|trip| step < trip) {
            if step == MAX_STEPS || self.listed > MAX_LISTED {
                let what = format!("a loop over sequences of more than {MAX_STEPS} steps, or {MAX_LISTED} elements in all");
                return Err(Problem::Unsupported(Diag::new(what)).into());
            }
            let (number, yes) = (self.builder.constant(Array::scalar(step))?, self.builder.constant(Array::scalar(true))?);
            let inputs: Vec<Slot> = [Slot::Value(number), Slot::Value(yes)].into_iter().chain(carried.iter().copied()).collect();
            let outputs = self.applied(graph, &inputs, frame)?;
            if outputs.iter().any(|slot| matches!(slot, Slot::Broken)) {
                return Err(Stopped::Before);
            }
            let (next, rest) = outputs[1..].split_at(carried.len());
            carried = next.to_vec();
            for (stack, slot) in stacked.iter_mut().zip(rest) {
                stack.push(tensor(*slot, "a sequence as a loop's result of each step")?);
            }
            goes_on = self.is_true(tensor(outputs[0], "a condition that is a sequence")?)?;
            step += 1;
        }
        for stack in stacked {
            carried.push(Slot::Value(self.stack(&stack)?));
        }
        Ok(carried)
    }

    /// Values of all steps, along a new first axis.
    fn stack(&mut self, values: &[Value]) -> Flowed<Value> {
        if values.is_empty() {
            return Err(Problem::Unsupported(Diag::new("results of each step of a loop over sequences without steps")).into());
        }
        let parts = values.iter().map(|x| self.builder.unsqueeze(*x, &[0])).collect::<Result<Vec<Value>>>()?;
        Ok(self.builder.concat(0, &parts)?)
    }

    fn is_true(&self, condition: Value) -> Result<bool> {
        Ok(!self.scalar(condition, "the condition of a loop over sequences")?.is_zero())
    }

    /// The only element of a value.
    fn scalar(&self, x: Value, what: &str) -> Result<Scalar> {
        let array = self.builder.array(x, what)?;
        if array.numel() == 1 { Ok(array.get(0)) } else { wrong(format!("{what} is {}", array.ty())) }
    }
}

fn tensor(slot: Slot, what: &str) -> Result<Value> {
    match slot {
        Slot::Value(value) => Ok(value),
        Slot::List(_) | Slot::Absent | Slot::Broken => unsupported(what),
    }
}
