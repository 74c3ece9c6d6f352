//! `#[json]`: serde's derives, told where serde is, so that an author needs no dependency on it.
//!
//! Owns the choice of the derives; serde does the rest.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Error, Ident, Item, Result, Token};

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match derives(arguments, item.clone()) {
        Ok(tokens) => tokens,
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#error #item)
        }
    }
}

fn derives(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut chosen: Vec<Ident> =
        Punctuated::<Ident, Token![,]>::parse_terminated.parse2(arguments)?.into_iter().collect();
    if let Some(other) = chosen.iter().find(|name| *name != "Serialize" && *name != "Deserialize") {
        return Err(Error::new(other.span(), "`json` takes `Serialize`, `Deserialize`, or nothing for both"));
    }
    if chosen.is_empty() {
        chosen = ["Serialize", "Deserialize"].map(|name| Ident::new(name, proc_macro2::Span::call_site())).into();
    }
    match syn::parse2(item.clone())? {
        Item::Struct(_) | Item::Enum(_) => {}
        other => return Err(Error::new_spanned(other, "`json` stands before a struct or an enum")),
    }
    Ok(quote! {
        #[derive(#(::rusm_rs::serde::#chosen),*)]
        #[serde(crate = "::rusm_rs::serde")]
        #item
    })
}
