//! One launch: a kernel's arguments as views of memory, and what a strict run watches.

use std::collections::HashSet;
use std::ops::Range;

use graver_ir::kernel::{Arg, Bounds, Kernel, Launch, Mode, TrapId};
use graver_ir::op::ScatterKind;
use graver_ir::{DType, Diag, Sizes};

use super::Checks;
use super::expr::{UNVISITED, size_of, sizes_of};
use super::memory::Memory;
use crate::noise::moved;
use crate::scalar::{Num, Precision, apply_num, cast_num};

/// A kernel at work on memory.
pub(super) struct Running<'a> {
    pub(super) sizes: &'a Sizes,
    /// The check that failed and ended the run.
    pub(super) trapped: Option<TrapId>,
    /// Rounding errors by chance.
    noise: Option<Shaker>,
    memory: &'a mut Memory,
    args: Vec<View>,
    /// What has been read and stored so far, in a strict run.
    watch: Option<Watch>,
}

/// Rounding errors by chance.
struct Shaker {
    seed: u64,
    /// How many results were moved.
    count: u64,
}

impl Shaker {
    fn moved(&self, value: Num, dtype: DType, place: u64, position: u64) -> Num {
        match value {
            Num::Float(x) => Num::Float(moved(x, dtype, self.seed, place, position)),
            Num::Int(_) => value,
        }
    }
}

/// An argument: elements of a buffer at a distance from one another.
struct View {
    buffer: usize,
    region: usize,
    dtype: DType,
    mode: Mode,
    /// The buffer's bytes in the region.
    bounds: Range<i64>,
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
        noise: Option<u64>,
    ) -> Result<Self, Diag> {
        if kernel.args.len() != launch.args.len() {
            return Err(Diag::new(format!("takes {} arguments, got {}", kernel.args.len(), launch.args.len())));
        }
        let views = kernel.args.iter().zip(&launch.args).map(|(arg, view)| {
            let offset = size_of(&view.offset, sizes)?;
            View::new(arg, view.buffer.0 as usize, offset, memory, sizes)
        });
        let args = views.collect::<Result<Vec<_>, _>>()?;
        let watch = match checks {
            Checks::Bounds => None,
            Checks::Strict => Some(Watch::new(&args)?),
        };
        Ok(Self { sizes, trapped: None, noise: noise.map(|seed| Shaker { seed, count: 0 }), memory, args, watch })
    }

    /// The element of an argument at a position, read by a point.
    pub(super) fn load(&mut self, arg: usize, index: &mut [i64], bounds: Bounds, point: &[i64]) -> Result<Num, Diag> {
        let view = self.view(arg, index)?;
        if !view.contains(index) {
            match bounds {
                Bounds::Fill(value) => return Ok(Num::of(value)),
                Bounds::Clamp if view.shape.iter().all(|size| *size > 0) => view.clamp(index),
                Bounds::Clamp => return Err(Diag::new(format!("argument {arg} is empty: no position is the nearest"))),
                Bounds::Proven => {
                    let shape = &view.shape;
                    return Err(Diag::new(format!(
                        "argument {arg}: position {index:?} is outside of {shape:?}, though said to be inside"
                    )));
                }
            }
        }
        let (at, view) = (self.address(arg, index)?, &self.args[arg]);
        if let Some(watch) = &mut self.watch {
            let written = self.memory.check_written(view.region, at, view.dtype.size(), view.buffer);
            watch.load(arg, view, at, point).and(written).map_err(|diag| named(diag, arg, index))?;
        }
        let loaded = self.memory.load(view.region, at, view.dtype);
        // By the place in memory: what is loaded twice is the same both times.
        Ok(match &self.noise {
            Some(noise) => noise.moved(loaded, view.dtype, view.buffer as u64, at as u64),
            None => loaded,
        })
    }

    /// A rounded result, in a run with rounding errors another one nearby.
    pub(super) fn rounded(&mut self, value: Num, dtype: DType) -> Num {
        let Some(noise) = &mut self.noise else { return value };
        noise.count += 1;
        let count = noise.count;
        noise.moved(value, dtype, u64::MAX, count)
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
            watch.store(arg, view, at, point).map_err(|diag| named(diag, arg, index))?;
        }
        // An integer is stored by its low bits, whatever type it has.
        let value = cast_num(value, view.dtype, view.dtype, Precision::Typed);
        self.memory.store(view.region, at, view.dtype, value, view.buffer);
        Ok(())
    }

    /// Combines a value with the element at a position; outside nothing happens.
    pub(super) fn combine(&mut self, kind: ScatterKind, arg: usize, index: &[i64], value: Num) -> Result<(), Diag> {
        let view = self.view(arg, index)?;
        if !view.contains(index) {
            return Ok(());
        }
        if view.mode != Mode::Update {
            return Err(Diag::new(format!("argument {arg} is combined with, though not updated")));
        }
        let (at, view) = (self.address(arg, index)?, &self.args[arg]);
        if self.watch.is_some() {
            self.memory.check_written(view.region, at, view.dtype.size(), view.buffer).map_err(|diag| named(diag, arg, index))?;
        }
        let there = self.memory.load(view.region, at, view.dtype);
        let result = match (kind.function(), there, value) {
            (Some(function), Num::Float(_), Num::Float(_)) | (Some(function), Num::Int(_), Num::Int(_)) => {
                apply_num(function, view.dtype, &[there, value])
            }
            (None, Num::Float(_), Num::Float(_)) | (None, Num::Int(_), Num::Int(_)) => value,
            (_, Num::Float(_), Num::Int(_)) | (_, Num::Int(_), Num::Float(_)) => {
                return Err(Diag::new(format!("argument {arg} holds {}, the update is of another kind", view.dtype)));
            }
        };
        let result = cast_num(result, view.dtype, view.dtype, Precision::Typed);
        self.memory.store(view.region, at, view.dtype, result, view.buffer);
        Ok(())
    }

    /// Whether the launch writes to the state.
    pub(super) fn writes_state(&self) -> bool {
        self.args.iter().any(|view| view.mode != Mode::Read && self.memory.is_state(view.region))
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
        let at = view.at(index);
        let inside = view.bounds.start <= at && at + element_size(view.dtype) <= view.bounds.end;
        let at = usize::try_from(at).ok().filter(|_| inside);
        at.ok_or_else(|| Diag::new(format!("argument {arg}: the view of buffer {} leaves it at {index:?}", view.buffer)))
    }
}

fn named(diag: Diag, arg: usize, index: &[i64]) -> Diag {
    Diag { message: format!("argument {arg} at {index:?}: {}", diag.message), ..diag }
}

impl View {
    fn new(arg: &Arg, buffer: usize, offset: i64, memory: &Memory, sizes: &Sizes) -> Result<Self, Diag> {
        let placed = memory.placed(buffer);
        if placed.dtype != arg.dtype {
            return Err(Diag::new(format!("an argument of type {} is bound to buffer {buffer} of {}", arg.dtype, placed.dtype)));
        }
        let element = element_size(arg.dtype);
        let [low, high] =
            [placed.start, placed.start + placed.len].map(|at| i64::try_from(at).expect("memory is smaller than 2^63 bytes"));
        let start = low + offset * element;
        let (shape, strides) = (sizes_of(&arg.shape, sizes)?, sizes_of(&arg.strides, sizes)?);
        Ok(Self { buffer, region: placed.region, dtype: arg.dtype, mode: arg.mode, bounds: low..high, start, shape, strides })
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

/// Every argument lies in its buffer, whole.
fn check_views(args: &[View]) -> Result<(), Diag> {
    for (arg, view) in args.iter().enumerate() {
        if let Some((low, high)) = view.range().filter(|(low, high)| *low < view.bounds.start || *high > view.bounds.end) {
            let (buffer, bounds) = (view.buffer, &view.bounds);
            return Err(Diag::new(format!("argument {arg}: the view {low}..{high} leaves buffer {buffer} at {bounds:?}")));
        }
    }
    Ok(())
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
struct Watch {
    /// The points so far, one after another.
    points: Vec<i64>,
    args: Vec<Watched>,
}

/// For every element between the first and the last of an argument, the points that read and stored it.
#[derive(Default)]
struct Watched {
    first: i64,
    read: Vec<Mark>,
    stored: Vec<Mark>,
}

/// A point by its number, or what stands for none or for several.
type Mark = u32;

const NO_POINT: Mark = u32::MAX;
const SEVERAL: Mark = u32::MAX - 1;

impl Watch {
    fn new(args: &[View]) -> Result<Self, Diag> {
        check_views(args)?;
        check_overlaps(args)?;
        Ok(Self { points: Vec::new(), args: args.iter().map(Watched::new).collect() })
    }

    fn load(&mut self, arg: usize, view: &View, at: usize, point: &[i64]) -> Result<(), Diag> {
        match view.mode {
            Mode::Read => return Ok(()),
            Mode::Write => return Err(Diag::new("is read, though only written")),
            Mode::Update => {}
        }
        let (own, place) = (self.number(point), self.args[arg].place(view, at));
        if let Some(writer) = self.other(self.args[arg].stored[place], point) {
            return Err(Diag::new(format!("point {point:?} reads what point {writer:?} writes")));
        }
        let reader = self.args[arg].read[place];
        let several = reader == SEVERAL || self.other(reader, point).is_some();
        self.args[arg].read[place] = if several { SEVERAL } else { own };
        Ok(())
    }

    fn store(&mut self, arg: usize, view: &View, at: usize, point: &[i64]) -> Result<(), Diag> {
        let (own, place) = (self.number(point), self.args[arg].place(view, at));
        let reader = self.args[arg].read.get(place).copied().unwrap_or(NO_POINT);
        if reader == SEVERAL {
            return Err(Diag::new(format!("point {point:?} writes what several points read")));
        }
        if let Some(reader) = self.other(reader, point) {
            return Err(Diag::new(format!("point {point:?} writes what point {reader:?} reads")));
        }
        let writer = std::mem::replace(&mut self.args[arg].stored[place], own);
        match self.coordinates(writer, point.len()) {
            Some(writer) => Err(Diag::new(format!("points {writer:?} and {point:?} store at one place"))),
            None => Ok(()),
        }
    }

    /// The number of a point, which is the latest one or a new one.
    fn number(&mut self, point: &[i64]) -> Mark {
        if self.points.is_empty() || !self.points.ends_with(point) {
            self.points.extend_from_slice(point);
        }
        // A kernel without axes has one point.
        let count = self.points.len() / point.len().max(1);
        Mark::try_from(count.saturating_sub(1)).unwrap_or(SEVERAL - 1)
    }

    fn coordinates(&self, mark: Mark, rank: usize) -> Option<&[i64]> {
        let marked = mark != NO_POINT && mark != SEVERAL;
        marked.then(|| &self.points[mark as usize * rank..][..rank])
    }

    /// The point that left a mark, if it cannot be this one.
    fn other(&self, mark: Mark, point: &[i64]) -> Option<&[i64]> {
        self.coordinates(mark, point.len()).filter(|other| !may_be_one(other, point))
    }
}

impl Watched {
    fn new(view: &View) -> Self {
        let Some((first, end)) = view.range() else { return Self::default() };
        let elements = usize::try_from((end - first) / element_size(view.dtype)).unwrap_or(0);
        let marks = |wanted: bool| vec![NO_POINT; if wanted { elements } else { 0 }];
        Self { first, read: marks(view.mode == Mode::Update), stored: marks(view.mode != Mode::Read) }
    }

    /// Which element a byte of the region is.
    fn place(&self, view: &View, at: usize) -> usize {
        let bytes = i64::try_from(at).expect("memory is smaller than 2^63 bytes") - self.first;
        usize::try_from(bytes / element_size(view.dtype)).expect("an argument's elements are not before its first")
    }
}

/// Whether two points agree in every axis that both stages visit.
fn may_be_one(x: &[i64], y: &[i64]) -> bool {
    x.iter().zip(y).all(|(x, y)| x == y || *x == UNVISITED || *y == UNVISITED)
}
