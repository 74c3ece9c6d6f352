//! Why a template or a worker cannot go on. None of these is a guest's fault.

use std::fmt;
use std::io;

use rusmd_proto::CodecError;

use crate::link::LinkError;
use crate::requests::Illegal;
use crate::sandbox::SandboxError;
use crate::sys::SysError;

#[derive(Debug)]
pub enum ServeError {
    Sys(SysError),
    Runtime(io::Error),
    Probe(io::Error),
    Sandbox(SandboxError),
    Illegal(Illegal),
}

impl From<SysError> for ServeError {
    fn from(error: SysError) -> Self {
        ServeError::Sys(error)
    }
}

impl From<Illegal> for ServeError {
    fn from(error: Illegal) -> Self {
        ServeError::Illegal(error)
    }
}

impl From<LinkError> for ServeError {
    fn from(error: LinkError) -> Self {
        ServeError::Illegal(Illegal::Link(error))
    }
}

impl From<CodecError> for ServeError {
    fn from(error: CodecError) -> Self {
        ServeError::Illegal(Illegal::Codec(error))
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Sys(error) => fmt::Display::fmt(error, f),
            ServeError::Runtime(error) => write!(f, "cannot start the reactor: {error}"),
            ServeError::Probe(error) => write!(f, "cannot fork to ask components for their actions: {error}"),
            ServeError::Sandbox(error) => fmt::Display::fmt(error, f),
            ServeError::Illegal(error) => fmt::Display::fmt(error, f),
        }
    }
}

impl std::error::Error for ServeError {}
