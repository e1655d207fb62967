//! Messages with files, as phones write them.

use buffa::MessageField;
use wacore::download::MediaType;
use waproto::whatsapp as wa;

use super::Mail;
use crate::media::Uploaded;

/// How a message describes its file.
#[derive(Debug, Clone, Default)]
pub struct FileWords {
    /// Its type, as in `image/jpeg`.
    pub mimetype: String,
    /// What is written below a picture, a video or a document.
    pub caption: Option<String>,
    /// The name of a document.
    pub filename: Option<String>,
    /// A recording is a voice note.
    pub is_voice: bool,
}

/// Fills the fields that all messages with files have.
macro_rules! file_message {
    ($kind:ident, $file:expr, $words:expr, $($field:ident: $value:expr),*) => {
        MessageField::some(wa::message::$kind {
            url: Some($file.url.clone()),
            direct_path: Some($file.direct_path.clone()),
            media_key: Some($file.media_key.clone()),
            file_sha256: Some($file.file_sha256.clone()),
            file_enc_sha256: Some($file.file_enc_sha256.clone()),
            file_length: Some($file.file_length),
            mimetype: Some($words.mimetype.clone()),
            $($field: $value,)*
            ..Default::default()
        })
    };
}

impl Mail {
    /// A message of this kind with an uploaded file. Kinds that no message has make an empty one.
    #[must_use]
    pub fn file(kind: MediaType, file: &Uploaded, words: FileWords) -> Self {
        let mut message = wa::Message::default();
        match kind {
            MediaType::Image => {
                message.image_message = file_message!(ImageMessage, file, words, caption: words.caption.clone());
            }
            MediaType::Video => {
                message.video_message = file_message!(VideoMessage, file, words, caption: words.caption.clone());
            }
            MediaType::Audio => {
                message.audio_message = file_message!(AudioMessage, file, words, ptt: Some(words.is_voice));
            }
            MediaType::Document => {
                message.document_message = file_message!(
                    DocumentMessage, file, words,
                    caption: words.caption.clone(),
                    file_name: words.filename.clone()
                );
            }
            MediaType::Sticker => message.sticker_message = file_message!(StickerMessage, file, words,),
            _ => {}
        }
        message.into()
    }
}
