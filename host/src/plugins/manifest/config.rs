//! `[plugin.config]`: any TOML as JSON, and where each part of it stands.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Place, Problems};

/// Where each part of a configuration stands.
#[derive(Debug)]
pub(in crate::plugins) struct ConfigPlaces {
    /// By JSON pointer; the whole has the empty one.
    places: BTreeMap<String, Place>,
}

impl ConfigPlaces {
    /// The place of what a JSON pointer names, or of the innermost part around it that is there.
    pub(in crate::plugins) fn nearest(&self, pointer: &str) -> Place {
        let mut pointer = pointer;
        loop {
            if let Some(&place) = self.places.get(pointer) {
                return place;
            }
            pointer = pointer.rsplit_once('/').map_or("", |(outer, _)| outer);
        }
    }
}

/// Reads a configuration. What JSON cannot express is reported, and left out.
pub(super) fn read(table: &DeTable<'_>, offset: usize, problems: &mut Problems<'_>) -> (Json, ConfigPlaces) {
    let mut reading = Reading {
        places: BTreeMap::from([(String::new(), problems.place(offset))]),
        problems,
    };
    let json = reading.object(table, "");
    let places = ConfigPlaces { places: reading.places };
    (json, places)
}

struct Reading<'a, 'p> {
    places: BTreeMap<String, Place>,
    problems: &'a mut Problems<'p>,
}

impl Reading<'_, '_> {
    fn object(&mut self, table: &DeTable<'_>, pointer: &str) -> Json {
        let mut members: Vec<_> = table.iter().collect();
        // In the order of the file, as far as it can be told.
        members.sort_by_key(|(key, _)| key.span().start);
        let mut object = Map::with_capacity(members.len());
        for (key, value) in members {
            let pointer = format!("{pointer}/{}", key.get_ref().replace('~', "~0").replace('/', "~1"));
            let json = self.value(value, &pointer);
            object.insert(key.get_ref().to_string(), json);
        }
        Json::Object(object)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, pointer: &str) -> Json {
        let offset = value.span().start;
        self.places.insert(pointer.to_owned(), self.problems.place(offset));
        match value.get_ref() {
            DeValue::String(text) => Json::from(text.as_ref()),
            DeValue::Boolean(boolean) => Json::from(*boolean),
            // JSON has none; this is how schemas expect them.
            DeValue::Datetime(datetime) => Json::from(datetime.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Json::from(number),
                Err(_) => self.not_json(offset, pointer, "is larger than any number of 64 bits"),
            },
            DeValue::Float(number) => {
                let number = number.as_str().parse().ok().and_then(Number::from_f64);
                match number {
                    Some(number) => Json::Number(number),
                    None => self.not_json(offset, pointer, "is a number that JSON does not have"),
                }
            }
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                items
                    .map(|(index, item)| self.value(item, &format!("{pointer}/{index}")))
                    .collect()
            }
            DeValue::Table(table) => self.object(table, pointer),
        }
    }

    fn not_json(&mut self, offset: usize, pointer: &str, reason: &str) -> Json {
        self.problems.add(offset, format!("`config` {pointer} {reason}"));
        Json::Null
    }
}
