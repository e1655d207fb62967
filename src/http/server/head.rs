//! Refuses request heads that a proxy before us could read as another request: bare line feeds, two lengths, another
//! transfer coding than chunked, no or two hosts, two keys, two media types. hyper reads heads, and is less strict than
//! this.

use std::net::Ipv6Addr;

use axum::http::uri::Authority;
use axum::http::{HeaderValue, Request, Version, header};

use crate::http::error::ApiError;
use crate::http::middleware::authorization::KEY_HEADER;
use crate::http::server::places::Place;

/// Bytes of a header line that are checked: the name and the value of the two headers that matter.
const LINE_START_BYTES: usize = 64;

/// # Errors
/// [`ApiError::Head`]; the rest of the connection must not be trusted then.
pub(super) fn check<B>(request: &Request<B>, place: &Place) -> Result<(), ApiError> {
    let values = |name| request.headers().get_all(name).iter();
    let hosts: Vec<_> = values(header::HOST).collect();
    match hosts.as_slice() {
        [] if request.version() != Version::HTTP_11 => {}
        [host] => check_host(host, request.uri().authority())?,
        _ => return Err(ApiError::Head("a request must have one Host header")),
    }
    if request.uri().scheme_str().is_some_and(|scheme| !["http", "https"].contains(&scheme)) {
        return Err(ApiError::Head("the request's target must be a path, or an http or https URI"));
    }
    const ONE_KEY: &str = "a request must have one X-API-Key header, or one Authorization header";
    let once = [
        (header::HeaderName::from_static(KEY_HEADER), ONE_KEY),
        (header::AUTHORIZATION, ONE_KEY),
        (header::CONTENT_TYPE, "a request must have one Content-Type header at most"),
    ];
    for (name, otherwise) in once {
        if values(name).count() > 1 {
            return Err(ApiError::Head(otherwise));
        }
    }
    let codings = values(header::TRANSFER_ENCODING).collect::<Vec<_>>();
    if !matches!(codings.as_slice(), [] | [_])
        || codings.iter().any(|one| !one.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(ApiError::Head("Transfer-Encoding must be chunked, once"));
    }
    if place.is_malformed() {
        return Err(ApiError::Head(
            "lines of a request's head must end with CR LF, and Content-Length must be there once, and not beside \
             Transfer-Encoding",
        ));
    }
    Ok(())
}

/// Checks that the host is a host with or without a port, or empty, and the same as in the target, where that is a
/// whole URI.
fn check_host(host: &HeaderValue, target: Option<&Authority>) -> Result<(), ApiError> {
    if host.is_empty() && target.is_none() {
        return Ok(());
    }
    let host = host.to_str().ok().filter(|host| !host.contains(['@', ',']));
    let host: Option<Authority> = host.and_then(|host| host.parse().ok());
    let Some(host) = host.filter(is_host) else {
        return Err(ApiError::Head("Host must be a host name or address, with a port if it has one"));
    };
    match target {
        Some(target) if !target.as_str().eq_ignore_ascii_case(host.as_str()) => {
            Err(ApiError::Head("Host must be the one that the request's target names"))
        }
        _ => Ok(()),
    }
}

/// Whether the port is valid, and the text in brackets is an address.
fn is_host(host: &Authority) -> bool {
    let (name, port) = match host.as_str().rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host.as_str(), None),
    };
    let in_brackets = name.strip_prefix('[').map(|name| name.strip_suffix(']'));
    let is_address = in_brackets.is_none_or(|address| address.is_some_and(|a| a.parse::<Ipv6Addr>().is_ok()));
    let is_digits = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = port.is_none_or(|port| port.is_empty() || (is_digits(port) && port.parse::<u16>().is_ok()));
    is_address && is_port && !name.is_empty()
}

/// Follows the bytes of a connection from head to head.
pub(super) struct Scanner {
    at: At,
    head: Head,
    /// The start of the current line.
    line: Vec<u8>,
    last: u8,
}

enum At {
    Head,
    Body {
        left: u64,
    },
    /// Behind the head of a chunked body, after which the connection ends.
    Unknown,
}

#[derive(Default)]
struct Head {
    has_begun: bool,
    lengths: usize,
    length: Option<u64>,
    has_coding: bool,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { at: At::Head, head: Head::default(), line: Vec::with_capacity(LINE_START_BYTES), last: 0 }
    }
}

impl Scanner {
    /// Follows the received bytes; returns whether all of them are well formed.
    pub(super) fn scan(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_well_formed = true;
        while !bytes.is_empty() {
            bytes = match &mut self.at {
                At::Unknown => return is_well_formed,
                At::Body { left } => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skipped as u64;
                    if *left == 0 {
                        self.at = At::Head;
                    }
                    &bytes[skipped..]
                }
                At::Head => match bytes.iter().position(|byte| *byte == b'\n') {
                    None => {
                        self.take(bytes);
                        return is_well_formed;
                    }
                    Some(end) => {
                        self.take(&bytes[..end]);
                        is_well_formed &= self.end_line();
                        &bytes[end + 1..]
                    }
                },
            };
        }
        is_well_formed
    }

    /// Whether the client is in the middle of a request, as far as its bytes were received.
    pub(super) fn expects_more(&self) -> bool {
        !matches!(self.at, At::Head) || self.head.has_begun || !self.line.is_empty()
    }

    fn take(&mut self, part: &[u8]) {
        let room = LINE_START_BYTES - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.last = part.last().copied().unwrap_or(self.last);
    }

    fn end_line(&mut self) -> bool {
        let is_ended_well = std::mem::take(&mut self.last) == b'\r';
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let is_empty = line.is_empty();
        if let Some(value) = value_of(line, b"content-length") {
            self.head.lengths += 1;
            self.head.length = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
        }
        self.head.has_coding |= value_of(line, b"transfer-encoding").is_some();
        self.line.clear();
        if !is_empty || !self.head.has_begun {
            // Empty lines before a request are skipped.
            self.head.has_begun |= !is_empty;
            return is_ended_well;
        }
        let head = std::mem::take(&mut self.head);
        self.at = match head {
            Head { has_coding: true, .. } => At::Unknown,
            Head { length: Some(left @ 1..), .. } => At::Body { left },
            Head { .. } => At::Head,
        };
        is_ended_well && head.lengths <= usize::from(!head.has_coding)
    }
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    value.strip_prefix(b":").filter(|_| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the text is well formed, and whether more is expected; the same however the bytes are cut.
    fn scan(text: &str) -> (bool, bool) {
        let in_pieces_of = |size: usize| {
            let mut scanner = Scanner::default();
            // Each piece is scanned, also behind one that is not well formed.
            let pieces: Vec<bool> = text.as_bytes().chunks(size).map(|piece| scanner.scan(piece)).collect();
            (!pieces.contains(&false), scanner.expects_more())
        };
        let whole = in_pieces_of(text.len().max(1));
        for size in 1..text.len() {
            assert_eq!(in_pieces_of(size), whole, "{text:?} in pieces of {size}");
        }
        whole
    }

    #[test]
    fn a_host_is_one_name_or_address_and_the_one_of_the_target() {
        let cases = [
            ("", None, true),
            ("localhost:2785", None, true),
            ("[::1]:2785", None, true),
            ("203.0.113.7", None, true),
            ("Rookery.example", Some("rookery.example"), true),
            ("a b", None, false),
            ("a,b", None, false),
            ("a/b", None, false),
            ("me@home", None, false),
            ("a:b:c", None, false),
            ("a:99999", None, false),
            ("a:-1", None, false),
            ("a:+80", None, false),
            ("a:000080", None, false),
            ("[::g]", None, false),
            ("[::1]", None, true),
            (":80", None, false),
            ("", Some("a"), false),
            ("a", Some("b"), false),
            ("a:80", Some("a:81"), false),
        ];
        for (host, target, is_good) in cases {
            let (value, target) = (HeaderValue::from_str(host).unwrap(), target.map(Authority::from_static));
            assert_eq!(check_host(&value, target.as_ref()).is_ok(), is_good, "{host} {target:?}");
        }
    }

    #[test]
    fn bare_line_feeds_and_two_lengths_are_found_in_every_head_and_in_no_body() {
        let body = "POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:  4 \r\n\r\na\n\nb";
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(500));
        let cases = [
            ("", true, false),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, false),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", true, false),
            (&long, true, false),
            ("GET / HTTP/1.1\r\nHost: x\r\n", true, true),
            ("GET", true, true),
            ("GET / HTTP/1.1\nHost: x\r\n\r\n", false, false),
            ("GET / HTTP/1.1\r\nHost: x\n\r\n", false, false),
            ("GET / HTTP/1.1\r\nHost: x\r\n\n", false, false),
            ("\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", false, false),
            (&long.replace("a\r\n", "a\n"), false, false),
            (body, true, false),
            (&body[..body.len() - 1], true, true),
            (&format!("{body}GET / HTTP/1.1\r\nHost: x\r\n\r\n"), true, false),
            (&format!("{body}GET / HTTP/1.1\nHost: x\n\n"), false, false),
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n", true, true),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", false, true),
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", false, true),
            ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", false, false),
        ];
        for (text, is_well_formed, expects_more) in cases {
            assert_eq!(scan(text), (is_well_formed, expects_more), "{text:?}");
        }
    }
}
