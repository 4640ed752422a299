//! One HTTP request to an engine on a Unix socket.

use std::path::Path;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::{
    EngineError, Kind,
    background::{self, Lost, PATIENCE},
    error,
};

/// An answer larger than this is no engine's.
const LIMIT: usize = 64 << 20;

/// A socket with the engine behind it.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) kind: Kind,
    pub(crate) socket: std::path::PathBuf,
}

enum Trouble {
    Io(std::io::Error),
    Protocol(String),
}

impl Api {
    /// `GET path`, its body as JSON. `request` says in words what is asked.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str, request: &str) -> Result<T, EngineError> {
        let (status, body) = self.exchange(path)?;
        if !status.is_success() {
            return Err(EngineError::Refused {
                kind: self.kind,
                socket: self.socket.clone(),
                request: request.to_owned(),
                message: message(&body).unwrap_or_else(|| status.to_string()),
                missing: status == StatusCode::NOT_FOUND,
            });
        }
        serde_json::from_slice(&body).map_err(|error| self.unreadable(request, &error.to_string()))
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

    fn exchange(&self, path: &str) -> Result<(StatusCode, Bytes), EngineError> {
        let (socket, path) = (self.socket.clone(), path.to_owned());
        let conversation = async move { converse(&socket, &path).await };
        match background::wait(PATIENCE, conversation) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Trouble::Io(source))) => Err(error::connection(self.kind, &self.socket, source)),
            Ok(Err(Trouble::Protocol(problem))) => {
                Err(EngineError::Stranger { kind: self.kind, socket: self.socket.clone(), problem })
            }
            Err(lost) => Err(lost_at(self.kind, &self.socket, lost)),
        }
    }
}

/// A conversation that came to nothing, as an error of this engine.
pub(crate) fn lost_at(kind: Kind, socket: &Path, lost: Lost) -> EngineError {
    let socket = socket.to_owned();
    match lost {
        Lost::Late(after) => EngineError::Late { kind, socket, after },
        Lost::Broken(source) => EngineError::Connection { kind, socket, source },
    }
}

async fn converse(socket: &Path, path: &str) -> Result<(StatusCode, Bytes), Trouble> {
    let protocol = |error: hyper::Error| Trouble::Protocol(error.to_string());
    let stream = UnixStream::connect(socket).await.map_err(Trouble::Io)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(protocol)?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header("Host", "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Trouble::Protocol(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(protocol)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LIMIT)
        .collect()
        .await
        .map_err(|error| Trouble::Protocol(error.to_string()))?;
    Ok((status, body.to_bytes()))
}

/// What the engine says went wrong.
fn message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    value.get("message")?.as_str().map(str::to_owned)
}

/// A name or id as part of a request's path.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixListener,
    };

    use super::*;

    /// An engine that gives one answer.
    fn answers(text: &'static str) -> (tempfile::TempDir, Api) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        });
        (folder, Api { kind: Kind::Docker, socket })
    }

    #[test]
    fn reads_what_an_engine_says() {
        let (_folder, api) = answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
        assert_eq!(api.get::<Vec<u8>>("/x", "list").unwrap(), Vec::<u8>::new());
        let (_folder, api) =
            answers("HTTP/1.1 404 Not Found\r\nContent-Length: 24\r\n\r\n{\"message\":\"no such it\"}");
        let error = api.get::<Vec<u8>>("/x", "list").unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("no such it"), "{error}");
        let (_folder, api) = answers("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        assert!(matches!(api.get::<Vec<u8>>("/x", "list"), Err(EngineError::Answer { .. })));
        let (_folder, api) = answers("SSH-2.0-OpenSSH_9.2\r\n");
        assert!(matches!(api.get::<Vec<u8>>("/x", "list"), Err(EngineError::Stranger { .. })));
    }

    #[test]
    fn says_why_nobody_answers() {
        let folder = tempfile::tempdir().unwrap();
        let api = |name: &str| Api { kind: Kind::Docker, socket: folder.path().join(name) };
        let missing = api("none").get::<()>("/", "list").unwrap_err();
        assert!(matches!(missing, EngineError::NoSocket { .. }), "{missing:?}");
        drop(UnixListener::bind(folder.path().join("dead")).unwrap());
        let dead = api("dead").get::<()>("/", "list").unwrap_err();
        assert!(matches!(dead, EngineError::NotRunning { .. }), "{dead:?}");
    }

    #[test]
    fn names_are_no_paths() {
        assert_eq!(escape("a_b.c-1"), "a_b.c-1");
        assert_eq!(escape("../x?y=ä"), "..%2Fx%3Fy%3D%C3%A4");
    }
}
