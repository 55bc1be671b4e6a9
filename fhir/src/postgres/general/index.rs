//! The rows by which resources are found, in PostgreSQL: many at once, as arrays.
use crate::query::IndexRow;
use crate::query::sql::{Array, Bind, TABLES, row};
use futures_util::future::try_join_all;
use std::collections::HashMap;
use tokio_postgres::{Error, types::ToSql};

type Values = Vec<Vec<Bind>>;

/// Takes away the rows of resources.
pub async fn forget(
    transaction: &deadpool_postgres::Transaction<'_>,
    types: &[&str],
    ids: &[&str],
) -> Result<(), Error> {
    for table in TABLES {
        let statement = transaction.prepare_cached(&table.delete_many()).await?;
        transaction.execute(&statement, &[&types, &ids]).await?;
    }
    Ok(())
}

/// Type and id of a resource, and what it is found by.
pub type Found<'a> = (&'a str, &'a str, &'a [IndexRow]);

/// Adds the rows of resources.
pub async fn add(
    transaction: &deadpool_postgres::Transaction<'_>,
    resources: &[Found<'_>],
) -> Result<(), Error> {
    let mut of_tables: HashMap<&'static str, Values> = HashMap::new();
    for (kind, id, rows) in resources {
        for one in *rows {
            let (table, values) = row(kind, id, one);
            of_tables.entry(table.name).or_default().push(values);
        }
    }
    let each = TABLES.iter().filter_map(|table| {
        let values = of_tables.get(table.name)?;
        Some(async move {
            let arrays = (0..).zip(table.arrays());
            let columns: Vec<Column> = arrays.map(|(at, (_, of))| column(of, values, at)).collect();
            let params: Vec<&(dyn ToSql + Sync)> = columns
                .iter()
                .map(|one| one.as_ref() as &(dyn ToSql + Sync))
                .collect();
            let statement = transaction.prepare_cached(&table.insert_many()).await?;
            transaction.execute(&statement, &params).await
        })
    });
    // Sent without waiting for each other.
    try_join_all(each).await?;
    Ok(())
}

type Column = Box<dyn ToSql + Sync + Send>;

/// One column of the rows.
fn column(of: Array, values: &Values, at: usize) -> Column {
    let each = values.iter().map(|row| row.get(at));
    match of {
        Array::Text => {
            let texts = each.map(|bind| match bind {
                Some(Bind::Text(text)) => Some(text.clone()),
                _ => None,
            });
            Box::new(texts.collect::<Vec<Option<String>>>())
        }
        Array::Whole => {
            let numbers = each.map(|bind| match bind {
                Some(Bind::Integer(number)) => Some(*number),
                _ => None,
            });
            Box::new(numbers.collect::<Vec<Option<i64>>>())
        }
        Array::Real => {
            let numbers = each.map(|bind| match bind {
                Some(Bind::Real(number)) => Some(*number),
                _ => None,
            });
            Box::new(numbers.collect::<Vec<Option<f64>>>())
        }
    }
}
