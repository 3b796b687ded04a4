//! What the SMTP front hands over, and what it is answered.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

/// A message that a client has submitted over SMTP.
pub struct Message {
    /// The address in MAIL FROM; empty for the null sender.
    pub from: String,
    /// The addresses in RCPT TO, in their order, at least one, without repetitions.
    pub recipients: Vec<String>,
    /// Header and body, with CRLF line ends, dots unstuffed.
    pub content: Bytes,
}

/// Never shows an address or a line of the mail.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message to {} recipients, {} bytes", self.recipients.len(), self.content.len())
    }
}

/// The answer to a whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The reply code of RFC 5321: 250, 451, 550 …
    pub code: u16,
    /// The enhanced status code of RFC 3463, like `4.7.1`.
    pub status: &'static str,
    /// One line for people, without an address.
    pub text: String,
}

/// Takes messages from the SMTP front. A port: the relay implements it, and tests do.
pub trait Accept: Send + Sync + 'static {
    /// Hands over a message, and answers when it is sent, or when it is clear that it is not.
    fn accept(&self, message: Message) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>>;
}
