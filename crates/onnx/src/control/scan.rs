//! Scan, and functions over slices as it has them.

use graver_ir::op::{Scan, slice_of, stack_of};
use graver_ir::{Diag, Dim, FuncId, Op, Type, Value};

use super::body::{Captured, Param, free, values};
use super::{Flowed, attribute, ints, list, missing};
use crate::import::{Frame, Importer, MAX_DEPTH};
use crate::problem::{Problem, Result, unsupported, wrong};
use crate::proto::NodeProto;

impl Importer<'_> {
    pub(super) fn scan(&mut self, proto: &NodeProto, args: &[Option<Value>], frame: &Frame) -> Flowed<Vec<Value>> {
        let graph = attribute(proto, "body")?;
        let count =
            proto.attribute.iter().find(|attribute| attribute.name == "num_scan_inputs").map_or(0, |attribute| attribute.i);
        if frame.opsets.get("").is_some_and(|version| *version < 9) {
            let what = "scans of batches, which version 9 of the operators has no more";
            return Err(Problem::Unsupported(Diag::new(what)).into());
        }
        let all: Option<Vec<Value>> = args.iter().copied().collect();
        let Some(all) = all else { return Err(missing("an operand")) };
        let carried = usize::try_from(count).ok().and_then(|count| all.len().checked_sub(count));
        let Some(carried) = carried.filter(|carried| *carried < all.len() && graph.input.len() == all.len()) else {
            return Err(Problem::Wrong(Diag::new(format!("{count} of {} operands are scanned", all.len()))).into());
        };
        let (start, scanned) = all.split_at(carried);
        let mut slices = Vec::new();
        for (place, x) in scanned.iter().enumerate() {
            slices.push(self.placed(proto, "scan_input", place, *x, true)?);
        }
        let trip = self.builder.shape(slices[0])[0].clone();
        let captured = self.captured(&free(graph, MAX_DEPTH)?, frame)?;
        let mut params: Vec<Param> = Vec::new();
        for (place, (x, input)) in start.iter().chain(&slices).zip(&graph.input).enumerate() {
            let param = self.param(&input.name, *x);
            params.push(if place < carried { param } else { Param { ty: slice_of(&param.ty), ..param } });
        }
        let body = self.body(graph, "scan", params, &captured, frame)?;
        let outputs = body.outputs.clone();
        let (func, types) = self.finished(body, &outputs);
        let mut results = self.over(func, &types, &trip, start, &slices, &captured)?;
        for (place, result) in results.iter_mut().skip(carried).enumerate() {
            *result = self.placed(proto, "scan_output", place, *result, false)?;
        }
        Ok(results)
    }

    /// A function over slices.
    pub(super) fn over(
        &mut self,
        func: FuncId,
        outputs: &[Type],
        trip: &Dim,
        start: &[Value],
        scanned: &[Value],
        captured: &Captured,
    ) -> Result<Vec<Value>> {
        let (kept, slices) = outputs.split_at(start.len().min(outputs.len()));
        let own = self.types(start);
        if kept != own {
            return unsupported(format!("a loop that carries ({}) and leaves ({})", list(&own), list(kept)));
        }
        let results = own.into_iter().chain(slices.iter().map(|ty| stack_of(trip, ty))).collect();
        let op = Scan {
            body: func,
            trip: trip.clone(),
            carried: start.len(),
            scanned: scanned.len(),
            reverse: false,
            at_once: false,
            results,
        };
        let closed: Vec<Value> = values(captured).collect();
        self.builder.emit_all(Op::Scan(op), &[start, scanned, &closed].concat())
    }

    /// An operand with its scanned axis first and in the order of the steps, or a result with that axis where it belongs.
    fn placed(&mut self, proto: &NodeProto, what: &str, place: usize, x: Value, first: bool) -> Result<Value> {
        let one = |name: &str| ints(proto, &format!("{what}_{name}")).get(place).copied().unwrap_or(0);
        let rank = self.builder.rank(x);
        let axis = one("axes");
        let axis = usize::try_from(if axis < 0 { axis.saturating_add(i64::try_from(rank).unwrap_or(0)) } else { axis });
        let Some(axis) = axis.ok().filter(|axis| *axis < rank) else { return wrong(format!("no axis to scan of rank {rank}")) };
        let mut order: Vec<usize> = (0..rank).collect();
        if first {
            let moved = order.remove(axis);
            order.insert(0, moved);
        } else {
            let moved = order.remove(0);
            order.insert(axis, moved);
        }
        let backwards = one("directions") == 1;
        let x = if backwards && !first { self.builder.emit(Op::Reverse(vec![0]), &[x])? } else { x };
        let x = self.builder.permute(x, order)?;
        if backwards && first { self.builder.emit(Op::Reverse(vec![0]), &[x]) } else { Ok(x) }
    }
}
