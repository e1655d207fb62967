//! Pictures of groups: a caller's picture becomes a square JPEG of at most 640 pixels a side, as WhatsApp's own clients
//! send it. Drops the original's metadata, and applies its orientation to the pixels. Never writes a file and knows no
//! HTTP.

#[cfg(test)]
pub(crate) mod tests;

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{
    DynamicImage, GenericImageView as _, ImageDecoder as _, ImageFormat, ImageReader, Limits, RgbImage, SubImage,
};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::shares::{User, UserShare, UserShares};
use crate::url_fetch::{FETCHES_MAX, FetchError, Fetcher};

/// Bytes of a picture as it is given: a photo of a phone, or a large screenshot.
pub(crate) const INPUT_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Pixels of a picture as it is given: phones take such photos. The largest take 100 MB while decoded, at four bytes a
/// pixel.
const INPUT_PIXELS_MAX: u64 = 25_000_000;
/// Pixels of a side of such a picture: a panorama.
const INPUT_SIDE_MAX: u32 = 20_000;
/// What a decoder may allocate: all pixels at eight bytes, as in a PNG of 16 bits a channel.
const DECODER_BYTES_MAX: u64 = INPUT_PIXELS_MAX * 8;
/// Pictures decoded at once; the others wait. Each may take the memory above, and a core. A key or session decodes one
/// at a time, so that its slow pictures leave the other place free.
const DECODED_AT_ONCE_MAX: usize = 2;
/// Pictures in preparation at once: each holds its body or its fetched file. The last one waits for some eight seconds.
/// Shared by keys and by sessions: a single one has half at most.
const PICTURES_MAX: usize = 16;
/// Time to prepare one picture, so that WhatsApp has time left to take it.
const TIME_MAX: Duration = Duration::from_secs(12);
/// Pixels of a side of the square: WhatsApp takes no smaller pictures, and shows no larger ones.
const SIDE_MIN: u32 = 192;
const SIDE_MAX: u32 = 640;
/// Bytes of the JPEG, if one of the qualities reaches that: WhatsApp's own pictures are smaller.
const OUTPUT_BYTES_MAX: usize = 200 * 1024;
/// JPEG qualities, tried in this order; the last one is used whatever its size.
const QUALITIES: [u8; 4] = [85, 75, 60, 45];

/// Callers differ in whether they pad.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a picture comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PictureSource {
    /// From the request itself.
    Base64 {
        /// In the standard alphabet, with or without padding, or a `data:` URL.
        data: String,
        /// The media type, as the caller says.
        mimetype: String,
    },
    /// From another host.
    Url(String),
}

/// Why a picture cannot be used; names the field that is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PictureError {
    /// The base64 cannot be decoded.
    #[error("base64 must be standard base64 or a data: URL of it")]
    Base64,
    /// The media type is not supported.
    #[error("mimetype must be one of the following values: image/jpeg, image/png, image/webp, image/gif")]
    Mimetype,
    /// The picture has another media type than the caller says.
    #[error("mimetype is {said}, but base64 holds {found}")]
    OtherMimetype {
        /// The media type that the caller says.
        said: &'static str,
        /// The actual media type.
        found: &'static str,
    },
    /// The picture could not be fetched.
    #[error("url {0}")]
    Fetch(#[from] FetchError),
    /// The key or the session has its share of pictures, there are too many others, or they take too long.
    #[error("too many pictures are being prepared: nothing was changed")]
    Busy,
    /// The given file is too large.
    #[error("{field} must not hold more than {INPUT_BYTES_MAX} bytes")]
    TooLarge {
        /// The field of the request.
        field: &'static str,
    },
    /// The given file is no picture.
    #[error("{field} must hold a JPEG, PNG, WebP or GIF picture that is whole")]
    Unreadable {
        /// The field of the request.
        field: &'static str,
    },
    /// The picture has too many pixels.
    #[error("{field} holds a picture of {width} x {height} pixels, but {} million are allowed", INPUT_PIXELS_MAX / 1_000_000)]
    TooManyPixels {
        /// The field of the request.
        field: &'static str,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// The picture has too few pixels.
    #[error("{field} holds a picture of {width} x {height} pixels, but {SIDE_MIN} are needed on each side")]
    TooFewPixels {
        /// The field of the request.
        field: &'static str,
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
}

impl PictureError {
    /// Whether the picture may be all right, and the daemon is only busy.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Busy | Self::Fetch(FetchError::Busy))
    }
}

/// Prepares pictures, a few at once.
pub(crate) struct Pictures {
    fetcher: Fetcher,
    admitted: UserShares,
    fetched: UserShares,
    decoded: Arc<Semaphore>,
}

impl Pictures {
    pub(crate) fn new(fetcher: Fetcher) -> Self {
        let (admitted, fetched) = (UserShares::new(PICTURES_MAX), UserShares::new(FETCHES_MAX));
        Self { fetcher, admitted, fetched, decoded: Arc::new(Semaphore::new(DECODED_AT_ONCE_MAX)) }
    }

    /// The JPEG to send. Dropping it stops a fetch; a picture that is being decoded already is prepared to its end.
    ///
    /// # Errors
    /// What is wrong with the picture, with the field of the request; [`PictureError::Busy`].
    pub(crate) async fn prepare(&self, source: PictureSource, user: User) -> Result<Vec<u8>, PictureError> {
        let admitted = self.admitted.take(user).ok_or(PictureError::Busy)?;
        let prepared = self.prepare_admitted(source, user, admitted);
        tokio::time::timeout(TIME_MAX, prepared).await.unwrap_or(Err(PictureError::Busy))
    }

    async fn prepare_admitted(
        &self,
        source: PictureSource,
        user: User,
        admitted: UserShare,
    ) -> Result<Vec<u8>, PictureError> {
        let (field, given) = match source {
            PictureSource::Base64 { data, mimetype } => ("base64", Given::Base64 { data, said: format_of(&mimetype)? }),
            PictureSource::Url(url) => ("url", Given::Bytes(self.fetch(&url, user).await?)),
        };
        let turns = admitted.turns().await;
        let of_all = Arc::clone(&self.decoded).acquire_owned().await;
        let prepared = spawn_blocking(move || {
            // Held to the end, even when nobody waits for the picture any more.
            let _permits = (turns, of_all, admitted);
            let (bytes, format) = given.read(field)?;
            square_jpeg(&bytes, format, field)
        });
        // A decoder that panics has met bytes that are no picture.
        prepared.await.unwrap_or(Err(PictureError::Unreadable { field }))
    }

    async fn fetch(&self, url: &str, user: User) -> Result<Bytes, PictureError> {
        let _share = self.fetched.take(user).ok_or(PictureError::Busy)?;
        match self.fetcher.fetch(url, INPUT_BYTES_MAX).await {
            Err(FetchError::TooLarge { .. }) => Err(PictureError::TooLarge { field: "url" }),
            fetched => Ok(fetched?),
        }
    }
}

/// A picture that was not read yet.
enum Given {
    Base64 { data: String, said: ImageFormat },
    Bytes(Bytes),
}

impl Given {
    /// The bytes, and the format that their first bytes show.
    fn read(self, field: &'static str) -> Result<(Bytes, ImageFormat), PictureError> {
        let (bytes, said) = match self {
            Self::Base64 { data, said } => (decode_base64(&data)?.into(), Some(said)),
            Self::Bytes(bytes) => (bytes, None),
        };
        let found = image::guess_format(&bytes).ok().filter(|format| is_known(*format));
        let found = found.ok_or(PictureError::Unreadable { field })?;
        match said {
            Some(said) if said != found => {
                Err(PictureError::OtherMimetype { said: said.to_mime_type(), found: found.to_mime_type() })
            }
            _ => Ok((bytes, found)),
        }
    }
}

fn is_known(format: ImageFormat) -> bool {
    matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Gif)
}

/// The format of a media type; parameters behind a `;` are ignored.
fn format_of(mimetype: &str) -> Result<ImageFormat, PictureError> {
    let name = mimetype.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "image/jpeg" | "image/jpg" => Ok(ImageFormat::Jpeg),
        "image/png" => Ok(ImageFormat::Png),
        "image/webp" => Ok(ImageFormat::WebP),
        "image/gif" => Ok(ImageFormat::Gif),
        _ => Err(PictureError::Mimetype),
    }
}

fn decode_base64(data: &str) -> Result<Vec<u8>, PictureError> {
    let data = match data.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,").ok_or(PictureError::Base64)?.1,
        None => data,
    };
    if data.len() > INPUT_BYTES_MAX.div_ceil(3) * 4 {
        return Err(PictureError::TooLarge { field: "base64" });
    }
    let bytes = BASE64.decode(data).map_err(|_| PictureError::Base64)?;
    if bytes.len() > INPUT_BYTES_MAX { Err(PictureError::TooLarge { field: "base64" }) } else { Ok(bytes) }
}

/// Decodes the picture, cuts the square out of the middle, shrinks it, and encodes it. Takes up to a second of a core.
fn square_jpeg(bytes: &[u8], format: ImageFormat, field: &'static str) -> Result<Vec<u8>, PictureError> {
    let unreadable = |_| PictureError::Unreadable { field };
    let mut limits = Limits::default();
    limits.max_image_width = Some(INPUT_SIDE_MAX);
    limits.max_image_height = Some(INPUT_SIDE_MAX);
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    // Checked before a pixel is decoded: a few bytes may describe a picture that fits into no memory.
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > INPUT_PIXELS_MAX {
        return Err(PictureError::TooManyPixels { field, width, height });
    }
    let side = width.min(height);
    if side < SIDE_MIN {
        return Err(PictureError::TooFewPixels { field, width, height });
    }
    let orientation = decoder.orientation().map_err(unreadable)?;
    let picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    let square = imageops::crop_imm(&picture, (width - side) / 2, (height - side) / 2, side, side);
    let mut small = shrink(&square);
    drop(picture);
    // Turning a square leaves its middle where it is, so a small one may be turned.
    small.apply_orientation(orientation);
    encode(&on_white(&small)).map_err(unreadable)
}

/// Shrinks a large square in two steps: the good filter's own memory grows with the side it starts from. The square is
/// read in place: a copy would double the memory.
fn shrink(square: &SubImage<&DynamicImage>) -> DynamicImage {
    let side = square.width();
    let halfway = if side > 2 * SIDE_MAX {
        imageops::thumbnail(&**square, 2 * SIDE_MAX, 2 * SIDE_MAX)
    } else {
        square.to_image()
    };
    let halfway = DynamicImage::ImageRgba8(halfway);
    if side <= SIDE_MAX { halfway } else { halfway.resize_exact(SIDE_MAX, SIDE_MAX, FilterType::Lanczos3) }
}

/// JPEG has no transparency: transparent parts become white, as paper is.
pub(crate) fn on_white(picture: &DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.to_rgb8();
    }
    let picture = picture.to_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        let blend = |color: u32| u8::try_from((color * alpha + 255 * (255 - alpha)) / 255).unwrap_or(u8::MAX);
        image::Rgb([blend(red), blend(green), blend(blue)])
    })
}

fn encode(picture: &RgbImage) -> image::ImageResult<Vec<u8>> {
    let mut bytes = Vec::new();
    for quality in QUALITIES {
        bytes.clear();
        JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(picture)?;
        if bytes.len() <= OUTPUT_BYTES_MAX {
            break;
        }
    }
    Ok(bytes)
}
