//! What operators and backend services see of a node: logs, health, documents, metrics and the server API.

pub mod logs;
mod time;
