//! Mail that may not go now is stored, and its caller is answered as SES answers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::key::{Line, MailKey};
use super::object::HeldMail;
use super::store::{Store, StoreError};
use super::{Clock, Ids};
use crate::metrics::Metrics;

/// What ids of held mail begin with where callers see them.
const PREFIX: &str = "held-";

/// How long the store may take for a mail.
pub(crate) const STORING: Duration = Duration::from_secs(60);

/// Stores mail that may not go now.
#[derive(Clone)]
pub(crate) struct Holding {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) metrics: Arc<Metrics>,
}

impl Holding {
    /// Stores a mail in the line of an ISP. Returns the message id for the caller; `None` if it is not certain that the store
    /// has it. The caller must then keep it.
    pub(crate) fn hold<'a>(&'a self, held: &'a HeldMail, isp: Option<&'a str>) -> BoxFuture<'a, Option<String>> {
        Box::pin(async move {
            let class = held.mail.class;
            let Some(id) = (self.ids)() else {
                tracing::error!("the system has no random numbers: mail is not held");
                return None;
            };
            let line = Line::new(class, isp, &held.mail.sender);
            let key = MailKey { line, accepted: (self.clock)(), id };
            match self.store.put(&key.held(), held.encode()).await {
                Ok(()) => {
                    self.metrics.held(class, &key.line.isp);
                    let (set, isp) = (held.mail.sender.set.as_str(), &*key.line.isp);
                    tracing::info!(id = key.id, class = class.name(), set, isp, "held");
                    Some(format!("{PREFIX}{}", key.id))
                }
                Err(error) => {
                    self.metrics.store_error(error.operation());
                    tracing::error!(%error, class = class.name(), "a mail is not held: its caller is asked to try again");
                    if let StoreError::Unclear { .. } = error {
                        self.withdraw(&key).await;
                    }
                    None
                }
            }
        })
    }

    /// Deletes what may be there. The caller is asked to try again, so that its mail may go twice if this comes too late, or
    /// before what it is to delete.
    async fn withdraw(&self, key: &MailKey) {
        self.metrics.doubtful();
        match self.store.delete(&key.held()).await {
            Ok(()) => tracing::warn!(id = key.id, "a mail that may have been stored was deleted"),
            Err(error) => {
                self.metrics.store_error(error.operation());
                tracing::error!(id = key.id, %error, "a mail that may have been stored was not deleted: it may go twice");
            }
        }
    }
}
