//! Old and new on one node: what the Go plugins began, ours must finish, and the other way round.
