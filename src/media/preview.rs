//! What is seen of a picture before it is fetched: a small JPEG of it, and its size. The picture itself is sent as it is.

use std::io::{BufReader, Cursor};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use rookery_actors::EncryptedFile;
use rookery_model::FilePreview;

use crate::picture::on_white;

/// Pixels of a thumbnail's longer side: as WhatsApp's own clients make them.
const THUMBNAIL_SIDE: u32 = 100;
/// JPEG quality of a thumbnail: it is shown blurred.
const THUMBNAIL_QUALITY: u8 = 60;
/// Pixels of a picture that is decoded: a phone's photo. A larger one is sent without a thumbnail.
const PIXELS_MAX: u64 = 25_000_000;
/// Pixels of a picture, and of its sides: nobody's phone shows more. Only what is smaller is decoded, so that more may be anything.
const SHOWN_PIXELS_MAX: u64 = 200_000_000;
const SHOWN_SIDE_MAX: u32 = 32_768;
/// Bytes that a decoder may allocate: all pixels at four bytes.
const DECODER_BYTES_MAX: u64 = PIXELS_MAX * 4;
/// Bytes of the buffer before a decoder.
const BUFFER_BYTES: usize = 64 * 1024;

/// The preview of a picture; `None`: it is broken. Takes up to a second of a core, and 100 MB.
pub(super) fn of_picture(file: &EncryptedFile) -> Option<FilePreview> {
    let reader = BufReader::with_capacity(BUFFER_BYTES, file.reader());
    let mut reader = ImageReader::new(reader).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let size = if is_turned(orientation) { (height, width) } else { (width, height) };
    let bytes = decoder.total_bytes();
    let preview = FilePreview { size: Some(size), ..FilePreview::default() };
    if u64::from(width) * u64::from(height) > PIXELS_MAX || bytes > DECODER_BYTES_MAX {
        return Some(preview);
    }
    let mut small = DynamicImage::from_decoder(decoder).ok()?.thumbnail(THUMBNAIL_SIDE, THUMBNAIL_SIDE);
    small.apply_orientation(orientation);
    Some(FilePreview { thumbnail: jpeg(&small), ..preview })
}

/// The preview of a sticker; `None`: it is broken.
pub(super) fn of_sticker(file: &EncryptedFile) -> Option<FilePreview> {
    let decoder = WebPDecoder::new(BufReader::with_capacity(BUFFER_BYTES, file.reader())).ok()?;
    let ((width, height), is_animated) = (decoder.dimensions(), decoder.has_animation());
    let preview = FilePreview { size: Some((width, height)), is_animated, ..FilePreview::default() };
    if u64::from(width) * u64::from(height) <= PIXELS_MAX {
        DynamicImage::from_decoder(decoder).ok()?;
    }
    Some(preview)
}

/// Whether a picture of this size is shown by nobody.
pub(super) fn is_beyond((width, height): (u32, u32)) -> bool {
    u64::from(width) * u64::from(height) > SHOWN_PIXELS_MAX || width.max(height) > SHOWN_SIDE_MAX
}

fn jpeg(picture: &DynamicImage) -> Option<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, THUMBNAIL_QUALITY).encode_image(&on_white(picture)).ok()?;
    Some(bytes.into_inner())
}

/// Whether the picture is shown with its sides exchanged.
fn is_turned(orientation: Orientation) -> bool {
    use Orientation as O;
    matches!(orientation, O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH)
}
