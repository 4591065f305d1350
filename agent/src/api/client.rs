//! The CLI's end of the socket. Blocking: a command asks one thing and ends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::model::{Request, Response};

/// Longest wait for the agent, which answers between two pieces of work.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest response in bytes; a report of a million routes stays below it.
const RESPONSE_LIMIT: u64 = 1 << 30;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot reach the agent at {}: {source}; {}", path.display(), remedy(source))]
    Unreachable {
        /// Socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke or the agent took too long.
    #[error("the agent at {} does not answer: {source}; see its log", path.display())]
    NoAnswer {
        /// Socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is not one of this version.
    #[error(
        "the agent at {} answers in an unknown way: {source}; are agent and command of the same version?",
        path.display()
    )]
    NotUnderstood {
        /// Socket.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl ClientError {
    /// Whether it is certain that no agent runs at the socket: the file is missing or nobody listens.
    pub fn is_nobody_there(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Unreachable { source, .. } if matches!(source.kind(), NotFound | ConnectionRefused))
    }
}

/// What to do about an agent that cannot be reached.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run the command as root, or as a member of the socket's group",
        _ => "is `underpass run` running?",
    }
}

/// Asks the agent at a socket and waits for its answer, at most half a minute per read.
///
/// # Errors
/// Nobody listens, the agent does not answer in time, or with something else than a [`Response`].
pub fn call(path: &Path, request: &Request) -> Result<Response, ClientError> {
    let stream = UnixStream::connect(path)
        .map_err(|source| ClientError::Unreachable { path: path.to_owned(), source })?;
    let line = exchange(&stream, request)
        .map_err(|source| ClientError::NoAnswer { path: path.to_owned(), source })?;
    serde_json::from_str(&line).map_err(|source| ClientError::NotUnderstood { path: path.to_owned(), source })
}

fn exchange(mut stream: &UnixStream, request: &Request) -> io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(RESPONSE_LIMIT)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
    }
    Ok(answer)
}
