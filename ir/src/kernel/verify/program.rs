//! Checks what belongs to no kernel and no entry: K22 to K24.

use std::collections::{BTreeSet, HashSet};

use crate::dim::Dim;
use crate::error::Diag;
use crate::kernel::Program;
use crate::verify::Findings;

pub(super) fn check(program: &Program, found: &mut Findings) {
    let mut kernels = HashSet::new();
    for (id, kernel) in program.kernels.iter().enumerate() {
        found.require(kernels.insert(kernel), || Diag::new(format!("K22: kernel k{id} `{}` is there twice", kernel.name)));
    }
    let mut names = BTreeSet::new();
    for entry in &program.entries {
        found.require(names.insert(&entry.name), || Diag::new(format!("K22: two entries are called `{}`", entry.name)));
    }
    found.require(program.symbols.is_sorted_by(|x, y| x.name() < y.name()), || {
        Diag::new(format!("K23: symbols are not sorted by name, each once: {:?}", program.symbols))
    });
    let mut paths = BTreeSet::new();
    for decl in &program.state {
        found.require(paths.insert(&decl.path), || Diag::new(format!("K24: two slots of state have the path `{}`", decl.path)));
        found.require(decl.ty.shape.is_valid() && decl.ty.shape.as_const().is_some(), || {
            Diag::new(format!("K24: state `{}` has the type {}, whose sizes are not numbers", decl.path, decl.ty))
        });
    }
}

/// What is wrong with a size or an index by K9 and K23, if anything: `allowed` says which axes may occur, and their sizes.
pub(super) fn wrong_dim(program: &Program, dim: &Dim, allowed: &dyn Fn(usize) -> Option<Dim>) -> Option<String> {
    if dim.as_const().is_some() {
        return None;
    }
    if !dim.is_small() {
        return Some("K9: an expression of too many terms".to_owned());
    }
    let declared = |name: &str| {
        let place = program.symbols.binary_search_by(|symbol| symbol.name().cmp(name));
        place.ok().map(|place| &program.symbols[place])
    };
    if let Some(symbol) = dim.symbols().iter().find(|symbol| declared(symbol.name()) != Some(symbol)) {
        return Some(format!("K23: the symbol `{symbol}` of {dim} is not declared so by the program"));
    }
    let axis = dim.axes().into_iter().find(|axis| allowed(axis.id as usize).is_none_or(|size| size != axis.size));
    axis.map(|axis| format!("K9: axis a{} of size {} in {dim} is not visited here with this size", axis.id, axis.size))
}

/// No axis.
pub(super) fn no_axes(_: usize) -> Option<Dim> {
    None
}
