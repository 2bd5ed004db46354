//! Pieces of JSON that has been checked already, borrowed as they came. Checks nothing itself: on text that is not JSON the pieces
//! are meaningless, but nothing panics and every walk ends.

/// The elements of an array, each as it came.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a str,
}

/// The elements of an array (`[1,"x"]`), or of an array's inside (`1,"x"`).
pub fn elements(json: &str) -> Elements<'_> {
    Elements { rest: json }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let _ = self.rest;
        todo!()
    }
}

/// A field of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The key as it came, with its quotes.
    pub key: &'a str,
    /// The value as it came.
    pub value: &'a str,
}

/// The fields of an object, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a str,
}

/// The fields of an object.
pub fn fields(json: &str) -> Fields<'_> {
    Fields { rest: json }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let _ = self.rest;
        todo!()
    }
}

/// Checks that a text is one JSON value and gives it without surrounding space.
pub fn check(text: &str) -> Result<&str, serde_json::Error> {
    serde_json::from_str::<&serde_json::value::RawValue>(text).map(serde_json::value::RawValue::get)
}
