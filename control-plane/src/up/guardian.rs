//! A guardian for the worst end: if this process is killed with -9, its children must not stay behind.
//!
//! A small shell holds the reading end of a pipe, is told of each child's process group, and, at the end of the pipe,
//! kills the groups that were not reported as ended and removes the temporary folder. After an orderly end it has
//! nothing to do. A shell, since `PR_SET_PDEATHSIG` needs code between fork and exec, which Rust calls unsafe.

use parking_lot::Mutex;
use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// Signals that a terminal sends to everyone are ignored: the guardian leaves when its pipe ends.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
groups=" "
while read -r what group; do
  case "$what" in
    start) groups="$groups$group " ;;
    end) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
[ -n "$1" ] && rm -rf -- "$1"
exit 0
"#;

/// The other end of the guardian's pipe.
#[derive(Debug)]
pub struct Guardian {
    pipe: Mutex<Option<ChildStdin>>,
    shell: Mutex<Option<Child>>,
}

impl Guardian {
    /// Starts the guardian; `temporary` is removed at the end.
    ///
    /// # Errors
    /// There is no `/bin/sh`.
    pub fn start(temporary: Option<&Path>) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(SCRIPT)
            .arg("weir-guardian")
            .arg(temporary.map(Path::as_os_str).unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()?;
        Ok(Self { pipe: Mutex::new(shell.stdin.take()), shell: Mutex::new(Some(shell)) })
    }

    /// A child leads this process group.
    pub fn started(&self, group: u32) {
        self.tell("start", group);
    }

    /// That group is gone.
    pub fn ended(&self, group: u32) {
        self.tell("end", group);
    }

    /// The orderly end: waits until the guardian has left.
    pub fn close(&self) {
        drop(self.pipe.lock().take());
        if let Some(mut shell) = self.shell.lock().take() {
            let _ = shell.wait();
        }
    }

    fn tell(&self, what: &str, group: u32) {
        if let Some(pipe) = self.pipe.lock().as_mut()
            && let Err(e) = writeln!(pipe, "{what} {group}")
        {
            tracing::warn!(error = %e, "the guardian of child processes is gone");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_what_is_left_and_removes_the_folder() {
        let folder = tempfile::tempdir().unwrap().keep();
        let guardian = Guardian::start(Some(&folder)).unwrap();
        let mut sleeps: Vec<Child> =
            (0..3).map(|_| Command::new("sleep").arg("600").process_group(0).spawn().unwrap()).collect();
        for child in &sleeps {
            guardian.started(child.id());
        }
        // One ends in order, and must not be touched any more (here it is still alive to show that).
        guardian.ended(sleeps[1].id());
        guardian.close();
        assert!(!sleeps[0].wait().unwrap().success());
        assert!(!sleeps[2].wait().unwrap().success());
        assert!(sleeps[1].try_wait().unwrap().is_none());
        sleeps[1].kill().unwrap();
        sleeps[1].wait().unwrap();
        assert!(!folder.exists());
    }
}
