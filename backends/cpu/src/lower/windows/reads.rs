//! What a row reads at a position: once for all that read it.

use graver_ir::Dim;
use graver_ir::kernel::{Access, Bounds, Index, InstKind};

use super::super::body::{Given, Nothing};
use super::super::cx::Cx;
use super::visits::{Inside, Place, Visit, Visits, depends};
use crate::vector::{Elem, Load, Op, Val};

/// What a visit reads.
pub(super) struct Reads<'w> {
    pub(super) visits: &'w Visits<'w>,
    pub(super) visit: &'w Visit,
    pub(super) place: Place<'w>,
    /// Whether what is the same for all rows waits in registers; else it is read where it is used.
    pub(super) is_held: bool,
    /// By read.
    pub(super) known: &'w mut [Option<Known>],
}

/// What was read, or what is read anew each time.
#[derive(Clone)]
pub(super) enum Known {
    Value(Val),
    Place(Load),
}

impl Given for Reads<'_> {
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> Val {
        Nothing.reduced(cx, stage, slot)
    }

    fn acc(&mut self, cx: &mut Cx<'_>) -> Val {
        Nothing.acc(cx)
    }

    fn known(&mut self, cx: &mut Cx<'_>, number: usize) -> Option<Val> {
        let inst = &self.visit.body.insts[number].kind;
        if self.place.inside == Inside::Lanes && self.visits.asked(&self.visit.body, inst).is_some() {
            return Some(cx.b.constant(Elem::Bool, 1));
        }
        let InstKind::Load(access) = inst else { return None };
        let read = self.visit.reads[number].expect("a load is a read");
        let known = match self.known[read].take() {
            Some(known) => known,
            None => self.read(cx, number, access)?,
        };
        Some(match self.known[read].insert(known).clone() {
            Known::Value(value) => value,
            Known::Place(load) => cx.b.load_now(load),
        })
    }
}

impl Reads<'_> {
    /// `None` where positions are moved inside.
    fn read(&self, cx: &mut Cx<'_>, number: usize, access: &Access) -> Option<Known> {
        let arg = cx.arg(access.arg);
        if access.bounds == Bounds::Clamp {
            return None;
        }
        let Bounds::Fill(fill) = access.bounds else {
            let is_packed = self.visits.packed.iter().any(|(packed, _)| *packed == number);
            let (ptr, pattern) = if is_packed {
                self.visits.place_packed(cx, number, &Dim::from(self.visit.position))
            } else {
                let (offset, _) = cx.offset(access.arg, &access.index, &[]);
                let base = cx.b.op(Op::Arg(access.arg));
                cx.place(base, &offset, None, arg.dtype)
            };
            let load = Load { ptr, dtype: arg.dtype, pattern, mask: None };
            let is_moving = access.index.iter().any(|index| depends(index, self.visits.row));
            return Some(if is_moving || self.is_held { Known::Value(cx.load_from(arg.mode, load)) } else { Known::Place(load) });
        };
        let along = |index: &Index| depends(index, self.visits.lane);
        let (mut there, mut offset) = (Dim::ZERO, Dim::ZERO);
        for (index, stride) in access.index.iter().zip(&arg.strides) {
            let part = if along(index) { &mut offset } else { &mut there };
            *part = &*part + index.dim() * stride;
        }
        let inside = |cx: &mut Cx<'_>, of_lanes: bool| {
            let is_known = self.place.inside == if of_lanes { Inside::Lanes } else { Inside::Rest };
            let each = access.index.iter().zip(&arg.shape).filter(|(index, _)| along(index) == of_lanes);
            if is_known { None } else { cx.inside_each(each, &[]) }
        };
        let mut line = cx.b.op(Op::Arg(access.arg));
        match (self.place.lines[number], inside(cx, false)) {
            (Some(outside), Some(is_there)) => {
                let there = cx.value(&(there * Dim::from(arg.dtype.size())));
                let there = cx.b.add(line, there);
                line = cx.b.select(is_there, there, outside);
            }
            _ => offset = offset + there,
        }
        let (ptr, pattern) = cx.place(line, &offset, None, arg.dtype);
        Some(Known::Value(match inside(cx, true) {
            Some(inside) => cx.load_inside(access.arg, ptr, pattern, inside, fill),
            None => cx.load_from(arg.mode, Load { ptr, dtype: arg.dtype, pattern, mask: None }),
        }))
    }
}
