//! MessagePack to JSON: as `notepack.io` writes it today, and as it wrote dates, buffers and `undefined` when `socket.io-redis` 6 was new.
//! Binary goes to the attachments and leaves placeholders. Knows no message of the bus.

use std::fmt;

use bytes::Bytes;
use rmp::Marker;
use rmp::decode::RmpRead;

use crate::json::write_string;

/// The deepest nesting of a value that is read.
const DEPTH_MAX: usize = 128;

/// The most attachments of one message: each of them is a frame of its own for every member that gets it.
const ATTACHMENTS_MAX: usize = 1_000;

/// A value read: JSON, whose binary parts are attachments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The JSON; of several values the arguments of an event, joined by commas.
    pub json: Vec<u8>,
    /// What its placeholders stand for.
    pub attachments: Vec<Bytes>,
}

/// Not what a member of a cluster says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub(super) String);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

pub(super) fn malformed<T>(what: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(what.into()))
}

/// Reads MessagePack from its front. What it gives shares the message's bytes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    message: &'a Bytes,
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a Bytes) -> Self {
        Self { message, left: message }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Something is left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.left.is_empty() { Ok(()) } else { malformed(format!("{} bytes after the end", self.left.len())) }
    }

    fn peek(&self) -> Result<Marker, Malformed> {
        self.left.first().map(|byte| Marker::from_u8(*byte)).ok_or_else(|| Malformed("it ends too early".to_owned()))
    }

    fn marker(&mut self) -> Result<Marker, Malformed> {
        let marker = self.peek()?;
        self.left = &self.left[1..];
        Ok(marker)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut bytes = [0; N];
        match self.left.read_exact_buf(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(_) => malformed("it ends too early"),
        }
    }

    fn size8(&mut self) -> Result<usize, Malformed> {
        Ok(self.number::<1>()?[0].into())
    }

    fn size16(&mut self) -> Result<usize, Malformed> {
        Ok(u16::from_be_bytes(self.number()?).into())
    }

    fn size32(&mut self) -> Result<usize, Malformed> {
        Ok(u32::from_be_bytes(self.number()?) as usize)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        match self.left.split_at_checked(len) {
            Some((taken, left)) => {
                self.left = left;
                Ok(taken)
            }
            None => malformed("it ends too early"),
        }
    }

    /// The length of an array.
    pub(super) fn array(&mut self) -> Result<usize, Malformed> {
        let len = match self.marker()? {
            Marker::FixArray(len) => len.into(),
            Marker::Array16 => self.size16()?,
            Marker::Array32 => self.size32()?,
            marker => return malformed(format!("{marker:?} where an array belongs")),
        };
        self.bounded(len)
    }

    /// The number of a map's fields.
    pub(super) fn map(&mut self) -> Result<usize, Malformed> {
        let len = match self.marker()? {
            Marker::FixMap(len) => len.into(),
            Marker::Map16 => self.size16()?,
            Marker::Map32 => self.size32()?,
            marker => return malformed(format!("{marker:?} where a map belongs")),
        };
        self.bounded(len)
    }

    /// Each element takes a byte at least: a length beyond that is a lie, and nothing is allocated for it.
    fn bounded(&self, len: usize) -> Result<usize, Malformed> {
        if len <= self.left.len() { Ok(len) } else { malformed("it ends too early") }
    }

    pub(super) fn text(&mut self) -> Result<String, Malformed> {
        let marker = self.marker()?;
        match self.text_len(marker)? {
            Some(len) => Ok(String::from_utf8_lossy(self.take(len)?).into_owned()),
            None => malformed(format!("{marker:?} where a string belongs")),
        }
    }

    fn text_len(&mut self, marker: Marker) -> Result<Option<usize>, Malformed> {
        Ok(Some(match marker {
            Marker::FixStr(len) => len.into(),
            Marker::Str8 => self.size8()?,
            Marker::Str16 => self.size16()?,
            Marker::Str32 => self.size32()?,
            _ => return Ok(None),
        }))
    }

    /// A name of a room: texts, and numbers, which JavaScript's programs take for texts.
    pub(super) fn name(&mut self) -> Result<String, Malformed> {
        match self.integer()? {
            Some(number) => Ok(number.to_string()),
            None => self.text(),
        }
    }

    /// An array of names; nothing at all counts as none.
    pub(super) fn names(&mut self) -> Result<Vec<String>, Malformed> {
        if self.peek()? == Marker::Null {
            self.marker()?;
            return Ok(Vec::new());
        }
        let len = self.array()?;
        (0..len).map(|_| self.name()).collect()
    }

    /// The integer that comes next, if one does.
    pub(super) fn integer(&mut self) -> Result<Option<i128>, Malformed> {
        let before = self.left;
        Ok(Some(match self.marker()? {
            Marker::FixPos(number) => number.into(),
            Marker::FixNeg(number) => number.into(),
            Marker::U8 => u8::from_be_bytes(self.number()?).into(),
            Marker::U16 => u16::from_be_bytes(self.number()?).into(),
            Marker::U32 => u32::from_be_bytes(self.number()?).into(),
            Marker::U64 => u64::from_be_bytes(self.number()?).into(),
            Marker::I8 => i8::from_be_bytes(self.number()?).into(),
            Marker::I16 => i16::from_be_bytes(self.number()?).into(),
            Marker::I32 => i32::from_be_bytes(self.number()?).into(),
            Marker::I64 => i64::from_be_bytes(self.number()?).into(),
            _ => {
                self.left = before;
                return Ok(None);
            }
        }))
    }

    /// Whether `true` comes next; any other value is skipped, and false.
    pub(super) fn is_true(&mut self) -> Result<bool, Malformed> {
        if self.peek()? == Marker::True {
            self.marker()?;
            return Ok(true);
        }
        self.skip()?;
        Ok(false)
    }

    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        self.value(&mut Decoded::default(), 0)
    }

    /// The next value as JSON, behind what is there.
    pub(super) fn json(&mut self, out: &mut Decoded) -> Result<(), Malformed> {
        self.value(out, 0)
    }

    fn value(&mut self, out: &mut Decoded, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return malformed("it is nested too deeply");
        }
        if let Some(number) = self.integer()? {
            return write(out, number);
        }
        match self.peek()? {
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => return self.elements(out, depth),
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => return self.fields(out, depth),
            _ => {}
        }
        let marker = self.marker()?;
        if let Some(len) = self.text_len(marker)? {
            write_string(&String::from_utf8_lossy(self.take(len)?), &mut out.json);
            return Ok(());
        }
        match marker {
            Marker::Null => write(out, "null"),
            Marker::True => write(out, "true"),
            Marker::False => write(out, "false"),
            Marker::F32 => float(out, f32::from_be_bytes(self.number()?).into()),
            Marker::F64 => float(out, f64::from_be_bytes(self.number()?)),
            Marker::Bin8 => self.size8().and_then(|len| self.attachment(out, len)),
            Marker::Bin16 => self.size16().and_then(|len| self.attachment(out, len)),
            Marker::Bin32 => self.size32().and_then(|len| self.attachment(out, len)),
            Marker::FixExt1 => self.extension(out, 1),
            Marker::FixExt2 => self.extension(out, 2),
            Marker::FixExt4 => self.extension(out, 4),
            Marker::FixExt8 => self.extension(out, 8),
            Marker::FixExt16 => self.extension(out, 16),
            Marker::Ext8 => self.size8().and_then(|len| self.extension(out, len)),
            Marker::Ext16 => self.size16().and_then(|len| self.extension(out, len)),
            Marker::Ext32 => self.size32().and_then(|len| self.extension(out, len)),
            marker => malformed(format!("{marker:?} is no value")),
        }
    }

    fn elements(&mut self, out: &mut Decoded, depth: usize) -> Result<(), Malformed> {
        out.json.push(b'[');
        for index in 0..self.array()? {
            if index > 0 {
                out.json.push(b',');
            }
            self.value(out, depth + 1)?;
        }
        out.json.push(b']');
        Ok(())
    }

    fn fields(&mut self, out: &mut Decoded, depth: usize) -> Result<(), Malformed> {
        out.json.push(b'{');
        for index in 0..self.map()? {
            if index > 0 {
                out.json.push(b',');
            }
            let key = self.name()?;
            write_string(&key, &mut out.json);
            out.json.push(b':');
            self.value(out, depth + 1)?;
        }
        out.json.push(b'}');
        Ok(())
    }

    fn attachment(&mut self, out: &mut Decoded, len: usize) -> Result<(), Malformed> {
        let bytes = self.take(len)?;
        let number = out.attachments.len();
        if number >= ATTACHMENTS_MAX {
            return malformed(format!("more than {ATTACHMENTS_MAX} attachments"));
        }
        out.attachments.push(self.message.slice_ref(bytes));
        write(out, format_args!(r#"{{"_placeholder":true,"num":{number}}}"#))
    }

    fn extension(&mut self, out: &mut Decoded, len: usize) -> Result<(), Malformed> {
        /// What a date is in the specification; type 0 is what `notepack.io` 2 made of several.
        const TIMESTAMP: i8 = -1;
        let [kind] = self.number::<1>()?;
        let kind = i8::from_be_bytes([kind]);
        match (kind, len) {
            (TIMESTAMP, 4) => date(out, i64::from(u32::from_be_bytes(self.number()?)), 0),
            (TIMESTAMP, 8) => {
                let both = u64::from_be_bytes(self.number()?);
                // 30 bits of nanoseconds, 34 of seconds.
                date(out, (both & 0x3_ffff_ffff) as i64, both >> 34)
            }
            (TIMESTAMP, 12) => {
                let nanos = u32::from_be_bytes(self.number()?);
                date(out, i64::from_be_bytes(self.number()?), nanos.into())
            }
            (0, 1) => {
                // `undefined`, which is `null` in an array of JSON.
                self.take(1)?;
                write(out, "null")
            }
            (0, 8) => {
                let millis = i64::from_be_bytes(self.number()?);
                date(out, millis.div_euclid(1_000), millis.rem_euclid(1_000) as u64 * 1_000_000)
            }
            (0, _) => self.attachment(out, len),
            _ => {
                write(out, format_args!("[{kind},"))?;
                self.attachment(out, len)?;
                write(out, "]")
            }
        }
    }
}

fn write(out: &mut Decoded, what: impl fmt::Display) -> Result<(), Malformed> {
    out.json.extend_from_slice(what.to_string().as_bytes());
    Ok(())
}

/// As JavaScript's `JSON.stringify`: what is no number of JSON's is `null`.
fn float(out: &mut Decoded, number: f64) -> Result<(), Malformed> {
    match serde_json::Number::from_f64(number) {
        Some(number) => write(out, number),
        None => write(out, "null"),
    }
}

/// A date as `Date.toJSON` writes it; `null` for what lies beyond its years.
fn date(out: &mut Decoded, seconds: i64, nanos: u64) -> Result<(), Malformed> {
    match iso_8601(seconds, nanos / 1_000_000) {
        Some(text) => write(out, format_args!("\"{text}\"")),
        None => write(out, "null"),
    }
}

/// `2026-11-20T21:44:00.000Z`; within the years 0 to 9999.
fn iso_8601(seconds: i64, millis: u64) -> Option<String> {
    const DAY: i64 = 86_400;
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Howard Hinnant's civil_from_days: eras of 400 years that begin with March.
    let days = days.checked_add(719_468)?;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    (0..=9_999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"))
}
