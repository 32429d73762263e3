//! S3 and what speaks its protocol: MinIO, R2, B2, SeaweedFS, Garage, Ceph.

mod credentials;

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Method};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential, AwsCredentialProvider, Checksum};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use tokio::runtime::Handle;

use self::credentials::{Chain, region_of_profile};
use super::wire::{Redirects, Wire};
use super::{Opened, check_endpoint, misconfigured, no_retries, variable};
use crate::error::{Error, Result};
use crate::store::access::Access;
use crate::store::url::Bucket;

const DEFAULT_REGION: &str = "us-east-1";
const ACL_HEADER: HeaderName = HeaderName::from_static("x-amz-acl");
const DIGEST_HEADER: &str = "x-amz-content-sha256";

pub(super) fn open(bucket: &Bucket, access: &Access, runtime: &Handle) -> Result<Opened> {
    let variables = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
    let endpoint = access.endpoint.clone().or(bucket.endpoint.clone());
    let endpoint = endpoint.or_else(|| variables.into_iter().find_map(variable));
    let endpoint = endpoint.map(|text| check_endpoint(&text, access.allow_http)).transpose()?;
    let region = access.region.clone().or(bucket.region.clone());
    let region = match region.or_else(|| ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(variable))
    {
        Some(region) => region,
        None => runtime.block_on(region_of_profile(access)).unwrap_or_else(|| DEFAULT_REGION.to_owned()),
    };
    // a name with dots in it fits no certificate
    let path_style = access.path_style.or(bucket.path_style);
    let path_style = path_style.unwrap_or(endpoint.is_some() || bucket.name.contains('.'));
    let chain = runtime.block_on(Chain::find(access, &region))?;
    let is_anonymous = chain.is_none();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_region(&region)
        .with_virtual_hosted_style_request(!path_style)
        .with_allow_http(true)
        .with_skip_signature(is_anonymous)
        // not every service knows deletes in bulk, and plain ones are free of charge
        .with_disable_bulk_delete(true)
        .with_retry(no_retries());
    let mut host = format!("s3.{region}.amazonaws.com");
    if let Some(url) = &endpoint {
        host = url.host_str().unwrap_or_default().to_owned();
        builder = builder.with_endpoint(service_url(url, &bucket.name, path_style));
    }
    if endpoint.is_none() {
        // a bucket with a default retention demands it; other services may not know it
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
    })
}

/// The address of the service, or of the bucket at it if the bucket's name stands in the host's.
fn service_url(endpoint: &reqwest::Url, bucket: &str, path_style: bool) -> String {
    let mut url = endpoint.clone();
    if !path_style && let Some(host) = endpoint.host_str() {
        // a bucket's name can be a part of any host's name
        let _ = url.set_host(Some(&format!("{bucket}.{host}")));
    }
    url.as_str().trim_end_matches('/').to_owned()
}

fn parse_acl(text: &str) -> Result<HeaderValue> {
    let word = !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let value = HeaderValue::from_str(text).ok().filter(|_| word);
    value.ok_or_else(|| {
        Error::invalid(format!("lfs-cdc.acl is {text:?}"))
            .remedy("set it to the name of a canned ACL, as in bucket-owner-full-control")
    })
}

/// Adds the ACL to what stores something. It has to be signed, so the request is signed again.
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
    /// Whether the request makes an object: a part of one takes no ACL, nor does completing it.
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
            // unsigned requests stay so
            if request.headers_mut().remove(http::header::AUTHORIZATION).is_some() {
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
        assert_eq!(service_url(&endpoint, "team", true), "https://s3.example.com:9000");
        assert_eq!(service_url(&endpoint, "team", false), "https://team.s3.example.com:9000");
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
            let request = http::Request::builder().method(method).uri(uri);
            let request = request.body(object_store::client::HttpRequestBody::empty()).unwrap();
            assert_eq!(Signer::stores(&request), stores, "{method} {uri}");
        }
        assert!(parse_acl("bucket-owner-full-control").is_ok());
        assert!(parse_acl("private\r\nx: y").is_err() && parse_acl("").is_err());
    }
}
