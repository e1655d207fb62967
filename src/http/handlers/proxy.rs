//! The proxy of one session: what its connections to WhatsApp go through.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_model::{Proxy, ProxyType, SessionProxy};
use utoipa::ToSchema;

use crate::app::App;
use crate::http::request::extract::{JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::json::JsonResult;

/// Another proxy for a session, or none.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewProxy {
    /// `http://`, `https://`, `socks4://` or `socks5://`, with the credentials in it; `null`: no proxy.
    #[schema(value_type = Option<String>, required, max_length = 2048, example = "socks5://user:password@proxy.example.com:1080")]
    proxy_url: Option<Proxy>,
    /// Says again what the URL begins with.
    #[schema(value_type = Option<ProxyType>)]
    #[expect(dead_code, reason = "it is checked against the URL, and documented here")]
    proxy_type: Option<ProxyType>,
}

impl FromFields for NewProxy {
    fn read(fields: &mut Fields<'_>) -> Self {
        if !fields.has("proxyUrl") {
            fields.broken("proxyUrl", "must be a string, or null for no proxy");
        }
        let (proxy_url, proxy_type) = read_proxy(fields);
        Self { proxy_url, proxy_type }
    }
}

/// The fields of a proxy in a body.
pub(crate) fn read_proxy(fields: &mut Fields<'_>) -> (Option<Proxy>, Option<ProxyType>) {
    let url = fields.optional_text("proxyUrl");
    let kind = if fields.take_null("proxyType") { None } else { fields.optional_word("proxyType", &ProxyType::WORDS) };
    let proxy = url.as_ref().and_then(|url| match url.parse::<Proxy>() {
        Ok(proxy) => Some(proxy),
        Err(error) => {
            fields.broken("proxyUrl", &error.to_string());
            None
        }
    });
    if url.is_none() && kind.is_some() {
        fields.broken("proxyType", "goes with a proxyUrl: leave it out");
    }
    if proxy.as_ref().is_some_and(|proxy| kind.is_some_and(|kind| kind != proxy.kind())) {
        fields.broken("proxyType", "must be what proxyUrl begins with, or be left out");
    }
    (proxy, kind)
}

/// Get the session proxy
///
/// The user name and the password are never shown.
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "The proxy, or that there is none", body = SessionProxy)),
)]
pub(crate) async fn get(State(app): State<Arc<App>>, SessionPath(id): SessionPath) -> JsonResult<SessionProxy> {
    Ok(Json(app.gateway.proxy(id)?))
}

/// Set the session proxy
///
/// A session with a proxy connects to WhatsApp through it, never without it, and the proxy resolves WhatsApp's names. A change takes
/// effect at once: an open connection is closed, and the session connects again. Only a key without scopes may set a proxy, as it may be
/// any address that this machine reaches. URLs that callers give (pictures) are fetched without it.
#[utoipa::path(
    patch,
    path = "",
    request_body = NewProxy,
    responses((status = 200, description = "The proxy after the change", body = SessionProxy)),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    SessionPath(id): SessionPath,
    JsonBody(new): JsonBody<NewProxy>,
) -> JsonResult<SessionProxy> {
    Ok(Json(app.gateway.set_proxy(id, new.proxy_url).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::error::ApiError;
    use crate::http::request::fields::Known;

    fn check(body: &Value) -> Result<Option<String>, Vec<String>> {
        let new = Fields::parse::<NewProxy>(body.as_object().cloned().unwrap(), Known::default());
        new.map(|new| new.proxy_url.map(|proxy| proxy.to_url())).map_err(|error| match error {
            ApiError::Body(messages) => messages,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn a_proxy_is_a_url_or_null_and_its_type_says_nothing_else() {
        let url = "socks5://u:p@proxy.example.com:1080";
        let form = "proxyUrl must be a URL such as socks5://user:password@proxy.example.com:1080, with http, https, socks4 \
                    or socks5; in user and password, / is %2F, @ is %40, % is %25";
        let cases = [
            (json!({"proxyUrl": url}), Ok(Some(url))),
            (json!({"proxyUrl": url, "proxyType": "socks5"}), Ok(Some(url))),
            (json!({"proxyUrl": url, "proxyType": null}), Ok(Some(url))),
            (json!({"proxyUrl": null}), Ok(None)),
            (json!({}), Err("proxyUrl must be a string, or null for no proxy")),
            (json!({"proxyUrl": 1}), Err("proxyUrl must be a string")),
            (json!({"proxyUrl": ""}), Err(form)),
            (json!({"proxyUrl": "proxy.example.com:1080"}), Err(form)),
            (
                json!({"proxyUrl": url, "proxyType": "http"}),
                Err("proxyType must be what proxyUrl begins with, or be left out"),
            ),
            (json!({"proxyUrl": null, "proxyType": "http"}), Err("proxyType goes with a proxyUrl: leave it out")),
            (
                json!({"proxyUrl": url, "proxyType": "ftp"}),
                Err("proxyType must be one of the following values: http, https, socks4, socks5"),
            ),
            (json!({"proxyUrl": url, "proxy": 1}), Err("property proxy should not exist")),
        ];
        for (body, expected) in cases {
            let expected = expected.map(|url| url.map(str::to_owned)).map_err(|message| vec![message.to_owned()]);
            assert_eq!(check(&body), expected, "{body}");
        }
    }
}
