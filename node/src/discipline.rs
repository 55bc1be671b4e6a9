//! Whether something keeps this machine's clock right: a time server by NTP, or another source that the kernel knows.
use std::mem::MaybeUninit;

/// Whether the kernel says that its clock is kept right (adjtimex(2), `STA_UNSYNC`); none when it says nothing.
#[must_use]
pub fn is_disciplined() -> Option<bool> {
    let mut said = MaybeUninit::<libc::timex>::zeroed();
    #[expect(unsafe_code, reason = "a system call that fills a structure")]
    // SAFETY: zeroed is a valid value, in which `modes` 0 asks to change nothing; the structure is ours.
    let (state, said) = unsafe {
        let state = libc::adjtimex(said.as_mut_ptr());
        (state, said.assume_init())
    };
    (state >= 0).then_some(state != libc::TIME_ERROR && said.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn asking_changes_nothing_and_gives_the_same_answer() {
        assert_eq!(super::is_disciplined(), super::is_disciplined());
    }
}
