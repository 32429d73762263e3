//! The wire, through which every HTTP request to a service passes. It bounds the number of requests at a
//! time, gives up requests that stall, and reads the reason of a refusal.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_RANGE;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};
use tokio::time::{Instant, Sleep};

use super::endpoint;
use super::error_response::Refusal;
use super::limiter::{Gate, Pass};
use super::proxies;
use crate::error::{Error, Result};
use crate::store::Moved;
use crate::store::files::SEND_BYTES;
use crate::store::options::Access;
use crate::units::{KIB, MIB};

/// Least speed of a transfer; a transfer as slow as this may take as long as it needs.
const SLOWEST_BYTES_PER_SECOND: u64 = 512;
/// Most bytes of a request whose answer must come in the time that a service may be silent. The answer to a
/// larger one may take twice as long.
const SMALL_REQUEST_BYTES: u64 = 256 * KIB as u64;
/// Bytes that a new connection sends before it waits for an answer: ten packets (RFC 6928).
const FIRST_PACKETS_BYTES: u64 = 14_600;
/// Time for making a connection.
const CONNECT_SECONDS: u64 = 10;
/// Most redirects of a web server that are followed.
const REDIRECTS: usize = 5;
/// Most bytes of an answer that is no file. A page of a listing has at most 5,000 names (Azure). A name has
/// at most 1,024 characters, and some 1,500 bytes of other data.
const ANSWER_BYTES: u64 = 32 * MIB as u64;
/// Most bytes of a refusal that are read.
const REFUSAL_BYTES: usize = 16 * KIB;

/// The treatment of redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirects {
    /// Never, because requests carry signatures or tokens.
    Refuse,
    /// A few times, because requests carry no secrets, but never from HTTPS to plain HTTP.
    Follow,
}

/// The most bytes that the answer to a request may have: as many as were asked for. It stands in the
/// request's extensions. Without it, the bound is [`ANSWER_BYTES`] for a cloud, and none for a web
/// server.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct AnswerBytes(pub u64);

/// Returns the error of an answer with more bytes than were asked for. It isn't asked for again.
pub(in crate::store) fn too_long(most_bytes: u64) -> object_store::Error {
    object_store::Error::Generic { store: "answer", source: Box::new(longer(most_bytes)) }
}

fn longer(most_bytes: u64) -> Error {
    Error::corrupt(format!("the answer has more than {most_bytes} bytes")).remedy(
        "check that this is the store that is meant, and restore that file from a backup of the store",
    )
}

/// The way to a service: pooled connections, through the proxy that the environment names. They trust the
/// system's certificate authorities.
#[derive(Clone, Debug)]
pub(super) struct Wire(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    /// The client for bodies that take more than the first packets of a connection. If a connection also sent
    /// little in between, congestion control would forget the capacity of the link (BBR after ten round
    /// trips). Then each large body would begin slowly again.
    sending_client: reqwest::Client,
    /// True if a large body was sent. The first goes by a connection that is there already.
    has_sent: AtomicBool,
    /// The client for addresses that only exist inside a cloud. No proxy leads there, and they answer at
    /// once.
    metadata_client: reqwest::Client,
    gate: Arc<Gate>,
    window: Duration,
    /// The most bytes of an answer if the request sets no bound.
    answer_bytes: u64,
    /// The longest pause that a service may ask for. It is the time for which a request is tried again.
    longest_pause: Duration,
}

impl Wire {
    pub(super) fn new(access: &Access, redirects: Redirects) -> Result<Self> {
        super::choose_cryptography();
        proxies::check()?;
        let window = access.stall_window();
        let builder = || {
            let policy = match redirects {
                Redirects::Refuse => reqwest::redirect::Policy::none(),
                Redirects::Follow => reqwest::redirect::Policy::custom(follow),
            };
            reqwest::Client::builder()
                .user_agent(concat!("git-lfs-cdc/", env!("CARGO_PKG_VERSION")))
                .redirect(policy)
                .http1_only()
                .connect_timeout((access.retry_time / 2).min(Duration::from_secs(CONNECT_SECONDS)))
        };
        let failed = |e: reqwest::Error| Error::internal(format!("preparing HTTP: {}", super::root(&e)));
        let client = || {
            #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
            return proxies::obey(builder()).tcp_user_timeout(window).build().map_err(failed);
            #[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
            return proxies::obey(builder()).build().map_err(failed);
        };
        let metadata = builder().no_proxy().connect_timeout(Duration::from_secs(1));
        Ok(Self(Arc::new(Inner {
            client: client()?,
            sending_client: client()?,
            has_sent: AtomicBool::new(false),
            metadata_client: metadata.build().map_err(failed)?,
            gate: Gate::new(access.concurrency),
            window,
            answer_bytes: match redirects {
                Redirects::Refuse => ANSWER_BYTES,
                // only files are asked for there, and their readers count the bytes
                Redirects::Follow => u64::MAX,
            },
            longest_pause: access.retry_time,
        })))
    }
}

fn follow(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let from_https = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > REDIRECTS {
        attempt.error("too many redirects")
    } else if from_https && attempt.url().scheme() != "https" {
        attempt.error("a redirect from HTTPS to plain HTTP")
    } else if leads_inside(attempt.previous(), attempt.url()) {
        attempt.error("a redirect into this machine or its network")
    } else {
        attempt.follow()
    }
}

/// Returns true if another machine's server redirects us to an address of this machine or its network.
fn leads_inside(previous: &[reqwest::Url], next: &reqwest::Url) -> bool {
    let is_same_host = previous.iter().any(|url| url.host_str() == next.host_str());
    endpoint::is_local(next) && !is_same_host
}

impl HttpConnector for Wire {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // this timeout is `object_store`'s only mark of the clients for addresses inside a cloud
        let timeout = options.get_config_value(&ClientConfigKey::ConnectTimeout);
        let usual = ClientOptions::new().get_config_value(&ClientConfigKey::ConnectTimeout);
        Ok(HttpClient::new(Line { wire: self.clone(), is_metadata: timeout != usual }))
    }
}

/// A client with the interface that `object_store` wants.
#[derive(Debug)]
struct Line {
    wire: Wire,
    is_metadata: bool,
}

#[async_trait]
impl HttpService for Line {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let inner = &self.wire.0;
        let pass = inner.gate.enter().await;
        let (parts, body) = request.into_parts();
        let what = format!("{} {}", parts.method, parts.uri.path());
        let is_post = parts.method == http::Method::POST;
        let url = parts.uri.to_string().parse();
        let url = url.map_err(|e| HttpError::new(HttpErrorKind::Unknown, e))?;
        let most = parts.extensions.get::<AnswerBytes>().map_or(inner.answer_bytes, |most| most.0);
        let moved = parts.extensions.get::<Moved>().cloned().unwrap_or_default();
        let sent = Arc::new(Sent::new(body.content_length() as u64, moved));
        let mut outgoing = reqwest::Request::new(parts.method, url);
        *outgoing.headers_mut() = parts.headers;
        if sent.of > 0 {
            let counted = CountedBody { body, rest: Bytes::new(), sent: sent.clone() };
            *outgoing.body_mut() = Some(reqwest::Body::wrap(counted));
        }
        let client = match () {
            () if self.is_metadata => &inner.metadata_client,
            () if sent.of > FIRST_PACKETS_BYTES && inner.has_sent.swap(true, Ordering::Relaxed) => {
                &inner.sending_client
            }
            () => &inner.client,
        };
        let response = unless_stalled(client.execute(outgoing), &sent, inner.window).await?;
        let response: http::Response<reqwest::Body> = response.map_err(transport)?.into();
        tracing::debug!("{what}: {}", response.status());
        let status = response.status();
        let (mut parts, body) = response.into_parts();
        // a refusal may be longer than the bytes that were asked for, and `read_some` reads only its
        // beginning
        let most = if status.is_success() { most } else { u64::MAX };
        let body = WatchedBody::new(body, inner.window, most, pass);
        if parts.headers.get(CONTENT_RANGE).is_some_and(|value| !is_sound_range(value)) {
            parts.headers.remove(CONTENT_RANGE);
        }
        if status == StatusCode::OK && parts.headers.contains_key(CONTENT_RANGE) {
            // `rclone serve s3` answers a range with this status
            parts.status = StatusCode::PARTIAL_CONTENT;
        }
        if status.is_success() && !is_post {
            inner.gate.answered();
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        let text = read_some(body).await?;
        let refusal = Refusal::read(&parts, &text);
        // S3 answers the completion of an upload in parts before it is done, and may report a failure in the
        // body. In Azure's answer to a batch, each part has a status of its own
        if status.is_success() && (refusal.code.is_empty() || status == StatusCode::ACCEPTED) {
            inner.gate.answered();
            return Ok(HttpResponse::from_parts(parts, text.into()));
        }
        if refusal.is_throttling() {
            inner.gate.throttled(refusal.retry_after.map(|pause| pause.min(inner.longest_pause)));
        }
        match refusal.is_an_answer() {
            true => Ok(HttpResponse::from_parts(parts, text.into())),
            false => Err(HttpError::new(HttpErrorKind::Unknown, refusal)),
        }
    }
}

/// Returns an error from below HTTP. The URL is left out, because it may hold a signature.
fn transport(error: reqwest::Error) -> HttpError {
    let kind = match () {
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () if error.is_connect() => HttpErrorKind::Connect,
        () => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error.without_url())
}

/// The error that too little has moved for too long.
#[derive(Debug)]
pub(super) struct Stalled {
    after: Duration,
    /// True if all was sent, and the service did not answer. Then the link isn't slow.
    pub is_silence: bool,
}

impl std::fmt::Display for Stalled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.is_silence { "no answer has come" } else { "nothing has moved" };
        write!(f, "{what} for {} s", self.after.as_secs_f32().round())
    }
}

impl std::error::Error for Stalled {}

fn stalled(after: Duration, is_silence: bool) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Stalled { after, is_silence })
}

/// Returns the bytes that have to move within a window. A transfer may be as slow as that, however long it
/// takes.
fn least_bytes(window: Duration) -> u64 {
    (window.as_secs_f64() * SLOWEST_BYTES_PER_SECOND as f64) as u64
}

/// The part of a request's body that was handed to the connection.
#[derive(Debug)]
struct Sent {
    of: u64,
    bytes: AtomicU64,
    began: Instant,
    /// The time when the connection took the last bytes, after `began`.
    last_ms: AtomicU64,
    /// The progress over all tries.
    moved: Moved,
}

impl Sent {
    fn new(of: u64, moved: Moved) -> Self {
        let (bytes, last_ms) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { of, bytes, began: Instant::now(), last_ms, moved }
    }

    fn take(&self, bytes: u64) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.moved.reached(before + bytes);
    }

    fn is_all(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.of
    }

    fn since_last(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }
}

/// Waits for the answer. Gives up if the request's body stops moving, or if no answer comes after it. The
/// answer to a large body may take twice as long. Some of the body may still stand in the system's buffers,
/// and the service needs longer to store it.
async fn unless_stalled<F: Future>(
    request: F,
    sent: &Sent,
    window: Duration,
) -> Result<F::Output, HttpError> {
    let patience = if sent.of > SMALL_REQUEST_BYTES { window * 2 } else { window };
    let mut before = 0;
    let mut request = std::pin::pin!(request);
    loop {
        let silence = sent.since_last();
        let wait = if sent.is_all() { patience.saturating_sub(silence) } else { window };
        if let Ok(answer) = tokio::time::timeout(wait, &mut request).await {
            return Ok(answer);
        }
        if sent.is_all() {
            if sent.since_last() >= patience {
                return Err(stalled(patience, true));
            }
            continue;
        }
        let now = sent.bytes.load(Ordering::Relaxed);
        if now - before < least_bytes(window) {
            return Err(stalled(window, false));
        }
        before = now;
    }
}

/// A request's body in small pieces, which are counted when the connection takes them.
struct CountedBody {
    body: HttpRequestBody,
    rest: Bytes,
    sent: Arc<Sent>,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => self.rest = frame.into_data().unwrap_or_default(),
                other => return other,
            }
        }
        let length = self.rest.len().min(SEND_BYTES);
        let piece = self.rest.split_to(length);
        self.sent.take(length as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.sent.of - self.sent.bytes.load(Ordering::Relaxed))
    }
}

/// A response's body that ends in an error if it moves too slowly or has too many bytes. The request counts
/// as under way until this is dropped.
struct WatchedBody {
    body: reqwest::Body,
    window: Duration,
    end_of_window: Pin<Box<Sleep>>,
    bytes_in_window: u64,
    /// The bytes that may still come.
    left_bytes: u64,
    most_bytes: u64,
    _pass: Pass,
}

impl WatchedBody {
    fn new(body: reqwest::Body, window: Duration, most_bytes: u64, pass: Pass) -> Self {
        let end_of_window = Box::pin(tokio::time::sleep(window));
        let (bytes_in_window, left_bytes) = (0, most_bytes);
        Self { body, window, end_of_window, bytes_in_window, left_bytes, most_bytes, _pass: pass }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let frame = frame.map(|frame| frame.map_err(transport));
            if let Some(data) = frame.as_ref().and_then(|f| f.as_ref().ok()).and_then(Frame::data_ref) {
                let bytes = data.len() as u64;
                self.bytes_in_window += bytes;
                match self.left_bytes.checked_sub(bytes) {
                    Some(left) => self.left_bytes = left,
                    None => {
                        let error = HttpError::new(HttpErrorKind::Unknown, longer(self.most_bytes));
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            return Poll::Ready(frame);
        }
        while self.end_of_window.as_mut().poll(context).is_ready() {
            if self.bytes_in_window < least_bytes(self.window) {
                return Poll::Ready(Some(Err(stalled(self.window, false))));
            }
            let window = self.window;
            self.end_of_window.as_mut().reset(Instant::now() + window);
            self.bytes_in_window = 0;
        }
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns true if the numbers of a `Content-Range` are safe to calculate with.
fn is_sound_range(value: &http::HeaderValue) -> bool {
    let numbers = value.to_str().unwrap_or_default().split(|c: char| !c.is_ascii_digit());
    numbers
        .filter(|digits| !digits.is_empty())
        .all(|digits| digits.parse::<u64>().is_ok_and(|n| n < u64::MAX))
}

/// Reads the beginning of a refusal's body. The rest says nothing more.
async fn read_some(mut body: WatchedBody) -> Result<Bytes, HttpError> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            text.extend_from_slice(&data);
        }
        if text.len() >= REFUSAL_BYTES {
            text.truncate(REFUSAL_BYTES);
            break;
        }
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_elses_server_sends_us_inside() {
        let url = |text: &str| reqwest::Url::parse(text).unwrap();
        for (from, to, is_refused) in [
            ("https://cdn.example.com/a", "https://127.0.0.1/a", true),
            ("http://cdn.example.com/a", "http://169.254.169.254/latest", true),
            ("http://cdn.example.com/a", "http://10.0.0.7/a", true),
            ("http://cdn.example.com/a", "http://localhost:8080/a", true),
            ("http://10.0.0.7/a", "http://10.0.0.7:8080/b", false),
            ("http://cdn.example.com/a", "http://files.example.com/a", false),
        ] {
            assert_eq!(leads_inside(&[url(from)], &url(to)), is_refused, "{from} to {to}");
        }
    }
}
