//! Which room of the program may know which other.
