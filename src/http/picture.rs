//! A picture in the body of a request: `{base64, mimetype}` or `{url}`. What is made of it is in `picture.rs`.

use super::error::ApiError;
use super::fields::Fields;
use crate::picture::PictureSource;

/// The fields that [`picture_source`] reads.
pub(crate) const PICTURE_FIELDS: [&str; 3] = ["base64", "mimetype", "url"];

/// The picture of a body. `base64` wins over `url`, as in OpenWA's own client. Ends the checking of the body.
///
/// # Errors
/// [`ApiError::Body`].
pub(crate) fn picture_source(mut fields: Fields) -> Result<PictureSource, ApiError> {
    let mut given = |name| fields.optional_text(name).filter(|text| !text.trim().is_empty());
    let (base64, mimetype, url) = (given("base64"), given("mimetype"), given("url"));
    let source = match (base64, mimetype, url) {
        (Some(data), Some(mimetype), _) => Some(PictureSource::Base64 { data, mimetype }),
        (Some(_), None, _) => {
            fields.broken("mimetype", "is required with base64");
            None
        }
        (None, _, Some(url)) => Some(PictureSource::Url(url)),
        (None, _, None) => {
            fields.message("base64 with mimetype, or url, is required".into());
            None
        }
    };
    fields.finish()?;
    source.ok_or_else(|| ApiError::Internal("a picture passed its checks but is none".into()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(body: &Value) -> Result<PictureSource, Vec<String>> {
        let fields = Fields::of(body.as_object().cloned().unwrap(), &PICTURE_FIELDS);
        picture_source(fields).map_err(|error| match error {
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
