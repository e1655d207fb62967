//! Sounds in Ogg with Opus: how long they play, and the shape that WhatsApp's clients draw of a voice note.

use std::io::Read;

use opus_pure::{OggOpusReader, OggPacket};

/// Opus counts time in so many samples a second, whatever is decoded (RFC 7845).
const GRANULES_PER_SECOND: u64 = 48_000;
/// Samples a second to decode: enough for the shape of speech, and the fastest.
const DECODED_RATE: i32 = 8_000;
/// Samples of the longest packet (120 ms), of two channels.
const PACKET_SAMPLES_MAX: usize = 960 * 2;
/// The bars of a voice note in WhatsApp's clients.
const BARS: usize = 64;
/// The height of the loudest bar.
const BAR_MAX: f32 = 100.0;
/// The longest sound that is decoded: an hour takes a second of a core. Longer ones have no shape.
const DECODED_SECONDS_MAX: u64 = 3_600;
/// Packets that are looked at: twelve hours of the shortest ones that anybody records with (20 ms).
const PACKETS_MAX: usize = 2_200_000;

/// What is known of a sound.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sound {
    /// How long it plays, in seconds, rounded up.
    pub(super) seconds: u32,
    /// The loudness of its 64 parts, 0 to 100; `None`: it cannot be decoded here.
    pub(super) waveform: Option<Vec<u8>>,
}

/// Reads a sound to its end; `None`: it is no Opus in Ogg. Takes up to a second of a core.
pub(super) fn listen(source: impl Read) -> Option<Sound> {
    let mut reader = OggOpusReader::new(source).ok()?;
    let head = reader.head().clone();
    let channels = usize::from(head.channel_count);
    let mut decoder = head.decoder(DECODED_RATE).ok();
    let mut packet = OggPacket::default();
    let mut samples = vec![0.0; PACKET_SAMPLES_MAX];
    // The mean square of each packet: some 50 a second.
    let mut powers: Vec<f32> = Vec::new();
    let mut last_granule = 0;
    for _ in 0..PACKETS_MAX {
        // What was read until the file breaks off can be heard.
        let Ok(true) = reader.read_packet_into(&mut packet) else { break };
        last_granule = last_granule.max(u64::try_from(packet.page_granule).unwrap_or_default());
        if last_granule > DECODED_SECONDS_MAX * GRANULES_PER_SECOND {
            decoder = None;
        }
        if let Some(decoding) = &mut decoder {
            match decoding.decode(&packet.data, PACKET_SAMPLES_MAX / 2, &mut samples) {
                Ok(count) => powers.push(mean_square(&samples[..count * channels])),
                Err(_) => decoder = None,
            }
        }
    }
    let played = last_granule.saturating_sub(u64::from(head.pre_skip));
    let seconds = u32::try_from(played.div_ceil(GRANULES_PER_SECOND)).ok()?;
    Some(Sound { seconds, waveform: decoder.and(waveform(&powers)) })
}

fn mean_square(samples: &[f32]) -> f32 {
    let sum: f32 = samples.iter().map(|sample| sample * sample).sum();
    if samples.is_empty() { 0.0 } else { sum / samples.len() as f32 }
}

/// The loudness of 64 parts, the loudest 100; `None`: there is nothing.
fn waveform(powers: &[f32]) -> Option<Vec<u8>> {
    if powers.is_empty() {
        return None;
    }
    let bar = |index: usize| {
        let (from, to) = (index * powers.len() / BARS, ((index + 1) * powers.len()).div_ceil(BARS));
        let part = &powers[from..to];
        (part.iter().sum::<f32>() / part.len() as f32).sqrt()
    };
    let bars: Vec<f32> = (0..BARS).map(bar).collect();
    let loudest = bars.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    Some(bars.into_iter().map(|bar| (bar / loudest * BAR_MAX).round().clamp(0.0, BAR_MAX) as u8).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use opus_pure::{Application, MAX_PACKET_BYTES, OggOpusWriter, OpusEncoder, OpusHead};

    /// A tone of so many 20 ms that gets louder.
    pub(crate) fn voice_note(packets: usize) -> Vec<u8> {
        let frame = 320;
        let mut encoder = OpusEncoder::new(16_000, 1, Application::Voip).unwrap();
        let mut writer = OggOpusWriter::new(Vec::new(), OpusHead::for_encoder(&encoder, 16_000)).unwrap();
        let mut encoded = vec![0; MAX_PACKET_BYTES];
        for packet in 0..packets {
            let loudness = packet as f32 / packets as f32;
            let tone = |sample: usize| ((sample + packet * frame) as f32 * 0.2).sin() * loudness;
            let samples: Vec<f32> = (0..frame).map(tone).collect();
            let count = encoder.encode(&samples, frame, &mut encoded).unwrap();
            writer.write_packet(&encoded[..count]).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn a_voice_note_has_its_length_and_its_shape() {
        let note = voice_note(151);
        let sound = listen(note.as_slice()).unwrap();
        assert_eq!(sound.seconds, 4, "3.02 s");
        let waveform = sound.waveform.unwrap();
        assert_eq!((waveform.len(), waveform.iter().max()), (64, Some(&100)));
        assert!(waveform[5] < waveform[30] && waveform[30] < waveform[60], "{waveform:?}");
    }

    #[test]
    fn what_is_broken_is_read_as_far_as_it_goes_and_what_is_no_sound_is_none() {
        let note = voice_note(100);
        assert!(listen(&note[..note.len() / 2]).is_some());
        assert_eq!(listen(b"OggS".as_slice()), None);
        assert_eq!(listen(b"".as_slice()), None);
        let short = listen(voice_note(1).as_slice()).unwrap();
        assert_eq!((short.seconds, short.waveform.map(|waveform| waveform.len())), (1, Some(64)));
    }
}
