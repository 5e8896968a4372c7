//! Samples of dot products and convolutions.

use graver_ir::op::{Conv, ConvAxis, DotAxes};
use graver_ir::{DType, Dim, Op, Shape};

use super::{Cases, NUMBERS};
use crate::build::Dims;
use crate::fill::Fill;

pub(super) fn add(cases: &mut Cases) {
    for dtype in NUMBERS {
        dots(cases, dtype);
        convs(cases, dtype);
    }
}

/// Every type, or those that are computed in, which get every geometry.
fn is_main(dtype: DType) -> bool {
    [DType::F64, DType::F32].contains(&dtype)
}

fn contraction(cases: &mut Cases, name: String, dtype: DType, shapes: [Shape; 2], op: Op, terms: usize) {
    let sample = cases.add(name, |c| {
        let args = shapes.map(|shape| c.arg(dtype, shape, Fill::Any));
        [c.b.add(op, &args)]
    });
    if dtype.is_float() {
        sample.sums(dtype, terms).smooth();
    }
}

fn axes(lhs_batch: &[usize], rhs_batch: &[usize], lhs_contract: &[usize], rhs_contract: &[usize]) -> DotAxes {
    let [lhs_batch, rhs_batch, lhs_contract, rhs_contract] =
        [lhs_batch, rhs_batch, lhs_contract, rhs_contract].map(<[usize]>::to_vec);
    DotAxes { lhs_batch, rhs_batch, lhs_contract, rhs_contract }
}

fn dots(cases: &mut Cases, dtype: DType) {
    let few = vec![
        ("matmul", [5, 7].shape(), [7, 3].shape(), axes(&[], &[], &[1], &[0])),
        ("odd", [17, 33].shape(), [33, 5].shape(), axes(&[], &[], &[1], &[0])),
        ("batched", [2, 3, 5].shape(), [2, 5, 7].shape(), axes(&[0], &[0], &[2], &[1])),
        ("symbol_rows", ("n", 7).shape(), [7, 5].shape(), axes(&[], &[], &[1], &[0])),
        ("nothing", [3, 0].shape(), [0, 5].shape(), axes(&[], &[], &[1], &[0])),
    ];
    let more = vec![
        ("scalars", ().shape(), ().shape(), axes(&[], &[], &[], &[])),
        ("inner", [17].shape(), [17].shape(), axes(&[], &[], &[0], &[0])),
        ("outer", [3].shape(), [5].shape(), axes(&[], &[], &[], &[])),
        ("vector", [5, 7].shape(), [7].shape(), axes(&[], &[], &[1], &[0])),
        ("from_left", [7].shape(), [7, 33].shape(), axes(&[], &[], &[0], &[0])),
        ("lhs_transposed", [7, 5].shape(), [7, 3].shape(), axes(&[], &[], &[0], &[0])),
        ("rhs_transposed", [5, 7].shape(), [3, 7].shape(), axes(&[], &[], &[1], &[1])),
        ("both_transposed", [7, 5].shape(), [3, 7].shape(), axes(&[], &[], &[0], &[1])),
        ("one_by_one", [1, 1].shape(), [1, 1].shape(), axes(&[], &[], &[1], &[0])),
        ("batch_last", [3, 5, 2].shape(), [7, 5, 2].shape(), axes(&[2], &[2], &[1], &[1])),
        ("two_batches", [2, 3, 1, 5].shape(), [3, 2, 5, 7].shape(), axes(&[0, 1], &[1, 0], &[3], &[2])),
        ("two_contracted", [3, 2, 5].shape(), [5, 2, 7].shape(), axes(&[], &[], &[1, 2], &[1, 0])),
        ("elementwise", [3, 5].shape(), [3, 5].shape(), axes(&[0, 1], &[0, 1], &[], &[])),
        ("heads", ("n", 2, "m", 3).shape(), ("n", 2, "m", 3).shape(), axes(&[0, 1], &[0, 1], &[3], &[3])),
        ("over_symbol", ("s", 3).shape(), ("s", 5).shape(), axes(&[], &[], &[0], &[0])),
        ("symbols", ("n", "k").shape(), ("k", "m").shape(), axes(&[], &[], &[1], &[0])),
        ("no_rows", ("z", 7).shape(), [7, 5].shape(), axes(&[], &[], &[1], &[0])),
        ("over_empty_symbol", (3, "z").shape(), ("z", 5).shape(), axes(&[], &[], &[1], &[0])),
    ];
    for (name, x, y, axes) in few.into_iter().chain(if is_main(dtype) { more } else { Vec::new() }) {
        contraction(cases, format!("dot/{dtype}/{name}"), dtype, [x, y], Op::Dot(axes), 33);
    }
    let twice = cases.add(format!("dot/{dtype}/x_x"), |c| {
        let x = c.arg(dtype, [3, 5], Fill::Any);
        [c.b.dot(x, x, axes(&[], &[], &[1], &[1]))]
    });
    if dtype.is_float() {
        twice.sums(dtype, 10).smooth();
    }
}

fn plain() -> ConvAxis {
    spatial(1, 0, 0, 1, 1)
}

fn spatial(stride: i64, low: i64, high: i64, kernel_dilation: i64, input_dilation: i64) -> ConvAxis {
    ConvAxis { stride, low: Dim::from(low), high: Dim::from(high), kernel_dilation, input_dilation }
}

/// Batch, feature, spatial.. in this order everywhere.
fn channels_first(axes: Vec<ConvAxis>, groups: i64, batch_groups: i64) -> Conv {
    let order: Vec<usize> = (0..axes.len() + 2).collect();
    Conv { input: order.clone(), kernel: order.clone(), output: order, axes, groups, batch_groups }
}

fn channels_last(axes: Vec<ConvAxis>) -> Conv {
    Conv { input: vec![0, 3, 1, 2], kernel: vec![3, 2, 0, 1], output: vec![0, 3, 1, 2], axes, groups: 1, batch_groups: 1 }
}

fn convs(cases: &mut Cases, dtype: DType) {
    let two = |axis: ConvAxis| vec![axis.clone(), axis];
    let few = vec![
        ("plain", [2, 3, 5, 7].shape(), [4, 3, 3, 2].shape(), channels_first(two(plain()), 1, 1)),
        ("padded", ("n", 2, 5, 5).shape(), [3, 2, 3, 3].shape(), channels_first(two(spatial(1, 1, 1, 1, 1)), 1, 1)),
        (
            "strided_dilated_groups",
            [1, 4, 7, 9].shape(),
            [6, 2, 2, 3].shape(),
            channels_first(vec![spatial(2, 1, 0, 3, 1), spatial(3, 0, 2, 2, 1)], 2, 1),
        ),
    ];
    let more = vec![
        ("rank_1", [2, 3, 17].shape(), [5, 3, 3].shape(), channels_first(vec![spatial(2, 1, 1, 1, 1)], 1, 1)),
        ("no_spatial", [3, 5].shape(), [7, 5].shape(), channels_first(Vec::new(), 1, 1)),
        ("rank_3", [1, 2, 3, 5, 3].shape(), [2, 2, 2, 3, 2].shape(), channels_first(vec![plain(), plain(), plain()], 1, 1)),
        ("one_by_one", [2, 3, 5, 5].shape(), [7, 3, 1, 1].shape(), channels_first(two(plain()), 1, 1)),
        ("whole", [2, 3, 5, 3].shape(), [1, 3, 5, 3].shape(), channels_first(two(plain()), 1, 1)),
        ("depthwise", [2, 5, 5, 3].shape(), [5, 1, 3, 3].shape(), channels_first(two(spatial(1, 1, 1, 1, 1)), 5, 1)),
        ("multiplied", [1, 3, 5, 5].shape(), [6, 1, 3, 3].shape(), channels_first(two(plain()), 3, 1)),
        ("batch_groups", [4, 3, 5, 5].shape(), [2, 3, 3, 3].shape(), channels_first(two(plain()), 1, 2)),
        ("input_dilated", [2, 3, 3, 5].shape(), [2, 3, 3, 3].shape(), channels_first(two(spatial(1, 2, 1, 1, 2)), 1, 1)),
        ("input_dilated_by_three", [2, 3, 3].shape(), [2, 3, 4].shape(), channels_first(vec![spatial(1, 1, 1, 1, 3)], 1, 1)),
        ("input_dilated_groups", [1, 4, 3].shape(), [6, 2, 3].shape(), channels_first(vec![spatial(1, 1, 2, 1, 2)], 2, 1)),
        ("input_dilated_cut", [2, 3, 3].shape(), [2, 3, 3].shape(), channels_first(vec![spatial(1, -1, 2, 1, 2)], 1, 1)),
        ("input_dilated_point", [2, 3, 3].shape(), [2, 3, 1].shape(), channels_first(vec![spatial(1, 0, 1, 1, 2)], 1, 1)),
        ("cut", [1, 2, 7, 7].shape(), [3, 2, 3, 3].shape(), channels_first(two(spatial(1, -1, -2, 1, 1)), 1, 1)),
        ("uneven_stride", [1, 1, 8, 8].shape(), [1, 1, 3, 3].shape(), channels_first(two(spatial(3, 0, 0, 1, 1)), 1, 1)),
        ("channels_last", ("n", 5, 7, 3).shape(), [3, 3, 3, 5].shape(), channels_last(two(spatial(1, 1, 1, 1, 1)))),
        ("symbol_length", (2, 3, "s").shape(), [5, 3, 3].shape(), channels_first(vec![spatial(1, 1, 1, 1, 1)], 1, 1)),
        ("symbol_strided", (2, 3, "s").shape(), [5, 3, 3].shape(), channels_first(vec![spatial(2, 0, 0, 2, 1)], 1, 1)),
        ("no_rows", ("z", 2, 5, 5).shape(), [3, 2, 3, 3].shape(), channels_first(two(plain()), 1, 1)),
        ("no_features", [2, 0, 5, 5].shape(), [3, 0, 3, 3].shape(), channels_first(two(plain()), 1, 1)),
        ("in_all_padding", [1, 1, 2, 2].shape(), [1, 1, 2, 2].shape(), channels_first(two(spatial(1, 3, 3, 1, 1)), 1, 1)),
    ];
    for (name, x, kernel, conv) in few.into_iter().chain(if is_main(dtype) { more } else { Vec::new() }) {
        contraction(cases, format!("conv/{dtype}/{name}"), dtype, [x, kernel], Op::Conv(conv), 45);
    }
}
