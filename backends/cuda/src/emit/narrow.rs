//! Whether 32 bits hold every position of a kernel: a GPU has no 64-bit integers, it makes them of several instructions.

use graver_ir::Dim;
use graver_ir::dim::Atom;
use graver_ir::kernel::{Arg, Body, Index, InstKind, Kernel, KernelBody};

/// The greatest magnitude of what is computed; a step beyond it does not overflow.
const LIMIT: i64 = 1 << 30;
/// Points of a kernel at most: numbers of points are rounded up and dealt out in shares.
const MOST_POINTS: i64 = 1 << 25;

/// Whether no position, no number of a point and nothing on the way to them leaves 32 bits, for all declared sizes.
pub(super) fn fits(kernel: &Kernel) -> bool {
    let (axes, bodies, stores) = (kernel.body.axes(), kernel.body.bodies(), kernel.body.stores());
    let points = numbered(&kernel.body).try_fold(1i64, |points, axis| points.checked_mul(axis.bounds().hi.max(1)));
    points.is_some_and(|points| points <= MOST_POINTS)
        && axes.iter().all(is_small)
        && kernel.args.iter().all(is_small_arg)
        && bodies.into_iter().all(|body| is_small_body(kernel, body))
        && stores.into_iter().all(|store| is_small_index(&kernel.args[store.arg], &store.index))
        && kept(&kernel.body).iter().all(is_small)
}

/// What decides whether a column counts: positions that no body holds.
fn kept(body: &KernelBody) -> &[Dim] {
    match body {
        KernelBody::Attend(attend) => &attend.keep,
        KernelBody::Nest(_) | KernelBody::Contract(_) | KernelBody::Scatter(_) | KernelBody::Sort(_) | KernelBody::Prefix(_) => {
            &[]
        }
    }
}

/// The axes whose points are numbered together.
fn numbered(body: &KernelBody) -> Box<dyn Iterator<Item = &Dim> + '_> {
    match body {
        KernelBody::Attend(attend) => Box::new(attend.row().iter().map(|axis| &attend.axes[axis])),
        KernelBody::Nest(_) | KernelBody::Contract(_) | KernelBody::Scatter(_) | KernelBody::Sort(_) | KernelBody::Prefix(_) => {
            Box::new(body.axes().iter())
        }
    }
}

/// The dim, each of its terms and all that they are made of.
fn is_small(dim: &Dim) -> bool {
    let within = |dim: &Dim| (-LIMIT..=LIMIT).contains(&dim.bounds().lo) && (-LIMIT..=LIMIT).contains(&dim.bounds().hi);
    let term = |term: &graver_ir::dim::Term| {
        let product = term.atoms.iter().fold(Dim::from(term.coeff), |product, atom| product * Dim::atom(atom.clone()));
        within(&product)
            && term.atoms.iter().all(|atom| match atom {
                Atom::Sym(_) | Atom::Axis(_) => true,
                Atom::FloorDiv(x, y) | Atom::Mod(x, y) | Atom::Min(x, y) | Atom::Max(x, y) => is_small(x) && is_small(y),
            })
    };
    within(dim) && dim.terms().iter().all(term)
}

fn is_small_arg(arg: &Arg) -> bool {
    let reach = arg.shape.iter().zip(&arg.strides).map(|(size, stride)| size * stride).sum::<Dim>();
    is_small(&reach) && arg.shape.iter().chain(&arg.strides).all(is_small)
}

fn is_small_body(kernel: &Kernel, body: &Body) -> bool {
    let loads = body.loads().all(|(_, access)| is_small_index(&kernel.args[access.arg], &access.index));
    loads
        && body.insts.iter().all(|inst| match &inst.kind {
            InstKind::Index(dim) => is_small(dim),
            InstKind::Const(_)
            | InstKind::Load(_)
            | InstKind::Map(..)
            | InstKind::Cast(_)
            | InstKind::Bitcast(_)
            | InstKind::Reduced { .. }
            | InstKind::Acc
            | InstKind::Check { .. }
            | InstKind::Philox { .. } => true,
        })
}

/// Positions along the axes and the distance that they make. What a body computes is long anyway.
fn is_small_index(arg: &Arg, index: &[Index]) -> bool {
    let mut offset = Dim::ZERO;
    for (index, stride) in index.iter().zip(&arg.strides) {
        match index {
            Index::At(dim) | Index::Value(_, dim) if is_small(dim) => offset = offset + dim * stride,
            Index::At(_) | Index::Value(..) => return false,
        }
    }
    is_small(&offset)
}

#[cfg(test)]
mod tests {
    use graver_ir::kernel::text;

    use super::fits;

    fn kernel(size: &str) -> String {
        format!(
            "program 1\n\nsym n: 0..=4096\n\nsym wide: 0..=4294967296\n\nkernel k0 \"copy\" (\n  read p0: f32[{size}],\n  \
             write p1: f32[{size}],\n) nest [{size}] {{\n  stage over [0] keep [0] {{\n    %0: f32 = load p0[a0]\n    \
             store p1[a0] = %0\n  }}\n}}\n"
        )
    }

    #[test]
    fn declared_ranges_decide() {
        for (size, narrow) in [("1000", true), ("8*n", true), ("wide", false), ("67108864", false), ("n*n*n", false)] {
            let program = text::parse(&kernel(size)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(fits(&program.kernels[0]), narrow, "{size}");
        }
    }

    /// Attention over few rows and columns, of which those count that `keep` says.
    fn attention(keep: &str) -> String {
        format!(
            "program 1\n\nsym near: 0..=4096\n\nsym wide: 0..=4294967296\n\nkernel k0 \"attention\" (\n  read p0: f32[20, 16],\n  \
             read p1: f32[70, 16],\n  write p2: f32[20, 16],\n) attend [20, 70, 16, 16] batch [] rows 0 columns [1] acc f32 {{\n  \
             product over 2 {{\n  side rows {{\n    %0: f32 = load p0[a0, a2]\n    yield %0\n  }}\n  side columns {{\n    \
             %0: f32 = load p1[a1, a2]\n    yield %0\n  }}\n  }}\n  weights {{\n    %0: f32 = reduced(0, 0)\n  }}\n  softmax %0\n  \
             keep {keep}\n  sum free 3 p2[a0, a3] = %0 {{\n  side summed {{\n    %0: f32 = load p1[a1, a3]\n    yield %0\n  }}\n  }}\n}}\n"
        )
    }

    #[test]
    fn which_columns_count_decides_too() {
        for (keep, idx) in [("near + a0 - a1", "i32"), ("wide + a0 - a1", "i64"), ("-2147483648*near + a1", "i64")] {
            let program = text::parse(&attention(keep)).unwrap_or_else(|error| panic!("{error}"));
            let text = crate::emit::emit(&program.kernels[0]).text;
            assert!(text.contains(&format!("typedef {idx} idx;")), "{keep}: {text}");
        }
    }
}
