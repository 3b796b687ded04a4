//! Objects in a bucket of S3, which reads after writes, and writes under conditions ("Add preconditions to S3 operations with
//! conditional requests", Amazon S3 User Guide).

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::store::{Condition, Listed, Store, StoreError, Version};
use crate::ports::Pending;

/// How long one try of a request may take: an object has up to 56 MiB.
const TRY: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);

/// A bucket.
#[derive(Debug)]
pub(crate) struct S3Store {
    client: Client,
    bucket: String,
    /// Before all keys; empty, or with a slash at its end.
    prefix: String,
}

impl S3Store {
    /// A bucket at an endpoint; without one, at that of the Region.
    pub(crate) fn new(config: &SdkConfig, bucket: &str, prefix: &str, endpoint: Option<&str>) -> S3Store {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(TRY).build();
        let mut builder = aws_sdk_s3::config::Builder::from(config).timeout_config(timeouts);
        if let Some(endpoint) = endpoint {
            // Stores other than S3 have no host name for each bucket.
            builder = builder.endpoint_url(endpoint).force_path_style(true);
        }
        let client = Client::from_conf(builder.build());
        S3Store { client, bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn write(
        &self,
        operation: &'static str,
        key: &str,
        bytes: Bytes,
        condition: Option<Condition>,
    ) -> Result<Option<Version>, StoreError> {
        let put = self.client.put_object().bucket(&self.bucket).key(self.key(key)).body(ByteStream::from(bytes));
        let put = put.content_type("application/octet-stream");
        // Encrypted as the bucket says: to name SSE-S3 here would set aside a key of KMS that the bucket has as its default.
        let has_condition = condition.is_some();
        let put = match condition {
            Some(Condition::Absent) => put.if_none_match("*"),
            Some(Condition::Is(Version(version))) => put.if_match(version),
            None => put,
        };
        match once(put).await {
            Ok(written) => Ok(Some(Version(written.e_tag().unwrap_or_default().to_owned()))),
            Err(error) => match error.raw_response().map(|response| response.status().as_u16()) {
                // Another writes it, or has deleted it, at the same time.
                Some(404 | 409 | 412) if has_condition && error.code() != Some("NoSuchBucket") => Ok(None),
                _ => Err(fault(operation, &error)),
            },
        }
    }
}

/// Sends a request that must not be repeated.
async fn once(
    put: PutObjectFluentBuilder,
) -> Result<
    aws_sdk_s3::operation::put_object::PutObjectOutput,
    SdkError<aws_sdk_s3::operation::put_object::PutObjectError>,
> {
    let once = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
    put.customize().config_override(once).send().await
}

/// Whether it is certain that nothing was done.
fn fault<E: ProvideErrorMetadata + std::error::Error + 'static>(
    operation: &'static str,
    error: &SdkError<E>,
) -> StoreError {
    let status = error.raw_response().map(|response| response.status().as_u16());
    match status {
        // What S3 answers before it does something: "Error responses", Amazon S3 API Reference.
        Some(400..=407 | 409..=499 | 503) => {
            StoreError::Refused { operation, code: error.code().unwrap_or("unknown").to_owned() }
        }
        Some(status) => StoreError::Unclear { operation, problem: format!("HTTP {status}") },
        None => {
            let is_not_made = matches!(error, SdkError::ConstructionFailure(_))
                || matches!(error, SdkError::DispatchFailure(failure) if failure.is_user());
            // Keys are of no use to people, and bodies must not be shown: only the kind.
            let is_late = matches!(error, SdkError::TimeoutError(_));
            if is_not_made {
                StoreError::Refused { operation, code: "the request cannot be made".to_owned() }
            } else {
                let problem = if is_late { "no answer in time" } else { "no answer" };
                StoreError::Unclear { operation, problem: problem.to_owned() }
            }
        }
    }
}

impl Store for S3Store {
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Pending<'a, Result<(), StoreError>> {
        Box::pin(async move { self.write("PutObject", key, bytes, None).await.map(|_| ()) })
    }

    fn put_if<'a>(
        &'a self,
        key: &'a str,
        bytes: Bytes,
        condition: Condition,
    ) -> Pending<'a, Result<Option<Version>, StoreError>> {
        Box::pin(self.write("PutObject", key, bytes, Some(condition)))
    }

    fn get<'a>(&'a self, key: &'a str) -> Pending<'a, Result<Option<(Bytes, Version)>, StoreError>> {
        Box::pin(async move {
            let got = self.client.get_object().bucket(&self.bucket).key(self.key(key)).send().await;
            match got {
                Ok(got) => {
                    let version = Version(got.e_tag().unwrap_or_default().to_owned());
                    let body = got.body.collect().await.map_err(|_| StoreError::Unclear {
                        operation: "GetObject",
                        problem: "the object broke off".to_owned(),
                    })?;
                    Ok(Some((body.into_bytes(), version)))
                }
                Err(error) if error.code() == Some("NoSuchKey") => Ok(None),
                Err(error) => Err(fault("GetObject", &error)),
            }
        })
    }

    fn exists<'a>(&'a self, key: &'a str) -> Pending<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let head = self.client.head_object().bucket(&self.bucket).key(self.key(key)).send().await;
            match head {
                Ok(_) => Ok(true),
                // Answers to HEAD have no body, and so no code.
                Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => {
                    Ok(false)
                }
                Err(error) => Err(fault("HeadObject", &error)),
            }
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Pending<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let deleted = self.client.delete_object().bucket(&self.bucket).key(self.key(key)).send().await;
            deleted.map(|_| ()).map_err(|error| fault("DeleteObject", &error))
        })
    }

    fn list<'a>(
        &'a self,
        folder: &'a str,
        after: Option<&'a str>,
        most: usize,
    ) -> Pending<'a, Result<Vec<Listed>, StoreError>> {
        Box::pin(async move {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(self.key(folder));
            let request = request.set_start_after(after.map(|after| self.key(after)));
            let page = request.max_keys(i32::try_from(most).unwrap_or(1000)).send().await;
            let page = page.map_err(|error| fault("ListObjectsV2", &error))?;
            let listed = page.contents().iter().filter_map(|object| {
                let key = object.key()?.strip_prefix(&self.prefix)?.to_owned();
                Some(Listed { key, bytes: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or_default() })
            });
            Ok(listed.collect())
        })
    }

    fn folders<'a>(&'a self, folder: &'a str) -> Pending<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let prefix = self.key(folder);
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&prefix).delimiter("/");
            let mut pages = request.into_paginator().send();
            let mut names = Vec::new();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| fault("ListObjectsV2", &error))?;
                names.extend(page.common_prefixes().iter().filter_map(|common| {
                    Some(common.prefix()?.strip_prefix(&prefix)?.trim_end_matches('/').to_owned())
                }));
            }
            Ok(names)
        })
    }
}
