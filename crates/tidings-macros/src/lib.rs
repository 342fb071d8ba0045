//! `#[derive(Event)]`: states the type, version, key and source of an event beside its struct, and checks the naming rules at compile time.
//!
//! Use it through `tidings`; a package that depends on `tidings-core` alone adds `crate = "tidings_core"`.

mod attributes;
mod derive;
#[expect(
    unreachable_pub,
    reason = "the file is the same, word for word, as in tidings-core, where the function is public"
)]
mod naming;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Implements `tidings::Event` for a struct with named fields.
///
/// The attribute `#[event(…)]` takes, each once:
///
/// | name | value | |
/// |---|---|---|
/// | `type` | `"order.placed"` | required: what happened, lower case, past tense |
/// | `version` | `2` | version of the payload's schema; 1 where absent |
/// | `key` | `"order_id"` | the field that says what the fact is about; events of one key keep their order. Any type that implements `Display`, or an `Option` of one: `None` means unordered. Without `key` the event is unordered |
/// | `source` | `"order-service"` | the service that states the fact; where absent it is the one given when tidings is opened |
/// | `crate` | `"tidings_core"` | where the trait is found, in a package that does not depend on `tidings` |
///
/// **Errors**: a type that is no lower-case past-tense name, a key that is no field, an unknown or repeated name are compile errors at the place.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tidings_macros::Event;
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(type = "order.placed", version = 2, key = "order_id", source = "order-service")]
/// # #[event(crate = "tidings_core")]
/// struct OrderPlaced {
///     order_id: String,
///     total_cents: u64,
/// }
/// ```
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    derive::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
