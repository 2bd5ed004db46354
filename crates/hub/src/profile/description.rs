//! What a profile says to everyone who asks, as JSON: who the gateway is, the ways in, and what clients may send there. The console makes its
//! forms from it. Public facts alone: no secret, no address of a service, no condition.

use serde_json::{Value, json};

use super::{Access, Endpoint, Envelope, Profile};

impl Profile {
    /// The profile as its clients may know it: `service`, `access`, `endpoints` and `commands`.
    pub fn public_description(&self) -> Value {
        let access = match self.auth.access {
            Access::Token => "token",
            Access::TokenOrAnonymous => "token_or_anonymous",
            Access::Open => "open",
        };
        let endpoints: Vec<Value> =
            self.endpoints.iter().flat_map(|endpoint| self.describe_endpoint(endpoint)).collect();
        let mut commands = self.rules.describe_commands();
        if self.auth.access != Access::Open {
            commands.push(refresh_token());
        }
        json!({
            "service": { "name": self.service.name, "version": self.service.version, "about": self.about },
            "access": access,
            "anonymousQuery": self.auth.anonymous_query,
            "endpoints": endpoints,
            "commands": commands,
        })
    }

    /// A way in for each path.
    fn describe_endpoint(&self, endpoint: &Endpoint) -> Vec<Value> {
        match endpoint {
            Endpoint::SocketIo(endpoint) => {
                let names: Vec<&str> = endpoint.namespaces.iter().map(|id| self.rules.namespace_name(*id)).collect();
                let slash = if endpoint.trailing_slash { "/" } else { "" };
                let path = format!("{}{slash}", endpoint.path);
                vec![
                    json!({ "protocol": "socket.io", "path": path, "namespaces": names, "websocket": endpoint.websocket }),
                ]
            }
            Endpoint::Json(endpoint) => {
                let envelope = match endpoint.envelope {
                    Envelope::Flat => "flat",
                    Envelope::Data => "data",
                };
                let describe = |(path, id): &(String, _)| {
                    let namespace = self.rules.namespace_name(*id);
                    json!({ "protocol": "json", "path": path, "namespaces": [namespace], "envelope": envelope })
                };
                endpoint.paths.iter().map(describe).collect()
            }
        }
    }
}

/// The gateway's own command, with which a client renews its token in place.
fn refresh_token() -> Value {
    json!({
        "name": "refresh_token",
        "namespaces": null,
        "bare": null,
        "args": [{ "name": "token", "type": "text", "optional": false, "expected": "a token of the same user" }],
        "join": [],
        "leave": [],
        "answer": null,
    })
}
