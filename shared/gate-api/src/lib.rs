//! The wire format of the gate: what is sent to it over HTTP, and what it answers. The gate and its clients both use
//! these types.
//!
//! **Invariant:** [`OPENAPI`] describes these types: `tests/openapi.rs` compares each path, property and value.
//! **Invariant:** what a program has to decide by is a code ([`ErrorCode`], [`Limit`]); texts are for people.
//! **Invariant:** a client of this release reads the answers of later ones: unknown properties are ignored, and
//! unknown codes are read as `Unknown`. A request with an unknown property is wrong: its sender expects something that
//! does not happen.
//!
//! Where to start: [`PermitsRequest`] and [`Permits`].

mod answer;
mod problem;
mod request;

pub use answer::{Health, HealthStatus, Limit, Permit, Permits, Quota, Quotas, Returned, SetQuotas, Slot};
pub use problem::{ErrorCode, Problem};
pub use request::{Class, PermitsRequest, ReturnRequest};

/// `POST`: may these mails go? [`PermitsRequest`], answered with [`Permits`].
pub const PERMITS_PATH: &str = "/v1/permits";
/// `POST`: these mails of a lease were not sent. [`ReturnRequest`], answered with [`Returned`].
pub const RETURN_PATH: &str = "/v1/leases/return";
/// `GET`: how do the quotas stand? Answered with [`Quotas`].
pub const QUOTAS_PATH: &str = "/v1/quotas";
/// `GET`: is the gate well? Answered with [`Health`].
pub const HEALTH_PATH: &str = "/v1/health";
/// `GET`: [`OPENAPI`].
pub const OPENAPI_PATH: &str = "/v1/openapi.json";

/// What can be asked for: method and path. `HEAD` is answered as `GET`, without the body; `OPTIONS` with [`ALLOW`].
pub const ROUTES: [(&str, &str); 5] =
    [("POST", PERMITS_PATH), ("POST", RETURN_PATH), ("GET", QUOTAS_PATH), ("GET", HEALTH_PATH), ("GET", OPENAPI_PATH)];

/// Parameter of [`QUOTAS_PATH`]: only of this configuration set.
pub const CONFIGURATION_SET: &str = "configurationSet";

/// The document that describes all of it (OpenAPI 3.1).
pub const OPENAPI: &str = include_str!("openapi.json");

/// Media type of requests, and of answers with status 200.
pub const JSON: &str = "application/json";
/// Media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Header of an answer with status 405, and to `OPTIONS`: the methods that the path takes.
pub const ALLOW: &str = "allow";
/// Header of an answer with status 503: after how many seconds to try again.
pub const RETRY_AFTER: &str = "retry-after";

/// The largest body that the gate reads, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Most domains of one request.
pub const MAX_DOMAINS: usize = 1_000;
/// Most mails to one domain in one request.
pub const MAX_MAILS: u64 = 1_000_000;
/// Most characters of a request's name.
pub const MAX_NAME: usize = 128;
/// Most characters of a lease.
pub const MAX_LEASE: usize = 256;
/// Most characters of a configuration set's name (SES API v2, "CreateConfigurationSet").
pub const MAX_SET: usize = 64;
