//! From files and environment to validated settings.
