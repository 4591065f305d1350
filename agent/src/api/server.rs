//! The agent's end of the socket.
//!
//! [`Server::bind`] also makes sure that only one agent runs per socket: the lock file beside it is
//! held as long as the server lives, and goes with the process however that ends.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::REQUEST_LIMIT;
use super::model::{Request, Response};

/// Mode of the socket: root and its group may ask.
pub const SOCKET_MODE: u32 = 0o660;
/// Connections served at once; more wait in the backlog.
const CONNECTIONS: usize = 32;

/// A request for the main loop. Dropping it tells the client that the agent is stopping.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Takes the answer.
    pub reply: oneshot::Sender<Response>,
}

/// How long the server waits for others.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a whole request line to come in, and for a response to be taken.
    pub client: Duration,
    /// For the main loop's answer.
    pub agent: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { client: Duration::from_secs(10), agent: Duration::from_secs(20) }
    }
}

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An agent is there.
    #[error("another underpass is running at {}; stop it, or give this one its own `agent.socket`", path.display())]
    Running {
        /// Socket.
        path: PathBuf,
    },
    /// Something in the way of the socket is not a socket.
    #[error("{} is not a socket; remove it or set `agent.socket` to another path", path.display())]
    NotASocket {
        /// Path.
        path: PathBuf,
    },
    /// The file system or the kernel refuses.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// "create the folder", "lock", ...
        operation: &'static str,
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A bound socket; dropping it removes the socket's file.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    patience: Patience,
    /// Held, not used.
    _lock: File,
}

impl Server {
    /// Binds the socket with permissions `mode`; makes its folder. A file that a dead agent left is
    /// replaced. Needs a tokio runtime.
    ///
    /// # Errors
    /// Another agent runs at this socket, something else is in the way, or the system refuses.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, ServerError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| ServerError::Io { operation, path, source }
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed("create the folder", folder))?;
        }
        let lock = lock(path)?;
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(failed("listen on", path))?;
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed("set the mode of", path))?;
        Ok(Self { listener, path: path.to_owned(), patience: Patience::default(), _lock: lock })
    }

    /// Replaces the default waiting times.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Serves until the receiver of `calls` is gone; dropping the future ends all connections.
    pub async fn serve(self, calls: mpsc::Sender<Call>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = calls.closed() => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(converse(stream, calls.clone(), self.patience));
                    }
                    Err(error) => {
                        // Out of file descriptors or memory: let connections end before the next try.
                        warn!(%error, socket = %self.path.display(), "cannot accept a connection of the CLI");
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                },
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            debug!(%error, socket = %self.path.display(), "cannot remove the socket");
        }
    }
}

fn lock(socket: &Path) -> Result<File, ServerError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let failed = |source| ServerError::Io { operation: "lock", path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::Running { path: socket.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), ServerError> {
    use std::os::unix::fs::FileTypeExt;
    let failed = |source| ServerError::Io { operation: "replace", path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ServerError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ServerError::Running { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Answers the lines of one connection until it closes, falls silent or sends a line too long.
async fn converse(stream: UnixStream, calls: mpsc::Sender<Call>, patience: Patience) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let line = match timeout(patience.client, read_line(&mut read)).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                debug!(%error, "a connection of the CLI broke");
                return;
            }
            Err(_) => {
                debug!("closed a silent connection of the CLI");
                return;
            }
        };
        let (response, last) = match line {
            Line::Whole(line) => (answer(&line, &calls, patience.agent).await, false),
            Line::TooLong => (refusal(format!("the request is longer than {REQUEST_LIMIT} bytes")), true),
        };
        match timeout(patience.client, write_line(&mut write, &response)).await {
            Ok(Ok(())) if !last => {}
            _ => return,
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// The next line without its end, or `None` at the end of the stream. A last line without a newline
/// counts.
async fn read_line(read: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let limit = u64::try_from(REQUEST_LIMIT).expect("fits");
    let length = read.take(limit).read_until(b'\n', &mut line).await?;
    if length == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') && length == REQUEST_LIMIT {
        return Ok(Some(Line::TooLong));
    }
    Ok(Some(Line::Whole(line)))
}

async fn write_line(write: &mut (impl AsyncWriteExt + Unpin), response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// The main loop's answer to a line.
async fn answer(line: &[u8], calls: &mpsc::Sender<Call>, patience: Duration) -> Response {
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return refusal(format!("the request is not understood: {error}")),
    };
    let (reply, response) = oneshot::channel();
    let asked = async {
        calls.send(Call { request, reply }).await.ok()?;
        response.await.ok()
    };
    match timeout(patience, asked).await {
        Ok(Some(response)) => response,
        Ok(None) => refusal("the agent is stopping".to_owned()),
        Err(_) => refusal(format!("the agent is busy: no answer within {} s; try again", patience.as_secs())),
    }
}

fn refusal(message: String) -> Response {
    Response::Error { message }
}

#[cfg(test)]
mod tests;
