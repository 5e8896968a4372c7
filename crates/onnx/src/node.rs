//! A node under translation: its operands and attributes, checked as they are asked for.

use std::cell::RefCell;

use graver_ir::{Array, DType, Diag, Dim, Shape, Value};

use crate::build::Builder;
use crate::external::External;
use crate::format::{Element, Format};
use crate::known::Quotient;
use crate::problem::{Problem, Result, wrong};
use crate::proto::{AttributeProto, NodeProto, SparseTensorProto};
use crate::tensor;

/// What a translation sees.
pub(crate) struct Node<'a> {
    pub(crate) b: &'a mut Builder,
    pub(crate) proto: &'a NodeProto,
    /// One entry an input; `None` where an optional one is left out.
    pub(crate) args: &'a [Option<Value>],
    /// The version of the operator set.
    pub(crate) version: i64,
    pub(crate) external: &'a External,
    /// The first attribute that was asked for and is of another type.
    pub(crate) mistyped: RefCell<Option<Diag>>,
}

/// ONNX's types of attributes, by number.
const KINDS: [&str; 15] = [
    "undefined",
    "a float",
    "an integer",
    "a text",
    "a tensor",
    "a graph",
    "floats",
    "integers",
    "texts",
    "tensors",
    "graphs",
    "a sparse tensor",
    "sparse tensors",
    "a type",
    "types",
];

/// The types of attributes that translations ask for.
#[derive(Clone, Copy)]
enum Kind {
    Float = 1,
    Int = 2,
    Text = 3,
    Tensor = 4,
    Floats = 6,
    Ints = 7,
    Texts = 8,
    Sparse = 11,
}

impl Node<'_> {
    // ---- operands

    /// A required operand.
    pub(crate) fn arg(&self, place: usize) -> Result<Value> {
        match self.opt(place) {
            Some(value) => Ok(value),
            None => wrong(format!("the operand {place} is missing")),
        }
    }

    /// An optional operand.
    pub(crate) fn opt(&self, place: usize) -> Option<Value> {
        self.args.get(place).copied().flatten()
    }

    /// All operands, each required; at least one.
    pub(crate) fn all(&self) -> Result<Vec<Value>> {
        if self.args.is_empty() {
            return wrong("takes one operand or more");
        }
        (0..self.args.len()).map(|place| self.arg(place)).collect()
    }

    /// Whether anyone may use this output.
    pub(crate) fn gives(&self, place: usize) -> bool {
        self.proto.output.get(place).is_some_and(|name| !name.is_empty())
    }

    pub(crate) fn shape(&self, place: usize) -> Result<Shape> {
        Ok(self.b.shape(self.arg(place)?))
    }

    pub(crate) fn dtype(&self, place: usize) -> Result<DType> {
        Ok(self.b.dtype(self.arg(place)?))
    }

    /// The elements of an operand as sizes.
    pub(crate) fn dims(&self, place: usize, what: &str) -> Result<Vec<Dim>> {
        self.b.dims(self.arg(place)?, what)
    }

    /// The elements of an operand as quotients of sizes.
    pub(crate) fn quotients(&self, place: usize, what: &str) -> Result<Vec<Quotient>> {
        self.b.quotients(self.arg(place)?, what)
    }

    /// The elements of an operand as integers.
    pub(crate) fn integers(&self, place: usize, what: &str) -> Result<Vec<i64>> {
        let array = self.b.array(self.arg(place)?, what)?;
        Ok((0..array.numel()).map(|place| array.get(place).as_i64()).collect())
    }

    /// The elements of an operand as floats.
    pub(crate) fn floats_of(&self, place: usize, what: &str) -> Result<Vec<f64>> {
        Ok(self.b.array(self.arg(place)?, what)?.to_f64())
    }

    // ---- attributes

    /// An attribute of this type; [`Node::well_typed`] tells of one of another. Files of the first version have no types.
    fn attribute(&self, name: &str, kind: Kind) -> Option<&AttributeProto> {
        let attribute = self.proto.attribute.iter().find(|attribute| attribute.name == name)?;
        let (found, wanted) = (attribute.r#type, kind as i32);
        if found == 0 || found == wanted {
            return Some(attribute);
        }
        let spelled =
            |number: i32| usize::try_from(number).ok().and_then(|number| KINDS.get(number)).copied().unwrap_or("unknown");
        let what = format!("the attribute `{name}` is {}, and must be {}", spelled(found), spelled(wanted));
        self.mistyped.borrow_mut().get_or_insert_with(|| Diag::new(what));
        None
    }

    /// An error if an attribute was asked for that is of another type.
    pub(crate) fn well_typed(&self) -> Result<()> {
        self.mistyped.borrow().clone().map_or(Ok(()), |diag| Err(Problem::Wrong(diag)))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.proto.attribute.iter().any(|attribute| attribute.name == name)
    }

    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name, Kind::Int).map_or(default, |attribute| attribute.i)
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.int(name, i64::from(default)) != 0
    }

    pub(crate) fn float(&self, name: &str, default: f32) -> f64 {
        f64::from(self.attribute(name, Kind::Float).map_or(default, |attribute| attribute.f))
    }

    pub(crate) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        self.attribute(name, Kind::Ints).map(|attribute| attribute.ints.clone())
    }

    pub(crate) fn floats(&self, name: &str) -> Option<Vec<f32>> {
        self.attribute(name, Kind::Floats).map(|attribute| attribute.floats.clone())
    }

    pub(crate) fn text(&self, name: &str, default: &str) -> String {
        self.attribute(name, Kind::Text)
            .map_or_else(|| default.to_owned(), |attribute| String::from_utf8_lossy(&attribute.s).into_owned())
    }

    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
        self.attribute(name, Kind::Texts).map(|attribute| attribute.strings.iter().map(text).collect())
    }

    /// A tensor attribute whose elements may be codes.
    pub(crate) fn coded(&self, name: &str) -> Result<Option<(Array, Option<Format>)>> {
        let tensor = self.attribute(name, Kind::Tensor).and_then(|attribute| attribute.t.as_ref());
        tensor.map(|tensor| tensor::coded(tensor, self.external)).transpose()
    }

    /// A sparse tensor attribute.
    pub(crate) fn sparse(&self, name: &str) -> Option<SparseTensorProto> {
        self.attribute(name, Kind::Sparse).and_then(|attribute| attribute.sparse_tensor.clone())
    }

    /// An element type attribute, which may be one that is only stored; 0 is none.
    pub(crate) fn element(&self, name: &str) -> Result<Option<Element>> {
        let number = self.attribute(name, Kind::Int).map(|attribute| attribute.i).filter(|number| *number != 0);
        number.map(Element::of).transpose()
    }

    /// An element type attribute; 0 is none.
    pub(crate) fn type_of(&self, name: &str) -> Result<Option<DType>> {
        let number = self.attribute(name, Kind::Int).map(|attribute| attribute.i).filter(|number| *number != 0);
        number.map(tensor::dtype).transpose()
    }

    // ---- axes

    /// An axis that may count from the end.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let count = i64::try_from(rank).unwrap_or(i64::MAX);
        let from_start = if axis < 0 { axis.saturating_add(count) } else { axis };
        match usize::try_from(from_start) {
            Ok(place) if place < rank => Ok(place),
            Ok(_) | Err(_) => wrong(format!("axis {axis} of a tensor of rank {rank}")),
        }
    }

    /// Axes that may count from the end, none twice.
    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let mut found = Vec::new();
        for axis in axes {
            let place = self.axis(*axis, rank)?;
            if found.contains(&place) {
                return wrong(format!("axis {axis} is named twice"));
            }
            found.push(place);
        }
        Ok(found)
    }

    /// The axes from an attribute or, in later versions, from an operand; `None` if neither is there.
    pub(crate) fn axes_of(&self, place: usize, rank: usize) -> Result<Option<Vec<usize>>> {
        let axes = match self.ints("axes") {
            Some(axes) => Some(axes),
            None if self.opt(place).is_some() => Some(self.integers(place, "the axes")?),
            None => None,
        };
        axes.map(|axes| self.axes(&axes, rank)).transpose()
    }
}
