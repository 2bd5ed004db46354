//! Calls of services against real gRPC servers: what is called is described by the service itself or by files, and whatever the service does,
//! the caller gets a reply or a reason in time.

#[path = "support/grpc.rs"]
mod grpc;
#[path = "support/ports.rs"]
mod ports;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use grpc::{Reflection, Server};
use hub::profile::Profile;
use hub::rules::Callee;
use roomcast::metrics::Metrics;
use roomcast::upstream::{Failure, Files, Upstreams};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tonic::Status;

/// The fields of the shipped file, under other numbers: who goes by the file gets nothing right.
const OTHER_NUMBERS: &str = r#"
    syntax = "proto3";
    import "google/protobuf/empty.proto";
    service LocationService {
        rpc UpdateVendorLocation(UpdateRequest) returns (google.protobuf.Empty);
        rpc GetVendorLocation(GetRequest) returns (GetReply);
        rpc Watch(GetRequest) returns (stream GetReply);
    }
    message Location { double lat = 11; double long = 12; }
    message UpdateRequest { string vendor_id = 7; Location location = 8; }
    message GetRequest { string vendor_id = 9; }
    message GetReply { string vendor_id = 5; Location location = 6; }
"#;

const SHIPPED: &str = include_str!("../../../profiles/venta/location.proto");

struct Called {
    upstreams: Upstreams,
    profile: Profile,
    metrics: Arc<Metrics>,
}

/// A profile with one upstream at this address, with these keys beside it, whose rules call this method.
fn called(address: &str, keys: &str, method: &str) -> anyhow::Result<Called> {
    within("60s", address, keys, method)
}

fn within(timeout: &str, address: &str, keys: &str, method: &str) -> anyhow::Result<Called> {
    let text = format!(
        "[auth]\ntoken = 'ignored'\n[[endpoint]]\nprotocol = 'json'\n[upstream.location]\ngrpc = '{address}'\ntimeout = '{timeout}'\n{keys}\n\
         [command.x]\ncall = {{ reply = {{ call = 'location.{method}' }} }}\n"
    );
    let (profile, _) = Profile::read(&text, "test.toml", &|_| None).expect("a profile");
    let metrics = Arc::new(Metrics::default());
    let upstreams = Upstreams::start(&profile, &Files::default(), &metrics, &Handle::current())?;
    Ok(Called { upstreams, profile, metrics })
}

impl Called {
    fn callee(&self) -> Callee {
        Callee::Grpc(self.profile.rules.methods()[0].clone())
    }

    async fn call(&self, message: &Value) -> Result<Value, Failure> {
        let reply: Bytes = self.upstreams.call(&self.callee(), &message.to_string()).await?;
        Ok(serde_json::from_slice(&reply).expect("JSON"))
    }
}

const FILE: &str = "proto = 'location.proto'";
const GET: &str = "LocationService/GetVendorLocation";
const UPDATE: &str = "LocationService/UpdateVendorLocation";

/// A place for every vendor, and nothing for an update but the update itself.
async fn places(method: String, message: Value) -> Result<Value, Status> {
    match method.as_str() {
        "UpdateVendorLocation" if message == json!({ "vendorId": "42", "location": { "lat": 0.0, "long": -1.5 } }) => {
            Ok(json!({}))
        }
        "GetVendorLocation" => Ok(json!({ "vendorId": message["vendorId"], "location": { "lat": 0.0, "long": 7.25 } })),
        _ => Err(Status::invalid_argument(format!("{method} with {message}"))),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_reflection_the_files_count() {
    let server = Server::start(SHIPPED, Reflection::None, places).await;
    let update = called(&server.address(), FILE, UPDATE).expect("it starts");
    let spellings = [
        json!({ "vendorId": "42", "location": { "lat": 0, "long": -1.5 } }),
        json!({ "vendor_id": 42, "location": { "lat": 0, "long": -1.5 }, "unknown": true }),
    ];
    for message in &spellings {
        assert_eq!(update.call(message).await, Ok(json!({})), "{message}");
    }
    let get = called(&server.address(), FILE, GET).expect("it starts");
    let reply = json!({ "vendorId": "9", "location": { "lat": 0.0, "long": 7.25 } });
    assert_eq!(get.call(&json!({ "vendorId": "9" })).await, Ok(reply), "a latitude of 0 is one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_describes_itself_is_believed_over_the_files() {
    for reflection in [Reflection::V1, Reflection::V1Alpha] {
        for keys in [FILE, ""] {
            let server = Server::start(OTHER_NUMBERS, reflection, places).await;
            let get = called(&server.address(), keys, GET).expect("it starts");
            for vendor in ["9", "10"] {
                let reply = json!({ "vendorId": vendor, "location": { "lat": 0.0, "long": 7.25 } });
                assert_eq!(get.call(&json!({ "vendorId": vendor })).await, Ok(reply), "{reflection:?} {keys}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_says_what_it_is_goes_by_its_files() {
    let server = Server::start(SHIPPED, Reflection::Silent, places).await;
    let get = within("4s", &server.address(), FILE, GET).expect("it starts");
    let reply = json!({ "vendorId": "9", "location": { "lat": 0.0, "long": 7.25 } });
    assert_eq!(get.call(&json!({ "vendorId": "9" })).await, Ok(reply));
    let nobody = within("400ms", &server.address(), "", GET).expect("it starts");
    let failure = Failure::TimedOut("the service `location` did not answer in time".to_owned());
    assert_eq!(nobody.call(&json!({ "vendorId": "9" })).await, Err(failure));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_nobody_describes_is_not_called() {
    let server = Server::start(SHIPPED, Reflection::None, places).await;
    let get = called(&server.address(), "", GET).expect("it starts");
    let failure = Failure::Unavailable("the service `location` does not say what it can do".to_owned());
    assert_eq!(get.call(&json!({})).await, Err(failure));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_streams_is_not_called() {
    let server = Server::start(OTHER_NUMBERS, Reflection::V1, places).await;
    let watch = called(&server.address(), "", "LocationService/Watch").expect("it starts");
    let failure = Failure::Unavailable("the service `location` cannot do this".to_owned());
    assert_eq!(watch.call(&json!({})).await, Err(failure));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_in_the_service_s_own_words_and_its_failures_are_not() {
    let refusing = |_: String, message: Value| async move {
        let words = message["vendorId"].as_str().unwrap_or_default().to_owned();
        Err(match words.as_str() {
            "internal" => Status::internal("the password is 1234"),
            "unknown" => Status::unknown("an error that was thrown"),
            "" => Status::not_found(""),
            "cancelled" => Status::cancelled(""),
            _ => Status::failed_precondition(words),
        })
    };
    let server = Server::start(SHIPPED, Reflection::None, refusing).await;
    let get = called(&server.address(), FILE, GET).expect("it starts");
    let long = "x".repeat(10_000);
    for (vendor, expected) in [
        ("the vendor is closed", Failure::Refused("the vendor is closed".to_owned())),
        ("unknown", Failure::Refused("an error that was thrown".to_owned())),
        ("", Failure::Refused("the service `location` refused".to_owned())),
        ("internal", Failure::Unavailable("the service `location` failed".to_owned())),
        ("cancelled", Failure::TimedOut("the service `location` did not answer in time".to_owned())),
        (&long, Failure::Refused("x".repeat(500))),
    ] {
        assert_eq!(get.call(&json!({ "vendorId": vendor })).await, Err(expected), "{vendor:.20}");
    }
    match get.call(&json!({ "vendorId": ["not", "a", "text"] })).await {
        Err(Failure::Unfit(told)) => {
            assert!(told.starts_with("the service `location` cannot take this: `vendorId`: "), "{told}")
        }
        other => panic!("{other:?}"),
    }
    for _ in 0..20 {
        let failed = get.call(&json!({ "vendorId": "internal" })).await;
        assert_eq!(failed, Err(Failure::Unavailable("the service `location` failed".to_owned())));
    }
    assert_eq!(get.metrics.upstream_calls.value("spared"), 0, "what a client can provoke shuts nobody out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_is_left_alone_and_found_again() {
    let [port] = ports::free_ports();
    let address = format!("127.0.0.1:{port}");
    let get = called(&address, FILE, GET).expect("nobody is asked at the start");
    let down = Failure::Unavailable("the service `location` is not available; try again".to_owned());
    for _ in 0..5 {
        assert_eq!(get.call(&json!({})).await, Err(down.clone()));
    }
    let spared = Failure::Unavailable("the service `location` does not answer; try again".to_owned());
    while get.call(&json!({})).await != Err(spared.clone()) {}
    assert_eq!(get.metrics.upstream_calls.value("spared"), 1);
    let _server = Server::start_at(&address, SHIPPED, Reflection::None, places).await;
    let found = async {
        while get.call(&json!({ "vendorId": "9" })).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("it is found again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_replaced_by_another_version_is_asked_anew() {
    let [port] = ports::free_ports();
    let address = format!("127.0.0.1:{port}");
    let first = Server::start_at(&address, SHIPPED, Reflection::V1, places).await;
    let get = called(&address, FILE, GET).expect("it starts");
    let reply = json!({ "vendorId": "9", "location": { "lat": 0.0, "long": 7.25 } });
    assert_eq!(get.call(&json!({ "vendorId": "9" })).await, Ok(reply.clone()));
    first.stop().await;
    assert!(matches!(get.call(&json!({ "vendorId": "9" })).await, Err(Failure::Unavailable(_))));
    let _second = Server::start_at(&address, OTHER_NUMBERS, Reflection::V1, places).await;
    assert_eq!(get.call(&json!({ "vendorId": "9" })).await, Ok(reply));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_slow_costs_the_call_and_no_more() {
    let slow = async |method: String, message: Value| {
        if message["vendorId"] == "slow" {
            std::future::pending::<()>().await;
        }
        places(method, message).await
    };
    let server = Server::start(SHIPPED, Reflection::None, slow).await;
    let get = within("200ms", &server.address(), FILE, GET).expect("it starts");
    let late = Failure::TimedOut("the service `location` did not answer in time".to_owned());
    assert_eq!(get.call(&json!({ "vendorId": "slow" })).await, Err(late));
    let again = called(&server.address(), FILE, GET).expect("it starts");
    assert!(again.call(&json!({ "vendorId": "9" })).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_grpc_is_no_answer() {
    let page = axum::Router::new().fallback(|| async { "a page" });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let web = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, page).await });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let noise = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Who hangs up on noise is right.
            let _ = stream.write_all(&[0xa5; 1024]).await;
        }
    });
    for address in [web, noise] {
        let get = called(&address, FILE, GET).expect("it starts");
        match get.call(&json!({ "vendorId": "9" })).await {
            Err(Failure::Unavailable(told)) => assert!(told.starts_with("the service `location` "), "{told}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_an_address_is_not_called() {
    let get = called("", FILE, GET).expect("it starts");
    assert_eq!(get.call(&json!({})).await, Err(Failure::NotConfigured));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_files_do_not_say_is_told_at_the_start() {
    for (keys, method, expected) in [
        ("proto = 'nowhere.proto'", GET, "there is no file `nowhere.proto`, and none comes with the gateway"),
        (
            FILE,
            "LocationService/Get",
            "`LocationService` has no method `Get`; there is `UpdateVendorLocation`, `GetVendorLocation`",
        ),
        (FILE, "acme.Location/Get", "location.proto: there is no service `acme.Location`; there is `LocationService`"),
    ] {
        let error = called("localhost:1", keys, method).err().expect("it does not start");
        assert!(format!("{error:#}").starts_with("upstream `location`: "), "{error:#}");
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}
