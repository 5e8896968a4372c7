//! If: the branch that is known to be taken, or both as functions of the same results.

use graver_ir::op::If;
use graver_ir::{Diag, FuncId, Op, Type, Value};

use super::body::{Captured, free, values};
use super::{Flowed, attribute, list, missing};
use crate::import::{Frame, Importer, MAX_DEPTH, Outcome, Slot, Stopped};
use crate::known::Known;
use crate::problem::Problem;
use crate::proto::{GraphProto, NodeProto, TypeValue, ValueInfoProto};

/// Whether a value is declared to be a sequence or an optional value.
pub(super) fn is_sequence(value: &ValueInfoProto) -> bool {
    let ty = value.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    matches!(ty, Some(TypeValue::Sequence(_) | TypeValue::Optional(_)))
}

impl Importer<'_> {
    pub(super) fn branch(&mut self, proto: &NodeProto, args: &[Option<Value>], frame: &mut Frame) -> Outcome {
        let Some(condition) = args.first().copied().flatten() else { return Err(missing("the condition")) };
        let (then, otherwise) = (attribute(proto, "then_branch")?, attribute(proto, "else_branch")?);
        let known = self.builder.known(condition).and_then(Known::array).filter(|array| array.numel() == 1);
        if let Some(array) = known {
            let taken = if array.get(0).is_zero() { otherwise } else { then };
            return Ok(self.inlined(taken, frame));
        }
        if then.output.iter().chain(&otherwise.output).any(is_sequence) {
            let what = "a branch that gives a sequence or an optional value must be known before the program runs";
            return Err(Problem::Unknown(condition, Diag::new(what)).into());
        }
        let mut names = free(then, MAX_DEPTH)?;
        names.extend(free(otherwise, MAX_DEPTH)?);
        let captured = self.captured(&names, frame)?;
        let scalar = self.builder.reshape(condition, [])?;
        // Both, so that the problems of both are told.
        let (first, second) =
            (self.one_branch(then, "then", &captured, frame), self.one_branch(otherwise, "else", &captured, frame));
        if let (Err(_), Err(Stopped::Here(problem))) = (&first, &second) {
            let loc = self.builder.loc.clone();
            self.problems.push(problem.clone().map(|diag| diag.op(&proto.op_type).at(&loc)));
        }
        let ((then, results), (otherwise, others)) = (first?, second?);
        if results != others {
            let what = format!("branches of different types, ({}) and ({}), chosen at run time", list(&results), list(&others));
            // With the condition at hand, there is one branch.
            return Err(Problem::Unknown(condition, Diag::new(what)).into());
        }
        let operands: Vec<Value> = std::iter::once(scalar).chain(values(&captured)).collect();
        let results = self.builder.emit_all(Op::If(If { then, otherwise, results }), &operands)?;
        Ok(results.into_iter().map(Slot::Value).collect())
    }

    fn one_branch(&mut self, graph: &GraphProto, name: &str, captured: &Captured, frame: &Frame) -> Flowed<(FuncId, Vec<Type>)> {
        let body = self.body(graph, name, Vec::new(), captured, frame)?;
        let outputs = body.outputs.clone();
        Ok(self.finished(body, &outputs))
    }
}
