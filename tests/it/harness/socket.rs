//! A WebSocket to the server, as a program or a browser opens one.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::client::{Client, Reply, send};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open socket.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Json(Value),
    Binary(Bytes),
    /// The server's close frame: its code and its reason.
    Closed(u16, String),
    /// The connection ended without one.
    Gone,
}

impl Client {
    /// Opens one; the path may have a query.
    pub async fn socket(&self, path: &str) -> Socket {
        self.try_socket(path).await.expect("an upgrade")
    }

    /// As [`Client::socket`], where it may be refused; the status then.
    pub async fn try_socket(&self, path: &str) -> Result<Socket, u16> {
        let url = format!("{}{path}", self.url().replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("an address");
        for (name, value) in self.headers() {
            let value = value.parse().expect("a header's value");
            request.headers_mut().append(*name, value);
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((stream, answer)) => {
                assert!(answer.headers().contains_key("x-request-id"), "{answer:?}");
                Ok(Socket(stream))
            }
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The answer to an upgrade that is refused.
    pub async fn refused(&self, path: &str) -> Reply {
        let request = self
            .request("GET", path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        send(request).await
    }
}

impl Socket {
    pub async fn text(&mut self, text: impl Into<String>) {
        let text: String = text.into();
        self.0.send(Message::text(text)).await.expect("it is open");
    }

    pub async fn binary(&mut self, bytes: impl Into<Bytes>) {
        self.0
            .send(Message::binary(bytes.into()))
            .await
            .expect("it is open");
    }

    /// Sends where the server may have ended it.
    pub async fn try_text(&mut self, text: impl Into<String>) {
        let text: String = text.into();
        let _ended = self.0.send(Message::text(text)).await;
    }

    /// What comes next; pings are answered on the way.
    pub async fn next(&mut self) -> Said {
        let next = async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => {
                        let value = serde_json::from_str(&text);
                        return Said::Json(value.unwrap_or_else(|e| panic!("{e}: {text}")));
                    }
                    Some(Ok(Message::Binary(bytes))) => return Said::Binary(bytes),
                    Some(Ok(Message::Close(frame))) => {
                        let (code, reason) = frame
                            .map_or((CloseCode::Status, String::new()), |f| {
                                (f.code, f.reason.to_string())
                            });
                        return Said::Closed(code.into(), reason);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Said::Gone,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next)
            .await
            .expect("something comes, or it ends")
    }

    /// The next message, which is JSON.
    #[track_caller]
    pub fn message(&mut self) -> impl Future<Output = Value> {
        let place = std::panic::Location::caller();
        async move {
            match self.next().await {
                Said::Json(value) => value,
                other => panic!("{place}: {other:?} instead of a message"),
            }
        }
    }

    /// How it ends, whatever comes before.
    pub async fn end(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Said::Closed(code, reason) => return (code, reason),
                Said::Gone => return (0, String::new()),
                Said::Json(_) | Said::Binary(_) => {}
            }
        }
    }

    /// Ends it as a browser does.
    pub async fn close(mut self) {
        let _ended = self.0.close(None).await;
        // It answers; who leaves before may take what was sent last with it.
        let rest = async { while matches!(self.0.next().await, Some(Ok(_))) {} };
        let _slow = tokio::time::timeout(Duration::from_secs(10), rest).await;
    }
}
