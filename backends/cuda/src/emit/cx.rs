//! What emitting a kernel works with: the text so far, where each axis stands, and what the kernel asks of its launch.

use std::fmt::Write;

use graver_ir::kernel::{Arg, AxisSet, Kernel, Mode};
use graver_ir::{DType, Dim, Symbol};

/// A kernel's text under construction.
pub(super) struct Cx<'a> {
    pub(super) kernel: &'a Kernel,
    /// By axis: the variable that holds its position, if it is in a loop.
    pub(super) at: Vec<Option<String>>,
    /// Bytes of shared memory that are given out.
    pub(super) shared: usize,
    /// Where that of reductions begins, and how much it is.
    slots: (usize, usize),
    /// Bytes of shared memory beside them that a block makes use of, if it is given any.
    pub(super) dynamic: Dim,
    /// Bytes of global memory that one block works in.
    pub(super) scratch: Dim,
    /// Whether threads of a block wait for one another.
    pub(super) barriers: bool,
    /// Whether it may set the status word.
    pub(super) checks: bool,
    text: String,
    indent: usize,
    names: usize,
    symbols: Vec<Symbol>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(kernel: &'a Kernel) -> Self {
        Self {
            kernel,
            at: vec![None; AxisSet::MAX],
            shared: 0,
            slots: (0, 0),
            dynamic: Dim::ZERO,
            scratch: Dim::ZERO,
            barriers: false,
            checks: false,
            text: String::new(),
            indent: 1,
            names: 0,
            symbols: Vec::new(),
        }
    }

    pub(super) fn arg(&self, arg: usize) -> &'a Arg {
        &self.kernel.args[arg]
    }

    // ---- text

    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        let indent = self.indent * 4;
        let line = line.as_ref();
        writeln!(self.text, "{:indent$}{line}", "").expect("writing to a string");
    }

    /// A line that opens a block.
    pub(super) fn open(&mut self, head: impl AsRef<str>) {
        self.line(format!("{} {{", head.as_ref()));
        self.indent += 1;
    }

    /// A loop over `0..count` that the compiler writes out.
    pub(super) fn open_unrolled(&mut self, variable: &str, count: i64) {
        self.line("GR_UNROLL");
        self.open(format!("for (i32 {variable} = 0; {variable} < {count}; {variable}++)"));
    }

    /// The same of one line.
    pub(super) fn unrolled(&mut self, variable: &str, count: i64, line: impl AsRef<str>) {
        self.line("GR_UNROLL");
        self.line(format!("for (i32 {variable} = 0; {variable} < {count}; {variable}++) {}", line.as_ref()));
    }

    pub(super) fn close(&mut self) {
        self.indent -= 1;
        self.line("}");
    }

    /// A name that no other has. The stem is none of which a type is made: an `i` would be an `i32` one day.
    pub(super) fn fresh(&mut self, stem: &str) -> String {
        debug_assert!(!["i", "u"].contains(&stem), "{stem} and a number may be a type");
        self.names += 1;
        format!("{stem}{}", self.names)
    }

    /// A new constant of this type.
    pub(super) fn define(&mut self, ty: &str, stem: &str, value: impl AsRef<str>) -> String {
        let name = self.fresh(stem);
        self.line(format!("const {ty} {name} = {};", value.as_ref()));
        name
    }

    /// A loop over `0..size` along an axis.
    pub(super) fn open_axis(&mut self, axis: usize, size: &Dim) {
        let (name, size) = (self.fresh("a"), self.dim(size));
        self.open(format!("for (idx {name} = 0; {name} < {size}; {name}++)"));
        self.at[axis] = Some(name);
    }

    pub(super) fn close_axis(&mut self, axis: usize) {
        self.at[axis] = None;
        self.close();
    }

    /// Sets the axes to the digits of a number, row-major: the last axis turns fastest, the first takes what is left.
    pub(super) fn bind_digits(&mut self, axes: &[usize], sizes: &[Dim], number: &str) {
        let mut rest = number.to_owned();
        for axis in axes.iter().skip(1).rev() {
            let size = self.dim(&sizes[*axis]);
            let quotient = self.define("idx", "q", format!("gr_quotient<idx>({rest}, {size})"));
            let digit = self.define("idx", "a", format!("{rest} - {quotient} * {size}"));
            self.at[*axis] = Some(digit);
            rest = quotient;
        }
        if let Some(axis) = axes.first() {
            self.at[*axis] = Some(rest);
        }
    }

    pub(super) fn unbind(&mut self, axes: &[usize]) {
        axes.iter().for_each(|axis| self.at[*axis] = None);
    }

    /// Every thread of the block gets here before any goes on.
    pub(super) fn sync(&mut self) {
        self.barriers = true;
        self.line("gr_sync();");
    }

    /// Shared memory: the offset of `bytes`, aligned to 16.
    pub(super) fn take_shared(&mut self, bytes: usize) -> usize {
        let offset = self.shared.next_multiple_of(16);
        self.shared = offset + bytes;
        offset
    }

    /// Shared memory that is handed over by every reduction to the next, between barriers: the offset of `bytes`.
    pub(super) fn take_slots(&mut self, bytes: usize) -> usize {
        if self.slots.1 < bytes {
            self.slots = (self.take_shared(bytes), bytes);
        }
        self.slots.0
    }

    /// Memory of a block: the offset of `bytes`.
    pub(super) fn take_scratch(&mut self, bytes: &Dim) -> Dim {
        let offset = self.scratch.clone();
        self.scratch = (&self.scratch + bytes).round_up(16);
        offset
    }

    // ---- sizes

    /// The variable of a symbol, which becomes a parameter.
    pub(super) fn symbol(&mut self, symbol: &Symbol) -> String {
        if !self.symbols.contains(symbol) {
            self.symbols.push(symbol.clone());
        }
        symbol_name(symbol)
    }

    /// The symbols that occurred, by name.
    pub(super) fn symbols(&self) -> Vec<Symbol> {
        let mut symbols = self.symbols.clone();
        symbols.sort();
        symbols
    }

    /// The text so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// `s_` and the name, with the bytes of all but letters and digits in hexadecimal: different for different names.
pub(super) fn symbol_name(symbol: &Symbol) -> String {
    let mut name = "s_".to_owned();
    for byte in symbol.name().bytes() {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            write!(name, "_{byte:02x}").expect("writing to a string");
        }
    }
    name
}

/// The type of an element in memory.
pub(crate) const fn stored(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "double",
        DType::F32 => "float",
        DType::F16 => "gr_f16",
        DType::BF16 => "gr_bf16",
        // Only stored: kernels compute it in i64, which has its bits.
        DType::I64 | DType::U64 => "i64",
        DType::I32 => "i32",
        DType::I16 => "i16",
        DType::I8 => "i8",
        DType::U32 => "u32",
        DType::U16 => "u16",
        DType::U8 => "u8",
        DType::Bool => "gr_bool",
    }
}

/// The type of an element in registers: 16-bit floats are kept as `float`, rounded.
pub(super) const fn computed(dtype: DType) -> &'static str {
    match dtype {
        DType::F16 | DType::BF16 => "float",
        DType::Bool => "bool",
        DType::F64 | DType::F32 => stored(dtype),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => stored(dtype),
    }
}

/// A parameter's declaration; `written` declares what is written.
pub(super) fn parameter(position: usize, arg: &Arg, written: &str) -> String {
    let ty = stored(arg.dtype);
    match arg.mode {
        Mode::Read => format!("GR_IN({ty}) p{position}"),
        Mode::Write | Mode::Update => format!("{written}({ty}) p{position}"),
    }
}
