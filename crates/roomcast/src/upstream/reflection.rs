//! Asks a service what it is: gRPC server reflection, v1 and, where there is none, v1alpha, whose messages are the same.
//! <https://grpc.io/docs/guides/reflection/>

use std::collections::{HashMap, HashSet};

use futures_util::stream;
use http::uri::PathAndQuery;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorError, DescriptorPool, ServiceDescriptor};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// Files that one service may be described by; with more it is taken not to describe itself.
const FILES_MAX: usize = 256;

/// The package of protobuf's own messages.
const WELL_KNOWN: &str = "google.protobuf";

const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What a server says of a service: its descriptor, or that it does not say.
///
/// # Errors
/// It did not answer.
pub(super) async fn describe(
    channel: &Channel,
    service: &str,
    authorization: Option<&MetadataValue<Ascii>>,
) -> Result<Option<ServiceDescriptor>, Status> {
    for path in PATHS {
        match Asking::new(channel, path, authorization.cloned()).describe(service).await {
            Err(status) if status.code() == Code::Unimplemented => {}
            other => return other,
        }
    }
    Ok(None)
}

struct Asking {
    client: Grpc<Channel>,
    path: PathAndQuery,
    authorization: Option<MetadataValue<Ascii>>,
    files: HashMap<String, FileDescriptorProto>,
}

impl Asking {
    fn new(channel: &Channel, path: &'static str, authorization: Option<MetadataValue<Ascii>>) -> Self {
        let (client, path) = (Grpc::new(channel.clone()), PathAndQuery::from_static(path));
        Self { client, path, authorization, files: HashMap::new() }
    }

    async fn describe(mut self, service: &str) -> Result<Option<ServiceDescriptor>, Status> {
        // Some servers know a service without a package by the name that it has in descriptors, with a dot before it.
        let [name, dotted] = [service.to_owned(), format!(".{service}")].map(MessageRequest::FileContainingSymbol);
        if !self.ask(name).await? && !self.ask(dotted).await? {
            return Ok(None);
        }
        // Servers send the files that theirs imports along, but need not.
        let known = DescriptorPool::global();
        let mut asked = HashSet::new();
        while let Some(missing) = self.missing(&known, &asked) {
            if self.files.len() + asked.len() > FILES_MAX {
                return Ok(None);
            }
            asked.insert(missing.clone());
            self.ask(MessageRequest::FileByFilename(missing)).await?;
        }
        match pool(known, self.files) {
            Ok(pool) => Ok(pool.get_service_by_name(service)),
            Err(error) => {
                tracing::warn!(service, %error, "what a server says of its service makes no sense");
                Ok(None)
            }
        }
    }

    /// A file that others import, that is not there and was not asked for.
    fn missing(&self, known: &DescriptorPool, asked: &HashSet<String>) -> Option<String> {
        let is_there = |name: &String| self.files.contains_key(name) || known.get_file_by_name(name).is_some();
        let mut imports = self.files.values().flat_map(|file| &file.dependency);
        imports.find(|name| !is_there(name) && !asked.contains(*name)).cloned()
    }

    /// Asks one question. Returns whether files came.
    async fn ask(&mut self, question: MessageRequest) -> Result<bool, Status> {
        self.client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let mut questions = Request::new(stream::iter([request]));
        if let Some(value) = &self.authorization {
            questions.metadata_mut().insert("authorization", value.clone());
        }
        let mut answers = self.client.streaming(questions, self.path.clone(), codec).await?.into_inner();
        match answers.message().await?.and_then(|answer| answer.message_response) {
            Some(MessageResponse::FileDescriptorResponse(found)) => {
                for bytes in found.file_descriptor_proto.iter().take(FILES_MAX) {
                    let file = FileDescriptorProto::decode(bytes.as_slice())
                        .map_err(|error| Status::data_loss(error.to_string()))?;
                    self.files.insert(file.name().to_owned(), file);
                }
                Ok(true)
            }
            Some(MessageResponse::ErrorResponse(error)) => {
                tracing::debug!(
                    code = error.error_code,
                    message = error.error_message,
                    "a server does not know its service"
                );
                Ok(false)
            }
            Some(MessageResponse::AllExtensionNumbersResponse(_) | MessageResponse::ListServicesResponse(_)) | None => {
                Ok(false)
            }
        }
    }
}

/// The files of a server beside those that are known. Node's servers send files that import nothing, name them as they like, and send copies of
/// protobuf's own: so every file sees all others, and what is known already wins.
fn pool(
    mut known: DescriptorPool,
    files: HashMap<String, FileDescriptorProto>,
) -> Result<DescriptorPool, DescriptorError> {
    let is_known = |file: &FileDescriptorProto| {
        let (package, mut messages) = (file.package(), file.message_type.iter());
        let is_known = |name: &str| known.get_message_by_name(&format!("{package}.{name}")).is_some();
        package == WELL_KNOWN && messages.all(|message| is_known(message.name()))
    };
    let mut files: Vec<FileDescriptorProto> = files.into_values().filter(|file| !is_known(file)).collect();
    let names = known.files().map(|file| file.name().to_owned());
    let names: Vec<String> = names.chain(files.iter().map(|file| file.name().to_owned())).collect();
    for file in &mut files {
        file.dependency = names.iter().filter(|name| *name != file.name()).cloned().collect();
        // These point into the list that was there before.
        file.public_dependency.clear();
        file.weak_dependency.clear();
    }
    known.add_file_descriptor_protos(files)?;
    Ok(known)
}

#[cfg(test)]
mod tests {
    use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
    use prost_reflect::prost_types::{
        DescriptorProto, FieldDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
    };

    use super::*;

    /// A file that imports nothing, with one message that has one field of this type.
    fn file(package: &str, message: &str, of: &str) -> FileDescriptorProto {
        let field = FieldDescriptorProto {
            name: Some("it".to_owned()),
            number: Some(1),
            label: Some(Label::Optional.into()),
            r#type: Some(Type::Message.into()),
            type_name: Some(of.to_owned()),
            ..FieldDescriptorProto::default()
        };
        let message =
            DescriptorProto { name: Some(message.to_owned()), field: vec![field], ..DescriptorProto::default() };
        FileDescriptorProto {
            name: Some(format!("{}.proto", package.replace('.', "_"))),
            package: Some(package.to_owned()),
            message_type: vec![message],
            syntax: Some("proto3".to_owned()),
            ..FileDescriptorProto::default()
        }
    }

    #[test]
    fn files_that_import_nothing_see_each_other_and_protobuf_s_own() {
        let method = MethodDescriptorProto {
            name: Some("Get".to_owned()),
            input_type: Some(".ask.Ask".to_owned()),
            output_type: Some(".google.protobuf.Empty".to_owned()),
            ..MethodDescriptorProto::default()
        };
        let service = ServiceDescriptorProto {
            name: Some("Places".to_owned()),
            method: vec![method],
            ..ServiceDescriptorProto::default()
        };
        // Node makes one file of each package, so that files may need each other.
        let places = FileDescriptorProto { service: vec![service], ..file("places", "Place", ".ask.Ask") };
        let mut own = file("google.protobuf", "Empty", "");
        own.message_type[0].field.clear();
        let files = [places, file("ask", "Ask", ".places.Place"), own];
        let by_name = |files: &[FileDescriptorProto]| {
            files.iter().map(|file| (file.name().to_owned(), file.clone())).collect::<HashMap<_, _>>()
        };
        let pool = pool(DescriptorPool::global(), by_name(&files)).expect("it makes sense");
        let service = pool.get_service_by_name("places.Places").expect("the service");
        let method = service.methods().next().expect("a method");
        assert_eq!(method.output().full_name(), "google.protobuf.Empty");
        let asked = method.input().get_field_by_name("it").expect("a field").kind();
        assert_eq!(asked.as_message().map(|message| message.full_name().to_owned()), Some("places.Place".to_owned()));
        assert!(super::pool(DescriptorPool::global(), by_name(&files[..1])).is_err(), "what is missing stays missing");
    }
}
