//! Who waits for a change of a command, and is woken by those of its own alone.
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;
use types::Id128;

/// Those that wait, by the command.
#[derive(Clone, Default)]
pub struct Changes(Arc<Mutex<BTreeMap<Id128, watch::Sender<()>>>>);

impl Changes {
    /// Hears of each change of a command from now on.
    pub fn of(&self, command: Id128) -> watch::Receiver<()> {
        let mut waiting = self.0.lock();
        // Whoever has gone is forgotten when somebody comes.
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        let sender = waiting
            .entry(command)
            .or_insert_with(|| watch::Sender::new(()));
        sender.subscribe()
    }

    /// Commands have changed, perhaps: whoever waits for one of them looks at it again.
    pub fn touched(&self, commands: impl IntoIterator<Item = Id128>) {
        let waiting = self.0.lock();
        for command in commands {
            if let Some(sender) = waiting.get(&command) {
                sender.send_replace(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_wait_are_woken_by_changes_of_their_own_command_and_forgotten_once_they_are_gone()
    {
        let changes = Changes::default();
        let [one, other, third] = [1_u8, 2, 3].map(|number| Id128::from_bytes([number; 16]));
        let (mut first, again) = (changes.of(one), changes.of(one));
        let waits = changes.of(other);
        changes.touched([one, third]);
        let woken = [&first, &again, &waits].map(|it| it.has_changed().unwrap());
        assert_eq!(woken, [true, true, false]);
        first.borrow_and_update();
        changes.touched([other]);
        let woken = [&first, &waits].map(|it| it.has_changed().unwrap());
        assert_eq!(woken, [false, true]);
        drop((first, again));
        let _third = changes.of(third);
        assert_eq!(changes.0.lock().len(), 2);
    }
}
