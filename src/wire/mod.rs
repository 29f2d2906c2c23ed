//! The serialised shapes of messages, apart from the machine that decides on them.
