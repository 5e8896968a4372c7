//! Values at points: which family evaluates an op. To have a value at an index, its operands are pulled at the indices
//! that it needs. Movement becomes index arithmetic, maps become instructions, reductions become earlier stages.

use graver_ir::kernel::{Index, InstKind, ValueId};
use graver_ir::{Op, Scalar, Value};

use super::point::{Condition, Point};
use super::region::Region;
use super::{contract, dynamic, index, map, movement, random, reduce, window};

impl Region<'_> {
    /// The element of `value` at `index`, in the type that it is computed in.
    pub(super) fn pull(&mut self, at: &mut Point, value: Value, index: &[Index]) -> ValueId {
        if let Some(known) = at.known(value, index) {
            return known;
        }
        self.visited.entry(value).or_insert_with(|| index.to_vec());
        let result = self.evaluate(at, value, index);
        at.remember(value, index, result);
        result
    }

    fn evaluate(&mut self, at: &mut Point, value: Value, index: &[Index]) -> ValueId {
        let graph = self.graph();
        let args = graph.args(value.node);
        match graph.op(value.node) {
            Op::Map(function) => map::function(self, at, *function, value, index),
            Op::Cast(dtype) => map::cast(self, at, args[0], *dtype, index),
            Op::Bitcast(dtype) => map::bitcast(self, at, args[0], *dtype, index),
            Op::Const(array) => index::constant(at, array),
            Op::Size(size) => at.position(&Index::At(size.clone())),
            Op::Iota(iota) => index::iota(at, iota, index),
            Op::Gather(axes) => index::gather(self, at, *axes, value, index),
            Op::Scatter(of) => index::scatter_one(self, at, *of, value, index),
            Op::DynamicSlice(slice) => dynamic::slice(self, at, slice, value, index),
            Op::Reshape(_) => movement::reshape(self, at, value, index),
            Op::Permute(perm) => self.pull(at, args[0], &movement::permuted(perm, index)),
            Op::Broadcast(broadcast) => self.pull(at, args[0], &movement::broadcast(broadcast, index)),
            Op::Slice(ranges) => {
                let inner = movement::sliced(at, ranges, index);
                self.pull(at, args[0], &inner)
            }
            Op::Reverse(axes) => {
                let inner = movement::reversed(at, axes, graph.ty(value), index);
                self.pull(at, args[0], &inner)
            }
            Op::Pad(axes) => movement::pad(self, at, axes, value, index),
            Op::Concat(axis) => movement::concat(self, at, *axis, value, index),
            Op::Reduce(reduce) => reduce::reduce(self, at, reduce, value, index),
            Op::ArgReduce(arg) => reduce::arg_reduce(self, at, *arg, value, index),
            Op::Window(window) => window::window(self, at, window, value, index),
            Op::WindowArg(window) => window::arg(self, at, window, value, index),
            Op::WindowTake(axes) => window::take(self, at, axes, value, index),
            Op::WindowPut(put) => window::put(self, at, put, value, index),
            Op::Dot(_) | Op::Conv(_) => contract::sum(at, graph.ty(value).dtype, value, index),
            Op::Philox(philox) => random::philox(self, at, philox, value, index),
            Op::Param(ty) => self.load(at, value.node, (&ty.shape, index), None),
            Op::Alias | Op::StopGradient => self.pull(at, args[0], index),
            Op::Call(_) | Op::If(_) | Op::While(_) | Op::Scan(_) | Op::Transform(_) => {
                panic!("L2: calls, control flow and derivatives are not in regions")
            }
            Op::DynamicUpdate(_) | Op::Sort(_) | Op::Prefix(_) => {
                panic!("L4: `{}` is a kernel of its own", graph.op(value.node).name())
            }
        }
    }

    /// The element at an index that is used only where the conditions hold; elsewhere it is anything.
    pub(super) fn pull_where(&mut self, at: &mut Point, value: Value, index: &[Index], conditions: &[Condition]) -> ValueId {
        let open = conditions.iter().filter(|(position, limit)| !position.is_below(limit)).cloned();
        let outer = at.guard.len();
        at.guard.extend(open);
        let result = self.pull(at, value, index);
        at.guard.truncate(outer);
        result
    }

    /// The element where the conditions hold, elsewhere `fill` (of the value's type).
    pub(super) fn pull_or(
        &mut self,
        at: &mut Point,
        value: Value,
        index: &[Index],
        conditions: &[Condition],
        fill: Scalar,
    ) -> ValueId {
        if let Some((param, inner)) = self.direct(value, index)
            && conditions.iter().all(|condition| self.is_range_of(param, &inner, condition))
        {
            let ty = self.graph().ty(param);
            return self.load(at, param.node, (&ty.shape, &inner), Some(fill));
        }
        let inside = self.pull_where(at, value, index, conditions);
        let outside = at.constant(fill);
        let outside = at.cast(outside, fill.dtype());
        self.choose(at, conditions, inside, outside)
    }

    /// `inside` where the conditions hold, else `outside`.
    pub(super) fn choose(&mut self, at: &mut Point, conditions: &[Condition], inside: ValueId, outside: ValueId) -> ValueId {
        match at.test(conditions) {
            None => inside,
            Some(test) => at.map(graver_ir::ScalarFn::Select, &[test, inside, outside]),
        }
    }

    /// The parameter that this is an element of, through permutations alone.
    fn direct(&self, value: Value, index: &[Index]) -> Option<(Value, Vec<Index>)> {
        match self.graph().op(value.node) {
            Op::Param(_) => Some((value, index.to_vec())),
            Op::Permute(perm) => self.direct(self.graph().args(value.node)[0], &movement::permuted(perm, index)),
            Op::Alias | Op::StopGradient => self.direct(self.graph().args(value.node)[0], index),
            Op::Map(_)
            | Op::Cast(_)
            | Op::Bitcast(_)
            | Op::Const(_)
            | Op::Size(_)
            | Op::Iota(_)
            | Op::Gather(_)
            | Op::Scatter(_)
            | Op::DynamicSlice(_)
            | Op::DynamicUpdate(_)
            | Op::Sort(_)
            | Op::Reshape(_)
            | Op::Broadcast(_)
            | Op::Slice(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Reverse(_)
            | Op::Reduce(_)
            | Op::ArgReduce(_)
            | Op::Prefix(_)
            | Op::Window(_)
            | Op::WindowArg(_)
            | Op::WindowTake(_)
            | Op::WindowPut(_)
            | Op::Dot(_)
            | Op::Conv(_)
            | Op::Philox(_)
            | Op::Call(_)
            | Op::If(_)
            | Op::While(_)
            | Op::Scan(_)
            | Op::Transform(_) => None,
        }
    }

    /// Whether the condition only says that the index is inside the parameter.
    fn is_range_of(&self, param: Value, index: &[Index], (position, limit): &Condition) -> bool {
        let shape = &self.graph().ty(param).shape;
        let own = |(index, size): (&Index, &graver_ir::Dim)| *index == Index::At(position.clone()) && size == limit;
        position.is_below(limit) || index.iter().zip(shape.iter()).any(own)
    }
}

/// The result of an earlier stage.
pub(super) fn reduced(at: &mut Point, (stage, slot): (usize, usize), dtype: graver_ir::DType) -> ValueId {
    at.body.push(InstKind::Reduced { stage, slot }, dtype)
}
