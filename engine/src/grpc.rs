//! One gRPC call to an engine on a Unix socket, each on a connection of its own, so that an engine that was started
//! anew is asked like any other.
//!
//! The HTTP/2 connection is hyper's and not tonic's own transport: that one looks up hosts, which a fully static
//! binary cannot.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    task::{self, Poll},
    time::Duration,
};

use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    http::{self, Uri, uri::PathAndQuery},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;
use tonic::{Code, Request, Status, body::Body, client::Grpc, metadata::MetadataValue};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::{
    EngineError, Kind,
    background::{self, PATIENCE},
    error,
    http::lost_at,
};

/// An answer may be this large: a container's specification with everything that its image brings.
const LIMIT: usize = 64 << 20;

/// A socket with an engine behind it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) kind: Kind,
    pub(crate) socket: PathBuf,
}

/// An HTTP/2 connection, as tonic wants to have it.
struct Http2(SendRequest<Body>);

impl Service<http::Request<Body>> for Http2 {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Http2 {
    async fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let opened = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(std::io::Error::other)?;
        // It ends when its sender is dropped.
        tokio::spawn(connection);
        Ok(Self(sender))
    }
}

impl Connection {
    /// Connects, or says why not.
    pub(crate) fn open(kind: Kind, socket: &Path) -> Result<Self, EngineError> {
        let path = socket.to_owned();
        let opened = background::wait(PATIENCE, async move { UnixStream::connect(&path).await.map(drop) });
        match opened {
            Ok(Ok(())) => Ok(Self { kind, socket: socket.to_owned() }),
            Ok(Err(source)) => Err(error::connection(kind, socket, source)),
            Err(lost) => Err(lost_at(kind, socket, lost)),
        }
    }

    /// Calls `method` (`/package.Service/Method`); `request` says in words what is asked.
    pub(crate) fn call<Q, A>(
        &self,
        method: &'static str,
        message: Q,
        request: &str,
        namespace: Option<&str>,
    ) -> Result<A, EngineError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.call_within(PATIENCE, method, message, request, namespace)
    }

    /// The same, for a call that may take longer.
    pub(crate) fn call_within<Q, A>(
        &self,
        patience: Duration,
        method: &'static str,
        message: Q,
        request: &str,
        namespace: Option<&str>,
    ) -> Result<A, EngineError>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let socket = self.socket.clone();
        let namespace = namespace.map(str::to_owned);
        let answer = background::wait(patience, async move {
            let connection = Http2::connect(&socket).await?;
            Ok(ask(connection, method, message, namespace).await)
        });
        match answer {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(status))) => Err(self.refused(&status, request)),
            Ok(Err(source)) => Err(error::connection(self.kind, &self.socket, source)),
            Err(lost) => Err(lost_at(self.kind, &self.socket, lost)),
        }
    }

    fn refused(&self, status: &Status, request: &str) -> EngineError {
        let (kind, socket) = (self.kind, self.socket.clone());
        let unknown = status.code() == Code::Unimplemented && status.message().contains("unknown service");
        // What our own side says about an answer that is none has a cause; what an engine says has not.
        let garbled = std::error::Error::source(status).is_some()
            || matches!(status.code(), Code::Cancelled | Code::Unavailable);
        if unknown || garbled {
            let problem = if unknown { status.message() } else { "it does not speak gRPC" };
            return EngineError::Stranger { kind, socket, problem: problem.to_owned() };
        }
        EngineError::Refused {
            kind,
            socket,
            request: request.to_owned(),
            message: status.message().to_owned(),
            missing: status.code() == Code::NotFound,
        }
    }

    /// An answer that lacks something.
    pub(crate) fn unreadable(&self, request: &str, problem: &str) -> EngineError {
        EngineError::Answer {
            kind: self.kind,
            socket: self.socket.clone(),
            request: request.to_owned(),
            problem: problem.to_owned(),
        }
    }
}

async fn ask<Q, A>(
    connection: Http2,
    method: &'static str,
    message: Q,
    namespace: Option<String>,
) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut message = Request::new(message);
    if let Some(namespace) = namespace {
        let value =
            MetadataValue::try_from(namespace).map_err(|_| Status::invalid_argument("no such namespace"))?;
        message.metadata_mut().insert("containerd-namespace", value);
    }
    // The authority of a request on a Unix socket is by custom this one.
    let origin = Uri::from_static("http://localhost");
    let mut client = Grpc::with_origin(connection, origin).max_decoding_message_size(LIMIT);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = client.unary(message, PathAndQuery::from_static(method), codec).await;
    answer.map(tonic::Response::into_inner)
}
