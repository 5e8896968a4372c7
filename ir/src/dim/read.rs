//! Sizes from outside: what deserializes must be what arithmetic would have built, or canonical forms would mean nothing.

use super::{Atom, Dim, Repr, Symbol, SymbolDecl};

impl TryFrom<SymbolDecl> for Symbol {
    type Error = String;

    fn try_from(decl: SymbolDecl) -> Result<Self, String> {
        let symbol = Self::ranged(decl.name.clone(), decl.lo, decl.hi, decl.multiple);
        if *symbol.decl() == decl { Ok(symbol) } else { Err(format!("the symbol {decl:?} has an impossible range")) }
    }
}

impl TryFrom<Repr> for Dim {
    type Error = String;

    fn try_from(repr: Repr) -> Result<Self, String> {
        let dim = Self(repr);
        let Repr::Poly(terms) = &dim.0 else { return Ok(dim) };
        if !dim.is_small() {
            return Err("a size of too many parts".to_owned());
        }
        let atoms = terms.iter().all(|term| term.atoms.is_sorted() && term.atoms.iter().all(is_canonical));
        let canonical = atoms && Self::from_terms(terms.iter().cloned()) == dim;
        if canonical { Ok(dim) } else { Err("a size that is not in canonical form".to_owned()) }
    }
}

/// Whether arithmetic on the parts, which are canonical, gives this atom.
fn is_canonical(atom: &Atom) -> bool {
    let built = match atom {
        Atom::Sym(_) => return true,
        Atom::Axis(axis) => return axis.size != Dim::ONE && axis.size.axes().is_empty(),
        Atom::FloorDiv(_, y) | Atom::Mod(_, y) if y.bounds().hi < 1 => return false,
        Atom::FloorDiv(x, y) => x.floor_div(y),
        Atom::Mod(x, y) => x.modulo(y),
        Atom::Min(x, y) => x.min_with(y),
        Atom::Max(x, y) => x.max_with(y),
    };
    built == Dim::atom(atom.clone())
}
