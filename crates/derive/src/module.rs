//! `#[derive(Module)]`: one call a field.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Index, LitStr, Result, parse_quote};

/// What `#[module(..)]` says of a field.
struct Options {
    skip: bool,
    name: Option<String>,
}

fn options(field: &Field) -> Result<Options> {
    let mut options = Options { skip: false, name: None };
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("module")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                options.skip = true;
                Ok(())
            } else if meta.path.is_ident("name") {
                options.name = Some(meta.value()?.parse::<LitStr>()?.value());
                Ok(())
            } else {
                Err(meta.error("unknown attribute: `skip` and `name = \"..\"` are known"))
            }
        })?;
    }
    Ok(options)
}

/// Whether an identifier occurs in the tokens.
pub(crate) fn mentions(tokens: TokenStream, name: &syn::Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

pub(crate) fn derive(input: &DeriveInput, home: &TokenStream) -> Result<TokenStream> {
    if let Some(attribute) = input.attrs.iter().find(|attribute| attribute.path().is_ident("module")) {
        return Err(Error::new(attribute.span(), "`#[module(..)]` belongs before a field"));
    }
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "`Module` is derived for structs"));
    };
    let mut walks = Vec::new();
    let mut walked = Vec::new();
    for (place, field) in data.fields.iter().enumerate() {
        let options = options(field)?;
        if options.skip {
            continue;
        }
        let member = field.ident.as_ref().map_or_else(|| Index::from(place).to_token_stream(), ToTokens::to_token_stream);
        let name = options.name.unwrap_or_else(|| field.ident.as_ref().map_or(place.to_string(), plain));
        // Spanned at the field's type, so that an error is shown there.
        walks.push(quote_spanned!(field.ty.span() => walk.field(#name, &self.#member);));
        walked.push(&field.ty);
    }
    let mut generics = input.generics.clone();
    for param in generics.type_params_mut() {
        if walked.iter().any(|ty| mentions(ty.to_token_stream(), &param.ident)) {
            param.bounds.push(parse_quote!(#home::Module));
        } else {
            param.bounds.push(parse_quote!('static));
        }
    }
    let name = &input.ident;
    let (heads, tails, wheres) = generics.split_for_impl();
    Ok(quote! {
        impl #heads #home::Module for #name #tails #wheres {
            fn visit(&self, walk: &mut #home::Walk<'_>) {
                let _ = &walk;
                #(#walks)*
            }
        }
    })
}

/// `r#type` as `type`.
fn plain(ident: &syn::Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or(text.clone(), ToOwned::to_owned)
}
