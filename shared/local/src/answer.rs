//! Answers of AWS, as the SDK reads them.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

/// An answer. `code`: the name of the error, if it is one. A status that is not one of HTTP's becomes 500.
pub fn respond(status: u16, code: Option<&'static str>, body: &str) -> HttpResponse {
    let status = StatusCode::try_from(status).or_else(|_| StatusCode::try_from(500_u16));
    // 500 is a status.
    let Ok(status) = status else { unreachable!("500 is a status of HTTP") };
    let mut response = HttpResponse::new(status, SdkBody::from(body));
    if let Some(code) = code {
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    response
}

/// Decodes a form (`application/x-www-form-urlencoded`): names and values in order.
pub fn form(body: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value)))
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded() {
        let read: Vec<(String, String)> = form("Action=Publish&Message=12+of+49+%2824+%25%29&Empty=").collect();
        let expected = [("Action", "Publish"), ("Message", "12 of 49 (24 %)"), ("Empty", "")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
