//! The memory of a run: one region for the whole arena, one for every input, output, slot and constant.
//!
//! A buffer is a range of bytes of a region, so that buffers which a plan lets share bytes do share them. Every byte knows
//! who wrote it last: a buffer, or the world outside. Reading what nobody wrote, or what another buffer wrote since, is a fault
//! of the plan or of a kernel, and is found here when the run is strict.

use graver_ir::kernel::{Buffer, Entry, Place};
use graver_ir::{Array, DType, Diag, Dim, Sizes, bf16, f16};

use super::expr::{size_of, sizes_of};
use crate::scalar::Num;

/// What bytes hold before anything is written: no number that a program would give by chance.
const POISON: u8 = 0xA5;

/// The arrays that a run gets from outside.
pub(super) struct Given<'a> {
    pub(super) consts: &'a [Array],
    pub(super) inputs: &'a [&'a Array],
    pub(super) state: &'a [&'a Array],
}

/// The bytes of one run.
pub(super) struct Memory {
    regions: Vec<Region>,
    buffers: Vec<Placed>,
}

struct Region {
    what: Place,
    bytes: Vec<u8>,
    writers: Vec<Writer>,
}

/// Who wrote a byte last: nobody, the world outside, or a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Writer(u32);

impl Writer {
    const NOBODY: Self = Self(0);
    const OUTSIDE: Self = Self(1);

    fn buffer(buffer: usize) -> Self {
        Self(u32::try_from(buffer + 2).expect("an entry has fewer than 2^32 - 2 buffers"))
    }
}

/// Where a buffer lies.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// Which region.
    pub(super) region: usize,
    /// The first byte.
    pub(super) start: usize,
    /// How many bytes.
    pub(super) len: usize,
    /// The element type.
    pub(super) dtype: DType,
    shape: Vec<i64>,
}

impl Memory {
    /// The memory of an entry before its first step.
    pub(super) fn new(given: &Given<'_>, entry: &Entry, sizes: &Sizes) -> Result<Self, Diag> {
        let arena = bytes_of(size_of(&entry.arena, sizes)?)?;
        let mut memory = Self { regions: vec![Region::fresh(Place::Arena(Dim::ZERO), arena)], buffers: Vec::new() };
        for (id, buffer) in entry.buffers.iter().enumerate() {
            let placed = memory.place_buffer(given, buffer, sizes).map_err(|diag| diag.at(&buffer.loc))?;
            let end = memory.regions[placed.region].bytes.len();
            if placed.start + placed.len > end || placed.start % buffer.dtype.size() != 0 {
                let (len, start) = (placed.len, placed.start);
                return Err(Diag::new(format!(
                    "buffer {id} of {len} bytes at {start} does not fit the {end} bytes of {}",
                    name(&buffer.place)
                ))
                .at(&buffer.loc));
            }
            memory.buffers.push(placed);
        }
        Ok(memory)
    }

    fn place_buffer(&mut self, given: &Given<'_>, buffer: &Buffer, sizes: &Sizes) -> Result<Placed, Diag> {
        let shape = sizes_of(&buffer.shape, sizes)?;
        if let Some(size) = shape.iter().find(|size| **size < 0) {
            return Err(Diag::new(format!("a size is {size} for these inputs: {:?}", buffer.shape)));
        }
        let numel = shape.iter().try_fold(1i64, |product, size| product.checked_mul(*size)).unwrap_or(-1);
        let len = bytes_of(numel)?.saturating_mul(buffer.dtype.size());
        let place = &buffer.place;
        let (region, start) = match place {
            Place::Arena(offset) => (0, bytes_of(size_of(offset, sizes)?)?),
            Place::Input(input) => (self.outside(place, given.inputs.get(*input).copied()), 0),
            Place::State(slot) => (self.outside(place, given.state.get(slot.0 as usize).copied()), 0),
            Place::Const(constant) => (self.outside(place, given.consts.get(*constant)), 0),
            Place::Output(_) => (self.find(place).unwrap_or_else(|| self.push(Region::fresh(place.clone(), len))), 0),
            // Before planning every buffer lies alone.
            Place::Unplaced => (self.push(Region::fresh(Place::Unplaced, len)), 0),
        };
        Ok(Placed { region, start, len, dtype: buffer.dtype, shape })
    }

    /// The region of an array from outside.
    fn outside(&mut self, place: &Place, array: Option<&Array>) -> usize {
        let bytes = array.map_or(&[][..], Array::bytes);
        self.find(place).unwrap_or_else(|| {
            let writers = vec![Writer::OUTSIDE; bytes.len()];
            self.push(Region { what: place.clone(), bytes: bytes.to_vec(), writers })
        })
    }

    fn find(&self, place: &Place) -> Option<usize> {
        self.regions.iter().position(|region| region.what == *place)
    }

    fn push(&mut self, region: Region) -> usize {
        self.regions.push(region);
        self.regions.len() - 1
    }

    /// Where a buffer lies.
    pub(super) fn placed(&self, buffer: usize) -> &Placed {
        self.buffers.get(buffer).expect("K4: a view names a buffer of its entry")
    }

    fn place(&self, region: usize) -> &Place {
        &self.regions[region].what
    }

    /// Whether a region is a slot of the state.
    pub(super) fn is_state(&self, region: usize) -> bool {
        matches!(self.place(region), Place::State(_))
    }

    /// The element at a byte of a region.
    pub(super) fn load(&self, region: usize, at: usize, dtype: DType) -> Num {
        decode(dtype, &self.regions[region].bytes[at..])
    }

    /// Writes an element at a byte of a region, as `buffer`.
    pub(super) fn store(&mut self, region: usize, at: usize, dtype: DType, value: Num, buffer: usize) {
        let (region, len) = (&mut self.regions[region], dtype.size());
        region.bytes[at..at + len].copy_from_slice(&encode(dtype, value)[..len]);
        region.writers[at..at + len].fill(Writer::buffer(buffer));
    }

    /// Whether bytes hold what was written through `buffer`, or what came from outside.
    pub(super) fn check_written(&self, region: usize, at: usize, len: usize, buffer: usize) -> Result<(), Diag> {
        let ours = |writer: &&Writer| **writer == Writer::OUTSIDE || **writer == Writer::buffer(buffer);
        let Some(other) = self.regions[region].writers[at..at + len].iter().find(|writer| !ours(writer)) else { return Ok(()) };
        let what = match other.0.checked_sub(2) {
            None => "before it is written".to_owned(),
            Some(other) => format!("after buffer {other} overwrote it"),
        };
        Err(Diag::new(format!("buffer {buffer} is read {what}, at byte {at} of {}", name(self.place(region)))))
    }

    /// Two buffers of one type exchange their memory; what `next` holds afterwards is nobody's.
    pub(super) fn exchange(&mut self, now: usize, next: usize) {
        self.buffers.swap(now, next);
        for (buffer, from, to) in [(next, now, Writer::NOBODY), (now, next, Writer::buffer(now))] {
            let placed = self.buffers[buffer].clone();
            let writers = &mut self.regions[placed.region].writers[placed.start..placed.start + placed.len];
            writers.iter_mut().filter(|writer| **writer == Writer::buffer(from)).for_each(|writer| *writer = to);
        }
    }

    /// A buffer as an array.
    pub(super) fn array(&self, buffer: usize) -> Result<Array, Diag> {
        let placed = self.placed(buffer);
        let shape: Option<Vec<usize>> = placed.shape.iter().map(|size| usize::try_from(*size).ok()).collect();
        let bytes = &self.regions[placed.region].bytes[placed.start..placed.start + placed.len];
        Array::from_bytes(placed.dtype, shape.expect("sizes were checked when memory was made"), bytes)
    }

    /// A buffer as an array, whoever wrote what is in it.
    pub(super) fn snapshot(&self, buffer: usize) -> Result<Array, Diag> {
        let placed = self.placed(buffer);
        if placed.dtype != DType::Bool {
            return self.array(buffer);
        }
        let shape: Vec<usize> = placed.shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
        let bytes = &self.regions[placed.region].bytes[placed.start..placed.start + placed.len];
        Array::from_bytes(placed.dtype, shape, &bytes.iter().map(|byte| u8::from(*byte != 0)).collect::<Vec<u8>>())
    }

    /// The bytes of a slot of the state, if it was written.
    pub(super) fn updated(&self, place: &Place) -> Option<&[u8]> {
        let region = &self.regions[self.find(place)?];
        region.writers.iter().any(|writer| *writer != Writer::OUTSIDE).then_some(&region.bytes)
    }
}

impl Region {
    fn fresh(what: Place, len: usize) -> Self {
        Self { what, bytes: vec![POISON; len], writers: vec![Writer::NOBODY; len] }
    }
}

fn name(place: &Place) -> String {
    match place {
        Place::Input(position) => format!("input {position}"),
        Place::Output(position) => format!("output {position}"),
        Place::State(slot) => format!("state {}", slot.0),
        Place::Const(position) => format!("constant {position}"),
        Place::Arena(_) => "the arena".to_owned(),
        Place::Unplaced => "memory of its own".to_owned(),
    }
}

fn bytes_of(size: i64) -> Result<usize, Diag> {
    usize::try_from(size).map_err(|_| Diag::new("a buffer's size is negative or overflows"))
}

/// The element that bytes hold.
pub(crate) fn decode(dtype: DType, bytes: &[u8]) -> Num {
    match dtype {
        DType::F64 => Num::Float(f64::from_le_bytes(first(bytes))),
        DType::F32 => Num::Float(f64::from(f32::from_le_bytes(first(bytes)))),
        DType::F16 => Num::Float(f16::from_le_bytes(first(bytes)).to_f64()),
        DType::BF16 => Num::Float(bf16::from_le_bytes(first(bytes)).to_f64()),
        DType::I64 => Num::Int(i64::from_le_bytes(first(bytes))),
        DType::I32 => Num::Int(i64::from(i32::from_le_bytes(first(bytes)))),
        DType::I16 => Num::Int(i64::from(i16::from_le_bytes(first(bytes)))),
        DType::I8 => Num::Int(i64::from(i8::from_le_bytes(first(bytes)))),
        DType::U64 => Num::Int(i64::from_le_bytes(first(bytes))),
        DType::U32 => Num::Int(i64::from(u32::from_le_bytes(first(bytes)))),
        DType::U16 => Num::Int(i64::from(u16::from_le_bytes(first(bytes)))),
        DType::U8 => Num::Int(i64::from(bytes[0])),
        DType::Bool => Num::Int(i64::from(bytes[0] != 0)),
    }
}

/// The bytes of an element, the rest zero.
pub(crate) fn encode(dtype: DType, value: Num) -> [u8; 8] {
    let mut bytes = [0; 8];
    let mut put = |of: &[u8]| bytes[..of.len()].copy_from_slice(of);
    match dtype {
        DType::F64 => put(&value.float().to_le_bytes()),
        DType::F32 => put(&(value.float() as f32).to_le_bytes()),
        DType::F16 => put(&f16::from_f32(value.float() as f32).to_le_bytes()),
        DType::BF16 => put(&bf16::from_f32(value.float() as f32).to_le_bytes()),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => {
            put(&value.int().to_le_bytes()[..dtype.size()])
        }
    }
    bytes
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().expect("a slice of N bytes is an array of N bytes")
}
