//! Sequences and optional values: known while a model is imported, and nothing of them is left in the program.

use graver_ir::{Array, Diag, Dim, Value};

use crate::import::{Frame, Importer, Outcome, Slot, Stopped};
use crate::node::Node;
use crate::problem::{Problem, Result, unsupported, wrong};
use crate::proto::{GraphProto, NodeProto};

/// The most elements of a sequence.
const MOST: i64 = 1 << 16;

/// An operation on sequences or optional values.
#[derive(Clone, Copy)]
pub(crate) enum OnSequence {
    Construct,
    Empty,
    Insert,
    Erase,
    At,
    Length,
    Map,
    Split,
    Concat,
    Optional,
    HasElement,
    GetElement,
}

impl OnSequence {
    pub(crate) fn of(domain: &str, op: &str) -> Option<Self> {
        match (domain, op) {
            ("", "SequenceConstruct") => Some(Self::Construct),
            ("", "SequenceEmpty") => Some(Self::Empty),
            ("", "SequenceInsert") => Some(Self::Insert),
            ("", "SequenceErase") => Some(Self::Erase),
            ("", "SequenceAt") => Some(Self::At),
            ("", "SequenceLength") => Some(Self::Length),
            ("", "SequenceMap") => Some(Self::Map),
            ("", "SplitToSequence") => Some(Self::Split),
            ("", "ConcatFromSequence") => Some(Self::Concat),
            ("", "Optional") => Some(Self::Optional),
            ("", "OptionalHasElement") => Some(Self::HasElement),
            ("", "OptionalGetElement") => Some(Self::GetElement),
            _ => None,
        }
    }
}

impl Importer<'_> {
    pub(crate) fn sequence(&mut self, op: OnSequence, proto: &NodeProto, slots: &[Slot], frame: &mut Frame) -> Outcome {
        if slots.iter().any(|slot| matches!(slot, Slot::Broken)) {
            return Err(Stopped::Before);
        }
        Ok(match op {
            OnSequence::Construct => {
                let items = (0..slots.len()).map(|place| self.tensor(slots, place)).collect::<Result<Vec<Value>>>()?;
                vec![self.listed(items)]
            }
            OnSequence::Empty => vec![self.listed(Vec::new())],
            OnSequence::Insert => {
                let (mut items, item) = (self.items(slots, 0)?, self.tensor(slots, 1)?);
                let place = self.position(slots, 2, items.len(), 1)?;
                items.insert(place.unwrap_or(items.len()), item);
                vec![self.listed(items)]
            }
            OnSequence::Erase => {
                let mut items = self.items(slots, 0)?;
                let place = self.position(slots, 1, items.len(), 0)?.or_else(|| items.len().checked_sub(1));
                let Some(place) = place else { return Err(Problem::Wrong(Diag::new("an empty sequence")).into()) };
                items.remove(place);
                vec![self.listed(items)]
            }
            OnSequence::At => {
                let items = self.items(slots, 0)?;
                match self.position(slots, 1, items.len(), 0)? {
                    Some(place) => vec![Slot::Value(items[place])],
                    None => return Err(Problem::Wrong(Diag::new("no position")).into()),
                }
            }
            OnSequence::Length => {
                let length = i64::try_from(self.items(slots, 0)?.len()).unwrap_or(i64::MAX);
                vec![Slot::Value(self.builder.constant(Array::scalar(length))?)]
            }
            OnSequence::Map => self.mapped(proto, slots, frame)?,
            OnSequence::Split => {
                let items = self.split(proto, slots)?;
                vec![self.listed(items)]
            }
            OnSequence::Concat => vec![Slot::Value(self.concatenated(proto, slots)?)],
            OnSequence::Optional => vec![slots.first().copied().unwrap_or(Slot::Absent)],
            OnSequence::HasElement => {
                let there = matches!(slots.first(), Some(Slot::Value(_) | Slot::List(_)));
                vec![Slot::Value(self.builder.constant(Array::scalar(there))?)]
            }
            OnSequence::GetElement => match slots.first() {
                Some(slot @ (Slot::Value(_) | Slot::List(_))) => vec![*slot],
                Some(Slot::Absent | Slot::Broken) | None => {
                    return Err(Problem::Wrong(Diag::new("an optional value that is not there")).into());
                }
            },
        })
    }

    pub(crate) fn listed(&mut self, items: Vec<Value>) -> Slot {
        self.listed += items.len();
        self.lists.push(items);
        Slot::List(self.lists.len() - 1)
    }

    fn items(&self, slots: &[Slot], place: usize) -> Result<Vec<Value>> {
        match slots.get(place) {
            Some(Slot::List(list)) => Ok(self.lists[*list].clone()),
            Some(Slot::Value(_)) => wrong(format!("the operand {place} is a tensor, not a sequence")),
            Some(Slot::Absent | Slot::Broken) | None => wrong(format!("the operand {place} is missing")),
        }
    }

    fn tensor(&self, slots: &[Slot], place: usize) -> Result<Value> {
        match slots.get(place) {
            Some(Slot::Value(value)) => Ok(*value),
            Some(Slot::List(_)) => unsupported("a sequence of sequences"),
            Some(Slot::Absent | Slot::Broken) | None => wrong(format!("the operand {place} is missing")),
        }
    }

    /// A position among so many, and so many behind them, that may count from the end, if it is given.
    fn position(&self, slots: &[Slot], place: usize, count: usize, behind: usize) -> Result<Option<usize>> {
        let Some(Slot::Value(value)) = slots.get(place) else { return Ok(None) };
        let array = self.builder.array(*value, "the position")?;
        if array.numel() != 1 {
            return wrong("a position is one number");
        }
        let (position, size) = (array.get(0).as_i64(), i64::try_from(count).unwrap_or(i64::MAX));
        let from_start = if position < 0 { position.saturating_add(size) } else { position };
        match usize::try_from(from_start) {
            Ok(place) if place < count + behind => Ok(Some(place)),
            Ok(_) | Err(_) => wrong(format!("the position {position} of {count}")),
        }
    }

    /// Parts of one axis: of given sizes, of one size, or single slices.
    fn split(&mut self, proto: &NodeProto, slots: &[Slot]) -> Result<Vec<Value>> {
        let x = self.tensor(slots, 0)?;
        let sizes = match slots.get(1) {
            Some(Slot::Value(sizes)) => Some(*sizes),
            Some(_) | None => None,
        };
        let args = [Some(x), sizes];
        let n = self.spelled(proto, &args, 24);
        let axis = n.axis(n.int("axis", 0), n.b.rank(x))?;
        n.well_typed()?;
        let Some(whole) = n.b.shape(x)[axis].as_const() else { return unsupported("parts of an axis whose size is a symbol") };
        let parts = parts(&n, sizes, whole)?;
        let keep = sizes.is_some() || n.flag("keepdims", true);
        let (mut items, mut start) = (Vec::new(), 0);
        for size in parts {
            let part = n.b.part(x, axis, &Dim::from(start), &Dim::from(size))?;
            let shape = if keep { n.b.shape(part) } else { n.b.shape(part).without(&[axis]) };
            items.push(n.b.reshape(part, shape.0)?);
            start += size;
        }
        Ok(items)
    }

    fn concatenated(&mut self, proto: &NodeProto, slots: &[Slot]) -> Result<Value> {
        let items = self.items(slots, 0)?;
        let Some(first) = items.first() else { return unsupported("an empty sequence put together") };
        let n = self.spelled(proto, &[], 11);
        let stack = n.flag("new_axis", false);
        n.well_typed()?;
        let axis = n.axis(n.int("axis", 0), n.b.rank(*first) + usize::from(stack))?;
        let mut parts = Vec::new();
        for item in &items {
            parts.push(if stack { n.b.unsqueeze(*item, &[axis])? } else { *item });
        }
        n.b.concat(axis, &parts)
    }

    /// A graph over the elements of sequences, one after the other.
    fn mapped(&mut self, proto: &NodeProto, slots: &[Slot], frame: &mut Frame) -> std::result::Result<Vec<Slot>, Stopped> {
        let graph = proto.attribute.iter().find(|attribute| attribute.name == "body").and_then(|attribute| attribute.g.as_ref());
        let Some(graph) = graph else { return Err(Problem::Wrong(Diag::new("it has no `body`")).into()) };
        let count = self.items(slots, 0)?.len();
        let mut results: Vec<Vec<Value>> = vec![Vec::new(); graph.output.len()];
        for step in 0..count {
            let inputs = slots.iter().map(|slot| self.element(*slot, step)).collect::<Result<Vec<Slot>>>()?;
            for (result, slot) in results.iter_mut().zip(self.applied(graph, &inputs, frame)?) {
                match slot {
                    Slot::Value(value) => result.push(value),
                    Slot::List(_) | Slot::Absent | Slot::Broken => return Err(Stopped::Before),
                }
            }
        }
        Ok(results.into_iter().map(|items| self.listed(items)).collect())
    }

    /// An element of a sequence; a tensor is the same for all.
    fn element(&self, slot: Slot, place: usize) -> Result<Slot> {
        let Slot::List(list) = slot else { return Ok(slot) };
        match self.lists[list].get(place) {
            Some(item) => Ok(Slot::Value(*item)),
            None => wrong("sequences of different lengths"),
        }
    }

    /// A graph's nodes as if they stood here, over these operands.
    pub(crate) fn applied(&mut self, graph: &GraphProto, inputs: &[Slot], frame: &mut Frame) -> Outcome {
        if graph.input.len() != inputs.len() {
            let what = format!("{} operands for a body of {}", inputs.len(), graph.input.len());
            return Err(Problem::Wrong(Diag::new(what)).into());
        }
        let names = graph.input.iter().map(|input| input.name.clone());
        frame.scopes.push(names.zip(inputs.iter().copied()).collect());
        let slots = self.inlined(graph, frame);
        frame.scopes.pop();
        Ok(slots)
    }
}

/// The sizes of the parts, which are all of the axis.
fn parts(n: &Node<'_>, sizes: Option<Value>, whole: i64) -> Result<Vec<i64>> {
    let equal = |size: i64| -> Vec<i64> {
        (0..whole).step_by(usize::try_from(size).unwrap_or(1)).map(|start| size.min(whole - start)).collect()
    };
    let parts = match sizes {
        None if whole > MOST => return wrong(format!("{whole} parts")),
        None => equal(1),
        Some(sizes) if n.b.rank(sizes) == 0 => match n.integers(1, "the size of parts")?.as_slice() {
            [size] if *size > 0 && whole / size <= MOST => equal(*size),
            other => return wrong(format!("parts of {other:?}")),
        },
        Some(_) => n.integers(1, "the sizes of parts")?,
    };
    let total = parts.iter().try_fold(0i64, |sum, size| sum.checked_add(*size).filter(|_| *size >= 0));
    if total == Some(whole) { Ok(parts) } else { wrong(format!("parts of {parts:?} for a size of {whole}")) }
}
