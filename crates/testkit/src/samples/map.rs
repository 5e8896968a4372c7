//! Samples of scalar functions and casts.

use graver_ir::{DType, DTypeKind, Rule, ScalarFn};

use super::{Case, Cases, NONEMPTY, shapes};
use crate::close::Bound;
use crate::fill::Fill;

pub(super) fn add(cases: &mut Cases) {
    for (row, function) in ScalarFn::ALL.iter().enumerate() {
        for (column, dtype) in admitted(*function).into_iter().enumerate() {
            every_type(cases, *function, dtype, row * 5 + column);
            special_values(cases, *function, dtype);
        }
    }
    for function in [ScalarFn::Add, ScalarFn::Exp, ScalarFn::Select, ScalarFn::IsNan] {
        every_shape(cases, function);
    }
    casts(cases);
    bitcasts(cases);
    one_operand_twice(cases);
}

/// The element types of the last operand that the function takes.
pub(super) fn admitted(function: ScalarFn) -> Vec<DType> {
    DType::ALL.into_iter().filter(|dtype| function.infer(&operands(function, *dtype)).is_ok()).collect()
}

fn operands(function: ScalarFn, dtype: DType) -> Vec<DType> {
    let mut operands = vec![dtype; function.arity()];
    if function.rule() == Rule::Select {
        operands[0] = DType::Bool;
    }
    operands
}

fn apply(
    c: &mut Case,
    function: ScalarFn,
    dtype: DType,
    shape: &graver_ir::Shape,
    fill: &dyn Fn(usize) -> Fill,
) -> graver_ir::Value {
    let args: Vec<_> =
        operands(function, dtype).into_iter().enumerate().map(|(slot, dtype)| c.arg(dtype, shape, fill(slot))).collect();
    c.b.add(graver_ir::Op::Map(function), &args)
}

fn every_type(cases: &mut Cases, function: ScalarFn, dtype: DType, turn: usize) {
    let (shape_name, shape) = shapes().swap_remove(turn % NONEMPTY);
    let name = format!("{function}/{dtype}/{shape_name}");
    let fill = |slot| domain(function, slot);
    let sample = cases.add(name, |c| [apply(c, function, dtype, &shape, &fill)]).within(bound(function, dtype));
    if !matches!(function.rule(), Rule::Compare | Rule::Test) && dtype.is_float() {
        sample.smooth();
    }
}

fn every_shape(cases: &mut Cases, function: ScalarFn) {
    for (shape_name, shape) in shapes() {
        let name = format!("{function}/f32/shape/{shape_name}");
        let fill = |slot| domain(function, slot);
        cases.add(name, |c| [apply(c, function, DType::F32, &shape, &fill)]).within(bound(function, DType::F32));
    }
}

/// NaN, infinities, zeros, denormals and the ends of every range, every pair of them, where the function's meaning covers them.
fn special_values(cases: &mut Cases, function: ScalarFn, dtype: DType) {
    if dtype == DType::Bool {
        return;
    }
    let fill = |slot: usize| match (function, slot) {
        (ScalarFn::Shl | ScalarFn::Shr, 1) => Fill::Shift,
        (ScalarFn::Div | ScalarFn::Rem, 1) if !dtype.is_float() => Fill::EdgesBesideNonZero,
        (ScalarFn::Select, 0) => Fill::Any,
        (_, 0) | (ScalarFn::Select, 1) => Fill::Edges,
        (_, _) => Fill::EdgesBeside,
    };
    let shape = graver_ir::Shape::new([if function.arity() == 1 { 33 } else { 400 }]);
    let name = format!("{function}/{dtype}/special");
    cases.add(name, |c| [apply(c, function, dtype, &shape, &fill)]).within(bound(function, dtype));
}

fn casts(cases: &mut Cases) {
    for (row, from) in DType::ALL.into_iter().enumerate() {
        for (column, to) in DType::ALL.into_iter().enumerate() {
            let (_, shape) = shapes().swap_remove((row + 3 * column) % NONEMPTY);
            let cast = |c: &mut Case, shape: &graver_ir::Shape, fill| {
                let x = c.arg(from, shape, fill);
                [c.b.cast(to, x)]
            };
            let sample = cases.add(format!("cast/{from}/{to}"), |c| cast(c, &shape, Fill::Any));
            if from == DType::F64 && to == DType::F64 {
                sample.smooth();
            }
            if from != DType::Bool {
                cases.add(format!("cast/{from}/{to}/special"), |c| cast(c, &graver_ir::Shape::new([33]), Fill::Edges));
            }
        }
    }
}

/// Of floats with whole numbers, of integers with any bits but those of no number.
fn bitcasts(cases: &mut Cases) {
    for (row, from) in DType::ALL.into_iter().enumerate() {
        for (column, to) in DType::ALL.into_iter().enumerate() {
            let (_, shape) = shapes().swap_remove((row + 3 * column) % NONEMPTY);
            let bits = graver_ir::Op::Bitcast(to);
            if graver_ir::infer(&bits, &[&graver_ir::Type::new(from, shape.clone())]).is_ok() {
                cases.add(format!("bitcast/{from}/{to}"), |c| {
                    let x = c.arg(from, &shape, Fill::Any);
                    [c.b.add(bits, &[x])]
                });
            }
        }
    }
}

fn one_operand_twice(cases: &mut Cases) {
    for dtype in [DType::F64, DType::I32] {
        let shape = graver_ir::Shape::new([7]);
        let sample = cases.add(format!("mul/{dtype}/x_x"), |c| {
            let x = c.arg(dtype, &shape, Fill::Any);
            [c.b.map(ScalarFn::Mul, [x, x])]
        });
        sample.within(bound(ScalarFn::Mul, dtype));
        if dtype.is_float() {
            sample.smooth();
        }
    }
}

/// Where the function is defined and, for floats, smooth.
fn domain(function: ScalarFn, slot: usize) -> Fill {
    match (function, slot) {
        (ScalarFn::Log | ScalarFn::Sqrt | ScalarFn::Rsqrt, _) | (ScalarFn::Pow, 0) => Fill::Positive,
        (ScalarFn::Log1p, _) => Fill::Open,
        (ScalarFn::Div | ScalarFn::Rem, 1) => Fill::NonZero,
        (ScalarFn::Shl | ScalarFn::Shr, 1) => Fill::Shift,
        (ScalarFn::Shl | ScalarFn::Shr | ScalarFn::And | ScalarFn::Or | ScalarFn::Xor | ScalarFn::Not, 0) => Fill::Bits,
        // Ties must occur, or the difference between `<` and `<=` would not show.
        (ScalarFn::Eq | ScalarFn::Ne | ScalarFn::Lt | ScalarFn::Le | ScalarFn::Gt | ScalarFn::Ge, _) => Fill::Whole,
        _ => Fill::Any,
    }
}

/// Rounding errors of one application. The 16-bit floats are computed in `f32` and rounded once.
fn bound(function: ScalarFn, dtype: DType) -> Bound {
    let wide = match dtype.kind() {
        DTypeKind::Float => ulps(function),
        DTypeKind::Signed | DTypeKind::Unsigned | DTypeKind::Bool => return Bound::EXACT,
    };
    if dtype.compute() == dtype { Bound::ulps(dtype, wide) } else { Bound::ulps(dtype, wide.min(1.0)) }
}

/// In units of the type's eps: 0 for what is exact or correctly rounded, more for what a polynomial approximates.
fn ulps(function: ScalarFn) -> f64 {
    match function {
        ScalarFn::Neg
        | ScalarFn::Abs
        | ScalarFn::Sign
        | ScalarFn::Relu
        | ScalarFn::Floor
        | ScalarFn::Ceil
        | ScalarFn::Trunc
        | ScalarFn::Round
        | ScalarFn::Not
        | ScalarFn::IsNan
        | ScalarFn::IsFinite
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
        | ScalarFn::Select => 0.0,
        ScalarFn::Add | ScalarFn::Sub | ScalarFn::Mul | ScalarFn::Div | ScalarFn::Sqrt => 1.0,
        ScalarFn::Rem => 1.0,
        ScalarFn::Rsqrt | ScalarFn::Exp | ScalarFn::Expm1 | ScalarFn::Log | ScalarFn::Log1p => 4.0,
        ScalarFn::Sin | ScalarFn::Cos | ScalarFn::Tanh | ScalarFn::Sigmoid | ScalarFn::Erf => 4.0,
        ScalarFn::Pow => 16.0,
    }
}
