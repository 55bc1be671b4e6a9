//! Where a node listens: a port that is taken says so.
use crate::error::RegionalError;
use node::listeners;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// A listener, and the address that it got.
///
/// # Errors
/// [`RegionalError::Listen`].
pub(crate) async fn listen(
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), RegionalError> {
    let failed = |source| RegionalError::Listen { address, source };
    let listener = listeners::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
