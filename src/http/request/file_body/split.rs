//! Takes the file out of a JSON object while the object comes: the value of `base64` at its top. The rest is small, and is parsed afterwards.
//! Never decides whether the rest is JSON.

use base64::Engine as _;

use crate::media::MediaError;
use crate::picture::BASE64;

/// The member that holds the file.
const FILE_NAME: &[u8] = b"base64";
/// How a `data:` URL begins.
const DATA_URL: &[u8] = b"data:";
/// Bytes of a `data:` URL before its content.
const DATA_URL_HEAD_MAX: usize = 512;

/// An object that is coming.
#[derive(Default)]
pub(super) struct Splitter {
    /// Everything but the file.
    rest: Vec<u8>,
    depth: usize,
    at: At,
    /// At the top: what comes next is a member's name.
    expects_name: bool,
    /// The last name at the top, as far as it matters.
    name: Vec<u8>,
    /// What comes next is the file, if it is a string.
    expects_file: bool,
    /// The file was there: another one is part of the rest.
    has_file: bool,
    decoder: Decoder,
}

/// Where the next byte is.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
enum At {
    /// Outside of a string.
    #[default]
    Outside,
    /// In a string.
    Text { is_name: bool },
    /// In a string, behind a backslash.
    Escape { is_name: bool },
    /// In the file.
    File,
    /// In the file, behind a backslash.
    FileEscape,
    /// In the file, in `\u`: the digits so far, and their value.
    FileUnicode { digits: u8, value: u32 },
}

impl Splitter {
    /// Takes a piece in. What comes of the file is put into `file`.
    ///
    /// # Errors
    /// [`MediaError::Base64`].
    pub(super) fn feed(&mut self, mut piece: &[u8], file: &mut Vec<u8>) -> Result<(), MediaError> {
        while let Some((&byte, after)) = piece.split_first() {
            match self.at {
                At::File => {
                    let run = piece.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(piece.len());
                    self.decoder.feed(&piece[..run], file)?;
                    piece = &piece[run..];
                    match piece.split_first() {
                        Some((b'"', after)) => {
                            self.rest.push(b'"');
                            self.at = At::Outside;
                            piece = after;
                        }
                        Some((_, after)) => {
                            self.at = At::FileEscape;
                            piece = after;
                        }
                        None => {}
                    }
                    continue;
                }
                At::FileEscape => {
                    self.at = At::File;
                    match byte {
                        b'/' => self.decoder.feed(b"/", file)?,
                        b'n' | b'r' | b't' => {}
                        b'u' => self.at = At::FileUnicode { digits: 0, value: 0 },
                        _ => return Err(MediaError::Base64),
                    }
                }
                At::FileUnicode { digits, value } => {
                    let digit = char::from(byte).to_digit(16).ok_or(MediaError::Base64)?;
                    let value = value * 16 + digit;
                    if digits == 3 {
                        let byte = u8::try_from(value).map_err(|_| MediaError::Base64)?;
                        self.decoder.feed(&[byte], file)?;
                        self.at = At::File;
                    } else {
                        self.at = At::FileUnicode { digits: digits + 1, value };
                    }
                }
                _ => self.pass(byte),
            }
            piece = after;
        }
        Ok(())
    }

    /// A byte of the rest.
    fn pass(&mut self, byte: u8) {
        self.rest.push(byte);
        match self.at {
            At::Escape { is_name } => {
                // A name with an escape in it is none that is looked for.
                self.name.push(byte);
                self.at = At::Text { is_name };
            }
            At::Text { is_name } => match byte {
                b'\\' => self.at = At::Escape { is_name },
                b'"' => self.at = At::Outside,
                _ if is_name && self.name.len() <= FILE_NAME.len() => self.name.push(byte),
                _ => {}
            },
            _ => self.outside(byte),
        }
    }

    fn outside(&mut self, byte: u8) {
        let is_top = self.depth == 1;
        match byte {
            b'"' if is_top && self.expects_file && !self.has_file => {
                self.has_file = true;
                self.at = At::File;
            }
            b'"' => {
                let is_name = is_top && self.expects_name;
                if is_name {
                    self.name.clear();
                }
                self.at = At::Text { is_name };
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.expects_name = self.depth == 1 && byte == b'{';
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' if is_top => self.expects_name = true,
            b':' if is_top && self.expects_name => {
                self.expects_name = false;
                self.expects_file = self.name == FILE_NAME;
                return;
            }
            b' ' | b'\n' | b'\r' | b'\t' => return,
            _ => {}
        }
        self.expects_file = false;
    }

    /// Bytes of the rest.
    pub(super) fn rest_length(&self) -> usize {
        self.rest.len()
    }

    /// Ends the object. The last bytes of the file are put into `file`. Returns the rest, with an empty string in the place of the file, and the
    /// media type in its `data:` URL.
    ///
    /// # Errors
    /// [`MediaError::Base64`].
    pub(super) fn finish(mut self, file: &mut Vec<u8>) -> Result<(Vec<u8>, Option<String>), MediaError> {
        self.decoder.finish(file)?;
        Ok((self.rest, self.decoder.mimetype))
    }
}

/// The file in a text that was not seen to be one while it came, as its name was written in another way.
///
/// # Errors
/// [`MediaError::Base64`].
pub(super) fn decoded(text: &str) -> Result<(Vec<u8>, Option<String>), MediaError> {
    let (mut decoder, mut file) = (Decoder::default(), Vec::new());
    decoder.feed(text.as_bytes(), &mut file)?;
    decoder.finish(&mut file)?;
    Ok((file, decoder.mimetype))
}

/// Base64 that comes in pieces: in the standard alphabet, with or without padding and line breaks, or a `data:` URL of it.
#[derive(Default)]
struct Decoder {
    head: Head,
    pending: Vec<u8>,
    mimetype: Option<String>,
}

/// Whether a `data:` URL may begin, has begun, or is over.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
enum Head {
    #[default]
    Maybe,
    Inside,
    Over,
}

impl Decoder {
    fn feed(&mut self, characters: &[u8], file: &mut Vec<u8>) -> Result<(), MediaError> {
        self.pending.extend(characters.iter().filter(|byte| !byte.is_ascii_whitespace()));
        if self.head == Head::Maybe {
            let seen = self.pending.len().min(DATA_URL.len());
            self.head = match self.pending[..seen] == DATA_URL[..seen] {
                true if seen == DATA_URL.len() => Head::Inside,
                true => return Ok(()),
                false => Head::Over,
            };
        }
        if self.head == Head::Inside {
            let Some(comma) = self.pending.iter().position(|byte| *byte == b',') else {
                return if self.pending.len() > DATA_URL_HEAD_MAX { Err(MediaError::Base64) } else { Ok(()) };
            };
            let head = std::str::from_utf8(&self.pending[DATA_URL.len()..comma]).map_err(|_| MediaError::Base64)?;
            let mimetype = head.strip_suffix(";base64").ok_or(MediaError::Base64)?;
            self.mimetype = Some(mimetype.to_owned()).filter(|mimetype| !mimetype.is_empty());
            self.pending.drain(..=comma);
            self.head = Head::Over;
        }
        // The last characters may be padding.
        let whole = self.pending.len().saturating_sub(1) / 4 * 4;
        if whole > 0 {
            if self.pending[..whole].contains(&b'=') {
                return Err(MediaError::Base64);
            }
            BASE64.decode_vec(&self.pending[..whole], file).map_err(|_| MediaError::Base64)?;
            self.pending.drain(..whole);
        }
        Ok(())
    }

    fn finish(&mut self, file: &mut Vec<u8>) -> Result<(), MediaError> {
        if self.head == Head::Inside {
            return Err(MediaError::Base64);
        }
        BASE64.decode_vec(&self.pending, file).map_err(|_| MediaError::Base64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rest, and the file.
    fn split(json: &str, piece: usize) -> Result<(String, Vec<u8>), MediaError> {
        let (mut splitter, mut file) = (Splitter::default(), Vec::new());
        for piece in json.as_bytes().chunks(piece) {
            splitter.feed(piece, &mut file)?;
        }
        let (rest, _) = splitter.finish(&mut file)?;
        Ok((String::from_utf8(rest).unwrap(), file))
    }

    #[test]
    fn the_file_is_taken_out_wherever_it_is_and_however_it_comes() {
        let none: &[u8] = b"";
        let cases = [
            (r#"{"base64":"aGVsbG8="}"#, r#"{"base64":""}"#, b"hello".as_slice()),
            (r#"{"base64":"aGVsbG8"}"#, r#"{"base64":""}"#, b"hello"),
            (
                r#"{ "a" : [1,{"base64":"x"}], "base64" : "aGVs\nbG8=" , "b":"\"base64\":\"y\""}"#,
                r#"{ "a" : [1,{"base64":"x"}], "base64" : "" , "b":"\"base64\":\"y\""}"#,
                b"hello",
            ),
            (r#"{"base64":"\/\u002f8="}"#, r#"{"base64":""}"#, b"\xff\xff"),
            (r#"{"base64":"data:image/png;base64,aGVsbG8="}"#, r#"{"base64":""}"#, b"hello"),
            (r#"{"base64":""}"#, r#"{"base64":""}"#, none),
            (r#"{"base64":"d"#, r#"{"base64":""#, none),
            (r#"{"base64":null,"x":"aGVsbG8="}"#, r#"{"base64":null,"x":"aGVsbG8="}"#, none),
            (r#"{"base64":{"base64":"aGVsbG8="}}"#, r#"{"base64":{"base64":"aGVsbG8="}}"#, none),
            (r#"{"a":"base64","b":"aGVsbG8="}"#, r#"{"a":"base64","b":"aGVsbG8="}"#, none),
            (r#"{"xbase64":"a","base64x":"b","base6":"c"}"#, r#"{"xbase64":"a","base64x":"b","base6":"c"}"#, none),
            (r#"[{"base64":"aGVsbG8="}]"#, r#"[{"base64":"aGVsbG8="}]"#, none),
            (r#"["base64":"aGVsbG8="]"#, r#"["base64":"aGVsbG8="]"#, none),
            (r#"{"base64":"aGVsbG8=","base64":"aGVsbG8="}"#, r#"{"base64":"","base64":"aGVsbG8="}"#, b"hello"),
        ];
        for (json, rest, file) in cases {
            for piece in [1, 2, 3, 7, 1_000] {
                match split(json, piece) {
                    Ok((found, content)) => assert_eq!((found.as_str(), content.as_slice()), (rest, file), "{json}"),
                    // One character alone is no base64.
                    Err(error) => assert!(json.ends_with(":\"d") && error == MediaError::Base64, "{json}"),
                }
            }
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        let long = format!("data:{}", "a".repeat(1_000));
        let texts = [
            "a",
            "aGVsbG8==x",
            "QQ==QQ==",
            "aGV=bG8=",
            "ä",
            "a-_b",
            r"\x",
            r"\u00e4",
            r"\u1234",
            "data:image/png,aGVsbG8=",
            "data:",
            &long,
        ];
        for text in texts {
            for piece in [1, 5, 1_000] {
                assert_eq!(
                    split(&format!(r#"{{"base64":"{text}"}}"#), piece).err(),
                    Some(MediaError::Base64),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_large_file_is_the_same_in_any_pieces() {
        let content: Vec<u8> = (0..100_003_u32).map(|index| (index % 251) as u8).collect();
        let encoded = base64::engine::general_purpose::STANDARD.encode(&content);
        let lines: Vec<&str> =
            (0..encoded.len()).step_by(76).map(|at| &encoded[at..(at + 76).min(encoded.len())]).collect();
        for json in [format!(r#"{{"base64":"{encoded}"}}"#), format!(r#"{{"base64":"{}"}}"#, lines.join("\\n"))] {
            for piece in [1_021, 65_536] {
                assert_eq!(split(&json, piece).unwrap().1, content);
            }
        }
    }
}
