//! The one table of what a client may be told: error codes and WebSocket close codes. Never renumbered, never reworded in meaning.
//! The reference page is generated from it.

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// An error code, as it stands in `{error, code}` and in `error` events.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ErrorCode {
            /// Every code, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code as clients read it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// What it means, for the reference page.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n"),+)),+ }
            }

            /// The code that clients read as this word.
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.as_str() == word)
            }
        }
    };
}

error_codes! {
    /// The message is not JSON, or not of the envelope's form.
    BadMessage = "bad_message",
    /// No command of this name.
    UnknownCommand = "unknown_command",
    /// A field is missing or ill-typed; the message names it.
    BadField = "bad_field",
    /// The message is over the size limit.
    TooLarge = "too_large",
    /// Too many messages in the last minute.
    RateLimited = "rate_limited",
    /// Too many commands wait, or the gateway is overloaded; try again.
    Busy = "busy",
    /// No token where one is needed.
    Unauthenticated = "unauthenticated",
    /// The token is expired, not yet valid, unsigned, foreign or names no user.
    BadToken = "bad_token",
    /// A rule says no.
    Forbidden = "forbidden",
    /// The socket is not a member of the room.
    NotAMember = "not_a_member",
    /// The connection is in as many rooms as it may be.
    TooManyRooms = "too_many_rooms",
    /// Something behind the gateway does not answer; try again.
    TryAgain = "try_again",
    /// The outcome is not known: it may have happened. Repeat with the same id.
    Unknown = "unknown",
    /// A service behind the gateway refused; the message is the service's own.
    Refused = "refused",
    /// A service behind the gateway is down or its answer makes no sense; try again.
    Unavailable = "unavailable",
    /// A service behind the gateway did not answer in time: it may have done what was asked all the same.
    TimedOut = "timed_out",
    /// A newer connection of the same user took the place.
    Replaced = "replaced",
    /// Something went wrong inside the gateway.
    Internal = "internal",
}

impl ErrorCode {
    /// Whether the client itself is to blame: what it does again and again is abuse then. What others owe it never is, and messages that are
    /// too many have a bound of their own.
    pub const fn is_clients_fault(self) -> bool {
        match self {
            Self::BadMessage
            | Self::UnknownCommand
            | Self::BadField
            | Self::TooLarge
            | Self::Unauthenticated
            | Self::BadToken
            | Self::Forbidden
            | Self::NotAMember
            | Self::TooManyRooms => true,
            Self::RateLimited
            | Self::Busy
            | Self::TryAgain
            | Self::Unknown
            | Self::Refused
            | Self::Unavailable
            | Self::TimedOut
            | Self::Replaced
            | Self::Internal => false,
        }
    }
}

macro_rules! close_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal $reason:literal $back:literal,)+) => {
        /// Why the gateway closes a WebSocket connection.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseCode { $($(#[doc = $doc])+ $variant,)+ }

        impl CloseCode {
            /// Every code, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number on the wire (RFC 6455, section 7.4).
            pub const fn number(self) -> u16 {
                match self { $(Self::$variant => $code),+ }
            }

            /// The reason on the wire.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$variant => $reason),+ }
            }

            /// Whether a client should come back by itself.
            pub const fn come_back(self) -> bool {
                match self { $(Self::$variant => $back),+ }
            }

            /// What it means, for the reference page.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n"),+)),+ }
            }
        }
    };
}

close_codes! {
    /// The client closed, or a plain one was ended by `/api/disconnect`.
    Normal = 1000 "" false,
    /// This node drains; another one takes over.
    GoingAway = 1001 "going away" true,
    /// The client broke the WebSocket protocol.
    ProtocolError = 1002 "protocol error" false,
    /// A text message was not UTF-8.
    NotUtf8 = 1007 "not UTF-8" false,
    /// The client went on after ten times its limit.
    PolicyViolation = 1008 "policy violation" false,
    /// A message was over the size limit.
    TooBig = 1009 "" false,
    /// Something behind the gateway does not answer; come back in a while.
    TryAgainLater = 1013 "try again later" true,
    /// The client read too slowly: its send queue was full.
    SlowConsumer = 4008 "slow consumer" true,
    /// The token is missing, not valid or expired.
    Unauthorized = 4401 "unauthorized" false,
    /// Nothing came from the client for too long.
    Silent = 4408 "silent" true,
    /// A newer connection of the same user took the place.
    Replaced = 4409 "replaced" false,
    /// A message was begun and not finished in time.
    TooLong = 4410 "message took too long" true,
}

/// Whether a server may close a WebSocket with this number (RFC 6455, section 7.4, and the registry that it founds).
pub const fn may_close_with(number: u16) -> bool {
    matches!(number, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_stand_for_no_close_frame_are_not_sent() {
        assert!(CloseCode::ALL.iter().all(|code| may_close_with(code.number())));
        // 1004 is reserved; 1005, 1006 and 1015 tell a program of a close without a code; what lies beyond is for other protocols.
        assert!([0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000].into_iter().all(|number| !may_close_with(number)));
    }

    #[test]
    fn codes_are_unique() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert!(ErrorCode::ALL[index + 1..].iter().all(|other| other.as_str() != code.as_str()));
        }
        for (index, code) in CloseCode::ALL.iter().enumerate() {
            assert!(CloseCode::ALL[index + 1..].iter().all(|other| other.number() != code.number()));
        }
    }
}
