//! What is left to do when this node was killed while a file was put up, or a region was put back.
use super::{Deliveries, Delivery, rows};
use federation::{
    blobs::{Descriptor, Digest},
    ledger::Commit,
    port::PortError,
};
use types::Place;

impl Deliveries {
    /// Checks files of which all was put up just before the node ended.
    ///
    /// # Errors
    /// [`PortError`]: they are left to the next start.
    pub(super) async fn settle(&self) -> Result<(), PortError> {
        let incoming = |commit: &mut Commit<'_>| Delivery::incoming(commit.tx());
        let incoming = self.ledger.commit("incoming deliveries", incoming).await?;
        for delivery in incoming {
            let descriptor = Descriptor {
                digest: Digest::from_bytes(delivery.sha256),
                size: delivery.size,
            };
            self.blobs.settle(&Place::Global, descriptor).await?;
        }
        Ok(())
    }

    /// Regions that were put back are sent again what they may lack.
    ///
    /// # Errors
    /// [`PortError`]: what was not sent is left to the next time.
    pub(super) async fn send_again(&self) -> Result<(), PortError> {
        for region in self.ledger.lacking().await? {
            let again = region.clone();
            let step = move |commit: &mut Commit<'_>| rows::lacked_by(commit.tx(), &again);
            self.ledger.commit("send deliveries again", step).await?;
            self.look().await?;
            self.ledger.reshipped_to(&region).await?;
        }
        Ok(())
    }
}
