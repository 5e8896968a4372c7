//! Elements put at positions, against loops, and their derivatives, against differences.

use graver_trace::{Array, Error, Tensor, constant_array, grad, spec};

use crate::common::{error, floats, ints, run};

const INDEX: [i64; 6] = [4, 0, 4, 1, 3, 1];

/// `x: [2, 5]` with `update: [2, 3]` at [`INDEX`], by a loop.
fn by_hand(x: &[f64], update: &[f64], put: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    let mut y = x.to_vec();
    for (place, (at, update)) in INDEX.iter().zip(update).enumerate() {
        let element = &mut y[place / 3 * 5 + usize::try_from(*at).expect("small")];
        *element = put(*element, *update);
    }
    y
}

fn numbers(count: usize, from: usize) -> Vec<f64> {
    (0..count).map(|place| ((place * 37 + from) % 64) as f64 / 16.0 - 1.9).collect()
}

fn doubles(shape: &[usize], values: &[f64]) -> Array {
    Array::from_vec(shape, values.to_vec()).expect("as many values as places")
}

type Put = (fn(Tensor, usize, Tensor, Tensor) -> Tensor, fn(f64, f64) -> f64);

const PUTS: [Put; 5] = [
    (|x, axis, index, update| x.scatter(axis, index, update), |_, update| update),
    (|x, axis, index, update| x.scatter_add(axis, index, update), |x, update| x + update),
    (|x, axis, index, update| x.scatter_mul(axis, index, update), |x, update| x * update),
    (|x, axis, index, update| x.scatter_max(axis, index, update), f64::max),
    (|x, axis, index, update| x.scatter_min(axis, index, update), f64::min),
];

#[test]
fn elements_are_put_at_positions() -> Result<(), Error> {
    let (x, update) = (numbers(10, 11), numbers(6, 5));
    let specs = || (spec::<f64>(("n", 5)), spec::<i64>(("n", 3)), spec::<f64>(("n", 3)));
    let index = ints([2, 3], INDEX);
    let (given, updates) = (doubles(&[2, 5], &x), doubles(&[2, 3], &update));
    for (traced, put) in PUTS {
        let expected = by_hand(&x, &update, put);
        let y = run(|(x, index, update)| traced(x, 1, index, update), specs(), (&given, &index, &updates))?;
        assert_eq!((y.shape(), y.to_f64()), ([2, 5].as_slice(), expected.clone()));
        // Along the first axis, of everything the other way round.
        let y = run(|(x, index, update)| traced(x.t(), 0, index.t(), update.t()).t(), specs(), (&given, &index, &updates))?;
        assert_eq!(y.to_f64(), expected);
    }
    Ok(())
}

/// The derivatives of a weighted sum of `f(x, update)`, by both operands, are what differences say.
fn check_gradients(shapes: [&[usize]; 2], f: impl Fn(Tensor, Tensor) -> Tensor) -> Result<(), Error> {
    let specs = || (spec::<f64>(shapes[0]), spec::<f64>(shapes[1]));
    let loss = |x: Tensor, update: Tensor| {
        let y = f(x, update);
        (y * y * 0.5 + y * 0.7).sum(..)
    };
    let given = shapes.map(|shape| numbers(shape.iter().product(), 3 + 8 * shape[1]));
    let at = |given: &[Vec<f64>; 2]| [0, 1].map(|slot| doubles(shapes[slot], &given[slot]));
    let [x, update] = at(&given);
    let (dx, du) = run(|(x, update)| grad((x, update), |(x, update)| loss(x, update)), specs(), (&x, &update))?;
    for (slot, derivative) in [dx.to_f64(), du.to_f64()].iter().enumerate() {
        for (place, found) in derivative.iter().enumerate() {
            let value = |by: f64| {
                let mut moved = given.clone();
                moved[slot][place] += by;
                let [x, update] = at(&moved);
                run(|(x, update)| loss(x, update), specs(), (&x, &update)).map(|loss| loss.to_f64()[0])
            };
            let difference = (value(1e-5)? - value(-1e-5)?) / 2e-5;
            assert!(
                (found - difference).abs() < 1e-6 * difference.abs().max(1.0),
                "{slot}, {place}: {found} is not {difference}"
            );
        }
    }
    Ok(())
}

#[test]
fn derivatives_are_what_differences_say() -> Result<(), Error> {
    for (traced, _) in PUTS {
        check_gradients([&[2, 5], &[2, 3]], |x, update| traced(x, 1, constant_array(&ints([2, 3], INDEX)), update))?;
    }
    let pairs = || constant_array(&ints([3, 2], [1, 0, 0, 4, 1, 0]));
    check_gradients([&[2, 5], &[3, 1]], |x, update| x.scatter_nd_add(pairs(), update.squeeze(1)))?;
    check_gradients([&[2, 5], &[3, 1]], |x, update| x.scatter_nd(pairs(), update.squeeze(1)))?;
    check_gradients([&[2, 5], &[3, 1]], |x, update| x.gather_nd(pairs()) * update.squeeze(1))?;
    Ok(())
}

#[test]
fn rows_of_positions_name_axes() -> Result<(), Error> {
    let x = floats([2, 3, 2], (0..12).map(|place| place as f32));
    let specs = |named: usize| (spec::<f32>(("n", 3, 2)), spec::<i64>(("m", named)));
    let pairs = ints([3, 2], [1, 2, 0, 0, 1, 0]);
    let y = run(|(x, index)| x.gather_nd(index), specs(2), (&x, &pairs))?;
    assert_eq!((y.shape(), y.to_f64()), ([3, 2].as_slice(), vec![10.0, 11.0, 0.0, 1.0, 6.0, 7.0]));
    let y = run(|(x, index)| x.gather_nd(index), specs(1), (&x, &ints([1, 1], [1])))?;
    assert_eq!((y.shape(), y.to_f64()), ([1, 3, 2].as_slice(), vec![6.0, 7.0, 8.0, 9.0, 10.0, 11.0]));
    let y = run(|(x, index)| x.gather_nd(index), specs(3), (&x, &ints([2, 3], [0, 1, 1, 1, 2, 0])))?;
    assert_eq!(y.to_f64(), [3.0, 10.0]);
    // Positions of another integer type, of more axes.
    let y = run(
        |(x, index)| x.gather_nd(index.reshape((1, index.dim(0), 2)).cast(graver_trace::DType::I32)),
        specs(2),
        (&x, &pairs),
    )?;
    assert_eq!(y.shape(), [1, 3, 2]);
    let twice = ints([3, 2], [1, 2, 0, 0, 1, 2]);
    let y = run(|(x, index)| (x * 0.0).scatter_nd_add(index, x.gather_nd(index)), specs(2), (&x, &twice))?;
    assert_eq!(y.to_f64(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 20.0, 22.0]);
    let y = run(|(x, index)| (x * 0.0).scatter_nd(index, x.gather_nd(index) + 1.0), specs(2), (&x, &twice))?;
    assert_eq!(y.to_f64(), [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 11.0, 12.0]);
    // Inside of all axes together, outside of one.
    for outside in [[0, 3], [0, -1], [2, 0], [-1, 4]] {
        let told =
            run(|(x, index)| x.gather_nd(index), specs(2), (&x, &ints([1, 2], outside))).expect_err("out of range").to_string();
        assert!(told.contains("crates/trace/tests/trace/scatter.rs") && told.contains("out of range"), "{told}");
    }
    Ok(())
}

#[test]
fn what_is_wrong_is_told() {
    let x = || spec::<f32>(("n", 5));
    let of = |index: usize, update: usize| (x(), spec::<i64>(("n", index)), spec::<f32>(("n", update)));
    let told = error(|(x, index, update)| x.scatter_add(0, index, update), of(3, 3));
    assert!(told.contains("scatter_add: f32[n, 5] and the index i64[n, 3] differ in more than axis 0"), "{told}");
    let told = error(|(x, index, update)| x.scatter(1, index, update), of(3, 4));
    assert!(told.contains("scatter: the index i64[n, 3] and the update f32[n, 4] differ in shape"), "{told}");
    let told = error(|(x, index, update)| x.scatter(2, index, update), of(3, 3));
    assert!(told.contains("scatter: there is no axis 2 in f32[n, 5]"), "{told}");
    let told = error(|(x, index)| x.gather_nd(index), (x(), spec::<i64>(("m", 3))));
    let said = "gather_nd: the last axis of the index i64[m, 3] names axes of f32[n, 5]: its size must be a number from 1 to 2";
    assert!(told.contains(said), "{told}");
    let told = error(|(x, index)| x.gather_nd(index), (x(), spec::<f32>(("m", 2))));
    assert!(told.contains("gather_nd: positions must be integers, got f32[m, 2]"), "{told}");
    let told = error(|(x, index)| x.gather_nd(index), (x(), spec::<i64>(())));
    assert!(told.contains("gather_nd: the last axis of the index i64[] names axes"), "{told}");
}
