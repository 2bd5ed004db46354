//! Compressed answers to polls and of the client's files: which coding a request takes (RFC 9110, section 12.5.3), and the bytes in it.
//! Knows no session and no file.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{self, HeaderMap, HeaderValue};

/// A coding that we can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    const ALL: [Self; 2] = [Self::Gzip, Self::Deflate];

    /// The one that the request likes best: by its weights, then by its order, as Node has it. None that it does not name.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let accepted: Vec<(&str, u16)> = accepted.flat_map(|value| value.split(',')).filter_map(weighted).collect();
        let preference = |coding: Self| {
            let named = accepted.iter().position(|(name, _)| name.eq_ignore_ascii_case(coding.name()));
            let place = named.or_else(|| accepted.iter().position(|(name, _)| *name == "*"))?;
            // The highest weight, then what was named, then what came first.
            Some((accepted[place].1, named.is_some(), std::cmp::Reverse(place)))
        };
        let acceptable = Self::ALL.into_iter().filter_map(|coding| Some((preference(coding)?, coding)));
        // Of equals the last one is the greatest: gzip, then.
        acceptable
            .filter(|((weight, ..), _)| *weight > 0)
            .rev()
            .max_by_key(|(preference, _)| *preference)
            .map(|(_, coding)| coding)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The value of `Content-Encoding`.
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// The bytes in this coding.
    pub(super) fn encode(self, data: &[u8]) -> Bytes {
        let out = Vec::with_capacity(data.len() / 2);
        let encoded = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::default());
                encoder.write_all(data).and_then(|()| encoder.finish())
            }
            // What HTTP calls `deflate` is the zlib format.
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, Compression::default());
                encoder.write_all(data).and_then(|()| encoder.finish())
            }
        };
        encoded.expect("a vector takes all of it").into()
    }
}

/// A coding and its weight in thousandths; 1 where none stands.
fn weighted(item: &str) -> Option<(&str, u16)> {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    let weight = weight.map_or(Some(1.0), |text| text.trim().parse::<f32>().ok())?;
    Some((name, (weight.clamp(0.0, 1.0) * 1000.0) as u16))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_request_says_which_coding_it_likes() {
        let check = |accepted: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(accepted).expect("a value"));
            assert_eq!(Coding::of(&headers), expected, "{accepted}");
        };
        check("gzip, deflate, br", Some(Coding::Gzip));
        check("deflate, gzip", Some(Coding::Deflate));
        check("deflate;q=0.5, gzip", Some(Coding::Gzip));
        check("gzip;q=0.5,deflate;q=0.8", Some(Coding::Deflate));
        check("*", Some(Coding::Gzip));
        check("deflate, *", Some(Coding::Deflate));
        check("*;q=0.1, deflate;q=0.1", Some(Coding::Deflate));
        check("gzip;q=0, *", Some(Coding::Deflate));
        check("gzip;q=0", None);
        check("GZIP", Some(Coding::Gzip));
        check("identity", None);
        check("br", None);
        check("gzip;q=x", None);
        check("", None);
        assert_eq!(Coding::of(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn what_is_compressed_is_read_again(data: Vec<u8>) {
            let mut read = Vec::new();
            let gzip = Coding::Gzip.encode(&data);
            flate2::read::GzDecoder::new(gzip.as_ref()).read_to_end(&mut read).expect("gzip");
            prop_assert_eq!(&read, &data);
            read.clear();
            let deflate = Coding::Deflate.encode(&data);
            flate2::read::ZlibDecoder::new(deflate.as_ref()).read_to_end(&mut read).expect("zlib");
            prop_assert_eq!(&read, &data);
        }
    }
}
