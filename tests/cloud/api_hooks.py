"""What the gate's OpenAPI document cannot say: a domain has at most 255 bytes, where JSON Schema counts characters."""

import schemathesis


@schemathesis.hook
def filter_body(_context, body) -> bool:
    if not isinstance(body, dict):
        return True
    recipients = body.get("recipients")
    domains = [body.get("identity"), *(recipients if isinstance(recipients, dict) else ())]
    texts = [domain for domain in domains if isinstance(domain, str)]
    return all(len(text) > 255 or len(text.encode(errors="surrogatepass")) <= 255 for text in texts)
