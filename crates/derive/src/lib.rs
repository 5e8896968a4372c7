//! `#[derive(Module)]` and `#[derive(Tree)]`.
//!
//! The derives of this crate name `graver_trace`; those called `Facade..` name `graver::trace`, and the facade exports them.
//! A mistake in an attribute is an error at the attribute, never ignored.

mod module;
mod tree;

use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, parse_macro_input};

type Derive = fn(&DeriveInput, &proc_macro2::TokenStream) -> syn::Result<proc_macro2::TokenStream>;

fn expand(input: TokenStream, home: &proc_macro2::TokenStream, derive: Derive) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive(&input, home).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Writes a struct's walk over its fields. `#[module(skip)]` leaves a field out, `#[module(name = "..")]` gives it another name in paths.
#[proc_macro_derive(Module, attributes(module))]
pub fn module(input: TokenStream) -> TokenStream {
    expand(input, &quote!(::graver_trace), module::derive)
}

/// [`macro@Module`] for crates that depend on the facade.
#[proc_macro_derive(FacadeModule, attributes(module))]
pub fn facade_module(input: TokenStream) -> TokenStream {
    expand(input, &quote!(::graver::trace), module::derive)
}

/// Makes a struct with one type parameter, `struct Batch<T = Tensor>`, a nesting of tensors: `Spec` for specs, `Tree` for tensors.
#[proc_macro_derive(Tree)]
pub fn tree(input: TokenStream) -> TokenStream {
    expand(input, &quote!(::graver_trace), tree::derive)
}

/// [`macro@Tree`] for crates that depend on the facade.
#[proc_macro_derive(FacadeTree)]
pub fn facade_tree(input: TokenStream) -> TokenStream {
    expand(input, &quote!(::graver::trace), tree::derive)
}
