//! The loop between the machine and the drivers.
