//! Any nesting of tensors: what a traced function gives, and what a call gives back.

use graver_ir::Array;

use crate::tensor::Tensor;

/// The nesting of a [`Tree`] without its tensors: what outlives the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A tensor.
    Leaf,
    /// So many trees.
    Node(Vec<Layout>),
    /// Tensors by path.
    Named(Vec<String>),
}

/// Arrays in the order of a tree's tensors.
pub type Arrays<'a> = dyn Iterator<Item = Array> + 'a;

/// Tensors in the order of a tree's.
pub type Tensors<'a> = dyn Iterator<Item = Tensor> + 'a;

/// A nesting of tensors: tuples to 8, arrays, `Vec`, `Option`, and structs that derive it.
///
/// ```
/// use graver_trace::{Array, Tensor, Tree};
///
/// #[derive(Tree)]
/// struct Output<T = Tensor> {
///     logits: T,
///     hidden: Vec<T>,
/// }
/// # fn arrays(output: Output<Array>) -> Array { output.logits }
/// ```
/// A struct without the parameter could not hold arrays too:
/// ```compile_fail
/// #[derive(graver_trace::Tree)]
/// struct Output {
///     logits: graver_trace::Tensor,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no nesting of tensors",
    note = "a traced function gives tensors, tuples, arrays, vectors or options of them, or a struct that derives `Tree`"
)]
pub trait Tree: Sized {
    /// The same nesting of arrays.
    type Arrays;

    /// Appends the tensors in order.
    fn flatten(&self, out: &mut Vec<Tensor>);

    /// The nesting.
    fn layout(&self) -> Layout;

    /// The same nesting of other tensors.
    ///
    /// # Panics
    /// If there are fewer than in `self`.
    fn with_tensors(&self, tensors: &mut Tensors<'_>) -> Self;

    /// The nesting of arrays.
    ///
    /// # Panics
    /// If the layout is of another type, or there are too few arrays.
    fn arrays(layout: &Layout, arrays: &mut Arrays<'_>) -> Self::Arrays;
}

impl Layout {
    /// The parts.
    ///
    /// # Panics
    /// If it is no list of trees.
    #[must_use]
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::Leaf | Self::Named(_) => panic!("a layout is read as the type that made it"),
            Self::Node(parts) => parts,
        }
    }
}

/// A field's arrays, the field's type told by a projection: what derived code calls.
#[doc(hidden)]
pub fn field_arrays<S, T: Tree>(_: fn(&S) -> &T, layout: &Layout, arrays: &mut Arrays<'_>) -> T::Arrays {
    T::arrays(layout, arrays)
}

/// The tensors of a tree in order.
pub(crate) fn tensors_of<T: Tree>(tree: &T) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    tree.flatten(&mut tensors);
    tensors
}

impl Tree for Tensor {
    type Arrays = Array;

    fn flatten(&self, out: &mut Vec<Tensor>) {
        out.push(*self);
    }

    fn layout(&self) -> Layout {
        Layout::Leaf
    }

    fn with_tensors(&self, tensors: &mut Tensors<'_>) -> Self {
        tensors.next().expect("a tree is rebuilt from as many tensors as it has")
    }

    fn arrays(_: &Layout, arrays: &mut Arrays<'_>) -> Array {
        arrays.next().expect("a program gives an array for each tensor of its result")
    }
}

impl<T: Tree> Tree for Vec<T> {
    type Arrays = Vec<T::Arrays>;

    fn flatten(&self, out: &mut Vec<Tensor>) {
        self.iter().for_each(|part| part.flatten(out));
    }

    fn layout(&self) -> Layout {
        Layout::Node(self.iter().map(Tree::layout).collect())
    }

    fn with_tensors(&self, tensors: &mut Tensors<'_>) -> Self {
        self.iter().map(|part| part.with_tensors(tensors)).collect()
    }

    fn arrays(layout: &Layout, arrays: &mut Arrays<'_>) -> Self::Arrays {
        layout.parts().iter().map(|part| T::arrays(part, arrays)).collect()
    }
}

impl<T: Tree, const N: usize> Tree for [T; N] {
    type Arrays = [T::Arrays; N];

    fn flatten(&self, out: &mut Vec<Tensor>) {
        self.iter().for_each(|part| part.flatten(out));
    }

    fn layout(&self) -> Layout {
        Layout::Node(self.iter().map(Tree::layout).collect())
    }

    fn with_tensors(&self, tensors: &mut Tensors<'_>) -> Self {
        std::array::from_fn(|place| self[place].with_tensors(tensors))
    }

    fn arrays(layout: &Layout, arrays: &mut Arrays<'_>) -> Self::Arrays {
        std::array::from_fn(|place| T::arrays(&layout.parts()[place], arrays))
    }
}

impl<T: Tree> Tree for Option<T> {
    type Arrays = Option<T::Arrays>;

    fn flatten(&self, out: &mut Vec<Tensor>) {
        self.iter().for_each(|part| part.flatten(out));
    }

    fn layout(&self) -> Layout {
        Layout::Node(self.iter().map(Tree::layout).collect())
    }

    fn with_tensors(&self, tensors: &mut Tensors<'_>) -> Self {
        self.as_ref().map(|part| part.with_tensors(tensors))
    }

    fn arrays(layout: &Layout, arrays: &mut Arrays<'_>) -> Self::Arrays {
        layout.parts().first().map(|part| T::arrays(part, arrays))
    }
}

macro_rules! tuple_trees {
    ($($name:ident $place:tt)*) => {
        impl<$($name: Tree),*> Tree for ($($name,)*) {
            type Arrays = ($($name::Arrays,)*);

            fn flatten(&self, _out: &mut Vec<Tensor>) {
                $(self.$place.flatten(_out);)*
            }

            fn layout(&self) -> Layout {
                Layout::Node(vec![$(self.$place.layout()),*])
            }

            #[allow(clippy::unused_unit, reason = "the empty tuple is one of them")]
            fn with_tensors(&self, _tensors: &mut Tensors<'_>) -> Self {
                ($(self.$place.with_tensors(_tensors),)*)
            }

            #[allow(clippy::unused_unit, reason = "the empty tuple is one of them")]
            fn arrays(_layout: &Layout, _arrays: &mut Arrays<'_>) -> Self::Arrays {
                ($($name::arrays(&_layout.parts()[$place], _arrays),)*)
            }
        }
    };
}

tuple_trees!();
tuple_trees!(A 0);
tuple_trees!(A 0 B 1);
tuple_trees!(A 0 B 1 C 2);
tuple_trees!(A 0 B 1 C 2 D 3);
tuple_trees!(A 0 B 1 C 2 D 3 E 4);
tuple_trees!(A 0 B 1 C 2 D 3 E 4 F 5);
tuple_trees!(A 0 B 1 C 2 D 3 E 4 F 5 G 6);
tuple_trees!(A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7);
