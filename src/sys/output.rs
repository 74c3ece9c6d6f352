//! Where a log's bytes go: a file, a pipe, a terminal, a socket, written to without ever waiting for whoever reads there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::fds::duplicate_above_reserved;

/// Bytes that a pipe takes without waiting once it has told that there is room (pipe(7), PIPE_BUF).
const PIPE_BYTES: usize = 4096;

/// Mode of a log that is made anew: addresses of clients are none of everybody's business.
const LOG_MODE: u32 = 0o640;

/// One of the descriptors that every process begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standard {
    Output,
    Error,
}

/// An open place to write to. Writing to it never blocks, except on a disk.
#[derive(Debug)]
pub struct Output {
    file: File,
    manner: Manner,
}

/// How to write without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// It is a file on a disk, or was opened not to block.
    Plain,
    /// A socket can be told with each write.
    Socket,
    /// Other processes write to the same open file, so it cannot be made not to block: it is asked for room first.
    Shared,
}

impl Output {
    /// Opens a path for appending, and makes the file when it is not there.
    pub fn open(path: &Path) -> io::Result<Output> {
        let is_fifo = path.metadata().is_ok_and(|found| found.file_type().is_fifo());
        let file = options()
            // A FIFO that is open for reading too can be opened before its reader is there, and outlives it.
            .read(is_fifo)
            .create(true)
            .mode(LOG_MODE)
            .open(path)?;
        Ok(Output { file: above_reserved(file)?, manner: Manner::Plain })
    }

    /// A place that takes everything and keeps nothing.
    pub fn nowhere() -> io::Result<Output> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        Ok(Output { file: above_reserved(file)?, manner: Manner::Plain })
    }

    /// Takes a standard descriptor as it is now. What the process inherited is shared with its parent, whose terminal or pipe must go
    /// on blocking, so that pipes and terminals are opened a second time.
    pub fn standard(which: Standard) -> io::Result<Output> {
        let fd = which.fd();
        let own = File::from(duplicate_above_reserved(&fd)?);
        let kind = own.metadata()?.file_type();
        if kind.is_fifo() || kind.is_char_device() {
            let again = options().open(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            return Ok(match again.and_then(above_reserved) {
                Ok(file) => Output { file, manner: Manner::Plain },
                // A pipe of another user, or /proc is not there.
                Err(_) => Output { file: own, manner: Manner::Shared },
            });
        }
        let manner = if kind.is_socket() { Manner::Socket } else { Manner::Plain };
        Ok(Output { file: own, manner })
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is none, and whatever write(2) says.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let written = match self.manner {
                Manner::Plain => (&self.file).write(bytes),
                Manner::Socket => send(self.file.as_fd(), bytes),
                Manner::Shared if has_room(self.file.as_fd())? => {
                    (&self.file).write(&bytes[..bytes.len().min(PIPE_BYTES)])
                }
                Manner::Shared => Err(io::ErrorKind::WouldBlock.into()),
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }
}

impl Standard {
    fn fd(self) -> BorrowedFd<'static> {
        let number = match self {
            Standard::Output => libc::STDOUT_FILENO,
            Standard::Error => libc::STDERR_FILENO,
        };
        // SAFETY: the runtime opens these numbers before `main` where they were closed, and nothing here ever closes one.
        unsafe { BorrowedFd::borrow_raw(number) }
    }
}

/// A file that grows past the limit of file sizes (`ulimit -f`) is then an error of write(2) rather than the end of the process.
pub fn survive_file_size_limit() {
    // SAFETY: signal(2) with SIG_IGN installs no code of ours.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

fn above_reserved(file: File) -> io::Result<File> {
    duplicate_above_reserved(&file).map(File::from)
}

fn has_room(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut polled = [PollFd::new(fd, PollFlags::POLLOUT)];
    Ok(poll(&mut polled, PollTimeout::ZERO)? > 0)
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and the length are those of a live slice, which send(2) only reads.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Has a standard descriptor, and with it every process that is started from now on, write to another place.
pub fn redirect(which: Standard, to: &Output) -> io::Result<()> {
    redirect_number(which.fd().as_raw_fd(), to)
}

/// Has the standard input read from another place.
pub fn redirect_input(from: &Output) -> io::Result<()> {
    redirect_number(libc::STDIN_FILENO, from)
}

fn redirect_number(number: i32, to: &Output) -> io::Result<()> {
    // SAFETY: dup2 takes two integers; the numbers of the standard descriptors are never closed, only given another file.
    if unsafe { libc::dup2(to.file.as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A second descriptor for what a standard one is now.
pub fn keep(which: Standard) -> io::Result<OwnedFd> {
    duplicate_above_reserved(&which.fd())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn until_full(output: &Output) -> usize {
        let (mut total, block) = (0, [b'x'; 10_000]);
        loop {
            match output.write(&block) {
                Ok(count) => total += count,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return total;
                }
            }
        }
    }

    #[test]
    fn nothing_that_is_full_makes_a_writer_wait() {
        let (mut reader, writer) = io::pipe().expect("descriptors are not exhausted");
        let shared = Output { file: File::from(OwnedFd::from(writer)), manner: Manner::Shared };
        let total = until_full(&shared);
        assert!(total >= PIPE_BYTES, "{total}");
        reader.read_exact(&mut vec![0; total]).expect("all that was written is there");
        assert!(shared.write(b"more").is_ok());

        let (_reader, writer) = UnixStream::pair().expect("descriptors are not exhausted");
        let socket = Output { file: File::from(OwnedFd::from(writer)), manner: Manner::Socket };
        assert!(until_full(&socket) > 0);
    }

    #[test]
    fn a_fifo_is_opened_before_its_reader_comes_and_takes_what_fits() {
        let directory = crate::testing::Scratch::new();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO can be made here");
        let output = Output::open(&path).expect("nobody needs to read it yet");
        assert!(until_full(&output) >= PIPE_BYTES);
    }

    #[test]
    fn a_full_disk_is_an_error_of_the_write() {
        let output = Output::open(Path::new("/dev/full")).expect("it is there");
        let error = output.write(b"line\n").expect_err("it is full");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
}
