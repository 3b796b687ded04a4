//! What the gate answers instead: problem documents (RFC 9457).

use serde::{Deserialize, Serialize};

/// Why a request is not answered. What a document does not say is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong.
    #[serde(rename = "type", default)]
    pub code: ErrorCode,
    /// [`ErrorCode::title`].
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    #[serde(default)]
    pub status: u16,
    /// What was found, and what would be right; for people.
    #[serde(default)]
    pub detail: String,
    /// Where in the body, as a JSON pointer (RFC 6901); `None` if it is not about one place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// What can be wrong: the `type` of a problem document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorCode {
    /// The body is not a JSON object.
    #[serde(rename = "/problems/not-json")]
    NotJson,
    /// There is nothing at this path.
    #[serde(rename = "/problems/unknown-path")]
    UnknownPath,
    /// The policy has no such configuration set.
    #[serde(rename = "/problems/unknown-configuration-set")]
    UnknownConfigurationSet,
    /// Not with this method.
    #[serde(rename = "/problems/method-not-allowed")]
    MethodNotAllowed,
    /// The lease is not known, or no longer.
    #[serde(rename = "/problems/unknown-lease")]
    UnknownLease,
    /// The name of the request was used for another one.
    #[serde(rename = "/problems/request-reused")]
    RequestReused,
    /// The lease has expired.
    #[serde(rename = "/problems/expired-lease")]
    ExpiredLease,
    /// The body is too large.
    #[serde(rename = "/problems/body-too-large")]
    BodyTooLarge,
    /// The content type is not JSON.
    #[serde(rename = "/problems/unsupported-media-type")]
    UnsupportedMediaType,
    /// A value is none of the allowed ones.
    #[serde(rename = "/problems/invalid-value")]
    InvalidValue,
    /// A field that this request does not have.
    #[serde(rename = "/problems/unknown-field")]
    UnknownField,
    /// A field that this request must have.
    #[serde(rename = "/problems/missing-field")]
    MissingField,
    /// The tables cannot be read or written.
    #[serde(rename = "/problems/unreadable")]
    Unreadable,
    /// A code of a later release; or the answer is not the gate's, for example because AWS refused the call.
    #[default]
    #[serde(other, rename = "about:blank")]
    Unknown,
}

impl ErrorCode {
    /// All that this release answers.
    pub const ALL: [ErrorCode; 13] = [
        ErrorCode::NotJson,
        ErrorCode::UnknownPath,
        ErrorCode::UnknownConfigurationSet,
        ErrorCode::MethodNotAllowed,
        ErrorCode::UnknownLease,
        ErrorCode::RequestReused,
        ErrorCode::ExpiredLease,
        ErrorCode::BodyTooLarge,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::InvalidValue,
        ErrorCode::UnknownField,
        ErrorCode::MissingField,
        ErrorCode::Unreadable,
    ];

    /// The HTTP status that it is answered with.
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::NotJson => 400,
            ErrorCode::UnknownPath | ErrorCode::UnknownConfigurationSet => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::UnknownLease | ErrorCode::RequestReused => 409,
            ErrorCode::ExpiredLease => 410,
            ErrorCode::BodyTooLarge => 413,
            ErrorCode::UnsupportedMediaType => 415,
            ErrorCode::InvalidValue | ErrorCode::UnknownField | ErrorCode::MissingField => 422,
            ErrorCode::Unknown => 500,
            ErrorCode::Unreadable => 503,
        }
    }

    /// The `title` of the problem document, the same for all problems of this code.
    pub fn title(self) -> &'static str {
        match self {
            ErrorCode::NotJson => "The body is not JSON",
            ErrorCode::UnknownPath => "There is nothing at this path",
            ErrorCode::UnknownConfigurationSet => "The policy has no such configuration set",
            ErrorCode::MethodNotAllowed => "This path takes another method",
            ErrorCode::UnknownLease => "The lease is not known, or was given back before",
            ErrorCode::RequestReused => "The name of the request was used for another one",
            ErrorCode::ExpiredLease => "The lease has expired",
            ErrorCode::BodyTooLarge => "The body is too large",
            ErrorCode::UnsupportedMediaType => "The body is not said to be JSON",
            ErrorCode::InvalidValue => "A value is none of the allowed ones",
            ErrorCode::UnknownField => "A field is not known",
            ErrorCode::MissingField => "A field is missing",
            ErrorCode::Unreadable => "The tables cannot be read or written",
            ErrorCode::Unknown => "Unknown",
        }
    }
}
