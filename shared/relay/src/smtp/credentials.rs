//! Who may submit mail: names, and SHA-256 digests of secrets.
//!
//! A secret is made by a machine and has at least [`MIN_SECRET_BYTES`] bytes. A plain digest keeps such a secret: there
//! are too many to try. A slow hash, such as Argon2, protects secrets that people choose, and would let anyone who can
//! connect spend the relay's processor time and memory; so short secrets are refused instead, also where only the digest
//! is known: a password below that length is wrong before it is compared.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The shortest secret in bytes: 96 bits as Base64, 64 bits as hexadecimal digits.
pub const MIN_SECRET_BYTES: usize = 16;
/// The longest user name in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// A user of the listener.
#[derive(Clone)]
pub struct User {
    name: String,
    name_digest: [u8; SHA256_OUTPUT_LEN],
    secret_digest: [u8; SHA256_OUTPUT_LEN],
}

/// Why a user is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The name is empty, too long, or has control characters.
    #[error("a user name has 1 to {MAX_NAME_BYTES} bytes and no control characters")]
    Name,
    /// The secret is short enough to be guessed.
    #[error("the secret of user `{name}` has fewer than {MIN_SECRET_BYTES} bytes")]
    ShortSecret {
        /// Whose secret.
        name: String,
    },
    /// Not the digest of a secret.
    #[error("the SHA-256 digest of user `{name}` is not 64 hexadecimal digits")]
    Digest {
        /// Whose digest.
        name: String,
    },
}

impl User {
    /// A user by the secret itself.
    ///
    /// # Errors
    /// [`UserError`] for a name that is not valid or a secret that is too short.
    pub fn with_secret(name: &str, secret: &str) -> Result<Self, UserError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(UserError::ShortSecret { name: name.to_owned() });
        }
        Self::new(name, sha256(secret.as_bytes()))
    }

    /// A user by the SHA-256 digest of the secret, in hexadecimal digits, as `printf %s SECRET | sha256sum` prints it.
    ///
    /// # Errors
    /// [`UserError`] for a name or a digest that is not valid.
    pub fn with_sha256(name: &str, digest: &str) -> Result<Self, UserError> {
        let wrong = || UserError::Digest { name: name.to_owned() };
        if digest.len() != 2 * SHA256_OUTPUT_LEN || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&digest[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Self::new(name, bytes)
    }

    fn new(name: &str, secret_digest: [u8; SHA256_OUTPUT_LEN]) -> Result<Self, UserError> {
        if !(1..=MAX_NAME_BYTES).contains(&name.len()) || name.chars().any(char::is_control) {
            return Err(UserError::Name);
        }
        Ok(Self { name: name.to_owned(), name_digest: sha256(name.as_bytes()), secret_digest })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Never shows the digest.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

fn sha256(bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut out = [0; SHA256_OUTPUT_LEN];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Whether one of the users has this name and this secret. Takes as long whichever user it is, and if it is none.
pub(crate) fn verify(users: &[User], name: &[u8], secret: &[u8]) -> bool {
    let (name, digest) = (sha256(name), sha256(secret));
    let mut found = false;
    for user in users {
        let same_name = verify_slices_are_equal(&name, &user.name_digest).is_ok();
        let same_secret = verify_slices_are_equal(&digest, &user.secret_digest).is_ok();
        found |= same_name & same_secret;
    }
    found & (secret.len() >= MIN_SECRET_BYTES)
}

/// Base64 as RFC 4954 has it; some clients leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes a response of AUTH.
pub(crate) fn decode(response: &str) -> Option<Vec<u8>> {
    BASE64.decode(response).ok()
}

/// The name and the secret in a response of PLAIN (RFC 4616). A user cannot act for another.
pub(crate) fn parse_plain(response: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = response.split(|byte| *byte == 0);
    let (actor, name, secret) = (parts.next()?, parts.next()?, parts.next()?);
    let allowed = parts.next().is_none() && !name.is_empty() && (actor.is_empty() || actor == name);
    allowed.then_some((name, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    #[test]
    fn a_user_needs_the_own_secret() {
        let users = [
            User::with_secret("ann", SECRET).unwrap(),
            User::with_secret("bob", "fedcba9876543210").unwrap(),
            // printf %s 0123456789abcdef | sha256sum
            User::with_sha256("cid", "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f").unwrap(),
        ];
        for (name, secret, expected) in [
            ("ann", SECRET, true),
            ("cid", SECRET, true),
            ("bob", SECRET, false),
            ("bob", "fedcba9876543210", true),
            ("ann", "0123456789abcdeg", false),
            ("Ann", SECRET, false),
            ("", SECRET, false),
            ("ann", "", false),
        ] {
            assert_eq!(verify(&users, name.as_bytes(), secret.as_bytes()), expected, "{name} {secret}");
        }
    }

    #[test]
    fn a_short_secret_is_wrong_even_where_only_its_digest_is_known() {
        assert_eq!(
            User::with_secret("ann", "hunter2").unwrap_err().to_string(),
            "the secret of user `ann` has fewer than 16 bytes"
        );
        // printf %s hunter2 | sha256sum
        let user =
            User::with_sha256("ann", "f52fbd32b2b3b86ff88ef6c490628285f482af15ddcb29541f94bcf526a3f6c7").unwrap();
        assert!(!verify(&[user], b"ann", b"hunter2"));
    }

    #[test]
    fn names_and_digests_are_checked_and_not_shown() {
        assert_eq!(User::with_secret("", SECRET).unwrap_err(), UserError::Name);
        assert_eq!(User::with_secret("a\nb", SECRET).unwrap_err(), UserError::Name);
        for digest in ["", "zz", &"0".repeat(63), &"é".repeat(32), &format!("+{}", "0".repeat(63))] {
            assert_eq!(User::with_sha256("ann", digest).unwrap_err(), UserError::Digest { name: "ann".to_owned() });
        }
        assert_eq!(format!("{:?}", User::with_secret("ann", SECRET).unwrap()), r#"User { name: "ann", .. }"#);
    }

    #[test]
    fn plain_is_read_as_rfc_4616_has_it() {
        for (response, expected) in [
            ("\0ann\0secret", Some(("ann", "secret"))),
            ("ann\0ann\0secret", Some(("ann", "secret"))),
            ("bob\0ann\0secret", None),
            ("\0\0secret", None),
            ("\0ann", None),
            ("ann", None),
            ("", None),
            ("\0ann\0sec\0ret", None),
        ] {
            let expected = expected.map(|(name, secret): (&str, &str)| (name.as_bytes(), secret.as_bytes()));
            assert_eq!(parse_plain(response.as_bytes()), expected, "{response:?}");
        }
    }
}
