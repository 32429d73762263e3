//! Google Cloud Storage, as far as it can be tested without Google. A small server notes the shape of
//! requests, and credentials are made on this machine. These are not tested: the acceptance of credentials by
//! Google, tokens from its metadata server, and external accounts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Mutex;

use std::path::PathBuf;

use super::super::*;
use crate::id::{CommitId, ContentHash, Nonce};

/// The head of each request and the body's length, in the order of arrival.
type Log = Arc<Mutex<Vec<(String, usize)>>>;

/// Answers each request with the result of `answer` for its first line: status, headers and body.
fn server(answer: fn(&str) -> (u16, String, Vec<u8>)) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let log = Log::default();
    let seen = log.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let seen = seen.clone();
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some((head, length)) = read_request(&mut reader) {
                    let (status, headers, body) = answer(head.lines().next().unwrap());
                    seen.lock().unwrap().push((head, length));
                    let length = body.len();
                    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n");
                    stream.write_all(head.as_bytes()).unwrap();
                    stream.write_all(&body).unwrap();
                }
            });
        }
    });
    (address, log)
}

fn read_request(reader: &mut impl BufRead) -> Option<(String, usize)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    // names come percent-encoded to the last dot
    let head = percent_encoding::percent_decode_str(&head).decode_utf8().unwrap().into_owned();
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |text| text.trim().parse().unwrap());
    std::io::copy(&mut reader.take(length as u64), &mut std::io::sink()).unwrap();
    Some((head, length))
}

/// Answers for a bucket with a store in it, and nothing else.
fn bucket(line: &str) -> (u16, String, Vec<u8>) {
    let object = |body: &[u8], status, more: &str| {
        let headers = format!("ETag: \"1\"\r\nLast-Modified: Wed, 25 Nov 2026 07:28:00 GMT\r\n{more}");
        (status, headers, body.to_vec())
    };
    let description = StoreDescription { creates: true, ..StoreDescription::new(None).unwrap() };
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["GET", "/team/models/store.json", _] => object(&description.write().unwrap(), 200, ""),
        ["GET", path, _] if path.starts_with("/team?list-type=2") => {
            (200, String::new(), b"<ListBucketResult></ListBucketResult>".to_vec())
        }
        ["GET", path, _] if path.starts_with("/team/models/blocks/") => {
            object(b"3456", 206, "Content-Range: bytes 3-6/10\r\n")
        }
        ["PUT", ..] => object(b"", 200, ""),
        _ => (404, String::new(), b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
    }
}

/// Makes a service account with a key of its own, so that its tokens are signed on this machine.
fn service_account(folder: &FilePath) -> PathBuf {
    let key = folder.join("key.pem");
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "RSA", "-out"]).arg(&key).output();
    let made = made.expect("openssl starts; remedy: install openssl");
    assert!(made.status.success(), "openssl made no key: {}", String::from_utf8_lossy(&made.stderr));
    let account = serde_json::json!({
        "type": "service_account",
        "project_id": "team",
        "private_key_id": "1",
        "private_key": std::fs::read_to_string(&key).unwrap(),
        "client_email": "tests@team.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    let file = folder.join("account.json");
    std::fs::write(&file, account.to_string()).unwrap();
    file
}

#[test]
#[ignore = "needs openssl"]
fn requests_have_the_shape_that_google_documents() {
    let folder = tempfile::tempdir().unwrap();
    let account = service_account(folder.path());
    // SAFETY: no other test reads the variable, and no other test uses Google
    unsafe { std::env::set_var("GOOGLE_APPLICATION_CREDENTIALS", account) };
    let (endpoint, log) = server(bucket);
    let access =
        Access { endpoint: Some(endpoint), storage_class: Some("NEARLINE".into()), ..Access::default() };
    let url = StoreUrl::parse("gs://team/models").unwrap();
    let store = Store::open(&url, FilePath::new("/"), &access).unwrap();
    assert_eq!(store.is_anonymous(), Some(false));
    assert_eq!(store.list_segments().unwrap(), []);
    let block = BlockId { hash: ContentHash::of(b"block"), nonce: Nonce([7; 8]) };
    store
        .put_block(
            &block,
            vec![Bytes::from_static(b"0123"), Bytes::from_static(b"456789")],
            &Moved::default(),
        )
        .wait()
        .unwrap();
    assert_eq!(store.get_block_range(&block, 3..7, Vec::new(), &Moved::default()).wait().unwrap(), b"3456");
    let segment = SegmentId { id: CommitId([1; 16]), hash: ContentHash::of(b"") };
    store.put_segment(&segment, Vec::new(), &Moved::default()).wait().unwrap();

    let log = log.lock().unwrap();
    let lines: Vec<_> = log.iter().map(|(head, _)| head.lines().next().unwrap()).collect();
    let path = format!("/team/models/{}", layout::block(&block));
    assert_eq!(lines[0], "GET /team/models/store.json HTTP/1.1");
    assert!(lines[1].starts_with("GET /team?list-type=2&delimiter=/&prefix=models/index/"), "{}", lines[1]);
    assert_eq!(lines[2], format!("PUT {path} HTTP/1.1"));
    assert_eq!(lines[3], format!("GET {path} HTTP/1.1"));
    assert_eq!(lines[4], format!("PUT /team/models/index/{segment} HTTP/1.1"));
    for (head, _) in log.iter() {
        assert!(head.to_lowercase().contains("authorization: bearer ey"), "{head}");
    }
    let has = |number: usize, header: &str| log[number].0.to_lowercase().lines().any(|line| line == header);
    assert!(has(2, "x-goog-if-generation-match: 0"), "{}", log[2].0);
    assert!(has(2, "x-goog-storage-class: nearline"), "{}", log[2].0);
    assert!(has(3, "range: bytes=3-6"), "{}", log[3].0);
    assert_eq!((log[2].1, log[4].1), (10, 0));
}
