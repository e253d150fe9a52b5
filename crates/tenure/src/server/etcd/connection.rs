//! One connection to a member: HTTP/2, which carries all calls and watches at once.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::body::Body;
use tower_service::Service;

use crate::model::error::Result;
use crate::server::tls::{self, Identity};
use crate::server::url::{Host, Url};
use crate::server::{io_thread, names};

/// The time until the next address of a name is tried beside the one before.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// The time between two pings while calls are open. etcd refuses more than one in five seconds.
const PING: Duration = Duration::from_secs(10);
/// The time for the answer to a ping.
const PONG: Duration = Duration::from_secs(5);

/// Sends requests on a connection. Clones share it, and it ends with the last one.
#[derive(Clone, Debug)]
pub(super) struct Channel(SendRequest<Body>);

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Channel {
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Returns the settings of TLS for these certificates, with HTTP/2.
pub(super) fn tls_config(url: &Url, identity: &Identity) -> Result<Arc<ClientConfig>> {
    let mut config = tls::config(url, identity)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Connects to a member, within `limit`. An error is in words for people.
pub(super) async fn connect(
    host: &Host,
    tls: Option<Arc<ClientConfig>>,
    limit: Duration,
) -> std::result::Result<Channel, String> {
    let connected = io_thread::within(limit, async {
        let addresses = names::resolve(&host.name, limit).await.map_err(|error| error.to_string())?;
        let stream = reach(&addresses, host.port).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let Some(config) = tls else { return begin(stream).await };
        let name = ServerName::try_from(host.name.clone()).map_err(|error| error.to_string())?;
        let secure = tokio_rustls::TlsConnector::from(config).connect(name, stream).await;
        begin(secure.map_err(|error| error.to_string())?).await
    });
    connected.await.unwrap_or_else(|| Err(format!("no connection within {} ms", limit.as_millis())))
}

/// Connects to the first address that answers. Each gets a moment before the next one is tried as well.
async fn reach(addresses: &[IpAddr], port: u16) -> std::io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut addresses = addresses.iter();
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = addresses.next();
        if let Some(address) = next {
            attempts.spawn(TcpStream::connect(SocketAddr::new(*address, port)));
        }
        let wait = if addresses.len() > 0 { NEXT_ADDRESS } else { Duration::MAX };
        match io_thread::within(wait, attempts.join_next()).await {
            Some(Some(Ok(Ok(stream)))) => return Ok(stream),
            Some(Some(Ok(Err(error)))) => last = error,
            Some(Some(Err(_))) | None => {}
            Some(None) if next.is_none() => return Err(last),
            Some(None) => {}
        }
    }
}

async fn begin<S>(stream: S) -> std::result::Result<Channel, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| in_words(&error))?;
    tokio::spawn(async move {
        // The calls report its errors.
        let _ = connection.await;
    });
    Ok(Channel(sender))
}

/// Returns the texts of an error and of its causes.
pub(super) fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
