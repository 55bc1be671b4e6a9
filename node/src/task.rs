//! The one door for tasks: each has a kind, which says what its end means to the node.
use crate::trace;
use std::{
    collections::HashMap, convert::Infallible, error::Error, future::Future, time::Duration,
};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// What the end of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The node cannot do its work without it: its end before the stop, and any error, stops the node.
    Critical,
    /// The node goes on without it: an error is logged. A panic stops the node all the same.
    Background,
}

/// Why a node stopped by itself, or did not stop in time.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A task failed.
    #[error("{name} failed: {source}")]
    Failed {
        /// The task.
        name: &'static str,
        /// Its error.
        source: BoxError,
    },
    /// A critical task ended although nobody asked it to.
    #[error("{0} ended before the node was stopped")]
    Ended(&'static str),
    /// A task panicked.
    #[error("{0} panicked")]
    Panicked(&'static str),
    /// Tasks were still running when the grace period was over, and were dropped.
    #[error("{0} tasks had not stopped after the grace period")]
    Overdue(usize),
}

/// Any error of a task.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The tasks of one node.
#[derive(Debug)]
pub struct Tasks {
    set: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, (&'static str, Kind)>,
    stop: CancellationToken,
}

impl Tasks {
    /// No tasks yet. `stop` tells them to finish the step in hand; it is cancelled when a critical task ends.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            set: JoinSet::new(),
            names: HashMap::new(),
            stop,
        }
    }

    /// The token that a task has to watch.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task.
    pub fn spawn<E: Into<BoxError>>(
        &mut self,
        name: &'static str,
        kind: Kind,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let task = async move { task.await.map_err(Into::into) };
        let handle = self.set.spawn(trace::task(name, task));
        self.names.insert(handle.id(), (name, kind));
    }

    /// Watches what is no task, such as a thread: when it ends before the stop, the node stops. `ended` resolves then.
    pub fn watch(&mut self, name: &'static str, ended: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn(name, Kind::Critical, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = ended => tracing::error!(name, "ended by itself; the node cannot go on"),
            }
            Ok::<_, Infallible>(())
        });
    }

    /// Waits until the node is stopped or a critical task ends; then stops all tasks, waits up to `grace` for them,
    /// and drops those that are left.
    ///
    /// # Errors
    /// The first [`TaskError`], once every task has ended.
    pub async fn join(mut self, grace: Duration) -> Result<(), TaskError> {
        let stop = self.stop.clone();
        let mut result = Ok(());
        while result.is_ok() && !stop.is_cancelled() {
            result = tokio::select! {
                () = stop.cancelled() => break,
                ended = self.set.join_next_with_id() => match ended {
                    Some(ended) => self.judge(ended),
                    None => break,
                },
            };
        }
        stop.cancel();
        let drained = tokio::time::timeout(grace, self.drain()).await;
        let left = self.set.len();
        self.set.shutdown().await;
        result.and(drained.unwrap_or(Err(TaskError::Overdue(left))))
    }

    async fn drain(&mut self) -> Result<(), TaskError> {
        let mut result = Ok(());
        while let Some(ended) = self.set.join_next_with_id().await {
            result = result.and(self.judge(ended));
        }
        result
    }

    fn judge(
        &mut self,
        ended: Result<(Id, Result<(), BoxError>), JoinError>,
    ) -> Result<(), TaskError> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let (name, kind) = self.names.remove(&id).unwrap_or(("task", Kind::Critical));
        match (ended, kind) {
            (Err(_), _) => Err(TaskError::Panicked(name)),
            (Ok((_, Err(source))), Kind::Critical) => Err(TaskError::Failed { name, source }),
            (Ok((_, Err(error))), Kind::Background) => {
                tracing::error!(task = name, %error, "background task failed");
                Ok(())
            }
            (Ok((_, Ok(()))), Kind::Critical) if !self.stop.is_cancelled() => {
                Err(TaskError::Ended(name))
            }
            (Ok((_, Ok(()))), _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn tasks() -> Tasks {
        let mut tasks = Tasks::new(CancellationToken::new());
        let stop = tasks.stop();
        tasks.spawn("waits", Kind::Critical, async move {
            stop.cancelled().await;
            Ok::<_, std::io::Error>(())
        });
        tasks
    }

    fn broken() -> Result<(), std::io::Error> {
        Err(std::io::Error::other("broken"))
    }

    #[tokio::test]
    async fn a_stop_ends_every_task_without_an_error() {
        let tasks = tasks();
        tasks.stop().cancel();
        assert!(tasks.join(GRACE).await.is_ok());
    }

    #[tokio::test]
    async fn an_error_of_a_critical_task_stops_the_node_and_is_returned() {
        let mut tasks = tasks();
        let stop = tasks.stop();
        tasks.spawn("fails", Kind::Critical, async { broken() });
        let error = tasks.join(GRACE).await.unwrap_err();
        assert_eq!(error.to_string(), "fails failed: broken");
        assert!(stop.is_cancelled());
    }

    #[tokio::test]
    async fn a_critical_task_that_ends_early_stops_the_node() {
        let mut tasks = tasks();
        tasks.spawn("ends", Kind::Critical, async {
            Ok::<_, std::io::Error>(())
        });
        assert!(matches!(
            tasks.join(GRACE).await,
            Err(TaskError::Ended("ends"))
        ));
    }

    #[tokio::test]
    async fn the_end_of_what_is_watched_stops_the_node_and_a_stop_ends_the_watch() {
        let mut watched = tasks();
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        watched.watch("writer", async move { drop(ended.await) });
        let stop = watched.stop();
        let joined = tokio::spawn(watched.join(GRACE));
        tokio::task::yield_now().await;
        assert!(!stop.is_cancelled());
        drop(alive);
        let error = joined.await.unwrap().unwrap_err();
        assert!(matches!(error, TaskError::Ended("writer")), "{error}");
        let mut watched = tasks();
        watched.watch("writer", std::future::pending());
        watched.stop().cancel();
        assert!(watched.join(GRACE).await.is_ok());
    }

    #[tokio::test]
    async fn an_error_of_a_background_task_does_not_stop_the_node() {
        let mut tasks = tasks();
        let stop = tasks.stop();
        tasks.spawn("fails", Kind::Background, async { broken() });
        let joined = tokio::spawn(tasks.join(GRACE));
        tokio::task::yield_now().await;
        assert!(!stop.is_cancelled());
        stop.cancel();
        assert!(joined.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_panic_of_any_task_stops_the_node() {
        let mut tasks = tasks();
        tasks.spawn("panics", Kind::Background, async {
            if std::hint::black_box(true) {
                panic!("on purpose");
            }
            broken()
        });
        assert!(matches!(
            tasks.join(GRACE).await,
            Err(TaskError::Panicked("panics"))
        ));
    }

    #[tokio::test]
    async fn a_task_that_ignores_the_stop_is_dropped_after_the_grace_period() {
        let mut tasks = tasks();
        tasks.spawn("deaf", Kind::Critical, async {
            std::future::pending::<()>().await;
            broken()
        });
        tasks.stop().cancel();
        assert!(matches!(
            tasks.join(Duration::from_millis(10)).await,
            Err(TaskError::Overdue(1))
        ));
    }
}
