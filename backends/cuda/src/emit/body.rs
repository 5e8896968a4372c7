//! Scalar bodies at one point.

use graver_ir::kernel::{Access, Body, Bounds, Inst, InstKind, Store, ValueId};
use graver_ir::{DType, Scalar};

use super::cx::{Cx, computed, stored};
use super::reduce::Results;

/// What a body is given besides its axes.
#[derive(Clone, Copy)]
pub(super) enum Given<'a> {
    /// Nothing.
    Nothing,
    /// The sum of products at this point.
    Acc(&'a str),
    /// Reductions of earlier stages.
    Reduced(&'a Results),
    /// Products, by stage.
    Products(&'a [String]),
}

/// Loads that were made for several points at once: the instruction, and where the point's element is.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) elements: Vec<(ValueId, String)>,
}

impl Cx<'_> {
    /// The expression of every instruction, in order.
    pub(super) fn body(&mut self, body: &Body, given: Given<'_>) -> Vec<String> {
        self.body_with(body, given, &Loaded::default())
    }

    /// As [`Cx::body`], where some elements are loaded already.
    pub(super) fn body_with(&mut self, body: &Body, given: Given<'_>, loaded: &Loaded) -> Vec<String> {
        let mut values = Vec::new();
        for (position, inst) in body.insts.iter().enumerate() {
            let known = loaded.elements.iter().find(|(id, _)| id.index() == position);
            let value = match known {
                Some((_, element)) => self.define(computed(inst.dtype), "x", format!("gr_get({element})")),
                None => self.inst(body, inst, &values, given),
            };
            values.push(value);
        }
        values
    }

    fn inst(&mut self, body: &Body, inst: &Inst, values: &[String], given: Given<'_>) -> String {
        let ty = computed(inst.dtype);
        let of = |value: &ValueId| values[value.index()].as_str();
        let expression = match &inst.kind {
            InstKind::Const(scalar) => return constant(*scalar),
            InstKind::Index(dim) => self.dim(dim),
            InstKind::Load(access) => self.load(access, values),
            InstKind::Map(function, operands) => {
                let operands: Vec<&str> = operands.iter().map(of).collect();
                format!("gr_{}({})", function.name(), operands.join(", "))
            }
            InstKind::Cast(x) => rounded(inst.dtype, &format!("gr_cast<{ty}>({})", of(x))),
            InstKind::Bitcast(x) => bitcast(body.dtype(*x), inst.dtype, of(x)),
            InstKind::Reduced { stage, slot } => match given {
                Given::Reduced(results) => results.get(self, *stage, *slot),
                Given::Products(products) => return products[*stage].clone(),
                Given::Nothing | Given::Acc(_) => unreachable!("K11: only nests have reductions"),
            },
            InstKind::Acc => match given {
                Given::Acc(sum) => sum.to_owned(),
                Given::Nothing | Given::Reduced(_) | Given::Products(_) => {
                    unreachable!("K5: only epilogues have a sum of products")
                }
            },
            InstKind::Check { ok, value, trap } => {
                self.checks = true;
                self.line(format!("gr_check(status, launch, {}u, {});", trap.0, of(ok)));
                return of(value).to_owned();
            }
            InstKind::Philox { key, position, stream } => {
                let [k0, k1, low, high] = key.each_ref().map(of);
                format!("gr_philox({k0}, {k1}, {low}, {high}, {}, {stream}u)", of(position))
            }
        };
        self.define(ty, "x", expression)
    }

    // ---- accesses

    fn load(&mut self, access: &Access, values: &[String]) -> String {
        let Access { arg, index, bounds } = access;
        match bounds {
            Bounds::Proven => format!("gr_get(p{arg}[{}])", self.offset(*arg, index, values)),
            Bounds::Clamp => format!("gr_get(p{arg}[{}])", self.clamped(*arg, index, values)),
            Bounds::Fill(fill) => {
                let element = format!("gr_get(p{arg}[{}])", self.offset(*arg, index, values));
                match self.inside(*arg, index, values) {
                    Some(inside) => format!("{inside} ? {element} : {}", constant(*fill)),
                    None => element,
                }
            }
        }
    }

    /// The value of a store, as its argument stores it.
    pub(super) fn stored_value(&self, store: &Store, values: &[String]) -> String {
        format!("gr_put<{}>({})", stored(self.arg(store.arg).dtype), values[store.value.index()])
    }

    /// Stores a value of a body, converted to the argument's type.
    pub(super) fn store(&mut self, store: &Store, values: &[String]) {
        let (offset, value) = (self.offset(store.arg, &store.index, values), self.stored_value(store, values));
        self.line(format!("p{}[{offset}] = {value};", store.arg));
    }
}

/// A constant in its computed type.
pub(super) fn constant(scalar: Scalar) -> String {
    let int = scalar.as_i128();
    match scalar.dtype() {
        DType::F64 => format!("gr_double(0x{:016x}ull)", scalar.as_f64().to_bits()),
        #[expect(clippy::cast_possible_truncation, reason = "exact: the value was rounded to its type")]
        DType::F32 | DType::F16 | DType::BF16 => format!("gr_float(0x{:08x}u)", (scalar.as_f64() as f32).to_bits()),
        DType::I64 | DType::U64 => format!("(i64)0x{:016x}ull", scalar.bits()),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the two's complement of a value in range")]
        DType::I32 => format!("(i32)0x{:08x}u", int as u32),
        DType::U32 => format!("{int}u"),
        DType::I16 | DType::I8 | DType::U16 | DType::U8 => format!("({}){int}", stored(scalar.dtype())),
        DType::Bool => (int != 0).to_string(),
    }
}

fn rounded(dtype: DType, value: &str) -> String {
    match dtype {
        DType::F16 => format!("gr_round_f16({value})"),
        DType::BF16 => format!("gr_round_bf16({value})"),
        DType::F64 | DType::F32 | DType::Bool => value.to_owned(),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => value.to_owned(),
    }
}

/// The same bits; 16-bit floats by way of their stored form.
fn bitcast(from: DType, to: DType, value: &str) -> String {
    let name = to.name();
    match (from, to) {
        (DType::F16, DType::BF16) => format!("gr_bf16_to_float(gr_half_of_float({value}))"),
        (DType::BF16, DType::F16) => format!("gr_half_to_float(gr_bf16_of_float({value}))"),
        (DType::I16, DType::U16) | (DType::U16, DType::I16) | (DType::I8, DType::U8) | (DType::U8, DType::I8) => {
            format!("({}){value}", stored(to))
        }
        (DType::F16 | DType::BF16 | DType::I16 | DType::I8 | DType::U16 | DType::U8 | DType::Bool, _) => value.to_owned(),
        (DType::F64 | DType::F32 | DType::I64 | DType::I32 | DType::U64 | DType::U32, _) => format!("gr_bits_{name}({value})"),
    }
}
