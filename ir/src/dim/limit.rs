//! How large an expression may be. What comes from outside is measured by it before anything is computed: arithmetic on
//! sizes costs time in proportion to their trees, and recursion goes as deep as they do.

use super::{Atom, Dim, Repr};

/// The most atoms and terms that a size may consist of.
pub const MAX_NODES: usize = 512;

/// The deepest nesting of `floordiv`, `mod`, `min` and `max`.
pub const MAX_DEPTH: usize = 32;

impl Dim {
    /// Whether the expression has at most [`MAX_NODES`] parts and nests at most [`MAX_DEPTH`] deep.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.as_const().is_some() || self.spend(MAX_DEPTH, &mut MAX_NODES.clone())
    }

    fn spend(&self, depth: usize, budget: &mut usize) -> bool {
        let Repr::Poly(terms) = &self.0 else { return true };
        depth > 0
            && terms.iter().all(|term| match budget.checked_sub(term.atoms.len() + 1) {
                None => false,
                Some(rest) => {
                    *budget = rest;
                    term.atoms.iter().all(|atom| atom.spend(depth - 1, budget))
                }
            })
    }
}

impl Atom {
    fn spend(&self, depth: usize, budget: &mut usize) -> bool {
        match self {
            Self::Sym(_) => true,
            Self::Axis(axis) => axis.size.spend(depth, budget),
            Self::FloorDiv(x, y) | Self::Mod(x, y) | Self::Min(x, y) | Self::Max(x, y) => {
                x.spend(depth, budget) && y.spend(depth, budget)
            }
        }
    }
}
