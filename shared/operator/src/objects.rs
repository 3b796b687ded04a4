//! Event objects in S3, as Firehose leaves them: listed in the order of their keys, fetched a few at a time, and
//! replayed as `replay` reads files.
//!
//! **Invariant:** at most six objects are in memory, as they are stored: four on their way or there (`AHEAD`), one that
//! waits and one that is being read. Each has at most `LARGEST` bytes.
//! **Invariant:** a damaged object is named and ends nothing; an object that may not be read ends everything, because
//! what is left out silently would be taken for mail that was never sent.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::str::FromStr;

use aws::clients::port_error;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::types::ObjectStorageClass;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use pipeline::ports::{Disposition, PortError};
use replay::input::{Damage, Source, Supply};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Access;
use crate::failure::{BucketRefusal, Failure};

/// So many objects are fetched before they are read.
const AHEAD: usize = 4;
/// Larger objects are left out: Firehose writes at most 128 MiB before compression.
const LARGEST: u64 = 256 << 20;
/// A body that breaks off is fetched so often in all.
const ATTEMPTS: u32 = 3;

/// Objects of one bucket whose keys begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// What the keys begin with; empty = all.
    pub prefix: String,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

impl FromStr for Location {
    type Err = String;

    fn from_str(text: &str) -> Result<Location, String> {
        let wrong = || format!("`{text}` is no place in S3; write it as s3://bucket/prefix");
        let place = text.strip_prefix("s3://").ok_or_else(wrong)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if bucket.len() < 3 || bucket.len() > 63 || !bucket.chars().all(allowed) {
            return Err(wrong());
        }
        Ok(Location { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// An object as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    key: String,
    bytes: u64,
}

/// Objects that are there to be read.
#[derive(Debug)]
pub(crate) struct Objects {
    client: Client,
    location: Location,
    region: String,
    objects: Vec<Object>,
    /// What is left out, and why.
    left_out: Vec<Damage>,
}

impl Objects {
    /// Lists what is there, in the Region of the bucket, whichever that is.
    pub(crate) async fn list(access: &Access, location: &Location) -> Result<Objects, Failure> {
        let mut objects = Objects {
            client: client(access, &access.region),
            location: location.clone(),
            region: access.region.clone(),
            objects: Vec::new(),
            left_out: Vec::new(),
        };
        if let Some(region) = objects.read_list().await? {
            objects.client = client(access, &region);
            objects.region = region;
            if let Some(region) = objects.read_list().await? {
                let reason = format!("S3 leads from {} to {region} and back", objects.region);
                return Err(objects.refused("s3:ListBucket", "PermanentRedirect", &reason));
            }
        }
        if objects.objects.is_empty() && objects.left_out.is_empty() {
            return Err(Failure::NoObjects { location: location.to_string() });
        }
        Ok(objects)
    }

    /// Reads the list; returns the Region of the bucket if it is another one, and nothing was read.
    async fn read_list(&mut self) -> Result<Option<String>, Failure> {
        let list = self.client.list_objects_v2().bucket(&self.location.bucket).prefix(&self.location.prefix);
        let mut pages = list.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) => match region_of(&error).filter(|region| *region != self.region) {
                    Some(region) => return Ok(Some(region)),
                    None => return Err(self.failed("s3:ListBucket", "listing objects", &error)),
                },
            };
            for object in page.contents() {
                let (Some(key), bytes) = (object.key(), object.size().unwrap_or(0)) else { continue };
                let bytes = u64::try_from(bytes).unwrap_or(0);
                let archived = object.storage_class().is_some_and(is_archived);
                let leave_out = |what: String| Damage { source: self.name(key), what };
                if key.ends_with('/') && bytes == 0 {
                    // A folder, as consoles draw it.
                } else if archived {
                    let what = "it is archived: restore it first (aws s3api restore-object)";
                    self.left_out.push(leave_out(what.to_owned()));
                } else if bytes > LARGEST {
                    let most = LARGEST >> 20;
                    let what = format!("{bytes} bytes; at most {most} MiB are held: download it for `replay`");
                    self.left_out.push(leave_out(what));
                } else {
                    self.objects.push(Object { key: key.to_owned(), bytes });
                }
            }
        }
        Ok(None)
    }

    /// How many are to be read.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    fn name(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.location.bucket)
    }

    /// Has them read by `read` on another thread, in the order of their keys, while they are fetched here. With its
    /// answer comes what was wrong with objects.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(Vec<Source>) -> T + Send + 'static,
    ) -> Result<(T, Vec<Damage>), Failure> {
        let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(1);
        let supply =
            Supply::new(move || receiver.blocking_recv().ok_or_else(|| io::Error::other("S3 gave no more objects")));
        let sources: Vec<Source> =
            self.objects.iter().map(|object| supply.source(&self.name(&object.key), object.bytes)).collect();
        let mut reading = tokio::task::spawn_blocking(move || read(sources));
        let (fetched, answer) = tokio::select! {
            biased;
            fetched = self.fetch_into(sender) => (fetched, (&mut reading).await),
            // Whoever reads has enough, or is gone: nobody takes what else is fetched.
            answer = &mut reading => (Ok(()), answer),
        };
        let answer = answer.map_err(|error| Failure::Output(error.to_string()));
        // What S3 refused says more than that there was nothing more to read.
        fetched?;
        let mut damages = self.left_out;
        damages.extend(supply.damages());
        Ok((answer?, damages))
    }

    async fn fetch_into(&self, sender: mpsc::Sender<Vec<u8>>) -> Result<(), Failure> {
        let mut waiting = self.objects.iter();
        let mut under_way: VecDeque<JoinHandle<Result<Vec<u8>, Refusal>>> = VecDeque::new();
        loop {
            while under_way.len() < AHEAD
                && let Some(object) = waiting.next()
            {
                // As tasks, so that they go on while the one that is read next is handed over.
                let fetch = fetch(self.client.clone(), self.location.bucket.clone(), object.key.clone());
                under_way.push_back(tokio::spawn(fetch));
            }
            let Some(next) = under_way.pop_front() else { return Ok(()) };
            let fetched = next.await.map_err(|error| Failure::Output(error.to_string()))?;
            let bytes = fetched.map_err(|refusal| self.refused_by(refusal))?;
            if sender.send(bytes).await.is_err() {
                // Whoever reads has enough: its answer says why.
                return Ok(());
            }
        }
    }

    fn failed<E>(&self, action: &'static str, doing: &'static str, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.refused_by(Refusal::of(action, doing, error))
    }

    fn refused(&self, action: &'static str, code: &str, reason: &str) -> Failure {
        let error =
            PortError { operation: "reading S3", reason: reason.to_owned(), disposition: Disposition::Quarantine };
        self.refused_by(Refusal { action, code: code.to_owned(), error })
    }

    fn refused_by(&self, Refusal { action, code, error }: Refusal) -> Failure {
        let (bucket, region) = (self.location.bucket.clone(), self.region.clone());
        Failure::Bucket(Box::new(BucketRefusal { error, code, action, bucket, region }))
    }
}

/// What S3 refused.
#[derive(Debug)]
struct Refusal {
    action: &'static str,
    code: String,
    error: PortError,
}

impl Refusal {
    fn of<E>(action: &'static str, doing: &'static str, error: &SdkError<E, HttpResponse>) -> Refusal
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        Refusal { action, code: error.code().unwrap_or_default().to_owned(), error: port_error(doing, error) }
    }
}

async fn fetch(client: Client, bucket: String, key: String) -> Result<Vec<u8>, Refusal> {
    let mut attempt = 1;
    loop {
        let answer = client.get_object().bucket(&bucket).key(&key).send().await;
        let body = answer.map_err(|error| Refusal::of("s3:GetObject", "fetching an object", &error))?.body;
        match body.collect().await {
            Ok(bytes) => return Ok(bytes.to_vec()),
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => {
                let reason = format!("the body of s3://{bucket}/{key} broke off {ATTEMPTS} times: {error}");
                let error = PortError { operation: "fetching an object", reason, disposition: Disposition::Retry };
                return Err(Refusal { action: "s3:GetObject", code: String::new(), error });
            }
        }
    }
}

fn client(access: &Access, region: &str) -> Client {
    let shared = access.clients.config();
    let config = aws_sdk_s3::config::Builder::from(shared).region(Region::new(region.to_owned()));
    // Whoever stands in for AWS rarely has a name for each bucket.
    Client::from_conf(config.force_path_style(shared.endpoint_url().is_some()).build())
}

fn is_archived(class: &ObjectStorageClass) -> bool {
    *class == ObjectStorageClass::Glacier || *class == ObjectStorageClass::DeepArchive
}

/// The Region that S3 names where a bucket is somewhere else.
fn region_of<E>(error: &SdkError<E, HttpResponse>) -> Option<String> {
    error.raw_response()?.headers().get("x-amz-bucket-region").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_s3_is_read_as_it_is_written() {
        for text in ["s3://mail-events/", "s3://mail-events/2026/10/", "s3://b.c/a//b"] {
            assert_eq!(text.parse::<Location>().map(|place| place.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("s3://bucket".parse::<Location>().unwrap().to_string(), "s3://bucket/");
        for text in ["", "bucket/prefix", "s3://", "s3://B/x", "s3:///x", "https://bucket.s3.amazonaws.com/x"] {
            assert!(text.parse::<Location>().unwrap_err().contains("s3://bucket/prefix"), "{text}");
        }
    }
}
