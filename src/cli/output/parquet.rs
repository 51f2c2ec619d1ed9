//! Parquet for data tools, one row group for so many rows. Every column may be empty, and moments
//! stay moments.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::column::{Column, Kind};
use super::rows::{Rows, Sink};
use crate::model::time::Timestamp;

/// Rows that are held in memory and written as one group.
const GROUP: usize = 10_000;

/// Rows of a Parquet file.
pub(super) struct ParquetRows {
    writer: SerializedFileWriter<Sink>,
    columns: &'static [Column],
    waiting: Vec<Value>,
}

impl ParquetRows {
    pub(super) fn new(sink: Sink, columns: &'static [Column]) -> std::io::Result<Self> {
        let properties = Arc::new(WriterProperties::builder().build());
        let writer = SerializedFileWriter::new(sink, schema(columns)?, properties)?;
        Ok(Self { writer, columns, waiting: Vec::new() })
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for column in self.columns {
            let Some(mut writer) = group.next_column()? else { break };
            write_column(writer.untyped(), column, &self.waiting)?;
            writer.close()?;
        }
        group.close()?;
        self.waiting.clear();
        Ok(())
    }
}

impl Rows for ParquetRows {
    fn add(&mut self, items: &[Value]) -> std::io::Result<()> {
        self.waiting.extend_from_slice(items);
        if self.waiting.len() >= GROUP {
            self.write_group()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, _next_cursor: Option<&str>) -> std::io::Result<()> {
        if !self.waiting.is_empty() {
            self.write_group()?;
        }
        self.writer.into_inner()?.finish()
    }
}

fn schema(columns: &[Column]) -> Result<TypePtr> {
    let fields = columns.iter().map(|column| {
        let (physical, logical) = match column.kind {
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Moment => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
            Kind::Number => (Physical::INT64, None),
        };
        let name = column.name();
        let field = Type::primitive_type_builder(&name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical);
        field.build().map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Type::group_type_builder("tenmint").with_fields(fields).build().map(Arc::new)
}

fn write_column(writer: &mut ColumnWriter<'_>, column: &Column, items: &[Value]) -> Result<()> {
    let texts: Vec<Option<String>> = items.iter().map(|item| column.value(item)).collect();
    let number = |text: &String| match column.kind {
        Kind::Moment => text.parse().ok().map(Timestamp::as_millis),
        _ => text.parse().ok(),
    };
    match writer {
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let (values, levels) = present(
                texts.into_iter().map(|text| text.map(|text| ByteArray::from(text.into_bytes()))),
            );
            writer.write_batch(&values, Some(&levels), None)?;
        }
        ColumnWriter::Int64ColumnWriter(writer) => {
            let (values, levels) = present(texts.iter().map(|text| text.as_ref().and_then(number)));
            writer.write_batch(&values, Some(&levels), None)?;
        }
        _ => {}
    }
    Ok(())
}

/// The values that are there, and for each row whether one is: Parquet keeps the two apart.
fn present<T>(values: impl Iterator<Item = Option<T>>) -> (Vec<T>, Vec<i16>) {
    let mut there = Vec::new();
    let levels = values.map(|value| value.map(|value| there.push(value)).map_or(0, |()| 1));
    let levels = levels.collect();
    (there, levels)
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use serde_json::json;

    use super::*;

    static COLUMNS: [Column; 3] =
        [Column::text("name"), Column::moment("last_use.used_at"), Column::number("limit")];

    #[test]
    fn what_is_written_is_read_back_with_its_types() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.parquet");
        let mut rows =
            Box::new(ParquetRows::new(Sink::open(Some(&path), false).unwrap(), &COLUMNS).unwrap());
        rows.add(&[
            json!({"name": "=\u{e9}", "last_use": {"used_at": "1970-01-01T00:00:01Z"}, "limit": 5}),
            json!({"name": null, "last_use": null}),
        ])
        .unwrap();
        rows.finish(None).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let read: Vec<String> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(
            read,
            [
                "{name: \"=\u{e9}\", last_use_used_at: 1970-01-01 00:00:01.000 +00:00, limit: 5}",
                "{name: null, last_use_used_at: null, limit: null}"
            ]
        );
    }

    #[test]
    fn many_rows_are_several_groups_and_none_is_none() {
        let directory = tempfile::tempdir().unwrap();
        for (number, groups) in [(0_usize, 0), (1, 1), (GROUP + 1, 2)] {
            let path = directory.path().join("x.parquet");
            let mut rows = Box::new(
                ParquetRows::new(Sink::open(Some(&path), false).unwrap(), &COLUMNS).unwrap(),
            );
            for limit in 0..number {
                rows.add(&[json!({"name": "x", "limit": limit})]).unwrap();
            }
            rows.finish(None).unwrap();
            let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
            assert_eq!(reader.num_row_groups(), groups);
            assert_eq!(
                reader.metadata().file_metadata().num_rows(),
                i64::try_from(number).unwrap()
            );
        }
    }
}
