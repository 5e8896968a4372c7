//! Kernels to CUDA C++. The text knows nothing of CUDA but the names in `text/device.cuh`, so that `text/shim.h` can stand in
//! for them. A kernel takes pointers, the sizes of its symbols, memory to work in, the status word, and the launch's number.
//! Results do not depend on the number of blocks, nor on the order in which threads run.

mod body;
mod contract;
mod cx;
mod index;
mod narrow;
mod nest;
mod reduce;
mod scatter;
mod sort;
mod tensor;
mod vector;

use graver_ir::kernel::{Kernel, KernelBody, Mode};
use graver_ir::{DType, Dim, Symbol};

use cx::Cx;
pub(crate) use cx::stored;

/// Threads of a block, where nothing asks for another number.
const THREADS: i64 = 256;

/// A kernel as text, and what launching it takes.
#[derive(Clone, Debug)]
pub(crate) struct Emitted {
    /// The function's name; different for different texts.
    pub(crate) name: String,
    /// The function.
    pub(crate) text: String,
    /// Its pointers, in order.
    pub(crate) args: Vec<(DType, Mode)>,
    /// The sizes that follow them.
    pub(crate) symbols: Vec<Symbol>,
    /// Threads of a block.
    pub(crate) threads: u32,
    /// How many blocks there is work for. Fewer do it as well.
    pub(crate) blocks: Dim,
    /// Bytes of global memory that each block works in.
    pub(crate) scratch: Dim,
    /// Whether threads of a block wait for one another.
    pub(crate) barriers: bool,
}

/// The kernel's text.
pub(crate) fn emit(kernel: &Kernel) -> Emitted {
    let cx = Cx::new(kernel);
    match &kernel.body {
        KernelBody::Nest(nest) => nest::emit(cx, nest),
        KernelBody::Contract(contract) => contract::emit(cx, contract),
        KernelBody::Scatter(scatter) => scatter::emit(cx, scatter),
        KernelBody::Sort(sort) => sort::emit(cx, sort),
        KernelBody::Attend(attend) => nest::emit(cx, &attend.as_nest()),
    }
}

/// The function around the text so far.
fn finish(mut cx: Cx<'_>, threads: i64, blocks: Dim) -> Emitted {
    let scratch = cx.scratch.clone();
    let mine = (!scratch.is(0)).then(|| cx.dim(&scratch));
    let symbols = cx.symbols();
    let args = cx.kernel.args.iter().enumerate().map(|(position, arg)| cx::parameter(position, arg));
    let sizes = symbols.iter().map(|symbol| format!("i64 {}", cx::symbol_name(symbol)));
    let fixed = ["GR_OUT(u8) scratch", "GR_STATUS status", "u32 launch"].map(str::to_owned);
    let parameters = args.chain(sizes).chain(fixed).collect::<Vec<_>>().join(", ");
    let mut head = format!("    typedef {} idx;\n", if narrow::fits(cx.kernel) { "i32" } else { "i64" });
    // What follows a failure may not write, but what can fail itself runs on: which failure is told must not depend on time.
    if !cx.checks {
        head += "    if (gr_failed(status)) return;\n";
    }
    if cx.shared > 0 {
        head += &format!("    GR_SHARED(shared, {});\n", cx.shared);
    }
    if let Some(mine) = mine {
        head += &format!("    const i64 mine = gr_block() * {mine};\n");
    }
    let rest = format!("({parameters}) {{\n{head}{}}}\n", cx.text());
    let name = format!("{}_{:016x}", identifier(&cx.kernel.name), hash(&format!("{threads} {rest}")));
    Emitted {
        text: format!("GR_KERNEL({name}, {threads}){rest}"),
        name,
        args: cx.kernel.args.iter().map(|arg| (arg.dtype, arg.mode)).collect(),
        symbols,
        threads: u32::try_from(threads).expect("few threads"),
        blocks,
        scratch,
        barriers: cx.barriers,
    }
}

/// The letters and digits of a name, up to forty.
fn identifier(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let word: String = name.chars().map(plain).take(40).collect();
    format!("k_{word}")
}

/// FNV-1a, 64 bits: the same for every build of this crate.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
