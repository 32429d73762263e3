//! A stand-in for the places inside a cloud that give credentials to machines, containers and jobs: AWS's token service and
//! its metadata services, as far as they are asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use percent_encoding::percent_decode_str;

const EXPIRY: &str = "2099-01-01T00:00:00Z";
/// The role that jobs with [`JOB_TOKEN`] may take.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/game-pull";
/// What says who a job is.
pub const JOB_TOKEN: &str = "a-token-of-the-job";

/// Gives the keys to whoever asks in the right form; lives as long as the tests.
pub struct TokenServer {
    pub url: String,
}

impl TokenServer {
    pub fn start((id, secret): (String, String)) -> TokenServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // who hangs up too early has no answer to miss
                let _ = answer(stream, &id, &secret);
            }
        });
        TokenServer { url }
    }
}

fn answer(mut stream: TcpStream, id: &str, secret: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut request, mut line, mut length) = (String::new(), String::new(), 0);
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
    let asked = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = match respond(asked, &form, id, secret) {
        Some(body) => ("200 OK", body),
        None => (
            "403 Forbidden",
            "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>".into(),
        ),
    };
    let headers = format!("Content-Length: {}\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600", body.len());
    write!(stream, "HTTP/1.1 {status}\r\n{headers}\r\nConnection: close\r\n\r\n{body}")
}

/// What is answered to a method, a path and a form; none is a refusal.
fn respond(asked: (&str, &str), form: &str, id: &str, secret: &str) -> Option<String> {
    let keys = format!(
        r#"{{"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "{id}", "SecretAccessKey": "{secret}",
             "Token": "session", "Expiration": "{EXPIRY}", "LastUpdated": "2026-01-01T00:00:00Z"}}"#
    );
    match asked {
        ("GET", "/container") => Some(keys),
        ("PUT", "/latest/api/token") => Some("token".into()),
        ("GET", "/latest/meta-data/iam/security-credentials/") => Some("machine".into()),
        ("GET", "/latest/meta-data/iam/security-credentials/machine") => Some(keys),
        ("POST", "/") => {
            let is_right = form.contains("Action=AssumeRoleWithWebIdentity")
                && form.contains(&format!("RoleArn={ROLE}"))
                && form.contains(&format!("WebIdentityToken={JOB_TOKEN}"));
            is_right.then(|| {
                format!(
                    "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                     <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                     <SessionToken>session</SessionToken><Expiration>{EXPIRY}</Expiration></Credentials>\
                     </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
                )
            })
        }
        _ => None,
    }
}
