//! How answers are written: JSON, its tag, CSV, and how old a cached answer is. No status code of a failure is chosen here.

pub(crate) mod csv;
pub(crate) mod etag;
pub(crate) mod event_stream;
pub(crate) mod file;
pub(crate) mod happened;
pub(crate) mod json;
pub(crate) mod readiness;
pub(crate) mod staleness;
