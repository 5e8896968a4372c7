//! Modules as text and as JSON, sound and hostile.

mod docs;
mod everything;
mod hostile;
mod json;
mod text;
