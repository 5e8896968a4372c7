//! Attention with graphs that change its scores and its shares.

use std::collections::BTreeMap;

use graver_ir::{Diag, Value};

use super::Flowed;
use crate::import::{Frame, Importer, Slot, Stopped};
use crate::ops::attention::Flexible;
use crate::ops::reduce::softmax;
use crate::problem::Problem;
use crate::proto::{GraphProto, NodeProto};

impl Importer<'_> {
    /// Attention with the graphs that change its scores and its shares, as if they stood here.
    pub(super) fn flexible(&mut self, proto: &NodeProto, args: &[Option<Value>], frame: &mut Frame) -> Flowed<Value> {
        let attention = Flexible::of(&mut self.spelled(proto, args, 1))?;
        let graph =
            |name| proto.attribute.iter().find(|attribute| attribute.name == name).and_then(|attribute| attribute.g.as_ref());
        let (of_scores, of_shares) = (graph("score_mod"), graph("prob_mod"));
        if of_scores.is_none() && of_shares.is_none() {
            return Ok(attention.plain(&mut self.builder)?);
        }
        let scores = attention.scores(&mut self.builder)?;
        let scores = self.changed(of_scores, scores, frame)?;
        let shares = softmax(&mut self.builder, scores)?;
        let shares = self.changed(of_shares, shares, frame)?;
        Ok(attention.shared(&mut self.builder, shares)?)
    }

    /// What a graph of one input makes of a value.
    fn changed(&mut self, graph: Option<&GraphProto>, x: Value, frame: &mut Frame) -> Flowed<Value> {
        let Some(graph) = graph else { return Ok(x) };
        let ([input], [_]) = (graph.input.as_slice(), graph.output.as_slice()) else {
            let what =
                format!("a graph of {} inputs and {} outputs where one value is changed", graph.input.len(), graph.output.len());
            return Err(Problem::Wrong(Diag::new(what)).into());
        };
        frame.scopes.push(BTreeMap::from([(input.name.clone(), Slot::Value(x))]));
        let slots = self.inlined(graph, frame);
        frame.scopes.pop();
        let Some(Slot::Value(y)) = slots.first().copied() else { return Err(Stopped::Before) };
        if self.builder.ty(y) != self.builder.ty(x) {
            let what = format!("a graph that makes {} of {}", self.builder.ty(y), self.builder.ty(x));
            return Err(Problem::Wrong(Diag::new(what)).into());
        }
        Ok(y)
    }
}
