//! Files as messages describe them: our own form into WhatsApp's, and back. One conversion, no decisions.

use wacore::proto_helpers::MessageExt as _;
use waproto::whatsapp as wa;
use whatsapp_rust::buffa::{Message as _, MessageField};

use rookery_model::{FileKind, ShownFile, StoredFile};

/// A file as a message describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInMessage {
    /// The file at WhatsApp.
    pub file: StoredFile,
    /// Its media type, as its sender says.
    pub mimetype: String,
    /// Its name; of documents.
    pub filename: Option<String>,
}

/// The file in a message in the form of WhatsApp's protocol (protobuf `Message`); `None`: there is none, or it cannot be fetched.
#[must_use]
pub fn file_in(protocol: &[u8]) -> Option<FileInMessage> {
    let message = wa::Message::decode_from_slice(protocol).ok()?;
    let base = message.get_base_message();
    macro_rules! described {
        ($field:ident, $kind:ident, $name:expr) => {
            base.$field.as_option().and_then(|file| {
                Some(FileInMessage {
                    mimetype: file.mimetype.clone().unwrap_or_default(),
                    filename: $name(file),
                    file: StoredFile {
                        kind: FileKind::$kind,
                        url: None,
                        direct_path: file.direct_path.clone()?,
                        media_key: file.media_key.clone()?,
                        sha256: file.file_sha256.clone().unwrap_or_default(),
                        encrypted_sha256: file.file_enc_sha256.clone()?,
                        length: file.file_length.unwrap_or_default(),
                        key_made_at: None,
                        sidecar: None,
                    },
                })
            })
        };
    }
    let files = [
        described!(image_message, Image, |_| None),
        described!(video_message, Video, |_| None),
        described!(ptv_message, Video, |_| None),
        described!(audio_message, Audio, |_| None),
        described!(sticker_message, Sticker, |_| None),
        described!(document_message, Document, |file: &wa::message::DocumentMessage| file.file_name.clone()),
    ];
    files.into_iter().flatten().next()
}

/// Fills the fields that all messages with files have.
macro_rules! file_message {
    ($kind:ident, $shown:expr, $($field:ident: $value:expr),* $(,)?) => {
        MessageField::some(wa::message::$kind {
            url: $shown.file.url.clone(),
            direct_path: Some($shown.file.direct_path.clone()),
            media_key: Some($shown.file.media_key.clone()),
            media_key_timestamp: $shown.file.key_made_at,
            file_sha256: Some($shown.file.sha256.clone()),
            file_enc_sha256: Some($shown.file.encrypted_sha256.clone()),
            file_length: Some($shown.file.length),
            mimetype: Some($shown.mimetype.clone()),
            $($field: $value,)*
            ..Default::default()
        })
    };
}

/// The message that shows a file.
pub(super) fn message_of(shown: &ShownFile) -> wa::Message {
    let ShownFile { file, filename, caption, preview, .. } = shown;
    let (width, height) = preview.size.unzip();
    let thumbnail = || preview.thumbnail.clone();
    let mut message = wa::Message::default();
    match file.kind {
        FileKind::Image => {
            message.image_message = file_message!(ImageMessage, shown,
                caption: caption.clone(), jpeg_thumbnail: thumbnail(), width: width, height: height);
        }
        FileKind::Video => {
            message.video_message = file_message!(VideoMessage, shown,
                caption: caption.clone(), jpeg_thumbnail: thumbnail(), width: width, height: height,
                seconds: preview.seconds, streaming_sidecar: file.sidecar.clone());
        }
        FileKind::Audio => {
            message.audio_message = file_message!(AudioMessage, shown,
                ptt: Some(preview.is_voice), seconds: preview.seconds, waveform: preview.waveform.clone(),
                streaming_sidecar: file.sidecar.clone());
        }
        FileKind::Document => {
            message.document_message = file_message!(DocumentMessage, shown,
                caption: caption.clone(), file_name: filename.clone(), title: filename.clone(), jpeg_thumbnail: thumbnail());
        }
        FileKind::Sticker => {
            message.sticker_message = file_message!(StickerMessage, shown,
                width: width, height: height, is_animated: Some(preview.is_animated));
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookery_model::FilePreview;

    #[test]
    fn a_file_of_each_kind_is_read_as_it_was_written() {
        for kind in [FileKind::Image, FileKind::Video, FileKind::Audio, FileKind::Document, FileKind::Sticker] {
            let file = StoredFile {
                kind,
                url: Some("https://host.test/v/1".into()),
                direct_path: "/v/1".into(),
                media_key: vec![1; 32],
                sha256: vec![2; 32],
                encrypted_sha256: vec![3; 32],
                length: 5,
                key_made_at: Some(7),
                sidecar: None,
            };
            let filename = (kind == FileKind::Document).then(|| "a.pdf".to_owned());
            let (mimetype, preview) = ("a/b".to_owned(), FilePreview::default());
            let shown = ShownFile { file: file.clone(), mimetype: mimetype.clone(), filename, caption: None, preview };
            let message = message_of(&shown);
            let read = file_in(&message.encode_to_vec()).unwrap();
            let file = StoredFile { url: None, key_made_at: None, ..file };
            assert_eq!(read, FileInMessage { file, mimetype, filename: shown.filename });
        }
        let text = wa::Message { conversation: Some("a".into()), ..Default::default() };
        assert_eq!(file_in(&text.encode_to_vec()), None);
        assert_eq!(file_in(b"nonsense"), None);
    }
}
