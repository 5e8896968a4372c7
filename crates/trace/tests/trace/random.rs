//! Distributions, and keys of the caller's own.

use graver_trace::{Array, DType, Error, RandomKey, constant_array, full, integers, permutation, rng_key, spec, step, trace};

use crate::common::{error, floats, run, run_over};

fn mean(x: &Array) -> f64 {
    x.to_f64().iter().sum::<f64>() / x.numel() as f64
}

#[test]
fn distributions_have_their_probabilities() -> Result<(), Error> {
    let scores = floats([3], [0.0, 2f32.ln(), f32::NEG_INFINITY]);
    let traced = step((), |()| {
        let many = constant_array(&scores).unsqueeze(0).broadcast_to((4000, 3));
        let coins = concat_of(&[0.0, 0.25, 1.0]).unsqueeze(0).broadcast_to((4000, 3)).bernoulli();
        (coins.cast(DType::F32).mean(0), many.categorical(), integers([4000], -3..5), permutation(100))
    })
    .trace()?;
    let ((coins, classes, numbers, order), _) = run_over(&traced, (), &traced.state())?;
    let coins = coins.to_f64();
    assert!(coins[0] == 0.0 && (coins[1] - 0.25).abs() < 0.03 && coins[2] == 1.0, "{coins:?}");
    // Twice as likely as the other, and the third never.
    assert!((mean(&classes) - 2.0 / 3.0).abs() < 0.03 && classes.to_f64().iter().all(|class| *class < 2.0));
    let mut counts = [0; 8];
    numbers
        .as_slice::<i64>()
        .expect("integers")
        .iter()
        .for_each(|number| counts[usize::try_from(number + 3).expect("from -3 on")] += 1);
    assert!(counts.iter().all(|count| (400..600).contains(count)), "{counts:?}");
    let mut places = order.as_slice::<i64>().expect("integers").to_vec();
    assert_ne!(places, (0..100).collect::<Vec<i64>>());
    places.sort_unstable();
    assert_eq!(places, (0..100).collect::<Vec<i64>>());
    Ok(())
}

fn concat_of(values: &[f32]) -> graver_trace::Tensor {
    constant_array(&Array::from_vec([values.len()], values.to_vec()).expect("as many"))
}

#[test]
fn numbers_follow_from_the_key_alone() -> Result<(), Error> {
    let draw = |key: RandomKey| (key.normal([8], DType::F32), key.integers([8], 0..1000));
    let alone = trace(|key| draw(RandomKey::new(key)), spec::<u32>([4]))?;
    assert!(alone.module().state.is_empty());
    let (first, state) = (run_over(&alone, &rng_key(7), &[])?.0, alone.state());
    assert_eq!(first, run_over(&alone, &rng_key(7), &state)?.0);
    assert_ne!(first.0, run_over(&alone, &rng_key(8), &[])?.0.0);
    // What else is drawn makes no difference, and a seed is the key that it makes.
    let beside = run(
        |key| {
            let hidden = graver_trace::uniform([8], DType::F32);
            (hidden, draw(RandomKey::new(key)), draw(RandomKey::seed(7)))
        },
        spec::<u32>([4]),
        &rng_key(7),
    )?;
    assert_eq!((&beside.1, &beside.2), (&first, &first));
    // Parts have nothing to do with one another.
    let parts = run(
        |key| {
            let [one, other] = RandomKey::new(key).split();
            (one.uniform([8], DType::F32), other.uniform([8], DType::F32), RandomKey::new(key).uniform([8], DType::F32))
        },
        spec::<u32>([4]),
        &rng_key(7),
    )?;
    assert!(parts.0 != parts.1 && parts.1 != parts.2 && parts.0 != parts.2);
    Ok(())
}

#[test]
fn what_is_no_distribution() {
    let found = error(|x| RandomKey::new(x).uniform([2], DType::F32), spec::<f32>([4]));
    assert!(found.contains("a random key is u32[4], as `rng_key` makes it, got f32[4]"), "{found}");
    let found = error(|()| integers([2], 5..5), ());
    assert!(found.contains("a range has from 1 to 2^31 integers, got 5..5"), "{found}");
    let found = error(|()| full([2], 1i64).bernoulli(), ());
    assert!(found.contains("random numbers are floats"), "{found}");
}
