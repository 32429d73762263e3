//! Google Cloud Storage, with application default credentials.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use google_cloud_auth::credentials::{AccessTokenCredentials, Builder};
use object_store::CredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::path::Path;
use tokio::runtime::Handle;

use super::wire::{Redirects, Wire};
use super::{Opened, choose_cryptography, endpoint, misconfigured, no_retries, root, variable};
use crate::error::{Error, Kind, Result};
use crate::store::options::Access;

const HOST: &str = "storage.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// The time that the first token may take. On a machine outside of Google's cloud, no service answers.
const FIRST_TOKEN: Duration = Duration::from_secs(20);

/// Opens a bucket. A committed URL may choose the bucket. Only the user may choose the endpoint, because
/// tokens are sent there.
pub(super) fn open(bucket: &str, prefix: &Path, access: &Access, runtime: &Handle) -> Result<Opened> {
    let endpoint = access.endpoint.clone().or_else(|| variable("STORAGE_EMULATOR_HOST"));
    let endpoint = endpoint.map(|text| endpoint::check(&text, access.allow_http)).transpose()?;
    let credentials = match (&endpoint, credentials_are_expected()) {
        // an emulator asks for none
        (Some(_), false) => None,
        (_, expected) => runtime.block_on(token_source(expected))?,
    };
    let is_anonymous = credentials.is_none();
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_http_connector(Wire::new(access, Redirects::Refuse)?)
        .with_skip_signature(is_anonymous)
        .with_credentials(Arc::new(Tokens(credentials)));
    if let Some(endpoint) = &endpoint {
        builder = builder.with_base_url(endpoint.as_str().trim_end_matches('/'));
    }
    let store = Arc::new(builder.build().map_err(misconfigured)?);
    let host = endpoint.as_ref().and_then(|url| url.host_str()).unwrap_or(HOST).to_owned();
    Ok(Opened {
        objects: store.clone(),
        parts: Some(store),
        prefix: prefix.clone(),
        endpoint,
        host,
        is_anonymous,
        is_untrusted: false,
    })
}

/// Returns true if the user has set up credentials. Otherwise only a machine in Google's cloud has some.
fn credentials_are_expected() -> bool {
    // gcloud's place on Unix, even if the platform has another folder for settings
    const FILE: &str = ".config/gcloud/application_default_credentials.json";
    let file = directories::BaseDirs::new().map(|base| base.home_dir().join(FILE));
    std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").is_some() || file.is_some_and(|file| file.exists())
}

/// Returns application default credentials that give tokens. Returns none if there are none and none are
/// expected.
async fn token_source(expected: bool) -> Result<Option<AccessTokenCredentials>> {
    choose_cryptography();
    let denied = |why: String| {
        Error::new(Kind::Denied, format!("Google's credentials can't be used: {why}"))
            .remedy("run `gcloud auth application-default login`, or check GOOGLE_APPLICATION_CREDENTIALS")
    };
    const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    if std::env::var(FILE).is_ok_and(|path| path.trim().len() < path.len()) {
        // the library itself reads the variable
        return Err(denied(format!("{FILE} has a line end or a space around it")));
    }
    let built = Builder::default().with_scopes([SCOPE]).build_access_token_credentials();
    let credentials = built.map_err(|e| denied(root(&e)))?;
    let why = match tokio::time::timeout(FIRST_TOKEN, credentials.access_token()).await {
        Ok(Ok(_)) => return Ok(Some(credentials)),
        Ok(Err(e)) => root(&e),
        Err(_) => "no token came in time".to_owned(),
    };
    if expected {
        return Err(denied(why));
    }
    tracing::info!("no Google credentials were found; requests go unsigned ({why})");
    Ok(None)
}

/// The source of tokens. Each request asks it, and the library keeps valid tokens.
#[derive(Debug)]
struct Tokens(Option<AccessTokenCredentials>);

#[async_trait]
impl CredentialProvider for Tokens {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let bearer = match &self.0 {
            None => String::new(),
            Some(source) => {
                let token = source.access_token().await;
                let token = token.map_err(|e| object_store::Error::Generic {
                    store: "Google",
                    source: Box::new(
                        Error::new(Kind::Denied, format!("no token is to be had: {}", root(&e)))
                            .remedy("run `gcloud auth application-default login` again"),
                    ),
                })?;
                token.token
            }
        };
        Ok(Arc::new(GcpCredential { bearer }))
    }
}
