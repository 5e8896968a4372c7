//! Sizes become numbers: what any backend works out of an entry for one set of input shapes, and checks before a call.

use graver_ir::kernel::{Buffer, BufferId, Entry, Mode, Place, Program, Step, launches};
use graver_ir::{Array, DType, Diag, Dim, Error, Shape, Sizes, StateDecl, Type};

use crate::{Slot, evaluated};

/// An entry for one set of input shapes.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Which entry.
    pub entry: usize,
    /// The values of its symbols.
    pub sizes: Sizes,
    /// Bytes of the arena.
    pub arena: usize,
    /// Bytes of every buffer, in order.
    pub lengths: Vec<usize>,
    /// Where a buffer lies in the arena, in bytes; 0 for those elsewhere.
    pub offsets: Vec<usize>,
    /// The results' types.
    pub outputs: Vec<(DType, Vec<usize>)>,
    /// The slots of the state that some launch writes, ascending.
    pub written: Vec<usize>,
    /// The input shapes that it is for.
    shapes: Vec<Vec<usize>>,
}

impl Binding {
    /// Works it out; the inputs are checked against the entry's.
    ///
    /// # Errors
    /// There is no such entry, inputs do not fit, or a size leaves what the machine can address.
    pub fn new(program: &Program, entry: usize, inputs: &[&Array]) -> Result<Self, Error> {
        let number = entry;
        let Some(entry) = program.entries.get(number) else {
            return Err(Error::new(format!("the program has {} entries, not number {number}", program.entries.len())));
        };
        let sizes = sizes(entry, inputs)?;
        let offset = |buffer: &Buffer| match &buffer.place {
            // Of an empty buffer elements may be read that do not exist: where the arena begins, there is something to read.
            Place::Arena(_) if evaluated(&buffer.bytes(), &sizes)? == 0 => Ok(0),
            Place::Arena(offset) => evaluated(offset, &sizes),
            Place::Input(_) | Place::Output(_) | Place::State(_) | Place::Const(_) => Ok(0),
            Place::Unplaced => Err(Error::new("the program was not planned: a buffer has no place")),
        };
        let output = |id: &BufferId| {
            let buffer = entry.buffer(*id);
            let shape = buffer.shape.iter().map(|dim| evaluated(dim, &sizes)).collect::<Result<Vec<usize>, Error>>()?;
            Ok((buffer.dtype, shape))
        };
        Ok(Self {
            entry: number,
            arena: evaluated(&entry.arena, &sizes)?,
            lengths: entry.buffers.iter().map(|buffer| evaluated(&buffer.bytes(), &sizes)).collect::<Result<_, _>>()?,
            offsets: entry.buffers.iter().map(offset).collect::<Result<_, _>>()?,
            outputs: entry.outputs.iter().map(output).collect::<Result<_, Error>>()?,
            written: written_state(program, entry, &entry.steps),
            shapes: inputs.iter().map(|input| input.shape().to_vec()).collect(),
            sizes,
        })
    }

    /// Whether it is for these inputs.
    #[must_use]
    pub fn fits(&self, program: &Program, entry: usize, inputs: &[&Array]) -> bool {
        let typed = |entry: &Entry| {
            let declared = entry.inputs.iter().map(|(buffer, _)| entry.buffer(*buffer).dtype);
            declared.eq(inputs.iter().map(|input| input.dtype()))
        };
        self.entry == entry
            && program.entries.get(entry).is_some_and(typed)
            && self.shapes.iter().map(Vec::as_slice).eq(inputs.iter().map(|input| input.shape()))
    }

    /// Whether some launch writes a slot of the state.
    #[must_use]
    pub fn writes(&self, slot: usize) -> bool {
        self.written.binary_search(&slot).is_ok()
    }

    /// The value of a dim.
    ///
    /// # Errors
    /// It is negative or overflows.
    pub fn size(&self, dim: &Dim) -> Result<usize, Error> {
        evaluated(dim, &self.sizes)
    }

    /// Whether every slot of the state is of its type, and lent for writing where the entry writes it.
    ///
    /// # Errors
    /// What does not fit, everything at once.
    pub fn check_state(&self, program: &Program, state: &[Slot<'_>]) -> Result<(), Error> {
        if state.len() != program.state.len() {
            return Err(Error::new(format!("takes {} slots of state, got {}", program.state.len(), state.len())));
        }
        let mismatch = |(declared, slot): (&StateDecl, &Slot<'_>)| {
            let array = slot.array();
            let sizes = declared.ty.shape.0.iter().map(|dim| dim.as_const().and_then(|size| usize::try_from(size).ok()));
            let fits = array.dtype() == declared.ty.dtype && sizes.eq(array.shape().iter().copied().map(Some));
            (!fits).then(|| Diag::new(format!("`{}` must be {}, got {}", declared.path, declared.ty, array.ty())))
        };
        let mut diags: Vec<Diag> = program.state.iter().zip(state).filter_map(mismatch).collect();
        for written in &self.written {
            if matches!(state[*written], Slot::Read(_)) {
                let path = &program.state[*written].path;
                diags.push(Diag::new(format!("`{path}` is written by this call, but lent for reading")));
            }
        }
        Error::from_diags(diags).map_or(Ok(()), Err)
    }
}

/// The values of symbols from the inputs, which are checked.
fn sizes(entry: &Entry, inputs: &[&Array]) -> Result<Sizes, Error> {
    let ty = |buffer: &Buffer| Type::new(buffer.dtype, Shape(buffer.shape.clone()));
    let types: Vec<Type> = entry.inputs.iter().map(|(buffer, _)| ty(entry.buffer(*buffer))).collect();
    let params: Vec<(&str, &Type)> = entry.inputs.iter().map(|(_, name)| name.as_str()).zip(&types).collect();
    graver_ir::bind(&params, inputs)
}

/// The slots that some launch of these steps of an entry writes, ascending.
#[must_use]
pub fn written_state(program: &Program, entry: &Entry, steps: &[Step]) -> Vec<usize> {
    let mut written = Vec::new();
    for launch in launches(steps) {
        for (arg, view) in program.kernel(launch.kernel).args.iter().zip(&launch.args) {
            match entry.buffer(view.buffer).place {
                Place::State(slot) if writes(arg.mode) => written.push(slot.0 as usize),
                Place::State(_) | Place::Input(_) | Place::Output(_) | Place::Const(_) | Place::Arena(_) | Place::Unplaced => {}
            }
        }
    }
    written.sort_unstable();
    written.dedup();
    written
}

/// Whether a launch may write an argument.
#[must_use]
pub const fn writes(mode: Mode) -> bool {
    match mode {
        Mode::Read => false,
        Mode::Write | Mode::Update => true,
    }
}
