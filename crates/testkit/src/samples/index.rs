//! Samples of constants, sizes, positions, gathers and scatters.

use graver_ir::op::ScatterKind;
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
    blocks(cases);
    sorts(cases);
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
    // Two of one type, which are not to be confused.
    cases.add("const/f64/two", |c| {
        let [lead, scale] = [2.0, 3.0].map(|first| {
            graver_ir::Array::from_fn(DType::F64, [5], |i| {
                graver_ir::Scalar::float(DType::F64, first + f64::from(u8::try_from(i).expect("small")))
            })
        });
        let x = c.arg(DType::F64, [5], Fill::Quarters);
        let (lead, scale) = (c.b.constant(lead), c.b.constant(scale));
        let apart = c.b.map(ScalarFn::Sub, [x, lead]);
        [c.b.map(ScalarFn::Mul, [apart, scale])]
    });
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
    kinds(cases);
    out_of_bounds_of_nothing(cases);
}

/// Updates that meet each other, and elements that no update meets.
fn kinds(cases: &mut Cases) {
    for kind in [ScatterKind::Set, ScatterKind::Mul, ScatterKind::Max, ScatterKind::Min] {
        for dtype in DType::ALL.into_iter().filter(|dtype| kind == ScatterKind::Set || *dtype != DType::Bool) {
            let (name, fill) = (kind.name(), Fill::Any);
            let mut case = |what: &str, (index, axis, batch): (graver_ir::Shape, usize, usize), shapes: [graver_ir::Shape; 2]| {
                let [x, update] = shapes;
                let sample = cases.add(format!("{name}/{dtype}/{what}"), |c: &mut Case| {
                    let (x, index) = (c.arg(dtype, x, fill), c.arg(DType::I64, index, Fill::Index(5)));
                    let update = c.arg(dtype, update, fill);
                    [c.b.scatter(kind, [x, index, update], axis, batch)]
                });
                if kind == ScatterKind::Mul && dtype.is_float() {
                    // At most 9 factors within 2, each product rounded where it is stored.
                    let worst = 2f64.powi(10);
                    sample.within(Bound { relative: 0.0, absolute: 10.0 * worst * crate::close::eps(dtype) });
                }
                if dtype.is_float() {
                    sample.smooth();
                }
            };
            case("rows", ([9].shape(), 0, 0), [(5, 3).shape(), (9, 3).shape()]);
            case("one", (().shape(), 0, 0), [(5, 3).shape(), [3].shape()]);
            if dtype == DType::F64 || dtype == DType::I32 {
                case("batched", ((3, 7).shape(), 1, 1), [(3, 5, 2).shape(), (3, 7, 2).shape()]);
                case("symbolic", (["s"].shape(), 0, 0), [("m", "n").shape(), ("s", "n").shape()]);
                case("nothing", ([0].shape(), 0, 0), [(5, 3).shape(), (0, 3).shape()]);
            }
        }
    }
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

/// Slices of blocks and updates of them, at starts that are in range whatever the sizes.
fn blocks(cases: &mut Cases) {
    for dtype in DType::ALL {
        block(cases, &format!("{dtype}/rows"), dtype, (5, 7), &[(0, 2.dim(), 3)]);
        block(cases, &format!("{dtype}/wide_rows"), dtype, (5, 33), &[(0, 3.dim(), 2)]);
    }
    for dtype in [DType::F64, DType::F32, DType::U8] {
        block(cases, &format!("{dtype}/last_axis"), dtype, (3, 37), &[(1, 18.dim(), 19)]);
        block(cases, &format!("{dtype}/vector"), dtype, [37], &[(0, 20.dim(), 17)]);
        block(cases, &format!("{dtype}/both"), dtype, (6, 3, 7), &[(0, 2.dim(), 4), (2, 5.dim(), 2)]);
        block(cases, &format!("{dtype}/all_of_it"), dtype, (5, 3), &[(0, 5.dim(), 0)]);
        block(cases, &format!("{dtype}/no_axes"), dtype, (5, 3), &[]);
        block(cases, &format!("{dtype}/one_row"), dtype, ("n", 5), &[(1, 1.dim(), 4)]);
        block(cases, &format!("{dtype}/symbolic"), dtype, ("m", "n"), &[(1, 0.dim(), 2)]);
        block(cases, &format!("{dtype}/symbolic_size"), dtype, ("n".dim() + 4.dim(), 3.dim()), &[(0, "n".dim(), 4)]);
        block(cases, &format!("{dtype}/nothing"), dtype, (5, 3), &[(1, 0.dim(), 3)]);
        block(cases, &format!("{dtype}/of_nothing"), dtype, ("z", 5), &[(1, 2.dim(), 3)]);
    }
    for dtype in [DType::F64, DType::F32] {
        // The operand is computed, the starts are too, and the old value is used once more.
        cases.add(format!("dynamic_update/{dtype}/computed"), |c| {
            let (x, update) = (c.arg(dtype, (6, 5), Fill::Any), c.arg(dtype, (2, 5), Fill::Any));
            let start = c.arg(DType::I64, (), Fill::Index(2));
            let double = c.b.map(ScalarFn::Add, [start, start]);
            let (moved, new) = (c.b.map(ScalarFn::Neg, [x]), c.b.map(ScalarFn::Abs, [update]));
            let once = c.b.dynamic_update(moved, new, &[0], &[double]);
            let twice = c.b.dynamic_update(once, update, &[0], &[start]);
            [once, c.b.map(ScalarFn::Add, [twice, moved])]
        });
    }
}

/// By axis: the size of the block, and the greatest start that is tried.
fn block(cases: &mut Cases, name: &str, dtype: DType, dims: impl Dims, axes: &[(usize, Dim, i64)]) {
    let shape = dims.shape();
    let mut part = shape.clone();
    for (axis, size, _) in axes {
        part.0[*axis] = size.clone();
    }
    let numbers: Vec<usize> = axes.iter().map(|(axis, ..)| *axis).collect();
    let sizes = graver_ir::Shape(axes.iter().map(|(_, size, _)| size.clone()).collect());
    let starts = |c: &mut Case| -> Vec<graver_ir::Value> {
        // A symbol is bound by the argument that has it.
        for symbol in axes.iter().flat_map(|(_, size, _)| size.symbols()) {
            c.arg(DType::U8, [symbol.name()], Fill::Any);
        }
        axes.iter().map(|(.., last)| c.arg(DType::I64, (), Fill::Index(last + 1))).collect()
    };
    let sliced = cases.add(format!("dynamic_slice/{name}"), |c: &mut Case| {
        let (x, starts) = (c.arg(dtype, shape.clone(), Fill::Any), starts(c));
        [c.b.dynamic_slice(x, &numbers, sizes.clone(), &starts)]
    });
    if dtype.is_float() {
        sliced.smooth();
    }
    let updated = cases.add(format!("dynamic_update/{name}"), |c: &mut Case| {
        let (x, update) = (c.arg(dtype, shape.clone(), Fill::Any), c.arg(dtype, part.clone(), Fill::Any));
        let starts = starts(c);
        [c.b.dynamic_update(x, update, &numbers, &starts)]
    });
    if dtype.is_float() {
        updated.smooth();
    }
}

/// Orders of equal elements, of NaN, and of sizes around powers of two.
fn sorts(cases: &mut Cases) {
    for dtype in DType::ALL {
        for (name, descending) in [("up", false), ("down", true)] {
            let mut case = |what: &str, dims: graver_ir::Shape, axis: usize, fill: Fill| {
                cases.add(format!("sort/{dtype}/{what}_{name}"), |c| {
                    let x = c.arg(dtype, dims, fill);
                    [c.b.sort(x, axis, descending)]
                });
            };
            case("rows", (3, 17).shape(), 1, Fill::Any);
            case("columns", (9, 3).shape(), 0, Fill::Special);
            if dtype == DType::F32 || dtype == DType::I64 {
                case("vector", [33].shape(), 0, Fill::Quarters);
                case("middle", (2, 8, 3).shape(), 1, Fill::Any);
                case("two", (3, 2).shape(), 1, Fill::Any);
                case("one", (3, 1).shape(), 1, Fill::Any);
                case("symbolic", ("n", "s").shape(), 1, Fill::Any);
                case("empty", (3, 0).shape(), 1, Fill::Any);
                case("no_rows", ("z", 5).shape(), 1, Fill::Any);
            }
        }
    }
}

/// No position lies in an empty axis; with no positions there is nothing to complain about.
fn out_of_bounds_of_nothing(cases: &mut Cases) {
    cases.add("gather/f32/nothing_of_nothing", |c| {
        let (x, index) = (c.arg(DType::F32, ("z".dim(), 3.dim()), Fill::Any), c.arg(DType::I64, [0], Fill::Index(1)));
        [c.b.gather(x, index, 0, 0)]
    });
}
