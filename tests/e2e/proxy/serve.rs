//! One connection of a client: request after request, each forwarded over a connection of its own to the
//! upstream.

use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::Shared;
use super::answer::Answer;
use super::fault::{Fault, Pace};
use super::http::{Framing, Head, Piece, copy_body, read_body};
use super::request::Request;

/// The fate of the connection after a request.
#[derive(PartialEq)]
enum Next {
    Keep,
    Close,
    Reset,
}

pub(super) fn connection(shared: &Shared, stream: TcpStream) {
    let stream = shared.adopt(stream);
    // a client that goes away in the middle is no failure, because its request was written down
    if let Ok(Next::Reset) = requests(shared, &stream) {
        reset(&stream);
    }
}

fn requests(shared: &Shared, stream: &TcpStream) -> io::Result<Next> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(head) = Head::read(&mut reader)? {
        let request = Request::of(&head);
        let to_head = request.verb == "HEAD";
        let (number, fault) = shared.begin(request);
        let closes = head.closes();
        let mut exchange = Serving { shared, number, client: stream, reader: &mut reader, head, to_head };
        let next = exchange.serve(fault)?;
        if next != Next::Keep || closes {
            return Ok(next);
        }
    }
    Ok(Next::Close)
}

/// Makes the end of a connection, when its last owner drops it, a reset.
fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

/// One request being served.
struct Serving<'a, 'c> {
    shared: &'a Shared,
    number: usize,
    client: &'a TcpStream,
    reader: &'a mut BufReader<&'c TcpStream>,
    head: Head,
    to_head: bool,
}

/// The answer of the upstream: its head, and the connection on which the body is still to come.
struct Upstream {
    reader: BufReader<Owned>,
    head: Head,
}

/// An end of a connection that may be read for as long as it is kept.
struct Owned(Arc<TcpStream>);

impl Read for Owned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buffer)
    }
}

impl Upstream {
    fn body(&mut self, to_head: bool) -> io::Result<Vec<u8>> {
        read_body(&mut self.reader, self.head.answer_framing(to_head))
    }
}

impl Serving<'_, '_> {
    fn serve(&mut self, fault: Option<Fault>) -> io::Result<Next> {
        let Some(fault) = fault else {
            let upstream = self.forward(None)?;
            return self.pass_on(upstream);
        };
        match fault {
            Fault::ResetBefore => Ok(Next::Reset),
            Fault::ResetInRequest => {
                let upstream = self.connect()?;
                self.send_half(&upstream)?;
                reset(&upstream);
                Ok(Next::Reset)
            }
            Fault::LoseAnswer => {
                self.forward(None)?.body(self.to_head)?;
                Ok(Next::Reset)
            }
            Fault::Refuse(answer) => {
                self.swallow_request()?;
                self.answer(&answer)
            }
            Fault::Replace(answer) => {
                self.forward(None)?.body(self.to_head)?;
                self.answer(&answer)
            }
            Fault::SlowRequest(pace) => {
                let upstream = self.forward(Some(pace))?;
                self.pass_on(upstream)
            }
            Fault::Silence => {
                self.swallow_request()?;
                self.wait_for_ever()
            }
            Fault::SilenceInRequest => {
                let upstream = self.connect()?;
                self.send_half(&upstream)?;
                self.wait_for_ever()
            }
            Fault::ResetInAnswer
            | Fault::CloseInAnswer
            | Fault::ShortAnswer
            | Fault::FlipBit
            | Fault::SlowAnswer(_)
            | Fault::SilenceInAnswer => {
                let mut upstream = self.forward(None)?;
                let body = upstream.body(self.to_head)?;
                self.spoil(&upstream.head, body, &fault)
            }
        }
    }

    /// Passes on the upstream's answer, spoilt by a fault.
    fn spoil(&mut self, head: &Head, mut body: Vec<u8>, fault: &Fault) -> io::Result<Next> {
        let half = body.len() / 2;
        match fault {
            Fault::FlipBit if !body.is_empty() => body[half] ^= 0x04,
            Fault::ShortAnswer => body.truncate(half),
            _ => {}
        }
        let status = head.status();
        self.note(|exchange| exchange.status = Some(status));
        self.to_client(&head.with_length(body.len()))?;
        match fault {
            Fault::SlowAnswer(pace) => {
                for piece in body.chunks(pace.bytes) {
                    self.give(piece)?;
                    sleep(pace.pause);
                }
                Ok(Next::Keep)
            }
            Fault::ResetInAnswer | Fault::CloseInAnswer | Fault::SilenceInAnswer => {
                self.give(&body[..half])?;
                match fault {
                    Fault::ResetInAnswer => Ok(Next::Reset),
                    Fault::CloseInAnswer => Ok(Next::Close),
                    _ => self.wait_for_ever(),
                }
            }
            _ => {
                self.give(&body)?;
                Ok(Next::Keep)
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut super::Exchange)) {
        self.shared.note(self.number, change);
    }

    fn to_client(&self, bytes: &[u8]) -> io::Result<()> {
        let mut client = self.client;
        client.write_all(bytes)
    }

    /// A part of the answer's body. It is written down first: the client may be gone by the time the write
    /// returns.
    fn give(&self, bytes: &[u8]) -> io::Result<()> {
        self.note(|exchange| exchange.received_bytes += bytes.len() as u64);
        self.to_client(bytes)
    }

    fn answer(&self, answer: &Answer) -> io::Result<Next> {
        self.note(|exchange| {
            exchange.status = Some(answer.status);
            exchange.received_bytes = answer.body_bytes(self.to_head);
        });
        self.to_client(&answer.wire(self.to_head))?;
        Ok(Next::Keep)
    }

    /// The client waits for this before it sends the body. The upstream's own is passed over.
    fn say_continue(&self) -> io::Result<()> {
        if self.head.expects_continue() { self.to_client(b"HTTP/1.1 100 Continue\r\n\r\n") } else { Ok(()) }
    }

    fn swallow_request(&mut self) -> io::Result<()> {
        self.say_continue()?;
        self.take_request(|_| Ok(()))
    }

    /// Reads the request's body and writes down how much there was.
    fn take_request(&mut self, mut to: impl FnMut(Piece) -> io::Result<()>) -> io::Result<()> {
        let shared = self.shared;
        let number = self.number;
        copy_body(self.reader, self.head.request_framing(), |piece| {
            if let Piece::Content(bytes) = piece {
                shared.note(number, |exchange| exchange.sent_bytes += bytes.len() as u64);
            }
            to(piece)
        })
    }

    fn connect(&self) -> io::Result<Arc<TcpStream>> {
        let stream = TcpStream::connect(self.shared.upstream)?;
        stream.set_nodelay(true)?;
        Ok(self.shared.adopt(stream))
    }

    /// Sends the request on, and waits for the head of the answer.
    fn forward(&mut self, pace: Option<Pace>) -> io::Result<Upstream> {
        let stream = self.connect()?;
        self.say_continue()?;
        // an upstream that has seen enough answers and doesn't take the rest: then only its answer matters
        let mut taken = (&*stream).write_all(&self.head.raw);
        let mut since_pause = 0;
        self.take_request(|piece| {
            let wire = piece.wire();
            if taken.is_ok() {
                taken = (&*stream).write_all(wire);
            }
            if let Some(pace) = pace {
                since_pause += wire.len();
                let pauses = since_pause / pace.bytes;
                since_pause %= pace.bytes;
                sleep(pace.pause * pauses as u32);
            }
            Ok(())
        })?;
        let mut reader = BufReader::new(Owned(stream));
        loop {
            let head = Head::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.status();
            if status >= 200 {
                self.note(|exchange| exchange.upstream_status = Some(status));
                return Ok(Upstream { reader, head });
            }
        }
    }

    /// Sends the head and half of the body on; the rest is not even read.
    fn send_half(&mut self, upstream: &TcpStream) -> io::Result<()> {
        self.say_continue()?;
        let mut upstream = upstream;
        upstream.write_all(&self.head.raw)?;
        if let Framing::Length(length) = self.head.request_framing() {
            let mut half = vec![0; (length / 2) as usize];
            self.reader.read_exact(&mut half)?;
            self.note(|exchange| exchange.sent_bytes = half.len() as u64);
            upstream.write_all(&half)?;
        }
        Ok(())
    }

    fn pass_on(&mut self, mut upstream: Upstream) -> io::Result<Next> {
        let status = upstream.head.status();
        let framing = upstream.head.answer_framing(self.to_head);
        self.note(|exchange| exchange.status = Some(status));
        self.to_client(&upstream.head.raw)?;
        copy_body(&mut upstream.reader, framing, |piece| match piece {
            Piece::Content(bytes) => self.give(bytes),
            Piece::Framing(bytes) => self.to_client(bytes),
        })?;
        let ends = framing == Framing::UntilClose || upstream.head.closes();
        Ok(if ends { Next::Close } else { Next::Keep })
    }

    fn wait_for_ever(&self) -> io::Result<Next> {
        self.shared.wait_until_stopped();
        Ok(Next::Close)
    }
}
