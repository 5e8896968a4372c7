//! Kernels to CUDA C++. The text knows nothing of CUDA but the names in `text/device.cuh`, so that `text/shim.h` can stand in
//! for them. A kernel takes pointers, the sizes of its symbols, memory to work in, the status word, and the launch's number.
//! Results do not depend on the number of blocks, nor on the order in which threads run.

mod attend;
mod attend_piece;
mod attend_tensor;
mod body;
mod contract;
mod cut;
mod cx;
mod index;
mod narrow;
mod nest;
mod prefix;
mod reduce;
mod rows;
mod scatter;
mod sort;
mod split;
mod tensor;
mod transpose;
mod vector;

use std::collections::BTreeSet;

use graver_ir::kernel::{Kernel, KernelBody, Mode};
use graver_ir::{DType, Dim, Error, Sizes, Symbol};
use graver_runtime::evaluated;

use crate::text::device_prelude;
use cx::Cx;
pub(crate) use cx::stored;

/// Threads of a block, where nothing asks for another number.
const THREADS: i64 = 256;

/// A kernel as text, and what launching it takes.
#[derive(Clone, Debug)]
pub(crate) struct Emitted {
    /// The kernel's name; different for different texts.
    pub(crate) name: String,
    /// The functions.
    pub(crate) text: String,
    /// Their pointers, in order.
    pub(crate) args: Vec<(DType, Mode)>,
    /// The sizes that follow them.
    pub(crate) symbols: Vec<Symbol>,
    /// One after the other; every one sees what those before it wrote.
    pub(crate) phases: Vec<Phase>,
    /// Bytes of global memory that all phases share: where each block's own begins.
    pub(crate) shared: Dim,
}

/// A function of a kernel, with the parameters that all have.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    pub(crate) name: String,
    /// Of a block.
    pub(crate) threads: u32,
    /// How many blocks there is work for. Fewer do it as well.
    pub(crate) blocks: Dim,
    /// Bytes of shared memory that each block has.
    pub(crate) shared: usize,
    /// Bytes of it that each block makes use of besides, if it is given any.
    pub(crate) dynamic: Dim,
    /// Bytes of global memory that each block works in.
    pub(crate) scratch: Dim,
    /// Whether threads of a block wait for one another.
    pub(crate) barriers: bool,
}

/// What a launch of a phase asks of a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) blocks: usize,
    /// Bytes of shared memory of a block, besides what its text declares.
    pub(crate) dynamic: usize,
}

impl Phase {
    /// Bytes of shared memory that a block can be given besides what it has, of so many that there are for one.
    pub(crate) fn granted(&self, most: usize) -> usize {
        most.saturating_sub(self.shared.next_multiple_of(16))
    }
}

impl Emitted {
    /// The grid of every phase where a block has `shared` bytes of shared memory at most, and a machine has `most` blocks (in memory of
    /// their own or not), and the bytes that a launch works in.
    pub(crate) fn spread(&self, sizes: &Sizes, shared: usize, most: impl Fn(bool) -> usize) -> Result<(Vec<Grid>, usize), Error> {
        let (mut grids, mut scratch) = (Vec::with_capacity(self.phases.len()), 0usize);
        for phase in &self.phases {
            let each = evaluated(&phase.scratch, sizes)?;
            let blocks = evaluated(&phase.blocks, sizes)?.min(most(each > 0));
            scratch = scratch.max(blocks.saturating_mul(each));
            grids.push(Grid { blocks, dynamic: evaluated(&phase.dynamic, sizes)?.min(phase.granted(shared)) });
        }
        Ok((grids, scratch.saturating_add(evaluated(&self.shared.round_up(16), sizes)?)))
    }
}

/// The kernels of different texts, in order: one text may be several kernels', which differ in what no text tells, as the size of an argument of which
/// a part is read, and is compiled once.
pub(crate) fn distinct<'a>(kernels: impl IntoIterator<Item = &'a Emitted>) -> Vec<&'a Emitted> {
    let mut known = BTreeSet::new();
    kernels.into_iter().filter(|kernel| known.insert(kernel.name.as_str())).collect()
}

/// What is compiled at once for kernels of different texts.
pub(crate) fn unit(kernels: &[&Emitted]) -> String {
    device_prelude() + &kernels.iter().map(|kernel| kernel.text.as_str()).collect::<String>()
}

/// The kernel's text.
pub(crate) fn emit(kernel: &Kernel) -> Emitted {
    let cx = Cx::new(kernel);
    match &kernel.body {
        KernelBody::Nest(nest) => nest::emit(cx, nest),
        KernelBody::Contract(contract) => contract::emit(cx, contract),
        KernelBody::Scatter(scatter) => scatter::emit(cx, scatter),
        KernelBody::Sort(sort) => sort::emit(cx, sort),
        KernelBody::Prefix(prefix) => prefix::emit(cx, prefix),
        KernelBody::Attend(attend) => attend::emit(cx, attend),
    }
}

/// The text of a phase so far, in which blocks of so many threads share the work.
struct Part<'a> {
    cx: Cx<'a>,
    threads: i64,
    blocks: Dim,
}

/// A kernel of one phase.
fn finish(cx: Cx<'_>, threads: i64, blocks: Dim) -> Emitted {
    finish_all(vec![Part { cx, threads, blocks }], &Dim::ZERO)
}

/// The functions around the phases' texts, which share so many bytes of memory.
fn finish_all(mut parts: Vec<Part<'_>>, shared: &Dim) -> Emitted {
    let kernel = parts.first().expect("a kernel has a phase").cx.kernel;
    let heads: Vec<String> = parts.iter_mut().map(|part| head(&mut part.cx, shared)).collect();
    let mut symbols: Vec<Symbol> = parts.iter().flat_map(|part| part.cx.symbols()).collect();
    symbols.sort();
    symbols.dedup();
    // Where threads wait for one another they may do so for what is in memory.
    let written = if parts.iter().any(|part| part.cx.barriers) { "GR_EXCHANGE" } else { "GR_OUT" };
    let args = kernel.args.iter().enumerate().map(|(position, arg)| cx::parameter(position, arg, written));
    let sizes = symbols.iter().map(|symbol| format!("i64 {}", cx::symbol_name(symbol)));
    let fixed = [format!("{written}(u8) scratch"), "GR_STATUS status".to_owned(), "u32 launch".to_owned()];
    let parameters = args.chain(sizes).chain(fixed).collect::<Vec<_>>().join(", ");
    let rests = parts.iter().zip(heads);
    let rests: Vec<String> = rests.map(|(part, head)| format!("({parameters}) {{\n{head}{}}}\n", part.cx.text())).collect();
    let threads = parts.iter().map(|part| part.threads.to_string()).collect::<Vec<_>>().join(" ");
    let name = format!("{}_{:016x}", identifier(&kernel.name), hash(&format!("{threads} {}", rests.join(" "))));
    let alone = parts.len() == 1;
    let phase = |(number, part): (usize, Part<'_>)| Phase {
        name: if alone { name.clone() } else { format!("{name}_{number}") },
        threads: u32::try_from(part.threads).expect("few threads"),
        blocks: part.blocks,
        shared: part.cx.shared,
        dynamic: part.cx.dynamic,
        scratch: part.cx.scratch,
        barriers: part.cx.barriers,
    };
    let phases: Vec<Phase> = parts.into_iter().enumerate().map(phase).collect();
    let text = |(phase, rest): (&Phase, &String)| format!("GR_KERNEL({}, {}){rest}", phase.name, phase.threads);
    Emitted {
        text: phases.iter().zip(&rests).map(text).collect(),
        args: kernel.args.iter().map(|arg| (arg.dtype, arg.mode)).collect(),
        symbols,
        phases,
        shared: shared.clone(),
        name,
    }
}

/// What stands before a phase's text.
fn head(cx: &mut Cx<'_>, shared: &Dim) -> String {
    let mut head = format!("    typedef {} idx;\n", if narrow::fits(cx.kernel) { "i32" } else { "i64" });
    // What follows a failure may not write, but what can fail itself runs on: which failure is told must not depend on time.
    if !cx.checks {
        head += "    if (gr_failed(status)) return;\n";
    }
    if cx.shared > 0 {
        head += &format!("    GR_SHARED(shared, {});\n", cx.shared);
    }
    if !cx.dynamic.is(0) {
        head += "    GR_DYNAMIC(dynamic);\n";
    }
    if !cx.scratch.is(0) {
        let (own, before) = (cx.scratch.clone(), shared.round_up(16));
        let (own, before) = (cx.dim(&own), cx.dim(&before));
        head += &format!("    const i64 mine = {before} + gr_block() * {own};\n");
    }
    head
}

/// The letters and digits of a name, up to forty.
fn identifier(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let word: String = name.chars().map(plain).take(40).collect();
    format!("k_{word}")
}

/// FNV-1a, 64 bits: the same for every build of this crate.
pub(crate) fn hash(text: &str) -> u64 {
    hash_bytes(text.as_bytes())
}

/// The same of what is no text.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
