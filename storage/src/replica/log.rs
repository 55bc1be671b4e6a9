//! Reads the log of a SQLite file from where it was read last: whole commits alone, whose checksums hold (SQLite file
//! format, §4 "The Write-Ahead Log").
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

const HEADER: usize = 32;
const FRAME: usize = 24;
/// Little-endian checksums; with the last bit set they are big-endian.
const MAGIC: u32 = 0x377f_0682;
/// The largest page (SQLite file format, §1.3.2).
const MAX_PAGE: u32 = 65_536;

/// How far a log was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Which log: its salts. None before the first.
    salts: Option<[u8; 8]>,
    frames: u32,
    sum: (u32, u32),
    /// Whether the file had no log when its place was said: the first one is the very first.
    is_new: bool,
}

impl Place {
    /// That of a file that has no log yet.
    pub(super) fn new() -> Self {
        Self {
            is_new: true,
            ..Self::default()
        }
    }

    /// Whether nothing was read yet of a file that had no log.
    pub(super) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Frames that were read of this log.
    pub(super) const fn frames(&self) -> u32 {
        self.frames
    }
}

/// What follows a place.
#[derive(Debug)]
pub(super) struct Read {
    /// The newest version of each page.
    pub(super) pages: BTreeMap<u32, Vec<u8>>,
    /// Bytes of a page.
    pub(super) page_bytes: u32,
    /// Pages of the file after the last commit; 0 without one.
    pub(super) size: u32,
    /// Where it begins, and where it ends.
    pub(super) begin: Place,
    pub(super) place: Place,
    /// Whether it is the log of the place that was given. Otherwise it is read from its beginning.
    pub(super) is_same_log: bool,
}

/// Reads what was committed after a place; all of the log without one. None when the log of a file that had none was begun
/// anew already.
pub(super) fn read(database: &Path, after: Option<&Place>) -> io::Result<Option<Read>> {
    let Some((mut file, header)) = open(database)? else {
        return Ok(Some(nothing(after)));
    };
    let same = after.filter(|place| place.salts == Some(header.salts));
    if header.sequence > 0 && after.is_some_and(Place::is_new) {
        return Ok(None);
    }
    let begin = Place {
        salts: Some(header.salts),
        sum: header.sum,
        ..Place::default()
    };
    let begin = same.cloned().unwrap_or(begin);
    let mut read = Read {
        pages: BTreeMap::new(),
        page_bytes: header.page_bytes,
        size: 0,
        is_same_log: same.is_some(),
        place: begin.clone(),
        begin,
    };
    commits(&mut file, &header, &mut read)?;
    Ok(Some(read))
}

/// There is no log, or an empty one: all of it is in the file.
fn nothing(after: Option<&Place>) -> Read {
    Read {
        pages: BTreeMap::new(),
        page_bytes: 0,
        size: 0,
        begin: after.cloned().unwrap_or_default(),
        place: after.cloned().unwrap_or_default(),
        // Whether somebody else emptied it is not to be seen.
        is_same_log: false,
    }
}

struct Header {
    is_big_endian: bool,
    page_bytes: u32,
    /// How often the log was begun anew since it was made.
    sequence: u32,
    salts: [u8; 8],
    sum: (u32, u32),
}

fn open(database: &Path) -> io::Result<Option<(File, Header)>> {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let mut file = match File::open(PathBuf::from(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; HEADER];
    if !filled(&mut file, &mut bytes)? {
        return Ok(None);
    }
    Ok(header(&bytes).map(|header| (file, header)))
}

/// What the first bytes of a log say, when they are whole (SQLite file format, §4.1).
fn header(bytes: &[u8; HEADER]) -> Option<Header> {
    let ([first, second, salts, said], []) = bytes.as_chunks::<8>() else {
        return None;
    };
    let ((magic, _version), (page_bytes, sequence)) = (pair(true, first), pair(true, second));
    let is_big_endian = magic == MAGIC | 1;
    let sum = sum(is_big_endian, (0, 0), bytes.first_chunk::<24>()?);
    let is_whole = magic & !1 == MAGIC && sum == pair(true, said);
    if !is_whole || !(512..=MAX_PAGE).contains(&page_bytes) || !page_bytes.is_power_of_two() {
        return None;
    }
    Some(Header {
        is_big_endian,
        page_bytes,
        sequence,
        salts: *salts,
        sum,
    })
}

/// Adds every whole commit behind the place of `read`.
fn commits(file: &mut File, header: &Header, read: &mut Read) -> io::Result<()> {
    let frame = FRAME + header.page_bytes as usize;
    let begin = HEADER as u64 + u64::from(read.place.frames) * frame as u64;
    file.seek(SeekFrom::Start(begin))?;
    let (mut bytes, mut running) = (vec![0; frame], read.place.sum);
    let (mut pending, mut frames) = (BTreeMap::new(), read.place.frames);
    while filled(file, &mut bytes)? {
        let Some((number, size, page)) = frame_of(header, &bytes, &mut running) else {
            break;
        };
        frames += 1;
        pending.insert(number, page.to_vec());
        if size > 0 {
            read.pages.append(&mut pending);
            read.size = size;
            read.place.frames = frames;
            read.place.sum = running;
        }
    }
    // A page behind the end was written before the file became shorter.
    let size = read.size;
    read.pages.retain(|number, _| *number <= size);
    Ok(())
}

/// Whether so many bytes were there.
fn filled(file: &mut File, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A frame of the log that `header` begins, whose checksum follows `running`: the number of its page, the pages of the
/// file after the commit that it ends (0: it ends none), and the page.
fn frame_of<'a>(
    header: &Header,
    bytes: &'a [u8],
    running: &mut (u32, u32),
) -> Option<(u32, u32, &'a [u8])> {
    let (head, page) = bytes.split_first_chunk::<FRAME>()?;
    let (facts, rest) = head.split_first_chunk::<8>()?;
    let (salts, said) = rest.split_first_chunk::<8>()?;
    *running = sum(header.is_big_endian, *running, facts);
    *running = sum(header.is_big_endian, *running, page);
    if *salts != header.salts || pair(true, said.first_chunk()?) != *running {
        return None;
    }
    let (number, size) = pair(true, facts);
    Some((number, size, page))
}

/// Two words of four bytes.
fn pair(is_big_endian: bool, bytes: &[u8; 8]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = *bytes;
    let word = if is_big_endian {
        u32::from_be_bytes
    } else {
        u32::from_le_bytes
    };
    (word([a, b, c, d]), word([e, f, g, h]))
}

/// The checksum of a log, carried on (SQLite file format, §4.2). `bytes` is a multiple of 8.
fn sum(is_big_endian: bool, (mut s0, mut s1): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let (pairs, _none) = bytes.as_chunks::<8>();
    for bytes in pairs {
        let (first, second) = pair(is_big_endian, bytes);
        s0 = s0.wrapping_add(first).wrapping_add(s1);
        s1 = s1.wrapping_add(second).wrapping_add(s0);
    }
    (s0, s1)
}
