//! A model's inputs: their types, with axes that are symbols, and the values and sizes that are given.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::dim::Atom;
use graver_ir::{Array, DType, Dim, Shape, Symbol, Type, Value};

use crate::format::{Element, Format};
use crate::import::{Frame, Importer};
use crate::problem::{Result, unsupported, wrong};
use crate::proto::{DimensionValue, GraphProto, ModelProto, TypeValue, ValueInfoProto};

/// The names of a model's inputs that have no initializer, in order: what [`Imported::inputs`](crate::Imported::inputs) counts.
#[must_use]
pub fn input_names(model: &ModelProto) -> Vec<String> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let given: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.iter().map(|input| input.name.clone()).filter(|name| !given.contains(name.as_str())).collect()
}

/// What the elements of a model's inputs are kept in, by name, where they are tensors of a known type.
#[must_use]
pub fn input_dtypes(model: &ModelProto) -> BTreeMap<String, DType> {
    let inputs = model.graph.iter().flat_map(|graph| &graph.input);
    inputs.filter_map(|input| Some((input.name.clone(), declared(input)?.ok()?.stored()))).collect()
}

/// The declared type of an input's elements; nothing if it is no tensor.
fn declared(input: &ValueInfoProto) -> Option<Result<Element>> {
    match input.r#type.as_ref()?.value.as_ref()? {
        TypeValue::Tensor(tensor) => Some(Element::of(i64::from(tensor.elem_type))),
        TypeValue::Sequence(_) | TypeValue::Map(_) | TypeValue::Sparse(_) | TypeValue::Optional(_) => None,
    }
}

/// What the elements of an input mean, if they are codes.
fn input_format(input: &ValueInfoProto) -> Option<Format> {
    match declared(input) {
        Some(Ok(Element::Coded(format))) => Some(format),
        Some(Ok(Element::Plain(_)) | Err(_)) | None => None,
    }
}

impl Importer<'_> {
    pub(crate) fn arguments(&mut self, graph: &GraphProto, frame: &mut Frame) {
        // An input with an initializer has its value.
        let open = |input: &&ValueInfoProto| frame.find(&input.name).is_none();
        let inputs: Vec<&ValueInfoProto> = graph.input.iter().filter(open).collect();
        for (place, input) in inputs.into_iter().enumerate() {
            let value = match self.options.values.get(&input.name) {
                Some(array) => self.given(input, array),
                None => self.argument(input, place),
            };
            let slot = self.slot(value, &format!("the input `{}`", input.name));
            frame.define(&input.name, slot);
        }
    }

    /// An input whose value is given.
    fn given(&mut self, input: &ValueInfoProto, array: &Array) -> Result<Value> {
        if let Some(element) = declared(input).transpose()?
            && element.stored() != array.dtype()
        {
            return wrong(format!("the value given is {}, not {}", array.ty(), element.stored()));
        }
        self.builder.stored(array.clone(), input_format(input))
    }

    fn argument(&mut self, input: &ValueInfoProto, place: usize) -> Result<Value> {
        let ty = self.input_type(input)?;
        let value = self.builder.param(ty, &input.name)?;
        if let Some(format) = input_format(input) {
            self.builder.mark(value, format);
        }
        self.inputs.push(place);
        Ok(value)
    }

    fn input_type(&mut self, input: &ValueInfoProto) -> Result<Type> {
        let tensor = match input.r#type.as_ref().and_then(|ty| ty.value.as_ref()) {
            Some(TypeValue::Tensor(tensor)) => tensor,
            Some(TypeValue::Sequence(_) | TypeValue::Map(_) | TypeValue::Sparse(_) | TypeValue::Optional(_)) => {
                return unsupported("a type other than a tensor");
            }
            None => return wrong("it has no type"),
        };
        let dtype = Element::of(i64::from(tensor.elem_type))?.stored();
        let given = self.options.shapes.get(&input.name);
        let Some(declared) = &tensor.shape else {
            let Some(given) = given else { return unsupported("an input without a shape") };
            return Ok(Type::new(dtype, Shape::new(given.iter().copied())));
        };
        let given = given.filter(|given| given.len() == declared.dim.len());
        let mut dims = Vec::new();
        for (axis, dim) in declared.dim.iter().enumerate() {
            dims.push(match (&dim.value, given) {
                (Some(DimensionValue::Size(size)), _) if *size >= 0 => Dim::from(*size),
                (_, Some(given)) => Dim::from(given[axis]),
                (Some(DimensionValue::Name(name)), None) if !name.is_empty() => self.symbol(name),
                (Some(DimensionValue::Name(_) | DimensionValue::Size(_)) | None, None) => {
                    self.symbol(&format!("{}_{axis}", input.name))
                }
            });
        }
        Ok(Type::new(dtype, Shape(dims)))
    }

    /// The size of this name: one symbol a name, or what was assumed of it.
    fn symbol(&self, name: &str) -> Dim {
        self.assumed.iter().fold(Dim::sym(&Symbol::new(name)), |size, (symbol, dim)| {
            size.substitute(&|atom| (*atom == Atom::Sym(symbol.clone())).then(|| dim.clone()))
        })
    }
}
