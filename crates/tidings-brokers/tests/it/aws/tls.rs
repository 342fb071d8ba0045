//! A door with TLS before a server, with a certificate that is made for it.

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Good for the loopback, and for a server alone: an authority would not be taken for one.
const REQUEST: &str = "\
[req]
distinguished_name=name
x509_extensions=server
[name]
[server]
subjectAltName=IP:127.0.0.1
basicConstraints=critical,CA:FALSE
";

/// A certificate that signs itself, with its key.
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one in a folder that has none of that name.
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let request = folder.join(format!("{name}.cnf"));
        std::fs::write(&request, REQUEST).expect("written");
        let (file, key) = (
            folder.join(format!("{name}.pem")),
            folder.join(format!("{name}.key")),
        );
        let made = Command::new("openssl")
            .args(["req", "-x509", "-batch", "-nodes", "-days", "2"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-subj", &format!("/CN={name}")])
            .arg("-config")
            .arg(request)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&file)
            .output()
            .expect("openssl is there: it makes the certificates of the other servers, too");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        Self { file, key }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(&self.file).expect("a file");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they belong together");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Runs a test with a door before the server, whose address it is given.
pub(crate) async fn behind_a_door<T>(
    certificate: &Certificate,
    server: &str,
    test: impl AsyncFnOnce(String) -> T,
) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::select! {
        () = serve(listener, certificate.acceptor(), server) => unreachable!("it serves on and on"),
        ended = test(address) => ended,
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, server: &str) {
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted.expect("a connection");
                open.push(carry(socket, &acceptor, server));
            }
            Some(()) = open.next() => {}
        }
    }
}

/// Carries one connection to its end. A client that does not trust the certificate ends it during the handshake.
async fn carry(socket: TcpStream, acceptor: &TlsAcceptor, server: &str) {
    if let Ok(mut client) = acceptor.accept(socket).await {
        let mut server = TcpStream::connect(server).await.expect("the server");
        // Which side ends it, and how, is theirs to say.
        let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
