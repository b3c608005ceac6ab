//! As much of HTTP/1.1 (RFC 9112) as asking for a page takes: one request a connection, no body.

use super::text::Format;

/// Bytes that the head of a request may have.
pub(super) const HEAD: usize = 8 << 10;
/// Fields that it may have.
const FIELDS: usize = 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Metrics(Format),
    Health,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) page: Page,
    /// Whether the page's head is asked for alone.
    pub(super) head_only: bool,
}

/// Why there is no page for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Malformed(&'static str),
    NotFound,
    Method,
    TooLong,
    Slow,
    Version,
    /// The daemon does not answer.
    Unavailable,
}

impl Refused {
    /// Code and name (RFC 9110 15), and what the asker may do.
    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Malformed(why) => ("400 Bad Request", why),
            Self::NotFound => ("404 Not Found", "there are /metrics and /healthz"),
            Self::Method => ("405 Method Not Allowed", "say GET or HEAD"),
            Self::Slow => ("408 Request Timeout", "the request did not come whole in time"),
            Self::TooLong => ("431 Request Header Fields Too Large", "a request may have 8 KiB and 64 fields"),
            Self::Version => ("505 HTTP Version Not Supported", "say HTTP/1.1"),
            Self::Unavailable => {
                ("503 Service Unavailable", "the daemon is busy or another takes over: ask again in a moment")
            }
        }
    }

    /// The whole answer.
    pub(super) fn answer(self) -> Vec<u8> {
        let (status, why) = self.told();
        let allow = if self == Self::Method { "Allow: GET, HEAD\r\n" } else { "" };
        let mut answer = head(status, "text/plain; charset=utf-8", why.len() + 1, allow);
        answer.extend_from_slice(why.as_bytes());
        answer.push(b'\n');
        answer
    }
}

/// The head of an answer whose body has `len` bytes; `more` are fields more.
pub(super) fn head(status: &str, content: &str, len: usize, more: &str) -> Vec<u8> {
    let fields = format!("Content-Type: {content}\r\nContent-Length: {len}\r\n{more}Connection: close\r\n");
    format!("HTTP/1.1 {status}\r\n{fields}Cache-Control: no-store\r\n\r\n").into_bytes()
}

/// Reads a request from what has come so far; `None` where its head has not come whole.
pub(super) fn read(bytes: &[u8]) -> Option<Result<Asked, Refused>> {
    // A request line without end is no reason to wait for more of it; nor is what no request begins with.
    if bytes.first().is_some_and(|first| !first.is_ascii_alphabetic() && !matches!(first, b'\r' | b'\n')) {
        return Some(Err(Refused::Malformed("this is no HTTP")));
    }
    let text = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).map_or(&[][..], |start| &bytes[start..]);
    let Some(end) = end_of_head(text) else {
        return (bytes.len() >= HEAD).then_some(Err(Refused::TooLong));
    };
    Some(parse(&text[..end]))
}

/// Where the empty line is that ends a head. A line may end without its CR (RFC 9112 2.2).
fn end_of_head(text: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let len = text.get(start..)?.iter().position(|&byte| byte == b'\n')?;
        if matches!(&text[start..start + len], [] | [b'\r']) {
            return Some(start);
        }
        start += len + 1;
    }
}

fn parse(head: &[u8]) -> Result<Asked, Refused> {
    if head.iter().any(|&byte| byte == 0 || !(byte.is_ascii_graphic() || b" \t\r\n".contains(&byte)) && byte < 0x80) {
        return Err(Refused::Malformed("a request has no control characters"));
    }
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refused::Malformed("a request begins as GET /metrics HTTP/1.1"));
    };
    let minor = match version.strip_prefix("HTTP/") {
        Some("1.0") => 0,
        Some(other) if other.starts_with("1.") && other.len() == 3 => 1,
        Some(_) => return Err(Refused::Version),
        None => return Err(Refused::Malformed("a request begins as GET /metrics HTTP/1.1")),
    };
    let (hosts, accept) = fields(lines)?;
    if hosts > 1 || hosts == 0 && minor > 0 {
        return Err(Refused::Malformed("a request has one Host field"));
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Err(Refused::Method),
    };
    let page = match path(target) {
        "/metrics" => Page::Metrics(format(&accept)),
        "/healthz" => Page::Health,
        _ => return Err(Refused::NotFound),
    };
    Ok(Asked { page, head_only })
}

/// How many Host fields there are, and what is accepted, of all Accept fields.
fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Result<(usize, String), Refused> {
    let (mut hosts, mut accept) = (0, String::new());
    for (number, line) in lines.enumerate() {
        if number == FIELDS {
            return Err(Refused::TooLong);
        }
        let (name, value) = line.split_once(':').ok_or(Refused::Malformed("a field is NAME: VALUE"))?;
        // A space before the colon, or a line that goes on with the one before, has misled proxies (RFC 9112 5.1, 5.2).
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(Refused::Malformed("a field is NAME: VALUE"));
        }
        if name.eq_ignore_ascii_case("host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case("accept") {
            accept.push_str(value);
            accept.push(',');
        }
    }
    Ok((hosts, accept))
}

/// The path of a target, which may be an absolute one (RFC 9112 3.2.2).
fn path(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some(("http" | "https", rest)) => rest.find('/').map_or("/", |start| &rest[start..]),
        _ => target,
    };
    path.split(['?', '#']).next().unwrap_or_default()
}

/// OpenMetrics where it is wanted at least as much as plain text.
fn format(accept: &str) -> Format {
    let weight = |kind: &str| {
        let wanted = accept.split(',').filter_map(|range| {
            let mut words = range.split(';').map(str::trim);
            if !words.next()?.eq_ignore_ascii_case(kind) {
                return None;
            }
            let weight = words.find_map(|word| word.strip_prefix("q=").or(word.strip_prefix("Q=")));
            Some(weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
        });
        wanted.fold(0.0, f64::max)
    };
    let open = weight("application/openmetrics-text");
    if open > 0.0 && open >= weight("text/plain") { Format::OpenMetrics } else { Format::Prometheus }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Page = Page::Metrics(Format::Prometheus);
    const OPEN: Page = Page::Metrics(Format::OpenMetrics);

    #[test]
    fn requests_lead_to_pages() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let accepting = |accept: &str| format!("GET /metrics HTTP/1.1\r\nHost: a\r\naccept: {accept}\r\n\r\n");
        for (request, page, head_only) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), PLAIN, false),
            ("GET /metrics HTTP/1.0\r\n\r\n".to_owned(), PLAIN, false),
            ("GET /metrics HTTP/1.0\n\n".to_owned(), PLAIN, false),
            ("\r\n\r\nGET /metrics HTTP/1.1\r\nhOST:\r\n\r\n".to_owned(), PLAIN, false),
            ("GET http://10.0.0.1:9475/metrics?x=/healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), PLAIN, false),
            ("HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Page::Health, true),
            ("GET /healthz HTTP/1.9\r\nHost: a\r\n\r\nbody and more".to_owned(), Page::Health, false),
            (accepting(prometheus), OPEN, false),
            (accepting("*/*"), PLAIN, false),
            (accepting("text/plain, application/openmetrics-text;q=0.9"), PLAIN, false),
            (accepting("application/openmetrics-text; q=0"), PLAIN, false),
            (accepting("application/openmetrics-text; q=x"), PLAIN, false),
            (accepting("Application/OpenMetrics-Text"), OPEN, false),
        ] {
            assert_eq!(read(request.as_bytes()), Some(Ok(Asked { page, head_only })), "{request}");
            let end = request.find("\r\n\r\nbody").map_or(request.len(), |end| end + 4);
            for part in 0..end.saturating_sub(1) {
                assert_eq!(read(&request.as_bytes()[..part]), None, "{part} bytes of {request}");
            }
        }
    }

    #[test]
    fn other_requests_are_refused_by_name() {
        let host = "Host: a\r\n";
        for (request, status) in [
            ("\u{16}\u{3}\u{1}\u{2}".to_owned(), "400"),
            (" GET /metrics HTTP/1.1".to_owned(), "400"),
            ("GET /metrics\r\n\r\n".to_owned(), "400"),
            ("GET  /metrics HTTP/1.1\r\n\r\n".to_owned(), "400"),
            ("GET /metrics HTTP/1.1\r\n\r\n".to_owned(), "400"),
            (format!("GET /metrics HTTP/1.1\r\n{host}{host}\r\n"), "400"),
            (format!("GET /metrics HTTP/1.1\r\n{host}Accept : x\r\n\r\n"), "400"),
            (format!("GET /metrics HTTP/1.1\r\n{host} folded: x\r\n\r\n"), "400"),
            (format!("GET /metrics HTTP/1.1\r\n{host}nothing\r\n\r\n"), "400"),
            (format!("GET /metrics HTTP/1.1\r\n{host}a: \0\r\n\r\n"), "400"),
            ("GET /metrics HTTQ/1.1\r\n\r\n".to_owned(), "400"),
            (format!("GET / HTTP/1.1\r\n{host}\r\n"), "404"),
            (format!("GET /metrics/ HTTP/1.1\r\n{host}\r\n"), "404"),
            (format!("GET /../metrics HTTP/1.1\r\n{host}\r\n"), "404"),
            (format!("POST /metrics HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\n"), "405"),
            (format!("get /metrics HTTP/1.1\r\n{host}\r\n"), "405"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "505"),
            ("GET /metrics HTTP/11\r\n\r\n".to_owned(), "505"),
            ("G".repeat(HEAD), "431"),
            (format!("GET /metrics HTTP/1.1\r\n{}", "a: b\r\n".repeat(HEAD / 6)), "431"),
            (format!("GET /metrics HTTP/1.1\r\n{host}{}\r\n", "a: b\r\n".repeat(FIELDS)), "431"),
        ] {
            let refused = read(request.as_bytes()).unwrap_or_else(|| panic!("{request} is waited on")).unwrap_err();
            let answer = String::from_utf8(refused.answer()).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
        }
        assert!(String::from_utf8(Refused::Method.answer()).unwrap().contains("Allow: GET, HEAD\r\n"));
    }
}
