//! A cache of keys and values on the CPU: one compiled function for every length, and the cache stays where it lies.

use graver::prelude::*;
use graver::trace::Attention;

const CAPACITY: usize = 32;
const WIDTH: usize = 8;

#[derive(Module)]
struct Attending {
    cache: KvCache,
}

/// The token at a position: `[1, 2, 1, 8]`.
fn token(position: usize) -> Array {
    let values = (0..2 * WIDTH).map(|place| ((place * 5 + position * 7) % 13) as f32 / 4.0).collect::<Vec<_>>();
    Array::from_vec([1, 2, 1, WIDTH], values).expect("as many values as places")
}

#[test]
fn a_cache_grows_where_it_lies() {
    let model = Attending { cache: KvCache::new(1, 2, CAPACITY, WIDTH, DType::F32) };
    let inputs = (spec::<f32>((1, 2, 1, WIDTH)), spec::<bool>([symbol("length", 1..=CAPACITY)]));
    let decode = step(inputs, |(x, all)| {
        let (keys, values) = model.cache.extend(x, x * 2.0, all.dim(0) - 1);
        x.attention(keys, values, Attention::new().causal())
    });
    let decode = decode.model("", &model).eval().compile(&graver::cpu_with_threads(2)).expect("a good program");
    let (decode, mut state) = decode.split();
    let mut places = Vec::new();
    for length in 1..=CAPACITY {
        let all = Array::from_vec([length], vec![true; length]).expect("as many values as places");
        state = decode.call(state, (&token(length - 1), &all)).expect("a good call").0;
        places.push(["cache.keys", "cache.values"].map(|path| state.at(path).expect("a slot").bytes().as_ptr()));
    }
    // The first call begins with the model's own array, which the model still has.
    assert!(places[1..].windows(2).all(|pair| pair[0] == pair[1]), "{places:?}");
    let kept = state.at("cache.keys").expect("a slot").to_f64();
    for position in 0..CAPACITY {
        let token = token(position).to_f64();
        for head in 0..2 {
            let row = &kept[(head * CAPACITY + position) * WIDTH..][..WIDTH];
            assert_eq!(row, &token[head * WIDTH..][..WIDTH], "head {head}, position {position}");
        }
    }
}
