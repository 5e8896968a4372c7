//! If, Loop, Scan, and attention whose scores a graph changes: branches and bodies become functions of the module, and what they use from
//! outside becomes operands. A branch whose condition is known is taken at import.

mod body;
mod branch;
mod flexible;
mod repeat;
mod scan;
mod unroll;

use graver_ir::{Diag, Type};

use crate::import::{Frame, Importer, MAX_DEPTH, Outcome, Slot, Stopped, operands, slots};
use crate::problem::{Problem, Result, wrong};
use crate::proto::{GraphProto, NodeProto};

/// An operation that has graphs inside.
#[derive(Clone, Copy)]
pub(crate) enum Flow {
    If,
    Loop,
    Scan,
    FlexAttention,
}

impl Flow {
    pub(crate) fn of(domain: &str, op: &str) -> Option<Self> {
        match (domain, op) {
            ("", "If") => Some(Self::If),
            ("", "Loop") => Some(Self::Loop),
            ("", "Scan") => Some(Self::Scan),
            ("ai.onnx.preview", "FlexAttention") => Some(Self::FlexAttention),
            _ => None,
        }
    }
}

type Flowed<T> = std::result::Result<T, Stopped>;

impl Importer<'_> {
    pub(crate) fn flow(&mut self, flow: Flow, proto: &NodeProto, frame: &mut Frame) -> Outcome {
        if frame.depth >= MAX_DEPTH {
            return Err(Problem::Wrong(Diag::new(format!("graphs nest deeper than {MAX_DEPTH}"))).into());
        }
        if matches!(flow, Flow::Loop)
            && let Ok(slots) = slots(proto, frame)
            && self.over_sequences(proto, &slots, frame)?
        {
            return self.unrolled(proto, &slots, frame);
        }
        let args = match operands(proto, frame) {
            Err(Stopped::Before) => return self.surveyed(proto, frame),
            args => args?,
        };
        self.plain(args.iter().flatten())?;
        let values = match flow {
            Flow::If => return self.branch(proto, &args, frame),
            Flow::Loop => self.repeat(proto, &args, frame)?,
            Flow::Scan => self.scan(proto, &args, frame)?,
            Flow::FlexAttention => vec![self.flexible(proto, &args, frame)?],
        };
        Ok(values.into_iter().map(Slot::Value).collect())
    }
}

fn attribute<'p>(proto: &'p NodeProto, name: &str) -> Result<&'p GraphProto> {
    let found = proto.attribute.iter().find(|attribute| attribute.name == name).and_then(|attribute| attribute.g.as_ref());
    match found {
        Some(graph) => Ok(graph),
        None => wrong(format!("it has no `{name}`")),
    }
}

fn ints(proto: &NodeProto, name: &str) -> Vec<i64> {
    proto.attribute.iter().find(|attribute| attribute.name == name).map_or_else(Vec::new, |attribute| attribute.ints.clone())
}

/// Types as the language writes them.
fn list(types: &[Type]) -> String {
    types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ")
}

fn missing(what: &str) -> Stopped {
    Problem::Wrong(Diag::new(format!("{what} is missing"))).into()
}
