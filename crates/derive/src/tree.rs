//! `#[derive(Tree)]`: a struct generic over what its leaves are.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Data, DeriveInput, Error, GenericParam, Index, Result};

/// What the impls are made of.
struct Parts<'a> {
    home: &'a TokenStream,
    name: &'a syn::Ident,
    members: Vec<TokenStream>,
}

pub(crate) fn derive(input: &DeriveInput, home: &TokenStream) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "`Tree` is derived for structs"));
    };
    let params: Vec<&GenericParam> = input.generics.params.iter().collect();
    let [GenericParam::Type(_)] = params.as_slice() else {
        let message =
            "`Tree` is derived for a struct with one type parameter, what its leaves are: `struct Batch<T = Tensor> { x: T }`";
        return Err(Error::new(input.ident.span(), message));
    };
    let member = |(place, field): (usize, &syn::Field)| {
        field.ident.as_ref().map_or_else(|| Index::from(place).to_token_stream(), ToTokens::to_token_stream)
    };
    let members = data.fields.iter().enumerate().map(member).collect();
    let parts = Parts { home, name: &input.ident, members };
    let (tree, spec) = (tree_impl(&parts), spec_impl(&parts));
    Ok(quote!(#tree #spec))
}

fn tree_impl(parts: &Parts<'_>) -> TokenStream {
    let Parts { home, name, members, .. } = parts;
    let places = 0..members.len();
    quote! {
        impl #home::Tree for #name<#home::Tensor> {
            type Arrays = #name<#home::Array>;

            fn flatten(&self, out: &mut ::std::vec::Vec<#home::Tensor>) {
                #(#home::Tree::flatten(&self.#members, out);)*
            }

            fn layout(&self) -> #home::Layout {
                #home::Layout::Node(::std::vec![#(#home::Tree::layout(&self.#members)),*])
            }

            fn with_tensors(&self, tensors: &mut #home::Tensors<'_>) -> Self {
                Self { #(#members: #home::Tree::with_tensors(&self.#members, tensors)),* }
            }

            fn arrays(layout: &#home::Layout, arrays: &mut #home::Arrays<'_>) -> Self::Arrays {
                #name { #(#members: #home::field_arrays(|this: &Self| &this.#members, &layout.parts()[#places], arrays)),* }
            }
        }
    }
}

fn spec_impl(parts: &Parts<'_>) -> TokenStream {
    let Parts { home, name, members, .. } = parts;
    let labels: Vec<String> = members.iter().map(ToString::to_string).collect();
    quote! {
        impl #home::Spec for #name<#home::TensorSpec> {
            type Traced = #name<#home::Tensor>;
            type Args<'a> = #name<&'a #home::Array>;

            fn leaves<'s>(&'s self, path: &str, out: &mut ::std::vec::Vec<(::std::string::String, &'s #home::TensorSpec)>) {
                #(#home::Spec::leaves(&self.#members, &#home::join_path(path, #labels), out);)*
            }

            fn traced(&self, tensors: &mut #home::Tensors<'_>) -> Self::Traced {
                #name { #(#members: #home::Spec::traced(&self.#members, tensors)),* }
            }

            fn arrays<'a>(
                &self,
                args: Self::Args<'a>,
                out: &mut ::std::vec::Vec<&'a #home::Array>,
            ) -> ::std::result::Result<(), #home::Diag> {
                #(#home::Spec::arrays(&self.#members, args.#members, out)?;)*
                ::std::result::Result::Ok(())
            }
        }
    }
}
