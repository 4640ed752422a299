//! One gRPC call to an engine on a Unix socket.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::http::uri::PathAndQuery;
use prost::Message;
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{
    EngineError, Kind,
    background::{self, PATIENCE},
    error,
    http::lost_at,
};

/// An answer may be this large: a container's specification with everything that its image brings.
const LIMIT: usize = 64 << 20;

/// A connection that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) kind: Kind,
    pub(crate) socket: PathBuf,
    channel: Channel,
}

impl Connection {
    /// Connects, or says why not.
    pub(crate) fn open(kind: Kind, socket: &Path) -> Result<Self, EngineError> {
        let path = socket.to_owned();
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()));
        let opened = background::wait(PATIENCE, async move {
            // The channel's own error does not tell a socket that is missing from one that is not for us.
            drop(UnixStream::connect(&path).await?);
            endpoint.map(|endpoint| endpoint.connect_lazy()).map_err(std::io::Error::other)
        });
        match opened {
            Ok(Ok(channel)) => Ok(Self { kind, socket: socket.to_owned(), channel }),
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
        let channel = self.channel.clone();
        let namespace = namespace.map(str::to_owned);
        let answer = background::wait(patience, async move {
            let mut message = Request::new(message);
            if let Some(namespace) = namespace {
                let value = MetadataValue::try_from(namespace)
                    .map_err(|_| Status::invalid_argument("no such namespace"))?;
                message.metadata_mut().insert("containerd-namespace", value);
            }
            let mut client = Grpc::new(channel).max_decoding_message_size(LIMIT);
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<Q, A>::default();
            client
                .unary(message, PathAndQuery::from_static(method), codec)
                .await
                .map(tonic::Response::into_inner)
        });
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(self.refused(&status, request)),
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
