//! Answers that come from the proxy itself, in the form of S3.

use std::time::{Duration, SystemTime};

/// A status, fields, and an error body as S3 has it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    fields: Vec<(&'static str, String)>,
    body: String,
    /// How far the server's clock is from this machine's.
    clock_ahead: Duration,
}

impl Answer {
    pub fn s3(status: u16, code: &str, message: &str) -> Answer {
        Answer::s3_with(status, code, message, "")
    }

    /// With more elements in the body.
    pub fn s3_with(status: u16, code: &str, message: &str, elements: &str) -> Answer {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
             {elements}<RequestId>4442587FB7D0A2F9</RequestId><HostId>none</HostId></Error>"
        );
        let fields = vec![("Content-Type", "application/xml".to_owned())];
        Answer { status, fields, body, clock_ahead: Duration::ZERO }
    }

    pub fn field(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }

    /// As it goes over the wire. An answer to HEAD has no body.
    pub(super) fn wire(&self, to_head: bool) -> Vec<u8> {
        let date = httpdate::fmt_http_date(SystemTime::now() + self.clock_ahead);
        let mut text = format!("HTTP/1.1 {} {}\r\nDate: {date}\r\n", self.status, reason(self.status));
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        if !to_head {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }

    pub(super) fn body_bytes(&self, to_head: bool) -> u64 {
        if to_head { 0 } else { self.body.len() as u64 }
    }

    pub fn internal_error() -> Answer {
        Answer::s3(500, "InternalError", "We encountered an internal error. Please try again.")
    }

    pub fn slow_down() -> Answer {
        Answer::s3(503, "SlowDown", "Please reduce your request rate.")
    }

    pub fn too_many_requests(retry_after: &str) -> Answer {
        Answer::s3(429, "TooManyRequests", "Please reduce your request rate.")
            .field("Retry-After", retry_after)
    }

    pub fn access_denied() -> Answer {
        Answer::s3(403, "AccessDenied", "Access Denied")
    }

    pub fn expired_token() -> Answer {
        Answer::s3(400, "ExpiredToken", "The provided token has expired.")
    }

    /// This machine's clock is five hours late.
    pub fn clock_skew() -> Answer {
        let times = "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>";
        let message = "The difference between the request time and the current time is too large.";
        let answer = Answer::s3_with(403, "RequestTimeTooSkewed", message, times);
        Answer { clock_ahead: Duration::from_secs(5 * 3600 + 30), ..answer }
    }

    /// The bucket is in `region`, and the client asks another one.
    pub fn permanent_redirect(bucket: &str, region: &str) -> Answer {
        let message = "The bucket you are attempting to access must be addressed using the specified endpoint. \
                       Please send all future requests to this endpoint.";
        let endpoint = format!("{bucket}.s3.{region}.amazonaws.com");
        let elements = format!("<Endpoint>{endpoint}</Endpoint><Bucket>{bucket}</Bucket>");
        Answer::s3_with(301, "PermanentRedirect", message, &elements).field("x-amz-bucket-region", region)
    }

    /// The signature names another region than `region`.
    pub fn malformed_authorization(region: &str) -> Answer {
        let message = format!(
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting '{region}'"
        );
        let elements = format!("<Region>{region}</Region>");
        Answer::s3_with(400, "AuthorizationHeaderMalformed", &message, &elements)
            .field("x-amz-bucket-region", region)
    }

    pub fn no_such_bucket(bucket: &str) -> Answer {
        let elements = format!("<BucketName>{bucket}</BucketName>");
        Answer::s3_with(404, "NoSuchBucket", "The specified bucket does not exist", &elements)
    }

    pub fn quota(status: u16) -> Answer {
        Answer::s3(status, "QuotaExceeded", "The quota of this bucket is exceeded.")
    }

    pub fn conflict() -> Answer {
        let message = "A conflicting conditional operation is currently in progress against this resource. \
                       Please try again.";
        Answer::s3(409, "ConditionalRequestConflict", message)
    }

    pub fn precondition_failed() -> Answer {
        let message = "At least one of the pre-conditions you specified did not hold";
        Answer::s3_with(412, "PreconditionFailed", message, "<Condition>If-None-Match</Condition>")
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        412 => "Precondition Failed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}
