//! A look at the next tier, by a person: whether it is there, whether it is the right one and takes this node's
//! certificate, and what time it is there. No parcel flows, and the running node's own link stays.
use super::{
    super::{HANDSHAKE_TIMEOUT, LinkError, ended},
    channel::{channel, host_and_port},
};
use crate::{
    tls::ReloadingTls,
    wire::{Wanted, mesh_client::MeshClient},
};
use std::{future::Future, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;
use types::{Place, Timestamp};

/// A place that does not answer by then is not there.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Dials the node at `there` and asks it for a blob that there is not: its answer says what time it is there, to the
/// second; none when it does not say.
///
/// # Errors
/// [`LinkError`]: it is not there, is another, or does not take this node's certificate.
pub async fn look(
    url: &str,
    there: &Place,
    tls: &ReloadingTls,
) -> Result<Option<Timestamp>, LinkError> {
    let mut client = connect(url, there, tls).await?;
    let asked = within(HANDSHAKE_TIMEOUT, client.fetch(Wanted::default())).await?;
    let metadata = match asked {
        Ok(answer) => answer.metadata().clone(),
        // The peer did not take the certificate, which TLS 1.3 says after the handshake; an answer has no such code.
        Err(status)
            if matches!(
                status.code(),
                tonic::Code::Unknown | tonic::Code::Unavailable
            ) =>
        {
            return Err(ended(status));
        }
        Err(status) => status.metadata().clone(),
    };
    let date = metadata.get("date").and_then(|date| date.to_str().ok());
    Ok(date.and_then(http_date))
}

/// A connection of its own to the node at `there`, beside the link.
///
/// # Errors
/// [`LinkError`]: it is not there, or is another.
pub(in crate::link) async fn connect(
    url: &str,
    there: &Place,
    tls: &ReloadingTls,
) -> Result<MeshClient<Channel>, LinkError> {
    let (host, port) = host_and_port(url)?;
    let connector = TlsConnector::from(tls.client_mtls(there)?);
    let dial = async {
        let tcp = TcpStream::connect((host.as_str(), port)).await?;
        connector.connect(ReloadingTls::server_name(), tcp).await
    };
    let stream = within(LOOK_TIMEOUT, dial)
        .await?
        .map_err(LinkError::Connect)?;
    Ok(MeshClient::new(channel(stream).await?))
}

pub(in crate::link) async fn within<T>(
    limit: Duration,
    step: impl Future<Output = T>,
) -> Result<T, LinkError> {
    let done = timeout(limit, step).await;
    done.map_err(|_| LinkError::Timeout(limit))
}

/// The time of `Sat, 28 Nov 2026 10:55:37 GMT` (RFC 9110 §5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split(' ').skip(1);
    let (day, month) = (words.next()?, words.next()?);
    let (year, time) = (words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    format!("{year}-{month:02}-{day}T{time}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_a_time() {
        let read = |text| http_date(text).map(Timestamp::to_rfc3339);
        let said = read("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert!(said.starts_with("1994-11-06T08:49:37"), "{said}");
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
