//! One background thread for all conversations: the callers block, whatever runtime of their own they are in.

use std::{
    future::Future,
    sync::{OnceLock, mpsc},
    time::Duration,
};

use tokio::runtime::{Builder, Runtime};

/// How long an engine may take for one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Why a conversation has no result.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The engine took longer than this.
    Late(Duration),
    /// The conversation cannot be held at all.
    Broken(std::io::Error),
}

/// Waits for a conversation that runs on the background thread, at most `patience`.
pub(crate) fn wait<T, F>(patience: Duration, conversation: F) -> Result<T, Lost>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    static RUNTIME: OnceLock<Result<Runtime, std::io::Error>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(1).thread_name("engine").enable_all().build()
    });
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Err(Lost::Broken(std::io::Error::new(error.kind(), error.to_string()))),
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // Nobody listens any more where the caller was interrupted; there is nothing to tell then.
        let _ = sender.send(tokio::time::timeout(patience, conversation).await);
    });
    match receiver.recv() {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(Lost::Late(patience)),
        Err(_) => Err(Lost::Broken(std::io::Error::other("the conversation with the engine broke off"))),
    }
}
