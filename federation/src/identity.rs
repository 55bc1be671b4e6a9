//! Who a peer is, as its certificate says it: one SPIFFE URI, and a node's signing key.
//!
//! Nothing here decides whether a certificate is to be trusted (`tls` does), and no message is ever asked who sent it.
use ed25519_dalek::VerifyingKey;
use std::{fmt, str::FromStr};
use types::{DeviceId, FacilityId, Jurisdiction, Place, RegionId, Timestamp};
use x509_parser::{
    asn1_rs::Oid, certificate::X509Certificate, extensions::GeneralName, prelude::FromDer,
    time::ASN1Time,
};

/// Trust domain and root of every identity (SPIFFE-ID §2.1).
pub const URI_PREFIX: &str = "spiffe://medmesh/";

/// X.509 extension (not critical) that holds a node's Ed25519 public key as an OCTET STRING of 32 bytes.
///
/// The arc below 2.25 (ITU-T X.667) is a random number of 63 bits, since certificate encoders hold an arc in 64.
pub const NODE_KEY_OID: [u64; 3] = [2, 25, 0x5b61_c151_c821_44f5];

/// What is quoted of a foreign URI in an error, in characters.
const QUOTED_CHARS: usize = 128;

/// Who holds a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A node of the mesh.
    Node(Place),
    /// A device of a facility.
    Device {
        /// Whose law applies.
        jurisdiction: Jurisdiction,
        /// The region that the facility reports to.
        region: RegionId,
        /// The facility.
        facility: FacilityId,
        /// The device.
        device: DeviceId,
    },
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The bytes are not an X.509 certificate.
    #[error("this is not an X.509 certificate in DER")]
    NotACertificate,
    /// A certificate names exactly one holder (X509-SVID §2).
    #[error("the certificate has {found} URI names, exactly one is needed")]
    UriCount {
        /// URI names in the certificate.
        found: usize,
    },
    /// The URI is not one of ours.
    #[error("'{found}' is not the identity of a node or a device of this mesh")]
    Foreign {
        /// The beginning of the URI.
        found: String,
    },
    /// The extension with the node's signing key is doubled or does not hold an Ed25519 key.
    #[error("the node key in the certificate is not one Ed25519 public key")]
    NodeKey,
}

impl Identity {
    /// The URI: `spiffe://medmesh/edge/us/us/us-f1` or `spiffe://medmesh/device/us/us/us-f1/pump-1`.
    #[must_use]
    pub fn to_uri(&self) -> String {
        format!("{URI_PREFIX}{self}")
    }

    /// Reads who holds a certificate, and the node's signing key where the certificate carries one.
    ///
    /// # Errors
    /// When the certificate does not name exactly one holder, or names one of another mesh.
    pub fn from_cert(der: &[u8]) -> Result<(Self, Option<VerifyingKey>), IdentityError> {
        Peer::from_cert(der).map(|peer| (peer.identity, peer.key))
    }

    /// The place of a node; none for a device.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Node(place) => Some(place),
            Self::Device { .. } => None,
        }
    }

    /// Whether it is the node of a place, or a device of that facility.
    #[must_use]
    pub fn is_of(&self, place: &Place) -> bool {
        match self {
            Self::Node(node) => node == place,
            Self::Device {
                jurisdiction,
                region,
                facility,
                ..
            } => {
                let home = (place.jurisdiction(), place.region(), place.facility());
                home == (Some(*jurisdiction), Some(region), Some(facility))
            }
        }
    }
}

/// The path of the URI.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(place) => place.fmt(f),
            Self::Device {
                jurisdiction,
                region,
                facility,
                device,
            } => write!(f, "device/{jurisdiction}/{region}/{facility}/{device}"),
        }
    }
}

/// Parses the URI.
impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        uri.strip_prefix(URI_PREFIX)
            .and_then(|path| match path.strip_prefix("device/") {
                Some(device) => parse_device(device),
                None => path.parse().ok().map(Self::Node),
            })
            .ok_or_else(|| IdentityError::Foreign {
                found: uri.chars().take(QUOTED_CHARS).collect(),
            })
    }
}

fn parse_device(path: &str) -> Option<Identity> {
    let mut parts = path.split('/');
    let identity = Identity::Device {
        jurisdiction: parts.next()?.parse().ok()?,
        region: parts.next()?.parse().ok()?,
        facility: parts.next()?.parse().ok()?,
        device: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(identity)
}

/// A certificate's serial number: big-endian, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// The longest serial number, in bytes (RFC 5280 §4.1.2.2).
    pub const MAX_LEN: usize = 20;

    /// The serial number of these big-endian bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let digits = bytes.iter().copied().skip_while(|byte| *byte == 0);
        Self(digits.collect())
    }

    /// Big-endian, without leading zeros.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Hexadecimal, as `openssl x509 -serial` writes it but in lower case.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

/// Text that is not a serial number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a serial number is written as 2 to 40 hexadecimal digits")]
pub struct InvalidSerial;

impl FromStr for Serial {
    type Err = InvalidSerial;

    fn from_str(text: &str) -> Result<Self, InvalidSerial> {
        let bytes = hex::decode(text).map_err(|_| InvalidSerial)?;
        let serial = Self::new(&bytes);
        if serial.0.is_empty() || bytes.len() > Self::MAX_LEN {
            return Err(InvalidSerial);
        }
        Ok(serial)
    }
}

/// What the mesh knows of the other end of a connection: all of it is from the certificate.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// With which key it signs receipts and audit checkpoints; devices have none.
    pub key: Option<VerifyingKey>,
    /// The certificate, as revocation lists name it.
    pub serial: Serial,
    /// The begin of the certificate's validity (real time, whole seconds): when it was issued, this time had come.
    pub not_before: Timestamp,
    /// The end of the certificate's validity (real time, whole seconds).
    pub not_after: Timestamp,
}

impl Peer {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When the certificate does not name exactly one holder, or names one of another mesh.
    pub fn from_cert(der: &[u8]) -> Result<Self, IdentityError> {
        let (rest, cert) =
            X509Certificate::from_der(der).map_err(|_| IdentityError::NotACertificate)?;
        if !rest.is_empty() {
            return Err(IdentityError::NotACertificate);
        }
        let instant = |at: ASN1Time| Timestamp(at.timestamp().saturating_mul(1_000));
        Ok(Self {
            identity: only_uri(&cert)?.parse()?,
            key: node_key(&cert)?,
            serial: Serial::new(cert.raw_serial()),
            not_before: instant(cert.validity().not_before),
            not_after: instant(cert.validity().not_after),
        })
    }
}

/// The public key of a certificate (DER) as its holder's signatures are checked with it: of P-256, the point. None when it
/// is no certificate.
#[must_use]
pub fn public_key_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}

fn only_uri<'a>(cert: &'a X509Certificate<'_>) -> Result<&'a str, IdentityError> {
    let names = cert
        .subject_alternative_name()
        .map_err(|_| IdentityError::NotACertificate)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => Ok(uri),
        _ => Err(IdentityError::UriCount { found: uris.len() }),
    }
}

fn node_key(cert: &X509Certificate<'_>) -> Result<Option<VerifyingKey>, IdentityError> {
    let oid = Oid::from(&NODE_KEY_OID).map_err(|_| IdentityError::NodeKey)?;
    let extension = cert
        .get_extension_unique(&oid)
        .map_err(|_| IdentityError::NodeKey)?;
    extension
        .map(|extension| {
            octets::<32>(extension.value)
                .and_then(|bytes| VerifyingKey::from_bytes(bytes).ok())
                .ok_or(IdentityError::NodeKey)
        })
        .transpose()
}

/// The content of a DER OCTET STRING of exactly `N` bytes (`N` below 128).
pub(crate) fn octets<const N: usize>(der: &[u8]) -> Option<&[u8; N]> {
    match der {
        [0x04, length, content @ ..] if usize::from(*length) == N => content.try_into().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_round_trips_through_its_uri() {
        for uri in [
            "spiffe://medmesh/edge/us/us/us-f1",
            "spiffe://medmesh/regional/eu/eu",
            "spiffe://medmesh/global",
            "spiffe://medmesh/device/apac/apac/apac-f2/lab-1",
        ] {
            assert_eq!(uri.parse::<Identity>().unwrap().to_uri(), uri);
        }
    }

    #[test]
    fn an_identity_of_another_mesh_or_shape_is_refused_and_quoted() {
        for uri in [
            "",
            "spiffe://other/global",
            "https://medmesh/global",
            "spiffe://medmesh/",
            "spiffe://medmesh/device/us/us/us-f1",
            "spiffe://medmesh/device/us/us/us-f1/a/b",
            "spiffe://medmesh/device/mars/us/us-f1/a",
            "spiffe://medmesh/edge/us/us/+",
            "spiffe://medmesh/global?x=1",
        ] {
            let error = uri.parse::<Identity>().unwrap_err();
            assert_eq!(error, IdentityError::Foreign { found: uri.into() });
        }
    }

    #[test]
    fn a_serial_number_is_the_same_with_and_without_its_sign_byte() {
        assert_eq!(Serial::new(&[0, 0x80, 1]), Serial::new(&[0x80, 1]));
        assert_eq!("8001".parse(), Ok(Serial::new(&[0x80, 1])));
        for text in ["", "00", "8", "xx", &"11".repeat(21)] {
            assert_eq!(text.parse::<Serial>(), Err(InvalidSerial), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_name_nobody() {
        for der in [&b""[..], b"\x30\x03\x02\x01\x01", &[0x30; 64]] {
            let found = Identity::from_cert(der).unwrap_err();
            assert_eq!(found, IdentityError::NotACertificate);
        }
    }
}
