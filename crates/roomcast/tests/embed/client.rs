//! A client that speaks its packets by hand.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::PATIENCE;

/// A client over a WebSocket.
pub struct Client(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Opens a connection; the open packet is read.
    pub async fn open(address: SocketAddr) -> Self {
        let (socket, _) = connect_async(format!("ws://{address}/socket.io/?EIO=4&transport=websocket&name=x"))
            .await
            .expect("the gateway takes WebSockets");
        let mut client = Self(socket);
        let open = client.packet().await;
        assert!(open.starts_with("0{"), "{open}");
        client
    }

    /// Opens a connection and enters the namespace; gives the socket's id.
    pub async fn enter(address: SocketAddr, namespace: &str) -> (Self, String) {
        let mut client = Self::open(address).await;
        client.say(&format!("40{namespace},")).await;
        let answer = client.packet().await;
        let of_namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        let json = answer.strip_prefix(&format!("40{of_namespace}")).expect("it is let in");
        let answer: Value = serde_json::from_str(json).expect("JSON");
        (client, answer["sid"].as_str().expect("an id").to_owned())
    }

    pub async fn say(&mut self, packet: &str) {
        self.0.send(Frame::text(packet)).await.expect("the gateway reads");
    }

    /// The next frame; pings are answered on the way.
    pub async fn frame(&mut self) -> Frame {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("in time");
            match frame.expect("the connection stays").expect("it is sound") {
                Frame::Text(text) if text.as_str() == "2" => self.say("3").await,
                frame => return frame,
            }
        }
    }

    pub async fn packet(&mut self) -> String {
        match self.frame().await {
            Frame::Text(text) => text.to_string(),
            other => panic!("text, not {other:?}"),
        }
    }

    /// The next packet must be this one.
    pub async fn hears(&mut self, packet: &str) {
        assert_eq!(self.packet().await, packet);
    }

    pub async fn is_closed(&mut self) {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("in time") {
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            }
        }
    }
}
