//! The stores on a network: a bucket on S3, on a service with S3's protocol, on Google Cloud Storage or on
//! Azure. A store on a web server can only be read.

mod aws;
mod azure;
pub(super) mod endpoint;
mod error_response;
mod errors;
mod google;
mod http_server;
mod limiter;
mod proxies;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};
use tokio::runtime::Handle;

pub use self::error_response::read_refusal;
pub(super) use self::errors::{Hope, is_link_failure, may_refuse_conditions};
use self::errors::{causes, root};
pub(super) use self::wire::{AnswerBytes, too_long};
use super::options::Access;
use super::url::{StoreUrl, Target};
use crate::error::{Error, Result};

/// The kind of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    S3,
    Google,
    Azure,
    Web,
}

/// The place of a store on a network, with the facts that are known about the way there.
pub(super) struct Place {
    pub kind: Cloud,
    /// The location for messages, in the same form for each way to write the URL.
    pub location: String,
    /// The host that requests go to.
    host: String,
    /// True if requests go unsigned, because no credentials were found or looked for.
    is_anonymous: bool,
    /// The origin of an endpoint that only the repository names. Then no credentials were looked for.
    pub untrusted: Option<String>,
    pub retry_time: Duration,
    pub storage_class: Option<String>,
    /// The service itself, if it can store in parts and list page by page. Names there begin with `prefix`.
    pub parts: Option<Arc<dyn Service>>,
    pub prefix: Path,
    /// True if the link breaks before a whole block has passed.
    pub prefers_parts: AtomicBool,
}

/// Abilities of a service that not every place has.
pub(super) trait Service: MultipartStore + PaginatedListStore {}

impl<S: MultipartStore + PaginatedListStore> Service for S {}

/// The result of opening a store in one of the clouds.
struct Opened {
    objects: Arc<dyn ObjectStore>,
    parts: Option<Arc<dyn Service>>,
    prefix: Path,
    endpoint: Option<reqwest::Url>,
    host: String,
    is_anonymous: bool,
    /// True if only the repository names the endpoint.
    is_untrusted: bool,
}

/// Opens the place that `url` names, which must not be a directory. Asks for credentials, but sends no
/// request to the store yet.
pub(super) fn open(
    url: &StoreUrl,
    access: &Access,
    runtime: &Handle,
) -> Result<(Arc<dyn ObjectStore>, Place)> {
    let (kind, opened) = match url.target() {
        Target::Directory(_) => return Err(Error::internal("a directory is no store on a network")),
        Target::S3(bucket) => (Cloud::S3, aws::open(bucket, access, runtime)?),
        Target::Google { bucket, prefix } => (Cloud::Google, google::open(bucket, prefix, access, runtime)?),
        Target::Azure { container, prefix, account } => {
            (Cloud::Azure, azure::open(container, prefix, account.as_deref(), access, runtime)?)
        }
        Target::Web(url) => (Cloud::Web, http_server::open(url, access)?),
    };
    let Opened { objects, parts, prefix, endpoint, host, is_anonymous, is_untrusted } = opened;
    let location = match &endpoint {
        Some(endpoint) => format!("{} at {}", url.target(), endpoint.as_str().trim_end_matches('/')),
        None => url.target().to_string(),
    };
    let objects = match prefix.as_ref() {
        "" => objects,
        _ => Arc::new(PrefixStore::new(objects, prefix.clone())),
    };
    let place = Place {
        kind,
        location,
        host,
        is_anonymous,
        untrusted: endpoint.as_ref().filter(|_| is_untrusted).map(endpoint::origin),
        retry_time: access.retry_time,
        storage_class: access.storage_class.clone(),
        parts,
        prefix,
        prefers_parts: AtomicBool::new(false),
    };
    Ok((objects, place))
}

impl Place {
    /// Returns a bucket that doesn't exist.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self {
            kind: Cloud::S3,
            location: "memory".into(),
            host: "memory".into(),
            is_anonymous: false,
            untrusted: None,
            retry_time: Duration::from_secs(1),
            storage_class: None,
            parts: None,
            prefix: Path::default(),
            prefers_parts: AtomicBool::new(false),
        }
    }

    /// Returns the error that there is no store at the place.
    pub(super) fn no_store(&self) -> Error {
        let error = Error::not_found(format!("there is no store at {}: it has no store.json", self.location));
        if let Some(origin) = &self.untrusted {
            return error.context(endpoint::unsigned(origin)).remedy(endpoint::how_to_trust(origin));
        }
        error.remedy("check its spelling; `git lfs-cdc init URL` creates a new store")
    }

    /// Returns true for a web server, because nothing can be written there.
    pub(super) fn is_read_only(&self) -> bool {
        self.kind == Cloud::Web
    }

    /// Returns true if requests go unsigned.
    pub(super) fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }
}

/// Turns off the retries of `object_store`. `store::retry` counts and spaces the tries, because it sees the
/// whole operation.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Chooses the implementation of cryptography for TLS, once for the process.
fn choose_cryptography() {
    // an error means that one is chosen already
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Reads a variable of the environment, if it is set and not empty. Removes line ends and spaces around the
/// value, which may come from a file or from pasting.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Returns the error of a client that could not be set up.
fn misconfigured(error: object_store::Error) -> Error {
    Error::invalid(format!("the store can't be opened: {}", root(&error)))
        .remedy("check the URL, and the settings below lfs-cdc. and in the environment")
}
