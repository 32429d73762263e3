//! Stores on a network: a bucket on S3 or what speaks its protocol, on Google Cloud Storage or Azure, or a
//! web server that can only be read.

mod aws;
mod azure;
mod explain;
mod gate;
mod google;
mod refusal;
mod web;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};
use tokio::runtime::Handle;

pub(super) use self::explain::{Hope, is_link_failure};
use self::explain::{causes, root};
use super::access::Access;
use super::url::{StoreUrl, Target};
use crate::error::{Error, Kind, Result};

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    S3,
    Google,
    Azure,
    Web,
}

/// Where a store on a network is, and what is known of the way there.
pub(super) struct Place {
    pub kind: Cloud,
    /// For people, and the same however it was written.
    pub location: String,
    /// Who has to be reached.
    host: String,
    /// No credentials were found, so requests go unsigned.
    is_anonymous: bool,
    pub retry_time: Duration,
    pub storage_class: Option<String>,
    /// Storing in parts, for those who can: names there begin with `prefix`.
    pub parts: Option<Arc<dyn MultipartStore>>,
    pub prefix: Path,
    /// The link is one that breaks before a whole block has passed.
    pub prefers_parts: AtomicBool,
}

/// What a cloud's part gives.
struct Opened {
    objects: Arc<dyn ObjectStore>,
    parts: Option<Arc<dyn MultipartStore>>,
    prefix: Path,
    endpoint: Option<reqwest::Url>,
    host: String,
    is_anonymous: bool,
}

/// Opens what `url` names, which is no directory. Asks for credentials, but sends the store nothing yet.
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
        Target::Web(url) => (Cloud::Web, web::open(url, access)?),
    };
    let Opened { objects, parts, prefix, endpoint, host, is_anonymous } = opened;
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
        retry_time: access.retry_time,
        storage_class: access.storage_class.clone(),
        parts,
        prefix,
        prefers_parts: AtomicBool::new(false),
    };
    Ok((objects, place))
}

impl Place {
    /// A bucket that is nowhere.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        Self {
            kind: Cloud::S3,
            location: "memory".into(),
            host: "memory".into(),
            is_anonymous: false,
            retry_time: Duration::from_secs(1),
            storage_class: None,
            parts: None,
            prefix: Path::default(),
            prefers_parts: AtomicBool::new(false),
        }
    }

    /// There is no store at the place.
    pub(super) fn no_store(&self) -> Error {
        let error = Error::not_found(format!("there is no store at {}: it has no store.json", self.location));
        error.remedy("check its spelling; `git lfs-cdc init URL` creates a new store")
    }

    /// Nothing can be written to a web server.
    pub(super) fn is_read_only(&self) -> bool {
        self.kind == Cloud::Web
    }

    /// Whose credentials go with requests.
    pub(super) fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }
}

/// Tries are counted and spaced in `store::retry`, where the whole of an operation is seen.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// TLS needs to be told once which implementation of its cryptography is meant.
fn choose_cryptography() {
    // that there is one already is just as well
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// An address that requests may go to: HTTPS, or plain HTTP on this machine or where the user allows it.
fn check_endpoint(text: &str, allow_http: bool) -> Result<reqwest::Url> {
    let wrong = |why: &str| {
        Error::invalid(format!("{text:?} can't be an endpoint: {why}"))
            .remedy("the form is https://host or https://host:port")
    };
    let url = reqwest::Url::parse(text).map_err(|e| wrong(&e.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        // not shown: it holds a secret
        return Err(Error::invalid("an endpoint with a name or password in it").remedy("leave these out"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it names no host"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http || is_loopback(&url) => Ok(url),
        "http" => {
            Err(Error::new(Kind::Denied, format!("{text} is plain HTTP: anybody on the way can read along"))
                .remedy("use https://, or allow it on this machine: git config lfs-cdc.allowHttp true"))
        }
        _ => Err(wrong("it is neither https:// nor http://")),
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A variable of the environment that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Why a cloud's client could not be set up.
fn misconfigured(error: object_store::Error) -> Error {
    Error::invalid(format!("the store can't be opened: {}", root(&error)))
        .remedy("check the URL, and the settings below lfs-cdc. and in the environment")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_unless_it_is_allowed() {
        for endpoint in
            ["https://s3.example.com", "http://localhost:9000", "http://127.0.0.9", "http://[::1]:80/x"]
        {
            assert!(check_endpoint(endpoint, false).is_ok(), "{endpoint}");
        }
        for endpoint in
            ["http://10.0.0.1:9000", "http://localhost.example.com", "http://127.0.0.1.example.com"]
        {
            let error = check_endpoint(endpoint, false).unwrap_err();
            assert!(
                error.kind() == Kind::Denied && error.to_string().contains("lfs-cdc.allowHttp"),
                "{error}"
            );
            assert!(check_endpoint(endpoint, true).is_ok(), "{endpoint}");
        }
        for endpoint in ["s3.example.com", "ftp://a", "https://", "https://me:hunter2@a"] {
            let error = check_endpoint(endpoint, true).unwrap_err();
            assert!(error.kind() == Kind::Invalid && !error.to_string().contains("hunter2"), "{error}");
        }
    }
}
