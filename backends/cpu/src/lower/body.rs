//! Scalar bodies at a point, or at a point a lane.

use graver_ir::kernel::{Access, Body, Bounds, Index, InstKind, Mode, Store};
use graver_ir::{DType, Dim, Scalar};

use super::cx::Cx;
use crate::expand;
use crate::vector::{Binary, Caches, Compare, Elem, Load, Op, Pattern, Shift, Val, Width, bits};

/// What a body is given besides its axes.
pub(super) trait Given {
    /// A reduction's result, at this point.
    fn reduced(&mut self, cx: &mut Cx<'_>, stage: usize, slot: usize) -> Val;
    /// The sum of products, at this point.
    fn acc(&mut self, cx: &mut Cx<'_>) -> Val;
    /// A value of the body, by its number, that need not be computed.
    fn known(&mut self, _: &mut Cx<'_>, _: usize) -> Option<Val> {
        None
    }
}

/// Nothing.
pub(super) struct Nothing;

impl Given for Nothing {
    fn reduced(&mut self, _: &mut Cx<'_>, _: usize, _: usize) -> Val {
        unreachable!("K7: only nests have reductions")
    }

    fn acc(&mut self, _: &mut Cx<'_>) -> Val {
        unreachable!("K8: only epilogues have a sum of products")
    }
}

impl Cx<'_> {
    /// The value of every instruction, in order.
    pub(super) fn body(&mut self, body: &Body, given: &mut dyn Given) -> Vec<Val> {
        let mut values = Vec::new();
        for (number, inst) in body.insts.iter().enumerate() {
            let known = given.known(self, number);
            values.push(known.unwrap_or_else(|| self.inst(&inst.kind, inst.dtype, &values, given)));
        }
        values
    }

    fn inst(&mut self, kind: &InstKind, dtype: DType, values: &[Val], given: &mut dyn Given) -> Val {
        let elem = Elem::of(dtype);
        match kind {
            InstKind::Const(scalar) => self.scalar(*scalar),
            InstKind::Index(dim) => self.value(dim),
            InstKind::Load(access) => self.load(access, values),
            InstKind::Map(function, operands) => {
                let operands: Vec<Val> = operands.iter().map(|operand| values[operand.index()]).collect();
                expand::map(&mut self.b, *function, &operands)
            }
            InstKind::Cast(x) => {
                let value = self.b.cast(values[x.index()], elem);
                let value = self.rounded(value, dtype);
                self.narrowed(value, self.b.ty(values[x.index()]).elem, dtype)
            }
            InstKind::Bitcast(x) => self.b.bitcast(values[x.index()], elem),
            InstKind::Reduced { stage, slot } => given.reduced(self, *stage, *slot),
            InstKind::Acc => given.acc(self),
            InstKind::Check { ok, value, trap } => {
                self.b.trap(values[ok.index()], trap.0);
                values[value.index()]
            }
            InstKind::Philox { key, position, stream } => {
                let key = key.map(|word| values[word.index()]);
                expand::philox(&mut self.b, key, values[position.index()], *stream)
            }
        }
    }

    pub(super) fn scalar(&mut self, scalar: Scalar) -> Val {
        self.b.constant(Elem::of(scalar.dtype()), bits(scalar))
    }

    fn rounded(&mut self, value: Val, dtype: DType) -> Val {
        match dtype {
            DType::F16 | DType::BF16 => self.b.op(Op::Round(value, dtype)),
            DType::F64 | DType::F32 | DType::Bool => value,
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => value,
        }
    }

    /// A value in 32 bits as a narrow integer holds it: saturated if it was a float, else its low bits.
    fn narrowed(&mut self, value: Val, from: Elem, dtype: DType) -> Val {
        let (elem, bits) = match dtype {
            DType::I16 | DType::U16 => (Elem::of(dtype), 16),
            DType::I8 => (Elem::I32, 24),
            DType::F64 | DType::F32 | DType::F16 | DType::BF16 | DType::Bool => return value,
            DType::I64 | DType::I32 | DType::U64 | DType::U32 | DType::U8 => return value,
        };
        if from.is_float() {
            let limit = |limit: Scalar| Scalar::int(dtype.compute(), limit.as_i64());
            let least = self.scalar(limit(Scalar::lowest(dtype)));
            let most = self.scalar(limit(Scalar::highest(dtype)));
            let value = self.b.binary(Binary::Min, value, most);
            return self.b.binary(Binary::Max, value, least);
        }
        let right = if elem == Elem::U32 { Shift::Logical } else { Shift::Arithmetic };
        let value = self.b.shift(Shift::Left, value, bits);
        self.b.shift(right, value, bits)
    }

    // ---- accesses

    /// An element of an argument.
    fn load(&mut self, access: &Access, values: &[Val]) -> Val {
        let fill = match access.bounds {
            Bounds::Fill(fill) => Some(fill),
            Bounds::Proven | Bounds::Clamp => None,
        };
        let inside = fill.and_then(|_| self.inside_of(access.arg, &access.index, values));
        let (offset, extra) = match access.bounds {
            Bounds::Clamp => self.clamped(access, values),
            Bounds::Proven | Bounds::Fill(_) => self.offset(access.arg, &access.index, values),
        };
        let (arg, base) = (self.arg(access.arg), self.b.op(Op::Arg(access.arg)));
        if access.bounds == Bounds::Proven && extra.is_none() {
            self.prefetch(base, &offset, arg.dtype);
        }
        let (ptr, pattern) = self.place(base, &offset, extra, arg.dtype);
        match inside.zip(fill) {
            None => self.load_from(arg.mode, Load { ptr, dtype: arg.dtype, pattern, mask: None }),
            Some((inside, fill)) => self.load_inside(access.arg, ptr, pattern, inside, fill),
        }
    }

    /// Has what is [ahead](Cx::ahead) be fetched, if it is something else, and neighbours over lanes.
    fn prefetch(&mut self, base: Val, offset: &Dim, dtype: DType) {
        let Some((axis, distance)) = self.ahead else { return };
        let Some((stride, _)) = offset.along(axis).filter(|(stride, _)| !stride.is(0)) else { return };
        let (ptr, pattern) = self.place(base, &(offset + &stride * Dim::from(distance)), None, dtype);
        if pattern == Pattern::Contiguous {
            self.b.prefetch(ptr);
        }
    }

    /// A load that may move only if nothing writes the argument.
    pub(super) fn load_from(&mut self, mode: Mode, load: Load) -> Val {
        match mode {
            Mode::Read => self.b.load(load),
            Mode::Write | Mode::Update => self.b.load_now(load),
        }
    }

    /// The element, or `fill` where `inside` is false and nothing is read.
    pub(super) fn load_inside(&mut self, arg: usize, ptr: Val, pattern: Pattern, inside: Val, fill: Scalar) -> Val {
        let arg = self.arg(arg);
        let fill_value = self.scalar(fill);
        let uniform = self.b.ty(inside).width == Width::One;
        if uniform && matches!(pattern, Pattern::One | Pattern::Contiguous) {
            // One decision for all lanes: elsewhere, something harmless is read.
            let scratch = self.b.op(Op::Scratch);
            let ptr = self.b.select(inside, ptr, scratch);
            let loaded = self.load_from(arg.mode, Load { ptr, dtype: arg.dtype, pattern, mask: None });
            return self.b.select(inside, loaded, fill_value);
        }
        // One element that only some lanes see is read lane by lane.
        let pattern = if pattern == Pattern::One {
            let zero = self.b.int(0);
            Pattern::Scattered(self.b.lanes(zero))
        } else {
            pattern
        };
        let mask = self.b.lanes(inside);
        let loaded = self.load_from(arg.mode, Load { ptr, dtype: arg.dtype, pattern, mask: Some(mask) });
        if bits(fill) == 0 { loaded } else { self.b.select(mask, loaded, fill_value) }
    }

    /// The element's distance from the first: an expression, and what the body computes.
    pub(super) fn offset(&mut self, arg: usize, index: &[Index], values: &[Val]) -> (Dim, Option<Val>) {
        let (mut offset, mut extra) = (Dim::ZERO, None);
        for (index, stride) in index.iter().zip(&self.arg(arg).strides) {
            match index {
                Index::At(dim) => offset = offset + dim * stride,
                Index::Value(value, dim) => {
                    offset = offset + dim * stride;
                    extra = Some(self.plus(extra, values[value.index()], stride));
                }
            }
        }
        (offset, extra)
    }

    /// As [`Cx::offset`], with every position that is not proved inside moved to the nearest that is.
    fn clamped(&mut self, access: &Access, values: &[Val]) -> (Dim, Option<Val>) {
        let arg = self.arg(access.arg);
        let (mut offset, mut extra) = (Dim::ZERO, None);
        for ((index, stride), size) in access.index.iter().zip(&arg.strides).zip(&arg.shape) {
            let position = match index {
                Index::At(dim) if dim.is_below(size) => {
                    offset = offset + dim * stride;
                    continue;
                }
                Index::At(dim) => self.value(dim),
                Index::Value(value, dim) => self.plus_dim(values[value.index()], dim),
            };
            let (zero, last) = (self.b.int(0), self.value(&(size - Dim::ONE)));
            let position = self.b.binary(Binary::Min, position, last);
            let position = self.b.binary(Binary::Max, position, zero);
            extra = Some(self.plus(extra, position, stride));
        }
        (offset, extra)
    }

    fn plus(&mut self, sum: Option<Val>, position: Val, stride: &Dim) -> Val {
        let stride = self.value(stride);
        let product = self.b.mul(position, stride);
        sum.map_or(product, |sum| self.b.add(sum, product))
    }

    /// Whether an index is inside of an argument; `None` where that is proved.
    pub(super) fn inside_of(&mut self, arg: usize, index: &[Index], values: &[Val]) -> Option<Val> {
        let sizes = &self.arg(arg).shape;
        self.inside_each(index.iter().zip(sizes), values)
    }

    /// Whether each index is one of an axis of this size; `None` where that is proved.
    pub(super) fn inside_each<'d>(&mut self, each: impl Iterator<Item = (&'d Index, &'d Dim)>, values: &[Val]) -> Option<Val> {
        let mut inside = None;
        for (index, size) in each {
            let (low, high) = match index {
                Index::At(dim) => (dim.is_nonneg(), (size - dim - Dim::ONE).is_nonneg()),
                Index::Value(..) => (false, false),
            };
            if low && high {
                continue;
            }
            let position = match index {
                Index::At(dim) => self.value(dim),
                Index::Value(value, dim) => self.plus_dim(values[value.index()], dim),
            };
            if !low {
                let zero = self.b.int(0);
                let not_below = self.b.compare(Compare::Ge, position, zero);
                inside = Some(self.both(inside, not_below));
            }
            if !high {
                let size = self.value(size);
                let below = self.b.compare(Compare::Lt, position, size);
                inside = Some(self.both(inside, below));
            }
        }
        inside
    }

    fn both(&mut self, x: Option<Val>, y: Val) -> Val {
        x.map_or(y, |x| self.b.and(x, y))
    }

    /// Stores a value of several bodies in turn, whose elements are neighbours from lane to lane; `store` is the first one's.
    pub(super) fn store_in_turn(&mut self, store: &Store, values: &[Vec<Val>]) {
        let arg = self.arg(store.arg);
        let (offset, extra) = self.offset(store.arg, &store.index, &values[0]);
        let base = self.b.op(Op::Arg(store.arg));
        let (ptr, pattern) = self.place(base, &offset, extra, arg.dtype);
        let values: Vec<Val> =
            values.iter().map(|values| self.b.cast(values[store.value.index()], Elem::of(arg.dtype))).collect();
        if let [first, second] = values[..] {
            let caches = if self.passing == Some(store.arg) { Caches::Passed } else { Caches::Kept };
            return self.b.store_in_turn(caches, ptr, arg.dtype, [first, second]);
        }
        for (number, value) in (0..).zip(values) {
            let distance = self.b.int(number * i64::try_from(arg.dtype.size()).expect("few bytes"));
            let ptr = self.b.add(ptr, distance);
            self.b.store(ptr, arg.dtype, pattern, value);
        }
    }

    /// Stores a value of a body, converted to the argument's type.
    pub(super) fn store(&mut self, store: &Store, values: &[Val]) {
        let arg = self.arg(store.arg);
        let (offset, extra) = self.offset(store.arg, &store.index, values);
        let base = self.b.op(Op::Arg(store.arg));
        let (ptr, pattern) = self.place(base, &offset, extra, arg.dtype);
        let value = self.b.cast(values[store.value.index()], Elem::of(arg.dtype));
        // Lanes that store at one place are those of an empty array, whose strides may be 0.
        let pattern = if pattern == Pattern::One && self.b.ty(value).width == Width::Lanes {
            let zero = self.b.int(0);
            Pattern::Scattered(self.b.lanes(zero))
        } else {
            pattern
        };
        let caches = if self.passing == Some(store.arg) { Caches::Passed } else { Caches::Kept };
        self.b.store_by(caches, ptr, arg.dtype, pattern, value);
    }
}
