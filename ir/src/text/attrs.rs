//! The attributes of operations, named once for both directions: [`fields`] says which there are, in order, and
//! [`Codec`] writes or reads them.
//!
//! `{axis = 1, batch = 0}`; a field that has its default is not written, and a record of defaults is `{}`.

use super::lex::Token;
use super::value::{Parsed, Parser, Printer, Value};
use crate::array::Array;
use crate::dim::Dim;
use crate::dtype::{DType, Scalar};
use crate::module::FuncId;
use crate::op::{
    ArgReduce, Broadcast, Call, Conv, ConvAxis, DotAxes, DynamicSlice, Extreme, GatherAxes, If, Iota, Op, PadAxis, Perm, Philox,
    Prefix, Reduce, ReduceKind, Scan, Scatter, ScatterKind, SliceAxis, Sort, Transform, While, Window, WindowAxis, WindowPut,
};
use crate::scalar::ScalarFn;
use crate::ty::{Shape, Type};

/// A direction: fields become text, or text becomes fields.
pub(crate) enum Codec<'c, 'a> {
    /// Fields are written; `first` until one is.
    Print { out: &'c mut Printer<'a>, first: bool },
    /// Fields are read.
    Parse { input: &'c mut Parser<'a> },
}

/// A group of named fields.
pub(crate) trait Record: Sized + Clone {
    /// What reading starts from.
    fn blank() -> Self;
    /// Every field, in order.
    fn fields(&mut self, codec: &mut Codec<'_, '_>) -> Parsed<()>;
}

impl Codec<'_, '_> {
    /// A field that is always there.
    pub(crate) fn field<T: Value>(&mut self, name: &str, value: &mut T) -> Parsed<()> {
        match self {
            Self::Print { out, first } => {
                out.put(if std::mem::replace(first, false) { "" } else { ", " });
                out.put(format_args!("{name} = "));
                value.print(out);
                Ok(())
            }
            Self::Parse { input } => {
                input.word(name)?;
                input.mark('=')?;
                *value = T::parse(input)?;
                let more = input.eat(',') || input.peek() == Token::Mark('}');
                if more { Ok(()) } else { Err(input.expected("`,` or `}`")) }
            }
        }
    }

    /// A field that is there unless it has its default.
    pub(crate) fn or<T: Value + PartialEq>(&mut self, name: &str, value: &mut T, default: T) -> Parsed<()> {
        let there = match self {
            Self::Print { .. } => *value != default,
            Self::Parse { input } => input.peek() == Token::Word(name),
        };
        if there {
            return self.field(name, value);
        }
        *value = default;
        Ok(())
    }

    /// A field that may be missing.
    pub(crate) fn option<T: Value + Clone>(&mut self, name: &str, value: &mut Option<T>) -> Parsed<()> {
        match self {
            Self::Print { .. } => match value {
                Some(value) => self.field(name, value),
                None => Ok(()),
            },
            Self::Parse { input } if input.peek() == Token::Word(name) => {
                let mut found = Slot(None);
                self.field(name, &mut found)?;
                *value = found.0;
                Ok(())
            }
            Self::Parse { .. } => {
                *value = None;
                Ok(())
            }
        }
    }
}

/// A value that is yet to be read.
struct Slot<T>(Option<T>);

impl<T: Value> Value for Slot<T> {
    fn print(&self, out: &mut Printer<'_>) {
        if let Some(value) = &self.0 {
            value.print(out);
        }
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        T::parse(input).map(|value| Self(Some(value)))
    }
}

impl<T: Record> Value for T {
    fn print(&self, out: &mut Printer<'_>) {
        out.put("{");
        print_fields(self, T::fields, out);
        out.put("}");
    }

    fn parse(input: &mut Parser<'_>) -> Parsed<Self> {
        let mut record = T::blank();
        input.mark('{')?;
        record.fields(&mut Codec::Parse { input })?;
        input.mark('}')?;
        Ok(record)
    }
}

fn print_fields<T: Clone>(value: &T, fields: fn(&mut T, &mut Codec<'_, '_>) -> Parsed<()>, out: &mut Printer<'_>) {
    fields(&mut value.clone(), &mut Codec::Print { out, first: true }).expect("only reading fails");
}

/// Writes ` {..}`, or nothing for an operation without attributes.
pub(super) fn print(op: &Op, out: &mut Printer<'_>) {
    let start = out.text.len();
    out.put(" {");
    let empty = out.text.len();
    print_fields(op, fields, out);
    if out.text.len() == empty {
        out.text.truncate(start);
    } else {
        out.put("}");
    }
}

/// The operation of this name with the attributes that follow.
pub(super) fn parse(name: &str, input: &mut Parser<'_>) -> Parsed<Option<Op>> {
    let Some(mut op) = blank(name) else { return Ok(None) };
    let braces = input.eat('{');
    fields(&mut op, &mut Codec::Parse { input })?;
    if braces {
        input.mark('}')?;
    }
    Ok(Some(op))
}

/// The operation of this name, its attributes yet to be read.
fn blank(name: &str) -> Option<Op> {
    if let Ok(function) = name.parse::<ScalarFn>() {
        return Some(Op::Map(function));
    }
    BLANKS.iter().map(|blank| blank()).find(|op| op.name() == name)
}

/// One of each operation but the maps.
pub(super) const BLANKS: &[fn() -> Op] = &[
    || Op::Cast(DType::F32),
    || Op::Bitcast(DType::I32),
    || Op::Const(Array::full([], Scalar::zero(DType::F32))),
    || Op::Size(Dim::ZERO),
    || Op::Iota(Iota { dtype: DType::F32, shape: Shape::SCALAR, axis: 0 }),
    || Op::Gather(GatherAxes { axis: 0, batch: 0 }),
    || scatter(ScatterKind::Set),
    || scatter(ScatterKind::Add),
    || scatter(ScatterKind::Mul),
    || scatter(ScatterKind::Max),
    || scatter(ScatterKind::Min),
    || Op::DynamicSlice(DynamicSlice { axes: Vec::new(), sizes: Vec::new() }),
    || Op::DynamicUpdate(Vec::new()),
    || Op::Sort(Sort { axis: 0, descending: false }),
    || Op::Reshape(Shape::SCALAR),
    || Op::Permute(Perm::new(Vec::new()).expect("no axes are in order")),
    || Op::Broadcast(Broadcast { shape: Shape::SCALAR, axes: Vec::new() }),
    || Op::Slice(Vec::new()),
    || Op::Pad(Vec::new()),
    || Op::Concat(0),
    || Op::Reverse(Vec::new()),
    || Op::Reduce(Reduce { kind: ReduceKind::Sum, axes: Vec::new() }),
    || Op::ArgReduce(ArgReduce { kind: Extreme::Max, axis: 0 }),
    || Op::Prefix(Prefix { kind: ReduceKind::Sum, axis: 0, reverse: false }),
    || Op::Window(Window { kind: ReduceKind::Sum, axes: Vec::new() }),
    || Op::WindowArg(Window { kind: ReduceKind::Max, axes: Vec::new() }),
    || Op::WindowTake(Vec::new()),
    || Op::WindowPut(WindowPut { axes: Vec::new(), shape: Shape::SCALAR }),
    || Op::Dot(DotAxes::default()),
    || Op::Conv(Conv { input: vec![], kernel: vec![], output: vec![], axes: vec![], groups: 1, batch_groups: 1 }),
    || Op::Philox(Philox { shape: Shape::SCALAR, stream: 0 }),
    || Op::Param(Type::scalar(DType::F32)),
    || Op::Alias,
    || Op::StopGradient,
    || Op::Call(Call { func: FuncId(0), tag: None, vjp: None, results: Vec::new() }),
    || Op::If(If { then: FuncId(0), otherwise: FuncId(0), results: Vec::new() }),
    || Op::While(While { cond: FuncId(0), body: FuncId(0), carried: 0, most: None }),
    || {
        Op::Scan(Scan {
            body: FuncId(0),
            trip: Dim::ZERO,
            carried: 0,
            scanned: 0,
            reverse: false,
            at_once: false,
            results: Vec::new(),
        })
    },
    || Op::Transform(Transform::Vjp { outputs: 0, wrt: 0 }),
    || Op::Transform(Transform::Jvp { outputs: 0, wrt: 0 }),
];

const fn scatter(kind: ScatterKind) -> Op {
    Op::Scatter(Scatter { kind, at: GatherAxes { axis: 0, batch: 0 } })
}

/// The fields of every operation. A parameter's type and the result types of what names functions stand after the colon.
fn fields(op: &mut Op, c: &mut Codec<'_, '_>) -> Parsed<()> {
    match op {
        Op::Map(_) | Op::Param(_) | Op::Alias | Op::StopGradient => Ok(()),
        Op::Cast(dtype) | Op::Bitcast(dtype) => c.field("to", dtype),
        Op::Const(array) => c.field("value", array),
        Op::Size(dim) => c.field("of", dim),
        Op::Iota(iota) => {
            c.field("dtype", &mut iota.dtype)?;
            c.field("shape", &mut iota.shape)?;
            c.field("axis", &mut iota.axis)
        }
        Op::Gather(axes) | Op::Scatter(Scatter { kind: _, at: axes }) => {
            c.field("axis", &mut axes.axis)?;
            c.or("batch", &mut axes.batch, 0)
        }
        Op::DynamicSlice(slice) => {
            c.field("axes", &mut slice.axes)?;
            c.field("sizes", &mut slice.sizes)
        }
        Op::DynamicUpdate(axes) => c.field("axes", axes),
        Op::Sort(sort) => {
            c.field("axis", &mut sort.axis)?;
            c.or("descending", &mut sort.descending, false)
        }
        Op::Reshape(shape) => c.field("shape", shape),
        Op::Permute(perm) => c.field("axes", perm),
        Op::Broadcast(broadcast) => {
            c.field("shape", &mut broadcast.shape)?;
            c.field("axes", &mut broadcast.axes)
        }
        Op::Slice(axes) => c.field("axes", axes),
        Op::Pad(axes) => c.field("axes", axes),
        Op::Concat(axis) => c.field("axis", axis),
        Op::Reverse(axes) => c.field("axes", axes),
        Op::Reduce(reduce) => {
            c.field("kind", &mut reduce.kind)?;
            c.field("axes", &mut reduce.axes)
        }
        Op::ArgReduce(arg) => {
            c.field("kind", &mut arg.kind)?;
            c.field("axis", &mut arg.axis)
        }
        Op::Prefix(prefix) => {
            c.field("kind", &mut prefix.kind)?;
            c.field("axis", &mut prefix.axis)?;
            c.or("reverse", &mut prefix.reverse, false)
        }
        Op::Window(window) | Op::WindowArg(window) => {
            c.field("kind", &mut window.kind)?;
            c.field("axes", &mut window.axes)
        }
        Op::WindowTake(axes) => c.field("axes", axes),
        Op::WindowPut(put) => {
            c.field("axes", &mut put.axes)?;
            c.field("shape", &mut put.shape)
        }
        Op::Dot(axes) => dot(axes, c),
        Op::Conv(axes) => conv(axes, c),
        Op::Philox(philox) => {
            c.field("shape", &mut philox.shape)?;
            c.field("stream", &mut philox.stream)
        }
        Op::Call(call) => {
            c.field("func", &mut call.func)?;
            c.option("tag", &mut call.tag)?;
            c.option("vjp", &mut call.vjp)
        }
        Op::If(op) => {
            c.field("then", &mut op.then)?;
            c.field("otherwise", &mut op.otherwise)
        }
        Op::While(op) => {
            c.field("cond", &mut op.cond)?;
            c.field("body", &mut op.body)?;
            c.field("carried", &mut op.carried)?;
            c.option("most", &mut op.most)
        }
        Op::Scan(op) => scan(op, c),
        Op::Transform(Transform::Vjp { outputs, wrt } | Transform::Jvp { outputs, wrt }) => {
            c.field("outputs", outputs)?;
            c.field("wrt", wrt)
        }
    }
}

fn scan(scan: &mut Scan, c: &mut Codec<'_, '_>) -> Parsed<()> {
    c.field("body", &mut scan.body)?;
    c.field("trip", &mut scan.trip)?;
    c.field("carried", &mut scan.carried)?;
    c.or("scanned", &mut scan.scanned, 0)?;
    c.or("reverse", &mut scan.reverse, false)?;
    c.or("at_once", &mut scan.at_once, false)
}

fn dot(axes: &mut DotAxes, c: &mut Codec<'_, '_>) -> Parsed<()> {
    c.or("lhs_batch", &mut axes.lhs_batch, Vec::new())?;
    c.or("rhs_batch", &mut axes.rhs_batch, Vec::new())?;
    c.or("lhs_contract", &mut axes.lhs_contract, Vec::new())?;
    c.or("rhs_contract", &mut axes.rhs_contract, Vec::new())
}

fn conv(conv: &mut Conv, c: &mut Codec<'_, '_>) -> Parsed<()> {
    c.field("input", &mut conv.input)?;
    c.field("kernel", &mut conv.kernel)?;
    c.field("output", &mut conv.output)?;
    c.field("axes", &mut conv.axes)?;
    c.or("groups", &mut conv.groups, 1)?;
    c.or("batch_groups", &mut conv.batch_groups, 1)
}

impl Record for SliceAxis {
    fn blank() -> Self {
        Self { start: Dim::ZERO, size: Dim::ZERO, step: 1 }
    }

    fn fields(&mut self, c: &mut Codec<'_, '_>) -> Parsed<()> {
        c.or("start", &mut self.start, Dim::ZERO)?;
        c.field("size", &mut self.size)?;
        c.or("step", &mut self.step, 1)
    }
}

impl Record for PadAxis {
    fn blank() -> Self {
        Self { low: Dim::ZERO, high: Dim::ZERO, interior: 0 }
    }

    fn fields(&mut self, c: &mut Codec<'_, '_>) -> Parsed<()> {
        c.or("low", &mut self.low, Dim::ZERO)?;
        c.or("high", &mut self.high, Dim::ZERO)?;
        c.or("interior", &mut self.interior, 0)
    }
}

impl Record for WindowAxis {
    fn blank() -> Self {
        Self::IDENTITY
    }

    fn fields(&mut self, c: &mut Codec<'_, '_>) -> Parsed<()> {
        c.or("size", &mut self.size, 1)?;
        c.or("stride", &mut self.stride, 1)?;
        c.or("dilation", &mut self.dilation, 1)?;
        c.or("low", &mut self.low, Dim::ZERO)?;
        c.or("high", &mut self.high, Dim::ZERO)
    }
}

impl Record for ConvAxis {
    fn blank() -> Self {
        Self { stride: 1, low: Dim::ZERO, high: Dim::ZERO, kernel_dilation: 1, input_dilation: 1 }
    }

    fn fields(&mut self, c: &mut Codec<'_, '_>) -> Parsed<()> {
        c.or("stride", &mut self.stride, 1)?;
        c.or("low", &mut self.low, Dim::ZERO)?;
        c.or("high", &mut self.high, Dim::ZERO)?;
        c.or("kernel_dilation", &mut self.kernel_dilation, 1)?;
        c.or("input_dilation", &mut self.input_dilation, 1)
    }
}
