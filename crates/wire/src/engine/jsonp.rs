//! Polling through `<script>` tags (JSONP): answers become calls of a callback, and the body of a POST is a form. Knows no packets.

use super::Query;
use crate::json::write_string;

/// Digits of a callback's number that are kept.
const MAX_DIGITS: usize = 16;

/// The digits of `j`, the number of the callback; other characters in it are dropped, so that nothing but a number can reach the script.
pub(super) fn callback(query: &Query<'_>) -> Option<Box<str>> {
    let number = query.value("j")?;
    Some(number.chars().filter(char::is_ascii_digit).take(MAX_DIGITS).collect::<String>().into())
}

/// The script that hands a payload to the callback.
pub(super) fn script(callback: &str, payload: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(payload);
    let mut literal = Vec::with_capacity(payload.len() + payload.len() / 4);
    write_string(&text, &mut literal);
    let mut out = Vec::with_capacity(literal.len() + callback.len() + 16);
    out.extend_from_slice(format!("___eio[{callback}](").as_bytes());
    let mut rest = literal.as_slice();
    // U+2028 and U+2029 end a line in scripts of old browsers, though not in JSON.
    while let Some(at) = rest.windows(3).position(|bytes| matches!(bytes, [0xe2, 0x80, 0xa8 | 0xa9])) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(if rest[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b");");
    out
}

/// The payload in the form that a POST carries, its field `d`. Forms spell a line's end in their own way, so the client writes it as
/// `\n`, and what was a `\n` in its text as `\\n`.
pub(super) fn form_payload(body: &str) -> Option<String> {
    let form = Query::parse(body);
    let mut rest = form.value("d")?;
    let mut out = String::with_capacity(rest.len());
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (taken, read) = match rest.as_bytes()[at..] {
            [b'\\', b'\\', b'n', ..] => (3, "\\n"),
            [b'\\', b'n', ..] => (2, "\n"),
            _ => (1, "\\"),
        };
        out.push_str(read);
        rest = &rest[at + taken..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_payload_becomes_a_call() {
        let check = |query, payload: &str, expected: &str| {
            let callback = callback(&Query::parse(query)).expect("a number");
            assert_eq!(String::from_utf8(script(&callback, payload.as_bytes())).as_deref(), Ok(expected));
        };
        check("j=0", "4\"é\n", r#"___eio[0]("4\"é\n");"#);
        check("j=5a7", "4\u{2028}x\u{2029}", r#"___eio[57]("4\u2028x\u2029");"#);
        check("j=alert(1)", "4\u{1e}6", r#"___eio[1]("4\u001e6");"#);
        assert_eq!(callback(&Query::parse("x=1")), None);
    }

    #[test]
    fn a_form_holds_a_payload() {
        let check = |body, expected: Option<&str>| assert_eq!(form_payload(body).as_deref(), expected, "{body}");
        check("d=6%3A4hello", Some("6:4hello"));
        check("d=4a%5Cnb", Some("4a\nb"));
        check("d=4a%5C%5Cnb", Some("4a\\nb"));
        check("d=4a%5C%22%5C%5C", Some("4a\\\"\\\\"));
        check("x=1", None);
    }

    proptest! {
        /// The client's half as the stock client writes it: `\\n` for the two characters `\n`, `\n` for the end of a line.
        #[test]
        fn what_a_client_writes_is_read(text in "[a\\\\n\n\"é]{0,20}") {
            // A backslash right before the end of a line is spelled like an escaped `\n`: stock clients cannot tell them apart either.
            prop_assume!(!text.contains("\\\n") && !text.contains("\\\\n"));
            let escaped = text.replace("\\n", "\\\\n").replace('\n', "\\n");
            let form: String = escaped.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(form_payload(&format!("d={form}")), Some(text));
        }

        #[test]
        fn a_script_holds_the_payload_as_a_string(payload: String) {
            let script = String::from_utf8(script("3", payload.as_bytes())).expect("UTF-8");
            let literal = script.strip_prefix("___eio[3](").and_then(|rest| rest.strip_suffix(");")).expect("a call");
            prop_assert!(!literal.contains(['\u{2028}', '\u{2029}']), "a line ends within the literal");
            prop_assert_eq!(serde_json::from_str::<String>(literal).expect("a string"), payload);
        }
    }
}
