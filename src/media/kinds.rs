//! The media type of a file that is sent: what its first bytes show, checked against what its caller says and what WhatsApp's clients play.

use rookery_model::FileKind;

use super::MediaError;

/// Bytes at the start of a file that show its type.
pub(super) const HEAD_BYTES: usize = 8 * 1024;
/// Characters of a media type.
const MIMETYPE_CHARS_MAX: usize = 255;
/// Says nothing of a file.
const ANY: &str = "application/octet-stream";
/// A sound in WhatsApp's own form.
pub(super) const OPUS: &str = "audio/ogg; codecs=opus";

/// What is known of a file before it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim<'a> {
    pub(super) kind: FileKind,
    /// The field of the request that holds the file, or its URL.
    pub(super) field: &'static str,
    /// The media type, as the caller says.
    pub(super) said: Option<&'a str>,
    /// The media type, as the host says that the file was fetched from.
    pub(super) said_by_host: Option<&'a str>,
}

/// The media type to send, and the usual ending of the names of such files where it is known.
///
/// # Errors
/// [`MediaError::Mimetype`], [`MediaError::OtherMimetype`], [`MediaError::WrongType`].
pub(super) fn type_of(head: &[u8], claim: &Claim<'_>) -> Result<(String, &'static str), MediaError> {
    let said = claim.said.map(canonical).transpose()?.filter(|said| said.as_str() != ANY);
    let found = sniffed(head);
    if claim.kind == FileKind::Document {
        return document_type(head, claim, said, found);
    }
    let Claim { kind, field, .. } = *claim;
    // A sound may come in a container for films.
    let found = match found {
        Some(Found { mimetype: "video/mp4" | "video/3gpp", .. }) if kind == FileKind::Audio => {
            Some(Found { mimetype: "audio/mp4", extension: "m4a" })
        }
        found => found,
    };
    let Some(Found { mimetype, extension }) = found.filter(|found| accepted(kind).contains(&found.mimetype)) else {
        let found = found.map_or("something else", |found| found.mimetype);
        return Err(MediaError::WrongType { field, kind, found });
    };
    match said {
        Some(said) if base_of(&said) != base_of(mimetype) => {
            Err(MediaError::OtherMimetype { field, said, found: mimetype })
        }
        _ => Ok((mimetype.to_owned(), extension)),
    }
}

/// A document may be anything. Where its caller names a type whose files are told by their first bytes, they have to be such.
fn document_type(
    head: &[u8],
    claim: &Claim<'_>,
    said: Option<String>,
    found: Option<Found>,
) -> Result<(String, &'static str), MediaError> {
    let extension = found.map_or("", |found| found.extension);
    let Some(said) = said else {
        // What has no such beginning is none of the types that are told by it.
        let by_host = claim.said_by_host.and_then(|said| canonical(said).ok()).filter(|said| !is_told(base_of(said)));
        let mimetype = found.map(|found| found.mimetype.to_owned()).or(by_host).unwrap_or_else(|| ANY.to_owned());
        return Ok((mimetype, extension));
    };
    let base = base_of(&said);
    if is_told(base) && infer::is_mime_supported(base) && !infer::is_mime(head, base) {
        let found = found.map_or("something else", |found| found.mimetype);
        if found != base {
            return Err(MediaError::OtherMimetype { field: claim.field, said, found });
        }
    }
    Ok((said, extension))
}

/// Whether files of this type are told by their first bytes.
fn is_told(base: &str) -> bool {
    base == "application/pdf" || ["image/", "audio/", "video/"].iter().any(|of| base.starts_with(of))
}

/// What the first bytes show.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Found {
    mimetype: &'static str,
    extension: &'static str,
}

fn sniffed(head: &[u8]) -> Option<Found> {
    // Phones' own films: the brand begins so.
    if head.get(4..8) == Some(b"ftyp") && matches!(head.get(8..11), Some(b"3gp" | b"3g2")) {
        return Some(Found { mimetype: "video/3gpp", extension: "3gp" });
    }
    if head.starts_with(b"#!AMR-WB\n") {
        return Some(Found { mimetype: "audio/amr-wb", extension: "awb" });
    }
    let found = infer::get(head)?;
    let mimetype = match found.mime_type() {
        "audio/opus" => OPUS,
        "audio/m4a" => "audio/mp4",
        "video/x-m4v" => "video/mp4",
        other => other,
    };
    Some(Found { mimetype, extension: found.extension() })
}

/// The types that WhatsApp's clients show or play.
fn accepted(kind: FileKind) -> &'static [&'static str] {
    match kind {
        FileKind::Image => &["image/jpeg", "image/png", "image/webp", "image/gif"],
        FileKind::Video => &["video/mp4", "video/3gpp", "video/quicktime"],
        FileKind::Audio => &[
            OPUS,
            "audio/ogg",
            "audio/mpeg",
            "audio/mp4",
            "audio/aac",
            "audio/amr",
            "audio/amr-wb",
            "audio/x-wav",
            "audio/x-flac",
        ],
        FileKind::Sticker => &["image/webp"],
        FileKind::Document => &[],
    }
}

/// The kinds of files that a message of this kind takes, in words.
pub(super) fn accepted_words(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Image => "a JPEG, PNG, WebP or GIF picture",
        FileKind::Video => "an MP4, 3GP or QuickTime film",
        FileKind::Audio => "an Ogg, MP3, M4A, AAC, AMR, WAV or FLAC sound",
        FileKind::Sticker => "a WebP picture",
        FileKind::Document => "a file",
    }
}

/// A media type in the one form that is compared: lower case, the usual name, its parameters as they are.
fn canonical(said: &str) -> Result<String, MediaError> {
    let said = said.trim();
    let (base, parameters) = said.split_once(';').map_or((said, None), |(base, rest)| (base, Some(rest)));
    let base = base.trim().to_ascii_lowercase();
    let is_token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    let is_form = base.split_once('/').is_some_and(|(kind, name)| is_token(kind) && is_token(name));
    let is_plain = said.len() <= MIMETYPE_CHARS_MAX && said.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_form || !is_plain {
        return Err(MediaError::Mimetype);
    }
    let base = match base.as_str() {
        "image/jpg" | "image/pjpeg" => "image/jpeg",
        "audio/mp3" | "audio/x-mp3" | "audio/x-mpeg" => "audio/mpeg",
        "audio/m4a" | "audio/x-m4a" => "audio/mp4",
        "audio/wav" | "audio/wave" | "audio/vnd.wave" => "audio/x-wav",
        "audio/flac" => "audio/x-flac",
        "audio/opus" | "application/ogg" => "audio/ogg",
        "audio/x-aac" | "audio/aacp" => "audio/aac",
        "video/x-m4v" => "video/mp4",
        "video/3gpp2" | "video/3gp" => "video/3gpp",
        other => other,
    };
    Ok(parameters.map_or_else(|| base.to_owned(), |parameters| format!("{base};{parameters}")))
}

fn base_of(mimetype: &str) -> &str {
    mimetype.split(';').next().unwrap_or_default().trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0";
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
    const PDF: &[u8] = b"%PDF-1.7";
    const OGG_OPUS: &[u8] = b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead";
    const MP4: &[u8] = b"\0\0\0\x18ftypisom\0\0\0\0isomavc1";
    const THREE_GP: &[u8] = b"\0\0\0\x18ftyp3gp4\0\0\0\0";

    /// A kind, the head of a file, what its caller says, and the media type or the error.
    type Case = (FileKind, &'static [u8], Option<&'static str>, Result<&'static str, &'static str>);

    fn typed(kind: FileKind, head: &[u8], said: Option<&str>) -> Result<String, String> {
        let claim = Claim { kind, field: "base64", said, said_by_host: Some("text/csv") };
        type_of(head, &claim).map(|(mimetype, _)| mimetype).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_what_its_first_bytes_show_and_its_caller_may_not_say_otherwise() {
        use FileKind as K;
        let cases: [Case; 21] = [
            (K::Image, JPEG, None, Ok("image/jpeg")),
            (K::Image, JPEG, Some("Image/JPG; q=1"), Ok("image/jpeg")),
            (K::Image, JPEG, Some("application/octet-stream"), Ok("image/jpeg")),
            (K::Image, PNG, Some("image/jpeg"), Err("mimetype is image/jpeg, but base64 holds image/png")),
            (
                K::Image,
                PDF,
                None,
                Err(
                    "base64 must hold a JPEG, PNG, WebP or GIF picture that is whole, but holds application/pdf: send-document takes any file",
                ),
            ),
            (K::Image, b"", None, Err("base64 must hold")),
            (K::Image, JPEG, Some("jpeg"), Err("mimetype must be")),
            (K::Image, JPEG, Some("image/jpeg\r\nx: y"), Err("mimetype must be")),
            (K::Video, MP4, Some("video/mp4"), Ok("video/mp4")),
            (K::Video, THREE_GP, None, Ok("video/3gpp")),
            (K::Video, JPEG, None, Err("base64 must hold an MP4")),
            (K::Audio, OGG_OPUS, Some("audio/ogg"), Ok(OPUS)),
            (K::Audio, OGG_OPUS, Some("audio/mpeg"), Err("mimetype is audio/mpeg, but base64 holds audio/ogg")),
            (K::Audio, MP4, Some("audio/x-m4a"), Ok("audio/mp4")),
            (K::Sticker, JPEG, None, Err("base64 must hold a WebP")),
            (K::Document, PDF, None, Ok("application/pdf")),
            (K::Document, b"a,b", None, Ok("text/csv")),
            (K::Document, b"a,b", Some("text/plain; charset=utf-8"), Ok("text/plain; charset=utf-8")),
            (
                K::Document,
                JPEG,
                Some("application/pdf"),
                Err("mimetype is application/pdf, but base64 holds image/jpeg"),
            ),
            (K::Document, b"PK\x03\x04", Some("application/vnd.ms-excel"), Ok("application/vnd.ms-excel")),
            (K::Document, JPEG, Some("image/jpeg"), Ok("image/jpeg")),
        ];
        for (kind, head, said, expected) in cases {
            match (typed(kind, head, said), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{error}"),
                (found, expected) => panic!("{kind:?} {said:?}: {found:?}, not {expected:?}"),
            }
        }
    }
}
