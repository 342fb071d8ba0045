//! What `#[event(…)]` says, read and checked by itself; the struct is looked at elsewhere.

use crate::naming;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned as _;
use syn::{DeriveInput, Error, LitInt, LitStr, Path, Result, parse_quote};

const KNOWN: &str = "type, version, key, source and crate";
/// What the names of tidings' own facts begin with.
const RESERVED: &str = "tidings.";

/// What `#[event(…)]` says.
pub(crate) struct EventAttributes {
    pub(crate) event_type: LitStr,
    pub(crate) version: Option<LitInt>,
    pub(crate) key: Option<LitStr>,
    pub(crate) source: Option<LitStr>,
    /// The path of the crate that holds the trait.
    pub(crate) home: Path,
}

#[derive(Default)]
struct Given {
    event_type: Option<LitStr>,
    version: Option<LitInt>,
    key: Option<LitStr>,
    source: Option<LitStr>,
    home: Option<LitStr>,
}

impl EventAttributes {
    /// Reads every `#[event(…)]` of a type.
    pub(crate) fn read(input: &DeriveInput) -> Result<Self> {
        let mut given = Given::default();
        let mut place = None;
        for attribute in &input.attrs {
            if attribute.path().is_ident("event") {
                place = Some(attribute.span());
                attribute.parse_nested_meta(|meta| read_one(&mut given, &meta))?;
            }
        }
        let Some(event_type) = given.event_type else {
            let message = format!(
                "the event type is missing; add #[event(type = \"order.placed\")] to `{}`",
                input.ident
            );
            return Err(Error::new(
                place.unwrap_or_else(|| input.ident.span()),
                message,
            ));
        };
        check_type(&event_type)?;
        check_version(given.version.as_ref())?;
        check_source(given.source.as_ref())?;
        let home = match given.home {
            Some(text) => text.parse()?,
            None => parse_quote!(::tidings),
        };
        Ok(Self {
            event_type,
            version: given.version,
            key: given.key,
            source: given.source,
            home,
        })
    }
}

fn read_one(given: &mut Given, meta: &ParseNestedMeta<'_>) -> Result<()> {
    let name = meta
        .path
        .get_ident()
        .map(ToString::to_string)
        .unwrap_or_default();
    match name.as_str() {
        "type" => read_once(&mut given.event_type, meta),
        "version" => read_once(&mut given.version, meta),
        "key" => read_once(&mut given.key, meta),
        "source" => read_once(&mut given.source, meta),
        "crate" => read_once(&mut given.home, meta),
        _ => Err(meta.error(format!("#[event] does not know `{name}`; it knows {KNOWN}"))),
    }
}

fn read_once<T: syn::parse::Parse>(slot: &mut Option<T>, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if slot.is_some() {
        let name = meta
            .path
            .get_ident()
            .map(ToString::to_string)
            .unwrap_or_default();
        return Err(meta.error(format!("`{name}` is given twice; keep one")));
    }
    *slot = Some(meta.value()?.parse()?);
    Ok(())
}

fn check_type(event_type: &LitStr) -> Result<()> {
    let text = event_type.value();
    if let Some((name, suffix)) = text.rsplit_once('.')
        && let Some(digits) = suffix.strip_prefix('v')
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        let message = format!(
            "the version is not part of the type; write type = \"{name}\", version = {digits}"
        );
        return Err(Error::new(event_type.span(), message));
    }
    if let Some(rule) = naming::broken_rule(&text) {
        let message = format!("the event type {text:?} {rule}");
        return Err(Error::new(event_type.span(), message));
    }
    if text.starts_with(RESERVED) {
        let message = format!(
            "the event type {text:?} begins with {RESERVED:?}, which is kept for facts of tidings itself; choose another first segment"
        );
        return Err(Error::new(event_type.span(), message));
    }
    Ok(())
}

fn check_version(version: Option<&LitInt>) -> Result<()> {
    let Some(version) = version else {
        return Ok(());
    };
    match version.base10_parse::<u32>() {
        Ok(0) => Err(Error::new(
            version.span(),
            "versions begin with 1; write version = 1 or leave it out",
        )),
        Ok(_) => Ok(()),
        Err(_) => Err(Error::new(
            version.span(),
            "a version is a whole number from 1 to 4294967295",
        )),
    }
}

fn check_source(source: Option<&LitStr>) -> Result<()> {
    match source {
        Some(source) if source.value().trim().is_empty() => Err(Error::new(
            source.span(),
            "the source is empty; name the service that states the fact, or leave it out",
        )),
        _ => Ok(()),
    }
}
