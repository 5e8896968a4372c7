//! Contractions: matrix products with an epilogue, padded windows, nothing to sum.

use graver_ir::kernel::{AxisSet, Body, Bounds, Contract, InstKind, KernelBody, Mode, Side, Store};
use graver_ir::{DType, Dim, Scalar, ScalarFn};

use crate::{Build, array, load, map, store, sym, vars};

fn set(axes: &[usize]) -> AxisSet {
    axes.iter().copied().collect()
}

fn side(arg: usize, dtype: DType, at: &[Dim], bounds: Bounds) -> Side {
    let mut body = Body::default();
    let value = load(&mut body, arg, dtype, at, bounds);
    Side { body, value }
}

fn plain_epilogue(dtype: DType, stored: &dyn Fn(graver_ir::kernel::ValueId) -> Store) -> (Body, Vec<Store>) {
    let mut epilogue = Body::default();
    let acc = epilogue.push(InstKind::Acc, dtype);
    (epilogue, vec![stored(acc)])
}

/// `relu(x . y + bias)` over batches, the right side transposed in memory.
#[test]
fn a_matrix_product_with_bias_and_relu() {
    let axes = [Dim::from(2), sym("m"), Dim::from(2), sym("k")];
    let at = vars(&axes);
    let [batch, m, n, k] = [0, 1, 2, 3];
    let of = |axes: &[usize]| axes.iter().map(|axis| at[*axis].clone()).collect::<Vec<_>>();
    let sizes = |of: &[usize]| of.iter().map(|axis| axes[*axis].clone()).collect::<Vec<_>>();
    let mut build = Build::default();
    let x = build.input("x", DType::F32, &sizes(&[batch, m, k]));
    let y = build.input("y", DType::F32, &sizes(&[batch, n, k]));
    let bias = build.input("bias", DType::F32, &sizes(&[n]));
    let z = build.output(DType::F32, &sizes(&[batch, m, n]));
    let mut epilogue = Body::default();
    let acc = epilogue.push(InstKind::Acc, DType::F32);
    let shift = load(&mut epilogue, 2, DType::F32, &of(&[n]), Bounds::Proven);
    let sum = map(&mut epilogue, ScalarFn::Add, DType::F32, &[acc, shift]);
    let relu = map(&mut epilogue, ScalarFn::Relu, DType::F32, &[sum]);
    let contract = Contract {
        axes: axes.to_vec(),
        batch: set(&[batch]),
        m: set(&[m]),
        n: set(&[n]),
        k: set(&[k]),
        a: side(0, DType::F32, &of(&[batch, m, k]), Bounds::Proven),
        b: side(1, DType::F32, &of(&[batch, n, k]), Bounds::Proven),
        acc: DType::F32,
        epilogue,
        stores: vec![store(3, &of(&[batch, m, n]), relu)],
    };
    let args = [(x, Mode::Read), (y, Mode::Read), (bias, Mode::Read), (z, Mode::Write)];
    build.launch("dense_relu", &args, KernelBody::Contract(contract));
    let x = array(&[2, 1, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let y = array(&[2, 2, 3], &[1f32, 1.0, 1.0, -1.0, -1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let bias = array(&[2], &[0.5f32, 1.0]);
    build.check(&[&x, &y, &bias], &[array(&[2, 1, 2], &[6.5f32, 0.0, 4.5, 7.0])]);
    let (x, y) = (array::<f32>(&[2, 1, 0], &[]), array::<f32>(&[2, 2, 0], &[]));
    build.check(&[&x, &y, &bias], &[array(&[2, 1, 2], &[0.5f32, 1.0, 0.5, 1.0])]);
}

/// A convolution with one zero around: `y[o, i] = sum over c, k of x[c, i + k - 1] * w[o, c, k]`.
#[test]
fn a_padded_window_is_an_access_with_a_fill() {
    let axes = [Dim::from(2), Dim::from(3), Dim::from(2), Dim::from(3)];
    let at = vars(&axes);
    let [o, i, c, k] = [&at[0], &at[1], &at[2], &at[3]];
    let mut build = Build::default();
    let x = build.input("x", DType::I32, &[Dim::from(2), Dim::from(3)]);
    let w = build.input("w", DType::I32, &[Dim::from(2), Dim::from(2), Dim::from(3)]);
    let y = build.output(DType::I32, &axes[..2]);
    let (epilogue, stores) = plain_epilogue(DType::I32, &|acc| store(2, &at[..2], acc));
    let window = [c.clone(), i + k - Dim::ONE];
    let contract = Contract {
        axes: axes.to_vec(),
        batch: AxisSet::EMPTY,
        m: set(&[1]),
        n: set(&[0]),
        k: set(&[2, 3]),
        a: side(0, DType::I32, &window, Bounds::Fill(Scalar::zero(DType::I32))),
        b: side(1, DType::I32, &[o.clone(), c.clone(), k.clone()], Bounds::Proven),
        acc: DType::I32,
        epilogue,
        stores,
    };
    build.launch("conv", &[(x, Mode::Read), (w, Mode::Read), (y, Mode::Write)], KernelBody::Contract(contract));
    let x = array(&[2, 3], &[1i32, 2, 3, 10, 20, 30]);
    let w = array(&[2, 2, 3], &[1i32, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
    build.check(&[&x, &w], &[array(&[2, 3], &[3i32, 6, 5, 20, 31, 2])]);
}
