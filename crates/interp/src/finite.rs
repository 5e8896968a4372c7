//! Where the first NaN or infinity comes from.

use graver_ir::{Diag, NodeId, Op, Scalar, unravel};

use crate::dense::{Data, Dense};
use crate::graph::{At, Watch};
use crate::scalar::Precision;

/// Which values are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// NaN, made of none.
    Nan,
    /// Also infinities, made of finite values.
    NanOrInfinity,
}

/// Ends an evaluation at the first value that is looked for.
pub(crate) struct Finite<'a> {
    pub(crate) suspect: Suspect,
    /// Whether a node of a function of this name belongs to a derivative.
    pub(crate) derived: &'a dyn Fn(&str, NodeId) -> bool,
}

impl Watch for Finite<'_> {
    fn given(&self, _: usize, _: &mut Dense, _: Precision) {}

    fn computed(&self, at: &At<'_>, args: &[&Dense], results: &mut [Dense], _: Precision) -> Result<(), Diag> {
        // What is written down is meant.
        if args.is_empty() {
            return Ok(());
        }
        match results.iter().find_map(|result| self.made(at, args, result)) {
            Some(diag) => Err(diag.op(at.op.name())),
            None => Ok(()),
        }
    }
}

impl Finite<'_> {
    fn made(&self, at: &At<'_>, args: &[&Dense], result: &Dense) -> Option<Diag> {
        let Data::Float(values) = &result.data else { return None };
        let sources = Sources::of(at.op, args);
        let is_made = |(position, value): (usize, &f64)| {
            let bad = value.is_nan() || (self.suspect == Suspect::NanOrInfinity && value.is_infinite());
            bad && sources.make(position, *value)
        };
        let first = values.iter().enumerate().position(is_made)?;
        let all = values.iter().enumerate().filter(|(position, value)| is_made((*position, value))).count();
        Some(Diag::new(self.message(at, result, (first, all), &sources)).help(self.note(at)))
    }

    /// `gives inf at [3, 7] of f32[64, 10], made of 89.5`
    fn message(&self, at: &At<'_>, result: &Dense, (first, all): (usize, usize), sources: &Sources<'_>) -> String {
        let value = result.data.get(first).scalar(result.dtype);
        let index = unravel(first, &result.shape);
        let others = if all > 1 { format!(" and {} other elements", all - 1) } else { String::new() };
        let which = match at.iterations {
            [] => String::new(),
            [one] => format!(" in iteration {one}"),
            many => format!(" in iterations {many:?} of the loops around, outermost first"),
        };
        format!("gives {value} at {index:?}{others} of {}{which}, made of {}", result.ty(), sources.told(first))
    }

    fn note(&self, at: &At<'_>) -> String {
        if (self.derived)(at.function, at.node) {
            "it belongs to the derivative of what is computed here".to_owned()
        } else {
            String::new()
        }
    }
}

/// What an element is made of.
struct Sources<'a> {
    args: &'a [&'a Dense],
    /// Element by element, or of everything.
    pointwise: bool,
    /// Whether any float operand holds a NaN, or anything that is not finite.
    nan: bool,
    not_finite: bool,
}

impl<'a> Sources<'a> {
    fn of(op: &Op, args: &'a [&'a Dense]) -> Self {
        let any = |bad: fn(&f64) -> bool| args.iter().any(|arg| floats(arg).is_some_and(|values| values.iter().any(bad)));
        let pointwise = matches!(op, Op::Map(_) | Op::Cast(_) | Op::Bitcast(_));
        Self { args, pointwise, nan: any(|x| x.is_nan()), not_finite: any(|x| !x.is_finite()) }
    }

    /// Whether a bad value of the result is news.
    fn make(&self, position: usize, value: f64) -> bool {
        if !self.pointwise {
            return if value.is_nan() { !self.nan } else { !self.not_finite };
        }
        let mut own = self.args.iter().filter_map(|arg| Some(floats(arg)?[position]));
        if value.is_nan() { !own.any(f64::is_nan) } else { own.all(f64::is_finite) }
    }

    fn told(&self, position: usize) -> String {
        let tell = |arg: &&Dense| {
            if self.pointwise {
                return arg.data.get(position).scalar(arg.dtype).to_string();
            }
            match floats(arg) {
                Some(values) if !values.is_empty() => {
                    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let [least, greatest] = [least, greatest].map(|x| Scalar::float(arg.dtype, x));
                    format!("{} from {least} to {greatest}", arg.ty())
                }
                Some(_) | None => arg.ty().to_string(),
            }
        };
        self.args.iter().map(tell).collect::<Vec<_>>().join(" and ")
    }
}

fn floats<'a>(arg: &&'a Dense) -> Option<&'a [f64]> {
    match &arg.data {
        Data::Float(values) => Some(values),
        Data::Int(_) => None,
    }
}
