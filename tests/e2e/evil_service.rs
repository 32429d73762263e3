//! A hostile or broken service: it speaks as much of S3's protocol as a reader asks, and lies.

use std::io::{self, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use percent_encoding::percent_decode_str;

use crate::proxy::Head;

const MIB: usize = 1024 * 1024;
const STORE_JSON: &str = r#"{"format": "git-lfs-cdc store", "version": 1, "suite": "gear-16k-n2",
    "store_id": "abababababababababababababababab"}"#;
const LIST_START: &str = "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name><KeyCount>1</KeyCount>\
                          <MaxKeys>1000</MaxKeys>";
const LIST_END: &str = "</ListBucketResult>";

/// A kind of such a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evil {
    /// One page of the index's listing never ends.
    EndlessPage,
    /// Each page of the listing promises another.
    EndlessPages,
    /// Each page is empty, and promises the same next one.
    SamePage,
    /// Forty segments of 100 bytes are listed; each has a GiB.
    LargeSegments,
    /// A segment of 300 KiB is listed. A request for any part gets a GiB.
    LongRange,
    /// Forty condemned lists of 100 bytes are listed; each has 256 MiB.
    LargeCondemned,
    /// They are said to be as large as they are.
    ManyCondemned,
    /// A description without end.
    LargeDescription,
    /// Everything is refused, and asked for again at the end of time.
    AbsurdPause,
    /// Folders have objects of their own, as some tools make them. That is all.
    FolderMarkers,
}

/// Starts the service, and returns its address. It lives as long as the tests.
pub fn start(evil: Evil) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // a client that has enough hangs up
            thread::spawn(move || drop(serve(evil, &stream)));
        }
    });
    address
}

fn serve(evil: Evil, mut stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(head) = Head::read(&mut reader)? {
        let target = head.first.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parameter = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            percent_decode_str(value.unwrap_or_default()).decode_utf8_lossy().into_owned()
        };
        if evil == Evil::AbsurdPause {
            stream.write_all(
                b"HTTP/1.1 503 Busy\r\nretry-after: 18446744073709551615\r\ncontent-length: 0\r\n\r\n",
            )?;
        } else if query.contains("list-type") {
            list(evil, &parameter("prefix"), &parameter("continuation-token"), stream)?;
        } else if path.ends_with("store.json") && evil == Evil::LargeDescription {
            zeros(stream, 1024 * MIB, "200 OK", "")?;
        } else if path.ends_with("store.json") {
            whole(stream, STORE_JSON)?;
        } else if path.contains("/index/") && evil == Evil::LargeSegments {
            zeros(stream, 1024 * MIB, "200 OK", "")?;
        } else if path.contains("/index/") && evil == Evil::LongRange {
            let wanted = head.field("range").and_then(|range| range.strip_prefix("bytes=")).unwrap_or("0-0");
            let range = format!("content-range: bytes {wanted}/{}\r\n", 300 * 1024);
            zeros(stream, 1024 * MIB, "206 Partial Content", &range)?;
        } else if path.contains("/condemned/") {
            zeros(stream, 256 * MIB, "200 OK", "")?;
        } else {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
        }
    }
    Ok(())
}

fn list(evil: Evil, prefix: &str, token: &str, mut stream: &TcpStream) -> io::Result<()> {
    let is_index = prefix.ends_with("index/");
    let is_condemned = prefix.ends_with("condemned/");
    let page = |names: std::ops::Range<usize>, bytes: usize, next: Option<String>| {
        let entries: String =
            names.map(|number| entry(&format!("{prefix}{}", name(number)), bytes)).collect();
        let next = next.map_or("<IsTruncated>false</IsTruncated>".to_owned(), |next| {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>")
        });
        format!("{LIST_START}{next}{entries}{LIST_END}")
    };
    let number: usize = token.parse().unwrap_or_default();
    match evil {
        Evil::EndlessPage if is_index => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            let entries: String =
                (0..4000).map(|number| entry(&format!("{prefix}{}", name(number)), 100)).collect();
            let mut piece = format!("{LIST_START}<IsTruncated>false</IsTruncated>");
            loop {
                write!(stream, "{:x}\r\n{piece}\r\n", piece.len())?;
                piece = entries.clone();
            }
        }
        Evil::EndlessPages if is_index => {
            let names = number * 1000..number * 1000 + 1000;
            whole(stream, &page(names, 100, Some((number + 1).to_string())))
        }
        Evil::SamePage if is_index => whole(stream, &page(0..0, 0, Some("again".into()))),
        Evil::LargeSegments if is_index => whole(stream, &page(0..40, 100, None)),
        Evil::LongRange if is_index => whole(stream, &page(0..1, 300 * 1024, None)),
        Evil::LargeCondemned if is_condemned => whole(stream, &page(0..40, 100, None)),
        Evil::ManyCondemned if is_condemned => whole(stream, &page(0..40, 256 * MIB, None)),
        Evil::FolderMarkers => {
            let marker = entry(prefix, 0);
            whole(stream, &format!("{LIST_START}<IsTruncated>false</IsTruncated>{marker}{LIST_END}"))
        }
        _ => whole(stream, &page(0..0, 0, None)),
    }
}

/// A name as index segments and condemned lists have it.
fn name(number: usize) -> String {
    format!("{number:032x}-{number:064x}")
}

fn entry(key: &str, bytes: usize) -> String {
    format!(
        "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>\"x\"</ETag>\
         <Size>{bytes}</Size></Contents>"
    )
}

const FIELDS: &str = "etag: \"x\"\r\nlast-modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";

fn whole(mut stream: &TcpStream, body: &str) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\n{FIELDS}content-length: {}\r\n\r\n{body}", body.len())
}

fn zeros(mut stream: &TcpStream, length: usize, status: &str, fields: &str) -> io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\n{FIELDS}{fields}content-length: {length}\r\n\r\n")?;
    (0..length / MIB).try_for_each(|_| stream.write_all(&vec![0; MIB]))
}
