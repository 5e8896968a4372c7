//! What single operations mean, and what changed between their versions.

use crate::common::{array, check, failure, floats, graph, int, ints, model, node, run, text};

#[test]
fn softmax_is_over_one_axis_from_version_13_and_over_all_from_one_on_before() {
    let x: (&[usize], &[f32]) = (&[1, 2, 2], &[0.0, 0.0, 0.0, 0.0]);
    check("Softmax", 13, Vec::new(), &[x], (&[1, 2, 2], &[0.5; 4]));
    check("Softmax", 11, Vec::new(), &[x], (&[1, 2, 2], &[0.25; 4]));
}

#[test]
fn the_second_operand_stood_at_an_axis_before_version_7() {
    let x: (&[usize], &[f32]) = (&[2, 3], &[0.0; 6]);
    let y: (&[usize], &[f32]) = (&[2], &[1.0, 2.0]);
    check("Add", 6, vec![int("broadcast", 1), int("axis", 0)], &[x, y], (&[2, 3], &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0]));
}

#[test]
fn the_remainder_has_the_sign_that_is_asked_for() {
    let (x, y): (&[f32], &[f32]) = (&[-3.0, 3.0], &[2.0, -2.0]);
    check("Mod", 13, Vec::new(), &[(&[2], x), (&[2], y)], (&[2], &[1.0, -1.0]));
    check("Mod", 13, vec![int("fmod", 1)], &[(&[2], x), (&[2], y)], (&[2], &[-1.0, 1.0]));
}

#[test]
fn bits_are_taken_as_another_type_of_the_same_size() {
    let inner = node("BitCast", &["x"], &["bits"], vec![int("to", 6)]);
    let back = node("BitCast", &["bits"], &["y"], vec![int("to", 1)]);
    let model_of = |nodes| model(graph(nodes, vec![floats("x", &[3])], Vec::new(), &["bits"]), 26);
    let x = array(&[3], &[1.0, -2.5, 1e-45]);
    let bits = &run(&model_of(vec![inner.clone()]), &[&x])[0];
    assert_eq!(bits.as_slice::<i32>(), Some([0x3F80_0000, 0xC020_0000_u32.cast_signed(), 1].as_slice()));
    let both = model(graph(vec![inner, back], vec![floats("x", &[3])], Vec::new(), &["y"]), 26);
    assert_eq!(run(&both, &[&x])[0], x);
    let wide = model_of(vec![node("BitCast", &["x"], &["bits"], vec![int("to", 7)])]);
    assert!(
        failure(&wide).to_string().contains("bitcast: the bits of f32[3] as i64; f32 has 4 bytes and i64 8"),
        "{}",
        failure(&wide)
    );
}

#[test]
fn pooling_rounds_up_without_windows_in_the_padding() {
    let x: (&[usize], &[f32]) = (&[1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let attributes = || vec![ints("kernel_shape", &[2]), ints("strides", &[2]), int("ceil_mode", 1)];
    check("MaxPool", 12, attributes(), &[x], (&[1, 1, 3], &[2.0, 4.0, 5.0]));
    check("AveragePool", 19, attributes(), &[x], (&[1, 1, 3], &[1.5, 3.5, 5.0]));
    let padded = vec![ints("kernel_shape", &[2]), ints("strides", &[3]), ints("pads", &[0, 1]), int("ceil_mode", 1)];
    check("MaxPool", 12, padded, &[x], (&[1, 1, 2], &[2.0, 5.0]));
}

#[test]
fn a_transposed_convolution_spreads_its_kernel() {
    let (x, kernel): (&[f32], &[f32]) = (&[1.0, 2.0], &[1.0, 10.0, 100.0]);
    let inputs: [(&[usize], &[f32]); 2] = [(&[1, 1, 2], x), (&[1, 1, 3], kernel)];
    check("ConvTranspose", 11, vec![ints("strides", &[2])], &inputs, (&[1, 1, 5], &[1.0, 10.0, 102.0, 20.0, 200.0]));
    check("ConvTranspose", 11, vec![ints("strides", &[2]), ints("pads", &[1, 1])], &inputs, (&[1, 1, 3], &[10.0, 102.0, 20.0]));
}

#[test]
fn resizing_places_elements_by_the_mode() {
    let x: (&[usize], &[f32]) = (&[1, 1, 2], &[0.0, 1.0]);
    let scales: (&[usize], &[f32]) = (&[3], &[1.0, 1.0, 2.0]);
    check("Upsample", 9, vec![text("mode", "nearest")], &[x, scales], (&[1, 1, 4], &[0.0, 0.0, 1.0, 1.0]));
    check("Upsample", 9, vec![text("mode", "linear")], &[x, scales], (&[1, 1, 4], &[0.0, 0.5, 1.0, 1.0]));
}

#[test]
fn reflections_have_the_period_of_the_axis() {
    let x: (&[usize], &[f32]) = (&[3], &[1.0, 2.0, 3.0]);
    let pads = || ints("pads", &[5, 0]);
    check("Pad", 2, vec![text("mode", "reflect"), pads()], &[x], (&[8], &[2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0]));
    check("Pad", 2, vec![text("mode", "edge"), pads()], &[x], (&[8], &[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0]));
    check("Pad", 2, vec![text("mode", "wrap"), pads()], &[x], (&[8], &[2.0, 3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0]));
    check("Pad", 2, vec![ints("pads", &[-1, 1])], &[x], (&[3], &[2.0, 3.0, 0.0]));
}

#[test]
fn products_over_named_axes() {
    let x: (&[usize], &[f32]) = (&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let equation = |equation: &str| vec![text("equation", equation)];
    check("Einsum", 12, equation("ij,jk->ki"), &[x, x], (&[2, 2], &[7.0, 15.0, 10.0, 22.0]));
    check("Einsum", 12, equation("ii->i"), &[x], (&[2], &[1.0, 4.0]));
    check("Einsum", 12, equation("...i->..."), &[x], (&[2], &[3.0, 7.0]));
    check("Einsum", 12, equation("ij"), &[x], (&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn the_greatest_keep_the_order_of_equals_and_nan_comes_last() {
    let x: (&[usize], &[f32]) = (&[5], &[1.0, 3.0, f32::NAN, 3.0, 0.0]);
    check("ReduceMax", 11, vec![ints("axes", &[0]), int("keepdims", 0)], &[(&[2], &[1.0, 3.0])], (&[], &[3.0]));
    let attributes = vec![int("k", 3), int("axis", 0)];
    let model = crate::common::model(
        crate::common::graph(
            vec![crate::common::node("TopK", &["x"], &["values", "places"], attributes)],
            vec![crate::common::floats("x", &[5])],
            Vec::new(),
            &["places"],
        ),
        9,
    );
    let places = crate::common::run(&model, &[&crate::common::array(x.0, x.1)]);
    assert_eq!(places[0].as_slice::<i64>(), Some([1, 3, 0].as_slice()));
}

#[test]
fn running_sums_go_either_way_and_may_leave_the_element_out() {
    let (x, axis): (&[f32], &[f32]) = (&[1.0, 2.0, 3.0, 4.0, 5.0], &[0.0]);
    let inputs: [(&[usize], &[f32]); 2] = [(&[5], x), (&[1], axis)];
    check("CumSum", 14, Vec::new(), &inputs, (&[5], &[1.0, 3.0, 6.0, 10.0, 15.0]));
    check("CumSum", 14, vec![int("exclusive", 1)], &inputs, (&[5], &[0.0, 1.0, 3.0, 6.0, 10.0]));
    check("CumSum", 14, vec![int("reverse", 1)], &inputs, (&[5], &[15.0, 14.0, 12.0, 9.0, 5.0]));
}

#[test]
fn regions_are_sampled_at_the_middle_of_their_parts() {
    // A picture whose elements are their columns, and a region over columns 1 to 3.
    let x: Vec<f32> = (0..16).map(|place| (place % 4) as f32).collect();
    let inputs: [(&[usize], &[f32]); 3] = [(&[1, 1, 4, 4], &x), (&[1, 4], &[1.0, 1.0, 3.0, 3.0]), (&[1], &[0.0])];
    let attributes = |mode: &str| {
        let sizes = vec![int("output_height", 1), int("output_width", 2), int("sampling_ratio", 2)];
        sizes.into_iter().chain([text("mode", mode)]).collect::<Vec<_>>()
    };
    check("RoiAlign", 16, attributes("avg"), &inputs, (&[1, 1, 1, 2], &[1.0, 2.0]));
    // Samples at columns 0.75 and 1.25, and 1.75 and 2.25: the greatest of an element times its weight.
    check("RoiAlign", 16, attributes("max"), &inputs, (&[1, 1, 1, 2], &[0.75, 1.5]));
}

#[test]
fn grams_are_counted_with_gaps() {
    let x: (&[usize], &[f32]) = (&[5], &[1.0, 2.0, 1.0, 2.0, 3.0]);
    let attributes = |skips: i64| {
        let lists = [("ngram_counts", &[0, 1][..]), ("ngram_indexes", &[2, 0, 1]), ("pool_int64s", &[1, 1, 2, 2, 3])];
        let numbers = [("min_gram_length", 1), ("max_gram_length", 2), ("max_skip_count", skips)];
        let mut all: Vec<_> =
            lists.map(|(name, list)| ints(name, list)).into_iter().chain(numbers.map(|(name, n)| int(name, n))).collect();
        all.push(text("mode", "TF"));
        all
    };
    check("TfIdfVectorizer", 9, attributes(0), &[x], (&[3], &[2.0, 1.0, 2.0]));
    check("TfIdfVectorizer", 9, attributes(2), &[x], (&[3], &[3.0, 2.0, 2.0]));
}
