//! Why a file or a picture cannot be taken, sent or fetched.

use axum::http::StatusCode;
use rookery_actors::{FileError, NoRoom};

use super::{ErrorResponse, one};
use crate::media::MediaError;
use crate::picture::PictureError;

pub(super) fn picture_response(error: &PictureError) -> ErrorResponse {
    let (status, code) = match error {
        error if error.is_busy() => (StatusCode::SERVICE_UNAVAILABLE, "pictures_busy"),
        PictureError::Fetch(_) => (StatusCode::BAD_REQUEST, "url_not_fetched"),
        _ => (StatusCode::BAD_REQUEST, "invalid_picture"),
    };
    one(status, code, error.to_string())
}

pub(super) fn media_response(error: &MediaError) -> ErrorResponse {
    let (status, code) = match error {
        MediaError::File(error) => return file_response(error),
        MediaError::Busy => (StatusCode::TOO_MANY_REQUESTS, "too_many_files"),
        MediaError::Fetch(_) => (StatusCode::BAD_REQUEST, "url_not_fetched"),
        MediaError::Form(_) => (StatusCode::BAD_REQUEST, "invalid_form"),
        _ => (StatusCode::BAD_REQUEST, "invalid_file"),
    };
    one(status, code, error.to_string())
}

pub(super) fn file_response(error: &FileError) -> ErrorResponse {
    use StatusCode as S;
    let (status, code, message) = match error {
        FileError::NoRoom(NoRoom::Share) => (
            S::TOO_MANY_REQUESTS,
            "too_many_file_bytes",
            "The files that are being sent and fetched with this API key take all the disk that it may have of --media-disk-mib: \
             send the next when one is answered"
                .into(),
        ),
        FileError::NoRoom(NoRoom::Disk) => (
            S::SERVICE_UNAVAILABLE,
            "storage_full",
            "The disk has too little space for the file: nothing was changed".into(),
        ),
        FileError::TooLarge { bytes_max } => (
            S::PAYLOAD_TOO_LARGE,
            "file_too_large",
            format!("The file has more than {bytes_max} bytes: an operator may raise --media-body-bytes-max"),
        ),
        FileError::Gone => (
            S::GONE,
            "file_gone",
            "WhatsApp does not have the file any more, and the phone did not upload it again".into(),
        ),
        FileError::PhoneSilent => (
            S::SERVICE_UNAVAILABLE,
            "phone_silent",
            "WhatsApp does not have the file any more, and the phone did not answer when it was asked to upload it again: see \
             that the phone is online"
                .into(),
        ),
        FileError::Damaged => {
            (S::BAD_GATEWAY, "file_damaged", "What WhatsApp has is not the file that the message names".into())
        }
        FileError::Disk(_) => (
            S::SERVICE_UNAVAILABLE,
            "storage_unavailable",
            "The file could not be written down here: nothing was changed".into(),
        ),
    };
    one(status, code, message)
}
