//! The Modbus side against simulated devices over real sockets and pseudo terminals, with every fault.
