//! The profiles that come with the gateway, as text. Reads none of them.

const BUILTIN: [(&str, &str); 5] = [
    ("clan", include_str!("../../../../profiles/clan.toml")),
    ("demo", include_str!("../../../../profiles/demo.toml")),
    ("hometrip", include_str!("../../../../profiles/hometrip.toml")),
    ("marketplace", include_str!("../../../../profiles/marketplace.toml")),
    ("venta", include_str!("../../../../profiles/venta.toml")),
];

/// The names of the profiles that come with the gateway.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(name, _)| *name)
}

/// The text of a profile that comes with the gateway.
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(own, _)| *own == name).map(|(_, text)| *text)
}

const PROTO: [(&str, &str); 2] = [
    ("location.proto", include_str!("../../../../profiles/venta/location.proto")),
    ("vendor.proto", include_str!("../../../../profiles/venta/vendor.proto")),
];

/// The text of a `.proto` file that comes with the gateway.
pub fn builtin_proto(name: &str) -> Option<&'static str> {
    PROTO.iter().find(|(own, _)| *own == name).map(|(_, text)| *text)
}
