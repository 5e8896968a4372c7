//! Sizes and positions as expressions of `idx`, which is `i32` where that is proved to hold all of a kernel's positions.

use graver_ir::Dim;
use graver_ir::dim::{Atom, Term};
use graver_ir::kernel::Index;

use super::cx::Cx;

impl Cx<'_> {
    /// The value of a dim, in parentheses where it is a sum.
    pub(super) fn dim(&mut self, dim: &Dim) -> String {
        let terms = dim.terms();
        let parts: Vec<String> = terms.iter().map(|term| self.term(term)).collect();
        match parts.as_slice() {
            [] => "0".to_owned(),
            [part] => part.clone(),
            _ => format!("({})", parts.join(" + ")),
        }
    }

    fn term(&mut self, term: &Term) -> String {
        let mut factors: Vec<String> = term.atoms.iter().map(|atom| self.atom(atom)).collect();
        if term.coeff != 1 || factors.is_empty() {
            factors.push(literal(term.coeff));
        }
        factors.join(" * ")
    }

    fn atom(&mut self, atom: &Atom) -> String {
        match atom {
            Atom::Sym(symbol) => self.symbol(symbol),
            Atom::Axis(axis) => self.at[axis.id as usize].clone().expect("K9: a body uses the axes of its stage"),
            Atom::FloorDiv(x, y) if x.is_nonneg() => self.call("gr_quotient", x, y),
            Atom::FloorDiv(x, y) => self.call("gr_floor_div", x, y),
            Atom::Mod(x, y) if x.is_nonneg() => self.call("gr_remainder", x, y),
            Atom::Mod(x, y) => self.call("gr_modulo", x, y),
            Atom::Min(x, y) => self.call("gr_lesser", x, y),
            Atom::Max(x, y) => self.call("gr_greater", x, y),
        }
    }

    fn call(&mut self, function: &str, x: &Dim, y: &Dim) -> String {
        let (x, y) = (self.dim(x), self.dim(y));
        format!("{function}<idx>({x}, {y})")
    }

    /// The element's distance from the argument's first.
    pub(super) fn offset(&mut self, arg: usize, index: &[Index], values: &[String]) -> String {
        let (mut known, mut computed) = (Dim::ZERO, Vec::new());
        for (index, stride) in index.iter().zip(&self.arg(arg).strides) {
            match index {
                Index::At(dim) => known = known + dim * stride,
                Index::Value(value, dim) => {
                    known = known + dim * stride;
                    let stride = self.dim(stride);
                    computed.push(format!("{} * {stride}", values[value.index()]));
                }
            }
        }
        let known = self.dim(&known);
        [known].into_iter().chain(computed).collect::<Vec<_>>().join(" + ")
    }

    /// A computed position and an expression added to it.
    fn sum(&mut self, value: &str, dim: &Dim) -> String {
        if dim.is(0) { value.to_owned() } else { format!("({value} + {})", self.dim(dim)) }
    }

    /// As [`Cx::offset`], with every position that is not proved inside moved to the nearest that is.
    pub(super) fn clamped(&mut self, arg: usize, index: &[Index], values: &[String]) -> String {
        let arg = self.arg(arg);
        let mut parts = Vec::new();
        for ((index, stride), size) in index.iter().zip(&arg.strides).zip(&arg.shape) {
            let part = match index {
                Index::At(dim) if dim.is_below(size) => self.dim(&(dim * stride)),
                Index::At(dim) => {
                    let (position, size, stride) = (self.dim(dim), self.dim(size), self.dim(stride));
                    format!("gr_clamped({position}, {size}) * {stride}")
                }
                Index::Value(value, dim) => {
                    let (position, size, stride) = (self.sum(&values[value.index()], dim), self.dim(size), self.dim(stride));
                    format!("gr_clamped({position}, {size}) * {stride}")
                }
            };
            parts.push(part);
        }
        if parts.is_empty() { "0".to_owned() } else { parts.join(" + ") }
    }

    /// Whether an index is inside of an argument; `None` where that is proved.
    pub(super) fn inside(&mut self, arg: usize, index: &[Index], values: &[String]) -> Option<String> {
        let arg = self.arg(arg);
        let mut conditions = Vec::new();
        for (index, size) in index.iter().zip(&arg.shape) {
            let (position, low, high) = match index {
                Index::At(dim) => (self.dim(dim), dim.is_nonneg(), (size - dim - Dim::ONE).is_nonneg()),
                Index::Value(value, dim) => (self.sum(&values[value.index()], dim), false, false),
            };
            let size = self.dim(size);
            match (low, high) {
                (true, true) => {}
                (true, false) => conditions.push(format!("{position} < {size}")),
                (false, true) => conditions.push(format!("{position} >= 0")),
                // A negative position is a huge one without a sign.
                (false, false) => conditions.push(format!("(u64)({position}) < (u64)({size})")),
            }
        }
        (!conditions.is_empty()).then(|| conditions.join(" && "))
    }
}

/// A number as an integer expression.
fn literal(value: i64) -> String {
    match value {
        i64::MIN => "(-9223372036854775807ll - 1)".to_owned(),
        -0x7fff_ffff_ffff_ffff..0 => format!("({value}ll)"),
        0..=0x7fff_ffff => value.to_string(),
        _ => format!("{value}ll"),
    }
}
