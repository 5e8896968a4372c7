//! What goes in: element types and shapes of a traced function's arguments, in any nesting.

use std::panic::Location;

use graver_ir::{Array, DType, Diag, Dim, Element, Role, Shape, Symbol, Type};

use crate::context::{Trace, with};
use crate::size::{Dims, Extent};
use crate::tensor::Tensor;
use crate::tree::Tensors;

/// An argument of a traced function: see [`spec`].
#[derive(Clone, Debug)]
pub struct TensorSpec {
    dtype: DType,
    shape: Vec<Extent>,
    name: Option<String>,
    line: &'static Location<'static>,
}

/// An argument of element type `E`; sizes are numbers, or symbols' names, whose values calls give.
///
/// ```
/// use graver_trace::{spec, symbol};
/// let images = spec::<f32>(("batch", 1, 28, 28));
/// let labels = spec::<i64>(["batch"]);
/// let tokens = spec::<i64>((symbol("batch", 1..=64), symbol("length", 1..=1024)));
/// # drop((images, labels, tokens));
/// ```
#[must_use]
#[track_caller]
pub fn spec<E: Element>(shape: impl Dims) -> TensorSpec {
    spec_of(E::DTYPE, shape)
}

/// [`spec`] of an element type that is not known to the compiler.
#[must_use]
#[track_caller]
pub fn spec_of(dtype: DType, shape: impl Dims) -> TensorSpec {
    TensorSpec { dtype, shape: shape.dims(), name: None, line: Location::caller() }
}

/// A symbolic size with the range of its values, both ends included. The same name is the same size in all arguments. A range without a value
/// is an error of the trace.
#[must_use]
pub fn symbol(name: &str, range: std::ops::RangeInclusive<usize>) -> SymbolSpec {
    let number = |size: &usize| i64::try_from(*size).unwrap_or(i64::MAX);
    let symbol = Symbol::ranged(name, number(range.start()), number(range.end()), 1);
    SymbolSpec { symbol, empty: range.is_empty().then_some(range) }
}

/// A symbolic size as it is declared: see [`symbol`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolSpec {
    symbol: Symbol,
    /// The range, if no size is in it.
    empty: Option<std::ops::RangeInclusive<usize>>,
}

impl SymbolSpec {
    /// The size.
    pub(crate) fn dim(&self) -> Dim {
        Dim::sym(&self.symbol)
    }

    fn check(&self) -> Result<(), Diag> {
        let Some(range) = &self.empty else { return Ok(()) };
        let name = self.symbol.name();
        let turned = symbol(name, *range.end()..=*range.start());
        let message = format!("the size `{name}` is declared as {range:?}, in which there is no size");
        Err(Diag::new(message).help(format!("the least comes first: {}", turned.range())))
    }

    fn range(&self) -> String {
        format!("{}..={}", self.symbol.decl().lo, self.symbol.decl().hi)
    }
}

impl From<Symbol> for SymbolSpec {
    fn from(symbol: Symbol) -> Self {
        Self { symbol, empty: None }
    }
}

impl TensorSpec {
    /// With a name for messages about calls.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Declares the symbols that say more than a name.
    fn declare(&self, trace: &mut Trace) {
        for extent in &self.shape {
            let Extent::Symbol(spec) = extent else { continue };
            if let Err(diag) = spec.check() {
                trace.record(diag.op("symbol"), self.line);
                continue;
            }
            let symbol = &spec.symbol;
            match trace.symbols.get(symbol.name()) {
                Some(known) if known != symbol => {
                    let (this, that) = (spec.range(), SymbolSpec::from(known.clone()).range());
                    let diag =
                        Diag::new(format!("the size `{}` is declared as {this} here, and as {that} before", symbol.name()));
                    trace.record(diag.op("spec"), self.line);
                }
                Some(_) => {}
                None => {
                    trace.symbols.insert(symbol.name().to_owned(), symbol.clone());
                }
            }
        }
    }

    fn dim(&self, extent: &Extent, trace: &mut Trace) -> Dim {
        match extent {
            Extent::Name(name) => {
                let symbol = trace.symbols.entry(name.clone()).or_insert_with(|| Symbol::new(name.clone()));
                Dim::sym(symbol)
            }
            Extent::Symbol(symbol) => symbol.dim(),
            Extent::Rest | Extent::Size(_) => {
                let known = if let Extent::Size(size) = extent { size.known() } else { None };
                known.map_or_else(
                    || {
                        let diag = Diag::new("the size of an argument is a number of 0 or more, or a symbol").op("spec");
                        trace.record(diag, self.line);
                        Dim::ZERO
                    },
                    Dim::from,
                )
            }
        }
    }

    fn param(&self, path: &str, trace: &mut Trace) -> Tensor {
        let shape = Shape(self.shape.iter().map(|extent| self.dim(extent, trace)).collect());
        let name = self.name.clone().unwrap_or_else(|| path.to_owned());
        if !shape.is_valid() {
            trace.record(Diag::new(format!("{}{shape} has more than 2^48 elements", self.dtype)).op("spec"), self.line);
            return trace.poison();
        }
        trace.param(Type::new(self.dtype, shape), Role::Arg(name), self.line)
    }
}

/// What goes in: a nesting of [`TensorSpec`], to which a nesting of tensors corresponds inside the traced function
/// and a nesting of array references at calls.
pub trait Spec {
    /// What the traced function takes.
    type Traced;
    /// What a call takes.
    type Args<'a>;

    /// Appends the arguments' specs, each with its place in the nesting.
    fn leaves<'s>(&'s self, path: &str, out: &mut Vec<(String, &'s TensorSpec)>);

    /// The nesting of tensors.
    ///
    /// # Panics
    /// If there are fewer than leaves.
    fn traced(&self, tensors: &mut Tensors<'_>) -> Self::Traced;

    /// Appends the arrays of a call.
    ///
    /// # Errors
    /// If a vector or an option of the call is not as long as the spec's.
    fn arrays<'a>(&self, args: Self::Args<'a>, out: &mut Vec<&'a Array>) -> Result<(), Diag>;
}

/// Adds a parameter to the trace for each argument.
pub(crate) fn inputs<S: Spec>(spec: &S) -> S::Traced {
    let mut leaves = Vec::new();
    spec.leaves("", &mut leaves);
    let tensors = with(|trace| {
        leaves.iter().for_each(|(_, leaf)| leaf.declare(trace));
        let param = |(path, leaf): &(String, &TensorSpec)| leaf.param(if path.is_empty() { "input" } else { path }, trace);
        leaves.iter().map(param).collect::<Vec<_>>()
    });
    spec.traced(&mut tensors.into_iter())
}

fn check_length(declared: usize, given: usize) -> Result<(), Diag> {
    if declared == given {
        Ok(())
    } else {
        Err(Diag::new(format!("{declared} inputs were declared where the call gives {given}")).op("call"))
    }
}

/// A field's name after the path to its struct: what derived code calls.
#[doc(hidden)]
#[must_use]
pub fn join_path(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn part(path: &str, place: usize) -> String {
    if path.is_empty() { format!("input {place}") } else { format!("{path}.{place}") }
}

impl Spec for TensorSpec {
    type Traced = Tensor;
    type Args<'a> = &'a Array;

    fn leaves<'s>(&'s self, path: &str, out: &mut Vec<(String, &'s TensorSpec)>) {
        out.push((path.to_owned(), self));
    }

    fn traced(&self, tensors: &mut Tensors<'_>) -> Tensor {
        tensors.next().expect("a trace has a tensor for each argument")
    }

    fn arrays<'a>(&self, args: &'a Array, out: &mut Vec<&'a Array>) -> Result<(), Diag> {
        out.push(args);
        Ok(())
    }
}

impl<S: Spec> Spec for Vec<S> {
    type Traced = Vec<S::Traced>;
    type Args<'a> = Vec<S::Args<'a>>;

    fn leaves<'s>(&'s self, path: &str, out: &mut Vec<(String, &'s TensorSpec)>) {
        self.iter().enumerate().for_each(|(place, spec)| spec.leaves(&part(path, place), out));
    }

    fn traced(&self, tensors: &mut Tensors<'_>) -> Self::Traced {
        self.iter().map(|spec| spec.traced(tensors)).collect()
    }

    fn arrays<'a>(&self, args: Self::Args<'a>, out: &mut Vec<&'a Array>) -> Result<(), Diag> {
        check_length(self.iter().len(), args.iter().len())?;
        self.iter().zip(args).try_for_each(|(spec, args)| spec.arrays(args, out))
    }
}

impl<S: Spec, const N: usize> Spec for [S; N] {
    type Traced = [S::Traced; N];
    type Args<'a> = [S::Args<'a>; N];

    fn leaves<'s>(&'s self, path: &str, out: &mut Vec<(String, &'s TensorSpec)>) {
        self.iter().enumerate().for_each(|(place, spec)| spec.leaves(&part(path, place), out));
    }

    fn traced(&self, tensors: &mut Tensors<'_>) -> Self::Traced {
        std::array::from_fn(|place| self[place].traced(tensors))
    }

    fn arrays<'a>(&self, args: Self::Args<'a>, out: &mut Vec<&'a Array>) -> Result<(), Diag> {
        check_length(self.iter().len(), args.iter().len())?;
        self.iter().zip(args).try_for_each(|(spec, args)| spec.arrays(args, out))
    }
}

impl<S: Spec> Spec for Option<S> {
    type Traced = Option<S::Traced>;
    type Args<'a> = Option<S::Args<'a>>;

    fn leaves<'s>(&'s self, path: &str, out: &mut Vec<(String, &'s TensorSpec)>) {
        self.iter().for_each(|spec| spec.leaves(path, out));
    }

    fn traced(&self, tensors: &mut Tensors<'_>) -> Self::Traced {
        self.as_ref().map(|spec| spec.traced(tensors))
    }

    fn arrays<'a>(&self, args: Self::Args<'a>, out: &mut Vec<&'a Array>) -> Result<(), Diag> {
        check_length(self.iter().len(), args.iter().len())?;
        self.iter().zip(args).try_for_each(|(spec, args)| spec.arrays(args, out))
    }
}

macro_rules! tuple_specs {
    ($($name:ident $place:tt)*) => {
        impl<$($name: Spec),*> Spec for ($($name,)*) {
            type Traced = ($($name::Traced,)*);
            type Args<'a> = ($($name::Args<'a>,)*);

            fn leaves<'s>(&'s self, _path: &str, _out: &mut Vec<(String, &'s TensorSpec)>) {
                $(self.$place.leaves(&part(_path, $place), _out);)*
            }

            #[allow(clippy::unused_unit, reason = "the empty tuple is one of them")]
            fn traced(&self, _tensors: &mut Tensors<'_>) -> Self::Traced {
                ($(self.$place.traced(_tensors),)*)
            }

            fn arrays<'a>(&self, _args: Self::Args<'a>, _out: &mut Vec<&'a Array>) -> Result<(), Diag> {
                $(self.$place.arrays(_args.$place, _out)?;)*
                Ok(())
            }
        }
    };
}

tuple_specs!();
tuple_specs!(A 0);
tuple_specs!(A 0 B 1);
tuple_specs!(A 0 B 1 C 2);
tuple_specs!(A 0 B 1 C 2 D 3);
tuple_specs!(A 0 B 1 C 2 D 3 E 4);
tuple_specs!(A 0 B 1 C 2 D 3 E 4 F 5);
tuple_specs!(A 0 B 1 C 2 D 3 E 4 F 5 G 6);
tuple_specs!(A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7);
