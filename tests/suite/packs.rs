//! Operands that are packed once for many launches: never used where what they were packed from has changed.

use graver::nn::Storage;
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
        for (storage, size) in [(Storage::F16, 2), (Storage::Bf16, 2), (Storage::Int8, 1)] {
            let layer = of(Some(storage));
            let saved = plain - bytes(&layer, None, &device);
            assert!(saved >= SIZE[0] * SIZE[1] * (4 - size), "{storage:?}: {saved} bytes less than {plain}");
            bytes(&layer, Some(1), &device);
            bytes(&layer, Some(3), &device);
        }
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
