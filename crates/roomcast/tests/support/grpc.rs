//! A gRPC server for tests: a service by the text of its `.proto` file, whose messages are JSON to the handler. It is tonic's, with or without
//! reflection.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, BufMut as _};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

type Answering = Pin<Box<dyn Future<Output = Result<Value, Status>> + Send>>;
type Handler = Arc<dyn Fn(String, Value) -> Answering + Send + Sync>;

/// How the server describes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reflection {
    None,
    V1,
    V1Alpha,
    /// It is asked, and never answers.
    Silent,
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    address: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// On a free port of this machine.
    pub(crate) async fn start<F, A>(proto: &str, reflection: Reflection, handler: F) -> Self
    where
        F: Fn(String, Value) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Value, Status>> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0", proto, reflection, handler).await
    }

    /// On this one.
    pub(crate) async fn start_at<F, A>(address: &str, proto: &str, reflection: Reflection, handler: F) -> Self
    where
        F: Fn(String, Value) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Value, Status>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (pool, described) = compiled(proto);
        // What describes a server must be there as long as the process.
        let described: &'static [u8] = described.leak();
        let handler: Handler = Arc::new(move |method, message| Box::pin(handler(method, message)));
        let mut router = tonic::transport::Server::builder().add_service(Service { pool, handler });
        let builder = || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(described);
        match reflection {
            Reflection::None => {}
            Reflection::V1 => router = router.add_service(builder().build_v1().expect("a description")),
            Reflection::Silent => router = router.add_service(Silent),
            Reflection::V1Alpha => router = router.add_service(builder().build_v1alpha().expect("a description")),
        }
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = router.serve_with_incoming_shutdown(TcpIncoming::from(listener), async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move { serving.await.expect("it serves") });
        Self { address, stop: Some(stop), task }
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }

    /// Ends it, and waits until its port is free.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.task).await.expect("it ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn compiled(proto: &str) -> (DescriptorPool, Vec<u8>) {
    struct One(String);
    impl FileResolver for One {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            if name == "test.proto" {
                File::from_source(name, &self.0)
            } else {
                Err(protox::Error::file_not_found(name))
            }
        }
    }
    let mut resolver = ChainFileResolver::new();
    resolver.add(One(proto.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file("test.proto").expect("a proto file");
    (compiler.descriptor_pool(), compiler.encode_file_descriptor_set())
}

#[derive(Clone)]
struct Service {
    pool: DescriptorPool,
    handler: Handler,
}

impl NamedService for Service {
    const NAME: &'static str = "LocationService";
}

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let service = self.pool.get_service_by_name(Self::NAME).expect("the service of the file");
        let method = service.methods().find(|method| method.name() == name).expect("a method of the file");
        let handle = Handle { name, output: method.output(), handler: self.handler.clone() };
        Box::pin(async move { Ok(Grpc::new(Dynamic(method.input())).unary(handle, request).await) })
    }
}

#[derive(Clone)]
struct Silent;

impl NamedService for Silent {
    const NAME: &'static str = "grpc.reflection.v1.ServerReflection";
}

impl tower::Service<http::Request<Body>> for Silent {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Pending<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        std::future::pending()
    }
}

struct Handle {
    name: String,
    output: MessageDescriptor,
    handler: Handler,
}

impl UnaryService<DynamicMessage> for Handle {
    type Response = DynamicMessage;
    type Future = Pin<Box<dyn Future<Output = Result<Response<DynamicMessage>, Status>> + Send>>;

    fn call(&mut self, request: Request<DynamicMessage>) -> Self::Future {
        let options = SerializeOptions::new().skip_default_fields(false);
        let json = request.get_ref().serialize_with_options(serde_json::value::Serializer, &options).expect("JSON");
        let (answering, output) = ((self.handler)(self.name.clone(), json), self.output.clone());
        Box::pin(async move {
            let reply = answering.await?;
            Ok(Response::new(DynamicMessage::deserialize(output, reply).expect("a reply of the file's form")))
        })
    }
}

/// Messages by their descriptors; this is that of the requests.
#[derive(Clone)]
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message.encode_to_vec().as_slice());
        Ok(())
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        Ok(Some(DynamicMessage::decode(self.0.clone(), bytes).expect("a message of the file's form")))
    }
}
