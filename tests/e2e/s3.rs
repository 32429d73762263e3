//! The S3 server of the tests: its address, its keys, and a client of its own that looks into the bucket.

use std::future::Future;
use std::sync::OnceLock;

use async_trait::async_trait;
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use tokio::runtime::Runtime;

use crate::servers;

const VARIABLE: &str = "GIT_LFS_CDC_TEST_S3";

/// The bucket that `tests/setup/servers.sh` creates.
pub const BUCKET: &str = "lfs";
/// A bucket that everybody may read.
pub const PUBLIC_BUCKET: &str = "public";
pub const REGION: &str = "us-east-1";

/// Holders of keys, named after their rights.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Get, list, put and delete.
    Admin,
    /// Get and list.
    Pull,
    /// Get, list and put, but not delete.
    Push,
    /// All of this in the bucket that everybody may read, and nothing in the other.
    Public,
}

impl Role {
    /// Key id and secret.
    pub fn keys(self) -> (String, String) {
        let variable = match self {
            Role::Admin => "GIT_LFS_CDC_TEST_S3_KEYS",
            Role::Pull => "GIT_LFS_CDC_TEST_S3_PULL_KEYS",
            Role::Push => "GIT_LFS_CDC_TEST_S3_PUSH_KEYS",
            Role::Public => "GIT_LFS_CDC_TEST_S3_PUBLIC_KEYS",
        };
        let keys = servers::variable(variable);
        let (id, secret) = keys.split_once(':').unwrap_or_else(|| panic!("{variable} is not ID:SECRET"));
        (id.to_owned(), secret.to_owned())
    }
}

/// Returns the server's address, if there is a server.
pub fn endpoint() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// Returns the address of the server, which has to be there.
#[track_caller]
pub fn server() -> String {
    servers::variable(VARIABLE)
}

/// A client with the keys of a role.
pub fn client(role: Role) -> AmazonS3 {
    let (id, secret) = role.keys();
    AmazonS3Builder::new()
        .with_endpoint(server())
        .with_bucket_name(BUCKET)
        .with_region(REGION)
        .with_allow_http(true)
        .with_access_key_id(id)
        .with_secret_access_key(secret)
        .with_http_connector(Loopback)
        .build()
        .unwrap()
}

/// Runs requests to their end.
pub fn wait<F: Future>(requests: F) -> F::Output {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let start =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    RUNTIME.get_or_init(start).block_on(requests)
}

/// Connections to a server on this machine: no proxy, no certificates, no limits.
#[derive(Debug)]
struct Loopback;

impl HttpConnector for Loopback {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        // reqwest wants a provider even where nothing is encrypted; an error says that there is one already
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(HttpClient::new(Connections(reqwest::Client::builder().no_proxy().build().unwrap())))
    }
}

#[derive(Debug)]
struct Connections(reqwest::Client);

#[async_trait]
impl HttpService for Connections {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let failed = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        let (parts, body) = request.into_parts();
        let mut outgoing = reqwest::Request::new(parts.method, parts.uri.to_string().parse().unwrap());
        *outgoing.headers_mut() = parts.headers;
        *outgoing.body_mut() = Some(body.collect().await?.to_bytes().into());
        let response: http::Response<reqwest::Body> = self.0.execute(outgoing).await.map_err(failed)?.into();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(failed)?.to_bytes();
        Ok(HttpResponse::from_parts(parts, body.into()))
    }
}
