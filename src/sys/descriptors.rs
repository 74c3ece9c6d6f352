//! Descriptors that travel over a Unix socket (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Most descriptors in one message.
pub const DESCRIPTORS_MAX: usize = 8;

/// Sends `bytes` with descriptors attached to the first of them. All of `bytes` are sent, or none.
///
/// # Errors
///
/// `WouldBlock` when the socket has no room; `WriteZero` when it took a part, after which the stream is of no more use.
pub fn send_with_descriptors(socket: &impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let attached: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let sent = sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], attached, flags, None)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives bytes and the descriptors that came with them, close-on-exec. 0 bytes are the end of the stream.
///
/// # Errors
///
/// `InvalidData` when more descriptors came than [`DESCRIPTORS_MAX`]; they are closed.
pub fn receive_with_descriptors(socket: &impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut slices = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just made these descriptors for this process, and nothing else knows their numbers.
            descriptors.extend(received.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((message.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_arrive_with_their_bytes_up_to_the_limit() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let (mut kept, given) = UnixStream::pair().expect("a socket pair");
        let many = vec![given.as_fd(); DESCRIPTORS_MAX + 1];
        send_with_descriptors(&ours, b"hello", &many[1..]).expect("there is room");
        let mut bytes = [0; 16];
        let (count, descriptors) = receive_with_descriptors(&theirs, &mut bytes).expect("a message");
        assert_eq!((&bytes[..count], descriptors.len()), (&b"hello"[..], DESCRIPTORS_MAX));
        let mut received: UnixStream = descriptors.into_iter().next().map(Into::into).expect("one");
        received.write_all(b"x").expect("it is open");
        assert_eq!(kept.read(&mut bytes).expect("a byte"), 1);
        send_with_descriptors(&ours, b"hello", &many).expect("there is room");
        assert!(receive_with_descriptors(&theirs, &mut bytes).is_err());
        send_with_descriptors(&ours, b"plain", &[]).expect("there is room");
        let (count, descriptors) = receive_with_descriptors(&theirs, &mut bytes).expect("a message");
        assert_eq!((&bytes[..count], descriptors.len()), (&b"plain"[..], 0));
        drop(ours);
        assert_eq!(receive_with_descriptors(&theirs, &mut bytes).expect("the end").0, 0);
    }
}
