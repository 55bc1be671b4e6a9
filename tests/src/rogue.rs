//! A peer that does not keep to the rules: it holds some certificate and dials whom it likes, without a look at who
//! answers.
use anyhow::{Context, Result, anyhow};
use federation::wire::{Parcel, Receipt, mesh_client::MeshClient};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use std::{io, path::Path, sync::Arc};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Status, transport::Endpoint};

/// A certificate and its key, ready to dial.
pub struct Rogue {
    tls: Arc<ClientConfig>,
}

impl Rogue {
    /// Takes somebody's certificate (PEM chain) and key.
    ///
    /// # Errors
    /// The files hold something else.
    pub fn new(cert: &Path, key: &Path) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
            .and_then(Iterator::collect)
            .map_err(|error| anyhow!("{}: {error:?}", cert.display()))?;
        let key =
            PrivateKeyDer::from_pem_file(key).map_err(|e| anyhow!("{}: {e:?}", key.display()))?;
        let mut tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { tls: Arc::new(tls) })
    }

    /// A connection on which the server has said something: with TLS 1.3 a client learns only then whether its own
    /// certificate was taken.
    ///
    /// # Errors
    /// What the server said against it, such as an alert.
    pub async fn dial(&self, address: &str) -> io::Result<()> {
        self.connect(address).await?.read_exact(&mut [0]).await?;
        Ok(())
    }

    /// Delivers a parcel, and gives how the call ended.
    ///
    /// # Errors
    /// The connection was not even made, or the parcel was answered.
    pub async fn deliver(&self, address: &str, parcel: Parcel) -> Result<Status> {
        match self.answer(address, parcel).await? {
            Err(status) => Ok(status),
            Ok(receipt) => Err(anyhow!("answered: {receipt:?}")),
        }
    }

    /// Delivers a parcel on a connection of its own, and gives its receipt, or how the call ended.
    ///
    /// # Errors
    /// The connection was not even made.
    pub async fn answer(
        &self,
        address: &str,
        parcel: Parcel,
    ) -> Result<Result<Option<Receipt>, Status>> {
        let mut once = Some(self.connect(address).await?);
        let connector = tower::service_fn(move |_| {
            let stream = once.take().map(TokioIo::new);
            async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let endpoint = Endpoint::from_static("http://node.medmesh.internal");
        let channel = endpoint.connect_with_connector(connector).await?;
        let parcels = tokio_stream::iter([parcel]);
        Ok(match MeshClient::new(channel).deliver(parcels).await {
            Err(status) => Err(status),
            Ok(receipts) => receipts.into_inner().message().await,
        })
    }

    /// Shakes hands and says nothing more, until it is cut off.
    ///
    /// # Errors
    /// How it was cut off.
    pub async fn hold(&self, address: &str) -> io::Result<()> {
        let mut stream = self.connect(address).await?;
        while stream.read(&mut [0; 64]).await? > 0 {}
        Ok(())
    }

    async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("node.medmesh.internal").map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await
    }
}

/// The address of a URL such as `https://127.0.0.1:7000`.
///
/// # Errors
/// It is none.
pub fn address(url: &str) -> Result<&str> {
    url.strip_prefix("https://").context("not an https URL")
}

/// Takes any server for whom it says it is.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
