//! Temporary.
fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let text = hub::profile::builtin(&name).expect("profile");
    let (mut profile, warnings) =
        hub::profile::Profile::read(text, &name, &|v| std::env::var(v).ok().filter(|v| !v.is_empty()))
            .map_err(|p| anyhow::anyhow!("{p:?}"))?;
    if let Some(port) = std::env::args().nth(2) {
        profile.service.port = port.parse()?;
    }
    let shards = std::env::args().nth(3).map_or(2, |s| s.parse().unwrap());
    roomcast::app::run(profile, &warnings, shards)
}
