//! Additions at run-time positions.

use graver_ir::kernel::{AxisSet, Body, Bounds, Index, KernelBody, Mode, Scatter, Store};
use graver_ir::op::ScatterKind;
use graver_ir::{DType, Dim, Scalar, ScalarFn, Shape, StateDecl, StateKind, Type};

use crate::{Build, array, constant, load, map, vars};

/// `table[index[i], j] += update[i, j]` where the update is positive.
#[test]
fn additions_meet_and_positions_outside_vanish() {
    let axes = [Dim::from(4), Dim::from(2)];
    let at = vars(&axes);
    let mut build = Build::default();
    let (index, update) = (build.input("index", DType::I64, &axes[..1]), build.input("update", DType::F32, &axes));
    let ty = Type::new(DType::F32, Shape::new([2, 2]));
    let table = build.state(StateDecl { path: "table".to_owned(), ty, kind: StateKind::Param });
    let mut body = Body::default();
    let row = load(&mut body, 0, DType::I64, &at[..1], Bounds::Proven);
    let value = load(&mut body, 1, DType::F32, &at, Bounds::Proven);
    let zero = constant(&mut body, Scalar::zero(DType::F32));
    let positive = map(&mut body, ScalarFn::Gt, DType::Bool, &[value, zero]);
    let to = Store { arg: 2, index: vec![Index::Value(row, Dim::ZERO), Index::At(at[1].clone())], value };
    let scatter = Scatter {
        axes: axes.to_vec(),
        free: [1].into_iter().collect::<AxisSet>(),
        body,
        kind: ScatterKind::Add,
        to,
        when: Some(positive),
    };
    let args = [(index, Mode::Read), (update, Mode::Read), (table, Mode::Update)];
    build.launch("accumulate", &args, KernelBody::Scatter(scatter));
    let index = array(&[4], &[1i64, 1, -1, 2]);
    let update = array(&[4, 2], &[1f32, 2.0, 30.0, -40.0, 5.0, 6.0, 7.0, 8.0]);
    let (outputs, state) = build.run(&[&index, &update], &[array(&[2, 2], &[100f32; 4])]).expect("a sound program");
    assert_eq!(outputs, []);
    assert_eq!(state, [array(&[2, 2], &[100f32, 100.0, 131.0, 102.0])]);
}
