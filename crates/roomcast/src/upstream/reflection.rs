//! Asks a service what it is: gRPC server reflection, v1 and, where there is none, v1alpha, whose messages are the same.
//! <https://grpc.io/docs/guides/reflection/>

use std::collections::{HashMap, HashSet};

use futures_util::stream;
use http::uri::PathAndQuery;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// Files that one service may be described by; with more it is taken not to describe itself.
const FILES_MAX: usize = 256;

const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// What a server says of a service: its descriptor, or that it does not say.
///
/// # Errors
/// It did not answer.
pub(super) async fn describe(channel: &Channel, service: &str) -> Result<Option<ServiceDescriptor>, Status> {
    for path in PATHS {
        match Asking::new(channel, path).describe(service).await {
            Err(status) if status.code() == Code::Unimplemented => {}
            other => return other,
        }
    }
    Ok(None)
}

struct Asking {
    client: Grpc<Channel>,
    path: PathAndQuery,
    files: HashMap<String, FileDescriptorProto>,
}

impl Asking {
    fn new(channel: &Channel, path: &'static str) -> Self {
        Self { client: Grpc::new(channel.clone()), path: PathAndQuery::from_static(path), files: HashMap::new() }
    }

    async fn describe(mut self, service: &str) -> Result<Option<ServiceDescriptor>, Status> {
        // Some servers know a service without a package by the name that it has in descriptors, with a dot before it.
        let [name, dotted] = [service.to_owned(), format!(".{service}")].map(MessageRequest::FileContainingSymbol);
        if !self.ask(name).await? && !self.ask(dotted).await? {
            return Ok(None);
        }
        // Servers send the files that theirs imports along, but need not.
        let mut asked = HashSet::new();
        while let Some(missing) = self.missing(&asked) {
            if self.files.len() + asked.len() > FILES_MAX {
                return Ok(None);
            }
            asked.insert(missing.clone());
            if !self.ask(MessageRequest::FileByFilename(missing.clone())).await?
                && let Some(known) = DescriptorPool::global().get_file_by_name(&missing)
            {
                self.files.insert(missing, known.file_descriptor_proto().clone());
            }
        }
        let mut pool = DescriptorPool::new();
        if let Err(error) = pool.add_file_descriptor_protos(self.files.into_values()) {
            tracing::warn!(service, %error, "what a server says of its service makes no sense");
            return Ok(None);
        }
        Ok(pool.get_service_by_name(service))
    }

    /// A file that others import, that is not there and was not asked for.
    fn missing(&self, asked: &HashSet<String>) -> Option<String> {
        let imports = self.files.values().flat_map(|file| &file.dependency);
        imports.into_iter().find(|name| !self.files.contains_key(*name) && !asked.contains(*name)).cloned()
    }

    /// Asks one question. Returns whether files came.
    async fn ask(&mut self, question: MessageRequest) -> Result<bool, Status> {
        self.client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
        let questions = Request::new(stream::iter([request]));
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
