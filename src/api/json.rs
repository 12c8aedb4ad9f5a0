//! Reads JSON within limits: only the requested fields of an object, each with few values. A tree of the whole input would
//! take twenty to forty times its size.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// Maximum number of values in one field.
pub(super) const MAX_VALUES: usize = 1_000;

/// Selects the fields of an object that are kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum FieldFilter {
    /// Only these fields.
    Of(&'static [&'static str]),
    /// All fields: for small bodies whose unknown fields are reported.
    All,
}

/// Fields that were read from an object.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Object {
    /// The known fields. NUL characters, which PostgreSQL cannot store, are replaced; blank texts become empty.
    pub(super) values: Map<String, Value>,
    /// Fields that hold too many values; their value is `null`.
    pub(super) too_many: BTreeSet<String>,
}

/// Reads the known fields of an object. Returns `None` if the JSON value is not an object.
///
/// # Errors
/// The text is not valid JSON, or is nested deeper than 128 levels.
pub(super) fn object(text: &[u8], known: FieldFilter) -> serde_json::Result<Option<Object>> {
    if text.trim_ascii_start().first() != Some(&b'{') {
        return count(text).1.map(|()| None);
    }
    // Count first, then read the known fields, so that nothing large is built and discarded.
    let too_many = whole(text, Sizes(known))?;
    let values = whole(text, Fields { known, too_many: &too_many })?;
    Ok(Some(Object { values, too_many }))
}

/// Returns the first unknown field that is not `null`; stores nothing but its name.
pub(super) fn unknown(text: &[u8], is_known: impl Fn(&str) -> bool) -> serde_json::Result<Option<String>> {
    whole(text, Strange(is_known))
}

struct Strange<F>(F);

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for Strange<F> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Strange<F> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            if found.is_some() || (self.0)(&name) {
                fields.next_value::<IgnoredAny>()?;
            } else if fields.next_value::<Option<IgnoredAny>>()?.is_some() {
                found = Some(name.into_owned());
            }
        }
        Ok(found)
    }
}

/// Counts the values in a JSON text up to the first error, including nesting deeper than 128 levels.
pub(super) fn count(text: &[u8]) -> (usize, serde_json::Result<()>) {
    let mut values = 0;
    let read = whole(text, Counted(&mut values));
    (values, read)
}

fn whole<'de, S: DeserializeSeed<'de>>(text: &'de [u8], seed: S) -> serde_json::Result<S::Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(read)
}

/// Counts values and stores none. Keeps the depth limit of a tree, which `IgnoredAny` exceeds.
pub(super) struct Counted<'a>(pub(super) &'a mut usize);

impl<'de> DeserializeSeed<'de> for Counted<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        *self.0 += 1;
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        *self.0 += 1;
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        *self.0 += 1;
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        *self.0 += 1;
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        *self.0 += 1;
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        *self.0 += 1;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        *self.0 += 1;
        while list.next_element_seed(Counted(self.0))?.is_some() {}
        Ok(())
    }

    // Also numbers: they arrive as a map with their digits.
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        *self.0 += 1;
        while fields.next_key::<IgnoredAny>()?.is_some() {
            fields.next_value_seed(Counted(self.0))?;
        }
        Ok(())
    }
}

/// Name of a field, if it is known.
struct Name(FieldFilter);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let known = match self.0 {
            FieldFilter::Of(names) => names.contains(&name),
            FieldFilter::All => true,
        };
        Ok(known.then(|| name.to_owned()))
    }
}

/// Names of the known fields that hold too many values.
struct Sizes(FieldFilter);

impl<'de> DeserializeSeed<'de> for Sizes {
    type Value = BTreeSet<String>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Sizes {
    type Value = BTreeSet<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut too_many = BTreeSet::new();
        while let Some(name) = fields.next_key_seed(Name(self.0))? {
            let mut values = 0;
            fields.next_value_seed(Counted(&mut values))?;
            if let Some(name) = name.filter(|_| values > MAX_VALUES) {
                too_many.insert(name);
            }
        }
        Ok(too_many)
    }
}

/// Known fields of an object; the last of duplicate fields counts.
struct Fields<'a> {
    known: FieldFilter,
    too_many: &'a BTreeSet<String>,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = fields.next_key_seed(Name(self.known))? {
            let Some(name) = name else {
                fields.next_value_seed(Counted(&mut 0))?;
                continue;
            };
            // Remove the earlier duplicate first, so that no two texts are held at once.
            values.remove(&name);
            let value = if self.too_many.contains(&name) {
                fields.next_value_seed(Counted(&mut 0))?;
                Value::Null
            } else {
                storable(fields.next_value()?)
            };
            values.insert(name, value);
        }
        Ok(values)
    }
}

/// Converts a value to one that the database can store.
fn storable(value: Value) -> Value {
    match value {
        Value::String(text) if text.trim().is_empty() => Value::String(String::new()),
        // PostgreSQL cannot store a NUL in text.
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\u{fffd}")),
        other => other,
    }
}

/// Content of a message: a text, or the text parts of a list; anything else counts as empty.
#[derive(Debug, Default)]
pub(super) struct Words(pub(super) String);

impl<'de> serde::Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut said: Option<String> = None;
        from.deserialize_any(Saying { said: &mut said, place: Place::Whole })?;
        Ok(Self(said.unwrap_or_default()))
    }
}

/// Position of a text within the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Whole,
    Part,
    Text,
}

struct Saying<'a> {
    said: &'a mut Option<String>,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Saying<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Saying<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        match self.said {
            _ if self.place == Place::Part => {}
            Some(said) => {
                said.push('\n');
                said.push_str(text);
            }
            none => *none = Some(text.to_owned()),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.place != Place::Whole {
            while list.next_element_seed(Counted(&mut 0))?.is_some() {}
            return Ok(());
        }
        while list.next_element_seed(Saying { said: self.said, place: Place::Part })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(name) = fields.next_key_seed(Name(FieldFilter::Of(&["text"])))? {
            if name.is_some() && self.place == Place::Part {
                fields.next_value_seed(Saying { said: self.said, place: Place::Text })?;
            } else {
                fields.next_value_seed(Counted(&mut 0))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KNOWN: FieldFilter = FieldFilter::Of(&["a", "b", "n"]);

    fn read(text: &str) -> Option<Object> {
        object(text.as_bytes(), KNOWN).unwrap()
    }

    #[test]
    fn known_fields_are_kept_and_nothing_else() {
        let object =
            read(r#" {"a":"x\u0000y","c":[1,{"a":2}],"n":1.5,"b":"old","b":[1,"\u00e9",null]} "#).unwrap();
        assert_eq!(json!(object.values), json!({"a": "x\u{fffd}y", "n": 1.5, "b": [1, "é", null]}));
        assert_eq!(json!(read(r#"{"a":" \n\t","b":null}"#).unwrap().values), json!({"a": "", "b": null}));
        for other in ["7", "[]", "null", "\"{\"", "true", " 1e5"] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_json_or_too_deep_is_an_error_wherever_it_stands() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for bad in [
            "",
            "{",
            "nul",
            "[1,]",
            "{\"a\":\"\\ud800\"}",
            "{\"c\":\"\\ud800\"}",
            "{\"a\":1}}",
            "{\"c\":[1 2]}",
            &format!("{{\"c\":{}}}", deep(128)),
            &format!("{{\"a\":{}}}", deep(128)),
            &deep(200),
        ] {
            assert!(object(bad.as_bytes(), KNOWN).is_err(), "{bad}");
        }
        assert!(object(b"{\"c\":\"\xff\"}", KNOWN).is_err());
        assert!(read(&format!("{{\"c\":{}}}", deep(120))).is_some());
    }

    #[test]
    fn a_field_of_too_many_values_is_named_and_not_built() {
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        let object = read(&format!("{{\"a\":{many},\"b\":\"kept\",\"c\":{many}}}")).unwrap();
        assert_eq!(json!(object.values), json!({"a": null, "b": "kept"}));
        assert_eq!(object.too_many, BTreeSet::from(["a".to_owned()]));
        assert!(matches!(count(many.as_bytes()), (values, Ok(())) if values > MAX_VALUES));
        let broken = &many.as_bytes()[..many.len() - 1];
        assert!(
            matches!(count(broken), (values, Err(_)) if values > MAX_VALUES),
            "counted to where it breaks off"
        );
    }

    #[test]
    fn words_are_a_text_or_the_text_parts_of_a_list() {
        for (text, said) in [
            (r#""plain""#, "plain"),
            (
                r#"[{"type":"text","text":"a"},"b",7,{"image_url":{"text":"c"}},{"text":["d"]},{"text":"e"},[["f"]]]"#,
                "a\ne",
            ),
            (r#"{"text":"no part"}"#, ""),
            ("null", ""),
            ("7", ""),
            ("[]", ""),
        ] {
            assert_eq!(serde_json::from_str::<Words>(text).unwrap().0, said, "{text}");
        }
    }
}
