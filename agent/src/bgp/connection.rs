//! One TCP connection: bytes to messages and back. Neither direction waits for the other.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::notification::Notification;
use super::wire::{self, MAX_MESSAGE, Message};

/// Most bytes that wait to be sent. We send little: this is hundreds of KEEPALIVEs.
const SEND_BUFFER: usize = 16 * 1024;
/// How long a closing connection may take to hand over what was sent.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes thrown away while a connection closes.
const LINGER_BYTES: usize = 1024 * 1024;

/// What a connection has to say.
#[derive(Debug)]
pub enum Input {
    /// A message.
    Message(Message),
    /// Not a message: the NOTIFICATION to answer with.
    Invalid(Notification),
    /// It is gone; the error, unless the peer closed it in order.
    Closed(Option<io::Error>),
}

/// A connection with its buffers.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Longest message that the peer may send.
    longest: usize,
    received: BytesMut,
    to_send: BytesMut,
    blocked_since: Option<Instant>,
    /// Why sending failed: the reader sees only that the connection is over.
    send_error: Option<io::Error>,
    /// Since when something did not fit into the buffer: never again in order, so there is no way back.
    overflow: Option<Instant>,
}

impl Connection {
    /// Takes a connected stream whose peer sends messages of at most `longest` octets.
    pub fn new(stream: TcpStream, longest: usize) -> Self {
        Self {
            stream,
            longest,
            received: BytesMut::with_capacity(4 * MAX_MESSAGE),
            to_send: BytesMut::new(),
            blocked_since: None,
            send_error: None,
            overflow: None,
        }
    }

    /// Queues bytes; never waits. What does not fit marks the connection as blocked.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.to_send.len() + bytes.len() > SEND_BUFFER {
            self.overflow.get_or_insert_with(Instant::now);
        } else {
            self.to_send.extend_from_slice(bytes);
        }
    }

    /// When the peer counts as not taking what we send: at once if the buffer is full, otherwise `limit` after
    /// it last took something (RFC 9687 §3.2).
    pub fn blocked_at(&self, limit: Duration) -> Option<Instant> {
        self.overflow.or_else(|| self.blocked_since.map(|since| since + limit))
    }

    /// Sends what is queued and, if `read`, waits for the next message. Nothing is lost when the future that
    /// polls this is dropped.
    pub fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Input> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            if !read {
                return Poll::Ready(Input::Closed(Some(error)));
            }
            // With reading on, the reader reports: the peer's last words may still lie in the socket.
            self.send_error.get_or_insert(error);
        }
        if read { self.poll_message(cx) } else { Poll::Pending }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.to_send.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.to_send) {
                Poll::Ready(Ok(sent)) => {
                    self.to_send.advance(sent);
                    self.blocked_since = None;
                }
                Poll::Ready(Err(error)) => {
                    self.to_send.clear();
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        loop {
            match wire::decode(&mut self.received, self.longest) {
                Ok(Some(message)) => return Poll::Ready(Input::Message(message)),
                Ok(None) => {}
                Err(invalid) => return Poll::Ready(Input::Invalid(invalid)),
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Input::Closed(self.send_error.take())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Input::Closed(Some(error))),
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [0; MAX_MESSAGE];
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        self.received.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Hands over what is queued, then closes. Unread input is thrown away first: closing with it would reset
    /// the connection, and the peer would lose our NOTIFICATION.
    pub async fn close(mut self) {
        let farewell = async {
            self.stream.write_all(&self.to_send).await?;
            self.stream.shutdown().await?;
            let mut rest = (&mut self.stream).take(LINGER_BYTES as u64);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
        };
        // Who does not listen now has the hold timer to find out.
        let _ = timeout(LINGER, farewell).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_full_buffer_blocks_at_once_and_for_good() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connection =
            Connection::new(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap(), MAX_MESSAGE);
        connection.send(&[0; SEND_BUFFER]);
        assert_eq!(connection.blocked_at(LINGER), None, "full, but nothing was lost");
        connection.send(&[0]);
        let now = Instant::now();
        assert!(connection.blocked_at(LINGER).is_some_and(|at| at <= now), "due");
        std::future::poll_fn(|cx| connection.poll_send(cx)).await.unwrap();
        assert!(
            connection.blocked_at(LINGER).is_some_and(|at| at <= now),
            "an octet is missing in the stream"
        );
    }
}
