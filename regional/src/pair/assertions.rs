//! What the token servers of both nodes share: the assertions that were used at either, and the secret of tokens.
use ed25519_dalek::SigningKey;
use fhir::postgres::Pair;
use node::token::{Noted, Shared, SharedUse};
use std::sync::Arc;
use tokio::runtime::Handle;

/// What is shared. The secret is the key that both nodes sign with.
pub(super) fn shared(pair: &Arc<Pair>, key: &SigningKey) -> Shared {
    let used = Assertions {
        pair: pair.clone(),
        runtime: Handle::current(),
    };
    Shared::new(Arc::new(used), &key.to_bytes())
}

/// Assertions in the table of the region's PostgreSQL.
struct Assertions {
    pair: Arc<Pair>,
    runtime: Handle,
}

impl SharedUse for Assertions {
    fn note(
        &self,
        assertion: (&str, &str),
        times: (i64, i64),
        most: usize,
    ) -> Result<Noted, Box<dyn std::error::Error + Send + Sync>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let noted = self.pair.note_assertion(assertion, times, most);
        Ok(match self.runtime.block_on(noted)? {
            fhir::postgres::Noted::First => Noted::First,
            fhir::postgres::Noted::Again => Noted::Again,
            fhir::postgres::Noted::TooMany => Noted::TooMany,
        })
    }
}
