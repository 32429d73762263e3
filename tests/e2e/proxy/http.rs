//! Heads and bodies of HTTP/1.1, as much as a proxy needs.

use std::io::{self, BufRead, Read};

const HEAD_BYTES: u64 = 64 * 1024;
const PIECE_BYTES: usize = 16 * 1024;

/// The head of a request or an answer, as it came.
pub struct Head {
    pub first: String,
    fields: Vec<(String, String)>,
    pub raw: Vec<u8>,
}

/// The end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Head {
    /// None if the other side has closed the connection.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Head>> {
        let mut raw = Vec::new();
        let mut limited = from.take(HEAD_BYTES);
        while !raw.ends_with(b"\r\n\r\n") {
            if limited.read_until(b'\n', &mut raw)? == 0 {
                return if raw.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
        let text = String::from_utf8_lossy(&raw);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Some(Head { first, fields, raw }))
    }

    /// The value of a field; `name` is in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn says(&self, name: &str, value: &str) -> bool {
        self.field(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
    }

    pub fn closes(&self) -> bool {
        self.says("connection", "close")
    }

    pub fn expects_continue(&self) -> bool {
        self.says("expect", "100-continue")
    }

    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    fn named_framing(&self) -> Option<Framing> {
        if self.says("transfer-encoding", "chunked") {
            return Some(Framing::Chunked);
        }
        self.field("content-length").and_then(|value| value.parse().ok()).map(Framing::Length)
    }

    pub fn request_framing(&self) -> Framing {
        self.named_framing().unwrap_or(Framing::Length(0))
    }

    pub fn answer_framing(&self, to_head: bool) -> Framing {
        match self.status() {
            _ if to_head => Framing::Length(0),
            100..200 | 204 | 304 => Framing::Length(0),
            _ => self.named_framing().unwrap_or(Framing::UntilClose),
        }
    }

    /// The same head with a body of this length.
    pub fn with_length(&self, length: usize) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.fields {
            if name != "content-length" && name != "transfer-encoding" {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        text.push_str(&format!("content-length: {length}\r\n\r\n"));
        text.into_bytes()
    }
}

/// A piece on the wire: a body's own bytes, or bytes that divide it.
pub enum Piece<'a> {
    Content(&'a [u8]),
    Framing(&'a [u8]),
}

impl<'a> Piece<'a> {
    pub fn wire(&self) -> &'a [u8] {
        match self {
            Piece::Content(bytes) | Piece::Framing(bytes) => bytes,
        }
    }
}

/// Hands a body on, piece by piece. `to` may end it early by an error.
pub fn copy_body(
    from: &mut impl BufRead,
    framing: Framing,
    mut to: impl FnMut(Piece) -> io::Result<()>,
) -> io::Result<()> {
    match framing {
        Framing::Length(length) => copy(from, length, &mut to),
        Framing::UntilClose => loop {
            let length = from.fill_buf()?.len() as u64;
            if length == 0 {
                return Ok(());
            }
            copy(from, length, &mut to)?;
        },
        Framing::Chunked => copy_chunks(from, &mut to),
    }
}

/// A body without its framing.
pub fn read_body(from: &mut impl BufRead, framing: Framing) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    copy_body(from, framing, |piece| {
        if let Piece::Content(bytes) = piece {
            body.extend_from_slice(bytes);
        }
        Ok(())
    })?;
    Ok(body)
}

fn copy_chunks(from: &mut impl BufRead, to: &mut impl FnMut(Piece) -> io::Result<()>) -> io::Result<()> {
    loop {
        let line = read_line(from)?;
        let digits = line.split(|byte| matches!(byte, b';' | b'\r')).next().unwrap_or_default();
        let text = String::from_utf8_lossy(digits);
        let length = u64::from_str_radix(text.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        to(Piece::Framing(&line))?;
        if length == 0 {
            break;
        }
        copy(from, length, to)?;
        to(Piece::Framing(&read_line(from)?))?;
    }
    // trailers, and the empty line that ends them
    loop {
        let line = read_line(from)?;
        to(Piece::Framing(&line))?;
        if line == b"\r\n" {
            return Ok(());
        }
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(HEAD_BYTES).read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn copy(
    from: &mut impl BufRead,
    length: u64,
    to: &mut impl FnMut(Piece) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = [0; PIECE_BYTES];
    let mut left = length;
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = from.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to(Piece::Content(&buffer[..read]))?;
        left -= read as u64;
    }
    Ok(())
}
