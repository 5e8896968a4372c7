//! One launch: a kernel's arguments as views of memory, and what a strict run watches.

use std::collections::{HashMap, HashSet};

use graver_ir::kernel::{Arg, Bounds, Kernel, Launch, Mode, TrapId};
use graver_ir::{DType, Diag, Sizes};

use super::Checks;
use super::expr::{UNVISITED, size_of, sizes_of};
use super::memory::Memory;
use crate::scalar::{Num, Precision, cast_num};

/// A kernel at work on memory.
pub(super) struct Running<'a> {
    pub(super) sizes: &'a Sizes,
    /// The check that failed and ended the run.
    pub(super) trapped: Option<TrapId>,
    memory: &'a mut Memory,
    args: Vec<View>,
    /// What has been read and stored so far, in a strict run.
    watch: Option<Watch>,
}

/// An argument: elements of a buffer at a distance from one another.
struct View {
    buffer: usize,
    region: usize,
    dtype: DType,
    mode: Mode,
    /// The first element, counted in bytes from the region's first.
    start: i64,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

impl<'a> Running<'a> {
    /// Binds the arguments. In a strict run they are checked not to overlap.
    pub(super) fn new(
        kernel: &Kernel,
        launch: &Launch,
        memory: &'a mut Memory,
        sizes: &'a Sizes,
        checks: Checks,
    ) -> Result<Self, Diag> {
        if kernel.args.len() != launch.args.len() {
            return Err(Diag::new(format!("takes {} arguments, got {}", kernel.args.len(), launch.args.len())));
        }
        let views = kernel.args.iter().zip(&launch.args).map(|(arg, view)| {
            let offset = size_of(&view.offset, sizes)?;
            View::new(arg, view.buffer.0 as usize, offset, memory, sizes)
        });
        let args = views.collect::<Result<Vec<_>, _>>()?;
        let strict = checks == Checks::Strict;
        if strict {
            check_overlaps(&args)?;
        }
        Ok(Self { sizes, trapped: None, memory, args, watch: strict.then(Watch::default) })
    }

    /// The element of an argument at a position, read by a point.
    pub(super) fn load(&mut self, arg: usize, index: &[i64], bounds: Bounds, point: &[i64]) -> Result<Num, Diag> {
        let view = self.view(arg, index)?;
        let mut index = index.to_vec();
        if !view.contains(&index) {
            match bounds {
                Bounds::Fill(value) => return Ok(Num::of(value)),
                Bounds::Clamp if view.shape.iter().all(|size| *size > 0) => view.clamp(&mut index),
                Bounds::Clamp => return Err(Diag::new(format!("argument {arg} is empty: no position is the nearest"))),
                Bounds::Proven => {
                    let shape = &view.shape;
                    return Err(Diag::new(format!(
                        "argument {arg}: position {index:?} is outside of {shape:?}, though said to be inside"
                    )));
                }
            }
        }
        let (at, view) = (self.address(arg, &index)?, &self.args[arg]);
        if let Some(watch) = &mut self.watch {
            watch.load(view, at, point).map_err(|diag| named(diag, arg, &index))?;
            self.memory
                .check_written(view.region, at, view.dtype.size(), view.buffer)
                .map_err(|diag| named(diag, arg, &index))?;
        }
        Ok(self.memory.load(view.region, at, view.dtype))
    }

    /// Stores a value, converted to the argument's type, at a position inside.
    pub(super) fn store(&mut self, arg: usize, index: &[i64], value: Num, point: &[i64]) -> Result<(), Diag> {
        let view = self.view(arg, index)?;
        if !view.contains(index) {
            let shape = &view.shape;
            return Err(Diag::new(format!("argument {arg}: a store at {index:?} is outside of {shape:?}")));
        }
        let (at, view) = (self.address(arg, index)?, &self.args[arg]);
        if view.mode == Mode::Read {
            return Err(Diag::new(format!("argument {arg} is stored to, though only read")));
        }
        if let Some(watch) = &mut self.watch {
            watch.store(view, at, point).map_err(|diag| named(diag, arg, index))?;
        }
        let value = cast_num(value, view.dtype, Precision::Typed);
        self.memory.store(view.region, at, view.dtype, value, view.buffer);
        Ok(())
    }

    /// Adds to the element at a position; outside nothing is added.
    pub(super) fn add(&mut self, arg: usize, index: &[i64], value: Num) -> Result<(), Diag> {
        let view = self.view(arg, index)?;
        if !view.contains(index) {
            return Ok(());
        }
        if view.mode != Mode::Update {
            return Err(Diag::new(format!("argument {arg} is added to, though not updated")));
        }
        let (at, view) = (self.address(arg, index)?, &self.args[arg]);
        if self.watch.is_some() {
            self.memory.check_written(view.region, at, view.dtype.size(), view.buffer).map_err(|diag| named(diag, arg, index))?;
        }
        let sum = match (self.memory.load(view.region, at, view.dtype), value) {
            (Num::Float(x), Num::Float(y)) => Num::Float(x + y),
            (Num::Int(x), Num::Int(y)) => Num::Int(x.wrapping_add(y)),
            (Num::Float(_), Num::Int(_)) | (Num::Int(_), Num::Float(_)) => {
                return Err(Diag::new(format!("argument {arg} holds {}, what is added is of another kind", view.dtype)));
            }
        };
        let sum = cast_num(sum, view.dtype, Precision::Typed);
        self.memory.store(view.region, at, view.dtype, sum, view.buffer);
        Ok(())
    }

    fn view(&self, arg: usize, index: &[i64]) -> Result<&View, Diag> {
        let view = self.args.get(arg).ok_or_else(|| Diag::new(format!("there is no argument {arg}")))?;
        if view.shape.len() == index.len() {
            Ok(view)
        } else {
            Err(Diag::new(format!("argument {arg} has {} axes, an access {}", view.shape.len(), index.len())))
        }
    }

    /// The byte of an element, which must lie in its buffer.
    fn address(&self, arg: usize, index: &[i64]) -> Result<usize, Diag> {
        let view = &self.args[arg];
        let placed = self.memory.placed(view.buffer);
        let at = usize::try_from(view.at(index)).ok();
        at.filter(|at| *at >= placed.start && at + view.dtype.size() <= placed.start + placed.len)
            .ok_or_else(|| Diag::new(format!("argument {arg}: the view of buffer {} leaves it at {index:?}", view.buffer)))
    }
}

fn named(diag: Diag, arg: usize, index: &[i64]) -> Diag {
    Diag { message: format!("argument {arg} at {index:?}: {}", diag.message), ..diag }
}

impl View {
    fn new(arg: &Arg, buffer: usize, offset: i64, memory: &Memory, sizes: &Sizes) -> Result<Self, Diag> {
        let placed = memory.placed(buffer);
        let element = element_size(arg.dtype);
        let start = i64::try_from(placed.start).expect("memory is smaller than 2^63 bytes") + offset * element;
        let (shape, strides) = (sizes_of(&arg.shape, sizes)?, sizes_of(&arg.strides, sizes)?);
        Ok(Self { buffer, region: placed.region, dtype: arg.dtype, mode: arg.mode, start, shape, strides })
    }

    fn contains(&self, index: &[i64]) -> bool {
        index.iter().zip(&self.shape).all(|(position, size)| (0..*size).contains(position))
    }

    fn clamp(&self, index: &mut [i64]) {
        index.iter_mut().zip(&self.shape).for_each(|(position, size)| *position = (*position).clamp(0, size - 1));
    }

    fn at(&self, index: &[i64]) -> i64 {
        let elements: i64 = index.iter().zip(&self.strides).map(|(position, stride)| position * stride).sum();
        self.start + elements * element_size(self.dtype)
    }

    /// The first byte of every element.
    fn elements(&self) -> HashSet<i64> {
        let shape: Vec<usize> = self.shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
        let mut found = HashSet::new();
        crate::walk::each_point(&shape, |index| {
            let index: Vec<i64> = index.iter().map(|x| *x as i64).collect();
            found.insert(self.at(&index));
        });
        found
    }

    /// The first byte and one past the last byte of any element; none of an empty view.
    fn range(&self) -> Option<(i64, i64)> {
        let (mut low, mut high) = (self.start, self.start + element_size(self.dtype));
        for (size, stride) in self.shape.iter().zip(&self.strides) {
            let reach = (size - 1) * stride * element_size(self.dtype);
            (low, high) = (low + reach.min(0), high + reach.max(0));
        }
        self.shape.iter().all(|size| *size > 0).then_some((low, high))
    }

    fn overlaps(&self, other: &Self) -> bool {
        let (Some((low, high)), Some((other_low, other_high))) = (self.range(), other.range()) else { return false };
        self.region == other.region
            && low < other_high
            && other_low < high
            && (self.dtype.size() != other.dtype.size() || !self.elements().is_disjoint(&other.elements()))
    }
}

fn element_size(dtype: DType) -> i64 {
    i64::try_from(dtype.size()).expect("element types have at most eight bytes")
}

/// No two arguments overlap unless both are only read.
fn check_overlaps(args: &[View]) -> Result<(), Diag> {
    for (second, y) in args.iter().enumerate() {
        for (first, x) in args[..second].iter().enumerate() {
            let written = x.mode != Mode::Read || y.mode != Mode::Read;
            if written && x.overlaps(y) {
                return Err(Diag::new(format!(
                    "arguments {first} and {second} overlap (buffers {} and {}), and one is written",
                    x.buffer, y.buffer
                )));
            }
        }
    }
    Ok(())
}

/// What the points of one launch have read and stored: they must not depend on the order in which they run.
#[derive(Default)]
struct Watch {
    stored: HashMap<(usize, usize), Vec<i64>>,
    read: HashMap<(usize, usize), Readers>,
}

enum Readers {
    One(Vec<i64>),
    Many,
}

impl Watch {
    fn load(&mut self, view: &View, at: usize, point: &[i64]) -> Result<(), Diag> {
        match view.mode {
            Mode::Read => return Ok(()),
            Mode::Write => return Err(Diag::new("is read, though only written")),
            Mode::Update => {}
        }
        let place = (view.region, at);
        if let Some(writer) = self.stored.get(&place).filter(|writer| !may_be_one(writer, point)) {
            return Err(Diag::new(format!("point {point:?} reads what point {writer:?} writes")));
        }
        let readers = self.read.entry(place).or_insert_with(|| Readers::One(point.to_vec()));
        if matches!(readers, Readers::One(reader) if !may_be_one(reader, point)) {
            *readers = Readers::Many;
        }
        Ok(())
    }

    fn store(&mut self, view: &View, at: usize, point: &[i64]) -> Result<(), Diag> {
        let place = (view.region, at);
        match self.read.get(&place) {
            Some(Readers::Many) => return Err(Diag::new(format!("point {point:?} writes what several points read"))),
            Some(Readers::One(reader)) if !may_be_one(reader, point) => {
                return Err(Diag::new(format!("point {point:?} writes what point {reader:?} reads")));
            }
            Some(Readers::One(_)) | None => {}
        }
        match self.stored.insert(place, point.to_vec()) {
            Some(other) => Err(Diag::new(format!("points {other:?} and {point:?} store at one place"))),
            None => Ok(()),
        }
    }
}

/// Whether two points agree in every axis that both stages visit.
fn may_be_one(x: &[i64], y: &[i64]) -> bool {
    x.iter().zip(y).all(|(x, y)| x == y || *x == UNVISITED || *y == UNVISITED)
}
