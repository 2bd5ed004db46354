//! The arguments of events and answers: from Rust values to JSON with attachments and back. Knows nothing of who sends them.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use hub::emission::Payload;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The arguments of an event or of an answer, as they came or as they go: JSON that is not read until it is asked for, and the binary
/// attachments that its placeholders number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args(pub(crate) Payload);

/// Bytes among the arguments, at any depth: a `Buffer`, `ArrayBuffer` or `Blob` on the other side.
///
/// Serialised outside of [`Args`] it is a sequence of numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binary(pub Bytes);

/// Arguments that are not what was expected, or cannot be written as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgsError(String);

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ArgsError {}

thread_local! {
    /// The attachments of the arguments that are being written on this thread.
    static WRITTEN: RefCell<Option<Vec<Bytes>>> = const { RefCell::new(None) };
    /// The attachments of the arguments that are being read on this thread.
    static READ: RefCell<Option<Box<[Bytes]>>> = const { RefCell::new(None) };
}

impl Args {
    /// Arguments out of Rust values: a tuple gives several, anything else one.
    ///
    /// # Errors
    /// A value cannot be written as JSON.
    pub fn new(args: impl IntoArgs) -> Result<Self, ArgsError> {
        args.into_args()
    }

    /// The JSON of the arguments, joined by commas, as it came: `{"a":1},"two"`.
    pub fn json(&self) -> &str {
        std::str::from_utf8(&self.0.json).expect("JSON comes as text, and is written as text")
    }

    /// The attachments, in the order of their placeholders.
    pub fn attachments(&self) -> &[Bytes] {
        &self.0.attachments
    }

    /// How many arguments there are.
    pub fn len(&self) -> usize {
        wire::raw::arguments(self.json()).count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.json.is_empty()
    }

    /// Reads the arguments: `args.read::<(String, u32)>()`. One that is missing is read as `null`; more than asked for are not looked at.
    ///
    /// # Errors
    /// An argument is of another type; the error names it.
    pub fn read<T: FromArgs>(&self) -> Result<T, ArgsError> {
        T::from_args(self)
    }

    fn write(parts: impl FnOnce(&mut Vec<u8>) -> Result<(), serde_json::Error>) -> Result<Self, ArgsError> {
        let outer = WRITTEN.replace(Some(Vec::new()));
        let mut json = Vec::new();
        let written = parts(&mut json);
        let attachments = WRITTEN.replace(outer).unwrap_or_default();
        written.map_err(|error| ArgsError(format!("the arguments are no JSON: {error}")))?;
        Ok(Self(Payload { json: json.into(), attachments: attachments.into() }))
    }
}

/// What can be the arguments of an event: a tuple of serialisable values (`("room", 7)`; one alone is `("room",)`), nothing (`()`), a
/// common value by itself, or [`Args`] as they came.
pub trait IntoArgs {
    /// The arguments.
    ///
    /// # Errors
    /// A value cannot be written as JSON.
    fn into_args(self) -> Result<Args, ArgsError>;
}

/// What arguments can be read as: a tuple of deserialisable values, `()`, or [`Args`] as they are.
pub trait FromArgs: Sized {
    /// Reads them.
    ///
    /// # Errors
    /// An argument is of another type; the error names it.
    fn from_args(args: &Args) -> Result<Self, ArgsError>;
}

impl IntoArgs for Args {
    fn into_args(self) -> Result<Args, ArgsError> {
        Ok(self)
    }
}

impl IntoArgs for () {
    fn into_args(self) -> Result<Args, ArgsError> {
        Ok(Args(Payload::json(Bytes::new())))
    }
}

impl FromArgs for Args {
    fn from_args(args: &Args) -> Result<Self, ArgsError> {
        Ok(args.clone())
    }
}

impl FromArgs for () {
    fn from_args(_: &Args) -> Result<Self, ArgsError> {
        Ok(())
    }
}

fn read_one<T: DeserializeOwned>(arguments: &mut dyn Iterator<Item = &str>, position: usize) -> Result<T, ArgsError> {
    let json = arguments.next().unwrap_or("null");
    serde_json::from_str(json).map_err(|error| ArgsError(format!("argument {position}: {error}")))
}

macro_rules! tuples {
    ($(($($name:ident $position:literal),+))+) => {$(
        impl<$($name: Serialize),+> IntoArgs for ($($name,)+) {
            #[allow(non_snake_case, reason = "a type parameter names its value, too")]
            fn into_args(self) -> Result<Args, ArgsError> {
                let ($($name,)+) = self;
                Args::write(|json| {
                    $(
                        if $position > 1 {
                            json.push(b',');
                        }
                        serde_json::to_writer(&mut *json, &$name)?;
                    )+
                    Ok(())
                })
            }
        }

        impl<$($name: DeserializeOwned),+> FromArgs for ($($name,)+) {
            fn from_args(args: &Args) -> Result<Self, ArgsError> {
                let outer = READ.replace(Some(args.0.attachments.clone()));
                let mut arguments = wire::raw::arguments(args.json());
                let read = (|| Ok(($(read_one::<$name>(&mut arguments, $position)?,)+)))();
                READ.set(outer);
                read
            }
        }
    )+};
}

tuples! {
    (A 1)
    (A 1, B 2)
    (A 1, B 2, C 3)
    (A 1, B 2, C 3, D 4)
    (A 1, B 2, C 3, D 4, E 5)
    (A 1, B 2, C 3, D 4, E 5, F 6)
    (A 1, B 2, C 3, D 4, E 5, F 6, G 7)
    (A 1, B 2, C 3, D 4, E 5, F 6, G 7, H 8)
}

macro_rules! singles {
    ($($type:ty)+) => {$(
        impl IntoArgs for $type {
            fn into_args(self) -> Result<Args, ArgsError> {
                (self,).into_args()
            }
        }
    )+};
}

singles! { &str String bool i32 u32 i64 u64 f64 usize Value &Value Binary }

/// Bytes as they come: an attachment, or what JSON alone can say of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Read {
    Attachment(Placeholder),
    /// How Node writes a `Buffer` as JSON.
    Buffer {
        #[serde(rename = "type")]
        kind: BufferKind,
        data: Vec<u8>,
    },
}

#[derive(Deserialize)]
enum BufferKind {
    Buffer,
}

#[derive(Serialize, Deserialize)]
struct Placeholder {
    #[serde(rename = "_placeholder")]
    is_placeholder: bool,
    num: usize,
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = WRITTEN.with_borrow_mut(|written| {
            let written = written.as_mut()?;
            written.push(self.0.clone());
            Some(written.len() - 1)
        });
        match number {
            Some(num) => Placeholder { is_placeholder: true, num }.serialize(serializer),
            None => serializer.collect_seq(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Placeholder { is_placeholder, num } = match Read::deserialize(deserializer)? {
            Read::Attachment(placeholder) => placeholder,
            Read::Buffer { kind: BufferKind::Buffer, data } => return Ok(data.into()),
        };
        let bytes = READ.with_borrow(|read| read.as_ref()?.get(num).cloned());
        match bytes {
            Some(bytes) if is_placeholder => Ok(Self(bytes)),
            Some(_) | None => Err(serde::de::Error::custom("expected bytes")),
        }
    }
}

impl From<Bytes> for Binary {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Binary {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&'static [u8]> for Binary {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Bytes::from_static(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tuple_is_several_arguments() {
        let check = |args: Result<Args, ArgsError>, json: &str, len| {
            let args = args.expect("arguments");
            assert_eq!((args.json(), args.len()), (json, len));
        };
        check(Args::new(()), "", 0);
        check(Args::new("a"), r#""a""#, 1);
        check(Args::new((vec![1, 2],)), "[1,2]", 1);
        check(Args::new(("a", 1, json!({"b": null}))), r#""a",1,{"b":null}"#, 3);
    }

    #[test]
    fn bytes_become_attachments_at_any_depth() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Upload {
            name: String,
            parts: Vec<Binary>,
        }
        let upload = || Upload { name: "x".to_owned(), parts: vec![vec![1].into(), vec![2, 3].into()] };
        let args = Args::new((Binary::from(vec![0]), upload())).expect("arguments");
        assert_eq!(
            args.json(),
            r#"{"_placeholder":true,"num":0},{"name":"x","parts":[{"_placeholder":true,"num":1},{"_placeholder":true,"num":2}]}"#
        );
        assert_eq!(args.attachments(), [&[0][..], &[1], &[2, 3]]);
        assert_eq!(args.read::<(Binary, Upload)>(), Ok((vec![0].into(), upload())));
    }

    #[test]
    fn what_is_not_there_is_null_and_what_is_wrong_is_named() {
        let args = Args::new((1, "two")).expect("arguments");
        assert_eq!(args.read::<(u8, String, Option<u8>)>(), Ok((1, "two".to_owned(), None)));
        assert_eq!(args.read::<(u8,)>(), Ok((1,)));
        let error = args.read::<(u8, u8)>().expect_err("a string is no number").to_string();
        assert!(error.starts_with("argument 2: invalid type"), "{error}");
        let error = args.read::<(Binary,)>().expect_err("a number is not bytes").to_string();
        assert!(error.starts_with("argument 1: "), "{error}");
    }

    #[test]
    fn bytes_may_come_as_node_writes_them_in_json() {
        let args = Args(Payload::json(r#"[{"type":"Buffer","data":[1,255]}],{"type":"Other","data":[1]}"#));
        assert_eq!(args.read::<(Vec<Binary>,)>(), Ok((vec![vec![1, 255].into()],)));
        assert!(args.read::<(Value, Binary)>().is_err());
    }

    #[test]
    fn a_placeholder_that_numbers_nothing_is_an_error() {
        let args = Args(Payload::json(r#"{"_placeholder":true,"num":7}"#));
        assert!(args.read::<(Binary,)>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(text in ".*", number: i64, bytes: Vec<u8>) {
            let args = Args::new((text.clone(), number, Binary::from(bytes.clone()))).expect("arguments");
            prop_assert_eq!(args.read::<(String, i64, Binary)>(), Ok((text, number, bytes.into())));
        }
    }
}
