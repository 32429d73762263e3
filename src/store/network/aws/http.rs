//! The HTTP client for services that give credentials. It is set up like the clients of stores, so that
//! proxies and certificates are the same.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, Limited};

use crate::store::network::proxies;
use crate::units::KIB;

/// Most bytes of an answer with credentials.
const CREDENTIALS_ANSWER_BYTES: usize = 1024 * KIB;

/// Returns a client for AWS's libraries. With `is_inside`, it uses no proxy, because addresses inside a cloud
/// are not behind one.
pub(super) fn client(is_inside: bool) -> SharedHttpClient {
    http_client_fn(move |settings, _| SharedHttpConnector::new(Connector::new(settings, is_inside)))
}

#[derive(Debug)]
struct Connector {
    /// The client, or the reason why there is none.
    client: Result<reqwest::Client, String>,
    timeout: Option<Duration>,
}

impl Connector {
    fn new(settings: &HttpConnectorSettings, is_inside: bool) -> Self {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).http1_only();
        let mut builder = if is_inside { builder.no_proxy() } else { proxies::obey(builder) };
        if let Some(timeout) = settings.connect_timeout() {
            builder = builder.connect_timeout(timeout);
        }
        let client = builder.build().map_err(|e| e.to_string());
        Self { client, timeout: settings.read_timeout() }
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, timeout) = (self.client.clone(), self.timeout);
        HttpConnectorFuture::new(async move {
            let client = client.map_err(|why| ConnectorError::other(why.into(), None))?;
            execute(client, request, timeout).await
        })
    }
}

async fn execute(
    client: reqwest::Client,
    request: HttpRequest,
    timeout: Option<Duration>,
) -> Result<HttpResponse, ConnectorError> {
    let wrong = |e: Box<dyn std::error::Error + Send + Sync>| ConnectorError::user(e);
    let (parts, body) = request.try_into_http1x().map_err(|e| wrong(e.into()))?.into_parts();
    let url: reqwest::Url = parts.uri.to_string().parse().map_err(|e| wrong(Box::new(e)))?;
    let mut outgoing = reqwest::Request::new(parts.method, url);
    *outgoing.headers_mut() = parts.headers;
    *outgoing.timeout_mut() = timeout;
    if let Some(bytes) = body.bytes().filter(|bytes| !bytes.is_empty()) {
        *outgoing.body_mut() = Some(bytes.to_vec().into());
    }
    let response: http::Response<reqwest::Body> = client.execute(outgoing).await.map_err(failed)?.into();
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, CREDENTIALS_ANSWER_BYTES).collect().await;
    let body = body.map_err(ConnectorError::io)?.to_bytes();
    HttpResponse::try_from(http::Response::from_parts(parts, SdkBody::from(body)))
        .map_err(|e| ConnectorError::other(e.into(), None))
}

fn failed(error: reqwest::Error) -> ConnectorError {
    let is_timeout = error.is_timeout();
    let error = Box::new(error.without_url());
    match is_timeout {
        true => ConnectorError::timeout(error),
        false => ConnectorError::io(error),
    }
}
