//! Names of kernels for people: the ops that matter, in order.

use graver_ir::{Graph, Op, ScalarFn};

/// At most this many ops are named.
const LONGEST: usize = 4;

/// `conv_relu`, `max_exp_sum_log`: contractions, reductions and functions; arithmetic only where there is nothing else.
#[must_use]
pub(crate) fn name(graph: &Graph) -> String {
    let order = graph.topo();
    let ops = |matters: fn(&Op) -> bool| {
        let mut names: Vec<&str> = Vec::new();
        for op in order.iter().map(|id| graph.op(*id)).filter(|op| matters(op)) {
            let name = word(op);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.truncate(LONGEST);
        names.join("_")
    };
    let candidates = [ops(is_notable), ops(|op| matches!(op, Op::Map(_) | Op::Cast(_) | Op::Bitcast(_))), ops(is_movement)];
    candidates.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "copy".to_owned())
}

/// The op's own name, or what it reduces by.
fn word(op: &Op) -> &'static str {
    if let Op::Reduce(reduce) = op { reduce.kind.name() } else { op.name() }
}

fn is_movement(op: &Op) -> bool {
    !matches!(op, Op::Param(_) | Op::Const(_) | Op::Alias | Op::StopGradient)
}

fn is_notable(op: &Op) -> bool {
    match op {
        Op::Map(function) => is_notable_function(*function),
        Op::Sort(_)
        | Op::Gather(_)
        | Op::Scatter(_)
        | Op::DynamicUpdate(_)
        | Op::Reduce(_)
        | Op::ArgReduce(_)
        | Op::Prefix(_)
        | Op::Window(_)
        | Op::WindowArg(_)
        | Op::WindowTake(_)
        | Op::WindowPut(_)
        | Op::Dot(_)
        | Op::Conv(_)
        | Op::Philox(_) => true,
        Op::Cast(_)
        | Op::Bitcast(_)
        | Op::Const(_)
        | Op::Size(_)
        | Op::Iota(_)
        | Op::Reshape(_)
        | Op::Permute(_)
        | Op::Broadcast(_)
        | Op::Slice(_)
        | Op::DynamicSlice(_)
        | Op::Pad(_)
        | Op::Concat(_)
        | Op::Reverse(_)
        | Op::Param(_)
        | Op::Alias
        | Op::StopGradient
        | Op::Call(_)
        | Op::If(_)
        | Op::While(_)
        | Op::Scan(_)
        | Op::Transform(_) => false,
    }
}

/// What is more than one instruction of arithmetic, and the activations.
pub(crate) fn is_notable_function(function: ScalarFn) -> bool {
    match function {
        ScalarFn::Relu
        | ScalarFn::Exp
        | ScalarFn::Expm1
        | ScalarFn::Log
        | ScalarFn::Log1p
        | ScalarFn::Sqrt
        | ScalarFn::Rsqrt
        | ScalarFn::Sin
        | ScalarFn::Cos
        | ScalarFn::Tanh
        | ScalarFn::Sigmoid
        | ScalarFn::Erf
        | ScalarFn::Pow => true,
        ScalarFn::Neg
        | ScalarFn::Abs
        | ScalarFn::Sign
        | ScalarFn::Floor
        | ScalarFn::Ceil
        | ScalarFn::Trunc
        | ScalarFn::Round
        | ScalarFn::Not
        | ScalarFn::IsNan
        | ScalarFn::IsFinite
        | ScalarFn::Add
        | ScalarFn::Sub
        | ScalarFn::Mul
        | ScalarFn::Div
        | ScalarFn::Rem
        | ScalarFn::Max
        | ScalarFn::Min
        | ScalarFn::And
        | ScalarFn::Or
        | ScalarFn::Xor
        | ScalarFn::Shl
        | ScalarFn::Shr
        | ScalarFn::Eq
        | ScalarFn::Ne
        | ScalarFn::Lt
        | ScalarFn::Le
        | ScalarFn::Gt
        | ScalarFn::Ge
        | ScalarFn::Select => false,
    }
}
