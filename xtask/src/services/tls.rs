//! Certificates of a server for its encrypted listener: an authority of its own, made once with openssl.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::child;
use crate::failure::Failure;
use crate::services::connection;
use crate::services::install;
use crate::services::site::{self, Site};

/// The files of one server; each has another authority, so that a test can present a wrong one.
#[derive(Debug)]
pub(super) struct Certificates {
    /// What a client has to trust.
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// Key and certificate in one file.
    pub(super) both: PathBuf,
}

/// Good for the two names of this machine's loopback, and for servers only.
const EXTENSIONS: &str = "\
subjectAltName=DNS:localhost,IP:127.0.0.1
basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth
";
/// Longer than any checkout lives.
const DAYS: &str = "3650";
const EVERY_KEY: [&str; 6] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-batch",
];

/// Where they are, or will be.
pub(super) fn paths(site: &Site) -> Certificates {
    let folder = site.folder.join("tls");
    Certificates {
        authority: folder.join("ca.pem"),
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
        both: folder.join("both.pem"),
    }
}

/// Makes them unless they are there.
pub(super) fn certificates(site: &Site) -> Result<Certificates, Failure> {
    let made = paths(site);
    if made.both.exists() {
        return Ok(made);
    }
    let folder = site.folder.join("tls");
    site::create_folder(&folder)?;
    let write = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|cause| Failure::file("write", &path, &cause))
    };
    let read = |path: &PathBuf| fs::read(path).map_err(|cause| Failure::file("read", path, &cause));
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.current_dir(&folder).args(arguments);
        child::quietly(&mut command).map(drop)
    };
    let authority = [
        &["req", "-x509", "-days", DAYS][..],
        &EVERY_KEY,
        &[
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-subj",
            "/CN=tidings tests",
        ],
        &["-addext", "basicConstraints=critical,CA:TRUE"],
        &["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    ]
    .concat();
    let request = [
        &["req"][..],
        &EVERY_KEY,
        &[
            "-keyout",
            "server.key",
            "-out",
            "request.pem",
            "-subj",
            "/CN=localhost",
        ],
    ]
    .concat();
    let signature = [
        &["x509", "-req", "-days", DAYS, "-in", "request.pem"][..],
        &["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"],
        &["-extfile", "extensions", "-out", "server.pem"],
    ]
    .concat();
    write("extensions", EXTENSIONS.as_bytes())?;
    openssl(&authority)?;
    openssl(&request)?;
    openssl(&signature)?;
    // Last, because its presence says that the others are there.
    let both = [read(&made.key)?, read(&made.certificate)?].concat();
    write("both.pem", &both)?;
    Ok(made)
}

pub(super) fn install() -> Result<(), Failure> {
    match install::program("openssl") {
        Some(_) => Ok(()),
        None => install::packages(&["openssl"]),
    }
}

/// Whether the listener presents a certificate that a client with this authority trusts.
pub(super) fn answer(url: &str, authority: &str, begins_as: Option<&str>) -> Result<(), String> {
    let address = connection::address(url, 443);
    let output = Command::new("openssl")
        .args(["s_client", "-brief", "-verify_return_error"])
        .args(["-connect", &address, "-CAfile", authority])
        .args(
            begins_as
                .map(|protocol| ["-starttls", protocol])
                .into_iter()
                .flatten(),
        )
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| format!("cannot run openssl: {cause}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or_default().to_owned())
}
