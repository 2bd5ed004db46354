//! The calls of services that rules make, from what was written: which upstream, by which protocol, what of it. Knows no rule that calls.

use std::sync::Arc;

use super::json;
use super::method::{self, Message, Method, ServiceCall, Verb};
use super::parts::Parts;
use super::scope::Vocabulary;
use super::shape::Shape;
use crate::profile::{Entry, Section, Span, did_you_mean};

const METHOD_FORM: &str = "write `UPSTREAM.SERVICE/METHOD`, as in `location.LocationService/GetVendorLocation`";
const REQUEST_FORM: &str = "write `UPSTREAM GET /PATH`, as in `tickets GET /tickets/{args.ticketId}`";

/// What of `[upstream.NAME]` says how calls of it are written.
pub(crate) struct Upstream<'a> {
    name: &'a str,
    is_http: bool,
}

impl<'a> Upstream<'a> {
    /// The upstream of a table.
    pub(crate) fn of(entry: &'a Entry) -> Self {
        let is_http = entry.written.section().is_some_and(|section| section.find("http").is_some());
        Self { name: &entry.name, is_http }
    }
}

impl Parts<'_, '_> {
    /// The call of a service that the keys `call` and `with` say. `None` where a problem was noted.
    pub(crate) fn service_call(&mut self, section: &Section, vocabulary: &Vocabulary) -> Option<ServiceCall> {
        let with = self.shape_of(section, "with", vocabulary);
        let text = section.text("call")?;
        let place = section.place("call");
        if let Some((upstream, verb, path)) = method::request_parts(text) {
            let index = self.upstream(upstream, true, &place)?;
            return self.request((index, verb, path), with, section, vocabulary);
        }
        let Some((upstream, service, method)) = method::parts(text) else {
            let begins_http = self.upstreams.iter().any(|upstream| {
                let rest = text.strip_prefix(upstream.name);
                upstream.is_http && rest.is_some_and(|rest| rest.starts_with([' ', '.', '/']) || rest.is_empty())
            });
            let form = if begins_http { REQUEST_FORM } else { METHOD_FORM };
            self.findings.problem_with(
                &place,
                format!("`{text}` is nothing that a service can be asked for"),
                Some(form.to_owned()),
            );
            return None;
        };
        let upstream = self.upstream(upstream, false, &place)?;
        let method = self.method(Method { upstream, service: Box::from(service), name: Box::from(method) });
        let with = self.message(with, &method);
        Some(ServiceCall::Grpc { method, with })
    }

    /// The place of an upstream, which is to be called as it says.
    fn upstream(&mut self, name: &str, is_http: bool, place: &Span) -> Option<usize> {
        let Some(index) = self.upstreams.iter().position(|own| own.name == name) else {
            let suggestion = did_you_mean(name, self.upstreams.iter().map(|own| own.name))
                .or_else(|| Some(format!("describe it in `[upstream.{name}]`")));
            self.findings.problem_with(place, format!("there is no upstream `{name}`"), suggestion);
            return None;
        };
        if self.upstreams[index].is_http != is_http {
            let (protocol, form) = if is_http { ("gRPC", METHOD_FORM) } else { ("HTTP", REQUEST_FORM) };
            let what = format!("the upstream `{name}` is called by {protocol}");
            self.findings.problem_with(place, what, Some(form.to_owned()));
            return None;
        }
        Some(index)
    }

    fn request(
        &mut self,
        (upstream, verb, path): (usize, &str, &str),
        with: Option<Shape>,
        section: &Section,
        vocabulary: &Vocabulary,
    ) -> Option<ServiceCall> {
        let place = section.place("call");
        let Some(verb) = Verb::ALL.into_iter().find(|known| known.as_str() == verb) else {
            let known = Verb::ALL.map(Verb::as_str);
            let suggestion = did_you_mean(&verb.to_ascii_uppercase(), known)
                .or_else(|| Some(format!("there is {}", known.join(", "))));
            self.findings.problem_with(&place, format!("`{verb}` is no method of HTTP"), suggestion);
            return None;
        };
        let path = self.template(path, &place, vocabulary)?;
        if let Some(what) = path_problem(&path.written(), &mut path.literals()) {
            self.findings.problem(&place, what);
            return None;
        }
        match (verb.has_body(), with) {
            (true, with) => {
                let with = with.unwrap_or_else(|| Shape::Constant(Box::from("{}")));
                Some(ServiceCall::Http { upstream, verb, path, with: Some(with) })
            }
            (false, None) => Some(ServiceCall::Http { upstream, verb, path, with: None }),
            (false, Some(_)) => {
                self.findings.problem_with(
                    &section.place("with"),
                    format!("no message goes along with a {}", verb.as_str()),
                    Some("what the service must know stands in the path: `/tickets?of={user.id}`".to_owned()),
                );
                None
            }
        }
    }

    /// A method that is called; each is there once.
    fn method(&mut self, method: Method) -> Arc<Method> {
        if let Some(known) = self.methods.iter().find(|known| ***known == method) {
            return known.clone();
        }
        let method = Arc::new(method);
        self.methods.push(method.clone());
        method
    }

    /// The message of a call; an empty one if it is not written.
    fn message(&mut self, with: Option<Shape>, method: &Arc<Method>) -> Shape {
        if let Some(Shape::Object(fields)) = &with {
            let fields = fields.iter().filter_map(|(name, _)| Some(json::text(name)?.into_owned())).collect();
            self.messages.push(Message { method: method.clone(), fields });
        }
        with.unwrap_or_else(|| Shape::Constant(Box::from("{}")))
    }
}

/// What is wrong with a path, beside its holes.
fn path_problem(written: &str, literals: &mut dyn Iterator<Item = &str>) -> Option<String> {
    if !written.starts_with('/') {
        return Some(format!("the path `{written}` does not begin with `/`"));
    }
    let misplaced = |character: char| !character.is_ascii_graphic() || "#\\<>\"^`{|}".contains(character);
    if let Some(character) = literals.flat_map(str::chars).find(|character| misplaced(*character)) {
        return Some(format!("`{character}` has no place in a path; percent-encode it (RFC 3986)"));
    }
    let path = written.split('?').next().unwrap_or_default();
    let climbs = path.split('/').any(|segment| matches!(segment, "." | ".."));
    climbs.then(|| format!("the path `{written}` climbs: `.` and `..` are no steps of it"))
}
