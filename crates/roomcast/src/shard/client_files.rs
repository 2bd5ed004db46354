//! The client's own files (`socket.io.js` and its siblings) from a folder that the operator names, read once at the start. Nothing outside of
//! these names is served. Knows no session.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::Path;

use anyhow::Context;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use hub::profile::Endpoint;

use super::answers::{Body, empty, with_type};
use super::compress::Coding;

/// What is served; each may have a source map beside it.
const NAMES: [&str; 4] = ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"];

/// A file larger than this is none of the client's.
const FILE_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The files of one endpoint: eight at most, in memory.
#[derive(Debug)]
pub struct ClientFiles {
    files: HashMap<String, File>,
}

#[derive(Debug)]
struct File {
    plain: Bytes,
    gzip: Bytes,
    deflate: Bytes,
    tag: HeaderValue,
}

impl ClientFiles {
    /// The files of each endpoint that serves them.
    ///
    /// # Errors
    /// As [`ClientFiles::read`].
    pub fn of(endpoints: &[Endpoint]) -> anyhow::Result<Vec<Option<Self>>> {
        let files = endpoints.iter().map(|endpoint| match endpoint {
            Endpoint::SocketIo(endpoint) => {
                endpoint.client_files.as_ref().map(|folder| Self::read(folder.as_ref())).transpose()
            }
            Endpoint::Json(_) => Ok(None),
        });
        files.collect()
    }

    /// Reads what there is of the files.
    ///
    /// # Errors
    /// The folder holds none of them, or one cannot be read.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut files = HashMap::new();
        let names = NAMES.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.map")]);
        for name in names {
            let path = folder.join(&name);
            let metadata = match path.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("client_files: cannot read {}", path.display()));
                }
            };
            anyhow::ensure!(metadata.len() <= FILE_MAX_BYTES, "client_files: {} is too large", path.display());
            let data = std::fs::read(&path).with_context(|| format!("client_files: cannot read {}", path.display()))?;
            files.insert(name, File::new(data.into()));
        }
        anyhow::ensure!(!files.is_empty(), "client_files: {} holds none of {}", folder.display(), NAMES.join(", "));
        Ok(Self { files })
    }

    /// The answer to a request for this name, if it is one of ours.
    pub(super) fn answer(&self, name: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        let file = self.files.get(name)?;
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| {
            let known = known.as_bytes();
            known.strip_prefix(b"W/").unwrap_or(known) == file.tag.as_bytes()
        });
        if known {
            return Some(empty(StatusCode::NOT_MODIFIED));
        }
        let content_type = match name.ends_with(".map") {
            true => HeaderValue::from_static("application/json; charset=utf-8"),
            false => HeaderValue::from_static("application/javascript; charset=utf-8"),
        };
        let coding = Coding::of(headers);
        let body = match coding {
            None => &file.plain,
            Some(Coding::Gzip) => &file.gzip,
            Some(Coding::Deflate) => &file.deflate,
        };
        let mut response = with_type(StatusCode::OK, content_type, body.clone());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=0"));
        headers.insert(header::ETAG, file.tag.clone());
        headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        if let Some(coding) = coding {
            headers.insert(header::CONTENT_ENCODING, coding.header());
        }
        Some(response)
    }
}

impl File {
    fn new(plain: Bytes) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(&plain);
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).expect("digits are a header value");
        Self { gzip: Coding::Gzip.encode(&plain), deflate: Coding::Deflate.encode(&plain), plain, tag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn these_files_are_served_and_no_others() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(ClientFiles::read(folder.path()).is_err(), "a folder without them is a mistake");
        for name in ["socket.io.js", "socket.io.min.js.map", "secret.js"] {
            std::fs::write(folder.path().join(name), name).expect("a file");
        }
        let files = ClientFiles::read(folder.path()).expect("files");
        let answer = |name, headers: &HeaderMap| files.answer(name, headers);
        let none = HeaderMap::new();
        for name in ["secret.js", "socket.io.min.js", "../socket.io.js", "", "."] {
            assert!(answer(name, &none).is_none(), "{name}");
        }
        let script = answer("socket.io.js", &none).expect("served");
        assert_eq!(script.headers()[header::CONTENT_TYPE], "application/javascript; charset=utf-8");
        let map = answer("socket.io.min.js.map", &none).expect("served");
        assert_eq!(map.headers()[header::CONTENT_TYPE], "application/json; charset=utf-8");
        let tag = script.headers()[header::ETAG].to_str().expect("text").to_owned();
        for (tag, status) in [(tag.clone(), 304), (format!("W/{tag}"), 304), ("\"4.8.4\"".to_owned(), 200)] {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::try_from(tag).expect("a value"))]);
            assert_eq!(answer("socket.io.js", &headers).expect("served").status(), status);
        }
    }
}
