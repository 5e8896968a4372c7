//! The table of operations that PyTorch and JAX have functions for. A case of a gradient is given the cotangent.

use graver::prelude::*;
use graver::trace::{Attention, ConvOptions, Pool2d, vjp};

use super::operation::Axis::{Known, Symbol};
use super::operation::{Arg, Axis, Operation};
use super::{Build, Case, attention};
use Arg::{Below, Floats};

const MATRIX: &[Axis] = &[Symbol("rows", 4096), Symbol("columns", 4096)];
const ROW: &[Axis] = &[Symbol("columns", 4096)];
const TRANSPOSED: &[Axis] = &[Symbol("columns", 4096), Symbol("rows", 4096)];
const NARROW: &[Axis] = &[Symbol("rows", 4096), Symbol("columns", 1024)];
const NARROW_ROW: &[Axis] = &[Symbol("columns", 1024)];
const LINE: &[Axis] = &[Symbol("n", 4 << 20)];
const LOGITS: &[Axis] = &[Symbol("rows", 512), Symbol("classes", 32000)];
const LABELS: Arg = Below(32000, &[Symbol("rows", 512)]);
const TABLE: &[Axis] = &[Known(32000), Known(768)];
const TOKENS: Arg = Below(32000, &[Symbol("tokens", 8192)]);
const EMBEDDED: &[Axis] = &[Symbol("tokens", 8192), Known(768)];
const GROUPED: &[Axis] = &[Symbol("batch", 16), Known(64), Known(64), Known(64)];
const CHANNELS: &[Axis] = &[Known(64)];
const IMAGES: &[Axis] = &[Symbol("batch", 32), Known(64), Known(112), Known(112)];
const POOLED: &[Axis] = &[Symbol("batch", 32), Known(64), Known(56), Known(56)];
const SMALL: &[Axis] = &[Symbol("batch", 8), Known(96), Known(56), Known(56)];
const WINDOW3: &[Axis] = &[Known(96), Known(1), Known(3), Known(3)];
const WINDOW7: &[Axis] = &[Known(96), Known(1), Known(7), Known(7)];
const SEQUENCE2048: Arg = Floats(&[Symbol("batch", 1), Known(12), Symbol("tokens", 2048), Known(64)]);
const SEQUENCE4096: Arg = Floats(&[Symbol("batch", 1), Known(12), Symbol("tokens", 4096), Known(64)]);

/// Bytes of so many elements.
const fn bytes(elements: usize) -> f64 {
    4.0 * elements as f64
}

const SIDE: usize = 4096;
const LOGIT_BYTES: f64 = bytes(512 * 32000);
const NARROW_BYTES: f64 = bytes(4096 * 1024);
const GROUPED_BYTES: f64 = bytes(16 * 64 * 64 * 64);
const IMAGE_BYTES: f64 = bytes(32 * 64 * 112 * 112);
const POOLED_BYTES: f64 = IMAGE_BYTES / 4.0;
const SMALL_BYTES: f64 = bytes(8 * 96 * 56 * 56);

/// Operations of a window of so many elements at every place of the small images.
const fn depthwise(window: usize) -> f64 {
    2.0 * (8 * 96 * 56 * 56 * window) as f64
}

const fn case(
    name: &'static str,
    (flops, bytes): (f64, f64),
    kernels: usize,
    args: &'static [Arg],
    of: fn(&[Tensor]) -> Vec<Tensor>,
) -> Case {
    Case { name, flops, bytes, build: Build::Operation(Operation { args, kernels, of }) }
}

/// Name; operations and bytes; kernels; arguments; results.
#[rustfmt::skip]
pub(super) static OPERATIONS: [Case; 31] = [
    case("attn_fwd_t2048", (attention(2048.0), 0.0), 1, &[SEQUENCE2048; 3], |x| vec![attend(x)]),
    case("attn_fwd_t4096", (attention(4096.0), 0.0), 1, &[SEQUENCE4096; 3], |x| vec![attend(x)]),
    case("attn_grad_t2048", (3.5 * attention(2048.0), 0.0), 4, &[SEQUENCE2048; 4], |x| pulled(x, 3, attend)),
    case("attn_grad_t4096", (3.5 * attention(4096.0), 0.0), 4, &[SEQUENCE4096; 4], |x| pulled(x, 3, attend)),
    case("micro_gelu", (0.0, bytes(2 * SIDE * SIDE)), 1, &[Floats(MATRIX), Floats(ROW), Floats(ROW)], |x| vec![(x[0] * x[1] + x[2]).gelu()]),
    case("micro_softmax", (0.0, bytes(2 * SIDE * SIDE)), 1, &[Floats(MATRIX)], |x| vec![x[0].softmax(-1)]),
    case("micro_layernorm", (0.0, bytes(2 * SIDE * SIDE)), 1, &[Floats(MATRIX), Floats(ROW), Floats(ROW)], |x| vec![layer_norm(x)]),
    case("micro_sum0", (0.0, bytes(SIDE * SIDE)), 1, &[Floats(MATRIX)], |x| vec![x[0].sum(0)]),
    case("micro_sum1", (0.0, bytes(SIDE * SIDE)), 1, &[Floats(MATRIX)], |x| vec![x[0].sum(1)]),
    case("micro_transpose_add", (0.0, bytes(3 * SIDE * SIDE)), 1, &[Floats(MATRIX), Floats(TRANSPOSED)], |x| vec![x[0].t() + x[1]]),
    case("micro_cumsum0", (0.0, bytes(2 * SIDE * SIDE)), 1, &[Floats(MATRIX)], |x| vec![x[0].cumsum(0)]),
    case("micro_cumsum1", (0.0, bytes(2 * SIDE * SIDE)), 1, &[Floats(MATRIX)], |x| vec![x[0].cumsum(1)]),
    case("micro_cumsum_line", (0.0, bytes(2 * (4 << 20))), 1, &[Floats(LINE)], |x| vec![x[0].cumsum(0)]),
    case("micro_cross_entropy", (0.0, LOGIT_BYTES), 2, &[Floats(LOGITS), LABELS], |x| vec![x[0].cross_entropy(x[1])]),
    case("micro_cross_entropy_grad", (0.0, 2.0 * LOGIT_BYTES), 1, &[Floats(LOGITS), LABELS, Floats(&[])], |x| pulled(x, 1, |x| x[0].cross_entropy(x[1]))),
    case("micro_layernorm_grad", (0.0, 3.0 * NARROW_BYTES), 1, &[Floats(NARROW), Floats(NARROW_ROW), Floats(NARROW_ROW), Floats(NARROW)], |x| pulled(x, 3, layer_norm)),
    case("micro_rmsnorm", (0.0, bytes(2 * SIDE * SIDE)), 1, &[Floats(MATRIX), Floats(ROW)], |x| vec![rms_norm(x)]),
    case("micro_rmsnorm_grad", (0.0, 3.0 * NARROW_BYTES), 1, &[Floats(NARROW), Floats(NARROW_ROW), Floats(NARROW)], |x| pulled(x, 2, rms_norm)),
    case("micro_groupnorm", (0.0, 2.0 * GROUPED_BYTES), 1, &[Floats(GROUPED), Floats(CHANNELS), Floats(CHANNELS)], |x| vec![group_norm(x)]),
    case("micro_groupnorm_grad", (0.0, 3.0 * GROUPED_BYTES), 2, &[Floats(GROUPED), Floats(CHANNELS), Floats(CHANNELS), Floats(GROUPED)], |x| pulled(x, 3, group_norm)),
    case("micro_embedding_grad", (0.0, bytes((32000 + 8192) * 768)), 2, &[Floats(TABLE), TOKENS, Floats(EMBEDDED)], |x| pulled(x, 1, |x| x[0].embedding(x[1]))),
    case("micro_maxpool", (0.0, IMAGE_BYTES + POOLED_BYTES), 1, &[Floats(IMAGES)], |x| vec![max_pool(x)]),
    case("micro_maxpool_grad", (0.0, 2.0 * IMAGE_BYTES + POOLED_BYTES), 2, &[Floats(IMAGES), Floats(POOLED)], |x| pulled(x, 1, max_pool)),
    case("micro_avgpool", (0.0, IMAGE_BYTES + POOLED_BYTES), 1, &[Floats(IMAGES)], |x| vec![x[0].avg_pool2d(2)]),
    case("micro_avgpool_grad", (0.0, IMAGE_BYTES + POOLED_BYTES), 1, &[Floats(IMAGES), Floats(POOLED)], |x| pulled(x, 1, |x| x[0].avg_pool2d(2))),
    case("micro_depthwise3", (depthwise(9), 2.0 * SMALL_BYTES), 1, &[Floats(SMALL), Floats(WINDOW3)], |x| vec![windows(x, 1)]),
    case("micro_depthwise3_grad_x", (depthwise(9), 2.0 * SMALL_BYTES), 1, &[Floats(SMALL), Floats(WINDOW3), Floats(SMALL)], |x| pulled(x, 1, |x| windows(x, 1))),
    case("micro_depthwise3_grad_w", (depthwise(9), 2.0 * SMALL_BYTES), 1, &[Floats(WINDOW3), Floats(SMALL), Floats(SMALL)], |x| pulled(x, 1, |x| windows(&[x[1], x[0]], 1))),
    case("micro_depthwise7", (depthwise(49), 2.0 * SMALL_BYTES), 1, &[Floats(SMALL), Floats(WINDOW7)], |x| vec![windows(x, 3)]),
    case("micro_depthwise7_grad_x", (depthwise(49), 2.0 * SMALL_BYTES), 1, &[Floats(SMALL), Floats(WINDOW7), Floats(SMALL)], |x| pulled(x, 1, |x| windows(x, 3))),
    case("micro_depthwise7_grad_w", (depthwise(49), 2.0 * SMALL_BYTES), 1, &[Floats(WINDOW7), Floats(SMALL), Floats(SMALL)], |x| pulled(x, 1, |x| windows(&[x[1], x[0]], 3))),
];

/// The derivatives with respect to so many of the first arguments, under the cotangent that is the last.
fn pulled(args: &[Tensor], wrt: usize, of: impl FnOnce(&[Tensor]) -> Tensor) -> Vec<Tensor> {
    let (cotangent, args) = args.split_last().expect("a gradient has a cotangent");
    let of = |given: Vec<Tensor>| of(&[&given, &args[wrt..]].concat());
    vjp(args[..wrt].to_vec(), of).1.pull(cotangent)
}

/// Causal attention of twelve heads of 64.
fn attend(x: &[Tensor]) -> Tensor {
    x[0].attention(x[1], x[2], Attention::new().causal())
}

fn layer_norm(x: &[Tensor]) -> Tensor {
    x[0].layer_norm(x[1], x[2], 1e-5)
}

fn rms_norm(x: &[Tensor]) -> Tensor {
    x[0].rms_norm(x[1], 1e-5)
}

/// As the layer of `graver::nn` does it: 32 groups of two channels.
fn group_norm(x: &[Tensor]) -> Tensor {
    let grouped = x[0].reshape((x[0].dim(0), 32, 2, -1));
    let centred = grouped - grouped.mean_keepdim([-2, -1]);
    let variance = grouped.var_population([-2, -1]).reshape((x[0].dim(0), 32, 1, 1));
    let normal = centred * (variance + 1e-5).rsqrt();
    (normal * x[1].reshape((32, 2, 1)) + x[2].reshape((32, 2, 1))).reshape(x[0].shape())
}

fn max_pool(x: &[Tensor]) -> Tensor {
    x[0].max_pool2d(Pool2d::new(3).stride(2).padding(1))
}

/// A window for each channel of as many results.
fn windows(x: &[Tensor], padding: usize) -> Tensor {
    x[0].conv2d(x[1], ConvOptions::new().padding(padding).groups(96))
}
