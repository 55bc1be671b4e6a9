//! Where a page ends: by its count, or by the bytes of its texts.
use super::Stored;

/// Resources on one page, which may end by its bytes before.
pub const MAX_PAGE: u16 = 1_000;
/// Bytes of the texts of one page. It ends with the resource that reaches them: it is longer by one resource at most, and
/// has one at least, however long that is. An answer is held some three times over while it is made, and what clients write
/// may be a thousand times as long as a reading: by its count alone a page might take gigabytes.
pub const MAX_PAGE_BYTES: usize = 4 << 20;
/// Bytes that count as one resource where so many may be looked at ([`Stored::weight`]).
const WEIGHT_BYTES: usize = 128 << 10;

impl Stored {
    /// As how many it counts where so many may be looked at: a long one as several, which bounds the time that this takes.
    pub(crate) const fn weight(&self) -> usize {
        1 + self.json.len() / WEIGHT_BYTES
    }
}

/// The rows that a page of so many shows, and whether there are more behind them. No row is read behind the first of these.
pub(crate) fn fill<T, E>(
    rows: impl Iterator<Item = Result<T, E>>,
    count: u16,
    stored: impl Fn(&T) -> &Stored,
) -> Result<(Vec<T>, bool), E> {
    let (mut shown, mut bytes) = (Vec::new(), 0);
    for row in rows {
        if shown.len() >= usize::from(count) || bytes >= MAX_PAGE_BYTES {
            return Ok((shown, true));
        }
        let row = row?;
        bytes += stored(&row).json.len();
        shown.push(row);
    }
    Ok((shown, false))
}

/// Bytes of the texts of some resources.
pub(crate) fn bytes_of<'a>(all: impl IntoIterator<Item = &'a Stored>) -> usize {
    all.into_iter().map(|stored| stored.json.len()).sum()
}

/// How many of these a page shows that is put together of several, where they fill it by their bytes.
pub(crate) fn full_at<'a>(all: impl IntoIterator<Item = &'a Stored>) -> Option<usize> {
    let mut bytes = 0;
    for (at, stored) in all.into_iter().enumerate() {
        bytes += stored.json.len();
        if bytes >= MAX_PAGE_BYTES {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ResourceType;
    use types::Timestamp;

    fn of_bytes(bytes: usize) -> Stored {
        Stored {
            kind: ResourceType::Device,
            id: "d".parse().unwrap(),
            version: 1,
            seq: 1,
            updated: Timestamp(0),
            source: None,
            json: "x".repeat(bytes),
        }
    }

    /// How many a page of so many shows, whether there are more, and how many rows were read for it.
    fn filled(bytes: &[usize], count: u16) -> (usize, bool, usize) {
        let mut read = 0;
        let rows = bytes.iter().map(|bytes| {
            read += 1;
            Ok::<_, ()>(of_bytes(*bytes))
        });
        let (shown, more) = fill(rows, count, |stored| stored).unwrap();
        (shown.len(), more, read)
    }

    #[test]
    fn a_page_ends_by_its_count_or_with_the_resource_that_reaches_its_bytes() {
        const ALL: usize = MAX_PAGE_BYTES;
        for (bytes, count, expected) in [
            (vec![], 3, (0, false, 0)),
            (vec![1, 1, 1], 3, (3, false, 3)),
            (vec![1, 1, 1, 1, 1], 3, (3, true, 4)),
            (vec![1], 0, (0, true, 1)),
            (vec![ALL, 1, 1], 3, (1, true, 2)),
            (vec![3 * ALL, 1, 1], 3, (1, true, 2)),
            (vec![3 * ALL], 3, (1, false, 1)),
            (vec![ALL - 1, 1, 1], 3, (2, true, 3)),
            (vec![ALL - 1, ALL, 1], 3, (2, true, 3)),
            (vec![ALL / 2, ALL / 2 - 1, 1], 3, (3, false, 3)),
        ] {
            assert_eq!(filled(&bytes, count), expected, "{count}");
        }
    }

    #[test]
    fn what_is_put_together_of_several_pages_ends_there_too() {
        const ALL: usize = MAX_PAGE_BYTES;
        for (bytes, expected) in [
            (vec![], None),
            (vec![ALL - 1], None),
            (vec![ALL / 2, ALL / 2 - 1], None),
            (vec![ALL / 2, ALL / 2, 1], Some(2)),
            (vec![2 * ALL, 1], Some(1)),
            (vec![ALL - 1, ALL, ALL], Some(2)),
        ] {
            let all: Vec<Stored> = bytes.into_iter().map(of_bytes).collect();
            assert_eq!(full_at(&all), expected);
        }
    }

    #[test]
    fn a_long_resource_counts_as_several() {
        for (bytes, weight) in [(0, 1), (WEIGHT_BYTES - 1, 1), (3 * WEIGHT_BYTES, 4)] {
            assert_eq!(of_bytes(bytes).weight(), weight, "{bytes}");
        }
    }
}
