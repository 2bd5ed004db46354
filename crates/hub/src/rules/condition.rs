//! Conditions in CEL, the Common Expression Language (<https://cel.dev>): compiled when a profile is read, bounded when they run.
//! Only the fields that an expression names are converted for it. An id is the same id as text and as integer: `==`, `!=` and `in` compare digits.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, operators};
use cel::objects::{Key, Value};
use cel::{Context, Env, ExecutionError, Program};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::scope::{Path, Scope, Unknown, Vocabulary};

/// The longest condition, in bytes.
const SOURCE_MAX_BYTES: usize = 4 * 1024;
/// How many values a condition may be given, lists and objects counted with what is in them. A condition may loop once over them and search them
/// each time, which this keeps in the milliseconds.
const VALUES_MAX: usize = 1_000;
/// How much text a condition may be given, in bytes.
const TEXT_MAX_BYTES: usize = 64 * 1024;

const FUNCTIONS: &str = "there is `size`, `startsWith`, `endsWith`, `contains` (in texts) and `matches`; `x in list` asks whether a list holds x";

const SAME: &str = "@same";
const AMONG: &str = "@among";

/// The functions and types of conditions, built once for a profile: building them costs more than most conditions.
pub(crate) struct Conditions {
    base: Context<'static, 'static>,
}

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conditions")
    }
}

impl Conditions {
    pub(crate) fn new() -> Self {
        let mut base = Context::with_env(Arc::new(Env::stdlib()));
        base.add_function(SAME, |one: Value, other: Value| same(&one, &other))
            .expect("no such name in the standard library");
        base.add_function(AMONG, |one: Value, all: Value| among(&one, &all))
            .expect("no such name in the standard library");
        Self { base }
    }
}

/// A condition.
#[derive(Debug, Clone)]
pub(crate) enum Condition {
    /// It always holds.
    Always,
    /// It never holds.
    Never,
    /// It is worked out.
    Depends(Box<Expression>),
}

/// An expression with what it reads.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    source: Box<str>,
    tree: IdedExpr,
    reads: Vec<Read>,
}

/// What an expression reads of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    root: Box<str>,
    /// The fields below the root; `None` for all of it.
    fields: Option<Vec<Box<str>>>,
}

impl Condition {
    /// Compiles a condition that may read what is in the vocabulary.
    pub(crate) fn parse(text: &str, vocabulary: &Vocabulary) -> Result<Self, Unknown> {
        let bad = |what: String| Unknown { what, suggestion: None };
        match text.trim() {
            "true" => return Ok(Self::Always),
            "false" => return Ok(Self::Never),
            _ => {}
        }
        if text.len() > SOURCE_MAX_BYTES {
            return Err(bad(format!("is longer than {SOURCE_MAX_BYTES} bytes")));
        }
        let program = Program::compile(text).map_err(|errors| {
            let messages: Vec<&str> = errors.errors.iter().map(|error| error.msg.as_str()).collect();
            Unknown { what: format!("is no condition: {}", messages.join("; ")), suggestion: in_cel(text) }
        })?;
        let mut tree = program.expression().clone();
        let mut walk = Walk { vocabulary, tried: None, bound: Vec::new(), loops: 0, reads: Vec::new() };
        walk.check(&tree)?;
        compare_ids(&mut tree);
        Ok(Self::Depends(Box::new(Expression { source: Box::from(text), tree, reads: walk.reads })))
    }

    /// Whether it holds. The error says why that cannot be told: whoever asks takes it for a no, and counts it.
    pub(crate) fn holds(&self, conditions: &Conditions, scope: &Scope<'_>) -> Result<bool, String> {
        match self {
            Self::Always => Ok(true),
            Self::Never => Ok(false),
            Self::Depends(expression) => expression.holds(conditions, scope),
        }
    }

    /// The claims that it reads; `None` for all of them.
    pub(crate) fn claims(&self) -> Option<&[Box<str>]> {
        match self {
            Self::Always | Self::Never => Some(&[]),
            Self::Depends(expression) => match expression.reads.iter().find(|read| &*read.root == "user") {
                Some(read) => read.fields.as_deref(),
                None => Some(&[]),
            },
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("true"),
            Self::Never => f.write_str("false"),
            Self::Depends(expression) => f.write_str(&expression.source),
        }
    }
}

impl Expression {
    fn holds(&self, conditions: &Conditions, scope: &Scope<'_>) -> Result<bool, String> {
        let mut context = conditions.base.new_inner_scope();
        let mut budget = Budget { values: VALUES_MAX, text_bytes: TEXT_MAX_BYTES };
        for read in &self.reads {
            let value = match &read.fields {
                None => match scope.find(&Path::new(&[&read.root])) {
                    Some(raw) => budget.convert(&raw)?,
                    None => continue,
                },
                Some(fields) => {
                    let mut map = HashMap::with_capacity(fields.len());
                    for field in fields {
                        if let Some(raw) = scope.find(&Path::new(&[&read.root, field])) {
                            map.insert(Key::from(field.to_string()), budget.convert(&raw)?);
                        }
                    }
                    Value::Map(map.into())
                }
            };
            context.add_variable_from_value(read.root.to_string(), value);
        }
        match Value::resolve(&self.tree, &context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err(format!("`{}` is neither true nor false", self.source)),
            Err(error) => Err(format!("`{}`: {error}", self.source)),
        }
    }
}

/// A walk over an expression: which names it reads, and that it is bounded.
struct Walk<'a> {
    vocabulary: &'a Vocabulary,
    /// For trying functions; there once one is called.
    tried: Option<Context<'static, 'static>>,
    bound: Vec<String>,
    loops: usize,
    reads: Vec<Read>,
}

impl Walk<'_> {
    fn check(&mut self, tree: &IdedExpr) -> Result<(), Unknown> {
        match &tree.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(_) | Expr::Select(_) => self.path(tree),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.check(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(structure) => structure.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Call(call) => {
                let literal = call.args.iter().all(|argument| matches!(argument.expr, Expr::Literal(_)));
                if call.func_name == "matches" && !(call.target.is_some() && literal) {
                    return Err(refused("`matches` needs a pattern in quotes: one from outside could take any time"));
                }
                self.try_function(call)?;
                call.target.iter().try_for_each(|target| self.check(target))?;
                call.args.iter().try_for_each(|argument| self.check(argument))
            }
            Expr::Comprehension(each) => {
                self.check(&each.iter_range)?;
                if self.loops > 0 {
                    return Err(refused("a loop inside a loop could take any time"));
                }
                let names = [Some(&each.iter_var), each.iter_var2.as_ref(), Some(&each.accu_var)];
                let before = self.bound.len();
                self.bound.extend(names.into_iter().flatten().cloned());
                self.loops += 1;
                let parts = [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result];
                let checked = parts.into_iter().try_for_each(|part| self.check(part));
                self.loops -= 1;
                self.bound.truncate(before);
                checked
            }
        }
    }

    /// A function that is none, and a pattern that makes no sense or would be too large, are told when the profile is read: each is tried.
    fn try_function(&mut self, call: &CallExpr) -> Result<(), Unknown> {
        let context = self.tried.get_or_insert_with(|| Context::with_env(Arc::new(Env::stdlib())));
        let tried = |target: Option<&IdedExpr>, args: Vec<IdedExpr>| {
            let call = CallExpr { func_name: call.func_name.clone(), target: target.cloned().map(Box::new), args };
            Value::resolve(&IdedExpr { id: 0, expr: Expr::Call(call) }, context)
        };
        // An empty list is an argument that needs nothing to be worked out.
        let anything =
            IdedExpr { id: 0, expr: Expr::List(ListExpr { elements: Vec::new(), optional_indices: Vec::new() }) };
        let target = call.target.as_ref().map(|_| &anything);
        if let Err(ExecutionError::UndeclaredReference(name)) = tried(target, vec![anything.clone(); call.args.len()]) {
            return Err(Unknown {
                what: format!("there is no function `{name}`"),
                suggestion: Some(FUNCTIONS.to_owned()),
            });
        }
        if let ("matches", [pattern]) = (call.func_name.as_str(), call.args.as_slice())
            && let Err(error) = tried(Some(pattern), vec![pattern.clone()])
        {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            return Err(refused(&format!("the pattern of `matches` makes no sense: {last}")));
        }
        Ok(())
    }

    fn entry(&mut self, entry: &EntryExpr) -> Result<(), Unknown> {
        match entry {
            EntryExpr::StructField(field) => self.check(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.check(&entry.key)?;
                self.check(&entry.value)
            }
        }
    }

    /// An identifier, or fields selected on one: a path that must be in the vocabulary.
    fn path(&mut self, tree: &IdedExpr) -> Result<(), Unknown> {
        let mut steps = Vec::new();
        let mut at = tree;
        let root = loop {
            match &at.expr {
                Expr::Ident(name) => break name,
                Expr::Select(select) => {
                    steps.push(select.field.as_str());
                    at = &select.operand;
                }
                Expr::Unspecified
                | Expr::Literal(_)
                | Expr::List(_)
                | Expr::Map(_)
                | Expr::Struct(_)
                | Expr::Call(_)
                | Expr::Comprehension(_) => return self.check(at),
            }
        };
        if self.bound.contains(root) {
            return Ok(());
        }
        steps.push(root);
        steps.reverse();
        self.vocabulary.check(&steps, false)?;
        let field = steps.get(1).map(|field| Box::from(*field));
        match (self.reads.iter_mut().find(|read| *read.root == **root), field) {
            (None, field) => {
                self.reads.push(Read { root: Box::from(root.as_str()), fields: field.map(|field| vec![field]) })
            }
            (Some(read), None) => read.fields = None,
            (Some(Read { fields: Some(fields), .. }), Some(field)) if !fields.contains(&field) => fields.push(field),
            (Some(_), Some(_)) => {}
        }
        Ok(())
    }
}

/// How CEL writes what those mean who know other languages better.
fn in_cel(text: &str) -> Option<String> {
    let mut outside = String::new();
    // What stands in quotes is no operator.
    for (index, part) in text.split(['\'', '"']).enumerate() {
        outside.push_str(if index % 2 == 0 { part } else { " " });
    }
    let words: Vec<&str> = outside.split_whitespace().collect();
    let equals = outside.replace("==", " ").replace("!=", " ").replace("<=", " ").replace(">=", " ").contains('=');
    let found = [
        (equals, "`==` compares"),
        (words.contains(&"and"), "`&&` is and"),
        (words.contains(&"or"), "`||` is or"),
        (words.contains(&"not"), "`!` is not"),
    ];
    found.iter().find(|(is_there, _)| *is_there).map(|(_, hint)| (*hint).to_owned())
}

fn refused(what: &str) -> Unknown {
    Unknown { what: what.to_owned(), suggestion: None }
}

/// Lets `==`, `!=` and `in` take an id for the same whether it is a text or an integer.
fn compare_ids(tree: &mut IdedExpr) {
    match &mut tree.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => compare_ids(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(compare_ids),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| compare_ids_in(&mut entry.expr)),
        Expr::Struct(structure) => structure.entries.iter_mut().for_each(|entry| compare_ids_in(&mut entry.expr)),
        Expr::Comprehension(each) => {
            for part in
                [&mut each.iter_range, &mut each.accu_init, &mut each.loop_cond, &mut each.loop_step, &mut each.result]
            {
                compare_ids(part);
            }
        }
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| compare_ids(target));
            call.args.iter_mut().for_each(compare_ids);
            match call.func_name.as_str() {
                operators::EQUALS => SAME.clone_into(&mut call.func_name),
                operators::IN => AMONG.clone_into(&mut call.func_name),
                operators::NOT_EQUALS => {
                    let args = std::mem::take(&mut call.args);
                    let same = CallExpr { func_name: SAME.to_owned(), target: None, args };
                    call.args = vec![IdedExpr { id: tree.id, expr: Expr::Call(same) }];
                    operators::LOGICAL_NOT.clone_into(&mut call.func_name);
                }
                _ => {}
            }
        }
    }
}

fn compare_ids_in(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => compare_ids(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            compare_ids(&mut entry.key);
            compare_ids(&mut entry.value);
        }
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(text), Value::Int(number)) | (Value::Int(number), Value::String(text)) => {
            **text == number.to_string()
        }
        (Value::String(text), Value::UInt(number)) | (Value::UInt(number), Value::String(text)) => {
            **text == number.to_string()
        }
        _ => one == other,
    }
}

fn among(one: &Value, all: &Value) -> Result<bool, cel::ExecutionError> {
    match all {
        Value::List(items) => Ok(items.iter().any(|item| same(one, item))),
        Value::Map(map) => Ok(map.map.keys().any(|key| same(one, &Value::from(key)))),
        // One role stands alone in a token and several are a list: a lone one is a list of one.
        Value::String(_) | Value::Int(_) | Value::UInt(_) => Ok(same(one, all)),
        Value::Null => Ok(false),
        _ => Err(cel::ExecutionError::function_error("in", "the right side is neither a list, an object nor an id")),
    }
}

/// How much may still be converted.
struct Budget {
    values: usize,
    text_bytes: usize,
}

impl Budget {
    fn convert(&mut self, raw: &str) -> Result<Value, String> {
        let mut reader = serde_json::Deserializer::from_str(raw);
        (&mut *self).deserialize(&mut reader).map_err(|error| error.to_string())
    }

    fn take_value<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.values = self
            .values
            .checked_sub(1)
            .ok_or_else(|| E::custom(format!("more than {VALUES_MAX} values for a condition")))?;
        Ok(())
    }

    fn take_text<E: serde::de::Error>(&mut self, text: &str) -> Result<String, E> {
        let left = self.text_bytes.checked_sub(text.len());
        self.text_bytes =
            left.ok_or_else(|| E::custom(format!("more than {TEXT_MAX_BYTES} bytes of text for a condition")))?;
        Ok(text.to_owned())
    }
}

impl<'de> DeserializeSeed<'de> for &mut Budget {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Budget {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.take_value()?;
        Ok(Value::Null)
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.take_value()?;
        Ok(Value::Bool(value))
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.take_value()?;
        Ok(Value::Int(value))
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.take_value()?;
        Ok(i64::try_from(value).map_or(Value::UInt(value), Value::Int))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.take_value()?;
        Ok(Value::Float(value))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.take_value()?;
        Ok(Value::String(Arc::new(self.take_text(value)?)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        self.take_value()?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(&mut *self)? {
            items.push(item);
        }
        Ok(Value::List(Arc::new(items)))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        self.take_value()?;
        let mut map = HashMap::new();
        while let Some(name) = object.next_key::<String>()? {
            let name = self.take_text(&name)?;
            map.insert(Key::from(name), object.next_value_seed(&mut *self)?);
        }
        Ok(Value::Map(map.into()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests unwrap")]
mod tests;
