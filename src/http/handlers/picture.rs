//! A group's picture: read, set and remove it. `picture.rs` prepares the picture in a body.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use rookery_actors::commands::{ReadGroup, ReadPicture, RemovePicture, SetPicture, Source};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::error::ApiError;
use crate::http::middleware::authorization::AdmissionOf;
use crate::http::request::caller::Caller;
use crate::http::request::extract::{GroupPath, JsonBody, SessionPath};
use crate::http::request::fields::{Fields, FromFields};
use crate::http::response::json::{Acknowledged, JsonResult, acknowledged};
use crate::picture::PictureSource;
use crate::shares::User;

#[derive(Serialize, ToSchema)]
pub(crate) struct PictureAnswer {
    /// The URL at which WhatsApp serves the picture for some days; `null` when the group has none.
    #[schema(required, example = "https://pps.whatsapp.net/v/t61.24694-24/12345678.jpg")]
    url: Option<String>,
}

/// A picture: `base64` with `mimetype`, or `url`. `base64` wins over `url`.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "url": "https://example.com/team.png" }))]
pub(crate) struct NewPicture {
    /// A JPEG, PNG, WebP or GIF of up to 5 MiB and 25 million pixels, 192 or more a side; also as a `data:` URL.
    base64: Option<String>,
    /// The media type of `base64`.
    mimetype: Option<String>,
    /// An http or https URL that is fetched now; its host has to have public addresses only.
    url: Option<String>,
}

impl FromFields for NewPicture {
    fn read(fields: &mut Fields<'_>) -> Self {
        let mut given = |name| fields.optional_text(name).filter(|text| !text.trim().is_empty());
        let new = Self { base64: given("base64"), mimetype: given("mimetype"), url: given("url") };
        match (&new.base64, &new.mimetype, &new.url) {
            (Some(_), None, _) => fields.broken("mimetype", "is required with base64"),
            (None, _, None) => fields.message("base64 with mimetype, or url, is required".into()),
            _ => {}
        }
        new
    }
}

impl NewPicture {
    /// `base64` wins over `url`, as in OpenWA's own client.
    pub(crate) fn source(self) -> Result<PictureSource, ApiError> {
        match (self.base64, self.mimetype, self.url) {
            (Some(data), Some(mimetype), _) => Ok(PictureSource::Base64 { data, mimetype }),
            (_, _, Some(url)) => Ok(PictureSource::Url(url)),
            _ => Err(ApiError::Internal("a picture passed its checks but is none".into())),
        }
    }
}

/// Get group picture
///
/// WhatsApp is asked each time.
#[utoipa::path(
    get,
    path = "",
    responses((status = 200, description = "The picture's URL", body = PictureAnswer)),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<PictureAnswer> {
    Ok(Json(PictureAnswer { url: app.gateway.execute(session, ReadPicture { group }).await? }))
}

/// Set group picture
///
/// The daemon cuts out the square in the middle and makes a JPEG of it: at most 640 pixels a side, without metadata.
#[utoipa::path(
    put,
    path = "",
    request_body = NewPicture,
    responses((status = 200, description = "Done", body = Acknowledged, example = json!({ "success": true, "message": "Group picture updated" }))),
)]
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
    caller: Caller,
    AdmissionOf(admission): AdmissionOf,
    JsonBody(new): JsonBody<NewPicture>,
) -> JsonResult<Acknowledged> {
    let begun = Instant::now();
    let source = new.source()?;
    // If the group cannot be read now, nothing is fetched or decoded.
    let read = ReadGroup { group: group.clone(), known: Vec::new(), source: Source::Cache };
    app.gateway.execute(session, read).await?;
    // Counted before the work: above the rate limit, nothing is fetched or decoded.
    app.gateway.count_picture(session)?;
    let jpeg = app.pictures.prepare(source, User { key: caller.key.id(), session }).await?;
    // Fetching and decoding takes seconds.
    admission.check_again()?;
    app.gateway.execute(session, SetPicture { group, jpeg, begun }).await?;
    Ok(acknowledged("Group picture updated"))
}

/// Remove group picture
#[utoipa::path(
    delete,
    path = "",
    responses((status = 200, description = "Done; also when there was none", body = Acknowledged, example = json!({ "success": true, "message": "Group picture removed" }))),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    SessionPath(session): SessionPath,
    GroupPath(group): GroupPath,
) -> JsonResult<Acknowledged> {
    app.gateway.execute(session, RemovePicture { group }).await?;
    Ok(acknowledged("Group picture removed"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request::fields::Known;

    fn check(body: &Value) -> Result<PictureSource, Vec<String>> {
        let new = Fields::parse::<NewPicture>(body.as_object().cloned().unwrap(), Known::default());
        new.and_then(NewPicture::source).map_err(|error| match error {
            ApiError::Body(messages) => messages,
            other => vec![format!("{other:?}")],
        })
    }

    #[test]
    fn a_picture_is_base64_with_a_mimetype_or_else_a_url() {
        let base64 = PictureSource::Base64 { data: "AA==".into(), mimetype: "image/png".into() };
        let neither = "base64 with mimetype, or url, is required";
        let cases = [
            (json!({"base64": "AA==", "mimetype": "image/png"}), Ok(base64.clone())),
            (json!({"base64": "AA==", "mimetype": "image/png", "url": "http://x"}), Ok(base64)),
            (json!({"url": "http://x"}), Ok(PictureSource::Url("http://x".into()))),
            (json!({"url": "http://x", "mimetype": "image/png"}), Ok(PictureSource::Url("http://x".into()))),
            (json!({"url": "http://x", "base64": ""}), Ok(PictureSource::Url("http://x".into()))),
            (json!({"base64": "AA==", "url": "http://x"}), Err(vec!["mimetype is required with base64"])),
            (json!({}), Err(vec![neither])),
            (json!({"mimetype": "image/png"}), Err(vec![neither])),
            (
                json!({"url": 5, "picture": 1}),
                Err(vec!["property picture should not exist", "url must be a string", neither]),
            ),
        ];
        for (body, expected) in cases {
            let expected = expected.map_err(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(check(&body), expected, "{body}");
        }
    }
}
