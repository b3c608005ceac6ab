//! What a user may say.
