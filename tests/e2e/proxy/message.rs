//! HTTP/1.1 as it is on the wire: what libraries hide is what the tests of a proxy look at.
//!
//! Called by both sides, the service and the control plane. It must not know which one reads.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// A request or an answer.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The first line.
    pub(super) start: String,
    /// In their order, names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// The framing of a body.
enum Length {
    Bytes(usize),
    Chunked,
    UntilTheEnd,
}

impl Message {
    /// All values of a header.
    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        let of_name = self.headers.iter().filter(|(other, _)| other == name);
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    /// The status of an answer.
    pub(super) fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("{:?} has no status", self.start))
    }

    /// The `detail` of an answer that has to be an `application/problem+json`.
    pub(super) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), ["application/problem+json"]);
        let problem = crate::harness::json(&self.body);
        assert_eq!(problem["status"], self.status());
        problem["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// Reads up to the empty line. `None`: the connection ended before.
pub(super) async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Message> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.ok()?;
        let line = String::from_utf8(line).expect("the head is text");
        match line.strip_suffix("\r\n")? {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers = lines.iter().skip(1).map(|line| {
        let (name, value) = line.split_once(':').expect("a header has a colon");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    Some(Message {
        headers: headers.collect(),
        start: lines.first()?.clone(),
        body: Vec::new(),
    })
}

/// Reads the body that belongs to a head.
pub(super) async fn read_body(stream: &mut (impl AsyncBufRead + Unpin), message: &mut Message) -> io::Result<()> {
    match length(message) {
        Length::Bytes(length) => {
            message.body.resize(length, 0);
            stream.read_exact(&mut message.body).await?;
        }
        Length::UntilTheEnd => {
            stream.read_to_end(&mut message.body).await?;
        }
        Length::Chunked => loop {
            let mut size = String::new();
            stream.read_line(&mut size).await?;
            let size = usize::from_str_radix(size.trim_end(), 16).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            let start = message.body.len();
            message.body.resize(start + size, 0);
            stream.read_exact(&mut message.body[start..]).await?;
            stream.read_exact(&mut [0; 2]).await?;
            if size == 0 {
                break;
            }
        },
    }
    Ok(())
}

fn length(message: &Message) -> Length {
    let is_answer = message.start.starts_with("HTTP/");
    if !message.header("transfer-encoding").is_empty() {
        return Length::Chunked;
    }
    match message.header("content-length").first() {
        Some(length) => Length::Bytes(length.parse().expect("a length is a number")),
        None if is_answer && !matches!(message.status(), 100..200 | 204 | 304) => Length::UntilTheEnd,
        None => Length::Bytes(0),
    }
}
