//! What takes commands in, and the tasks that hand them on.
use super::{presence, presence::Reach};
use crate::{
    context::Shared,
    control::{Control, Dispatch, Results, TakesCommands},
    mqtt,
};
use broker::Broker;
use federation::tls::ReloadingTls;
use messages::DeviceCommand;
use node::task::{Kind, Tasks};
use std::sync::Arc;
use store::Handlers;

/// Who takes in which kind of what comes down.
pub(crate) fn takes_commands(control: &Arc<Control>, tls: &Arc<ReloadingTls>) -> Handlers {
    Handlers::new().on::<DeviceCommand>(Arc::new(TakesCommands {
        control: control.clone(),
        tls: tls.clone(),
    }))
}

/// Shows viewers what is stored, hands commands on, and tells the region which devices can be reached; the ways to Modbus devices.
pub(crate) fn commands(tasks: &mut Tasks, shared: &Arc<Shared>, broker: &Broker) -> modbus::Writes {
    let writes = modbus::Writes::to(shared.config.devices.iter().map(|device| &device.id));
    broker.answered_by(Arc::new(Results {
        store: shared.store.clone(),
        control: shared.control.clone(),
    }));
    mqtt::show_viewers(tasks, shared, broker);
    let reach = Arc::new(Reach {
        shared: shared.clone(),
        broker: broker.clone(),
    });
    let dispatch = Dispatch {
        store: shared.store.clone(),
        control: shared.control.clone(),
        tell: reach.clone(),
        writes: writes.clone(),
    };
    tasks.spawn("commands", Kind::Critical, dispatch.run(tasks.stop()));
    let presence = presence(shared.clone(), reach, tasks.stop());
    tasks.spawn("presence", Kind::Background, presence);
    writes
}
