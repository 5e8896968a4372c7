//! What single operations mean, and what changed between their versions.

use graver_ir::{Array, DType};
use graver_onnx::proto::{AttributeProto, TensorProto};

use crate::common::{FLOAT, Size, array, check, failure, floats, graph, input, int, integers, ints, model, node, run, text};

/// `float16` in ONNX files.
const HALF: i32 = 10;

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
    let arrays = [array(&[1, 1, 4, 4], &x), array(&[1, 4], &[1.0, 1.0, 3.0, 3.0])];
    let align = |attributes| {
        let nodes = vec![node("RoiAlign", &["x", "regions", "of"], &["y"], attributes)];
        let inputs = vec![floats("x", &[1, 1, 4, 4]), floats("regions", &[1, 4])];
        let model = model(graph(nodes, inputs, vec![integers("of", &[0])], &["y"]), 16);
        run(&model, &[&arrays[0], &arrays[1]]).remove(0).to_f64()
    };
    let attributes = |mode: &str| {
        let sizes = vec![int("output_height", 1), int("output_width", 2), int("sampling_ratio", 2)];
        sizes.into_iter().chain([text("mode", mode)]).collect::<Vec<_>>()
    };
    assert_eq!(align(attributes("avg")), [1.0, 2.0]);
    // Samples at columns 0.75 and 1.25, and 1.75 and 2.25: the greatest of an element times its weight.
    assert_eq!(align(attributes("max")), [0.75, 1.5]);
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

/// A node over one input of another element type, `x`.
fn of_type(op: &str, version: i64, attributes: Vec<AttributeProto>, elem_type: i32, x: &Array) -> Array {
    let sizes: Vec<Size> = x.shape().iter().map(|size| Size::Is(i64::try_from(*size).expect("small"))).collect();
    let nodes = vec![node(op, &["x"], &["y"], attributes)];
    run(&model(graph(nodes, vec![input("x", elem_type, &sizes)], Vec::new(), &["y"]), version), &[x]).remove(0)
}

#[test]
fn means_of_more_halves_than_a_half_counts() {
    let ones = |shape: &[usize]| array(shape, &vec![1.0; shape.iter().product()]).cast(DType::F16);
    for (op, version, attributes) in [
        ("ReduceMean", 13, vec![int("keepdims", 0)]),
        ("GlobalAveragePool", 1, Vec::new()),
        ("AveragePool", 19, vec![ints("kernel_shape", &[70_000])]),
        ("AveragePool", 19, vec![ints("kernel_shape", &[70_000]), ints("pads", &[1, 1])]),
    ] {
        let y = of_type(op, version, attributes, HALF, &ones(&[1, 1, 70_000]));
        assert!(y.dtype() == DType::F16 && y.to_f64()[0] == 1.0, "{op}: {y:?}");
    }
    let shares = of_type("Softmax", 13, Vec::new(), HALF, &ones(&[1, 70_000])).to_f64();
    assert!(shares.iter().all(|share| (share - 1.0 / 70_000.0).abs() < 1e-7), "{}", shares[0]);
    let norm = of_type("ReduceL2", 13, vec![int("keepdims", 0)], HALF, &ones(&[160_000])).to_f64();
    assert_eq!(norm, [400.0]);
}

#[test]
fn rows_of_many_halves_are_normalised() {
    let count = 70_000;
    let x = array(&[1, 1, count], &(0..count).map(|place| (place % 2) as f32 * 300.0).collect::<Vec<f32>>()).cast(DType::F16);
    let vector = |size: usize, value: f32| array(&[size], &vec![value; size]).cast(DType::F16);
    for (op, size) in [("LayerNormalization", count), ("InstanceNormalization", 1)] {
        let side = |name: &str| input(name, HALF, &[Size::Is(i64::try_from(size).expect("small"))]);
        let x_of = input("x", HALF, &[Size::Is(1), Size::Is(1), Size::Is(70_000)]);
        let nodes = vec![node(op, &["x", "scale", "bias"], &["y"], Vec::new())];
        let model = model(graph(nodes, vec![x_of, side("scale"), side("bias")], Vec::new(), &["y"]), 17);
        let y = run(&model, &[&x, &vector(size, 1.0), &vector(size, 0.0)]).remove(0).to_f64();
        assert_eq!(y[..2], [-1.0, 1.0], "{op}");
    }
}

#[test]
fn a_softmax_of_the_last_axis_is_one_of_rows_in_every_version() {
    let of = |version| {
        let nodes = vec![node("Softmax", &["x"], &["y"], vec![int("axis", 2)])];
        let model = model(graph(nodes, vec![floats("x", &[2, 3, 4])], Vec::new(), &["y"]), version);
        graver_ir::text::print(&crate::common::imported(&model).module)
    };
    assert_eq!(of(11), of(13));
    assert!(!of(11).contains("reshape(%0)"), "{}", of(11));
}

#[test]
fn integers_are_resized_without_rounding_between_the_axes() {
    let x = array(&[1, 1, 2, 2], &[0.0, 1.0, 1.0, 1.0]).cast(DType::U8);
    let scales = vec![AttributeProto {
        name: "scales".to_owned(),
        r#type: 6,
        floats: vec![1.0, 1.0, 0.5, 0.5],
        ..AttributeProto::default()
    }];
    // The mean of all four is 3/4; of two and two, each rounded, 1/2, which is 0.
    let y = of_type(
        "Upsample",
        7,
        [scales, vec![text("mode", "linear"), text("coordinate_transformation_mode", "half_pixel")]].concat(),
        2,
        &x,
    );
    assert_eq!(y.to_f64(), [1.0]);
}

#[test]
fn forms_that_later_versions_have_no_more() {
    let x: (&[usize], &[f32]) = (&[1, 1, 4], &[0.0, 1.0, 2.0, 3.0]);
    let nodes = vec![node(
        "Resize",
        &["x", "", "scales"],
        &["y"],
        vec![text("coordinate_transformation_mode", "tf_half_pixel_for_nn"), text("nearest_mode", "floor")],
    )];
    let scales = TensorProto {
        name: "scales".to_owned(),
        dims: vec![3],
        data_type: 1,
        float_data: vec![1.0, 1.0, 0.5],
        ..TensorProto::default()
    };
    let of = |version| model(graph(nodes.clone(), vec![floats("x", &[1, 1, 4])], vec![scales.clone()], &["y"]), version);
    assert_eq!(run(&of(11), &[&array(x.0, x.1)])[0].to_f64(), [1.0, 3.0]);
    assert!(
        failure(&of(13)).to_string().contains("`tf_half_pixel_for_nn`, which version 13 has no more"),
        "{}",
        failure(&of(13))
    );
    // The mask had the operand's type.
    let drops = |version| {
        model(
            graph(vec![node("Dropout", &["x"], &["y", "mask"], Vec::new())], vec![floats("x", &[2])], Vec::new(), &["mask"]),
            version,
        )
    };
    let mask = |version| run(&drops(version), &[&array(&[2], &[0.0, 5.0])]).remove(0);
    assert_eq!((mask(7), mask(10).dtype()), (array(&[2], &[1.0, 1.0]), DType::Bool));
    // Statistics of every place.
    let places: [(&[usize], &[f32]); 5] = [
        (&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]),
        (&[1, 2], &[1.0, 10.0]),
        (&[1, 2], &[0.0, 1.0]),
        (&[1, 2], &[1.0, 2.0]),
        (&[1, 2], &[1.0, 4.0]),
    ];
    let epsilon = AttributeProto { name: "epsilon".to_owned(), r#type: 1, ..AttributeProto::default() };
    check("BatchNormalization", 7, vec![int("spatial", 0), epsilon], &places, (&[2, 1, 2], &[0.0, 1.0, 2.0, 11.0]));
    let whole = Array::from_vec([3], vec![-2i32, 0, 1]).expect("sizes agree");
    assert_eq!(of_type("Erf", 9, Vec::new(), 6, &whole).to_f64(), [0.0, 0.0, 0.0]);
}

#[test]
fn a_response_is_normalised_over_the_channels_that_there_are() {
    let x: (&[usize], &[f32]) = (&[1, 2, 1], &[1.0, 2.0]);
    let attributes = |size: i64| {
        let float = |name: &str, f: f32| AttributeProto { name: name.to_owned(), r#type: 1, f, ..AttributeProto::default() };
        vec![int("size", size), float("alpha", size as f32), float("beta", 1.0)]
    };
    for size in [5, 1 << 20, 1 << 62] {
        check("LRN", 1, attributes(size), &[x], (&[1, 2, 1], &[1.0 / 6.0, 2.0 / 6.0]));
    }
}

/// Numbers of activations are listed for those that have such, both directions in one list.
#[test]
fn numbers_of_activations_belong_to_those_that_have_them() {
    let texts = |name: &str, strings: &[&str]| {
        let strings = strings.iter().map(|text| text.as_bytes().to_vec().into()).collect();
        AttributeProto { name: name.to_owned(), r#type: 8, strings, ..AttributeProto::default() }
    };
    let numbers = |name: &str, floats: &[f32]| AttributeProto {
        name: name.to_owned(),
        r#type: 6,
        floats: floats.to_vec(),
        ..AttributeProto::default()
    };
    let attributes = vec![
        texts("activations", &["Tanh", "Affine"]),
        numbers("activation_alpha", &[3.0]),
        numbers("activation_beta", &[0.5]),
        text("direction", "bidirectional"),
        int("hidden_size", 1),
    ];
    let inputs: [(&[usize], &[f32]); 3] = [(&[1, 1, 1], &[2.0]), (&[2, 1, 1], &[1.0, 1.0]), (&[2, 1, 1], &[0.0, 0.0])];
    check("RNN", 14, attributes, &inputs, (&[1, 2, 1, 1], &[2f64.tanh(), 6.5]));
}

#[test]
fn parts_are_of_no_less_than_nothing() {
    let of = |size, parts: &[&str]| {
        let nodes = vec![node("Split", &["x"], parts, vec![int("num_outputs", i64::try_from(parts.len()).expect("few"))])];
        model(graph(nodes, vec![input("x", 1, &[size])], Vec::new(), parts), 18)
    };
    let four = ["a", "b", "c", "d"];
    assert!(failure(&of(Size::Is(5), &four)).to_string().contains("a part of -1 elements of axis 0 of f32[5]"));
    let found = failure(&of(Size::Named("n"), &four)).to_string();
    assert!(found.contains("whether n elements are 4 parts of"), "{found}");
    let sizes = |outputs: Vec<Array>| outputs.iter().map(|part| part.shape()[0]).collect::<Vec<_>>();
    assert_eq!(sizes(run(&of(Size::Named("n"), &four), &[&array(&[7], &[0.0; 7])])), [2, 2, 2, 1]);
    crate::common::imported(&of(Size::Named("n"), &["a", "b"]));
}

/// A scale is a float of 32 bits: what was a ratio of sizes before it was rounded gives the size again.
#[test]
fn a_scale_that_was_rounded_is_the_ratio_that_it_was() {
    for (from, to) in [(10usize, 21usize), (3, 7), (41, 64), (7, 3), (100, 33)] {
        #[expect(clippy::cast_precision_loss, reason = "small sizes")]
        let scale = to as f32 / from as f32;
        let scales = TensorProto {
            name: "scales".to_owned(),
            dims: vec![1],
            data_type: FLOAT,
            float_data: vec![scale],
            ..TensorProto::default()
        };
        let nodes = vec![node("Resize", &["x", "scales"], &["y"], Vec::new())];
        let x = floats("x", &[i64::try_from(from).expect("small")]);
        let model = model(graph(nodes, vec![x], vec![scales], &["y"]), 10);
        assert_eq!(run(&model, &[&array(&[from], &vec![1.0; from])])[0].shape(), [to], "{scale}");
    }
}
