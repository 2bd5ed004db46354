//! A socket gets the rooms of its claims as far as it may be in them, and whoever looks after the gateway hears of the others.

use std::sync::Arc;

use hub::names::{NamespaceId, RoomName, SocketId};
use hub::profile::Profile;
use hub::rooms::Watch;
use hub::sockets::{Moment, Output, Sockets};

use crate::stage::{MAIN, with_claims};

const SHOPS: &str = r##"
[auth]
token = "ignored"

[limits]
rooms_per_connection = 3

[[endpoint]]
protocol = "socket.io"

[on.connect]
join = "shop:{user.shopIds?}"

[room.any]
name  = "{name}"
enter = true

[command.leave]
args  = { room = "id" }
leave = "{args.room}"
"##;

struct Nobody;

impl Watch for Nobody {
    fn opened(&mut self, _: NamespaceId, _: &RoomName) {}
    fn closed(&mut self, _: NamespaceId, _: &RoomName) {}
}

#[test]
fn the_bound_of_rooms_holds_for_claims_old_and_new() {
    let (profile, _) = Profile::read(SHOPS, "shops.toml", &|_| None).unwrap();
    let mut sockets = Sockets::new(Arc::new(profile));
    let user = |shops: &str| Arc::new(with_claims("42", &format!(r#"{{"id":"42","shopIds":{shops}}}"#)));
    let id = SocketId::parse("socket-0000000000001").unwrap();
    let moment = Moment { now_unix_ms: 0, new_id: &|| "fresh".to_owned() };
    let key = sockets.enter(0, MAIN, id, user(r#"["a","b","c","d"]"#), None);
    let check = |sockets: &Sockets, out: Vec<Output>, rooms: &[&str], left_out: Option<(usize, &str)>| {
        assert_eq!(sockets.rooms().of(key).map(RoomName::as_str).collect::<Vec<_>>(), rooms);
        let told: Vec<_> = out
            .iter()
            .filter_map(|output| match output {
                Output::LeftOut { left_out, .. } => Some((left_out.count, &*left_out.first)),
                _ => None,
            })
            .collect();
        assert_eq!(told, Vec::from_iter(left_out));
    };

    let mut out = Vec::new();
    sockets.welcome(key, &moment, &mut Nobody, &mut out);
    check(&sockets, out, &["user:42", "shop:a", "shop:b"], Some((2, "a socket is in 3 rooms at most")));

    let mut out = Vec::new();
    sockets.refresh(key, user(r#"["a",{}]"#), None, &moment, &mut Nobody, &mut out);
    let no_id = "{user.shopIds?} is an object, not an id (a text of 1 to 255 bytes, or an integer)";
    // The rule of these rooms lets the client stay in the other one.
    check(&sockets, out, &["user:42", "shop:a", "shop:b"], Some((1, no_id)));

    let mut out = Vec::new();
    sockets.refresh(key, user(r#"["a","e"]"#), None, &moment, &mut Nobody, &mut out);
    check(&sockets, out, &["user:42", "shop:a", "shop:b"], Some((1, "the socket is in 3 rooms already")));

    sockets.command(key, "leave", Some(r#"{"room":"shop:b"}"#), None, &moment, &mut Nobody, &mut Vec::new());
    let mut out = Vec::new();
    sockets.refresh(key, user(r#"["a","e"]"#), None, &moment, &mut Nobody, &mut out);
    check(&sockets, out, &["user:42", "shop:a", "shop:e"], None);
}
