//! What a template can do wrong, by the word that the manifest grants the first component in its environment.
//!
//! Owns the misbehaviour before a worker exists: at the handshake, and at forks. It goes behind the back of the real template, which is
//! in the midst of its handshake and waits for `load` to return.

use std::io::{Read as _, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd as _;
use std::os::unix::net::UnixStream;

use rusmd_proto::limits::PROTOCOL_VERSION;
use rusmd_proto::{
    BUILD, ComponentInfo, ComponentKind, ForkFailed, FrameBuffer, Hello, LINK_FD, Ready, SandboxLevel, StatusPage,
    ToSupervisor, ToWorker,
};

/// The name in the environment.
const AT_START: &str = "AT_START";

/// Returns when the template is to be an honest one.
pub fn misbehave(hello: &Hello<'_>, status: &StatusPage) -> Result<(), String> {
    let env = hello.components.first().map(|component| component.env.as_slice()).unwrap_or_default();
    match env.iter().find(|(name, _)| *name == AT_START).map(|(_, value)| *value) {
        None => Ok(()),
        // Returning would close the link first, and the supervisor would be quicker than the exit.
        Some("exit") => std::process::exit(3),
        Some("exit-loading") => {
            status.store_loading(Some(0));
            std::process::exit(3)
        }
        Some("refuse") => Err("out of spirits".to_owned()),
        Some("garbage") => {
            send_bytes(&[0xff; 4096]);
            wait_for_end(|_| None)
        }
        Some("other-build") => {
            send(&ready("0.0.0-other"));
            wait_for_end(|_| None)
        }
        Some("forks-nothing") => lie(|slot| ToSupervisor::Forked { slot, pid: std::process::id() }),
        Some("forks-init") => lie(|slot| ToSupervisor::Forked { slot, pid: 1 }),
        Some("forks-for-another") => lie(|slot| ToSupervisor::Forked { slot: slot ^ 1 << 20, pid: 1 }),
        Some("fork-fails") => lie(|slot| ToSupervisor::ForkFailed(ForkFailed { slot, message: "out of processes" })),
        Some("begins-itself") => lie(|_| ToSupervisor::Begun),
        Some(other) => Err(format!("the double has no {other}")),
    }
}

/// Says that it is ready, and answers every `Fork` with this.
fn lie(answer: impl Fn(u32) -> ToSupervisor<'static>) -> ! {
    send(&ready(BUILD));
    wait_for_end(|message| match message {
        ToWorker::Fork { slot } => Some(answer(*slot)),
        _ => None,
    })
}

fn ready(build: &str) -> ToSupervisor<'_> {
    ToSupervisor::Ready(Ready {
        protocol: PROTOCOL_VERSION,
        build,
        sandbox: SandboxLevel::Off,
        sandbox_missing: Vec::new(),
        components: vec![ComponentInfo { kind: ComponentKind::Handlers(crate::ACTIONS.to_vec()) }],
    })
}

fn wait_for_end(mut answer: impl FnMut(&ToWorker<'_>) -> Option<ToSupervisor<'static>>) -> ! {
    let mut received = FrameBuffer::default();
    let mut bytes = [0; 4096];
    loop {
        while let Some(frame) = received.peek().expect("the supervisor keeps the rules") {
            let header = frame.header;
            let message = ToWorker::decode(&frame).expect("the supervisor keeps the rules");
            if let Some(answer) = answer(&message) {
                send(&answer);
            }
            received.consume(header);
        }
        match link().read(&mut bytes) {
            Ok(0) | Err(_) => std::process::exit(0),
            Ok(count) => received.extend(&bytes[..count]),
        }
    }
}

fn send(message: &ToSupervisor<'_>) {
    let mut frame = Vec::new();
    message.encode(&mut frame).expect("the message is within its limits");
    send_bytes(&frame);
}

fn send_bytes(bytes: &[u8]) {
    if link().write_all(bytes).is_err() {
        std::process::exit(0);
    }
}

#[allow(unsafe_code, reason = "the link of the real template is not to be had otherwise")]
fn link() -> ManuallyDrop<UnixStream> {
    // SAFETY: the link is open as long as the template lives, which owns it, and this handle never closes it.
    ManuallyDrop::new(unsafe { UnixStream::from_raw_fd(LINK_FD) })
}
