//! AWS as recorded answers under the real SDK: what is sent is kept, what comes back is what a test says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_runtime_api::shared::IntoShared;
use aws_smithy_types::body::SdkBody;
use tokio::time::{Instant, sleep};

/// What happens to one request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// 200 with this body.
    Body(String),
    /// This status, with this error code in the header where SES has it, and this body.
    Error(u16, &'static str, String),
    /// The connection breaks.
    Broken,
    /// This answer, so much later.
    After(Duration, Box<Answer>),
}

/// Answers in turn, and keeps what it was asked, and when.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<(Instant, HttpRequest)>>>,
}

impl Recorded {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Recorded {
        Recorded { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    /// `METHOD /path body`, one line a request.
    pub(crate) fn requests(&self) -> String {
        let line = |(_, request): &(Instant, HttpRequest)| {
            let uri = request.uri().splitn(4, '/').nth(3).unwrap_or_default().to_owned();
            let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
            format!("{} /{uri} {body}", request.method()).trim_end().to_owned()
        };
        self.asked.lock().unwrap().iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// A header of the last request.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.asked.lock().unwrap().last().and_then(|(_, request)| request.headers().get(name).map(str::to_owned))
    }

    /// When each request came, in milliseconds after the first one.
    pub(crate) fn times(&self) -> Vec<u128> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(at, _)| at.duration_since(asked[0].0).as_millis()).collect()
    }
}

async fn answer(answer: Answer) -> Result<HttpResponse, ConnectorError> {
    match answer {
        Answer::Body(body) => Ok(HttpResponse::new(StatusCode::try_from(200).unwrap(), SdkBody::from(body))),
        Answer::Error(status, code, body) => {
            let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body));
            response.headers_mut().insert("x-amzn-errortype", code);
            response.headers_mut().insert("x-amzn-requestid", "R1");
            Ok(response)
        }
        Answer::Broken => Err(ConnectorError::io("connection reset".into())),
        Answer::After(time, then) => {
            sleep(time).await;
            Box::pin(self::answer(*then)).await
        }
    }
}

impl HttpConnector for Recorded {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.asked.lock().unwrap().push((Instant::now(), request));
        let next = self.answers.lock().unwrap().pop_front().expect("one request more than there are answers");
        HttpConnectorFuture::new(answer(next))
    }
}

impl HttpClient for Recorded {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.clone().into_shared()
    }
}
