//! What a service's `.proto` files say: compiled at start, without code. Knows files and names; calls nobody.

use anyhow::Context as _;
use hub::profile::{Upstream, UpstreamProtocol};
use hub::rules::{Message, Method};
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::files::Files;

/// What the files of an upstream say, and what of the profile they do not know.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) pool: DescriptorPool,
    /// Each a sentence. A service that describes itself may know better, so that this keeps nothing from starting.
    pub(super) doubts: Vec<String>,
}

/// The files of an upstream, compiled; `None` where it names none.
///
/// # Errors
/// A file is not there or makes no sense, or a method that rules call is not in them.
pub(super) fn compile(
    upstream: &Upstream,
    files: &Files,
    methods: &[&Method],
    messages: &[&Message],
) -> anyhow::Result<Option<Schema>> {
    let proto = match &upstream.protocol {
        UpstreamProtocol::Grpc { proto } if !proto.is_empty() => proto,
        UpstreamProtocol::Grpc { .. } | UpstreamProtocol::Http => return Ok(None),
    };
    let mut resolver = ChainFileResolver::new();
    resolver.add(Resolver(files.clone()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    for name in proto {
        let (_, from) = files.find(name)?.with_context(|| files.without(name))?;
        compiler.open_file(name).map_err(|error| anyhow::anyhow!("{error:?} (it is {from})"))?;
        tracing::info!(upstream = upstream.name, file = name, from, "read");
    }
    let pool = compiler.descriptor_pool();
    for wanted in methods {
        method(&service(&pool, proto, wanted)?, wanted).map_err(anyhow::Error::msg)?;
    }
    let mut doubts = Vec::new();
    for message in messages {
        let input =
            method(&service(&pool, proto, &message.method)?, &message.method).map_err(anyhow::Error::msg)?.input();
        let is_known =
            |name: &str| input.get_field_by_json_name(name).or_else(|| input.get_field_by_name(name)).is_some();
        for unknown in message.fields.iter().filter(|name| !is_known(name)) {
            let known: Vec<String> = input.fields().map(|field| format!("`{}`", field.json_name())).collect();
            let known = known.join(", ");
            doubts
                .push(format!("`{}` has no field `{unknown}`, which is left out; there is {known}", input.full_name()));
        }
    }
    Ok(Some(Schema { pool, doubts }))
}

fn service(pool: &DescriptorPool, proto: &[String], wanted: &Method) -> anyhow::Result<ServiceDescriptor> {
    pool.get_service_by_name(&wanted.service).with_context(|| {
        let known: Vec<String> = pool.services().map(|service| format!("`{}`", service.full_name())).collect();
        let names = proto.join(", ");
        format!("{names}: there is no service `{}`; there is {}", wanted.service, known.join(", "))
    })
}

/// A method of a service, if it can be called with one message for one reply.
///
/// # Errors
/// There is none, or it streams.
pub(super) fn method(service: &ServiceDescriptor, wanted: &Method) -> Result<MethodDescriptor, String> {
    let Some(method) = service.methods().find(|method| method.name() == &*wanted.name) else {
        let known: Vec<String> = service.methods().map(|method| format!("`{}`", method.name())).collect();
        let known = if known.is_empty() { "none at all".to_owned() } else { known.join(", ") };
        return Err(format!("`{}` has no method `{}`; there is {known}", wanted.service, wanted.name));
    };
    if method.is_client_streaming() || method.is_server_streaming() {
        return Err(format!("`{wanted}` streams: only methods of one message and one reply can be called"));
    }
    Ok(method)
}

struct Resolver(Files);

impl FileResolver for Resolver {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.find(name) {
            Ok(Some((text, _))) => File::from_source(name, &text),
            Ok(None) => Err(protox::Error::file_not_found(name)),
            Err(error) => Err(protox::Error::new(error.into_boxed_dyn_error())),
        }
    }
}
