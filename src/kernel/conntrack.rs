//! Connection tracking of the kernel (to follow).
