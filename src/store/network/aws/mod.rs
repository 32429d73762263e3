//! S3 and services with its protocol: MinIO, R2, B2, SeaweedFS, Garage, Ceph.

mod credentials;
mod http;
mod profile;

use std::sync::Arc;

use ::http::{HeaderName, HeaderValue, Method};
use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential, AwsCredentialProvider, Checksum};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tokio::runtime::Handle;

use self::credentials::Chain;
use self::profile::Profile;
use super::wire::{Redirects, Wire};
use super::{Opened, endpoint, misconfigured, no_retries, variable};
use crate::error::{Error, Result};
use crate::store::names;
use crate::store::options::Access;
use crate::store::url::Bucket;

const DEFAULT_REGION: &str = "us-east-1";
/// The characters to encode in a bucket's name, because signatures have the name in a path. Valid names have
/// only two of them: Ceph's colon behind the tenant, and `$`.
const IN_PATH: &AsciiSet = &CONTROLS.add(b':').add(b'$');
const ACL_HEADER: HeaderName = HeaderName::from_static("x-amz-acl");
const DIGEST_HEADER: &str = "x-amz-content-sha256";

pub(super) fn open(bucket: &Bucket, access: &Access, runtime: &Handle) -> Result<Opened> {
    let profile = runtime.block_on(Profile::load(access));
    let named = endpoint_of_user(&profile);
    let (endpoint, is_trusted) = find_endpoint(bucket, access, &named)?;
    let region = find_region(bucket, access, runtime, &profile)?;
    let path_style = is_in_path(bucket, access, endpoint.is_some())?;
    // unsigned requests need no credentials, so no source is asked for them
    let chain = if is_trusted { runtime.block_on(Chain::find(access, &profile, &region))? } else { None };
    let is_anonymous = chain.is_none();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(utf8_percent_encode(&bucket.name, IN_PATH).to_string())
        .with_region(&region)
        .with_virtual_hosted_style_request(!path_style)
        .with_allow_http(true)
        .with_skip_signature(is_anonymous)
        // not every service knows deletes in bulk, and single ones are free of charge
        .with_disable_bulk_delete(true)
        .with_retry(no_retries());
    let mut host = format!("s3.{region}.amazonaws.com");
    if let Some(url) = &endpoint {
        host = url.host_str().unwrap_or_default().to_owned();
        builder = builder.with_endpoint(service_url(url, &bucket.name, path_style)?);
    }
    if endpoint.is_none() {
        // a bucket with a default retention demands a checksum; other services may not know it
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    if let Some(key) = &access.sse_kms_key_id {
        builder = builder.with_sse_kms_encryption(key);
    }
    let wire = Wire::new(access, Redirects::Refuse)?;
    let credentials: AwsCredentialProvider = match chain {
        Some(chain) => Arc::new(chain),
        None => Arc::new(object_store::StaticCredentialProvider::new(AwsCredential {
            key_id: String::new(),
            secret_key: String::new(),
            token: None,
        })),
    };
    builder = builder.with_credentials(credentials.clone());
    let store = match &access.acl {
        None => builder.with_http_connector(wire),
        Some(acl) => builder.with_http_connector(WithAcl { wire, acl: parse_acl(acl)?, region, credentials }),
    };
    let store = Arc::new(store.build().map_err(misconfigured)?);
    Ok(Opened {
        objects: store.clone(),
        parts: Some(store),
        prefix: bucket.prefix.clone(),
        endpoint,
        host,
        is_anonymous,
        is_untrusted: !is_trusted,
    })
}

/// Returns the endpoint, if it isn't AWS's own. The bool is false if only the repository names it.
fn find_endpoint(bucket: &Bucket, access: &Access, named: &[String]) -> Result<(Option<reqwest::Url>, bool)> {
    Ok(match (&access.endpoint, &bucket.endpoint) {
        (Some(text), _) => (Some(endpoint::check(text, access.allow_http)?), true),
        (None, Some(text)) => {
            let (url, is_trusted) = endpoint::check_committed(text, access, named)?;
            (Some(url), is_trusted)
        }
        (None, None) => {
            let text = named.first();
            (text.map(|text| endpoint::check(text, access.allow_http)).transpose()?, true)
        }
    })
}

/// Returns true if the bucket's name stands in the path. Otherwise it becomes a part of the host's name;
/// fails if it can't.
fn is_in_path(bucket: &Bucket, access: &Access, has_endpoint: bool) -> Result<bool> {
    let path_style = access.path_style.or(bucket.path_style);
    // a name with dots in it fits no certificate
    let fits_host = names::is_host_label(&bucket.name);
    let path_style = path_style.unwrap_or(has_endpoint || bucket.name.contains('.') || !fits_host);
    if !path_style && !fits_host {
        let why = format!("the bucket's name {:?} can't stand in a host's name", bucket.name);
        return Err(Error::invalid(why).remedy("leave out pathStyle=false, or set lfs-cdc.pathStyle to true"));
    }
    Ok(path_style)
}

/// Returns the endpoints that this user's environment and profile name. The first one takes precedence.
fn endpoint_of_user(profile: &Profile) -> Vec<String> {
    if variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return Vec::new();
    }
    let variables = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].into_iter().filter_map(variable);
    variables.chain(profile.endpoints()).collect()
}

/// Finds the region, and checks its form, because it becomes a part of host names.
fn find_region(bucket: &Bucket, access: &Access, runtime: &Handle, profile: &Profile) -> Result<String> {
    let in_environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(variable);
    let region = access.region.clone().or(bucket.region.clone()).or_else(in_environment);
    let region = region.or_else(|| runtime.block_on(profile.region()));
    let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    if names::is_region(&region) {
        return Ok(region);
    }
    Err(Error::invalid(format!("{region:?} can't be the name of a region")).remedy(
        "correct lfs-cdc.region, AWS_REGION or the profile's region: small letters, digits and hyphens",
    ))
}

/// Returns the address of the service. If the bucket's name stands in the host's name, returns the bucket's
/// address.
fn service_url(endpoint: &reqwest::Url, bucket: &str, path_style: bool) -> Result<String> {
    let mut url = endpoint.clone();
    if !path_style {
        let host = endpoint.host_str().unwrap_or_default();
        let with_bucket = format!("{bucket}.{host}");
        if url.set_host(Some(&with_bucket)).is_err() || url.host_str() != Some(&with_bucket) {
            let why = format!("no bucket's name can stand in front of {host}");
            return Err(
                Error::invalid(why).remedy("leave out pathStyle=false, or set lfs-cdc.pathStyle to true")
            );
        }
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn parse_acl(text: &str) -> Result<HeaderValue> {
    let word = !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let value = HeaderValue::from_str(text).ok().filter(|_| word);
    value.ok_or_else(|| {
        Error::invalid(format!("lfs-cdc.acl is {text:?}"))
            .remedy("set it to the name of a canned ACL, as in bucket-owner-full-control")
    })
}

/// A connector that adds the ACL to requests that store an object. The ACL has to be signed, so these
/// requests are signed again.
#[derive(Clone, Debug)]
struct WithAcl {
    wire: Wire,
    acl: HeaderValue,
    region: String,
    credentials: AwsCredentialProvider,
}

impl HttpConnector for WithAcl {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = self.wire.connect(options)?;
        Ok(HttpClient::new(Signer { client, with: self.clone() }))
    }
}

#[derive(Debug)]
struct Signer {
    client: HttpClient,
    with: WithAcl,
}

impl Signer {
    /// Returns true if the request makes an object. Storing a part and completing an upload take no ACL.
    fn stores(request: &HttpRequest) -> bool {
        let query = request.uri().query().unwrap_or_default();
        match *request.method() {
            Method::PUT => !query.contains("partNumber="),
            Method::POST => query == "uploads" || query.starts_with("uploads="),
            _ => false,
        }
    }
}

#[async_trait]
impl HttpService for Signer {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if Self::stores(&request) {
            request.headers_mut().insert(ACL_HEADER, self.with.acl.clone());
            let digest = request.headers().get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
            let digest = digest.and_then(|text| hex::decode(text).ok());
            // unsigned requests stay unsigned
            if request.headers_mut().remove(::http::header::AUTHORIZATION).is_some() {
                let failed = |e| HttpError::new(HttpErrorKind::Unknown, e);
                let credential = self.with.credentials.get_credential().await.map_err(failed)?;
                AwsAuthorizer::new(&credential, "s3", &self.with.region)
                    .try_authorize(&mut request, digest.as_deref())
                    .map_err(failed)?;
            }
        }
        self.client.execute(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_stands_in_the_path_or_in_the_host() {
        let endpoint = reqwest::Url::parse("https://s3.example.com:9000/").unwrap();
        assert_eq!(service_url(&endpoint, "team", true).unwrap(), "https://s3.example.com:9000");
        assert_eq!(service_url(&endpoint, "team", false).unwrap(), "https://team.s3.example.com:9000");
        for address in ["http://127.0.0.1:9000", "http://[::1]:9000"] {
            let error = service_url(&reqwest::Url::parse(address).unwrap(), "team", false).unwrap_err();
            assert!(error.to_string().contains("lfs-cdc.pathStyle"), "{error}");
        }
    }

    #[test]
    fn only_what_makes_an_object_takes_an_acl() {
        for (method, uri, stores) in [
            ("PUT", "http://h/b/k", true),
            ("PUT", "http://h/b/k?partNumber=1&uploadId=x", false),
            ("POST", "http://h/b/k?uploads=", true),
            ("POST", "http://h/b/k?uploadId=x", false),
            ("GET", "http://h/b/k", false),
        ] {
            let request = ::http::Request::builder().method(method).uri(uri);
            let request = request.body(object_store::client::HttpRequestBody::empty()).unwrap();
            assert_eq!(Signer::stores(&request), stores, "{method} {uri}");
        }
        assert!(parse_acl("bucket-owner-full-control").is_ok());
        assert!(parse_acl("private\r\nx: y").is_err() && parse_acl("").is_err());
    }
}
