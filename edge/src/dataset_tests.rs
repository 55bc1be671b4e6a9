//! Research tables in a store on real files, beside its writer.
use super::*;
use fl::table::{Schema, import};
use store::{Store, testbed as of_store};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn table(records: usize) -> Table {
    let schema: Schema = toml::from_str(
        "columns = [{ name = \"record\", unit = \"1\" }, { name = \"age\", unit = \"a\", missing = true }]",
    )
    .unwrap();
    let rows = (0..records).map(|row| {
        let age = if row % 7 == 0 {
            String::new()
        } else {
            (row % 90).to_string()
        };
        format!("{row},{age}\n")
    });
    import(
        &schema,
        &("record,age\n".to_owned() + &rows.collect::<String>()),
    )
    .unwrap()
}

fn values(table: &Table) -> Vec<Vec<Option<f64>>> {
    (0..table.columns().len())
        .map(|at| table.column(at).collect())
        .collect()
}

const ORIGIN: Origin<'static> = Origin {
    by: "uid:7",
    digest: [5; 32],
    now: NOW,
};

struct Facility {
    dir: TempDir,
    store: Store,
}

impl Facility {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(of_store::options(dir.path(), of_store::hand())).unwrap();
        Self { dir, store }
    }

    fn datasets(&self, max: Size) -> Datasets {
        let options = of_store::options(self.dir.path(), of_store::hand());
        let me = (options.place, options.signer);
        Datasets::of(self.dir.path(), &options.facility_key, me, max).unwrap()
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn count(datasets: &Datasets, of: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {of}");
    datasets.db.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_table_is_stored_beside_the_running_writer_and_reads_back_until_it_is_removed() {
    let facility = Facility::new();
    let mut datasets = facility.datasets(Size(1 << 30));
    // More than one part.
    let table = table(40_000);
    let found = datasets.import(&name("heart"), &table, &ORIGIN).unwrap();
    assert_eq!(
        (found.records, found.by.as_str(), found.digest),
        (40_000, "uid:7", [5; 32])
    );
    assert!(count(&datasets, "dataset_part") > 1);
    facility.store.device(&"m1".parse().unwrap()).await.unwrap();
    drop(datasets);
    let mut datasets = facility.datasets(Size(1 << 30));
    assert_eq!(datasets.list().unwrap(), [found]);
    let (_, back) = datasets.table(&name("heart"), "uid:7", NOW).unwrap();
    assert_eq!(values(&back), values(&table));
    datasets.remove(&name("heart"), "uid:7", NOW).unwrap();
    assert_eq!(datasets.list().unwrap(), []);
    assert_eq!(count(&datasets, "dataset_part"), 0);
    let gone = datasets.table(&name("heart"), "uid:7", NOW);
    assert!(matches!(gone, Err(DatasetError::Missing(_))));
    let gone = datasets.remove(&name("heart"), "uid:7", NOW);
    assert!(matches!(gone, Err(DatasetError::Missing(_))));
    facility.store.close().await;
}

#[tokio::test]
async fn each_import_read_and_removal_is_in_the_audit_log_with_who_did_it() {
    let facility = Facility::new();
    let mut datasets = facility.datasets(Size(1 << 30));
    datasets.import(&name("heart"), &table(3), &ORIGIN).unwrap();
    datasets.table(&name("heart"), "uid:8", NOW).unwrap();
    datasets.remove(&name("heart"), "uid:9", NOW).unwrap();
    let rows = audit::list(&datasets.db, 0, 100).unwrap().into_iter();
    let entries: Vec<_> = rows.map(|row| row.1).collect();
    let found: Vec<_> = entries
        .iter()
        .map(Entry::decision)
        .filter(|decision| decision.as_str().starts_with("dataset"))
        .collect();
    assert_eq!(
        found,
        [
            Decision::DatasetImported,
            Decision::DatasetRead,
            Decision::DatasetRemoved
        ]
    );
    let json = serde_json::to_string(entries.last().unwrap()).unwrap();
    assert!(json.contains("uid:9") && json.contains("heart"), "{json}");
    facility.store.close().await;
}

#[tokio::test]
async fn a_second_table_of_a_name_is_refused_and_the_first_stays() {
    let facility = Facility::new();
    let mut datasets = facility.datasets(Size(1 << 30));
    let first = table(10);
    datasets.import(&name("heart"), &first, &ORIGIN).unwrap();
    let second = datasets.import(&name("heart"), &table(20), &ORIGIN);
    assert!(matches!(second, Err(DatasetError::Exists(_))));
    let (_, back) = datasets.table(&name("heart"), "uid:7", NOW).unwrap();
    assert_eq!(values(&back), values(&first));
    assert_eq!(count(&datasets, "dataset_part"), 1);
    facility.store.close().await;
}

#[tokio::test]
async fn an_import_that_was_killed_is_nowhere_and_the_next_one_takes_its_rest_away() {
    let facility = Facility::new();
    let mut datasets = facility.datasets(Size(1 << 30));
    // Killed before its last step: one that was begun, and some of its parts.
    let table = table(5);
    let row = datasets.begin(&name("heart"), &table, &ORIGIN).unwrap();
    for part in table.parts(PART_BYTES) {
        datasets.part(row, &part).unwrap();
    }
    let mut datasets = facility.datasets(Size(1 << 30));
    assert_eq!(datasets.list().unwrap(), []);
    assert!(matches!(
        datasets.table(&name("heart"), "uid:7", NOW),
        Err(DatasetError::Missing(_))
    ));
    datasets.import(&name("heart"), &table, &ORIGIN).unwrap();
    assert_eq!(
        (
            count(&datasets, "dataset"),
            count(&datasets, "dataset_part")
        ),
        (1, 1)
    );
    // And one whose parts another took away ends without a table.
    let row = datasets.begin(&name("other"), &table, &ORIGIN).unwrap();
    datasets.sweep().unwrap();
    let ended = datasets.finish(&name("other"), (row, 1), &table, &ORIGIN);
    assert!(matches!(ended, Err(DatasetError::Disturbed)), "{ended:?}");
    assert_eq!(datasets.list().unwrap().len(), 1);
    facility.store.close().await;
}

#[tokio::test]
async fn a_table_takes_no_room_that_is_kept_for_readings() {
    let facility = Facility::new();
    let mut datasets = facility.datasets(Size(4 << 20));
    let refused = datasets.import(&name("large"), &table(140_000), &ORIGIN);
    assert!(
        matches!(
            refused,
            Err(DatasetError::NoRoom {
                needed: 2_240_000,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(
        count(&datasets, "dataset") + count(&datasets, "dataset_part"),
        0
    );
    datasets
        .import(&name("small"), &table(1_000), &ORIGIN)
        .unwrap();
    facility.store.close().await;
}

#[tokio::test]
async fn values_of_a_table_are_not_found_in_the_bytes_of_any_file() {
    let facility = Facility::new();
    let mut datasets = facility.datasets(Size(1 << 30));
    let table = table(2_000);
    datasets
        .import(&name("canary-name"), &table, &ORIGIN)
        .unwrap();
    facility.store.close().await;
    let part = table.parts(PART_BYTES).next().unwrap();
    let needles: [&[u8]; 2] = [&part[4_000..4_064], b"canary-name"];
    for file in std::fs::read_dir(facility.dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for needle in needles {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    }
}
