//! Variables in texts: `${NAME|OTHER_NAME:-default}`. The first that is set and not empty wins; `$${` is a plain `${`.
//! Asks for values through a function; knows no environment of its own.

/// A text with its variables filled in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// The variables that stand in it.
    pub(crate) used: Vec<Used>,
}

/// One `${…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) names: Vec<String>,
    pub(crate) default: Option<String>,
    /// The name whose value was taken, if one is set.
    pub(crate) set: Option<String>,
}

/// Fills in the variables. The error says what is wrong with the text itself; what is not set is seen in [`Used`].
pub(crate) fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, String> {
    let mut out = String::with_capacity(text.len());
    let mut used = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(plain) = before.strip_suffix('$') {
            out.push_str(plain);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let end = from.find('}').ok_or_else(|| format!("`{from}` has no `}}`; write `$${{` for a plain `${{`"))?;
        let variable = parse(&from[2..end], environment)?;
        match (&variable.set, &variable.default) {
            (Some(name), _) => out.push_str(&environment(name).unwrap_or_default()),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {}
        }
        used.push(variable);
        rest = &from[end + 1..];
    }
    out.push_str(rest);
    Ok(Expanded { text: out, used })
}

fn parse(inner: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Used, String> {
    let (names, default) = match inner.split_once(":-") {
        Some((names, default)) => (names, Some(default.to_owned())),
        None => (inner, None),
    };
    let names: Vec<String> = names.split('|').map(|name| name.trim().to_owned()).collect();
    for name in &names {
        let fits = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !fits {
            let hole = if name.contains('.') {
                format!("; what a rule knows is `{{{inner}}}`, without `$`")
            } else {
                String::new()
            };
            return Err(format!(
                "`{name}` in `${{{inner}}}` is no name of a variable: letters, digits and `_`, as in `${{PORT:-3000}}`{hole}"
            ));
        }
    }
    // An empty value counts as none: `.env` files say `REDIS_PASSWORD=` where there is no password.
    let set = names.iter().find(|name| environment(name).is_some_and(|value| !value.is_empty())).cloned();
    Ok(Used { names, default, set })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests unwrap")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("3002".to_owned()),
            "OLD_PORT" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in() {
        for (text, expected) in [
            ("${PORT}", Ok("3002")),
            ("${GONE|PORT|OLD_PORT}", Ok("3002")),
            ("${EMPTY|OLD_PORT}", Ok("1")),
            ("${EMPTY:-x}", Ok("x")),
            ("${GONE:-}", Ok("")),
            ("${GONE}", Ok("")),
            ("${GONE:-amqp://a:-b}", Ok("amqp://a:-b")),
            ("a ${PORT}ms, ${OLD_PORT}", Ok("a 3002ms, 1")),
            ("$${PORT} costs $5", Ok("${PORT} costs $5")),
            ("${PORT", Err("`${PORT` has no `}`; write `$${` for a plain `${`")),
            ("${}", Err("`` in `${}` is no name of a variable: letters, digits and `_`, as in `${PORT:-3000}`")),
            (
                "${A-B}",
                Err("`A-B` in `${A-B}` is no name of a variable: letters, digits and `_`, as in `${PORT:-3000}`"),
            ),
        ] {
            let expanded = expand(text, &environment).map(|expanded| expanded.text);
            assert_eq!(expanded, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn what_was_used_is_known() {
        let used = expand("${GONE|PORT:-1}", &environment).unwrap().used;
        let names = vec!["GONE".to_owned(), "PORT".to_owned()];
        assert_eq!(used, [Used { names, default: Some("1".to_owned()), set: Some("PORT".to_owned()) }]);
    }

    proptest! {
        #[test]
        fn any_text_is_expanded_or_refused(text in "[${}|:A-]{0,20}") {
            let _ = expand(&text, &environment);
        }
    }
}
