//! Samples of constants, sizes, positions, gathers and scatters.

use graver_ir::{DType, Dim, ScalarFn, Symbol};

use super::{Case, Cases, INTS, NUMBERS, shapes};
use crate::build::{AsDim, Dims};
use crate::close::Bound;
use crate::fill::Fill;

pub(super) fn add(cases: &mut Cases) {
    constants(cases);
    sizes(cases);
    iotas(cases);
    gathers(cases);
    scatters(cases);
}

fn constants(cases: &mut Cases) {
    let dims: [&[usize]; 4] = [&[], &[33], &[3, 5], &[2, 0]];
    for dtype in DType::ALL {
        for shape in dims {
            cases.add(format!("const/{dtype}/{shape:?}"), |c| {
                let array = Fill::Any.array(dtype, shape, &mut c.rng);
                [c.b.constant(array)]
            });
        }
        cases.add(format!("const/{dtype}/special"), |c| {
            let array = Fill::Special.array(dtype, &[17], &mut c.rng);
            [c.b.constant(array)]
        });
        cases.add(format!("const/{dtype}/used"), |c| {
            let array = Fill::Any.array(dtype, &[3], &mut c.rng);
            let (x, y) = (c.arg(dtype, [3], Fill::Any), c.b.constant(array));
            [c.b.map(ScalarFn::Eq, [x, y])]
        });
    }
}

fn sizes(cases: &mut Cases) {
    let sym = |name: &str| Dim::sym(&Symbol::new(name));
    let dims = [
        ("7", Dim::from(7)),
        ("n", sym("n")),
        ("z", sym("z")),
        ("6n_minus_m", sym("n") * Dim::from(6) - sym("m")),
        ("n_times_m", sym("n") * sym("m")),
        ("floordiv", (sym("s") + Dim::ONE).floor_div(&Dim::from(4))),
        ("mod", sym("s").modulo(&sym("m"))),
        ("min_max", sym("n").min_with(&sym("m")) + sym("n").max_with(&sym("z"))),
    ];
    for (name, dim) in dims {
        // A symbol is bound by the argument that has it.
        cases.add(format!("size/i64/{name}"), |c| {
            for symbol in dim.symbols() {
                c.arg(DType::U8, [symbol.name()], Fill::Any);
            }
            [c.b.size(dim)]
        });
    }
}

fn iotas(cases: &mut Cases) {
    for (turn, dtype) in NUMBERS.into_iter().enumerate() {
        for (shape_name, shape) in shapes().into_iter().filter(|(_, shape)| shape.rank() > 0).skip(turn % 4).step_by(4) {
            let axis = turn % shape.rank();
            cases.add(format!("iota/{dtype}/{shape_name}"), |c| {
                for symbol in shape.iter().flat_map(Dim::symbols) {
                    c.arg(DType::U8, [symbol.name()], Fill::Any);
                }
                [c.b.iota(dtype, &shape, axis)]
            });
        }
    }
}

fn gathers(cases: &mut Cases) {
    for dtype in DType::ALL {
        for index in INTS {
            gather(cases, &format!("{dtype}/rows_{index}"), (dtype, (5, 3)), (index, [7]), 0, 0);
        }
    }
    for dtype in [DType::F64, DType::F32, DType::U8] {
        gather(cases, &format!("{dtype}/last_axis"), (dtype, (3, 5)), (DType::I64, [2, 3]), 1, 0);
        // Equal sizes: only the elements tell one axis from the other.
        gather(cases, &format!("{dtype}/square"), (dtype, (5, 5)), (DType::I64, [5]), 1, 0);
        gather(cases, &format!("{dtype}/scalar_index"), (dtype, (3, 5)), (DType::I32, ()), 0, 0);
        gather(cases, &format!("{dtype}/batched"), (dtype, (3, 5, 2)), (DType::I64, (3, 7)), 1, 1);
        gather(cases, &format!("{dtype}/batched_past_axis"), (dtype, (3, 2, 5)), (DType::I64, (3, 4)), 2, 1);
        gather(cases, &format!("{dtype}/batch_only"), (dtype, (3, 5)), (DType::I64, [3]), 1, 1);
        gather(cases, &format!("{dtype}/symbolic"), (dtype, ("m", "n")), (DType::I64, ("s", 2)), 0, 0);
        gather(cases, &format!("{dtype}/symbolic_batch"), (dtype, ("n", "m")), (DType::I64, ("n", "k")), 1, 1);
        gather(cases, &format!("{dtype}/no_positions"), (dtype, (5, 3)), (DType::I64, [0]), 0, 0);
        gather(cases, &format!("{dtype}/empty_rows"), (dtype, (5, 0)), (DType::I64, ["n"]), 0, 0);
        gather(cases, &format!("{dtype}/empty_batch"), (dtype, ("z", 5)), (DType::I64, ("z", 2)), 1, 1);
    }
}

/// Indexed axes have 5 elements (`m`).
fn gather(
    cases: &mut Cases,
    name: &str,
    (dtype, x): (DType, impl Dims),
    (index_dtype, index): (DType, impl Dims),
    axis: usize,
    batch: usize,
) {
    let sample = cases.add(format!("gather/{name}"), |c| {
        let (x, index) = (c.arg(dtype, x, Fill::Any), c.arg(index_dtype, index, Fill::Index(5)));
        [c.b.gather(x, index, axis, batch)]
    });
    if dtype.is_float() {
        sample.smooth();
    }
}

fn scatters(cases: &mut Cases) {
    for dtype in NUMBERS {
        for index in INTS {
            scatter(
                cases,
                &format!("{dtype}/rows_{index}"),
                dtype,
                (index, [9].shape()),
                (0, 0),
                ([5, 3].shape(), [9, 3].shape()),
            );
        }
    }
    for dtype in [DType::F64, DType::F32] {
        let i64 = |dims: graver_ir::Shape| (DType::I64, dims);
        let mut case = |name: &str, index, axes, shapes| scatter(cases, &format!("{dtype}/{name}"), dtype, index, axes, shapes);
        case("last_axis", i64([2, 3].shape()), (1, 0), ([3, 5].shape(), [3, 2, 3].shape()));
        case("scalar_index", i64(().shape()), (0, 0), ([5, 3].shape(), [3].shape()));
        case("batched", i64([3, 7].shape()), (1, 1), ([3, 5, 2].shape(), [3, 7, 2].shape()));
        case("batch_only", i64([3].shape()), (1, 1), ([3, 5].shape(), [3].shape()));
        case("symbolic", i64(["s"].shape()), (0, 0), (("m", "n").shape(), ("s", "n").shape()));
        case("symbolic_batch", i64(("n", "k").shape()), (1, 1), (("n", "m").shape(), ("n", "k").shape()));
        case("no_positions", i64([0].shape()), (0, 0), ([5, 3].shape(), [0, 3].shape()));
        case("empty_rows", i64(["n"].shape()), (0, 0), ([5, 0].shape(), ("n", 0).shape()));
    }
    out_of_bounds_of_nothing(cases);
}

fn scatter(
    cases: &mut Cases,
    name: &str,
    dtype: DType,
    (index_dtype, index): (DType, graver_ir::Shape),
    (axis, batch): (usize, usize),
    (x, update): (graver_ir::Shape, graver_ir::Shape),
) {
    let sample = cases.add(format!("scatter_add/{name}"), |c: &mut Case| {
        let x = c.arg(dtype, x, Fill::Any);
        let index = c.arg(index_dtype, index, Fill::Index(5));
        let update = c.arg(dtype, update, Fill::Any);
        [c.b.scatter_add(x, index, update, axis, batch)]
    });
    if dtype.is_float() {
        // At most 18 sums of values within 2, each rounded where it is stored.
        let rounded = Bound::sum(dtype, 18, 36.0);
        let stored = Bound { relative: 0.0, absolute: 18.0 * 36.0 * crate::close::eps(dtype) };
        sample.within(rounded.plus(stored)).smooth();
    }
}

/// No position lies in an empty axis; with no positions there is nothing to complain about.
fn out_of_bounds_of_nothing(cases: &mut Cases) {
    cases.add("gather/f32/nothing_of_nothing", |c| {
        let (x, index) = (c.arg(DType::F32, ("z".dim(), 3.dim()), Fill::Any), c.arg(DType::I64, [0], Fill::Index(1)));
        [c.b.gather(x, index, 0, 0)]
    });
}
