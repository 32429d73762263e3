//! The refusal of a service: its status, its own code and message, and the headers that help.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, RETRY_AFTER};
use http::response::Parts;
use http::{StatusCode, header};
use quick_xml::events::Event;

/// Longest pause that a service can ask for. A longer one is shortened to this.
const RETRY_AFTER_SECONDS: u64 = 24 * 60 * 60;

/// A response that is no success.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// The service's own code, for example `NoSuchBucket`; empty if it has none.
    pub code: String,
    /// The service's explanation; may be empty.
    pub message: String,
    /// The region where the bucket really is (S3).
    pub region: Option<String>,
    /// The time to wait before the next request.
    pub retry_after: Option<Duration>,
    /// The difference between this machine's clock and the service's.
    pub clock_is_off: Duration,
}

/// Reads a response that is no success, and returns its message and the time to wait. For tests of untrusted
/// responses.
#[doc(hidden)]
pub fn read_refusal(
    status: u16,
    fields: &[(&str, &[u8])],
    body: &[u8],
) -> Option<(String, Option<Duration>)> {
    let mut response = http::Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let refusal = Refusal::read(&response.body(()).ok()?.into_parts().0, body);
    Some((refusal.to_string(), refusal.retry_after))
}

impl Refusal {
    /// Reads the response. Its body is untrusted, and may be anything.
    pub(super) fn read(parts: &Parts, body: &[u8]) -> Self {
        let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (code, message) = read_body(body);
        Self {
            status: parts.status,
            code: text("x-ms-error-code").filter(|_| code.is_empty()).unwrap_or(code),
            message,
            region: text("x-amz-bucket-region"),
            retry_after: retry_after(&parts.headers),
            clock_is_off: clock_is_off(&parts.headers).unwrap_or_default(),
        }
    }

    /// Returns true if `object_store` understands the response as an answer: not there, not modified, failed
    /// condition, or conflict.
    pub(super) fn is_an_answer(&self) -> bool {
        let answers = [
            StatusCode::NOT_FOUND,
            StatusCode::NOT_MODIFIED,
            StatusCode::PRECONDITION_FAILED,
            StatusCode::CONFLICT,
        ];
        answers.contains(&self.status) && !self.is_missing_bucket()
    }

    /// Returns true if there is no such bucket, and not only no such object in it.
    pub(super) fn is_missing_bucket(&self) -> bool {
        matches!(self.code.as_str(), "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted")
    }

    /// Returns true if the service would serve fewer requests.
    pub(super) fn is_throttling(&self) -> bool {
        matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            || matches!(self.code.as_str(), "SlowDown" | "TooManyRequests" | "ServerBusy")
    }

    /// Returns true if the same request may be served later.
    pub(super) fn is_transient(&self) -> bool {
        let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
        let lasting = [StatusCode::NOT_IMPLEMENTED, StatusCode::INSUFFICIENT_STORAGE];
        (self.status.is_server_error() && !lasting.contains(&self.status) && !self.is_out_of_room())
            || passing.contains(&self.status)
            || matches!(
                self.code.as_str(),
                "RequestTimeout" | "SlowDown" | "InternalError" | "OperationAborted"
            )
    }

    /// Returns true if the same request may be served without its condition. Then the service doesn't
    /// understand the request, and its code doesn't name another reason.
    pub(super) fn may_be_of_a_condition(&self) -> bool {
        let codes =
            ["", "NotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedHeader", "BadRequest"];
        self.status == StatusCode::NOT_IMPLEMENTED
            || (self.status == StatusCode::BAD_REQUEST && codes.contains(&self.code.as_str()))
    }

    /// Returns true if a quota or a disk is full.
    pub(super) fn is_out_of_room(&self) -> bool {
        let words = ["Quota", "StorageFull", "InsufficientCapacity", "NoSpace"];
        self.status == StatusCode::INSUFFICIENT_STORAGE || words.iter().any(|word| self.code.contains(word))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service answered {}", self.status.as_u16())?;
        match (self.code.as_str(), self.message.as_str()) {
            ("", "") => write!(f, " {}", self.status.canonical_reason().unwrap_or_default()),
            (code, "") => write!(f, " {code}"),
            ("", message) => write!(f, ": {message}"),
            (code, message) => write!(f, " {code}: {message}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Reads `Retry-After` in seconds or as a date. Returns at most a day.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.bytes().all(|b| b.is_ascii_digit()) {
        true => Duration::from_secs(text.parse().unwrap_or(u64::MAX)),
        false => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()?,
    };
    Some(pause.min(Duration::from_secs(RETRY_AFTER_SECONDS)))
}

fn clock_is_off(headers: &HeaderMap) -> Option<Duration> {
    let theirs = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let ours = SystemTime::now();
    ours.duration_since(theirs).or_else(|_| theirs.duration_since(ours)).ok()
}

/// Returns the code and message of an XML error (S3, Google, Azure) or a JSON one (services that give
/// tokens).
fn read_body(body: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('{') {
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let word = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| json.pointer(key)?.as_str());
            shorten(found.unwrap_or_default())
        };
        return (word(&["/error", "/error/status"]), word(&["/error_description", "/error/message"]));
    }
    let (mut code, mut message) = (String::new(), String::new());
    let mut reader = quick_xml::Reader::from_str(&text);
    let mut element = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => element = start.local_name().as_ref().to_vec(),
            Ok(Event::End(_)) => element.clear(),
            Ok(Event::Text(content)) => match element.as_slice() {
                b"Code" => code.push_str(&String::from_utf8_lossy(&content)),
                b"Message" => message.push_str(&String::from_utf8_lossy(&content)),
                _ => {}
            },
            Ok(Event::Eof) | Err(_) => return (shorten(&code), shorten(&message)),
            Ok(_) => {}
        }
    }
}

/// Returns the first line, cut to 300 characters.
fn shorten(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, headers: &[(&str, &str)], body: &str) -> Refusal {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Refusal::read(&response.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    #[test]
    fn codes_and_messages_are_found_in_each_form() {
        let xml = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>The bucket\nis not</Message>\
                   <AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";
        let found = refusal(404, &[], xml);
        assert_eq!((found.code.as_str(), found.message.as_str()), ("NoSuchBucket", "The bucket"));
        assert!(found.is_missing_bucket() && !found.is_an_answer());
        assert!(!found.to_string().contains("AKIA"));
        let json = "{\"error\":\"invalid_grant\",\"error_description\":\"no such role\"}";
        assert_eq!(
            refusal(400, &[], json).to_string(),
            "the service answered 400 invalid_grant: no such role"
        );
        assert_eq!(
            refusal(403, &[("x-ms-error-code", "AuthorizationFailure")], "").code,
            "AuthorizationFailure"
        );
        assert_eq!(refusal(502, &[], "<html>oh</ht").to_string(), "the service answered 502 Bad Gateway");
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        assert_eq!(refusal(429, &[("retry-after", "7")], "").retry_after, Some(Duration::from_secs(7)));
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        let pause = refusal(503, &[("retry-after", &later)], "").retry_after.unwrap();
        assert!((50..=60).contains(&pause.as_secs()));
        assert_eq!(refusal(503, &[("retry-after", "soon")], "").retry_after, None);
    }

    /// Pauses are added to times, so a pause that no clock reaches must not overflow.
    #[test]
    fn an_absurd_pause_is_a_long_one() {
        let day = Some(Duration::from_secs(RETRY_AFTER_SECONDS));
        for absurd in ["18446744073709551615", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(refusal(503, &[("retry-after", absurd)], "").retry_after, day, "{absurd}");
        }
        for none in ["-1", "Thu, 01 Jan 1970 00:00:00 GMT"] {
            assert_eq!(refusal(503, &[("retry-after", none)], "").retry_after, None, "{none}");
        }
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        for (status, transient) in
            [(500, true), (503, true), (429, true), (501, false), (403, false), (507, false)]
        {
            assert_eq!(refusal(status, &[], "").is_transient(), transient, "{status}");
        }
        assert!(refusal(400, &[], "<Error><Code>RequestTimeout</Code></Error>").is_transient());
        assert!(!refusal(500, &[], "<Error><Code>QuotaExceeded</Code></Error>").is_transient());
        assert!(refusal(412, &[], "").is_an_answer());
        let code = |code: &str| format!("<Error><Code>{code}</Code></Error>");
        for (status, word, of_a_condition) in [
            (501, "", true),
            (501, "NotImplemented", true),
            (400, "InvalidArgument", true),
            (400, "ExpiredToken", false),
            (400, "KMS.DisabledException", false),
            (403, "AccessDenied", false),
            (412, "PreconditionFailed", false),
            (500, "InternalError", false),
        ] {
            let refusal = refusal(status, &[], &code(word));
            assert_eq!(refusal.may_be_of_a_condition(), of_a_condition, "{status} {word}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_survived(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..500)) {
            let _ = read_body(&body);
        }
    }
}
