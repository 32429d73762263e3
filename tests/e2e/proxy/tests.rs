//! Tests of the proxy itself: everything comes through unchanged, and each fault happens as its documentation
//! says.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Head, read_body};
use super::record::overwritten;
use super::{Answer, Exchange, Fault, Pace, Proxy, Thing};

const BLOCK: &str = "/lfs/some/prefix/blocks/ab/abcd.zst";
/// The answer to every GET.
const CONTENT: &[u8] = b"0123456789";

/// Paths, and the bodies that were put there.
type Stored = Vec<(String, Vec<u8>)>;

/// A server that knows little: it keeps all PUTs, and answers every GET alike.
struct Upstream {
    address: String,
    stored: Arc<Mutex<Stored>>,
}

impl Upstream {
    fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stored = Arc::new(Mutex::new(Vec::new()));
        let kept = stored.clone();
        // ends with the process
        thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = kept.clone();
                thread::spawn(move || answer_one(stream.unwrap(), &kept));
            }
        });
        Upstream { address, stored }
    }

    fn stored(&self) -> Vec<(String, Vec<u8>)> {
        self.stored.lock().unwrap().clone()
    }
}

fn answer_one(stream: TcpStream, kept: &Mutex<Vec<(String, Vec<u8>)>>) {
    let mut reader = BufReader::new(&stream);
    let mut writer = &stream;
    let Ok(Some(head)) = Head::read(&mut reader) else { return };
    let Ok(body) = read_body(&mut reader, head.request_framing()) else { return };
    if head.first.starts_with("PUT") {
        kept.lock().unwrap().push((head.first.clone(), body));
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    } else if head.first.contains("chunked") {
        writer
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6;x=y\r\n456789\r\n0\r\n\r\n")
            .unwrap();
    } else if head.first.contains("until-close") {
        writer.write_all(b"HTTP/1.1 200 OK\r\n\r\n0123456789").unwrap();
    } else if head.first.contains("nothing") {
        writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    } else {
        let length = CONTENT.len();
        let host = head.field("host").unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nX-Host: {host}\r\nContent-Length: {length}\r\n\r\n");
        writer.write_all(answer.as_bytes()).unwrap();
        if !head.first.starts_with("HEAD") {
            writer.write_all(CONTENT).unwrap();
        }
    }
}

/// A client that sees all bytes on the wire.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(proxy: &Proxy) -> Client {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        // only a test that is about to fail waits that long
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Client(BufReader::new(stream))
    }

    fn send(&mut self, text: &str, body: &[u8]) {
        let bytes = [text.replace('\n', "\r\n").as_bytes(), body].concat();
        self.0.get_mut().write_all(&bytes).unwrap();
    }

    fn get(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\nHost: original\n\n"), b"");
    }

    fn put(&mut self, path: &str, body: &[u8]) {
        let text = format!("PUT {path} HTTP/1.1\nHost: original\nContent-Length: {}\n\n", body.len());
        self.send(&text, body);
    }

    /// Status and body.
    fn answer(&mut self, to_head: bool) -> (u16, Vec<u8>) {
        let head = Head::read(&mut self.0).unwrap().expect("an answer");
        let body = read_body(&mut self.0, head.answer_framing(to_head)).unwrap();
        (head.status(), body)
    }

    /// Everything up to the end of the connection, and how it ended.
    fn rest(&mut self) -> (Vec<u8>, Option<ErrorKind>) {
        let mut bytes = Vec::new();
        let end = self.0.read_to_end(&mut bytes);
        (bytes, end.err().map(|error| error.kind()))
    }

    /// Nothing comes for a while, though the connection stands.
    fn hears_nothing(&mut self) {
        self.0.get_mut().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let kind = self.0.fill_buf().map(<[u8]>::len).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind:?}");
    }
}

fn pair() -> (Upstream, Proxy) {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&upstream.address);
    (upstream, proxy)
}

/// A GET of a block under a fault. Returns the bytes up to the end of the connection, and how it ended.
fn get_under(fault: Fault) -> (String, Option<ErrorKind>) {
    let (_upstream, proxy) = pair();
    let hits = proxy.on("GET", Thing::Block, 1, fault);
    let mut client = Client::of(&proxy);
    client.send(&format!("GET {BLOCK} HTTP/1.1\nHost: original\nConnection: close\n\n"), b"");
    let (bytes, end) = client.rest();
    assert_eq!(hits.count(), 1);
    (String::from_utf8(bytes).unwrap(), end)
}

/// A PUT of a block under a fault. Returns the upstream's files, the bytes that the client got, and how its
/// connection ended.
fn put_under(fault: Fault) -> (Stored, String, Option<ErrorKind>) {
    let (upstream, proxy) = pair();
    let hits = proxy.on("PUT", Thing::Block, 1, fault);
    let mut client = Client::of(&proxy);
    let text = format!("PUT {BLOCK} HTTP/1.1\nHost: original\nConnection: close\nContent-Length: 10\n\n");
    client.send(&text, CONTENT);
    let (bytes, end) = client.rest();
    assert_eq!(hits.count(), 1);
    (upstream.stored(), String::from_utf8(bytes).unwrap(), end)
}

#[test]
fn everything_comes_through_on_one_connection() {
    let (upstream, proxy) = pair();
    let mut client = Client::of(&proxy);
    client.get(BLOCK);
    assert_eq!(client.answer(false), (200, CONTENT.to_vec()));
    client.get("/lfs/chunked");
    assert_eq!(client.answer(false), (200, CONTENT.to_vec()));
    client.get("/lfs/nothing");
    assert_eq!(client.answer(false), (204, vec![]));
    client.send(&format!("HEAD {BLOCK} HTTP/1.1\nHost: original\n\n"), b"");
    assert_eq!(client.answer(true), (200, vec![]));
    client.put(BLOCK, b"as it is");
    assert_eq!(client.answer(false), (200, vec![]));
    client.send("PUT /lfs/x HTTP/1.1\nHost: o\nTransfer-Encoding: chunked\n\n3\nabc\n0\n\n", b"");
    assert_eq!(client.answer(false), (200, vec![]));
    client.send("PUT /lfs/y HTTP/1.1\nHost: o\nExpect: 100-continue\nContent-Length: 3\n\n", b"");
    let go_on = Head::read(&mut client.0).unwrap().unwrap();
    assert_eq!(go_on.status(), 100);
    client.send("xyz", b"");
    assert_eq!(client.answer(false), (200, vec![]));
    client.get("/lfs/until-close");
    assert_eq!(client.answer(false), (200, CONTENT.to_vec()));
    assert_eq!(client.rest(), (vec![], None));

    let bodies: Vec<_> = upstream.stored().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [&b"as it is"[..], b"abc", b"xyz"]);
}

#[test]
fn host_is_the_clients() {
    let (_upstream, proxy) = pair();
    let mut client = Client::of(&proxy);
    client.get(BLOCK);
    let head = Head::read(&mut client.0).unwrap().unwrap();
    assert_eq!(head.field("x-host"), Some("original"));
}

#[test]
fn a_large_body_comes_through() {
    let (upstream, proxy) = pair();
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let mut client = Client::of(&proxy);
    client.put(BLOCK, &body);
    assert_eq!(client.answer(false), (200, vec![]));
    assert!(upstream.stored()[0].1 == body);
}

#[test]
fn requests_are_written_down() {
    let (_upstream, proxy) = pair();
    let mut client = Client::of(&proxy);
    client.send(&format!("GET {BLOCK} HTTP/1.1\nHost: o\nRange: bytes=1-2\n\n"), b"");
    client.answer(false);
    client.get("/lfs?list-type=2&prefix=some%2Fprefix%2Findex%2F&delimiter=%2F");
    client.answer(false);
    client.send("PUT /lfs/p/index/0-1 HTTP/1.1\nHost: o\nIf-None-Match: *\nContent-Length: 3\n\nabc", b"");
    client.answer(false);
    client.put("/lfs/p/index/manifest", b"x");
    client.answer(false);
    client.put("/lfs/p/index/manifest", b"y");
    client.answer(false);

    let record = proxy.record();
    let seen = |e: &Exchange| (e.request.verb, e.request.thing, e.status, e.sent_bytes, e.received_bytes);
    let expected = [
        ("GET", Thing::Block, Some(200), 0, 10),
        ("LIST", Thing::Segment, Some(200), 0, 10),
        ("PUT", Thing::Segment, Some(200), 3, 0),
        ("PUT", Thing::Manifest, Some(200), 1, 0),
        ("PUT", Thing::Manifest, Some(200), 1, 0),
    ];
    assert_eq!(record.iter().map(seen).collect::<Vec<_>>(), expected);
    assert_eq!(record[0].request.range.as_deref(), Some("bytes=1-2"));
    assert_eq!(
        record.iter().map(|e| e.request.only_new).collect::<Vec<_>>(),
        [false, false, true, false, false]
    );
    assert_eq!(record.iter().filter(|e| e.request.stored_before).count(), 1);
    assert_eq!(overwritten(&record), ["/lfs/p/index/manifest"]);
    assert_eq!(proxy.take_record().len(), 5);
    assert_eq!(proxy.record().len(), 0);
}

#[test]
fn rules_meet_the_requests_they_name_and_no_others() {
    let (upstream, proxy) = pair();
    let hits = proxy.after(1, "PUT", Thing::Shard, 2, Fault::Refuse(Answer::slow_down()));
    let mut client = Client::of(&proxy);
    let mut put = |path: &str| {
        client.put(path, b"x");
        client.answer(false).0
    };
    assert_eq!(put(BLOCK), 200);
    let shard = "/lfs/p/shards/00/00";
    assert_eq!([put(shard), put(shard), put(shard), put(shard)], [200, 503, 503, 200]);
    assert_eq!(hits.count(), 2);
    proxy.on("PUT", Thing::Shard, 9, Fault::Refuse(Answer::slow_down()));
    proxy.heal();
    assert_eq!(put(shard), 200);
    assert_eq!(upstream.stored().len(), 4);
}

#[test]
fn resets() {
    let reset = Some(ErrorKind::ConnectionReset);
    assert_eq!(get_under(Fault::ResetBefore), (String::new(), reset));
    assert_eq!(put_under(Fault::ResetBefore), (vec![], String::new(), reset));
    assert_eq!(put_under(Fault::ResetInRequest), (vec![], String::new(), reset));
    let (stored, heard, end) = put_under(Fault::LoseAnswer);
    assert_eq!((stored.len(), heard, end), (1, String::new(), reset));
    let (heard, end) = get_under(Fault::ResetInAnswer);
    assert_eq!(end, reset);
    assert!(!heard.ends_with("9"), "{heard}");
}

#[test]
fn cut_and_wrong_answers() {
    let (heard, end) = get_under(Fault::CloseInAnswer);
    assert!(heard.contains("content-length: 10\r\n") && heard.ends_with("\r\n\r\n01234"), "{heard}");
    assert_eq!(end, None);
    let (heard, end) = get_under(Fault::ShortAnswer);
    assert!(heard.contains("content-length: 5\r\n") && heard.ends_with("\r\n\r\n01234"), "{heard}");
    assert_eq!(end, None);
    let (heard, _) = get_under(Fault::FlipBit);
    assert!(heard.ends_with("\r\n\r\n0123416789"), "{heard}");
}

#[test]
fn answers_of_its_own() {
    let (heard, _) = get_under(Fault::Refuse(Answer::too_many_requests("7")));
    assert!(heard.starts_with("HTTP/1.1 429 ") && heard.contains("Retry-After: 7\r\n"), "{heard}");
    let (stored, heard, _) = put_under(Fault::Refuse(Answer::access_denied()));
    assert!(stored.is_empty() && heard.contains("<Code>AccessDenied</Code>"), "{heard}");
    let (stored, heard, _) = put_under(Fault::Replace(Answer::precondition_failed()));
    assert!(stored.len() == 1 && heard.starts_with("HTTP/1.1 412 "), "{heard}");
}

#[test]
fn slow_transfers_succeed() {
    let pace = Pace { bytes: 1, pause: Duration::from_millis(10) };
    let started = Instant::now();
    let (heard, end) = get_under(Fault::SlowAnswer(pace));
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(heard.ends_with("0123456789") && end.is_none(), "{heard}");
    let started = Instant::now();
    let (stored, heard, _) = put_under(Fault::SlowRequest(pace));
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(stored.len() == 1 && heard.starts_with("HTTP/1.1 200 "), "{heard}");
}

#[test]
fn silence_lasts_until_the_proxy_stops() {
    let (upstream, mut proxy) = pair();
    proxy.on("PUT", Thing::Block, 1, Fault::Silence);
    proxy.on("PUT", Thing::Block, 1, Fault::SilenceInRequest);
    proxy.on("GET", Thing::Block, 1, Fault::SilenceInAnswer);
    let mut clients = [Client::of(&proxy), Client::of(&proxy), Client::of(&proxy)];
    let [silent, half, answered] = &mut clients;
    silent.put(BLOCK, CONTENT);
    silent.hears_nothing();
    half.put(BLOCK, CONTENT);
    half.hears_nothing();
    answered.get(BLOCK);
    let head = Head::read(&mut answered.0).unwrap().unwrap();
    assert_eq!(head.field("content-length"), Some("10"));
    let mut five = [0; 5];
    answered.0.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"01234");
    answered.hears_nothing();
    assert_eq!(upstream.stored(), []);

    proxy.stop();
    for client in &mut clients {
        assert!(
            matches!(client.rest(), (bytes, None | Some(ErrorKind::ConnectionReset)) if bytes.is_empty())
        );
    }
    assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    proxy.start_again();
    let mut client = Client::of(&proxy);
    client.get(BLOCK);
    assert_eq!(client.answer(false).0, 200);
}
