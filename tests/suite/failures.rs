//! What a user is told of a call that its data made fail: the line, the operation, and the element by which it failed.

use std::path::Path;
use std::sync::Arc;

use graver::prelude::*;
use graver::trace::TensorSpec;
use graver_cuda::Shim;
use graver_ir::Array;

fn devices() -> [Device; 3] {
    let shim = Shim::new(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim")).expect("a C++ compiler");
    [interpreter(), cpu_with_threads(2), Device::new(Arc::new(shim))]
}

fn ids<const N: usize>(shape: [usize; N], values: &[i64]) -> Array {
    Array::from_vec(shape, values.to_vec()).expect("sizes agree")
}

/// The error of a call of a table and of whole numbers is, on every device, this one.
#[track_caller]
fn check(f: impl Fn((Tensor, Tensor)) -> Tensor + Copy, given: &Array, said: &str) {
    let spec = || -> (TensorSpec, TensorSpec) {
        let rank = given.shape().len();
        let numbers = if rank == 1 { spec::<i64>(["k"]) } else { spec::<i64>(("rows", "k")) };
        (spec::<f32>(("entries", 2)).named("table"), numbers.named("ids"))
    };
    let table = Array::from_vec([3, 2], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).expect("sizes agree");
    for device in devices() {
        let compiled = compile(f, spec(), &device).expect("a good program");
        let error = compiled.call((&table, given)).expect_err("out of range").to_string();
        assert!(error.contains("tests/suite/failures.rs:") && error.ends_with(said), "{device:?}: {error}");
    }
}

#[test]
fn a_position_out_of_range_is_named() {
    let rows = "gather: a position is out of range for axis 0 of f32[entries, 2], where entries is 3: ";
    check(|(table, ids)| table.embedding(ids), &ids([2, 2], &[0, 2, 7, -1]), &format!("{rows}`ids` has 7 at [1, 0]"));
    // What is computed of it elementwise is followed: positions from the end.
    let from_end = |(table, ids): (Tensor, Tensor)| table.embedding(ids.lt(0).where_(ids + 3, ids));
    check(from_end, &ids([4], &[-1, -3, 2, -4]), &format!("{rows}`ids` has -4 at [3]"));
    let added = |(table, ids): (Tensor, Tensor)| table.index_add(0, ids, table.embedding(ids - ids));
    let said = "scatter_add: a position is out of range for axis 0 of f32[entries, 2], where entries is 3: `ids` has 3 at [1]";
    check(added, &ids([3], &[2, 3, 0]), said);
}

#[test]
fn no_element_is_named_where_it_is_not_known_to_be_the_one() {
    let rows = "gather: a position is out of range for axis 0 of f32[entries, 2], where entries is 3";
    check(|(table, ids)| table.embedding(ids * ids), &ids([2], &[1, 3]), rows);
    // Elements that are not read are not blamed.
    check(|(table, ids)| table.embedding(ids.narrow(0, 1, 2)), &ids([3], &[9, 1, 4]), rows);
}

#[test]
fn a_division_by_zero_names_the_zero() {
    let over = |(table, ids): (Tensor, Tensor)| table * (7 / ids).sum(..).cast(DType::F32);
    check(over, &ids([3], &[2, 0, 0]), "div: division of i64[k] by zero, where k is 3: `ids` has 0 at [1]");
    // In the type and by the function that the user wrote, though kernels divide the bits of another type.
    let over = |(table, ids): (Tensor, Tensor)| table * (ids.cast(DType::U64) / ids.cast(DType::U64)).sum(..).cast(DType::F32);
    check(over, &ids([3], &[2, 0, 0]), "div: division of u64[k] by zero, where k is 3: `ids` has 0 at [1]");
    let over = |(table, ids): (Tensor, Tensor)| table * (ids.cast(DType::U64) % ids.cast(DType::U64)).sum(..).cast(DType::F32);
    check(over, &ids([3], &[2, 0, 0]), "rem: division of u64[k] by zero, where k is 3: `ids` has 0 at [1]");
}
