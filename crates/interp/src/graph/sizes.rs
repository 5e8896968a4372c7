//! Operations with symbols replaced by numbers.

use graver_ir::op::{Broadcast, Conv, ConvAxis, DynamicSlice, Iota, PadAxis, Philox, SliceAxis, Window, WindowAxis, WindowPut};
use graver_ir::{Diag, Dim, Op, Shape, Sizes};

/// The operation with every size a number. Calls and parameters, whose types the module knows, stay as they are.
pub(super) fn bound(op: &Op, sizes: &Sizes) -> Result<Op, Diag> {
    Ok(match op {
        Op::Size(size) => Op::Size(dim(size, sizes)?),
        Op::Iota(iota) => Op::Iota(Iota { shape: shape(&iota.shape, sizes)?, ..iota.clone() }),
        Op::Reshape(to) => Op::Reshape(shape(to, sizes)?),
        Op::Broadcast(x) => Op::Broadcast(Broadcast { shape: shape(&x.shape, sizes)?, axes: x.axes.clone() }),
        Op::Slice(axes) => Op::Slice(each(axes, |axis| slice_axis(axis, sizes))?),
        Op::DynamicSlice(slice) => {
            let sizes = each(&slice.sizes, |size| dim(size, sizes))?;
            Op::DynamicSlice(DynamicSlice { axes: slice.axes.clone(), sizes })
        }
        Op::Pad(axes) => Op::Pad(each(axes, |axis| pad_axis(axis, sizes))?),
        Op::Window(window) => Op::Window(self::window(window, sizes)?),
        Op::WindowArg(window) => Op::WindowArg(self::window(window, sizes)?),
        Op::WindowTake(axes) => Op::WindowTake(each(axes, |axis| window_axis(axis, sizes))?),
        Op::WindowPut(put) => {
            Op::WindowPut(WindowPut { axes: each(&put.axes, |axis| window_axis(axis, sizes))?, shape: shape(&put.shape, sizes)? })
        }
        Op::Conv(conv) => Op::Conv(Conv { axes: each(&conv.axes, |axis| conv_axis(axis, sizes))?, ..conv.clone() }),
        Op::Philox(philox) => Op::Philox(Philox { shape: shape(&philox.shape, sizes)?, stream: philox.stream }),
        Op::Map(_)
        | Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Const(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicUpdate(_)
        | Op::Sort(_)
        | Op::Permute(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Prefix(_)
        | Op::Dot(_)
        | Op::Param(_)
        | Op::Alias
        | Op::StopGradient
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => op.clone(),
    })
}

/// The shape with numbers for symbols.
pub(super) fn shape(shape: &Shape, sizes: &Sizes) -> Result<Shape, Diag> {
    each(shape, |size| dim(size, sizes)).map(Shape)
}

/// The sizes of a shape that [`shape`] made and type inference accepted.
pub(super) fn constant(shape: &Shape) -> Vec<usize> {
    shape.as_const().expect("inference over numbers gives numbers, none of them negative")
}

/// The value of a dim that [`bound`] made.
pub(super) fn number(dim: &Dim) -> i64 {
    dim.as_const().expect("a bound operation's sizes are numbers")
}

fn each<T>(axes: &[T], one: impl Fn(&T) -> Result<T, Diag>) -> Result<Vec<T>, Diag> {
    axes.iter().map(one).collect()
}

fn dim(dim: &Dim, sizes: &Sizes) -> Result<Dim, Diag> {
    dim.eval(sizes).map(Dim::from).map_err(|error| Diag::new(error.to_string()))
}

fn slice_axis(axis: &SliceAxis, sizes: &Sizes) -> Result<SliceAxis, Diag> {
    Ok(SliceAxis { start: dim(&axis.start, sizes)?, size: dim(&axis.size, sizes)?, step: axis.step })
}

fn pad_axis(axis: &PadAxis, sizes: &Sizes) -> Result<PadAxis, Diag> {
    Ok(PadAxis { low: dim(&axis.low, sizes)?, high: dim(&axis.high, sizes)?, interior: axis.interior })
}

fn window(window: &Window, sizes: &Sizes) -> Result<Window, Diag> {
    Ok(Window { kind: window.kind, axes: each(&window.axes, |axis| window_axis(axis, sizes))? })
}

fn window_axis(axis: &WindowAxis, sizes: &Sizes) -> Result<WindowAxis, Diag> {
    Ok(WindowAxis { low: dim(&axis.low, sizes)?, high: dim(&axis.high, sizes)?, ..axis.clone() })
}

fn conv_axis(axis: &ConvAxis, sizes: &Sizes) -> Result<ConvAxis, Diag> {
    Ok(ConvAxis { low: dim(&axis.low, sizes)?, high: dim(&axis.high, sizes)?, ..axis.clone() })
}
