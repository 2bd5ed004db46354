//! JSON to MessagePack as `notepack.io` writes it: the shortest integer, doubles for all else that is a number, attachments in the place of their
//! placeholders. Knows no message of the bus.

use std::fmt;

use bytes::Bytes;
use rmp::encode::{
    ByteBuf, write_array_len, write_bin, write_bool, write_f64, write_map_len, write_nil, write_sint, write_str,
    write_uint,
};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::raw;

/// A buffer that MessagePack is written into. Writing to memory cannot fail.
#[derive(Debug, Default)]
pub(super) struct Writer(ByteBuf);

const IN_MEMORY: &str = "a buffer in memory takes everything";

/// What surrounds the parts of a message whose sizes differ.
const ENVELOPE_BYTES: usize = 192;

impl Writer {
    /// Where parts of so many bytes go without more memory.
    pub(super) fn with_room_for(bytes: usize) -> Self {
        Self(ByteBuf::from_vec(Vec::with_capacity(bytes + ENVELOPE_BYTES)))
    }

    pub(super) fn array(&mut self, len: usize) {
        write_array_len(&mut self.0, wire_len(len)).expect(IN_MEMORY);
    }

    pub(super) fn map(&mut self, len: usize) {
        write_map_len(&mut self.0, wire_len(len)).expect(IN_MEMORY);
    }

    pub(super) fn text(&mut self, text: &str) {
        write_str(&mut self.0, text).expect(IN_MEMORY);
    }

    pub(super) fn unsigned(&mut self, number: u64) {
        write_uint(&mut self.0, number).expect(IN_MEMORY);
    }

    pub(super) fn boolean(&mut self, value: bool) {
        write_bool(&mut self.0, value).expect(IN_MEMORY);
    }

    pub(super) fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) {
        self.array(texts.len());
        texts.for_each(|text| self.text(text));
    }

    /// The array of an event: its name and its arguments, JSON that was checked before, joined by commas.
    ///
    /// # Errors
    /// The arguments are nested too deeply.
    pub(super) fn event(
        &mut self,
        event: &str,
        arguments: &str,
        attachments: &[Bytes],
    ) -> Result<(), serde_json::Error> {
        self.array(1 + raw::arguments(arguments).count());
        self.text(event);
        raw::arguments(arguments).try_for_each(|argument| self.json(argument, attachments))
    }

    /// One JSON value.
    ///
    /// # Errors
    /// It is none, or nested too deeply.
    pub(super) fn json(&mut self, json: &str, attachments: &[Bytes]) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let value = Value { out: self.0.as_mut_vec(), attachments };
        value.deserialize(&mut deserializer)?;
        deserializer.end()
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0.into_vec().into()
    }
}

/// Lengths are those of things in memory that are bounded far below.
fn wire_len(len: usize) -> u32 {
    u32::try_from(len).expect("messages are bounded far below four billion elements")
}

/// A value on its way from JSON into `out`.
struct Value<'a> {
    out: &'a mut Vec<u8>,
    attachments: &'a [Bytes],
}

impl Value<'_> {
    fn again(&mut self) -> Value<'_> {
        Value { out: self.out, attachments: self.attachments }
    }

    /// Appends what `write` writes.
    fn write<T, E>(self, write: impl FnOnce(&mut ByteBuf) -> T) -> Result<(), E> {
        let mut buffer = ByteBuf::from_vec(std::mem::take(self.out));
        write(&mut buffer);
        *self.out = buffer.into_vec();
        Ok(())
    }

    /// Puts the head of a container, whose length is known only now, in front of what it holds.
    fn insert_head<T>(&mut self, at: usize, write: impl FnOnce(&mut ByteBuf) -> T) {
        let mut head = ByteBuf::new();
        write(&mut head);
        self.out.splice(at..at, head.into_vec());
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.write(|out| write_nil(out).expect(IN_MEMORY))
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.write(|out| write_bool(out, value).expect(IN_MEMORY))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.write(|out| write_uint(out, value).expect(IN_MEMORY))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.write(|out| write_sint(out, value).expect(IN_MEMORY))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        // JavaScript has one kind of number: 1.0 is 1.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
            return self.visit_i64(value as i64);
        }
        self.write(|out| write_f64(out, value).expect(IN_MEMORY))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.write(|out| write_str(out, value).expect(IN_MEMORY))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        let start = self.out.len();
        let mut len = 0;
        while elements.next_element_seed(self.again())?.is_some() {
            len += 1;
        }
        self.insert_head(start, |out| write_array_len(out, len).expect(IN_MEMORY));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        let start = self.out.len();
        let mut len = 0;
        while let Some(key) = fields.next_key::<std::borrow::Cow<'de, str>>()? {
            if len == 0 && key == "_placeholder" && !self.attachments.is_empty() {
                return self.attachment(fields);
            }
            self.again().visit_str(&key)?;
            fields.next_value_seed(self.again())?;
            len += 1;
        }
        self.insert_head(start, |out| write_map_len(out, len).expect(IN_MEMORY));
        Ok(())
    }
}

impl Value<'_> {
    /// The rest of `{"_placeholder":true,"num":0}`: the attachment of this number.
    fn attachment<'de, A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        fields.next_value::<bool>()?;
        let number = match fields.next_entry::<std::borrow::Cow<'de, str>, usize>()? {
            Some((key, number)) if key == "num" && fields.next_key::<std::borrow::Cow<'de, str>>()?.is_none() => number,
            _ => return Err(A::Error::custom("a placeholder without a number")),
        };
        let attachment = self.attachments.get(number);
        let attachment = attachment.ok_or_else(|| A::Error::custom("a placeholder without its attachment"))?;
        self.write(|out| write_bin(out, attachment).expect(IN_MEMORY))
    }
}
