//! The URL of a database: which database it means, and how it is called without its credentials.

use crate::dialect::Kind;
use tidings_core::store::StoreError;

/// What a URL means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    /// The file of a SQLite database.
    pub(crate) path: String,
    /// The URL as the driver reads it; with credentials.
    pub(crate) url: String,
    /// The URL without credentials and options.
    pub(crate) name: String,
    /// The user, where the URL names one.
    pub(crate) user: String,
}

/// Reads a URL. The schemes are `sqlite`, `postgres`, `postgresql`, `mysql` and `mariadb`.
pub(crate) fn parse(given: &str) -> Result<Target, StoreError> {
    let Some((scheme, rest)) = given.split_once(':') else {
        return Err(invalid(
            "(no scheme)",
            "it has no scheme; write sqlite:///FILE, postgres://USER@HOST/NAME or mysql://USER@HOST/NAME",
        ));
    };
    match scheme {
        "sqlite" => sqlite(rest),
        "postgres" | "postgresql" => server(Kind::Postgres, "postgres", rest),
        "mysql" | "mariadb" => server(Kind::MySql, "mysql", rest),
        other => Err(invalid(
            &format!("{other}:…"),
            "its scheme is none of sqlite, postgres, mysql",
        )),
    }
}

fn sqlite(rest: &str) -> Result<Target, StoreError> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.split('?').next().unwrap_or(path);
    let path = percent_decoded(path);
    if path.is_empty() || path == ":memory:" {
        return Err(invalid(
            &format!("sqlite:{rest}"),
            "it names no file; write sqlite:///FILE with the file's full path, or sqlite:FILE",
        ));
    }
    let name = format!("sqlite:{path}");
    check_parameters(&name, parameters(rest), &SQLITE)?;
    Ok(Target {
        kind: Kind::Sqlite,
        name,
        url: String::new(),
        user: String::new(),
        path,
    })
}

fn server(kind: Kind, scheme: &str, rest: &str) -> Result<Target, StoreError> {
    let Some(rest) = rest.strip_prefix("//") else {
        return Err(invalid(
            &format!("{scheme}:…"),
            "two slashes must follow the scheme",
        ));
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    // What stands before it may be the rest of a password, so nothing of it is shown.
    if tail.contains('@') {
        return Err(invalid(
            &format!("{scheme}://…"),
            "an @ stands behind its first / or ?; in a user or a password write / as %2F and ? as %3F, elsewhere @ as %40",
        ));
    }
    // A password may hold an @ that was not encoded; the last one ends it.
    let (credentials, host) = match authority.rsplit_once('@') {
        Some((credentials, host)) => (credentials, host),
        None => ("", authority),
    };
    let database = tail
        .strip_prefix('/')
        .and_then(|path| path.split('?').next())
        .unwrap_or("");
    let name = format!("{scheme}://{host}/{database}");
    if database.is_empty() {
        return Err(invalid(
            &name,
            "it names no database; add its name after the host: /NAME",
        ));
    }
    let known: &[&str] = match kind {
        Kind::MySql => &MYSQL,
        _ => &POSTGRES,
    };
    check_parameters(&name, parameters(tail), known)?;
    Ok(Target {
        kind,
        path: String::new(),
        url: format!("{scheme}://{rest}"),
        user: percent_decoded(credentials.split(':').next().unwrap_or("")),
        name,
    })
}

/// What SQLite may be told: that a missing file is made, which is done anyway.
const SQLITE: [&str; 1] = ["mode"];
/// Parameters that the driver of PostgreSQL knows.
const POSTGRES: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "application_name",
    "statement-cache-capacity",
    "options",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
];
/// Parameters that the driver of MySQL knows.
const MYSQL: [&str; 14] = [
    "sslmode",
    "ssl-mode",
    "sslca",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "charset",
    "collation",
    "timezone",
    "time-zone",
    "statement-cache-capacity",
    "socket",
];

/// The parameters of a URL as the drivers read them: name and value, decoded.
fn parameters(url: &str) -> impl Iterator<Item = (String, String)> {
    let text = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let parameters = text.split('&').filter(|parameter| !parameter.is_empty());
    parameters.map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (percent_decoded(name), percent_decoded(value))
    })
}

/// Refuses what the drivers would pass over in silence: a misspelt `sslmode` asks for no check of the certificate.
fn check_parameters(
    url: &str,
    given: impl Iterator<Item = (String, String)>,
    known: &[&str],
) -> Result<(), StoreError> {
    for (name, value) in given {
        // PostgreSQL takes single settings of the server as options[NAME].
        let is_setting = name.starts_with("options[") && name.ends_with(']');
        let as_known = if is_setting { "options" } else { &name };
        if !known.contains(&as_known) {
            let reason = format!(
                "the parameter {name} is not known; there are: {}",
                known.join(", ")
            );
            return Err(invalid(url, &reason));
        }
        if name == "mode" && value != "rwc" {
            let reason = format!(
                "mode={value}: the file is read and written, and made if it is missing; leave mode out"
            );
            return Err(invalid(url, &reason));
        }
    }
    Ok(())
}

/// Parameters that name a file, as the drivers spell them.
const FILES: [&str; 8] = [
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
];

/// The files that a URL names, each with its parameter. A certificate may stand there itself, which is no file.
pub(crate) fn files(url: &str) -> Vec<(&str, String)> {
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    parameters
        .split('&')
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| FILES.contains(name))
        .map(|(name, value)| (name, percent_decoded(value)))
        .filter(|(_, value)| !value.starts_with("-----BEGIN"))
        .collect()
}

#[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mysql")))]
pub(crate) fn not_built(name: &str, kind: Kind) -> StoreError {
    invalid(
        name,
        &format!(
            "this program was built without {0}; build it with the feature {0}",
            kind.feature()
        ),
    )
}

fn invalid(url: &str, reason: &str) -> StoreError {
    StoreError::UrlInvalid {
        url: url.to_owned(),
        reason: reason.to_owned(),
    }
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = (byte == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(code.unwrap_or(byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_database_holds_no_credentials() {
        let target =
            parse("postgresql://shop:p%40ss@w0rd@db.example:5433/orders?sslmode=require").unwrap();

        assert_eq!(target.name, "postgres://db.example:5433/orders");
        assert_eq!(target.user, "shop");
        assert_eq!(target.kind, Kind::Postgres);
        assert!(target.url.contains("sslmode=require"));
    }

    #[test]
    fn nothing_of_a_password_that_is_not_encoded_is_shown() {
        for given in [
            "postgres://bob:s3cr/et@h/n",
            "postgres://bob:12?s3cr@h/n",
            "mysql://bob:1@s3cr/et@h/n",
            "mysql://s3cr/et@h",
        ] {
            let error = parse(given).unwrap_err().to_string();
            assert!(error.contains("%2F"), "{error}");
            for part in ["bob", "s3cr", "et@", "12"] {
                assert!(!error.contains(part), "{part}: {error}");
            }
        }
        let encoded = parse("postgres://bob:s3cr%2Fet@h/n?user=ann%40host").unwrap();
        assert_eq!(encoded.name, "postgres://h/n");
    }

    #[test]
    fn the_files_that_a_url_names_are_those_of_its_certificates() {
        let url =
            "postgres://u@h/n?sslmode=verify-full&sslrootcert=/etc/my%20ca.pem&sslcert=-----BEGIN";

        assert_eq!(files(url), [("sslrootcert", "/etc/my ca.pem".to_owned())]);
        assert!(files("mysql://u@h/n").is_empty());
    }

    #[test]
    fn a_sqlite_file_is_named_with_or_without_slashes() {
        assert_eq!(
            parse("sqlite:///var/my%20state.db").unwrap().path,
            "/var/my state.db"
        );
        assert_eq!(parse("sqlite:state.db?mode=rwc").unwrap().path, "state.db");
        assert_eq!(parse("sqlite://state.db").unwrap().path, "state.db");
    }

    #[test]
    fn a_parameter_that_no_driver_knows_is_refused_with_those_that_it_knows() {
        for (given, name, known) in [
            (
                "postgres://u:secret@h/n?sslmod=verify-full",
                "sslmod ",
                "sslmode, ",
            ),
            (
                "postgres://h/n?sslmode=require&sslca=/ca",
                "sslca ",
                "ssl-ca, ",
            ),
            (
                "mysql://u:secret@h/n?sslrootcert=/ca.pem",
                "sslrootcert ",
                "sslca, ",
            ),
            ("mysql://h/n?ssl_mode=required", "ssl_mode ", "sslmode, "),
            ("mysql://h/n?options[x]=1", "options[x] ", "charset, "),
            ("postgres://h/n?ssl%4Dode=require", "sslMode ", "sslmode, "),
            ("sqlite:///s.db?cache=shared", "cache ", "mode"),
            ("sqlite:///s.db?mode=ro", "mode=ro", "leave mode out"),
        ] {
            let error = parse(given).unwrap_err();
            assert_eq!(error.code().as_str(), "TD0077", "{given}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(known), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
        for given in [
            "postgres://u@h/n?sslmode=verify-full&ssl%2Dca=/ca.pem&options[search_path]=shop",
            "mysql://u@h/n?ssl-mode=VERIFY_CA&ssl-ca=/ca.pem&",
            "postgres://h/n?",
        ] {
            assert!(parse(given).is_ok(), "{given}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_database_is_refused_without_showing_a_password() {
        for given in [
            "orders",
            "oracle://u:secret@h/n",
            "postgres://u:secret@h",
            "mysql:u:secret@h/n",
            "sqlite:",
            "sqlite::memory:",
        ] {
            let error = parse(given).unwrap_err();
            assert_eq!(error.code().as_str(), "TD0077", "{given}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
