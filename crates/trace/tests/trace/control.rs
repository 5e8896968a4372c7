//! Loops and branches: what they close over, what becomes of state and random numbers, derivatives, and what is refused.

use graver_trace::DType::{BF16, F32};
use graver_trace::{
    Again, Array, Buffer, Error, Module, Param, Tensor, arange, cond, grad, normal, scan, scan_back, spec, step, trace, training,
    uniform, value_and_grad, while_at_most, while_loop,
};

use crate::common::{at, close, error, floats, ramp, run, run_over};

/// `m = 0.5 m + x`, from both ends.
#[test]
fn a_scan_carries_and_stacks() {
    let xs = floats([3, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let start = floats([2], [8.0, -8.0]);
    let cell = |mean: Tensor, x: Tensor| {
        let next = mean * 0.5 + x;
        (next, (next, x * 2.0))
    };
    let f = |(start, xs): (Tensor, Tensor)| (scan(start, xs, cell), scan_back(start, xs, cell));
    let ((last, (means, twice)), (first, (back, _))) =
        run(f, (spec::<f32>([2]), spec::<f32>(("t", 2))), (&start, &xs)).expect("it runs");
    close(&means, &[5.0, -2.0, 5.5, 3.0, 7.75, 7.5], 1e-6);
    close(&last, &[7.75, 7.5], 1e-6);
    close(&twice, &[2.0, 4.0, 6.0, 8.0, 10.0, 12.0], 1e-6);
    close(&back, &[1.0 + 0.5 * 7.5, 2.0 + 0.5 * 5.0, 3.0 + 0.5 * 9.0, 4.0 + 0.5 * 2.0, 9.0, 2.0], 1e-6);
    close(&first, &[1.0 + 0.5 * (3.0 + 0.5 * 9.0), 2.0 + 0.5 * (4.0 + 0.5 * 2.0)], 1e-6);
}

#[test]
fn bodies_close_over_what_is_around_them() {
    let weight = Param::new(floats([2], [3.0, -1.0]));
    let xs = floats([2, 2], [1.0, 2.0, 3.0, 4.0]);
    let f = |xs: Tensor| {
        let twice = weight.get() * 2.0;
        // Through two bodies, and given back as it is.
        scan(xs.sum(0), xs, |sum, row| {
            let (_, products) = scan(row.sum(..), row, |inner, x| (inner, x * inner));
            (sum + row * twice, (products, twice))
        })
    };
    let (sum, (products, twice)) = run(f, spec::<f32>([2, 2]), &xs).expect("it runs");
    close(&sum, &[4.0 + 6.0 * 4.0, 6.0 - 2.0 * 6.0], 1e-6);
    close(&products, &[3.0, 6.0, 21.0, 28.0], 1e-6);
    close(&twice, &[6.0, -2.0, 6.0, -2.0], 1e-6);
}

#[test]
fn loops_end_by_their_condition_or_their_bound() {
    let root = |x: Tensor| while_loop(x, |y| (y * y - x).abs().gt(1e-4).any(..), |y| (y + x / y) * 0.5);
    close(&run(root, spec::<f32>([2]), &floats([2], [4.0, 9.0])).expect("it runs"), &[2.0, 3.0], 1e-4);
    let twice = |x: Tensor| while_at_most(2, (x, x), |(_, x)| x.lt(100.0).all(..), |(_, x)| (x, x * 3.0));
    let (before, last) = run(twice, spec::<f32>([1]), &floats([1], [2.0])).expect("it runs");
    close(&before, &[6.0], 1e-6);
    close(&last, &[18.0], 1e-6);
}

#[test]
fn a_branch_computes_one_of_two() {
    let f = |x: Tensor| {
        let scale = x.sum(..);
        cond(scale.gt(0.0), || (x * scale, x), || (x, x.relu()))
    };
    let (y, z) = run(f, spec::<f32>([2]), &floats([2], [1.0, 2.0])).expect("it runs");
    close(&y, &[3.0, 6.0], 1e-6);
    close(&z, &[1.0, 2.0], 1e-6);
    let (y, z) = run(f, spec::<f32>([2]), &floats([2], [1.0, -2.0])).expect("it runs");
    close(&y, &[1.0, -2.0], 1e-6);
    close(&z, &[1.0, 0.0], 1e-6);
}

#[test]
fn derivatives_go_through() {
    // sum of x^3 by two multiplications in a loop: 3 x^2.
    let cubes = |x: Tensor| grad(x, |x| scan(x, arange(2, F32), |y, _| (y * x, ())).0.sum(..));
    close(&run(cubes, spec::<f32>([2]), &floats([2], [2.0, -3.0])).expect("it runs"), &[12.0, 27.0], 1e-6);
    let bounded = |x: Tensor| grad(x, |x| while_at_most(5, x, |y| y.lt(10.0).all(..), |y| y * x).sum(..));
    close(&run(bounded, spec::<f32>([1]), &floats([1], [2.0])).expect("it runs"), &[4.0 * 8.0], 1e-6);
    let branch = |x: Tensor| grad(x, |x| cond(x.sum(..).gt(0.0), || (x * x).sum(..), || x.sum(..)));
    close(&run(branch, spec::<f32>([2]), &floats([2], [2.0, 3.0])).expect("it runs"), &[4.0, 6.0], 1e-6);
    close(&run(branch, spec::<f32>([2]), &floats([2], [-2.0, -3.0])).expect("it runs"), &[1.0, 1.0], 1e-6);
}

#[derive(Module)]
struct Counter {
    weight: Param,
    count: Buffer,
}

impl Counter {
    fn new() -> Self {
        Self { weight: Param::new(floats([2], [1.0, 2.0])), count: Buffer::new(floats([], [10.0])) }
    }

    fn forward(&self, x: Tensor) -> Tensor {
        if training() {
            self.count.set(self.count.get() + 1.0);
        }
        x * &self.weight + self.count.get()
    }
}

#[test]
fn state_that_a_body_sets_is_carried() {
    let (counter, xs) = (Counter::new(), floats([3, 2], [0.0; 6]));
    let built = step(spec::<f32>(("t", 2)), |xs| scan((), xs, |(), x| ((), counter.forward(x))).1).model("counter", &counter);
    let traced = built.trace().expect("it traces");
    let (ys, after) = run_over(&traced, &xs, &traced.state()).expect("it runs");
    close(&ys, &[11.0, 11.0, 12.0, 12.0, 13.0, 13.0], 1e-6);
    close(&at(&traced, &after, "counter.count"), &[13.0], 1e-6);
}

#[test]
fn state_that_an_arm_or_a_loop_sets_is_left() {
    for (x, expected) in [(1.0, 14.0), (-1.0, 13.0)] {
        let counter = Counter::new();
        let built = step(spec::<f32>([2]), |x: Tensor| {
            let y = cond(x.sum(..).gt(0.0), || counter.forward(x), || x);
            while_loop(y.sum(..) * 0.0, |n| n.lt(3.0), |n| n + counter.forward(x).sum(..) * 0.0 + 1.0)
        })
        .model("counter", &counter);
        let traced = built.trace().expect("it traces");
        let (count, after) = run_over(&traced, &floats([2], [x, x]), &traced.state()).expect("it runs");
        close(&count, &[3.0], 1e-6);
        close(&at(&traced, &after, "counter.count"), &[expected], 1e-6);
    }
}

#[test]
fn gradients_are_accumulated_over_slices() {
    let (counter, xs) = (Counter::new(), ramp([4, 2]));
    let f = |xs: Tensor| {
        let (_, first) = value_and_grad(&counter, |m| (m.forward(xs.slice(0, 0..1)) * 0.0).sum(..));
        scan(first, xs, |grads, x| {
            let (loss, own) = value_and_grad(&counter, |m| m.forward(x).square().sum(..));
            (grads + own, loss)
        })
    };
    let whole = |xs: Tensor| grad(&counter, |m| m.forward(xs).square().sum(..));
    let (sums, losses) = run(f, spec::<f32>([4, 2]), &xs).expect("it runs");
    let expected = run(whole, spec::<f32>([4, 2]), &xs).expect("it runs");
    close(&sums[0].1, &expected[0].1.to_f64(), 1e-5);
    assert_eq!(losses.shape(), [4]);
}

#[test]
fn every_iteration_has_random_numbers_of_its_own() {
    let f = |x: Tensor| {
        let (_, scanned) = scan((), arange(4, F32), |(), _| ((), uniform([8], F32)));
        let start = (x.sum(..) * 0.0, uniform([8], F32), x.sum(..) * 0.0);
        let draw = |(n, last, same): (Tensor, Tensor, Tensor)| {
            let next = uniform([8], F32);
            (n + 1.0, next, same + next.eq(last).all(..).cast(F32))
        };
        (scanned, while_loop(start, |(n, _, _)| n.lt(4.0), draw).2)
    };
    let (scanned, same) = run(f, spec::<f32>([1]), &floats([1], [0.0])).expect("it runs");
    let rows: Vec<Vec<f64>> = scanned.to_f64().chunks(8).map(<[f64]>::to_vec).collect();
    assert!((1..4).all(|row| rows[row] != rows[0]), "{rows:?}");
    close(&same, &[0.0], 0.0);
}

#[test]
fn mistakes_are_errors_with_both_sides() {
    let widens = error(|x: Tensor| scan(x.sum(0), x, |c, x| ((c * x).sum(..), ())).0, spec::<f32>(("t", 2)));
    assert!(widens.contains("the scan carries f32[2] as tensor 0, the body gives f32[]"), "{widens}");
    let differs =
        error(|(x, y)| scan((), (x, y), |(), (x, _): (Tensor, Tensor)| ((), x)).1, (spec::<f32>([3]), spec::<f32>([4])));
    assert!(differs.contains("everything that is scanned has one first size, got f32[3] and f32[4]"), "{differs}");
    let arms = error(|x: Tensor| cond(x.sum(..).gt(0.0), || x, || x.sum(..)), spec::<f32>([3]));
    assert!(arms.contains("the two closures give f32[3] and f32[] as tensor 0"), "{arms}");
    let condition = error(|x: Tensor| cond(x.gt(0.0), || x, || x), spec::<f32>([3]));
    assert!(condition.contains("a condition is one bool, got bool[3]"), "{condition}");
    let mut leaked = None;
    let outlives = |x: Tensor| {
        let (last, ()) = scan(x.sum(..), x, |c, x| {
            leaked = Some(x);
            (c + x, ())
        });
        leaked.map_or(last, |leaked| last + leaked)
    };
    let outlives = error(outlives, spec::<f32>([3]));
    assert!(outlives.contains("a tensor of a loop's or a branch's body is used after it"), "{outlives}");
    let inner = error(|x: Tensor| scan(x.sum(..), x, |c, x| (c + x.reshape([2]), ())).0, spec::<f32>([3]));
    assert!(inner.contains("reshape"), "{inner}");
    let traced = trace(|x: Tensor| grad(x, |x| while_loop(x, |y| y.lt(9.0).all(..), |y| y * x).sum(..)), spec::<f32>([1]));
    let unbounded = run_over(&traced.expect("it traces"), &floats([1], [2.0]), &[]).err().map(|error| error.to_string());
    let unbounded = unbounded.unwrap_or_default();
    assert!(unbounded.contains("needs a bound on their number") && unbounded.contains("control.rs"), "{unbounded}");
}

#[test]
fn a_scan_of_nothing_is_its_start() {
    let empty = Array::from_vec([0, 2], Vec::<f32>::new()).expect("no elements");
    let f = |(start, xs): (Tensor, Tensor)| grad(start, |start| scan(start, xs, |c, x| (c * x, x)).0.sum(..));
    let slope = run(f, (spec::<f32>([2]), spec::<f32>(("t", 2))), (&floats([2], [1.0, 2.0]), &empty)).expect("it runs");
    close(&slope, &[1.0, 1.0], 0.0);
}

/// In 16 bits the sum would stop at 256, to which one more changes nothing.
#[test]
fn derivatives_of_16_bit_floats_are_summed_wide() {
    let slope = |xs: Tensor| {
        let (xs, k) = (xs.cast(BF16), xs.sum(..).cast(BF16));
        grad(k, |k| scan(k * 0.0, xs, |c, x| (c, k * x)).1.sum(..)).cast(F32)
    };
    let xs = floats([1000], vec![1.0; 1000]);
    close(&run(slope, spec::<f32>([1000]), &xs).expect("it runs"), &[1000.0], 0.0);
}

#[test]
fn what_is_done_again_has_the_types_that_were_recorded() -> Result<(), Error> {
    let done = |x: Tensor, y: Tensor| {
        let noisy = Again::record(&[x], |given| vec![given[0] + normal([3], F32)]).expect("it is right");
        (noisy.call(&[x], &[])[0], noisy.call(&[y], &[])[0])
    };
    let of = |sizes: [usize; 2]| trace(|(x, y)| done(x, y), (spec::<f32>([sizes[0]]), spec::<f32>([sizes[1]])));
    // The function and its body, and a key for each call.
    let traced = of([3, 3])?;
    let (_, main) = traced.module().entry().expect("a traced module has an entry");
    let calls: Vec<_> = main.graph.nodes().filter(|node| main.graph.op(*node).name() == "call").collect();
    assert_eq!(calls.len(), 2);
    assert_ne!(main.graph.args(calls[0])[1], main.graph.args(calls[1])[1], "each call draws for itself");
    let error = of([3, 4]).expect_err("3 is not 4").to_string();
    assert!(error.contains("what was recorded with the tensors [f32[3]] is called with [f32[4]]"), "{error}");
    Ok(())
}
