//! Everything that names the engine's types.
#![cfg_attr(not(test), expect(dead_code, reason = "nothing opens an engine yet"))]

pub(crate) mod backend;
