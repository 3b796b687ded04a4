//! A bucket in this process, with an account.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};

use aws::clients::Clients;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::body::SdkBody;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use operator::Access;

use crate::account::Account;

/// A bucket named `mail-events`.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    account: Account,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    objects: BTreeMap<String, Vec<u8>>,
    /// The Region of the bucket; requests to other Regions are redirected there.
    pub(crate) region: String,
    /// The Regions that were asked, in order.
    pub(crate) regions: Vec<String>,
    /// The refusal for `list` or `get`.
    pub(crate) refused: Option<(&'static str, u16, &'static str)>,
}

impl Bucket {
    pub(crate) fn with(objects: &[(&str, Vec<u8>)]) -> Bucket {
        let objects = objects.iter().map(|(key, bytes)| ((*key).to_owned(), bytes.clone())).collect();
        let state = State { objects, region: "eu-west-1".to_owned(), ..State::default() };
        Bucket { account: Account::default(), state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn access(&self) -> Access {
        Access { clients: Clients::over(self.clone()), ..self.account.access() }
    }

    fn answer(&self, uri: &str) -> HttpResponse {
        let mut state = self.state();
        let (host, path) = uri.trim_start_matches("https://").split_once('/').unwrap();
        let region = host.split('.').nth(2).unwrap().to_owned();
        state.regions.push(region.clone());
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let lists = query.contains("list-type=2");
        if region != state.region {
            return refusal(301, "PermanentRedirect", Some(&state.region));
        }
        match state.refused {
            Some((what, status, code)) if lists == (what == "list") => return refusal(status, code, None),
            Some(_) | None => {}
        }
        if !lists {
            return match state.objects.get(path) {
                Some(bytes) => respond(200, SdkBody::from(bytes.clone())),
                None => refusal(404, "NoSuchKey", None),
            };
        }
        let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap_or("").replace("%2F", "/");
        let objects = state.objects.iter().filter(|(key, _)| key.starts_with(&prefix));
        let rows: String = objects
            .map(|(key, bytes)| format!("<Contents><Key>{key}</Key><Size>{}</Size></Contents>", bytes.len()))
            .collect();
        let list = format!(
            "<?xml version=\"1.0\"?><ListBucketResult><Name>mail-events</Name><IsTruncated>false</IsTruncated>{rows}\
             </ListBucketResult>"
        );
        respond(200, SdkBody::from(list))
    }
}

fn refusal(status: u16, code: &str, region: Option<&str>) -> HttpResponse {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test says</Message></Error>");
    let mut answer = respond(status, SdkBody::from(body));
    if let Some(region) = region {
        answer.headers_mut().insert("x-amz-bucket-region", region.to_owned());
    }
    answer
}

fn respond(status: u16, body: SdkBody) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).unwrap(), body)
}

pub(crate) fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

pub(crate) fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl HttpConnector for Bucket {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if request.uri().contains(".s3.") {
            return HttpConnectorFuture::ready(Ok(self.answer(request.uri())));
        }
        self.account.call(request)
    }
}

impl HttpClient for Bucket {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}
