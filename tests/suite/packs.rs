//! Operands that are packed once for many launches: never used where what they were packed from has changed.

use graver::nn::{Fill, Storage};
use graver::prelude::*;

/// Floats that differ from place to place, small enough that products of them stay so.
fn floats(shape: &[usize], seed: usize) -> Array {
    let value = |place: usize| Scalar::float(DType::F32, ((place * 7 + seed * 13) % 29) as f64 / 64.0 - 0.2);
    Array::from_fn(DType::F32, shape, value)
}

/// Calls with weights that stay, that are replaced, that are written to in place, and with other sizes in between.
#[test]
fn a_weight_that_changes_is_packed_again() {
    let weight = Param::new(floats(&[40, 24], 0));
    let compile_on = |device: &Device| {
        compile(|x: Tensor| x.matmul(weight.get().t()).relu(), spec::<f32>(("rows", 24)), device).expect("it compiles")
    };
    let [ours, oracle] = [cpu_with_threads(2), interpreter()].map(|device| compile_on(&device));
    let check = |rows: usize| {
        let x = floats(&[rows, 24], rows);
        let (got, expected) = (ours.call(&x).expect("it runs"), oracle.call(&x).expect("it runs"));
        let apart = got.to_f64().iter().zip(expected.to_f64()).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-5, "{rows} rows: {apart} apart");
    };
    for rows in [8, 8, 100, 3, 8] {
        check(rows);
    }
    for seed in 1..4 {
        weight.set_value(floats(&[40, 24], seed)).expect("the same type");
        check(8);
        check(100);
    }
}

/// Layers whose weights are kept in fewer bits: packed as they are kept, read where they lie by a single row.
#[test]
fn what_is_kept_in_fewer_bits_is_packed_in_as_few() {
    const SIZE: [usize; 2] = [200, 96];
    let of = |storage: Option<Storage>| {
        let layer = Linear::new(SIZE[1], SIZE[0]).init(&mut Init::seed(0));
        match storage {
            Some(storage) => layer.stored(storage),
            None => layer,
        }
    };
    let bytes = |layer: &Linear, rows: Option<usize>, device: &Device| {
        let spec = rows.map_or_else(|| spec::<f32>(("rows", SIZE[1])), |rows| spec::<f32>([rows, SIZE[1]]));
        let compile_on = |device: &Device| compile(|x: Tensor| layer.forward(x), spec.clone(), device).expect("it compiles");
        let [ours, oracle] = [device, &interpreter()].map(compile_on);
        for rows in rows.map_or_else(|| vec![1, 2, 5, 13, 1], |rows| vec![rows]) {
            let x = floats(&[rows, SIZE[1]], rows);
            let (got, expected) = (ours.call(&x).expect("it runs"), oracle.call(&x).expect("it runs"));
            let apart = got.to_f64().iter().zip(expected.to_f64()).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-5, "{rows} rows: {apart} apart");
        }
        ours.peak_bytes(&[("rows".to_owned(), 13)].into_iter().collect()).expect("sizes are known")
    };
    for cpu in crate::levels::cpus(1) {
        let device = Device::new(std::sync::Arc::new(cpu));
        let plain = bytes(&of(None), None, &device);
        for (storage, size) in [(Storage::F16, 2), (Storage::Bf16, 2), (Storage::INT8, 1)] {
            let layer = of(Some(storage));
            let saved = plain - bytes(&layer, None, &device);
            assert!(saved >= SIZE[0] * SIZE[1] * (4 - size), "{storage:?}: {saved} bytes less than {plain}");
            bytes(&layer, Some(1), &device);
            bytes(&layer, Some(3), &device);
        }
    }
}

/// What a layer computes with: its stored weight, by the definition of the storage.
fn rounded(weight: &Array, most: f64, group: usize) -> Vec<f64> {
    let values = weight.to_f64();
    let of_group = |group: &[f64]| {
        let scale = f64::from((group.iter().fold(0.0f64, |most, x| most.max(x.abs())) / most) as f32);
        group.iter().map(|x| (x / scale).round_ties_even().clamp(-most, most) * scale).collect::<Vec<_>>()
    };
    values.chunks(group).flat_map(of_group).collect()
}

/// Scales of groups, and two integers in a byte: by the interpreter and on every level, for few rows and for many, of sizes
/// that vectors divide and others.
#[test]
fn weights_of_groups_are_what_their_storage_says() {
    const OUTPUTS: usize = 70;
    let cases = [
        (192, Storage::INT4, 7.0, 64),
        (256, Storage::Int4 { group: Some(128) }, 7.0, 128),
        (160, Storage::Int4 { group: Some(32) }, 7.0, 32),
        (90, Storage::Int4 { group: Some(10) }, 7.0, 10),
        (90, Storage::Int4 { group: Some(2) }, 7.0, 2),
        (134, Storage::Int4 { group: None }, 7.0, 134),
        (192, Storage::Int8 { group: Some(64) }, 127.0, 64),
        (95, Storage::Int8 { group: Some(19) }, 127.0, 19),
    ];
    let mut devices = vec![interpreter(), cpu_with_threads(2)];
    devices.extend(crate::levels::cpus(1).into_iter().map(|cpu| Device::new(std::sync::Arc::new(cpu))));
    for (inputs, storage, most, group) in cases {
        let layer = Linear::new(inputs, OUTPUTS).bias(false).init(&mut Init::seed(1));
        let weight = rounded(&layer.weight.value(), most, group);
        let layer = layer.stored(storage);
        let table = Embedding::new(OUTPUTS, inputs).init(&mut Init::seed(1));
        let entries = rounded(&table.weight.value(), most, group);
        let table = table.stored(storage);
        for device in &devices {
            for rows in [None, Some(1), Some(3)] {
                let spec = rows.map_or_else(|| spec::<f32>(("rows", inputs)), |rows| spec::<f32>([rows, inputs]));
                let ours = compile(|x: Tensor| layer.forward(x), spec, device).expect("it compiles");
                for rows in rows.map_or_else(|| vec![1, 2, 13], |rows| vec![rows]) {
                    let x = floats(&[rows, inputs], rows);
                    let (got, x) = (ours.call(&x).expect("it runs").to_f64(), x.to_f64());
                    let sum = |place: usize| {
                        let (x, w) = (&x[place / OUTPUTS * inputs..], &weight[place % OUTPUTS * inputs..]);
                        x.iter().zip(w).take(inputs).map(|(x, w)| x * w).sum::<f64>()
                    };
                    let apart = (0..got.len()).map(|place| (sum(place) - got[place]).abs()).fold(0.0, f64::max);
                    assert!(apart < 1e-6, "{storage:?}, {rows} rows: {apart} apart");
                }
            }
            let ids = Array::from_vec([3], vec![69i64, 0, 31]).expect("three");
            let ours = compile(|ids: Tensor| table.forward(ids), spec::<i64>([3]), device).expect("it compiles");
            let expected = [69, 0, 31].map(|id: usize| &entries[id * inputs..(id + 1) * inputs]).concat();
            let got = ours.call(&ids).expect("it runs").to_f64();
            let apart = got.iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-6, "{storage:?}: an entry is {apart} off");
        }
    }
}

/// What rounding weights does to results, of normal numbers: the figures of `docs/numerics.md`.
#[test]
fn results_of_rounded_weights_are_as_far_off_as_the_book_says() {
    let cases = [
        (Storage::F16, 0.00021),
        (Storage::Bf16, 0.0017),
        (Storage::INT8, 0.0076),
        (Storage::Int8 { group: Some(64) }, 0.0059),
        (Storage::Int4 { group: Some(32) }, 0.096),
        (Storage::INT4, 0.109),
        (Storage::Int4 { group: Some(128) }, 0.117),
    ];
    let normal = Fill::Normal { mean: 0.0, std: 1.0 };
    let layer = || Linear::new(1024, 512).bias(false).init_with(&mut Init::seed(2), normal);
    let (device, x) = (cpu_with_threads(2), Init::seed(3).array(normal, [8, 1024]));
    let results = |layer: &Linear| {
        compile(|x: Tensor| layer.forward(x), spec::<f32>([8, 1024]), &device)
            .expect("it compiles")
            .call(&x)
            .expect("it runs")
            .to_f64()
    };
    let exact = results(&layer());
    let size = |of: &mut dyn Iterator<Item = f64>| of.map(|x| x * x).sum::<f64>().sqrt();
    for (storage, expected) in cases {
        let rounded = results(&layer().stored(storage));
        let off = size(&mut rounded.iter().zip(&exact).map(|(x, y)| x - y)) / size(&mut exact.iter().copied());
        assert!((off / expected - 1.0).abs() < 0.05, "{storage:?}: {off}, not {expected}");
    }
}

/// A row against integers of 4 bits: nothing is packed, and no weight is decoded but in the product.
#[test]
fn a_row_reads_integers_of_four_bits_where_they_lie() {
    let layer = Linear::new(512, 384).init(&mut Init::seed(0)).stored(Storage::INT4);
    for cpu in crate::levels::cpus(1) {
        let device = Device::new(std::sync::Arc::new(cpu));
        let ours = compile(|x: Tensor| layer.forward(x), spec::<f32>([1, 512]), &device).expect("it compiles");
        assert_eq!(ours.kernels().len(), 1, "{:?}", ours.kernels());
        let bytes = ours.peak_bytes(&[].into_iter().collect()).expect("sizes are known");
        assert!(bytes < 512 * 384 / 2, "{bytes} bytes beside the weight's");
    }
}

/// Products of bytes, summed up in 32 bits, are exact, and the weight's are packed as bytes.
#[test]
fn bytes_are_multiplied_and_packed_as_bytes() {
    const SIZE: [usize; 2] = [200, 96];
    let bytes = |shape: &[usize], dtype: DType| {
        Array::from_fn(dtype, shape, |place| Scalar::int(dtype, i64::try_from(place * 31 % 255).expect("small") - 127))
    };
    for cpu in crate::levels::cpus(2) {
        let device = Device::new(std::sync::Arc::new(cpu));
        let [narrow, wide] = [DType::I8, DType::I32].map(|dtype| {
            let weight = Param::new(bytes(&SIZE, dtype));
            let of = |x: Tensor| x.cast(DType::I32).matmul(weight.get().cast(DType::I32).t());
            let compile_on = |device: &Device| compile(of, spec::<i8>(("rows", SIZE[1])), device).expect("it compiles");
            let [ours, oracle] = [&device, &interpreter()].map(compile_on);
            for rows in [1, 2, 5, 13, 70] {
                let x = bytes(&[rows, SIZE[1]], DType::I8);
                assert_eq!(ours.call(&x).expect("it runs"), oracle.call(&x).expect("it runs"), "{dtype}, {rows} rows");
            }
            ours.peak_bytes(&[("rows".to_owned(), 13)].into_iter().collect()).expect("sizes are known")
        });
        assert!(wide - narrow >= SIZE[0] * SIZE[1] * 3, "{narrow} bytes, of words {wide}");
    }
}

/// A step that trains one layer and only reads another: the first is packed in every call.
#[test]
fn what_a_step_trains_is_packed_in_every_call() {
    let losses = [cpu_with_threads(1), cpu_with_threads(3), interpreter()].map(|device| {
        let (read, trained) = (Param::new(floats(&[48, 32], 1)), Param::new(floats(&[16, 48], 2)));
        let traced = graver::trace::step(spec::<f32>(("rows", 32)), |x: Tensor| {
            let hidden = x.matmul(read.get().t());
            let (loss, grad) = graver::trace::value_and_grad(trained.get(), |w| hidden.matmul(w.t()).square().mean(..));
            trained.set(trained.get() - grad * 0.5);
            loss
        });
        let mut step = traced.compile(&device).expect("it compiles");
        let mut loss = |rows: usize| step.run(&floats(&[rows, 32], rows)).expect("it runs").item().expect("one number");
        [12, 12, 50, 12, 12].map(&mut loss)
    });
    assert_eq!(losses[0], losses[1], "for any number of threads");
    let apart = losses[0].iter().zip(losses[2]).map(|(x, y)| (x - y).abs() / y.abs()).fold(0.0, f64::max);
    assert!(apart < 1e-4, "{losses:?}");
    assert!(losses[0].windows(2).all(|pair| pair[0] != pair[1]), "the weight changes: {losses:?}");
}

/// An inner loop that packs once what the outer loop changes.
#[test]
fn a_loop_packs_again_what_the_loop_around_it_changes() {
    let results = [cpu_with_threads(1), cpu_with_threads(2), interpreter()].map(|device| {
        let program = |[w, xs]: [Tensor; 2]| {
            let (last, ys) = scan(w, xs, |w, x| {
                let (h, _) = scan(x, zeros_of(x, 4), |h, _| {
                    let h = h.matmul(w).tanh();
                    (h, h)
                });
                (w * 0.5 + h.matmul(w).sum(0) * 0.01, h)
            });
            vec![last, ys]
        };
        let specs = [spec::<f32>([32, 32]), spec::<f32>(("steps", 8, 32))];
        let compiled = compile(program, specs, &device).expect("it compiles");
        let args = [floats(&[32, 32], 1), floats(&[3, 8, 32], 2)];
        [(); 2].map(|()| compiled.call(args.each_ref()).expect("it runs"))
    });
    assert_eq!(results[0], results[1], "for any number of threads");
    assert_eq!(results[0][0], results[0][1], "from call to call");
    for (got, expected) in results[0][0].iter().zip(&results[2][0]) {
        let apart = got.to_f64().iter().zip(expected.to_f64()).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-5, "{apart} apart");
    }
}

/// So many slices to go over.
fn zeros_of(x: Tensor, count: usize) -> Tensor {
    graver::trace::zeros((count, 1), x.dtype())
}
