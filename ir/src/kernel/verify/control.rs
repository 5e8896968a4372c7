//! Checks steps around other steps: K25 to K27, and K21 in loops.

use super::entry::{Span, Steps};
use super::note;
use super::program::{no_axes, wrong_dim};
use crate::dim::{Atom, Dim};
use crate::dtype::DType;
use crate::kernel::{Branch, BufferId, Carry, Loop, Mode, Place, Step, Trip, View, launches};
use crate::verify::Findings;

impl Steps<'_> {
    /// Every step in order, numbered after `place`.
    pub(super) fn all(&mut self, steps: &[Step], place: &str, found: &mut Findings) {
        for (at, step) in steps.iter().enumerate() {
            let place = || format!("{place}{at}");
            match step {
                Step::Launch(launch) => {
                    let wrong = self.wrong_launch(launch);
                    note(found, place, wrong);
                }
                Step::If(branch) => self.branch(branch, &place(), found),
                Step::Loop(of) => self.repeat(of, &place(), found),
            }
        }
    }

    fn branch(&mut self, branch: &Branch, place: &str, found: &mut Findings) {
        note(found, || place.to_owned(), self.wrong_condition(&branch.cond));
        let before = self.written.clone();
        self.all(&branch.then, &format!("{place}, then "), found);
        let then = std::mem::replace(&mut self.written, before);
        self.all(&branch.otherwise, &format!("{place}, else "), found);
        self.written.iter_mut().zip(then).for_each(|(written, then)| *written &= then);
    }

    /// What an iteration wrote counts as written afterwards: where there was none, nothing is stacked.
    fn repeat(&mut self, of: &Loop, place: &str, found: &mut Findings) {
        let wrong = self.wrong_trip(of).or_else(|| of.carry.iter().find_map(|carry| self.wrong_carry(*carry)));
        let is_wrong = wrong.is_some();
        note(found, || place.to_owned(), wrong);
        if is_wrong {
            return;
        }
        let wrote = std::mem::replace(&mut self.writes_state, false);
        self.counters.push(of.counter.clone());
        of.carry.iter().for_each(|carry| self.written[carry.next.0 as usize] = false);
        if let Trip::While { test, holds, .. } = &of.trip {
            self.all(test, &format!("{place}, test "), found);
            note(found, || place.to_owned(), self.wrong_condition(holds));
        }
        self.all(&of.body, &format!("{place}, body "), found);
        self.counters.pop();
        for carry in &of.carry {
            let written = std::mem::replace(&mut self.written[carry.next.0 as usize], false);
            found.require(written, || crate::Diag::new(format!("K27: {place}: an iteration does not write b{}", carry.next.0)));
        }
        let inside = launches(of.trip.test()).into_iter().chain(launches(&of.body));
        let fails =
            inside.filter_map(|launch| self.program.kernels.get(launch.kernel.0 as usize)).any(|kernel| kernel.body.may_fail());
        found.require(!(self.writes_state && fails), || {
            crate::Diag::new(format!("K21: {place}: an iteration writes state, and may set the status word"))
        });
        self.writes_state |= wrote;
    }

    fn wrong_trip(&self, of: &Loop) -> Option<String> {
        let name = of.counter.name();
        let taken = self.program.symbols.iter().chain(&self.counters).any(|symbol| symbol.name() == name);
        if taken || of.trip.counter(name) != of.counter {
            return Some(format!("K26: the counter `{name}` is a symbol already, or its range is not the trip's"));
        }
        let (Trip::Times(trip) | Trip::While { most: Some(trip), .. }) = &of.trip else { return None };
        let negative = (-trip.clone() - Dim::ONE).is_nonneg();
        wrong_dim(self.program, trip, &no_axes).or_else(|| negative.then(|| format!("K26: {trip} iterations")))
    }

    fn wrong_carry(&mut self, Carry { now, next }: Carry) -> Option<String> {
        let buffer = |id: BufferId| self.entry.buffers.get(id.0 as usize);
        let (Some(x), Some(y)) = (buffer(now), buffer(next)) else {
            return Some(format!("K4: there is no buffer b{} or b{}", now.0, next.0));
        };
        let computed = |place: &Place| matches!(place, Place::Arena(_) | Place::Unplaced);
        let alike = x.dtype == y.dtype && x.shape == y.shape && computed(&x.place) && computed(&y.place);
        let numel: Dim = x.shape.iter().product();
        let (view_x, view_y) = (View::whole(now), View::whole(next));
        if !alike || Span::of(&view_x, x, &numel).meets(&Span::of(&view_y, y, &numel)) {
            return Some(format!("K27: b{} and b{} are not two computed buffers of one type", now.0, next.0));
        }
        if !self.written[now.0 as usize] {
            return Some(format!("K27: b{} is not written before the loop that carries it", now.0));
        }
        let first = self.carried.insert(now) && self.carried.insert(next);
        (!first).then(|| format!("K27: b{} or b{} is carried twice", now.0, next.0))
    }

    /// K25: one bool that is there.
    fn wrong_condition(&self, view: &View) -> Option<String> {
        let Some(buffer) = self.entry.buffers.get(view.buffer.0 as usize) else {
            return Some(format!("K4: there is no buffer b{}", view.buffer.0));
        };
        if buffer.dtype != DType::Bool {
            return Some(format!("K25: b{} holds {}, a condition is a bool", view.buffer.0, buffer.dtype));
        }
        self.wrong_view(view, buffer, DType::Bool, &Dim::ONE).or_else(|| self.wrong_use(view.buffer, Mode::Read))
    }

    /// What is wrong with an offset, in which counters may occur, if anything: K9, K23, K26.
    pub(super) fn wrong_offset(&self, offset: &Dim) -> Option<String> {
        if offset.as_const().is_some() {
            return None;
        }
        let is_counter = |atom: &Atom| if let Atom::Sym(symbol) = atom { self.counters.contains(symbol) } else { false };
        for term in offset.terms() {
            let counted = term.atoms.iter().filter(|atom| is_counter(atom)).count();
            let inside = term.atoms.iter().filter(|atom| !is_counter(atom)).any(|atom| {
                let symbols = Dim::atom(atom.clone()).symbols();
                symbols.iter().any(|symbol| self.counters.contains(symbol))
            });
            if counted > 1 || inside {
                return Some(format!("K26: the offset {offset} is not linear in every counter"));
            }
        }
        let rest = offset.substitute(&|atom| is_counter(atom).then_some(Dim::ONE));
        wrong_dim(self.program, &rest, &no_axes)
    }
}
