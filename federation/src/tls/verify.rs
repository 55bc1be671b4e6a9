//! Checks of the other end's certificate: chain, validity, purpose and revocation by webpki, then the identity URI.
use super::Current;
use crate::{
    identity::{Identity, IdentityError, Peer},
    pki::NODE_DNS,
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, DnsName, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::{fmt, sync::Arc};
use types::Place;

/// A peer with a good certificate that is not the peer we talk to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnexpectedPeer {
    /// The certificate does not say whose it is.
    #[error(transparent)]
    Nobody(#[from] IdentityError),
    /// It is somebody else.
    #[error("the peer is {found}, {expected} was expected")]
    Other {
        /// Who was expected.
        expected: String,
        /// Who it is.
        found: Identity,
    },
}

impl UnexpectedPeer {
    /// The peer that a failed handshake found, when that is why it failed.
    #[must_use]
    pub fn from_tls(error: &Error) -> Option<&Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
                other.downcast_ref()
            }
            _ => None,
        }
    }
}

impl From<UnexpectedPeer> for Error {
    fn from(unexpected: UnexpectedPeer) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(unexpected))))
    }
}

/// The DNS name that every node's certificate carries.
pub(super) fn node_name() -> ServerName<'static> {
    DnsName::try_from(NODE_DNS).map_or_else(
        |_| ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
        ServerName::DnsName,
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Node,
    Device,
}

/// Checks clients of a server: certificates of nodes, or certificates of devices.
pub(super) struct MeshClients {
    current: Arc<Current>,
    algorithms: WebPkiSupportedAlgorithms,
    kind: Kind,
    /// Whether a client has to have a certificate. One that shows one is checked in any case.
    mandatory: bool,
}

impl MeshClients {
    pub(super) fn nodes(current: &Arc<Current>, provider: &CryptoProvider) -> Self {
        Self::new(current, provider, Kind::Node)
    }

    pub(super) fn devices(current: &Arc<Current>, provider: &CryptoProvider) -> Self {
        Self::new(current, provider, Kind::Device)
    }

    fn new(current: &Arc<Current>, provider: &CryptoProvider, kind: Kind) -> Self {
        Self {
            current: Arc::clone(current),
            algorithms: provider.signature_verification_algorithms,
            kind,
            mandatory: true,
        }
    }

    /// The same, where a client may say in another way who it is.
    pub(super) const fn or_without(mut self, without: bool) -> Self {
        self.mandatory = !without;
        self
    }
}

impl fmt::Debug for MeshClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshClients({:?})", self.kind)
    }
}

impl ClientCertVerifier for MeshClients {
    /// None: clients have one certificate, and the hint would tell strangers which authority to look for.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let material = self.current.get();
        let chain = match self.kind {
            Kind::Node => &material.nodes,
            Kind::Device => &material.devices,
        };
        let verified = chain.verify_client_cert(end_entity, intermediates, now)?;
        let peer = Peer::from_cert(end_entity).map_err(UnexpectedPeer::Nobody)?;
        match (self.kind, &peer.identity) {
            (Kind::Node, Identity::Node(_)) | (Kind::Device, Identity::Device { .. }) => {
                Ok(verified)
            }
            (Kind::Node, found) => Err(other("a node", found)),
            (Kind::Device, found) => Err(other("a device", found)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Checks that a server is the node at one place.
pub(super) struct ExpectedNode {
    current: Arc<Current>,
    algorithms: WebPkiSupportedAlgorithms,
    expected: Place,
}

impl ExpectedNode {
    pub(super) fn new(current: &Arc<Current>, provider: &CryptoProvider, expected: Place) -> Self {
        Self {
            current: Arc::clone(current),
            algorithms: provider.signature_verification_algorithms,
            expected,
        }
    }
}

impl fmt::Debug for ExpectedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExpectedNode({})", self.expected)
    }
}

impl ServerCertVerifier for ExpectedNode {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.current.get().servers.verify_server_cert(
            end_entity,
            intermediates,
            &node_name(),
            ocsp_response,
            now,
        )?;
        let peer = Peer::from_cert(end_entity).map_err(UnexpectedPeer::Nobody)?;
        match &peer.identity {
            Identity::Node(place) if *place == self.expected => Ok(verified),
            found => Err(other(&self.expected.to_string(), found)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn other(expected: &str, found: &Identity) -> Error {
    Error::from(UnexpectedPeer::Other {
        expected: expected.to_owned(),
        found: found.clone(),
    })
}
