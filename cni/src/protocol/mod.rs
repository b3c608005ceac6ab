//! What runtimes say and what they are answered: the specification, and nothing of the switch.

pub mod config;
pub mod environment;
pub mod error;
pub mod result;
pub mod version;

pub use config::{Config, ValidAttachment};
pub use environment::{Attachment, Command, Environment};
pub use error::{Code, Failure};
pub use result::{Interface, Ip, Route, Success};
pub use version::{SUPPORTED, Version};
