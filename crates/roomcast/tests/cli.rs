//! The command line as a user types it: what it prints, and with which code it ends. Needs no broker.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A run of the binary in a directory of its own, with none of the variables that a gateway reads.
struct Run {
    arguments: Vec<&'static str>,
    variables: Vec<(&'static str, &'static str)>,
    files: Vec<(&'static str, String)>,
    input: &'static str,
}

fn roomcast(line: &'static str) -> Run {
    Run { arguments: line.split(' ').collect(), variables: vec![], files: vec![], input: "" }
}

impl Run {
    fn argument(mut self, argument: &'static str) -> Self {
        self.arguments.push(argument);
        self
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    fn file(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.files.push((name, text.into()));
        self
    }

    fn input(mut self, input: &'static str) -> Self {
        self.input = input;
        self
    }

    fn output(self) -> Output {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in &self.files {
            std::fs::write(directory.path().join(name), text).expect("a file");
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_roomcast"))
            .args(&self.arguments)
            .env_clear()
            .envs(self.variables)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        // A command that reads nothing may be gone by now.
        let _ = child.stdin.take().expect("a pipe").write_all(self.input.as_bytes());
        child.wait_with_output().expect("the binary ends")
    }

    /// Expects this exit code, and these texts in what is printed.
    fn check(self, code: i32, expected: &[&str]) {
        let line = self.arguments.join(" ");
        let output = self.output();
        let printed = text(&output);
        assert_eq!(output.status.code(), Some(code), "{line}: {printed}");
        for text in expected {
            assert!(printed.contains(text), "{line}: no {text:?} in\n{printed}");
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn hometrip() -> String {
    hub::profile::builtin("hometrip").expect("it comes with the gateway").to_owned()
}

#[test]
fn help_shows_an_example_of_each_command() {
    for command in ["serve", "demo", "check", "explain", "profile", "token", "publish", "listen", "health"] {
        let mut run = roomcast("help");
        run.arguments.push(command);
        run.check(0, &["Example", &format!("roomcast {command}")]);
    }
    roomcast("--version").check(0, &[concat!("roomcast ", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_why() {
    roomcast("sevre").check(2, &["unrecognized subcommand 'sevre'", "serve"]);
    roomcast("serve")
        .check(2, &["which gateway? --profile NAME (clan, demo, hometrip, marketplace", "or --config FILE"]);
    roomcast("serve --profile hometrp").check(2, &["no profile `hometrp`", "clan, demo, hometrip, marketplace"]);
    roomcast("serve --profile demo --config x").check(2, &["cannot be used with"]);
    roomcast("demo --shards 0").check(2, &["--shards"]);
    roomcast("demo --port 70000").check(2, &["--port"]);
    roomcast("token").variable("JWT_SECRET", "s").check(2, &["a token must name a user"]);
    roomcast("token --user a --expires-in soon").check(2, &["write a number and a unit", "30s"]);
    roomcast("publish").check(2, &["--key", "--room"]);
    roomcast("health").check(2, &["which gateway?"]);
    roomcast("listen --emit").argument("join {room}").check(2, &["the data of `join` is not JSON"]);
}

#[test]
fn a_failure_ends_with_1_and_names_what_is_missing() {
    roomcast("serve --profile hometrip").check(1, &["hometrip.toml:", "JWT_SECRET is not set"]);
    roomcast("serve --config none.toml").check(1, &["cannot read none.toml"]);
    roomcast("token --user a").check(1, &["JWT_SECRET is not set"]);
    roomcast("demo").variable("PORT", "http").check(1, &["PORT"]);
    roomcast("listen --url http://127.0.0.1:1").check(1, &["cannot connect to ws://127.0.0.1:1/socket.io/"]);
    roomcast("health --url http://127.0.0.1:1").check(1, &["no answer from http://127.0.0.1:1/health/ready"]);
    roomcast("publish --profile hometrip --key message.sent {}").check(1, &["RABBITMQ_URL or RABBITMQ_HOST"]);
    roomcast("publish --profile hometrip --room a --event b {}").check(1, &["API_KEY is not set"]);
}

#[test]
fn a_profile_is_checked_with_file_line_column_and_a_suggestion() {
    roomcast("check mine.toml").file("mine.toml", hometrip()).check(0, &["mine.toml: no problem found", "JWT_SECRET"]);
    let wrong = hometrip().replacen("{args.roomId}", "{args.roomld}", 1);
    let line = wrong.lines().position(|line| line.contains("roomld")).expect("it was replaced") + 1;
    roomcast("check mine.toml")
        .file("mine.toml", wrong)
        .check(1, &[&format!("mine.toml:{line}:"), "`{args.roomld}`", "did you mean `args.roomId`?"]);
}

#[test]
fn profiles_are_listed_shown_and_described() {
    roomcast("profile list").check(0, &["clan ", "demo ", "hometrip ", "marketplace "]);
    let shown = roomcast("profile show hometrip").output();
    assert_eq!(String::from_utf8_lossy(&shown.stdout), hometrip());
    roomcast("profile env hometrip").check(0, &["\nJWT_SECRET=\n", "\n# PORT=3002\n"]);
    roomcast("profile env mine.toml").file("mine.toml", hometrip()).check(0, &["\nJWT_SECRET=\n"]);
    roomcast("profile show nothing").check(2, &["no profile `nothing`"]);
    let schema = roomcast("profile schema").output();
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert!(schema["properties"].get("route").is_some(), "{schema}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .args(["profile", "schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!((output.status.code(), text(&output)), (Some(0), String::new()));
}

#[test]
fn explain_says_what_would_go_out_and_why() {
    let event = r#"{"conversationId": 42, "text": "a  b", "n": 1.0}"#;
    roomcast("explain --profile hometrip --key message.sent --event -").input(event).check(
        0,
        &["message.sent -> queue websocket.message.sent", &format!("new_message -> conversation:42 {event}")],
    );
    roomcast("explain --profile hometrip --key message.sent --event event.json")
        .file("event.json", "{}")
        .check(1, &["dead letter: {event.conversationId} is missing"]);
    roomcast("explain --profile hometrip --key message.sent --event -").input("hi").check(1, &["dead letter:"]);
    roomcast("explain --profile hometrip --key mesage.sent --event -")
        .input(event)
        .check(0, &["no queue is bound to the key `mesage.sent`"]);
    roomcast("explain --profile demo --key a --event -").input("{}").check(1, &["has no source of events"]);
}

#[test]
fn the_env_file_is_read_and_the_environment_wins() {
    let decode = |run: Run| {
        let output = run.output();
        let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let key = jsonwebtoken::DecodingKey::from_secret(b"real");
        let rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
        jsonwebtoken::decode::<serde_json::Value>(&token, &key, &rules).map(|token| token.claims).map_err(|_| token)
    };
    let claims =
        decode(roomcast("token --user alice --role guest --claim shopIds=[7]").file(".env", "JWT_SECRET=real"));
    let claims = claims.expect("signed with the secret of .env");
    assert_eq!((&claims["userId"], &claims["role"]), (&"alice".into(), &"guest".into()));
    assert_eq!(claims["shopIds"], serde_json::json!([7]));
    let life = claims["exp"].as_u64().expect("an end") - claims["iat"].as_u64().expect("a beginning");
    assert_eq!(life, 7 * 24 * 60 * 60);
    let other = roomcast("token --user alice").file(".env", "JWT_SECRET=other").variable("JWT_SECRET", "real");
    assert!(decode(other).is_ok());
    let short = roomcast("token --user alice").variable("JWT_SECRET", "real").variable("JWT_EXPIRES_IN", "1h");
    let claims = decode(short).expect("a token");
    assert_eq!(claims["exp"].as_u64().map(|exp| exp - claims["iat"].as_u64().unwrap_or(0)), Some(3_600));
}

/// `docs/reference` is written from the tables in the code; whoever changes them runs `cargo run -- reference docs/reference`.
#[test]
fn the_reference_pages_are_fresh() {
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference");
    let fresh = tempfile::tempdir().expect("a directory");
    let mut run = Command::new(env!("CARGO_BIN_EXE_roomcast"));
    assert!(run.arg("reference").arg(fresh.path()).status().expect("the binary starts").success());
    let mut pages = 0;
    for page in std::fs::read_dir(fresh.path()).expect("the pages") {
        let name = page.expect("a page").file_name();
        let read = |directory: &std::path::Path| std::fs::read_to_string(directory.join(&name)).unwrap_or_default();
        let is_fresh = read(&kept) == read(fresh.path());
        assert!(is_fresh, "docs/reference/{} is stale: cargo run -- reference docs/reference", name.display());
        pages += 1;
    }
    assert_eq!(pages, 4);
}

#[test]
fn the_proto_files_of_a_profile_are_read_and_those_beside_it_win() {
    let profile = |proto: &str| {
        format!(
            "[auth]\ntoken = 'ignored'\n[[endpoint]]\nprotocol = 'json'\n\
             [upstream.location]\ngrpc = 'localhost:1'\nproto = '{proto}'\n\
             [command.x]\ncall = {{ y = {{ call = 'location.LocationService/GetVendorLocation' }} }}\n"
        )
    };
    let check = || roomcast("check mine.toml").file("mine.toml", profile("location.proto"));
    check().check(0, &["no problem found"]);
    let other = "syntax = \"proto3\"; message A {} service Other { rpc Get(A) returns (A); }";
    check()
        .file("location.proto", other)
        .check(1, &["upstream `location`: location.proto: there is no service `LocationService`; there is `Other`"]);
    let misspelt =
        profile("location.proto").replace("/GetVendorLocation'", "/GetVendorLocation', with = { vendorID = 7 }");
    roomcast("check mine.toml").file("mine.toml", misspelt).check(
        0,
        &[
            "`GetVendorLocationRequest` has no field `vendorID`, which is left out; there is `vendorId`",
            "no problem found",
        ],
    );
    check().file("location.proto", "nonsense").check(1, &["upstream `location`: location.proto:1:1: expected"]);
    roomcast("check mine.toml")
        .file("mine.toml", profile("gone.proto"))
        .check(1, &["upstream `location`: there is no file `gone.proto` in `profiles/mine` nor in `.`"]);
    roomcast("serve --config mine.toml")
        .file("mine.toml", profile("gone.proto"))
        .check(1, &["upstream `location`: there is no file `gone.proto`"]);
}
