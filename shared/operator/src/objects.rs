//! Event objects in S3, as Firehose writes them: listed in the order of their keys, fetched a few at a time, and replayed as
//! `replay` reads files.
//!
//! **Invariant:** at most six objects are in memory, as stored: four being fetched or fetched (`AHEAD`), one that waits and one
//! that is being read. Each has at most `LARGEST` bytes.
//! **Invariant:** a damaged object is listed and ends nothing; an object without permission to read ends everything, because
//! silently skipped mail would count as never sent.

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

/// The number of objects that are fetched ahead.
const AHEAD: usize = 4;
/// Larger objects are skipped: Firehose writes at most 128 MiB before compression.
const LARGEST: u64 = 256 << 20;
/// Attempts to fetch a body that breaks off.
const ATTEMPTS: u32 = 3;

/// The objects of one bucket with a common key prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// The prefix of the keys; empty = all.
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
        let wrong = || format!("`{text}` is not a place in S3; write it as s3://bucket/prefix");
        let place = text.strip_prefix("s3://").ok_or_else(wrong)?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if bucket.len() < 3 || bucket.len() > 63 || !bucket.chars().all(allowed) {
            return Err(wrong());
        }
        Ok(Location { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// An object as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    key: String,
    bytes: u64,
}

/// Objects to read.
#[derive(Debug)]
pub(crate) struct Objects {
    client: Client,
    location: Location,
    region: String,
    objects: Vec<Object>,
    /// Objects that were skipped, and why.
    left_out: Vec<Damage>,
}

impl Objects {
    /// Lists the objects, in the Region of the bucket, which need not be that of the stack.
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

    /// Reads the list. If the bucket is in another Region, returns that Region, and nothing was read.
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
                    // A folder marker, as consoles create it.
                } else if archived {
                    let what = "it is archived: restore it first (aws s3api restore-object)";
                    self.left_out.push(leave_out(what.to_owned()));
                } else if bytes > LARGEST {
                    let most = LARGEST >> 20;
                    let what = format!("{bytes} bytes exceed the limit of {most} MiB: download it and use `replay`");
                    self.left_out.push(leave_out(what));
                } else {
                    self.objects.push(Object { key: key.to_owned(), bytes });
                }
            }
        }
        Ok(None)
    }

    /// The number of objects to read.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    fn name(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.location.bucket)
    }

    /// Runs `read` on another thread with the objects in the order of their keys, while they are fetched here. Returns its
    /// answer and the damaged objects.
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
            // The reader has enough or has failed; what is still being fetched is dropped.
            answer = &mut reading => (Ok(()), answer),
        };
        let answer = answer.map_err(|error| Failure::Output(error.to_string()));
        // The refusal by S3 says more than the reader's "no more objects".
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
                // As tasks, so that they continue while the next object is handed over.
                let fetch = fetch(self.client.clone(), self.location.bucket.clone(), object.key.clone());
                under_way.push_back(tokio::spawn(fetch));
            }
            let Some(next) = under_way.pop_front() else { return Ok(()) };
            let fetched = next.await.map_err(|error| Failure::Output(error.to_string()))?;
            let bytes = fetched.map_err(|refusal| self.refused_by(refusal))?;
            if sender.send(bytes).await.is_err() {
                // The reader has enough; its answer says why.
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

/// A refusal by S3.
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
    // Emulators of AWS rarely resolve a host name for each bucket.
    Client::from_conf(config.force_path_style(shared.endpoint_url().is_some()).build())
}

fn is_archived(class: &ObjectStorageClass) -> bool {
    *class == ObjectStorageClass::Glacier || *class == ObjectStorageClass::DeepArchive
}

/// The Region that S3 names for a bucket that is in another one.
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
