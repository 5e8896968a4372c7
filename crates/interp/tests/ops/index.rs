//! Iota, gather, scatter-add.

use graver_interp::eval_op;
use graver_ir::op::{GatherAxes, Iota, Scatter, ScatterKind};
use graver_ir::{DType, Dim, Op, Shape, Sizes, Symbol, f16};

use crate::{array, check, check_error};

#[test]
fn constants_and_sizes() {
    let x = array(&[2], &[1u32, 2]);
    check(&Op::Const(x.clone()), &[], &x);
    let n = Dim::sym(&Symbol::new("n"));
    let found = eval_op(&Op::Size(&n * Dim::from(3)), &[], &Sizes::from([("n".to_owned(), 4)])).expect("n has a value");
    assert_eq!(found, [array(&[], &[12i64])]);
}

#[test]
fn iota_counts() {
    let count = |dtype, axis| Op::Iota(Iota { dtype, shape: Shape::new([2, 3]), axis });
    check(&count(DType::I32, 1), &[], &array(&[2, 3], &[0i32, 1, 2, 0, 1, 2]));
    check(&count(DType::F32, 0), &[], &array(&[2, 3], &[0f32, 0.0, 0.0, 1.0, 1.0, 1.0]));
    let far = Op::Iota(Iota { dtype: DType::F16, shape: Shape::new([2050]), axis: 0 });
    let found = eval_op(&far, &[], &Sizes::new()).expect("no symbols");
    assert_eq!(found[0].as_slice::<f16>().map(|x| x[2049].to_f32()), Some(2048.0));
    let none = Op::Iota(Iota { dtype: DType::I64, shape: Shape::new([0, 2]), axis: 0 });
    check(&none, &[], &array::<i64>(&[0, 2], &[]));
}

#[test]
fn gather_picks_along_an_axis() {
    let x = array(&[3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let rows = Op::Gather(GatherAxes { axis: 0, batch: 0 });
    check(&rows, &[&x, &array(&[2], &[2i64, 0])], &array(&[2, 2], &[5f32, 6.0, 1.0, 2.0]));
    check(&rows, &[&x, &array(&[1, 2], &[1u8, 1])], &array(&[1, 2, 2], &[3f32, 4.0, 3.0, 4.0]));
    check(&rows, &[&x, &array(&[], &[1i32])], &array(&[2], &[3f32, 4.0]));
    check(&rows, &[&x, &array::<i64>(&[0], &[])], &array::<f32>(&[0, 2], &[]));
    let columns = Op::Gather(GatherAxes { axis: 1, batch: 0 });
    check(&columns, &[&x, &array(&[1], &[1i64])], &array(&[3, 1], &[2f32, 4.0, 6.0]));
    let labels = Op::Gather(GatherAxes { axis: 1, batch: 1 });
    check(&labels, &[&x, &array(&[3], &[1i64, 0, 1])], &array(&[3], &[2f32, 3.0, 6.0]));
}

#[test]
fn gather_with_axes_between_batch_and_axis() {
    let x = array(&[2, 2, 2], &[1i32, 2, 3, 4, 5, 6, 7, 8]);
    let op = Op::Gather(GatherAxes { axis: 2, batch: 1 });
    let index = array(&[2, 3], &[0i64, 1, 1, 1, 0, 0]);
    check(&op, &[&x, &index], &array(&[2, 2, 3], &[1i32, 2, 2, 3, 4, 4, 6, 5, 5, 8, 7, 7]));
}

#[test]
fn positions_out_of_range_are_errors() {
    let x = array(&[3], &[1f32, 2.0, 3.0]);
    let op = Op::Gather(GatherAxes { axis: 0, batch: 0 });
    check_error(&op, &[&x, &array(&[1], &[3i64])], "gather: position 3 is out of range for axis 0 of f32[3]: it stands at [0]");
    check_error(
        &op,
        &[&x, &array(&[2], &[0i64, -1])],
        "gather: position -1 is out of range for axis 0 of f32[3]: it stands at [1]",
    );
    let op = scatter(ScatterKind::Add, 0, 0);
    let (index, update) = (array(&[1], &[9i64]), array(&[1], &[1f32]));
    check_error(&op, &[&x, &index, &update], "scatter_add: position 9 is out of range for axis 0 of f32[3]: it stands at [0]");
}

#[test]
fn scatter_add_adds_where_gather_reads() {
    let x = array(&[3, 2], &[1f32, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let rows = scatter(ScatterKind::Add, 0, 0);
    let update = array(&[3, 2], &[10f32, 20.0, 30.0, 40.0, 50.0, 60.0]);
    check(&rows, &[&x, &array(&[3], &[0i64, 2, 0]), &update], &array(&[3, 2], &[61f32, 81.0, 1.0, 1.0, 31.0, 41.0]));
    check(&rows, &[&x, &array(&[3], &[0i64, 0, 2]), &update], &array(&[3, 2], &[41f32, 61.0, 1.0, 1.0, 51.0, 61.0]));
    let labels = scatter(ScatterKind::Add, 1, 1);
    let update = array(&[3], &[7f32, 8.0, 9.0]);
    check(&labels, &[&x, &array(&[3], &[1i64, 0, 1]), &update], &array(&[3, 2], &[1f32, 8.0, 9.0, 1.0, 1.0, 10.0]));
    check(&rows, &[&array(&[1], &[250u8]), &array(&[2], &[0i32, 0]), &array(&[2], &[4u8, 4])], &array(&[1], &[2u8]));
}

fn scatter(kind: ScatterKind, axis: usize, batch: usize) -> Op {
    Op::Scatter(Scatter { kind, at: GatherAxes { axis, batch } })
}

#[test]
fn scatters_combine_what_is_there_in_order() {
    let x = array(&[4], &[2f32, 3.0, f32::NAN, 5.0]);
    let (index, update) = (array(&[4], &[0i64, 0, 2, 3]), array(&[4], &[7f32, -1.0, 1.0, f32::NAN]));
    let of = |kind| scatter(kind, 0, 0);
    check(&of(ScatterKind::Set), &[&x, &index, &update], &array(&[4], &[-1f32, 3.0, 1.0, f32::NAN]));
    check(&of(ScatterKind::Mul), &[&x, &index, &update], &array(&[4], &[-14f32, 3.0, f32::NAN, f32::NAN]));
    check(&of(ScatterKind::Max), &[&x, &index, &update], &array(&[4], &[7f32, 3.0, f32::NAN, f32::NAN]));
    check(&of(ScatterKind::Min), &[&x, &index, &update], &array(&[4], &[-1f32, 3.0, f32::NAN, f32::NAN]));
    check(
        &of(ScatterKind::Set),
        &[&array(&[2], &[true, true]), &array(&[1], &[1i32]), &array(&[1], &[false])],
        &array(&[2], &[true, false]),
    );
}
