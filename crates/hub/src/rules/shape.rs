//! Values made by rules: JSON with templates in its texts. What is optional and missing leaves no trace. Writes raw JSON.

use super::scope::Scope;
use super::template::{Template, Unmet};

/// Room for the common value, so that it is written without growing.
const RENDERED_BYTES: usize = 128;

/// A JSON value with templates in it, as `data`, `add`, `let` and documents give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A value that is always the same, as raw JSON.
    Constant(Box<str>),
    /// A text with holes.
    Template(Template),
    /// A list; an item that is optional and missing is left out.
    List(Vec<Shape>),
    /// An object, each name as raw JSON; a field that is optional and missing is left out.
    Object(Vec<(Box<str>, Shape)>),
}

impl Shape {
    /// The value as raw JSON.
    pub(crate) fn render(&self, scope: &Scope<'_>) -> Result<String, Unmet> {
        let mut out = String::with_capacity(RENDERED_BYTES);
        self.push(scope, &mut out)?;
        Ok(out)
    }

    /// Visits every template in it.
    pub(crate) fn each_template(&self, visit: &mut dyn FnMut(&Template)) {
        match self {
            Self::Constant(_) => {}
            Self::Template(template) => visit(template),
            Self::List(items) => items.iter().for_each(|item| item.each_template(visit)),
            Self::Object(fields) => fields.iter().for_each(|(_, field)| field.each_template(visit)),
        }
    }

    fn push(&self, scope: &Scope<'_>, out: &mut String) -> Result<(), Unmet> {
        match self {
            Self::Constant(raw) => out.push_str(raw),
            Self::Template(template) => template.push_json(scope, out)?,
            Self::List(items) => {
                out.push('[');
                let start = out.len();
                for item in items {
                    push_member(out, start, None, item, scope)?;
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                let start = out.len();
                for (name, field) in fields {
                    push_member(out, start, Some(name), field, scope)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

/// Appends a field or an item, or leaves no trace of it where it is optional and missing.
fn push_member(
    out: &mut String,
    start: usize,
    name: Option<&str>,
    value: &Shape,
    scope: &Scope<'_>,
) -> Result<(), Unmet> {
    let before = out.len();
    if before > start {
        out.push(',');
    }
    if let Some(name) = name {
        out.push_str(name);
        out.push(':');
    }
    match value.push(scope, out) {
        Err(Unmet::Optional) => {
            out.truncate(before);
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests unwrap")]
mod tests {
    use super::super::json::Document;
    use super::super::scope::{Branch, Vocabulary};
    use super::*;

    #[test]
    fn what_is_optional_and_missing_leaves_no_trace() {
        let hole =
            |text| Shape::Template(Template::parse(text, &Vocabulary::default().with("event", Branch::Open)).unwrap());
        let shape = Shape::Object(vec![
            ("\"a\"".into(), hole("{event.gone?}")),
            ("\"b\"".into(), hole("{event.id}")),
            ("\"c\"".into(), Shape::List(vec![hole("{event.gone?}"), Shape::Constant("1".into())])),
        ]);
        let event = Document::parse(br#"{"id":42}"#).unwrap();
        let scope = Scope { event: Some(&event), ..Scope::default() };
        assert_eq!(shape.render(&scope).as_deref(), Ok(r#"{"b":42,"c":[1]}"#));
    }
}
