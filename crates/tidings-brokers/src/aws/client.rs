//! The way to AWS, or to a service that speaks like it: endpoint, region, credentials, time limits.

use crate::BrokerUrl;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::Credentials;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::path::Path;
use tidings_core::broker::BrokerError;
use tidings_core::limits::{AWS_CONNECT_TIMEOUT, AWS_REQUEST_TIMEOUT};

/// The region of an endpoint of one's own, where nothing else is said.
const REGION_OF_ENDPOINT: &str = "us-east-1";
/// The port of a service of one's own, where the URL names none: the one of LocalStack.
const PORT: u16 = 4566;
/// Parameters of the URL that every adapter for AWS knows.
pub(crate) const PARAMETERS: &[&str] = &["region", "profile", "tls", "ca"];

/// A way to AWS.
#[derive(Debug, Clone)]
pub(crate) struct AwsClient {
    /// For the clients of the services.
    pub(crate) config: SdkConfig,
    /// Host and port, or the region, for messages.
    pub(crate) address: String,
    /// The region.
    pub(crate) region: String,
    /// What a command of the `aws` tool needs besides: region and endpoint.
    pub(crate) options: String,
}

impl AwsClient {
    /// Reads the URL and what AWS users set in environment and profile. No request is sent, except where credentials come from the machine's role.
    pub(crate) async fn new(url: &BrokerUrl) -> Result<Self, BrokerError> {
        let endpoint = endpoint(url)?;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(AWS_CONNECT_TIMEOUT)
            .operation_attempt_timeout(AWS_REQUEST_TIMEOUT)
            .build();
        // A retry of the client's own would hide that the first attempt may have been written.
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Some(profile) = url.text("profile") {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = url.text("region") {
            loader = loader.region(Region::new(region.to_owned()));
        }
        match (credentials(url)?, &endpoint) {
            (Some(credentials), _) => loader = loader.credentials_provider(credentials),
            // Beside AWS there is no role of the machine to ask for.
            (None, Some(_)) => loader = loader.credentials_provider(from_the_user(url)),
            (None, None) => {}
        }
        if let Some(endpoint) = &endpoint {
            loader = loader.endpoint_url(endpoint);
            if url.text("region").is_none() {
                loader = loader.region(
                    aws_config::meta::region::RegionProviderChain::first_try(
                        aws_config::environment::EnvironmentVariableRegionProvider::new(),
                    )
                    .or_else(REGION_OF_ENDPOINT),
                );
            }
        }
        if let Some(file) = url.file("ca") {
            let authorities = authorities(url, &file)?;
            loader = loader.http_client(
                aws_smithy_http_client::Builder::new()
                    .tls_provider(tls::Provider::Rustls(CryptoMode::AwsLc))
                    .tls_context(authorities)
                    .build_https(),
            );
        }
        let config = loader.load().await;
        let region = config.region().map(|region| region.as_ref().to_owned());
        let region = region.filter(|region| !region.is_empty()).ok_or_else(|| {
            url.invalid("no region is set; add region=us-east-1, or set AWS_REGION")
        })?;
        let mut options = format!("--region {region}");
        if let Some(endpoint) = &endpoint {
            options.push_str(&format!(" --endpoint-url {endpoint}"));
        }
        let address = match &endpoint {
            Some(_) => url.address(PORT),
            None => region.clone(),
        };
        Ok(Self {
            config,
            address,
            region,
            options,
        })
    }

    /// The partition of the region, as it stands in names of resources.
    pub(crate) fn partition(&self) -> &'static str {
        if self.region.starts_with("cn-") {
            "aws-cn"
        } else if self.region.starts_with("us-gov-") {
            "aws-us-gov"
        } else {
            "aws"
        }
    }
}

fn endpoint(url: &BrokerUrl) -> Result<Option<String>, BrokerError> {
    if !url.path().is_empty() {
        return Err(url.invalid(format!(
            "the path /{} means nothing here; names are parameters",
            url.path()
        )));
    }
    // Who names an authority wants to be sure of the server.
    let tls = url.flag("tls")? || url.text("ca").is_some();
    match url.hosts() {
        [] => Ok(None),
        [_] => {
            let scheme = if tls { "https" } else { "http" };
            Ok(Some(format!("{scheme}://{}", url.address(PORT))))
        }
        _ => Err(url.invalid("AWS has one endpoint; name one host, or none for AWS itself")),
    }
}

/// Whom to trust instead of the system's authorities.
///
/// **Errors**: the file cannot be read, or it holds no certificate of an authority; the client would panic over it, and much later.
fn authorities(url: &BrokerUrl, file: &Path) -> Result<TlsContext, BrokerError> {
    let fault = |reason: String| url.invalid(format!("ca {}: {reason}", file.display()));
    let text = std::fs::read(file).map_err(|error| fault(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        let added = roots.add(certificate);
        added.map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("it holds no certificate in PEM form".to_owned()));
    }
    let trusted = TrustStore::empty().with_pem_certificate(text);
    let context = TlsContext::builder().with_trust_store(trusted).build();
    context.map_err(|error| fault(error.to_string()))
}

fn credentials(url: &BrokerUrl) -> Result<Option<Credentials>, BrokerError> {
    match (url.user(), url.password()?) {
        (Some(key_id), Some(secret)) => Ok(Some(Credentials::new(
            key_id,
            secret.reveal(),
            None,
            None,
            "url",
        ))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(url.invalid(
            "the user is an access key id and needs its secret: KEY_ID:SECRET@HOST, or password_file=FILE",
        )),
        (None, Some(_)) => Err(url.invalid("a secret needs its access key id: KEY_ID:SECRET@HOST")),
    }
}

fn from_the_user(url: &BrokerUrl) -> CredentialsProviderChain {
    let mut profile = ProfileFileCredentialsProvider::builder();
    if let Some(name) = url.text("profile") {
        profile = profile.profile_name(name);
    }
    CredentialsProviderChain::first_try(
        "environment",
        EnvironmentVariableCredentialsProvider::new(),
    )
    .or_else("profile", profile.build())
}
