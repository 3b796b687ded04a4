//! The bucket for the functions' code: private, in the Region of the stack, in the caller's own account.
//!
//! **Invariant:** every request but the one that makes the bucket names the account that must own it. The name that ses-breaker
//! chooses can be guessed, so somebody else may have taken it; such a bucket gets nothing, and nothing is read from it.

use std::error::Error;
use std::time::Duration;

use aws::clients::port_error;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, ChecksumMode, CreateBucketConfiguration, PublicAccessBlockConfiguration,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::base64;
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::{Place, StackFailure};
use crate::Access;
use crate::failure::Failure;

/// A zip of 5 MB takes this long at 70 kbit/s.
const UPLOAD: Duration = Duration::from_secs(600);
/// Waits while S3 still deletes or creates a bucket of this name.
const CONFLICT: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// A bucket for code.
#[derive(Debug)]
pub(crate) struct CodeBucket<'a> {
    access: &'a Access,
    client: Client,
    place: &'a Place,
    /// Its name.
    pub(crate) name: String,
    /// Whether it has the name that ses-breaker chooses.
    chosen: bool,
}

/// The name of the bucket that is made.
pub(crate) fn name_of(place: &Place) -> String {
    format!("ses-breaker-{}-{}", place.account, place.region)
}

/// The bucket with a stack's code, if it exists and is the account's own: the one that the stack names, otherwise one with our
/// name. That of somebody else is no concern of a stack.
pub(crate) async fn of_stack<'a>(
    access: &'a Access,
    place: &'a Place,
    named: Option<&str>,
) -> Result<Option<CodeBucket<'a>>, Failure> {
    let bucket = CodeBucket::new(access, place, named.filter(|name| *name != name_of(place)));
    match bucket.exists().await {
        Ok(exists) => Ok(exists.then_some(bucket)),
        Err(Failure::Stack(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl<'a> CodeBucket<'a> {
    /// `named`: the bucket to use; otherwise one with our name.
    pub(crate) fn new(access: &'a Access, place: &'a Place, named: Option<&str>) -> CodeBucket<'a> {
        let shared = access.clients.config();
        let mut config = aws_sdk_s3::config::Builder::from(shared);
        // Where calls are limited at all.
        if let Some(limits) = shared.timeout_config().filter(|limits| limits.has_timeouts()) {
            let longer = limits.to_builder().operation_attempt_timeout(UPLOAD).operation_timeout(UPLOAD * 3).build();
            config = config.timeout_config(longer);
        }
        // Other endpoints rarely have names for buckets.
        let client = Client::from_conf(config.force_path_style(shared.endpoint_url().is_some()).build());
        let name = named.map_or_else(|| name_of(place), str::to_owned);
        CodeBucket { access, client, place, name, chosen: named.is_none() }
    }

    /// Whether it exists, and is ours.
    pub(crate) async fn exists(&self) -> Result<bool, Failure> {
        let asked =
            self.client.head_bucket().bucket(&self.name).expected_bucket_owner(&self.place.account).send().await;
        let error = match asked {
            Ok(answer) => {
                let elsewhere = answer.bucket_region().filter(|region| *region != self.place.region);
                return if elsewhere.is_some() { Err(self.elsewhere()) } else { Ok(true) };
            }
            Err(error) => error,
        };
        // An answer to HEAD has no body, and so no code.
        match error.raw_response().map(|response| response.status().as_u16()) {
            Some(404) => Ok(false),
            Some(403) => Err(StackFailure::ForeignBucket { bucket: self.name.clone(), chosen: self.chosen }.into()),
            Some(301) => Err(self.elsewhere()),
            Some(_) | None => Err(self.refused("looking for the bucket", &error)),
        }
    }

    /// Makes the bucket if necessary.
    pub(crate) async fn ensure(&self) -> Result<(), Failure> {
        let exists = self.exists().await?;
        if !self.chosen {
            let missing = || StackFailure::NoBucket { bucket: self.name.clone() }.into();
            return if exists { Ok(()) } else { Err(missing()) };
        }
        if !exists {
            self.create().await?;
        }
        // Each time, because an earlier run may have ended between the two.
        let all = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let mut waits = CONFLICT.iter();
        loop {
            let request = self.client.put_public_access_block().bucket(&self.name);
            let request = request.expected_bucket_owner(&self.place.account);
            let error = match request.public_access_block_configuration(all.clone()).send().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            // S3 may not know everywhere yet that it has just created the bucket.
            match (error.as_service_error().and_then(ProvideErrorMetadata::code), waits.next()) {
                (Some("OperationAborted" | "NoSuchBucket"), Some(wait)) => sleep(*wait).await,
                _ => return Err(self.refused("making the bucket private", &error)),
            }
        }
    }

    async fn create(&self) -> Result<(), Failure> {
        let region = &self.place.region;
        // S3 does not accept the name of its oldest Region here.
        let place = (region != "us-east-1").then(|| {
            let region = BucketLocationConstraint::from(region.as_str());
            CreateBucketConfiguration::builder().location_constraint(region).build()
        });
        let mut waits = CONFLICT.iter();
        loop {
            let request = self.client.create_bucket().bucket(&self.name);
            let error = match request.set_create_bucket_configuration(place.clone()).send().await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match (error.as_service_error().and_then(ProvideErrorMetadata::code), waits.next()) {
                (Some("BucketAlreadyOwnedByYou"), _) => return Ok(()),
                (Some("BucketAlreadyExists"), _) => {
                    return Err(StackFailure::ForeignBucket { bucket: self.name.clone(), chosen: true }.into());
                }
                (Some("OperationAborted"), Some(wait)) => sleep(*wait).await,
                _ => return Err(self.refused("creating the bucket", &error)),
            }
        }
    }

    /// Uploads an object, unless it is there with the same content, as S3 has checked it: whatever else lies under its key is
    /// replaced. Returns whether it was uploaded.
    pub(crate) async fn upload(&self, key: &str, bytes: Vec<u8>) -> Result<bool, Failure> {
        let owner = &self.place.account;
        let checksum = base64::encode(Sha256::digest(&bytes));
        let request = self.client.head_object().bucket(&self.name).key(key).expected_bucket_owner(owner);
        match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(known) if known.checksum_sha256() == Some(checksum.as_str()) => return Ok(false),
            Ok(_) => {}
            // Without s3:ListBucket, S3 answers 403 for what does not exist.
            Err(error) => match error.raw_response().map(|response| response.status().as_u16()) {
                Some(403 | 404) => {}
                Some(_) | None => return Err(self.refused("looking for the code", &error)),
            },
        }
        let request = self.client.put_object().bucket(&self.name).key(key).expected_bucket_owner(owner);
        let put = request.checksum_sha256(checksum).body(ByteStream::from(bytes)).send().await;
        put.map(|_| true).map_err(|error| self.refused("uploading the code", &error))
    }

    /// Deletes all objects with this prefix and, if the bucket is one that ses-breaker makes and is empty then, the bucket.
    /// Returns whether it is gone.
    pub(crate) async fn clear(&self, prefix: &str) -> Result<bool, Failure> {
        let owner = &self.place.account;
        let list = self.client.list_objects_v2().bucket(&self.name).expected_bucket_owner(owner);
        let mut pages = list.prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.refused("listing the code", &error))?;
            for object in page.contents() {
                let request = self.client.delete_object().bucket(&self.name).expected_bucket_owner(owner);
                let deleted = request.set_key(object.key.clone()).send().await;
                deleted.map_err(|error| self.refused("deleting the code", &error))?;
            }
        }
        if !self.chosen {
            return Ok(false);
        }
        let deleted = self.client.delete_bucket().bucket(&self.name).expected_bucket_owner(owner).send().await;
        match deleted {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error().and_then(ProvideErrorMetadata::code) {
                Some("NoSuchBucket") => Ok(true),
                // The code of other stacks, or what somebody else has put there.
                Some("BucketNotEmpty") => Ok(false),
                Some(_) | None => Err(self.refused("deleting the bucket", &error)),
            },
        }
    }

    /// The address under which CloudFormation reads an object.
    pub(crate) fn url(&self, key: &str) -> String {
        let Place { partition, region, .. } = self.place;
        match self.access.clients.config().endpoint_url() {
            Some(endpoint) => format!("{}/{}/{key}", endpoint.trim_end_matches('/'), self.name),
            None => {
                let suffix = if partition == "aws-cn" { ".cn" } else { "" };
                // Dots are allowed in the name of a bucket, and not in that of a host under S3's certificate.
                match self.name.contains('.') {
                    true => format!("https://s3.{region}.amazonaws.com{suffix}/{}/{key}", self.name),
                    false => format!("https://{}.s3.{region}.amazonaws.com{suffix}/{key}", self.name),
                }
            }
        }
    }

    fn elsewhere(&self) -> Failure {
        StackFailure::BucketElsewhere { bucket: self.name.clone(), region: self.place.region.clone() }.into()
    }

    fn refused<E>(&self, operation: &'static str, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        self.access.refused(port_error(operation, error))
    }
}
