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

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r##"
about = "A gateway of the tests"

[auth]
token     = "with_key"
anonymous = { query = "userId" }

[[endpoint]]
protocol   = "socket.io"
namespaces = ["/", "/places"]

[[endpoint]]
protocol = "json"
paths    = { "/ws/places" = "/places" }
envelope = "data"

[room.place]
name  = "place:{id}"
enter = "id != 'the vault'"

[command.enter]
namespace = "/places"
bare      = "id"
args      = { id = "id", at = { lat = { number = [-90, 90] } }, kind = { one_of = ["a", "b"], default = "a" }, note = { text = [1, 300] }, tags = { list = "number", max = 3 } }
join      = "place:{args.id}"
answer    = { ack = { success = true }, event = "entered" }
"##;

    #[test]
    fn the_description_says_what_clients_may_send_and_nothing_else() {
        let secret = |name: &str| (name == "JWT_SECRET").then(|| "the secret".to_owned());
        let (profile, _) = Profile::read(PROFILE, "test.toml", &secret).expect("it is good");
        let described = profile.public_description();
        assert_eq!(described["access"], "token");
        assert_eq!(described["anonymousQuery"], "userId");
        let expected = json!([
            { "protocol": "socket.io", "path": "/socket.io/", "namespaces": ["/", "/places"], "websocket": true },
            { "protocol": "json", "path": "/ws/places", "namespaces": ["/places"], "envelope": "data" },
        ]);
        assert_eq!(described["endpoints"], expected);
        let number = |name: &str| json!({ "name": name, "type": "number", "min": -90.0, "max": 90.0, "optional": false, "expected": "a number from -90 to 90" });
        let expected = json!([{
            "name": "enter",
            "namespaces": ["/places"],
            "bare": "id",
            "args": [
                { "name": "id", "type": "id", "optional": false, "expected": "an id: a text of 1 to 255 bytes, or an integer" },
                { "name": "at", "type": "fields", "fields": [number("lat")], "optional": false, "expected": "an object" },
                { "name": "kind", "type": "word", "words": ["a", "b"], "default": "a", "optional": true, "expected": "one of a, b" },
                { "name": "note", "type": "text", "min": 1, "max": 300, "optional": false, "expected": "a text of 1 to 300 characters" },
                {
                    "name": "tags",
                    "type": "list",
                    "item": { "type": "number", "expected": "a number" },
                    "max": 3,
                    "optional": false,
                    "expected": "a list of at most 3, each a number",
                },
            ],
            "join": ["place:{args.id}"],
            "leave": [],
            "answer": "entered",
        }]);
        assert_eq!(described["commands"][0], expected[0]);
        assert_eq!(described["commands"][1]["name"], "refresh_token");
        assert_eq!(described["commands"].as_array().map(Vec::len), Some(2));
        let text = described.to_string();
        assert!(!text.contains("secret") && !text.contains("vault"), "{text}");
    }
}
