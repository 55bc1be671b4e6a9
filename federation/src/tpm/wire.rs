//! How a TPM writes numbers and bytes: big-endian, and a length of 16 bits before what has one (Part 1 §27).

/// `TPM_ALG_NULL` (Part 2 §6.3).
pub(crate) const NULL: u16 = 0x10;
/// `TPM_ALG_SHA256`.
pub(crate) const SHA256: u16 = 0x0b;
/// `TPM_ALG_ECDSA`.
pub(crate) const ECDSA: u16 = 0x18;
/// `TPM_ALG_ECC`.
pub(crate) const ECC: u16 = 0x23;
/// `TPM_ECC_NIST_P256` (Part 2 §6.4).
pub(crate) const P256: u16 = 3;

/// What every signing key of ours is: `fixedTPM`, `fixedParent`, `sensitiveDataOrigin`, `userWithAuth`, `noDA`, `sign`
/// (Part 2 §8.3).
pub(crate) const SIGNS: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 18;

/// Bytes of a coordinate and of each half of a signature.
pub(crate) const WORD_BYTES: usize = 32;
/// Bytes of a point that is not compressed.
pub(crate) const POINT_BYTES: usize = 1 + 2 * WORD_BYTES;

#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Bytes with their length before them: a `TPM2B`. Nothing that is written here is longer than its length can say.
    pub(crate) fn sized(&mut self, bytes: &[u8]) {
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.bytes(bytes);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads from the front; none where too little is left.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// The public area of a P-256 key that signs by ECDSA with SHA-256 (Part 2 §12.2.4); as a template, `x` and `y` are what
/// tells it from others of the same seed.
pub(crate) fn public_area(attributes: u32, x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.u16(ECC);
    out.u16(SHA256);
    out.u32(attributes);
    out.sized(&[]);
    // Symmetric: none. The scheme, the curve. Derivation: none.
    for word in [NULL, ECDSA, SHA256, P256, NULL] {
        out.u16(word);
    }
    out.sized(x);
    out.sized(y);
    out.into_bytes()
}

/// The point of such a key, uncompressed (SEC 1 §2.3.3); none of any other.
pub(crate) fn point(attributes: u32, key: &[u8]) -> Option<[u8; POINT_BYTES]> {
    let mut read = Reader::new(key);
    read.take(public_area(attributes, &[], &[]).len() - 4)?;
    let (x, y) = (read.sized()?, read.sized()?);
    if key != public_area(attributes, x, y) {
        return None;
    }
    let point = [&[4][..], &word(x)?, &word(y)?].concat();
    point.try_into().ok()
}

/// How many bytes these are. Nothing that is written here is longer than a length can say.
pub(crate) fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// A number in all its 32 bytes: a TPM may leave out zeros in front.
pub(crate) fn word(number: &[u8]) -> Option<[u8; WORD_BYTES]> {
    let mut word = [0; WORD_BYTES];
    let begin = WORD_BYTES.checked_sub(number.len())?;
    word.get_mut(begin..)?.copy_from_slice(number);
    Some(word)
}
