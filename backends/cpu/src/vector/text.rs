//! The vector IR as text, for dumps.

use std::fmt;

use super::{Block, Caches, Edge, Elem, Func, Load, Op, Pattern, Stmt, Tile, Transpose, Ty, Val, Width};

impl fmt::Display for Val {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.dtype().name())
    }
}

impl fmt::Display for Ty {
    /// `f32`, or `<f32>` for one a lane.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.width {
            Width::One => write!(f, "{}", self.elem),
            Width::Lanes => write!(f, "<{}>", self.elem),
        }
    }
}

impl fmt::Display for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "func {} {{", self.name)?;
        block(f, self, &self.body, 1)?;
        f.write_str("}\n")
    }
}

fn block(f: &mut fmt::Formatter<'_>, func: &Func, stmts: &Block, depth: usize) -> fmt::Result {
    stmts.iter().try_for_each(|stmt| statement(f, func, stmt, depth))
}

fn statement(f: &mut fmt::Formatter<'_>, func: &Func, stmt: &Stmt, depth: usize) -> fmt::Result {
    let pad = "  ".repeat(depth);
    match stmt {
        Stmt::Let(value, op) => writeln!(f, "{pad}{value}: {} = {op}", func.ty(*value)),
        Stmt::Store(store) => {
            let past = if store.caches == Caches::Passed { " past caches" } else { "" };
            write!(f, "{pad}store {}{}{past} at {}, {}", store.dtype, store.pattern, store.ptr, store.value)?;
            match store.between {
                Some(between) => writeln!(f, " and {between} in turn"),
                None => writeln!(f),
            }
        }
        Stmt::Trap { ok, trap } => writeln!(f, "{pad}trap {trap} unless {ok}"),
        Stmt::Prefetch(ptr) => writeln!(f, "{pad}prefetch {ptr}"),
        Stmt::Transpose(Transpose { from, from_stride, to, to_stride, rows, columns }) => {
            writeln!(f, "{pad}transpose {rows} rows of {columns} at {from} by {from_stride} to {to} by {to_stride}")
        }
        Stmt::Tile(tile) => writeln!(f, "{pad}{tile}"),
        Stmt::If { cond, then } => {
            writeln!(f, "{pad}if {cond} {{")?;
            block(f, func, then, depth + 1)?;
            writeln!(f, "{pad}}}")
        }
        Stmt::Loop(inner) => {
            write!(f, "{pad}loop {} in {}..{} step {}", inner.var, inner.begin, inner.end, inner.step)?;
            for carried in &inner.carried {
                write!(f, ", {} = {} then {} gives {}", carried.param, carried.init, carried.next, carried.result)?;
            }
            writeln!(f, " {{")?;
            block(f, func, &inner.body, depth + 1)?;
            writeln!(f, "{pad}}}")
        }
        Stmt::Sweep(sweep) => {
            write!(f, "{pad}sweep {} in {}..{} by {}", sweep.var, sweep.begin, sweep.end, sweep.unroll)?;
            for fold in &sweep.reductions {
                write!(f, ", {:?}({}", fold.combine, fold.value)?;
                fold.position.map_or(Ok(()), |position| write!(f, " at {position}"))?;
                write!(f, ") gives {}", fold.result)?;
                fold.result_position.map_or(Ok(()), |position| write!(f, " at {position}"))?;
            }
            writeln!(f, " {{")?;
            block(f, func, &sweep.body, depth + 1)?;
            writeln!(f, "{pad}}}")
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => Ok(()),
            Self::Contiguous => f.write_str(" contiguous"),
            Self::Strided(stride) => write!(f, " strided {stride}"),
            Self::Scattered(offsets) => write!(f, " scattered {offsets}"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Const(known) => match known.elem {
                Elem::F64 => write!(f, "{:?}", f64::from_bits(known.bits)),
                #[expect(clippy::cast_possible_truncation, reason = "the bits of a 32-bit float")]
                Elem::F32 => write!(f, "{:?}", f32::from_bits(known.bits as u32)),
                Elem::I64 => write!(f, "{}", known.bits.cast_signed()),
                #[expect(clippy::cast_possible_truncation, reason = "the bits of a 32-bit integer")]
                Elem::I32 => write!(f, "{}", (known.bits as u32).cast_signed()),
                Elem::U32 | Elem::U8 => write!(f, "{}", known.bits),
                Elem::Bool => write!(f, "{}", known.bits != 0),
            },
            Self::Arg(arg) => write!(f, "arg {arg}"),
            Self::Dim(dim) => write!(f, "dim {dim}"),
            Self::Begin => f.write_str("begin"),
            Self::End => f.write_str("end"),
            Self::Scratch => f.write_str("scratch"),
            Self::Splat(x) => write!(f, "splat {x}"),
            Self::Iota => f.write_str("iota"),
            Self::Unary(op, x) => write!(f, "{op:?} {x}"),
            Self::Binary(op, x, y) => write!(f, "{op:?} {x}, {y}"),
            Self::Shift(shift, x, amount) => write!(f, "Shift{shift:?} {x}, {amount}"),
            Self::Fma(x, y, z) => write!(f, "Fma {x}, {y}, {z}"),
            Self::Dot(pairs, x, y, z) => write!(f, "dot {pairs:?} {x}, {y}, {z}"),
            Self::Compare(compare, x, y) => write!(f, "{compare:?} {x}, {y}"),
            Self::Select(mask, x, y) => write!(f, "select {mask}, {x}, {y}"),
            Self::Cast(x, elem) => write!(f, "cast {x} to {elem}"),
            Self::Bitcast(x, elem) => write!(f, "bitcast {x} to {elem}"),
            Self::Round(x, dtype) => write!(f, "round {x} to {dtype}"),
            Self::Slide(x, fill, by) => write!(f, "slide {x} by {by} from {fill}"),
            Self::Edge(x, edge) => write!(f, "{} lane of {x}", if *edge == Edge::First { "first" } else { "last" }),
            Self::LookUp(x, table) => write!(f, "look up {x} of {}..{}", f32::from_bits(table[0]), f32::from_bits(table[31])),
            Self::Load(load) => write!(f, "{load}"),
            Self::Call(helper, args) => {
                write!(f, "call {helper:?}")?;
                args.iter().try_for_each(|arg| write!(f, " {arg}"))
            }
            Self::Patch { mask, value, helper, arg } => write!(f, "patch {value} by {helper:?} {arg} where {mask}"),
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configure => f.write_str("tiles configured"),
            Self::Release => f.write_str("tiles released"),
            Self::Zero(tile) => write!(f, "tile {tile} = 0"),
            Self::Load { tile, ptr, stride } => write!(f, "tile {tile} = load at {ptr} by {stride}"),
            Self::Store { tile, ptr, stride } => write!(f, "store tile {tile} at {ptr} by {stride}"),
            Self::Dot { dot, sum, rows, columns } => write!(f, "tile {sum} += {dot:?} tile {rows}, tile {columns}"),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "load {}{} at {}", self.dtype, self.pattern, self.ptr)?;
        self.mask.map_or(Ok(()), |mask| write!(f, " where {mask}"))
    }
}
