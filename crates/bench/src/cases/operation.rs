//! Single operations, and a chain of fifty.

use graver::nn::Fill;
use graver::prelude::*;
use graver::trace::Attention;

use super::model::infer;
use super::runs::Runs;
use crate::numbers::Numbers;

/// Rows and columns of the large matrices.
const SIDE: usize = 4096;

/// `x y`, both arguments.
pub(super) fn product(numbers: &mut Numbers, device: &Device, [m, k, n]: [usize; 3]) -> Result<Box<dyn Runs>, Error> {
    let args = [numbers.floats(0, &[m, k])?, numbers.floats(1, &[k, n])?];
    infer([spec::<f32>(("rows", k)), spec::<f32>([k, n])], args, device, |[x, y]| vec![x.matmul(y)])
}

/// `x w^T`, the weight a model's.
pub(super) fn linear(numbers: &mut Numbers, device: &Device, [m, k, n]: [usize; 3]) -> Result<Box<dyn Runs>, Error> {
    let weight = numbers.init().array(Fill::Normal { mean: 0.0, std: 1.0 }, [n, k]);
    let weight = Param::new(weight);
    let args = [numbers.floats(0, &[m, k])?];
    infer([spec::<f32>(("rows", k))], args, device, |[x]| vec![x.matmul(weight.get().t())])
}

/// A matrix and two vectors as long as its rows.
fn with_vectors(numbers: &mut Numbers, device: &Device, f: impl FnOnce([Tensor; 3]) -> Tensor) -> Result<Box<dyn Runs>, Error> {
    let args = [numbers.floats(0, &[SIDE, SIDE])?, numbers.floats(1, &[SIDE])?, numbers.floats(2, &[SIDE])?];
    let spec = [spec::<f32>(("rows", "columns")), spec::<f32>(["columns"]), spec::<f32>(["columns"])];
    infer(spec, args, device, |args| vec![f(args)])
}

fn with_matrix(numbers: &mut Numbers, device: &Device, f: impl FnOnce(Tensor) -> Tensor) -> Result<Box<dyn Runs>, Error> {
    let args = [numbers.floats(0, &[SIDE, SIDE])?];
    infer([spec::<f32>(("rows", "columns"))], args, device, |[x]| vec![f(x)])
}

pub(super) fn gelu(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    with_vectors(numbers, device, |[x, w, b]| (x * w + b).gelu())
}

pub(super) fn layer_norm(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    with_vectors(numbers, device, |[x, w, b]| x.layer_norm(w, b, 1e-5))
}

pub(super) fn softmax(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    with_matrix(numbers, device, |x| x.softmax(-1))
}

pub(super) fn sum(numbers: &mut Numbers, device: &Device, axis: i64) -> Result<Box<dyn Runs>, Error> {
    with_matrix(numbers, device, |x| x.sum(axis))
}

pub(super) fn transpose_add(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let args = [numbers.floats(0, &[SIDE, SIDE])?, numbers.floats(1, &[SIDE, SIDE])?];
    infer([spec::<f32>(("rows", "columns")), spec::<f32>(("columns", "rows"))], args, device, |[x, y]| vec![x.t() + y])
}

/// Causal attention of twelve heads of 64.
pub(super) fn attention(numbers: &mut Numbers, device: &Device, tokens: usize) -> Result<Box<dyn Runs>, Error> {
    let args = [0, 1, 2].map(|place| numbers.floats(place, &[1, 12, tokens, 64]));
    let [q, k, v] = args;
    let spec = [(); 3].map(|()| spec::<f32>(("batch", 12, "tokens", 64)));
    let causal = Attention::new().causal();
    infer(spec, [q?, k?, v?], device, |[q, k, v]| vec![q.attention(k, v, causal)])
}

/// Its derivatives with respect to all three, under a cotangent.
pub(super) fn attention_grad(numbers: &mut Numbers, device: &Device, tokens: usize) -> Result<Box<dyn Runs>, Error> {
    let args = [0, 1, 2, 3].map(|place| numbers.floats(place, &[1, 12, tokens, 64]));
    let [q, k, v, g] = args;
    let spec = [(); 4].map(|()| spec::<f32>(("batch", 12, "tokens", 64)));
    let causal = Attention::new().causal();
    infer(spec, [q?, k?, v?, g?], device, |[q, k, v, g]| {
        grad(vec![q, k, v], |of| (of[0].attention(of[1], of[2], causal) * g).sum(..))
    })
}

/// Fifty operations on 64 numbers: what a call costs.
pub(super) fn tiny50(numbers: &mut Numbers, device: &Device) -> Result<Box<dyn Runs>, Error> {
    let args = [numbers.floats(0, &[64])?];
    infer([spec::<f32>(["n"])], args, device, |[x]| vec![(0..10).fold(x, |x, _| (x * 1.01 + 0.1 - 0.05).relu() * 0.99)])
}
