//! From a struct with its attributes to the implementation of `Event`.

use crate::attributes::EventAttributes;
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{
    Data, DeriveInput, Error, Field, Fields, FieldsNamed, GenericArgument, LitStr, PathArguments,
    Result, Type,
};

/// Writes the implementation, or says what is wrong where it is wrong.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let fields = named_fields(input)?;
    let attributes = EventAttributes::read(input)?;
    let name = &input.ident;
    let home = &attributes.home;
    let event_type = &attributes.event_type;
    let version = attributes.version.iter();
    let source = attributes.source.iter();
    let key = match &attributes.key {
        Some(key) => Some(key_function(name, fields, key)?),
        None => None,
    };
    Ok(quote! {
        #[automatically_derived]
        impl #home::Event for #name {
            const TYPE: &'static str = #event_type;
            #(const VERSION: u32 = #version;)*
            #(const SOURCE: ::core::option::Option<&'static str> = ::core::option::Option::Some(#source);)*
            #key
        }
    })
}

fn named_fields(input: &DeriveInput) -> Result<&FieldsNamed> {
    let name = &input.ident;
    let error = |found: &str| {
        let message = format!(
            "an event is a struct with named fields, so that its payload is a JSON object that can grow; `{name}` is {found}"
        );
        Err(Error::new(name.span(), message))
    };
    match &input.data {
        Data::Enum(_) => return error("an enum, give each fact a struct of its own"),
        Data::Union(_) => return error("a union, write a struct"),
        Data::Struct(_) if !input.generics.params.is_empty() => {
            let message =
                format!("an event type names one concrete type; write `{name}` without parameters");
            return Err(Error::new(input.generics.span(), message));
        }
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => return Ok(fields),
            Fields::Unnamed(_) => {}
            Fields::Unit => return error("a unit struct, write `{}` behind its name"),
        },
    }
    error("a tuple struct, give its fields names")
}

fn key_function(name: &syn::Ident, fields: &FieldsNamed, key: &LitStr) -> Result<TokenStream> {
    let text = key.value();
    let find = |field: &&Field| field.ident.as_ref().is_some_and(|ident| *ident == text);
    let Some(field) = fields.named.iter().find(find) else {
        return Err(Error::new(key.span(), no_such_field(name, fields, &text)));
    };
    let ident = &field.ident;
    let body = match inside_option(&field.ty) {
        Some(inner) => {
            let one = key_of(inner, &quote!(value));
            quote!(self.#ident.as_ref().map(|value| #one))
        }
        None => {
            let one = key_of(&field.ty, &quote!((&self.#ident)));
            quote!(::core::option::Option::Some(#one))
        }
    };
    Ok(quote! {
        fn key(&self) -> ::core::option::Option<::std::borrow::Cow<'_, str>> {
            #body
        }
    })
}

/// The key of a value behind a reference: borrowed from a `String`, printed from anything else.
fn key_of(ty: &Type, reference: &TokenStream) -> TokenStream {
    if last_segment(ty).is_some_and(|segment| segment.ident == "String") {
        return quote!(::std::borrow::Cow::Borrowed(#reference.as_str()));
    }
    // The span makes a type without Display the place of the error.
    quote_spanned!(ty.span()=> ::std::borrow::Cow::Owned(<#ty as ::std::string::ToString>::to_string(#reference)))
}

fn inside_option(ty: &Type) -> Option<&Type> {
    let segment = last_segment(ty)?;
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    match arguments.args.first() {
        Some(GenericArgument::Type(inner)) if segment.ident == "Option" => Some(inner),
        _ => None,
    }
}

fn last_segment(ty: &Type) -> Option<&syn::PathSegment> {
    match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    }
}

fn no_such_field(name: &syn::Ident, fields: &FieldsNamed, key: &str) -> String {
    let names: Vec<String> = fields
        .named
        .iter()
        .filter_map(|field| field.ident.as_ref())
        .map(|ident| format!("`{ident}`"))
        .collect();
    if names.is_empty() {
        return format!("`{name}` has no fields, so none can be the key; leave `key` out");
    }
    format!(
        "`{name}` has no field `{key}` that could be its key; its fields are {}",
        names.join(", ")
    )
}
