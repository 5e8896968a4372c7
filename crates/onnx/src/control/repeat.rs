//! Loop.

use graver_ir::op::While;
use graver_ir::{Array, DType, Diag, Dim, Op, ScalarFn, Type, Value};

use super::body::{Captured, Param, free, values};
use super::{Flowed, attribute, list, missing};
use crate::import::{Frame, Importer, MAX_DEPTH};
use crate::problem::{Problem, Result, wrong};
use crate::proto::{GraphProto, NodeProto};

/// Whether a body is one of a loop that carries so many values.
pub(super) fn carries(graph: &GraphProto, count: usize) -> Result<()> {
    let (inputs, outputs) = (graph.input.len(), graph.output.len());
    if inputs == count + 2 && outputs > count {
        return Ok(());
    }
    wrong(format!("{inputs} inputs and {outputs} outputs of a body that carries {count}"))
}

impl Importer<'_> {
    /// A loop whose number of steps is a size, and whose condition never fails, is a scan; any other one gives its last values alone.
    pub(super) fn repeat(&mut self, proto: &NodeProto, args: &[Option<Value>], frame: &Frame) -> Flowed<Vec<Value>> {
        let graph = attribute(proto, "body")?;
        let start: Option<Vec<Value>> = args.get(2..).unwrap_or(&[]).iter().copied().collect();
        let Some(start) = start else { return Err(missing("what is carried")) };
        carries(graph, start.len())?;
        let captured = self.captured(&free(graph, MAX_DEPTH)?, frame)?;
        let most = args.first().copied().flatten();
        let condition = args.get(1).copied().flatten();
        let trip = most.and_then(|most| self.builder.known(most)?.dims()?.first().cloned());
        if let Some(trip) = trip
            && condition.is_none_or(|condition| self.holds(condition))
            && let Some(results) = self.counted(graph, &trip, &start, &captured, frame)?
        {
            return Ok(results);
        }
        if graph.output.len() > start.len() + 1 {
            for (value, what) in [(most, "the number of steps"), (condition, "whether there is a first step")] {
                if let Some(value) = value.filter(|value| self.builder.known(*value).is_none()) {
                    let what = format!("{what} must be known before the program runs");
                    return Err(Problem::Unknown(value, Diag::new(what)).into());
                }
            }
            let what = "a loop that stacks results and whose end is known only when the program runs";
            return Err(Problem::Unsupported(Diag::new(what)).into());
        }
        self.conditional(graph, [most, condition], &start, &captured, frame)
    }

    /// The loop as a scan over the numbers of its steps; nothing if its condition may fail.
    fn counted(
        &mut self,
        graph: &GraphProto,
        trip: &Dim,
        start: &[Value],
        captured: &Captured,
        frame: &Frame,
    ) -> Flowed<Option<Vec<Value>>> {
        let trip = trip.max_with(&Dim::ZERO);
        let mut params: Vec<Param> = start.iter().zip(&graph.input[2..]).map(|(x, input)| self.param(&input.name, *x)).collect();
        params.push(Param { name: graph.input[0].name.clone(), ty: Type::scalar(DType::I64), known: None });
        // The condition is not carried: it holds, or this is not the way.
        let yes = self.builder.constant(Array::scalar(true))?;
        let mut closed = captured.clone();
        closed.push((graph.input[1].name.clone(), yes));
        let body = self.body(graph, "loop", params, &closed, frame)?;
        if !self.holds(body.outputs[0]) {
            self.builder.abandon(body.outer);
            return Ok(None);
        }
        let outputs = body.outputs[1..].to_vec();
        let (func, types) = self.finished(body, &outputs);
        let steps = self.builder.count(DType::I64, &trip)?;
        Ok(Some(self.over(func, &types, &trip, start, &[steps], &closed)?))
    }
    /// The loop as long as its condition holds: the step's number and the condition are carried too.
    fn conditional(
        &mut self,
        graph: &GraphProto,
        [most, condition]: [Option<Value>; 2],
        start: &[Value],
        captured: &Captured,
        frame: &Frame,
    ) -> Flowed<Vec<Value>> {
        let condition = match condition {
            Some(condition) => self.builder.reshape(condition, [])?,
            None => self.builder.constant(Array::scalar(true))?,
        };
        let most = match most {
            Some(most) => self.builder.reshape(most, [])?,
            None => self.builder.constant(Array::scalar(i64::MAX))?,
        };
        let zero = self.builder.constant(Array::scalar(0i64))?;
        let carried: Vec<Value> = [zero, condition].into_iter().chain(start.iter().copied()).collect();
        let params: Vec<Param> = carried.iter().zip(&graph.input).map(|(x, input)| self.param(&input.name, *x)).collect();
        let mut closed: Captured = vec![(String::new(), most)];
        closed.extend(captured.iter().cloned());
        let body = self.body(graph, "loop", params, &closed, frame)?;
        let next = self.builder.with(ScalarFn::Add, body.params[0], 1.0)?;
        let again = self.builder.reshape(body.outputs[0], [])?;
        let results: Vec<Value> = [next, again].into_iter().chain(body.outputs[1..].iter().copied()).collect();
        let (func, outputs) = self.finished(body, &results);
        let types = self.types(&carried);
        if outputs != types {
            let what = format!("a loop that carries ({}) and leaves ({})", list(&types), list(&outputs));
            return Err(Problem::Unsupported(Diag::new(what)).into());
        }
        let operands: Vec<Value> = carried.iter().copied().chain(values(&closed)).collect();
        let cond = self.builder.body("again", &self.types(&operands), |builder, params| {
            let early = builder.map(ScalarFn::Lt, &[params[0], params[carried.len()]])?;
            Ok(vec![builder.map(ScalarFn::And, &[early, params[1]])?])
        })?;
        let op = While { cond, body: func, carried: carried.len(), most: None };
        let mut results = self.builder.emit_all(Op::While(op), &operands)?;
        results.drain(..2);
        Ok(results)
    }
}
