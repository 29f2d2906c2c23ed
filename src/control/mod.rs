//! The control socket: interface, server, client.
