//! Index arithmetic: dims as values, and where an access lies as the lanes see it.

use graver_ir::dim::Atom;
use graver_ir::kernel::Index;
use graver_ir::{DType, Dim};

use super::cx::{At, Cx};
use crate::vector::{Binary, Compare, Elem, Op, Pattern, Shift, Val, Width};

impl Cx<'_> {
    /// The value of a dim: one number, or one a lane where the axis over lanes occurs.
    pub(super) fn value(&mut self, dim: &Dim) -> Val {
        let zero = self.b.int(0);
        self.plus_dim(zero, dim)
    }

    /// `base` plus the terms of a dim; outer loops' first, so that inner ones add the least.
    pub(super) fn plus_dim(&mut self, base: Val, dim: &Dim) -> Val {
        let mut values: Vec<Val> = dim.terms().iter().map(|term| self.term(term.coeff, &term.atoms)).collect();
        values.sort_by_key(|value| self.b.level(*value));
        values.into_iter().fold(base, |sum, value| self.b.add(sum, value))
    }

    fn term(&mut self, coeff: i64, atoms: &[Atom]) -> Val {
        let mut values: Vec<Val> = atoms.iter().map(|atom| self.atom(atom)).collect();
        values.sort_by_key(|value| self.b.level(*value));
        let coeff = self.b.int(coeff);
        values.into_iter().fold(coeff, |product, value| self.b.mul(product, value))
    }

    fn atom(&mut self, atom: &Atom) -> Val {
        match atom {
            Atom::Sym(symbol) => {
                let position = self.symbols.iter().position(|other| other == symbol);
                self.b.op(Op::Dim(position.expect("K5: a program lists its symbols")))
            }
            Atom::Axis(axis) => match self.at[axis.id as usize] {
                At::One(value) => value,
                At::Lane(first) => {
                    // What depends on no variable is computed before the loops.
                    let first = self.first.unwrap_or(first);
                    let (first, lane) = (self.b.lanes(first), self.b.op(Op::Iota));
                    self.b.add(first, lane)
                }
                At::Unbound => unreachable!("K6: a body uses the axes of its stage"),
            },
            Atom::FloorDiv(x, y) => self.floor_div(x, y),
            Atom::Mod(x, y) => self.modulo(x, y),
            Atom::Min(x, y) => self.of_both(Binary::Min, x, y),
            Atom::Max(x, y) => self.of_both(Binary::Max, x, y),
        }
    }

    fn of_both(&mut self, op: Binary, x: &Dim, y: &Dim) -> Val {
        let (x, y) = (self.value(x), self.value(y));
        self.b.binary(op, x, y)
    }

    fn floor_div(&mut self, x: &Dim, y: &Dim) -> Val {
        if let Some(power) = power_of_two(y) {
            let x = self.value(x);
            return self.b.shift(Shift::Arithmetic, x, power);
        }
        let quotient = self.of_both(Binary::Div, x, y);
        if x.is_nonneg() {
            return quotient;
        }
        // Division truncates: one less where a negative remainder is left.
        let (x, y) = (self.value(x), self.value(y));
        let product = self.b.mul(quotient, y);
        let remainder = self.b.sub(x, product);
        let zero = self.b.int(0);
        let below = self.b.compare(Compare::Lt, remainder, zero);
        let below = self.b.cast(below, Elem::I64);
        self.b.sub(quotient, below)
    }

    fn modulo(&mut self, x: &Dim, y: &Dim) -> Val {
        if let Some(power) = power_of_two(y) {
            let (x, mask) = (self.value(x), self.b.int((1 << power) - 1));
            return self.b.and(x, mask);
        }
        let quotient = self.floor_div(x, y);
        let (x, y) = (self.value(x), self.value(y));
        let product = self.b.mul(quotient, y);
        self.b.sub(x, product)
    }

    /// `(slope, rest)` with `dim = slope * (axis over lanes) + rest`; `None` where it is not of this form.
    pub(super) fn along_lanes(&self, dim: &Dim) -> Option<(Dim, Dim)> {
        match self.lane_axis() {
            Some(axis) => dim.along(axis),
            None => Some((Dim::ZERO, dim.clone())),
        }
    }

    /// Where elements at `offset` (in elements) plus `extra` (an index, perhaps a lane's own) from `base` lie.
    pub(super) fn place(&mut self, base: Val, offset: &Dim, extra: Option<Val>, dtype: DType) -> (Val, Pattern) {
        let linear = self.along_lanes(offset);
        let lanes_differ = extra.is_some_and(|extra| self.b.ty(extra).width == Width::Lanes);
        match linear {
            Some((slope, rest)) if !lanes_differ => {
                let size = Dim::from(dtype.size());
                // The constant last: the machine adds it where it reads.
                let (rest, constant) = (&rest * &size).apart();
                let mut ptr = self.plus_dim(base, &rest);
                if let Some(extra) = extra {
                    let bytes = self.value(&size);
                    let extra = self.b.mul(extra, bytes);
                    ptr = self.b.add(ptr, extra);
                }
                let (ptr, pattern) = self.along(ptr, &slope, &size);
                let constant = self.b.int(constant);
                (self.b.add(ptr, constant), pattern)
            }
            Some((slope, rest)) if slope.is(0) => self.scattered(base, &rest, extra, dtype),
            Some(_) | None => {
                let index = self.value(offset);
                let index = extra.map_or(index, |extra| self.b.add(index, extra));
                self.scattered(base, &Dim::ZERO, Some(index), dtype)
            }
        }
    }

    /// At a lane's own index, from `base` plus `rest` elements.
    fn scattered(&mut self, base: Val, rest: &Dim, index: Option<Val>, dtype: DType) -> (Val, Pattern) {
        let size = Dim::from(dtype.size());
        let (bytes, index) = (self.value(&size), index.unwrap_or_else(|| self.b.int(0)));
        let offsets = self.b.mul(index, bytes);
        let offsets = self.b.lanes(offsets);
        (self.plus_dim(base, &(rest * &size)), Pattern::Scattered(offsets))
    }

    /// From the address of what would be position 0 of the axis over lanes to that of the first lane.
    fn along(&mut self, ptr: Val, slope: &Dim, size: &Dim) -> (Val, Pattern) {
        if slope.is(0) {
            return (ptr, Pattern::One);
        }
        let first = match self.lane_axis().map(|axis| self.at[axis]) {
            Some(At::Lane(first)) => first,
            Some(At::One(_) | At::Unbound) | None => unreachable!("a slope is along the axis over lanes"),
        };
        let stride = self.value(&(slope * size));
        let offset = self.b.mul(first, stride);
        let ptr = self.b.add(ptr, offset);
        (ptr, if slope.is(1) { Pattern::Contiguous } else { Pattern::Strided(stride) })
    }
}

/// How far an access moves from one position of an axis to the next; `None` where that is not always as far.
pub(super) fn slope(cx: &Cx<'_>, arg: usize, index: &[Index], axis: usize) -> Option<Dim> {
    let mut offset = Dim::ZERO;
    for (index, stride) in index.iter().zip(&cx.arg(arg).strides) {
        match index {
            Index::At(dim) => offset = offset + dim * stride,
            Index::Value(..) => return None,
        }
    }
    offset.along(axis).map(|(slope, _)| slope)
}

fn power_of_two(dim: &Dim) -> Option<u8> {
    let value = dim.as_const().filter(|value| *value > 0 && value.count_ones() == 1)?;
    u8::try_from(value.trailing_zeros()).ok()
}
