//! `#[handlers]`: a module of functions becomes a component.
//!
//! Owns the rules for what is an action, the words for what is not one, and the code that calls each by its name. It leaves
//! the author's items as they are.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, Ident, Item, ItemFn, ItemMod, PatType, Result, ReturnType, Safety, Type, Visibility,
};

const SIGNATURES: &str = "`fn()`, `fn(Request)`, `fn(Params)` or `fn(Request, Params)`";

/// The name of a macro that each `#[handlers]` exports, so that a second one in the crate is an error that says why.
const ONLY_ONE: &str = "a_component_has_only_one_handlers_module";

/// The component, or the author's module with the errors beside it, so that rustc complains of nothing that follows from them.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match component(arguments, item.clone()) {
        Ok(tokens) => tokens,
        Err(error) => {
            let error = error.into_compile_error();
            quote!(#error #item)
        }
    }
}

fn component(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !arguments.is_empty() {
        return Err(Error::new_spanned(arguments, "`handlers` takes no arguments: routes stand in the manifest"));
    }
    let mut module = match syn::parse2::<Item>(item)? {
        Item::Mod(module) => module,
        Item::Fn(function) => {
            return Err(Error::new_spanned(
                &function.sig,
                "`handlers` stands before a module: put the function into `pub mod api { … }`",
            ));
        }
        other => return Err(Error::new_spanned(other, "`handlers` stands before a module")),
    };
    let actions = actions(&module)?;
    let glue = glue(&actions);
    if let Some((_, items)) = &mut module.content {
        items.push(Item::Verbatim(glue));
    }
    let only_one = Ident::new(ONLY_ONE, module.ident.span());
    Ok(quote! {
        #module

        #[doc(hidden)]
        #[macro_export]
        macro_rules! #only_one { () => {}; }
    })
}

/// The code in the module that calls an action by its name, and the component's exports.
fn glue(actions: &[Action<'_>]) -> TokenStream {
    let names = actions.iter().map(|Action { conditions, name, .. }| quote!(#(#conditions)* #name));
    let arms = actions.iter().map(|Action { conditions, name, function, call }| {
        // A frame of its own for each action, so that a backtrace names it although the optimiser inlines the function.
        quote! {
            #(#conditions)*
            #name => {
                #[inline(never)]
                #[allow(unused_variables)]
                fn #function(arguments: ::rusm_rs::__private::Arguments) -> ::rusm_rs::http::Response {
                    #call
                }
                #function(arguments)
            }
        }
    });
    quote! {
        const _: () = {
            struct Component;

            #[allow(deprecated)]
            impl ::rusm_rs::__private::Handlers for Component {
                const ACTIONS: &'static [&'static str] = &[#(#names),*];

                fn run(name: &str, arguments: ::rusm_rs::__private::Arguments) -> ::rusm_rs::http::Response {
                    match name {
                        #(#arms)*
                        other => ::rusm_rs::__private::no_such_action(other),
                    }
                }
            }

            ::rusm_rs::__private::bindings::__export_handlers!(
                Component with_types_in ::rusm_rs::__private::bindings
            );
        };
    }
}

/// An action: its name behind `#` in a route, the `cfg`s that it depends on, and an expression that runs it.
struct Action<'a> {
    name: String,
    function: &'a Ident,
    conditions: Vec<&'a Attribute>,
    call: TokenStream,
}

/// The actions of a module, or every mistake in it.
fn actions(module: &ItemMod) -> Result<Vec<Action<'_>>> {
    let Some((_, items)) = &module.content else {
        return Err(Error::new_spanned(
            module,
            "`handlers` must see the functions: write the module here, `pub mod api { … }`, not in a file of its own",
        ));
    };
    let mut actions = Vec::new();
    let mut mistakes: Option<Error> = None;
    for function in items.iter().filter_map(function) {
        let outcome = match function.vis {
            Visibility::Public(_) => action(function).map(|action| actions.push(action)),
            Visibility::Restricted(_) => Ok(()),
            Visibility::Inherited => helper(function, items),
        };
        match (outcome, &mut mistakes) {
            (Ok(()), _) => {}
            (Err(mistake), Some(mistakes)) => mistakes.combine(mistake),
            (Err(mistake), None) => mistakes = Some(mistake),
        }
    }
    match mistakes {
        Some(mistakes) => Err(mistakes),
        None if actions.is_empty() => Err(Error::new(
            module.ident.span(),
            "this component has no action: write a `pub fn`, for example `pub fn index(_req: Request) -> Response`",
        )),
        None => Ok(actions),
    }
}

fn function(item: &Item) -> Option<&ItemFn> {
    match item {
        Item::Fn(function) => Some(function),
        _ => None,
    }
}

fn action(function: &ItemFn) -> Result<Action<'_>> {
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        let message = "an action is not `async`: its instance handles one request and nothing else; remove `async`";
        return Err(Error::new(token.span, message));
    }
    if let Safety::Unsafe(token) = &signature.safety {
        return Err(Error::new(token.span, "the server calls an action, so it is not `unsafe`: remove it"));
    }
    if let Some(abi) = &signature.abi {
        return Err(Error::new_spanned(abi, "an action is an ordinary function: remove this"));
    }
    if !signature.generics.params.is_empty() {
        let message = "an action is not generic: the server could not choose the parameters; remove them, or make the \
                       function private and call it from an action";
        return Err(Error::new_spanned(&signature.generics, message));
    }
    let inputs = signature.inputs.iter().map(parameter).collect::<Result<Vec<_>>>()?;
    // Errors about what is returned stand at the type that says so.
    let returned = match &signature.output {
        ReturnType::Type(_, returned) => Some(&**returned),
        ReturnType::Default => None,
    };
    let name = &signature.ident;
    let place = returned.map_or_else(|| name.span(), Spanned::span);
    let mut called = name.clone();
    called.set_span(name.span().located_at(place));
    let call = match inputs[..] {
        [] => quote_spanned!(place=> self::#called()),
        [only] => {
            let only = quote_spanned!(only.span()=> ::rusm_rs::__private::OnlyArgument::take(arguments));
            quote_spanned!(place=> self::#called(#only))
        }
        [first, second] => {
            let first = quote_spanned!(first.span()=> ::rusm_rs::__private::FirstOfTwo::take(arguments.request));
            let second = quote_spanned!(second.span()=> ::rusm_rs::__private::SecondOfTwo::take(arguments.params));
            quote_spanned!(place=> self::#called(#first, #second))
        }
        [_, _, third, ..] => {
            return Err(Error::new_spanned(third, format!("an action takes no more than two: it is {SIGNATURES}")));
        }
    };
    Ok(Action {
        name: name.unraw().to_string(),
        function: name,
        conditions: function.attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")).collect(),
        call: match returned {
            Some(Type::Never(_)) => call,
            _ => quote_spanned!(place=> ::rusm_rs::__private::respond(#call)),
        },
    })
}

/// The type of a parameter, unless it is of a kind that no action can have.
fn parameter(input: &FnArg) -> Result<&Type> {
    let ty = match input {
        FnArg::Receiver(receiver) => {
            return Err(Error::new_spanned(receiver, format!("an action has no `self`: it is {SIGNATURES}")));
        }
        FnArg::Typed(PatType { ty, .. }) => &**ty,
    };
    match ty {
        Type::Reference(reference) => {
            let owned = reference.elem.to_token_stream();
            Err(Error::new_spanned(ty, format!("an action owns what it is given: take `{owned}`, without `&`")))
        }
        Type::ImplTrait(_) => {
            Err(Error::new_spanned(ty, format!("an action takes no `impl Trait`: it is {SIGNATURES}")))
        }
        ty => Ok(ty),
    }
}

/// A private function is a helper. One that looks like an action and that nothing calls is an action whose `pub` is missing.
fn helper(function: &ItemFn, items: &[Item]) -> Result<()> {
    let name = &function.sig.ident;
    let excused = name.to_string().starts_with('_')
        || function
            .attrs
            .iter()
            .any(|attribute| ["allow", "expect", "cfg", "test"].iter().any(|excuse| attribute.path().is_ident(excuse)));
    let looks_like_action = !function.sig.inputs.is_empty() && function.sig.inputs.iter().all(is_request_or_params);
    let called = || {
        let mut others = items.iter().filter(|item| !self::function(item).is_some_and(|it| std::ptr::eq(it, function)));
        others.any(|item| mentions(item.to_token_stream(), name))
    };
    if excused || !looks_like_action || called() {
        return Ok(());
    }
    Err(Error::new(
        name.span(),
        format!(
            "`{name}` looks like an action but is private: write `pub fn {name}`, or remove it, since nothing calls it"
        ),
    ))
}

fn is_request_or_params(input: &FnArg) -> bool {
    let FnArg::Typed(PatType { ty, .. }) = input else { return false };
    let Type::Path(path) = &**ty else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "Request" || last.ident == "Params")
}

fn mentions(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == *name,
        TokenTree::Group(group) => mentions(group.stream(), name),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
