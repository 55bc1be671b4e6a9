//! What every node looks at by itself: that its audit log is what was signed and what its peers hold, that nothing is
//! missing after a restore which nobody has acknowledged, and that no parcel waits for one that does not come.
use crate::{
    ledger::Ledger,
    port::{PortError, PortErrorKind},
};
use async_trait::async_trait;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often gaps and order are looked at (real time).
const LOOK: Duration = Duration::from_secs(2);
/// How often the whole audit log is recomputed, beginning at the start (real time).
pub const VERIFY_EVERY: Duration = Duration::from_secs(3_600);

/// How often a node keeps its own head in the file beside its log (real time): from then on a database that is cut or put
/// back alone is found without asking anybody.
pub const KEEP_HEAD_EVERY: Duration = Duration::from_secs(60);

/// What is found wrong, and the name of the check that shows it in `/ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// The audit log is not what was signed, or not what peers hold.
    Audit,
    /// Data is missing after a restore, and nobody has acknowledged it.
    Gap,
    /// Parcels are deferred as out of order for longer than
    /// [`OUT_OF_ORDER_LIMIT`](crate::ledger::OUT_OF_ORDER_LIMIT).
    Order,
}

impl Finding {
    /// Every finding.
    pub const ALL: [Self; 3] = [Self::Audit, Self::Gap, Self::Order];

    /// The name of the check.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Gap => "gap",
            Self::Order => "order",
        }
    }

    /// The reason in `/ready`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Audit => "the log is not what was signed",
            Self::Gap => "data is missing after a restore: acknowledge it",
            Self::Order => "parcels wait for one that does not come",
        }
    }
}

/// What is looked at.
#[async_trait]
pub trait Looked: Send + Sync {
    /// Gaps that nobody has acknowledged.
    async fn open_gaps(&self) -> Result<usize, PortError>;
    /// Recomputes the audit log and compares it with every head that is known beside it: how many entries there are.
    async fn verify(&self) -> Result<u64, PortError>;
    /// Keeps the log's own head in the file beside it.
    async fn keep_head(&self) -> Result<(), PortError>;
}

#[async_trait]
impl Looked for Ledger {
    async fn open_gaps(&self) -> Result<usize, PortError> {
        Ok(self.gaps().await?.len())
    }

    async fn verify(&self) -> Result<u64, PortError> {
        Self::verify(self).await
    }

    async fn keep_head(&self) -> Result<(), PortError> {
        let head = self.checkpoint().await?;
        self.keep_witness(head.unwrap_or_default()).await
    }
}

/// Looks until stopped, and says what is wrong (`true`) or right of each finding. `stuck` says whether parcels wait for
/// one that does not come.
pub async fn watch(
    node: impl Looked,
    stuck: impl Fn() -> bool + Send,
    say: impl Fn(Finding, bool) + Send,
    stop: CancellationToken,
) {
    let (mut due, mut order) = (Instant::now(), false);
    let (mut keep_due, mut believed) = (due, false);
    loop {
        if due <= Instant::now() {
            due = Instant::now() + VERIFY_EVERY;
            match node.verify().await {
                Ok(entries) => {
                    believed = true;
                    say(Finding::Audit, false);
                    tracing::debug!(entries, "the audit log is as it was signed");
                }
                Err(error) if error.kind == PortErrorKind::Unavailable => {
                    tracing::warn!(%error, "the audit log is not verified yet");
                    due = Instant::now() + LOOK;
                }
                Err(error) => {
                    tracing::error!(cause = root(&error), "the audit log is not what was signed");
                    say(Finding::Audit, true);
                    believed = false;
                }
            }
        }
        if believed && keep_due <= Instant::now() {
            keep_due = Instant::now() + KEEP_HEAD_EVERY;
            if let Err(error) = node.keep_head().await {
                tracing::warn!(%error, "the head of the audit log is not kept beside it");
            }
        }
        if let Ok(gaps) = node.open_gaps().await {
            #[expect(clippy::cast_precision_loss, reason = "a few gaps")]
            metrics::gauge!("medmesh_gaps_open").set(gaps as f64);
            say(Finding::Gap, gaps > 0);
        }
        let now = stuck();
        if now && !order {
            tracing::error!("parcels have been waiting for one before them that does not come");
        }
        order = now;
        say(Finding::Order, order);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// The first cause of an error.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    root.to_string()
}
