//! Names and what they stand for while nodes are walked.

use std::collections::BTreeMap;

use graver_ir::{Diag, Loc, Value};

use crate::problem::Problem;
use crate::proto::NodeProto;

/// What a name stands for.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    Value(Value),
    /// A sequence, by its place among the importer's.
    List(usize),
    /// An optional operand that the caller left out.
    Absent,
    /// Its node has a problem, which is recorded.
    Broken,
}

/// Names in reach, innermost scope last, and the world around them.
pub(crate) struct Frame {
    pub(crate) scopes: Vec<BTreeMap<String, Slot>>,
    pub(crate) opsets: BTreeMap<String, i64>,
    pub(crate) caller: Loc,
    /// The function's name in places; empty for the graph.
    pub(crate) name: String,
    pub(crate) depth: usize,
}

impl Frame {
    pub(crate) fn find(&self, name: &str) -> Option<Slot> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name).copied())
    }

    /// Whether the innermost scope has the name: there, every name is given once.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.scopes.last().is_some_and(|scope| scope.contains_key(name))
    }

    pub(crate) fn define(&mut self, name: &str, slot: Slot) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.to_owned(), slot);
        }
    }
}

/// Why a node has no values: a problem of its own, or of its operands.
pub(crate) enum Stopped {
    Here(Problem),
    Before,
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Here(problem)
    }
}

pub(crate) type Outcome = std::result::Result<Vec<Slot>, Stopped>;

/// What a node's inputs stand for; none is broken.
pub(crate) fn slots(proto: &NodeProto, frame: &Frame) -> std::result::Result<Vec<Slot>, Stopped> {
    let mut slots = Vec::new();
    for name in &proto.input {
        slots.push(match frame.find(name) {
            _ if name.is_empty() => Slot::Absent,
            Some(Slot::Broken) => return Err(Stopped::Before),
            Some(slot @ (Slot::Value(_) | Slot::List(_) | Slot::Absent)) => slot,
            None => {
                let what = format!("`{name}` is used before any node computes it, or in a circle");
                return Err(Problem::Wrong(Diag::new(what)).into());
            }
        });
    }
    Ok(slots)
}

/// The tensors that a node's inputs stand for.
pub(crate) fn operands(proto: &NodeProto, frame: &Frame) -> std::result::Result<Vec<Option<Value>>, Stopped> {
    let tensor = |slot: Slot| match slot {
        Slot::Value(value) => Ok(Some(value)),
        Slot::Absent => Ok(None),
        Slot::List(_) => Err(Problem::Unsupported(Diag::new("an operand that is a sequence")).into()),
        Slot::Broken => Err(Stopped::Before),
    };
    slots(proto, frame)?.into_iter().map(tensor).collect()
}
