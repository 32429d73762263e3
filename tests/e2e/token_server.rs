//! A stand-in for the services inside a cloud that give credentials to machines, containers and jobs: AWS's
//! token service and its metadata services.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use percent_encoding::percent_decode_str;

use crate::s3::Role;

const EXPIRY: &str = "2099-01-01T00:00:00Z";
/// The role that jobs with [`JOB_TOKEN`] may take.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/game-pull";
/// The token that identifies a job.
pub const JOB_TOKEN: &str = "a-token-of-the-job";

/// A server that gives the keys for each request of the right form. It lives as long as the tests.
pub struct TokenServer {
    pub url: String,
}

impl TokenServer {
    /// Gives out the keys of a role.
    pub fn start(role: Role) -> TokenServer {
        let (id, secret) = role.keys();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // a client that hangs up early misses nothing
                let _ = answer(stream, &id, &secret);
            }
        });
        TokenServer { url }
    }
}

fn answer(mut stream: TcpStream, id: &str, secret: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    let mut line = String::new();
    let mut length = 0;
    reader.read_line(&mut request)?;
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
        line.clear();
    }
    let mut form = vec![0; length];
    reader.read_exact(&mut form)?;
    let form = percent_decode_str(&String::from_utf8_lossy(&form)).decode_utf8_lossy().into_owned();
    let mut words = request.split_whitespace();
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let (status, body) = match respond(method, path, &form, &Keys { id, secret }) {
        Some(body) => ("200 OK", body),
        None => (
            "403 Forbidden",
            "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>".into(),
        ),
    };
    let headers = format!("Content-Length: {}\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600", body.len());
    write!(stream, "HTTP/1.1 {status}\r\n{headers}\r\nConnection: close\r\n\r\n{body}")
}

/// Keys as the metadata services give them.
struct Keys<'a> {
    id: &'a str,
    secret: &'a str,
}

impl Keys<'_> {
    fn json(&self) -> String {
        let Keys { id, secret } = self;
        format!(
            r#"{{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "{id}", "SecretAccessKey": "{secret}",
                 "Token": "session", "Expiration": "{EXPIRY}", "LastUpdated": "2026-01-01T00:00:00Z"}}"#
        )
    }

    fn xml(&self) -> String {
        let Keys { id, secret } = self;
        format!(
            "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
             <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>session</SessionToken><Expiration>{EXPIRY}</Expiration></Credentials>\
             </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
    }
}

/// Returns the answer to a request, or none to refuse it.
fn respond(method: &str, path: &str, form: &str, keys: &Keys<'_>) -> Option<String> {
    match (method, path) {
        ("GET", "/container") => Some(keys.json()),
        ("PUT", "/latest/api/token") => Some("token".into()),
        ("GET", "/latest/meta-data/iam/security-credentials/") => Some("machine".into()),
        ("GET", "/latest/meta-data/iam/security-credentials/machine") => Some(keys.json()),
        ("POST", "/") => {
            let is_right = form.contains("Action=AssumeRoleWithWebIdentity")
                && form.contains(&format!("RoleArn={ROLE}"))
                && form.contains(&format!("WebIdentityToken={JOB_TOKEN}"));
            is_right.then(|| keys.xml())
        }
        _ => None,
    }
}
