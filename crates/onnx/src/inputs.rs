//! A model's inputs: their types, with axes that are symbols, and the values and sizes that are given.

use std::collections::{BTreeMap, BTreeSet};

use graver_ir::dim::Atom;
use graver_ir::{Array, DType, Dim, Shape, Symbol, Type, Value};

use crate::format::{Element, Format};
use crate::import::{Form, Frame, Importer, Origin, Slot};
use crate::problem::{Result, unsupported, wrong};
use crate::proto::{DimensionValue, GraphProto, ModelProto, TensorType, TypeProto, TypeValue, ValueInfoProto};

/// The version of the format from which on an initializer may be no input, so that one that is an input is a default.
const DEFAULTS: i64 = 4;

/// What exporters of other frameworks write for the size of a dynamic axis, instead of a name or of nothing: ONNX has no rule against it, and ONNX
/// Runtime takes it, as anything below zero, for an axis of any size.
const OPEN: i64 = -1;

/// The names of a model's inputs, in order: what [`Imported::inputs`](crate::Imported::inputs) counts. One that has an initializer is an
/// argument only if [`Options::replaced`](crate::Options::replaced) has it; before version 4 of the format, where every initializer
/// had to be an input, it is none of these.
#[must_use]
pub fn input_names(model: &ModelProto) -> Vec<String> {
    let graph = model.graph.iter();
    graph.flat_map(|graph| inputs(model.ir_version, graph)).map(|input| input.name.clone()).collect()
}

/// The inputs that are counted.
fn inputs(version: i64, graph: &GraphProto) -> impl Iterator<Item = &ValueInfoProto> {
    let given: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.iter().filter(move |input| version >= DEFAULTS || !given.contains(input.name.as_str()))
}

/// What the elements of a model's inputs are kept in, by name, where they are tensors, or hold tensors, of a known type.
#[must_use]
pub fn input_dtypes(model: &ModelProto) -> BTreeMap<String, DType> {
    let inputs = model.graph.iter().flat_map(|graph| &graph.input);
    inputs.filter_map(|input| Some((input.name.clone(), declared(input)?.ok()?.stored()))).collect()
}

/// What the elements of a model's outputs are, in order, where it declares them.
#[must_use]
pub fn output_elements(model: &ModelProto) -> Vec<Option<Element>> {
    let outputs = model.graph.iter().flat_map(|graph| &graph.output);
    outputs.map(|output| declared(output)?.ok()).collect()
}

/// The declared type of an input's elements, or of those of the tensors that it holds.
fn declared(input: &ValueInfoProto) -> Option<Result<Element>> {
    let mut ty = input.r#type.as_ref()?;
    loop {
        match ty.value.as_ref()? {
            TypeValue::Tensor(tensor) => return Some(Element::of(i64::from(tensor.elem_type))),
            TypeValue::Sequence(of) | TypeValue::Optional(of) => ty = of.elem_type.as_deref()?,
            TypeValue::Map(_) | TypeValue::Sparse(_) => return None,
        }
    }
}

const NO_LENGTH: &str = "a sequence whose length is not given; `graver run` takes a folder of its elements, `input_0/0.npy`, .., and `Options::forms` the number";
const NO_FORM: &str = "an optional value of which is not said what it is; `Options::forms` says it";

/// The name of a sequence's element: what [`Options`](crate::Options) calls it.
fn item_name(name: &str, item: usize) -> String {
    format!("{name}.{item}")
}

/// A size as the model writes it.
fn declared_size(dim: &crate::proto::Dimension) -> String {
    match &dim.value {
        Some(DimensionValue::Size(size)) => size.to_string(),
        Some(DimensionValue::Name(name)) => name.clone(),
        None => "?".to_owned(),
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
        // An input with an initializer has its value, unless another is given.
        let open = |(_, input): &(usize, &ValueInfoProto)| frame.find(&input.name).is_none();
        let inputs: Vec<(usize, &ValueInfoProto)> = inputs(self.version, graph).enumerate().filter(open).collect();
        for (place, input) in inputs {
            let slot = match self.input(input, place) {
                Ok(_) if frame.has(&input.name) => self.slot(wrong("it is there twice"), &format!("the input `{}`", input.name)),
                Ok(slot) => slot,
                Err(problem) => self.slot(Err(problem), &format!("the input `{}`", input.name)),
            };
            frame.define(&input.name, slot);
        }
    }

    /// Whether a name is that of an input that is counted.
    pub(crate) fn is_input(&self, graph: &GraphProto, name: &str) -> bool {
        inputs(self.version, graph).any(|input| input.name == name)
    }

    fn input(&mut self, input: &ValueInfoProto, place: usize) -> Result<Slot> {
        let form = self.options.forms.get(&input.name).copied();
        let mut ty = input.r#type.as_ref();
        if let Some(TypeValue::Optional(of)) = ty.and_then(|ty| ty.value.as_ref()) {
            match form {
                None => return unsupported(NO_FORM),
                Some(Form::Absent) => return Ok(Slot::Absent),
                Some(Form::Tensor | Form::Sequence(_)) => ty = of.elem_type.as_deref(),
            }
        }
        let tensor = |ty: Option<&TypeProto>| match ty.and_then(|ty| ty.value.clone()) {
            Some(TypeValue::Tensor(tensor)) => Ok(tensor),
            Some(TypeValue::Sequence(_) | TypeValue::Map(_) | TypeValue::Sparse(_) | TypeValue::Optional(_)) => {
                unsupported("a type other than a tensor or a sequence of tensors")
            }
            None => wrong("it has no type"),
        };
        if let Some(TypeValue::Sequence(of)) = ty.and_then(|ty| ty.value.as_ref()) {
            let Some(Form::Sequence(count)) = form else { return unsupported(NO_LENGTH) };
            let tensor = tensor(of.elem_type.as_deref())?;
            let mut items = Vec::new();
            for item in 0..count {
                let origin = Origin { input: place, item: Some(item) };
                items.push(self.one(input, &tensor, &item_name(&input.name, item), origin)?);
            }
            return Ok(self.listed(items));
        }
        let tensor = tensor(ty)?;
        Ok(Slot::Value(self.one(input, &tensor, &input.name, Origin { input: place, item: None })?))
    }

    /// A tensor of an input: its value where that is given, or an argument.
    fn one(&mut self, input: &ValueInfoProto, tensor: &TensorType, name: &str, origin: Origin) -> Result<Value> {
        if let Some(array) = self.options.values.get(name) {
            return self.given(input, array);
        }
        let ty = self.input_type(tensor, name, origin.item.is_none())?;
        let value = self.builder.param(ty, name)?;
        if let Some(format) = input_format(input) {
            self.builder.mark(value, format);
        }
        self.inputs.push(origin);
        Ok(value)
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

    /// Whether a result is what the model declares of it: elements, axes, and sizes where both are numbers.
    pub(crate) fn as_declared(&self, output: &ValueInfoProto, value: Value) -> Result<()> {
        let Some(TypeValue::Tensor(tensor)) = output.r#type.as_ref().and_then(|ty| ty.value.as_ref()) else { return Ok(()) };
        if tensor.elem_type != 0 && Element::of(i64::from(tensor.elem_type))? != self.builder.element(value) {
            let declared = Element::of(i64::from(tensor.elem_type))?;
            return wrong(format!("it is declared to be of {}, and is {}", declared.name(), self.builder.ty(value)));
        }
        let Some(shape) = &tensor.shape else { return Ok(()) };
        let own = self.builder.shape(value);
        let differs = |(dim, size): (&crate::proto::Dimension, &Dim)| match &dim.value {
            Some(DimensionValue::Size(declared)) if *declared != OPEN => {
                size.as_const().map_or(*declared < 0, |size| *declared != size)
            }
            Some(DimensionValue::Size(_) | DimensionValue::Name(_)) | None => false,
        };
        if shape.dim.len() == own.rank() && !shape.dim.iter().zip(own.iter()).any(differs) {
            return Ok(());
        }
        let sizes: Vec<String> = shape.dim.iter().map(declared_size).collect();
        wrong(format!("it is declared to be [{}], and is {}", sizes.join(", "), self.builder.ty(value)))
    }

    /// Elements of a sequence may differ in sizes of one name: those are `shared` among tensors alone.
    fn input_type(&mut self, tensor: &TensorType, name: &str, shared: bool) -> Result<Type> {
        let dtype = Element::of(i64::from(tensor.elem_type))?.stored();
        let given = self.options.shapes.get(name);
        let Some(declared) = &tensor.shape else {
            let Some(given) = given else { return unsupported("an input without a shape") };
            return Ok(Type::new(dtype, Shape::new(given.iter().copied())));
        };
        let given = given.filter(|given| given.len() == declared.dim.len());
        let mut dims = Vec::new();
        for (axis, dim) in declared.dim.iter().enumerate() {
            dims.push(match (&dim.value, given) {
                (Some(DimensionValue::Size(size)), _) if *size >= 0 => Dim::from(*size),
                (Some(DimensionValue::Size(size)), _) if *size != OPEN => {
                    return wrong(format!("the size of axis {axis} is {size}: a size is 0 or more, or {OPEN} where it is open"));
                }
                (_, Some(given)) => Dim::from(given[axis]),
                (Some(DimensionValue::Name(symbol)), None) if shared && !symbol.is_empty() => self.symbol(symbol),
                (Some(DimensionValue::Name(_) | DimensionValue::Size(_)) | None, None) => self.symbol(&format!("{name}_{axis}")),
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
